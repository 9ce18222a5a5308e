"""Messages: taken in, listed, handed out."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    func,
    select,
)

from orchestrator.core.message import Rejection, read_body
from orchestrator.core.sieve import Sieve
from orchestrator.store.engine import Database
from orchestrator.store.intake import (
    Arrival,
    Intake,
    chunks,
    keep,
    known_identities,
    read_arrival,
    take_turns,
)
from orchestrator.store.journal import move
from orchestrator.store.port import NotAllowed, NotFound
from orchestrator.store.signals import MESSAGES
from orchestrator.store.tables import Row, messages, near_misses
from schemas.message import Message, MessageDetail, MessageId, MessageState

_SHOWN = [column for column in messages.c if column.name not in ("identity", "headers", "body")]
_WHOLE = [column for column in messages.c if column.name != "identity"]


@dataclass(frozen=True, slots=True)
class Filter:
    """Which messages a list shows. Everything given must hold; scope and name take `*` and `?`."""

    states: Sequence[MessageState] = ()
    event: str | None = None
    scope: str | None = None
    name: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    #: Near misses: some rule's event and pattern fit, and of its clauses this one alone did not hold.
    failed_only_on: str | None = None


class Messages:
    """The persistent message store."""

    def __init__(self, database: Database, sieve: Sieve | None = None) -> None:
        """`sieve` says which messages are put away as they come."""
        self._database = database
        self._sieve = sieve

    def take_in(self, arrivals: Sequence[Arrival], *, origin: str, now: datetime) -> Intake:
        """Store frames in one transaction; when this returns they are on disk.

        What arrived before (same content) is counted on its row. What cannot be read is kept, quarantined, with the
        reason. Events of a dataset's life are placed by their `created_at`, and a pending close that they overtake is
        superseded.

        Raises:
            StoreUnavailable: nothing was stored.
        """
        read = [read_arrival(arrival) for arrival in arrivals]
        with self._database.write(MESSAGES) as connection:
            take_turns(self._database, connection)
            return keep(connection, read, origin, now, sieve=self._sieve)

    def restore(
        self, carried: Sequence[tuple[Arrival, MessageState | None]], *, origin: str, who: str, now: datetime
    ) -> Intake:
        """Store messages that stood somewhere before, where they stood, in one transaction.

        What was dispatched elsewhere is not dispatched again. What is there already stays as it is.

        Raises:
            StoreUnavailable: nothing was stored.
        """
        read = [(read_arrival(arrival), state) for arrival, state in carried]
        with self._database.write(MESSAGES) as connection:
            take_turns(self._database, connection)
            there = known_identities(connection, {item.identity for item, _ in read})
            settled = {
                item.identity for item, stood in read if stood in (MessageState.DISPATCHED, MessageState.DROPPED)
            }
            spared = {item.identity for item, stood in read if stood is not None}
            taken = keep(connection, [item for item, _ in read], origin, now, settled, self._sieve, spared)
            for state in (MessageState.DISPATCHED, MessageState.DROPPED, MessageState.HELD, MessageState.SUPERSEDED):
                keys = [item.identity for item, stood in read if stood is state and item.identity not in there]
                ids = [id_ for chunk in chunks(keys) for id_ in connection.scalars(_with_identity(chunk))]
                why = f"was {state} where it came from"
                pending = MessageState.PENDING
                move(connection, messages, ids, pending, state, who=who, why=why, at=now, reason=why)
        return taken

    def reinject(
        self, message_id: MessageId, body: bytes | None, *, who: str, now: datetime
    ) -> tuple[MessageId | None, str]:
        """Try to read a quarantined message again, with a mended body if one is given.

        Returns the message that came of it, and in words what happened; None if it still cannot be read. The
        quarantined row is kept as it came, superseded by the new one.

        Raises:
            NotFound, NotAllowed: no such message, or it is not quarantined.
        """
        quarantined = self.get(message_id)
        if quarantined.state is not MessageState.QUARANTINED:
            raise NotAllowed(f"message {message_id} is {quarantined.state}; only a quarantined one can be re-injected")
        read = read_arrival(Arrival(quarantined.headers, quarantined.body if body is None else body))
        if isinstance(read.event, Rejection):
            return None, read.event.reason
        with self._database.write(MESSAGES) as connection:
            take_turns(self._database, connection)
            taken = keep(connection, [read], "inject", now, sieve=self._sieve)
            new = MessageId(connection.scalars(_with_identity([read.identity])).one())
            move(
                connection,
                messages,
                [message_id],
                MessageState.QUARANTINED,
                MessageState.SUPERSEDED,
                who=who,
                why=f"re-injected as message {new}",
                at=now,
                reason=f"re-injected as message {new}",
            )
        return new, "stored" if taken.stored else "it had arrived before"

    def get(self, message_id: MessageId) -> MessageDetail:
        """One message, whole. Raises NotFound."""
        query = select(*_WHOLE).where(messages.c.id == message_id)
        with self._database.read() as connection:
            row = connection.execute(query).mappings().one_or_none()
        if row is None:
            raise NotFound(f"there is no message {message_id}")
        return detail_of(dict(row))

    def list(
        self, filter_: Filter = Filter(), *, limit: int = 50, before: int | None = None, newest_first: bool = True
    ) -> list[Message]:
        """A page of messages, newest first; `before` (or after, oldest first) is the last id of the page before."""
        query = select(*_SHOWN).where(*conditions(filter_)).limit(limit)
        if before is not None:
            query = query.where(messages.c.id < before if newest_first else messages.c.id > before)
        query = query.order_by(messages.c.id.desc() if newest_first else messages.c.id)
        with self._database.read() as connection:
            return [message_of(dict(row)) for row in connection.execute(query).mappings()]

    def count(self, filter_: Filter = Filter(), *, most: int | None = None) -> int:
        """How many fit; with `most` not further than that, since counting a million takes longer than listing some."""
        fitting = select(messages.c.id).where(*conditions(filter_)).limit(most).subquery()
        with self._database.read() as connection:
            return connection.scalars(select(func.count()).select_from(fitting)).one()

    def export(self, filter_: Filter = Filter()) -> Iterator[MessageDetail]:
        """Every message that fits, whole, oldest first. Memory stays flat: a page at a time."""
        last = 0
        while True:
            query = select(*_WHOLE).where(*conditions(filter_), messages.c.id > last).order_by(messages.c.id).limit(200)
            with self._database.read() as connection:
                rows = [dict(row) for row in connection.execute(query).mappings()]
            if not rows:
                return
            yield from map(detail_of, rows)
            last = rows[-1]["id"]


def _with_identity(identities: Sequence[str]) -> Select[Any]:
    return select(messages.c.id).where(messages.c.identity.in_(identities))


def detail_of(row: Row) -> MessageDetail:
    """A row of the table, whole, as a model."""
    wire = {"headers": json.loads(row["headers"]), "body": bytes(row["body"])}
    return MessageDetail.model_construct(**{**row, "state": MessageState(row["state"]), **wire})


def message_of(row: Row) -> Message:
    """A row without headers and body, as a model."""
    return Message.model_construct(**{**row, "state": MessageState(row["state"])})


def payload_of(body: bytes) -> Mapping[str, Any]:
    """What the event carries."""
    event = read_body(body)
    return {} if isinstance(event, Rejection) else event.payload


def shown_columns() -> list[Any]:
    """The columns that `message_of` needs."""
    return _SHOWN


def whole_columns() -> list[Any]:
    """The columns that `detail_of` needs."""
    return _WHOLE


def conditions(filter_: Filter) -> list[ColumnElement[bool]]:
    """What a row of the table must fulfil to pass the filter."""
    wanted: list[ColumnElement[bool]] = []
    if filter_.states:
        wanted.append(messages.c.state.in_(filter_.states))
    if filter_.event is not None:
        wanted.append(messages.c.event_type == filter_.event)
    for column, glob in ((messages.c.scope, filter_.scope), (messages.c.name, filter_.name)):
        if glob is not None:
            wanted.append(_like(column, glob))
    if filter_.since is not None:
        wanted.append(messages.c.received_at >= filter_.since)
    if filter_.until is not None:
        wanted.append(messages.c.received_at < filter_.until)
    if filter_.failed_only_on is not None:
        near = select(near_misses.c.message_id).where(near_misses.c.clause == filter_.failed_only_on)
        wanted.append(messages.c.id.in_(near))
    return wanted


def _like(column: ColumnElement[Any], glob: str) -> ColumnElement[bool]:
    if not any(sign in glob for sign in "*?"):
        return column == glob
    pattern = glob.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_").replace("*", "%").replace("?", "_")
    return column.like(pattern, escape="\\")
