"""A waiting room: a key of a rule that joins datasets, with what has arrived and what is missing."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import NewType

from pydantic import BaseModel, ConfigDict

from schemas.message import MessageId, MessageState
from schemas.rule import RuleVersionId

RoomId = NewType("RoomId", int)


class RoomState(StrEnum):
    """Where a waiting room stands. `core.states` says what may follow."""

    OPEN = "open"
    #: Its deadline has passed, and it goes on waiting.
    OVERDUE = "overdue"
    DISPATCHED = "dispatched"
    DROPPED = "dropped"


class Waiver(BaseModel):
    """A member that a person has declared unnecessary, for one room."""

    model_config = ConfigDict(frozen=True)

    slot: str
    who: str
    reason: str
    at: datetime


class Room(BaseModel):
    """One waiting room as the lists show it."""

    model_config = ConfigDict(frozen=True)

    id: RoomId
    rule: str
    key: str
    #: Counted from 1 for each key: what comes late may begin another.
    round: int
    #: The version of the rule that opened it; once it is settled, the one that settled it.
    rule_version_id: RuleVersionId
    state: RoomState
    opened_at: datetime
    #: When it is settled by the rule's policy; None if it waits for ever.
    deadline: datetime | None
    closed_at: datetime | None
    reason: str | None
    #: The member whose message the room's dispatches point at; None before, and if there are none.
    message_id: MessageId | None
    #: Slots, in the order of the rule. Missing are those that are waited for.
    arrived: tuple[str, ...]
    missing: tuple[str, ...]
    masked: tuple[str, ...]
    waived: tuple[str, ...]
    #: It waits, and its rule is not in force, not enabled, or joins no longer.
    orphaned: bool


class RoomMember(BaseModel):
    """A dataset that came into a room."""

    model_config = ConfigDict(frozen=True)

    slot: str
    message_id: MessageId
    did: str
    #: When its dataset was closed (or what the event says), and when it came into the room.
    created_at: datetime | None
    at: datetime
    #: When it no longer counted; None while it does.
    left_at: datetime | None
    #: It came after the room was closed.
    late: bool
    #: Whether it stands for its slot: of several, the newest does.
    counts: bool
    #: Where its message stands, and why.
    state: MessageState
    reason: str | None


class RoomDetail(Room):
    """One waiting room, whole."""

    members: tuple[RoomMember, ...]
    waivers: tuple[Waiver, ...]
