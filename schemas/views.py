"""What a person is shown."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict


class JournalEntry(BaseModel):
    """One change of one thing."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    #: The role or the person that made the change.
    who: str
    #: `message`, `dispatch`, `launch`, `rule`, `room` or `run`.
    subject: str
    subject_id: int
    #: None when it was made.
    from_state: str | None
    to_state: str
    why: str | None


class Counts(BaseModel):
    """How many there are of each, by state."""

    model_config = ConfigDict(frozen=True)

    messages: dict[str, int]
    dispatches: dict[str, int]
    launches: dict[str, int]
    #: The rule-set revision in force, and how many rules of it are enabled.
    revision: int
    rules: int
    #: When the newest message arrived; None before the first.
    last_received_at: datetime | None
    #: Pending messages that wait for the catalog, and since when the first of them does; None if none does.
    waiting_for_catalog: int
    waiting_for_catalog_since: datetime | None
