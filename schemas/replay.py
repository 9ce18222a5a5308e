"""A replay: stored messages sent through the rules once more."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Literal, NewType

from pydantic import BaseModel, ConfigDict, Field

from schemas.rule import Pace

ReplayId = NewType("ReplayId", int)


class ReplayState(StrEnum):
    """Where a replay stands. One whose process was killed still says `running`; it can be resumed."""

    RUNNING = "running"
    STOPPED = "stopped"
    DONE = "done"


class ReplayRequest(BaseModel):
    """What a replay is about. Everything given must hold; what is left out restricts nothing."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Names of rules.
    rules: tuple[str, ...] = ()
    #: Run numbers and ranges.
    runs: tuple[int | str, ...] = ()
    #: When the message arrived, `until` without.
    since: datetime | None = None
    until: datetime | None = None
    scope: str | None = None
    name: str | None = None
    event: str | None = None
    #: The revision of the rules that counts, or for each message the one that was in force when it arrived.
    as_of: int | Literal["then"]
    #: At most so many dispatches in a span of time; what is put back for a waiting room counts as one.
    pace: Pace | None = None
    #: Dispatches are written without their unique keys.
    lift_unique: bool = False
    #: Messages that a later event of their dataset has overtaken count too.
    superseded: bool = False


class LeftOut(BaseModel):
    """A rule that joins datasets, in a version that a replay is about and cannot send messages through."""

    model_config = ConfigDict(frozen=True)

    rule: str
    version: int
    why: str


class Replay(BaseModel):
    """A replay as it stands. `matched` is the sum of `written`, `there` and `refused`."""

    model_config = ConfigDict(frozen=True)

    id: ReplayId
    request: ReplayRequest
    state: ReplayState
    who: str
    reason: str
    #: The last message looked at, and the last to be looked at.
    position: int
    until: int
    #: How many messages there are to be looked at.
    total: int
    looked_at: int
    #: Matches: a rule and a message.
    matched: int
    #: Matches that were dispatched, or whose message was put back to pending, for a waiting room.
    written: int
    #: Matches whose rule had the message before, or will judge it anyway since it is pending.
    there: int
    #: Matches that a guard held back, whose templates cannot be filled in, or whose message could not be put back.
    refused: int
    #: How much was written since there was last a pause as long as the pace's span, and when the last of it was.
    paced: int = Field(exclude=True)
    paced_at: datetime | None = Field(exclude=True)
    created_at: datetime
    updated_at: datetime
