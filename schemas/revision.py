"""What a person is shown of the rule set: its revisions, and what of a rule is in flight."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict


class Touched(BaseModel):
    """What a revision did with one rule."""

    model_config = ConfigDict(frozen=True)

    name: str
    did: Literal["added", "changed", "removed"]
    #: The version that it brought; of a rule that it removed, the last one.
    version: int


class Revision(BaseModel):
    """One change of the whole set of rules."""

    model_config = ConfigDict(frozen=True)

    number: int
    #: When, by whom, by which command and why; None for what is older than these columns.
    at: datetime | None
    who: str | None
    what: str | None
    reason: str | None
    touched: tuple[Touched, ...]


class GoingOn(BaseModel):
    """How many of a rule's dispatches or launches are in one state, and which."""

    model_config = ConfigDict(frozen=True)

    state: str
    count: int
    #: The first few, oldest first.
    ids: tuple[int, ...]


class InFlight(BaseModel):
    """What a rule has begun and not ended. It goes on, whatever becomes of the rule."""

    model_config = ConfigDict(frozen=True)

    dispatches: tuple[GoingOn, ...] = ()
    launches: tuple[GoingOn, ...] = ()

    @property
    def count(self) -> int:
        """How many in all."""
        return sum(each.count for each in (*self.dispatches, *self.launches))
