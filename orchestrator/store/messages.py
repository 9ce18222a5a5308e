"""Messages: taken in once each, placed in their dataset's life, listed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, TypeVar

from pydantic_core import to_json
from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    bindparam,
    func,
    insert,
    literal,
    select,
    text,
    update,
)

from orchestrator.core.message import Rejection, count_of, identity, identity_of_rejected, read_body
from orchestrator.core.settlement import LifeEvent, Place, settle
from orchestrator.store.engine import Database, insert_many
from orchestrator.store.journal import move
from orchestrator.store.port import NotAllowed, NotFound
from orchestrator.store.signals import MESSAGES
from orchestrator.store.tables import Moment, Row, journal, messages
from schemas.did import Did
from schemas.event import LIFE_EVENTS, CatalogEvent
from schemas.message import Message, MessageDetail, MessageId, MessageState

_T = TypeVar("_T")

#: How many values go into one IN list.
_CHUNK: Final = 500

#: Any constant: whoever takes in messages on PostgreSQL holds this lock for the length of one transaction.
_INTAKE_LOCK: Final = 0x6D756C65

#: Rucio's own limit is 25 characters. A longer one is still in the body.
_LONGEST_ACCOUNT: Final = 250

_SHOWN = [column for column in messages.c if column.name not in ("identity", "headers", "body")]
_WHOLE = [column for column in messages.c if column.name != "identity"]


class Arrival(NamedTuple):
    """One frame that came in, from wherever."""

    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Intake:
    """What became of the frames that were taken in together."""

    stored: int = 0
    #: Came before; counted on the row that is there.
    duplicates: int = 0
    #: Of the stored ones, how many could not be read.
    quarantined: int = 0

    def __add__(self, other: Intake) -> Intake:
        return Intake(
            self.stored + other.stored,
            self.duplicates + other.duplicates,
            self.quarantined + other.quarantined,
        )


@dataclass(frozen=True, slots=True)
class Filter:
    """Which messages a list shows. Everything given must hold; scope and name take `*` and `?`."""

    states: Sequence[MessageState] = ()
    event: str | None = None
    scope: str | None = None
    name: str | None = None
    since: datetime | None = None
    until: datetime | None = None


class _Read(NamedTuple):
    """An arrival, read."""

    identity: str
    arrival: Arrival
    event: CatalogEvent | Rejection


class Messages:
    """The persistent message store."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take_in(self, arrivals: Sequence[Arrival], *, origin: str, now: datetime) -> Intake:
        """Store frames in one transaction; when this returns they are on disk.

        What arrived before (same content) is counted on its row. What cannot be read is kept, quarantined, with the
        reason. Events of a dataset's life are placed by their `created_at`, and a pending close that they overtake is
        superseded.

        Raises:
            StoreUnavailable: nothing was stored.
        """
        read = [_read(arrival) for arrival in arrivals]
        with self._database.write(MESSAGES) as connection:
            self._take_turns(connection)
            return _store(connection, read, origin, now)

    def restore(
        self, carried: Sequence[tuple[Arrival, MessageState | None]], *, origin: str, who: str, now: datetime
    ) -> Intake:
        """Store messages that stood somewhere before, where they stood, in one transaction.

        What was dispatched elsewhere is not dispatched again. What is there already stays as it is.

        Raises:
            StoreUnavailable: nothing was stored.
        """
        read = [(_read(arrival), state) for arrival, state in carried]
        with self._database.write(MESSAGES) as connection:
            self._take_turns(connection)
            there = _known(connection, {item.identity for item, _ in read})
            settled = {
                item.identity for item, stood in read if stood in (MessageState.DISPATCHED, MessageState.DROPPED)
            }
            taken = _store(connection, [item for item, _ in read], origin, now, settled)
            for state in (MessageState.DISPATCHED, MessageState.DROPPED, MessageState.HELD, MessageState.SUPERSEDED):
                keys = [item.identity for item, stood in read if stood is state and item.identity not in there]
                ids = [id_ for chunk in _chunks(keys) for id_ in connection.scalars(_with_identity(chunk))]
                why = f"was {state} where it came from"
                pending = MessageState.PENDING
                move(connection, messages, ids, pending, state, who=who, why=why, at=now, reason=why)
        return taken

    def _take_turns(self, connection: Connection) -> None:
        """One intake at a time. Two that overlap could each place a dataset's events without seeing the other's."""
        if not self._database.is_sqlite:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _INTAKE_LOCK})

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
        read = _read(Arrival(quarantined.headers, quarantined.body if body is None else body))
        if isinstance(read.event, Rejection):
            return None, read.event.reason
        with self._database.write(MESSAGES) as connection:
            self._take_turns(connection)
            taken = _store(connection, [read], "inject", now)
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
        query = select(*_SHOWN).where(*_conditions(filter_)).limit(limit)
        if before is not None:
            query = query.where(messages.c.id < before if newest_first else messages.c.id > before)
        query = query.order_by(messages.c.id.desc() if newest_first else messages.c.id)
        with self._database.read() as connection:
            return [message_of(dict(row)) for row in connection.execute(query).mappings()]

    def count(self, filter_: Filter = Filter()) -> int:
        query = select(func.count()).select_from(messages).where(*_conditions(filter_))
        with self._database.read() as connection:
            return connection.scalars(query).one()

    def export(self, filter_: Filter = Filter()) -> Iterator[MessageDetail]:
        """Every message that fits, whole, oldest first. Memory stays flat: a page at a time."""
        last = 0
        while True:
            query = (
                select(*_WHOLE).where(*_conditions(filter_), messages.c.id > last).order_by(messages.c.id).limit(200)
            )
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


def shown_columns() -> list[Any]:
    """The columns that `message_of` needs."""
    return _SHOWN


def whole_columns() -> list[Any]:
    """The columns that `detail_of` needs."""
    return _WHOLE


def _conditions(filter_: Filter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if filter_.states:
        conditions.append(messages.c.state.in_(filter_.states))
    if filter_.event is not None:
        conditions.append(messages.c.event_type == filter_.event)
    for column, glob in ((messages.c.scope, filter_.scope), (messages.c.name, filter_.name)):
        if glob is not None:
            conditions.append(_like(column, glob))
    if filter_.since is not None:
        conditions.append(messages.c.received_at >= filter_.since)
    if filter_.until is not None:
        conditions.append(messages.c.received_at < filter_.until)
    return conditions


def _like(column: ColumnElement[Any], glob: str) -> ColumnElement[bool]:
    if not any(sign in glob for sign in "*?"):
        return column == glob
    pattern = glob.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_").replace("*", "%").replace("?", "_")
    return column.like(pattern, escape="\\")


# The intake, in the order of its steps.


def _read(arrival: Arrival) -> _Read:
    event = read_body(arrival.body)
    key = identity_of_rejected(arrival.body) if isinstance(event, Rejection) else identity(event)
    return _Read(key, arrival, event)


def _store(
    connection: Connection, read: Sequence[_Read], origin: str, now: datetime, settled: Set[str] = frozenset()
) -> Intake:
    """`settled` are the identities of events that nothing can overtake any more."""
    known = _known(connection, {item.identity for item in read})
    new: dict[str, _Read] = {}
    again: Counter[str] = Counter()
    for item in read:
        if item.identity in known or item.identity in new:
            again[item.identity] += 1
        else:
            new[item.identity] = item
    places = _place(connection, new, now)
    places.update({key: places[key]._replace(overtaken=None) for key in settled & places.keys()})
    rows = _rows(new, places, again, origin, now, first_id=_next_id(connection))
    if rows:
        insert_many(connection, messages, rows)
        _record_arrivals(connection, rows[0]["id"], origin, now)
    _count_duplicates(connection, {key: count for key, count in again.items() if key in known})
    quarantined = sum(isinstance(item.event, Rejection) for item in new.values())
    return Intake(len(rows), again.total(), quarantined)


#: Built once: with a list of its own each time, building the statement costs more than running it.
_KNOWN = select(messages.c.identity).where(messages.c.identity.in_(bindparam("identities", expanding=True)))


def _known(connection: Connection, identities: Iterable[str]) -> set[str]:
    known: set[str] = set()
    for chunk in _chunks(list(identities)):
        known.update(connection.scalars(_KNOWN, {"identities": chunk}))
    return known


def _place(connection: Connection, new: Mapping[str, _Read], now: datetime) -> dict[str, Place]:
    """Place the new events in their datasets' lives, and move those that were there and are placed anew."""
    lives: dict[Did, list[LifeEvent]] = {}
    for key, item in new.items():
        if isinstance(item.event, CatalogEvent) and item.event.of_a_life and item.event.did is not None:
            lives.setdefault(item.event.did, []).append(LifeEvent(key, item.event.event_type, item.event.created_at))
    before = _earlier(connection, lives)
    for row in before.values():
        lives[Did(row["scope"], row["name"])].append(LifeEvent(row["identity"], row["event_type"], row["created_at"]))
    places: dict[str, Place] = {}
    for events in lives.values():
        places.update(settle(events))
    _replace(connection, before, places, now)
    return places


_LIFE_COLUMNS = ("id", "identity", "state", "event_type", "scope", "name", "created_at", "incarnation", "generation")

#: Scope by scope: SQLite uses no index for pairs.
_EARLIER = select(*(messages.c[name] for name in _LIFE_COLUMNS)).where(
    messages.c.scope == bindparam("scope"),
    messages.c.name.in_(bindparam("names", expanding=True)),
    messages.c.event_type.in_(sorted(LIFE_EVENTS)),
    messages.c.state != MessageState.QUARANTINED,
)


def _earlier(connection: Connection, lives: Iterable[Did]) -> dict[str, Row]:
    """The stored events of these datasets' lives, by identity."""
    names: dict[str, list[str]] = {}
    for did in lives:
        names.setdefault(did.scope, []).append(did.name)
    earlier: dict[str, Row] = {}
    for scope, within in names.items():
        for chunk in _chunks(within):
            rows = connection.execute(_EARLIER, {"scope": scope, "names": chunk}).mappings()
            earlier.update((row["identity"], dict(row)) for row in rows)
    return earlier


def _replace(connection: Connection, before: Mapping[str, Row], places: Mapping[str, Place], now: datetime) -> None:
    for key, row in before.items():
        place = places[key]
        if (place.incarnation, place.generation) != (row["incarnation"], row["generation"]):
            renumbered = update(messages).where(messages.c.id == row["id"])
            connection.execute(renumbered.values(incarnation=place.incarnation, generation=place.generation))
        if place.overtaken is None or row["event_type"] != "close":
            continue
        for state in (MessageState.PENDING, MessageState.HELD):
            if row["state"] == state:
                move(
                    connection,
                    messages,
                    [row["id"]],
                    state,
                    MessageState.SUPERSEDED,
                    who="listener",
                    why=place.overtaken,
                    at=now,
                    reason=place.overtaken,
                )


def _rows(
    new: Mapping[str, _Read],
    places: Mapping[str, Place],
    again: Mapping[str, int],
    origin: str,
    now: datetime,
    *,
    first_id: int,
) -> list[Row]:
    return [
        _row(id_, item, places.get(key), again.get(key, 0), origin, now)
        for id_, (key, item) in enumerate(new.items(), start=first_id)
    ]


#: In the words of the database, looked up once.
_PENDING, _SUPERSEDED, _QUARANTINED = (
    state.value for state in (MessageState.PENDING, MessageState.SUPERSEDED, MessageState.QUARANTINED)
)


def _row(id_: int, item: _Read, place: Place | None, duplicates: int, origin: str, now: datetime) -> Row:
    event = item.event
    if isinstance(event, Rejection):
        state, reason, event = _QUARANTINED, event.reason, _NOTHING
    elif place is not None and place.overtaken is not None and event.event_type == "close":
        state, reason = _SUPERSEDED, place.overtaken
    else:
        state, reason = _PENDING, None
    scope, name = event.did or (None, None)
    payload = event.payload
    account = payload.get("account")
    return {
        "id": id_,
        "identity": item.identity,
        "state": state,
        "event_type": event.event_type or None,
        "scope": scope,
        "name": name,
        "created_at": event.created_at if event is not _NOTHING else None,
        "received_at": now,
        "origin": origin,
        "reason": reason,
        "duplicates": duplicates,
        "incarnation": place.incarnation if place is not None else None,
        "generation": place.generation if place is not None else None,
        "account": account if isinstance(account, str) and len(account) <= _LONGEST_ACCOUNT else None,
        "bytes": count_of(payload.get("bytes")),
        "length": count_of(payload.get("length")),
        "events": count_of(payload.get("events")),
        "judged_revision": -1,
        "headers": _dumped(item.arrival.headers),
        "body": item.arrival.body,
    }


#: What was read from a frame that could not be read.
_NOTHING = CatalogEvent(event_type="", did=None, created_at=datetime.min.replace(tzinfo=UTC), payload={})


def _dumped(headers: Mapping[str, str]) -> str:
    try:
        return to_json(headers).decode()
    except ValueError:  # half a character, which only the standard writer spells out
        return json.dumps(dict(headers))


def _next_id(connection: Connection) -> int:
    """Ids are given here, where intakes take turns: the rows need no answer from the database."""
    return (connection.scalars(select(func.max(messages.c.id))).one() or 0) + 1


def _record_arrivals(connection: Connection, first_id: int, origin: str, now: datetime) -> None:
    """One journal row for each message from `first_id` on, written by the database itself."""
    arrived = select(
        literal(now, Moment()),
        literal(origin),
        literal("message"),
        messages.c.id,
        messages.c.state,
        messages.c.reason,
    ).where(messages.c.id >= first_id)
    columns = ["at", "who", "subject", "subject_id", "to_state", "why"]
    connection.execute(insert(journal).from_select(columns, arrived))


_COUNT_AGAIN = (
    update(messages)
    .where(messages.c.identity == bindparam("key"))
    .values(duplicates=messages.c.duplicates + bindparam("count"))
)


def _count_duplicates(connection: Connection, again: Mapping[str, int]) -> None:
    if again:
        connection.execute(_COUNT_AGAIN, [{"key": key, "count": count} for key, count in sorted(again.items())])


def _chunks(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]
