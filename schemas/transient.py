"""Transient datasets: which ones may leave and when, what was released, and what became of it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, NamedTuple, NewType, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from schemas.checks import DatasetChecks
from schemas.did import Did
from schemas.durations import Duration
from schemas.rule import ConditionItems, RunSelection

TransientId = NewType("TransientId", int)
PolicyVersionId = NewType("PolicyVersionId", int)

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"


def _with_unit(value: object) -> object:
    """Elsewhere a number is one of seconds. Where something leaves when it is over, days may have been meant."""
    word = str(value).strip()
    if isinstance(value, int | float | str) and not isinstance(value, bool) and word.replace(".", "", 1).isdecimal():
        raise ValueError(f"{word} of what? Write {word}d or {word}s")
    return value


_Span = Annotated[
    Duration, BeforeValidator(_with_unit), WithJsonSchema({"type": "string", "examples": ["90s", "5m", "1h30m", "2d"]})
]


class Mapping(BaseModel):
    """Files of a transient dataset and files of its successor that go together: equal in all named groups."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    files: str = Field(min_length=1, description="RE2 pattern on the whole name of each file of the transient dataset")
    onto: str = Field(
        min_length=1,
        description="RE2 pattern on the whole name of a file of the successor, with the same named groups; for each "
        "file of the transient dataset there must be one that is equal in all of them",
    )


#: What must hold of every successor.
_COMPLETE: Final = DatasetChecks(closed=True, filled=True, replicas="*")


class Successor(BaseModel):
    """What must be there, and complete, before a dataset may leave."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str = Field(min_length=1, description="a template: scope:name; over what the policy's pattern captures")
    require: DatasetChecks = Field(
        default=_COMPLETE,
        description="what must hold of it. Always: it is closed, there is a file in it, and every file has a copy that "
        "can be read; `replicas` says where",
    )
    age: _Span = Field(default=timedelta(), description="it was closed at least so long ago")
    same_count: bool = Field(default=False, description="it has as many files as the transient dataset")
    maps: Mapping | None = Field(default=None, description="which of its files each file has gone into")
    launched: bool = Field(
        default=False,
        description="a launch of this store made it, and has finished. If one made it, it must have finished in any "
        "case",
    )

    @field_validator("require")
    @classmethod
    def _complete_in_any_case(cls, value: DatasetChecks) -> DatasetChecks:
        replicas = value.replicas or _COMPLETE.replicas
        return value.model_copy(update={"closed": True, "filled": True, "replicas": replicas})


class MadeBy(BaseModel):
    """Only datasets that a launch has made."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workflow: str = Field(min_length=1, description="the launch's workflow")
    step: str | None = Field(default=None, description="the step; any unless it is said")


class Kept(BaseModel):
    """What stays although the rest of the policy would let it go."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    last_runs: int = Field(default=0, ge=0, description="datasets of so many newest runs among those that match")
    runs: RunSelection = Field(default=RunSelection(), description="`include`: these runs stay, for ever")
    copies: str | None = Field(
        default=None,
        min_length=1,
        description="an RSE expression, a tape's for instance: every file must have a copy there, which stays, and "
        "with it the dataset; copies elsewhere leave",
    )


class TransientPolicy(BaseModel):
    """Which datasets are transient, and what must be proved before one of them leaves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=_NAME, description="unique; letters, digits, `.`, `_` and `-`")
    description: str = ""
    enabled: bool = True
    scope: tuple[str, ...] = Field(min_length=1, description="scope or scopes; `*`, `?` and `[...]`; `!` excludes")
    pattern: str = Field(min_length=1, description="RE2 pattern on the whole dataset name; named groups are captured")
    where: dict[Annotated[str, StringConstraints(min_length=1, max_length=100)], ConditionItems] = Field(
        default={}, description="conditions on keys of the catalog's metadata, as in a rule"
    )
    made_by: MadeBy | None = Field(default=None, description="only what such a launch has made")
    lifetime: _Span = Field(description="no dataset leaves before it is so old")
    since: Literal["created", "closed", "used"] = Field(
        default="closed", description="from when its age is counted; used: closed, read or launched on, what was last"
    )
    open: bool = Field(default=False, description="open datasets may leave too; their age is counted from creation")
    successor: Successor = Field(description="what must be there, and complete")
    keep: Kept = Kept()
    automatic: bool = Field(default=False, description="what is proved is released without a person, within the caps")
    undo: _Span | None = Field(
        default=None, description="how long a release can be taken back before anything is done; else [transient] undo"
    )
    fraction: float = Field(
        default=0.2,
        gt=0,
        le=1,
        description="a policy that matches more than this part of the datasets in its scopes releases nothing until "
        "the number of matches was confirmed",
    )

    @field_validator("scope", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("where", mode="before")
    @classmethod
    def _items(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        return {key: items if isinstance(items, list | tuple) else (items,) for key, items in value.items()}

    @model_validator(mode="after")
    def _runs_are_kept_by_number(self) -> Self:
        if self.keep.runs.exclude or self.keep.runs.exclude_file:
            raise ValueError("keep.runs: `include` says which runs stay; there is nothing to exclude")
        return self

    @model_validator(mode="after")
    def _can_be_kept(self) -> Self:
        """What cannot be read back must never be in force."""
        try:
            text = json.dumps(self.document(), ensure_ascii=False)
            text.encode()
        except ValueError:
            raise ValueError("a text in it has half a character: that cannot be kept") from None
        if "\\u0000" in text:
            raise ValueError("a text in it holds a NUL, which no database keeps")
        return self

    def document(self) -> dict[str, Any]:
        """The policy as JSON values, canonical: equal policies give equal documents."""
        return self.model_dump(mode="json")

    def as_written(self) -> dict[str, Any]:
        """The policy as a person would write it: what is as by default is left out, and one item stands for itself."""
        written = self.model_dump(mode="json", exclude_defaults=True)
        for place, keys in ((written, ("scope",)), (written.get("where", {}), tuple(written.get("where", {})))):
            place.update({key: place[key][0] for key in keys if len(place[key]) == 1})
        return written


class TransientPolicyFile(BaseModel):
    """The whole of a file of policies: `policies:` and a list."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    policies: tuple[TransientPolicy, ...]


class PolicyVersion(BaseModel):
    """A policy as the store keeps it: one version of it. Only its end and its confirmation are written later."""

    model_config = ConfigDict(frozen=True)

    id: PolicyVersionId
    #: Counted from 1 for each name.
    version: int
    policy: TransientPolicy
    author: str
    reason: str | None
    at: datetime
    #: When another version, or none, took its place; None while it is in force.
    ended_at: datetime | None = None
    #: A person confirmed that it may match so many datasets; None if nobody has.
    confirmed: int | None = None


class TransientState(StrEnum):
    """Where a transient dataset stands. `core.states` says what may follow."""

    #: A policy matches it, and something stands in the way of its release.
    HELD = "held"
    #: At the last look all was proved.
    RELEASABLE = "releasable"
    #: It will leave when the time to take it back is over. Nothing was done to it yet.
    RELEASED = "released"
    #: The catalog was asked, or is being asked, to let it go.
    LEAVING = "leaving"
    #: The catalog has it no more.
    GONE = "gone"


class Refusal(NamedTuple):
    """Why a dataset may not leave: one thing among others."""

    #: Which check: `never`, `locked`, `foreign_rule`, `read`, `age`, `successor`, `maps` ...
    check: str
    #: In words.
    text: str


class CopiesAt(BaseModel):
    """Copies of files at one RSE."""

    model_config = ConfigDict(frozen=True)

    rse: str
    files: int
    bytes: int


class Release(BaseModel):
    """One dataset that may leave, and all that was proved of it. What a plan holds, and what is compared later."""

    model_config = ConfigDict(frozen=True)

    #: `scope:name`.
    did: str
    #: When the catalog made it: names are used again.
    born_at: datetime
    closed_at: datetime | None
    policy: str
    #: The version of the policy.
    version: int
    #: The run in its name, if the policy captures `run`.
    run: int | None = None
    #: Files in it; which ones, as a digest over names, sizes and sums.
    files: int
    bytes: int
    content: str
    #: What leaves: copies, by RSE. Copies that stay are not among them.
    frees: tuple[CopiesAt, ...]
    #: Whether the dataset leaves with its copies; else only these.
    erases: bool = True
    #: The RSEs of the copies that stay, as the policy has them: an expression.
    keeps: str | None = None
    successor: str
    successor_born_at: datetime
    successor_closed_at: datetime
    #: The successor's files, as a digest.
    successor_content: str
    #: What was proved, one line each, in words.
    evidence: tuple[str, ...]
    #: From when on it may leave by its age.
    due_at: datetime

    @field_validator("did", "successor")
    @classmethod
    def _of_a_dataset(cls, value: str) -> str:
        Did.parse(value)
        return value

    @property
    def freed(self) -> int:
        """Bytes of all copies that leave."""
        return sum(each.bytes for each in self.frees)


class Refused(BaseModel):
    """One dataset that a policy matches and that may not leave."""

    model_config = ConfigDict(frozen=True)

    did: str
    born_at: datetime
    policy: str
    version: int
    run: int | None = None
    bytes: int
    files: int
    successor: str | None = None
    refusals: tuple[Refusal, ...]
    #: From when on it may leave by its age, where that can be told.
    due_at: datetime | None = None
    #: Whether it was looked at closely: all that can be told without that stood in nobody's way.
    closely: bool = False


class PolicySummary(BaseModel):
    """What one policy came to, in one look."""

    model_config = ConfigDict(frozen=True)

    policy: str
    version: int
    #: Datasets in the policy's scopes, and how many of them it matches.
    looked_at: int
    matches: int
    releases: int = 0
    bytes: int = 0
    #: Why it releases nothing at all: it matches too much, it is disabled.
    refused: str | None = None


class Plan(BaseModel):
    """What would be released, in this order. `transient release --plan` carries out exactly this."""

    model_config = ConfigDict(frozen=True)

    #: So that another program's file is not taken for one.
    kind: Literal["muleteer transient plan"] = "muleteer transient plan"
    made_at: datetime
    #: The catalog's address.
    catalog: str
    #: Which store made it.
    store: str
    who: str
    releases: tuple[Release, ...]
    policies: tuple[PolicySummary, ...] = ()
    #: How many were refused, by check.
    refused: dict[str, int] = {}


class Transient(BaseModel):
    """One life of a dataset that a policy matches."""

    model_config = ConfigDict(frozen=True)

    id: TransientId
    did: Did
    born_at: datetime
    policy: str
    policy_version: int
    run: int | None
    state: TransientState
    #: Why it stands there, in words.
    reason: str | None
    refusals: tuple[Refusal, ...] = ()
    files: int
    bytes: int
    successor: str | None
    #: From when on it may leave by its age.
    due_at: datetime | None
    #: A person, or a rule, wants it to stay until then.
    extended_until: datetime | None = None
    #: What was proved when it was released.
    release: Release | None = None
    released_at: datetime | None = None
    released_by: str | None = None
    #: Until when the release can be taken back without a trace.
    leaves_at: datetime | None = None
    leaving_at: datetime | None = None
    #: How many calls were about to be made that let it leave. What holds it may be undone since the last of them.
    went_on: int = 0
    #: When it was found to be gone; or when it was called back, if part of it had gone by then.
    gone_at: datetime | None = None
    #: What is proved to be gone: bytes and files, all copies counted.
    freed_bytes: int = 0
    freed_files: int = 0
    #: What tells the catalog in which it was seen from any other. None: that was not looked at.
    catalog: str | None = None
    #: When a close look last found something in its way, if none has proved all of it since.
    failed_at: datetime | None = None
    seen_at: datetime
    updated_at: datetime

    @property
    def vanished(self) -> bool:
        """Whether it is gone by other hands. It may be seen again, if the catalog has said so by mistake."""
        return self.state is TransientState.GONE and self.leaving_at is None


class Keep(BaseModel):
    """A person, or a rule, said that something must stay. It counts whatever a policy says."""

    model_config = ConfigDict(frozen=True)

    id: int
    #: `scope:name`, both globs.
    which: str
    who: str
    why: str
    at: datetime
    #: None: for ever.
    until: datetime | None = None
    lifted_at: datetime | None = None
    lifted_by: str | None = None


class Copy(BaseModel):
    """One copy of a file that leaves with a dataset."""

    model_config = ConfigDict(frozen=True)

    did: Did
    rse: str
    pfn: str
    #: Size in bytes.
    bytes: int
    #: None while it is not settled; else `gone`, or why it stays.
    fate: str | None = None
