"""A message: the stored envelope of one frame, and what was read from it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Final, NewType

from pydantic import BaseModel, ConfigDict

from schemas.did import Did

MessageId = NewType("MessageId", int)

#: Who brought a message that the broker did not: it was found by looking into the catalog.
RECONCILED: Final = "reconcile"


class MessageState(StrEnum):
    """Where a message stands. `core.states` says what may follow."""

    PENDING = "pending"
    DISPATCHED = "dispatched"
    DROPPED = "dropped"
    HELD = "held"
    SUPERSEDED = "superseded"
    QUARANTINED = "quarantined"


class Message(BaseModel):
    """One message as the lists show it: everything but its headers and body."""

    model_config = ConfigDict(frozen=True)

    id: MessageId
    state: MessageState
    #: In Rucio's spelling; None when the frame could not be read.
    event_type: str | None
    scope: str | None
    name: str | None
    #: When Rucio wrote the event; None when the frame could not be read.
    created_at: datetime | None
    received_at: datetime
    #: Who brought it: `broker`, `inject`, `import`, `reconcile`.
    origin: str
    #: Why it is where it is, in words; None while nothing is to be said.
    reason: str | None
    #: How many more times the same content arrived.
    duplicates: int
    #: Which dataset of that name, counted from 1; a name re-created after an erase is the next one.
    incarnation: int | None
    #: Which life between openings, counted from 1.
    generation: int | None
    #: Who caused the event, where Rucio says so.
    account: str | None
    #: Size and counts as the event gave them.
    bytes: int | None
    length: int | None
    events: int | None
    #: The rule-set revision that judged it last; -1 before the first time.
    judged_revision: int

    @property
    def did(self) -> Did | None:
        return Did(self.scope, self.name) if self.scope is not None and self.name is not None else None


class MessageDetail(Message):
    """A message with what came over the wire."""

    headers: dict[str, str]
    #: As received, byte for byte.
    body: bytes
