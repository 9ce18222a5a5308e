"""The calls with which a dataset leaves, or is kept. Any of them may be made twice."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from schemas.did import Did


@dataclass(frozen=True, slots=True)
class EndRule:
    """End a replication rule of ours at once."""

    id: str


@dataclass(frozen=True, slots=True)
class SetTombstones:
    """Mark the copies that leave this RSE."""

    rse: str


@dataclass(frozen=True, slots=True)
class AddEndingRule:
    """Make a rule that ends soon, over copies that we may not mark: when it ends, the catalog marks them.

    A rule makes the copies that there are not: so it is on the dataset only if all its files have a copy there, else on
    each file that leaves this RSE.
    """

    rse: str
    lifetime: timedelta
    on_files: bool


@dataclass(frozen=True, slots=True)
class DetachFrom:
    """Take it out of a dataset or container."""

    container: Did


@dataclass(frozen=True, slots=True)
class SetLifetime:
    """Have the catalog erase it as soon as it gets to it."""


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """Take off the lifetime that we have set: the catalog is not to erase it."""


@dataclass(frozen=True, slots=True)
class GiveLife:
    """Take off the end of a replication rule of ours on the dataset, that we have ended."""

    id: str


@dataclass(frozen=True, slots=True)
class Hold:
    """Hold the copies that leave this RSE with rules of ours: they may be marked already."""

    rse: str
    #: With a rule on each file: the catalog may be about to erase the dataset, and a rule on it would go with it.
    each: bool


@dataclass(frozen=True, slots=True)
class LetStay:
    """Settle copies at this RSE that a rule of others holds: they stay, and count as such."""

    rse: str
    why: str
    #: All that are left there are held.
    every: bool


@dataclass(frozen=True, slots=True)
class LookAgain:
    """Nothing more can be done now."""

    after: timedelta
    #: What is waited for, in words.
    why: str


@dataclass(frozen=True, slots=True)
class Settle:
    """It has left: every copy that was to leave is gone, or settled as staying."""


#: What keeps it, as far as it is there still.
Keeping = KeepAlive | GiveLife | Hold

Call = EndRule | SetTombstones | AddEndingRule | DetachFrom | SetLifetime | LetStay | Keeping | LookAgain | Settle
