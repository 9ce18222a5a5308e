"""What has to be known of a dataset before it may leave. What could not be asked is `Unknown`, never left out."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from schemas.checks import Finding
from schemas.did import Did
from schemas.launch import LaunchState
from schemas.transient import CopiesAt, TransientState


@dataclass(frozen=True, slots=True)
class Unknown:
    """Nobody could tell: the catalog is away, an answer made no sense. It stands in the way of a release."""

    #: Why, in words.
    why: str


class Entry(NamedTuple):
    """What the catalog says of a dataset."""

    did: Did
    closed: bool
    #: When the catalog made it.
    born_at: datetime
    #: When it was last closed, also if it is open again.
    closed_at: datetime | None
    bytes: int
    files: int
    #: When the catalog erases it by itself; None: never.
    expires_at: datetime | None = None
    #: When it was last read, where the catalog notes that.
    used_at: datetime | None = None


class Maker(NamedTuple):
    """A launch that names the dataset among its outputs."""

    launch: int
    workflow: str
    step: str
    state: LaunchState


class RuleOn(NamedTuple):
    """A replication rule, and what it is on: the dataset itself, or a container that the dataset is somewhere in."""

    id: str
    on: Did
    account: str
    rse_expression: str
    locked: bool
    ends_at: datetime | None
    #: The RSEs that its expression fits, as far as copies of the dataset lie there. None: nobody has looked.
    rses: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Some:
    """Several things that are found, the first few of them named."""

    count: int
    first: Sequence[str] = ()

    def __str__(self) -> str:
        more = self.count - len(self.first)
        return ", ".join(self.first) + (f" and {more:,} more" if more > 0 and self.first else "")


@dataclass(frozen=True, slots=True)
class SuccessorFacts:
    """What is known of the dataset that a policy names as the successor."""

    did: Did
    #: None: there is no such dataset.
    entry: Entry | Unknown | None
    #: Where it stands itself, in this life of it; None if no policy has ever matched it.
    state: TransientState | Unknown | None
    makers: Sequence[Maker] | Unknown


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a dataset without a look at its files. All of it can be asked for many datasets at once."""

    entry: Entry
    #: What the policy's pattern captured, with `scope` and `name`: `CompiledPolicy.values`.
    values: Mapping[str, str]
    #: The catalog's metadata. Not asked for if the policy has no conditions: `{}`.
    metadata: Mapping[str, Any] | Unknown
    #: Why our own work needs it: a launch reads it, a dispatch of it has not ended, it waits in a room.
    in_use: str | Unknown | None
    makers: Sequence[Maker] | Unknown
    #: When a launch last read it.
    last_use: datetime | Unknown | None
    #: Datasets (`scope:name`) that are released or leave, and of which it is the successor.
    rests: Sequence[str] | Unknown
    #: Somebody wants it to stay until then.
    extended_until: datetime | None
    #: The names of all policies in force that match it, this one among them.
    policies: Collection[str]
    #: The newest runs among the datasets that the policy matches, `keep.last_runs` of them. Empty if it keeps none.
    newest_runs: Collection[int] | Unknown
    #: `CompiledPolicy.successor` tells its name; None if that is a refusal.
    successor: SuccessorFacts | None


@dataclass(frozen=True, slots=True)
class Proof:
    """What was found by a look at the files of a dataset and of its successor."""

    #: As they are now: asked again together with the rest.
    facts: Facts
    #: Files in it, counted one by one, their bytes and their digest (`content.Contents`).
    files: int
    bytes: int
    content: str
    #: Files of it that are in another dataset or container too, as `file is in scope:name too`.
    shared: Some | Unknown
    #: Replication rules on it, and on every container that it is in, however far above.
    rules: Sequence[RuleOn] | Unknown
    #: Copies that leave, by RSE: all of them, or those that are not at the policy's `keep.copies`.
    leaving: Sequence[CopiesAt] | Unknown
    #: With `keep.copies`: files without a copy there. Without: nothing is asked.
    without_kept_copy: Some | Unknown
    #: The RSEs of copies that stay. Empty without `keep.copies`.
    staying_at: Collection[str]
    #: With `keep.copies`: how many files have copies there that can be read, by the RSEs of these. Without: empty.
    kept_at: Mapping[frozenset[str], int] | Unknown
    #: The same of the successor's files, where `successor.require` wants copies; and the rules on it and above.
    successor_at: Mapping[frozenset[str], int] | Unknown
    successor_rules: Sequence[RuleOn] | Unknown
    #: Of the successor: files, counted one by one, and their digest.
    successor_files: int | Unknown
    successor_content: str | Unknown
    #: What `successor.require` found wrong: the first few, and how many there are.
    findings: tuple[int, Sequence[Finding]] | Unknown
    #: With `successor.maps`: files that have not gone into one of the successor's. Without: nothing is asked.
    unmapped: Some | Unknown
    #: Copies of the successor that are the same file as one that leaves, where that can be seen.
    same: Some | Unknown
    #: Copies of the successor that lie on disks that can be seen, whole.
    whole: int
