"""The journal: every change of a state, append-only; and the one function that changes states.

A message's arrival is no change, and costs no row here: its own row keeps when and from where it came.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection, Table, insert, select, update

from orchestrator.core.states import (
    COMMAND,
    DISPATCH,
    LAUNCH,
    MESSAGE,
    REGISTRATION,
    REPLAY,
    ROOM,
    TRANSIENT,
    may_follow,
)
from orchestrator.core.states import Table as Transitions
from orchestrator.store.engine import Database
from orchestrator.store.tables import (
    dispatches,
    journal,
    launch_commands,
    launches,
    messages,
    registrations,
    replays,
    rooms,
    transients,
)
from schemas.message import MessageState
from schemas.views import JournalEntry

_SUBJECTS: Final[dict[str, tuple[str, Transitions]]] = {
    messages.name: ("message", MESSAGE),
    dispatches.name: ("dispatch", DISPATCH),
    launches.name: ("launch", LAUNCH),
    launch_commands.name: ("command", COMMAND),
    replays.name: ("replay", REPLAY),
    rooms.name: ("room", ROOM),
    registrations.name: ("registration", REGISTRATION),
    transients.name: ("transient", TRANSIENT),
}

#: How many ids go into one statement: SQLite may take no more than 32,766 parameters, PostgreSQL 65,535.
MOST_PARAMETERS: Final = 30_000


def move(
    connection: Connection,
    table: Table,
    ids: Sequence[int],
    source: StrEnum,
    target: StrEnum,
    *,
    who: str,
    why: str | None,
    at: datetime,
    only_if: Sequence[Any] = (),
    **values: Any,
) -> list[int]:
    """Change the state of rows, and write it down. Returns the ids that were changed.

    A row that is no longer in `source` (or fails `only_if`) is left alone: somebody else was first.

    Raises:
        AssertionError: if the transition table does not list the step; that is a defect of the caller.
    """
    subject, transitions = _SUBJECTS[table.name]
    if not may_follow(transitions, source, target):
        raise AssertionError(f"{subject}: {source} -> {target} is not in the table")
    if "reason" in values:
        values["reason"] = without_nul(values["reason"])
    moved: list[int] = []
    for start in range(0, len(ids), MOST_PARAMETERS):
        statement = (
            update(table)
            .where(table.c.id.in_(ids[start : start + MOST_PARAMETERS]), table.c.state == source, *only_if)
            .values(state=target, **values)
            .returning(table.c.id)
        )
        moved += connection.scalars(statement)
    moved.sort()
    record(connection, subject, moved, source, target, who=who, why=why, at=at)
    return moved


def without_nul(text: str | None) -> str | None:
    """PostgreSQL keeps no NUL in a text, and what programs print may hold one; nor does anybody keep half a character,
    which what servers say may hold."""
    return None if text is None else text.replace("\0", "\\0").encode("utf-8", "backslashreplace").decode("utf-8")


def record(
    connection: Connection,
    subject: str,
    ids: Iterable[int],
    source: str | None,
    target: str,
    *,
    who: str,
    why: str | None,
    at: datetime,
) -> None:
    """Write rows into the journal for a change that was just made."""
    rows = [
        {
            "at": at,
            "who": who,
            "subject": subject,
            "subject_id": id_,
            "from_state": source,
            "to_state": target,
            "why": without_nul(why),
        }
        for id_ in ids
    ]
    if rows:
        connection.execute(insert(journal), rows)


class Journal:
    """Reading the journal."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, subject: str, id_: int) -> list[JournalEntry]:
        """Everything that happened to one message, dispatch or launch, oldest first."""
        query = select(journal).where(journal.c.subject == subject, journal.c.subject_id == id_).order_by(journal.c.id)
        with self._database.read() as connection:
            changes = [JournalEntry.model_validate(dict(row)) for row in connection.execute(query).mappings()]
            if subject == "message" and not (changes and changes[0].from_state is None):
                changes = [*_arrival(connection, id_), *changes]
        return changes

    def since(self, last: int, limit: int = 1000) -> list[tuple[int, JournalEntry]]:
        """What was written after the entry `last`, oldest first, each with its number."""
        query = select(journal).where(journal.c.id > last).order_by(journal.c.id).limit(limit)
        with self._database.read() as connection:
            rows = [dict(row) for row in connection.execute(query).mappings()]
        return [(row["id"], JournalEntry.model_validate(row)) for row in rows]


def _arrival(connection: Connection, id_: int) -> list[JournalEntry]:
    """A message that arrived as pending has a row of its own that says so; only other arrivals are written twice."""
    query = select(messages.c.received_at.label("at"), messages.c.origin.label("who")).where(messages.c.id == id_)
    return [
        JournalEntry(**row, subject="message", subject_id=id_, from_state=None, to_state=MessageState.PENDING, why=None)
        for row in connection.execute(query).mappings()
    ]
