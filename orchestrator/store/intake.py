"""The intake: frames become rows, each content once, placed in their datasets' lives. In the order of its steps."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, TypeVar

from pydantic_core import to_json
from sqlalchemy import Connection, bindparam, func, select, text, update

from orchestrator.core.message import Rejection, count_of, identity, identity_of_rejected, read_body
from orchestrator.core.settlement import LifeEvent, Place, settle
from orchestrator.core.sieve import Sieve
from orchestrator.store.engine import Database, insert_many
from orchestrator.store.journal import move, record
from orchestrator.store.tables import Row, messages
from schemas.did import Did
from schemas.event import LIFE_EVENTS, CatalogEvent
from schemas.message import RECONCILED, MessageState

_T = TypeVar("_T")

#: How many values go into one IN list.
_CHUNK: Final = 500

#: Any constant: whoever takes in messages on PostgreSQL holds this lock for the length of one transaction.
_INTAKE_LOCK: Final = 0x6D756C65

#: Rucio's own limit is 25 characters. A longer one is still in the body.
_LONGEST_ACCOUNT: Final = 250


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


class Read(NamedTuple):
    """An arrival, read."""

    identity: str
    arrival: Arrival
    event: CatalogEvent | Rejection


def take_turns(database: Database, connection: Connection) -> None:
    """One intake at a time. Two that overlap could each place a dataset's events without seeing the other's."""
    if not database.is_sqlite:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _INTAKE_LOCK})


def read_arrival(arrival: Arrival) -> Read:
    """Read the body, and find what tells this message from all others."""
    event = read_body(arrival.body)
    key = identity_of_rejected(arrival.body) if isinstance(event, Rejection) else identity(event)
    return Read(key, arrival, event)


def keep(
    connection: Connection,
    read: Sequence[Read],
    origin: str,
    now: datetime,
    settled: Set[str] = frozenset(),
    sieve: Sieve | None = None,
    spared: Set[str] = frozenset(),
) -> Intake:
    """Store what is new, count what is not, and place all of it in the lives of its datasets; within a transaction.

    `settled` are the identities of events that nothing can overtake any more. What the sieve catches, but for the
    `spared`, is stored too, dropped, with the reason.
    """
    known = known_identities(connection, {item.identity for item in read})
    new: dict[str, Read] = {}
    again: Counter[str] = Counter()
    for item in read:
        if item.identity in known or item.identity in new:
            again[item.identity] += 1
        else:
            new[item.identity] = item
    places = _place(connection, new, origin == RECONCILED, now)
    places.update({key: places[key]._replace(overtaken=None) for key in settled & places.keys()})
    caught = _caught({key: item for key, item in new.items() if key not in spared}, sieve)
    rows = _rows(new, places, again, caught, origin, now, first_id=_next_id(connection))
    insert_many(connection, messages, _COLUMNS, rows)
    _record_arrivals(connection, rows, origin, now)
    _count_duplicates(connection, {key: count for key, count in again.items() if key in known})
    quarantined = sum(isinstance(item.event, Rejection) for item in new.values())
    return Intake(len(rows), again.total(), quarantined)


#: Built once: with a list of its own each time, building the statement costs more than running it.
_KNOWN = select(messages.c.identity).where(messages.c.identity.in_(bindparam("identities", expanding=True)))


def known_identities(connection: Connection, identities: Iterable[str]) -> set[str]:
    """Those of the identities that are stored already."""
    known: set[str] = set()
    for chunk in chunks(list(identities)):
        known.update(connection.scalars(_KNOWN, {"identities": chunk}))
    return known


def _place(connection: Connection, new: Mapping[str, Read], found: bool, now: datetime) -> dict[str, Place]:
    """Place the new events in their datasets' lives, and move those that were there and are placed anew.

    `found` are events that nobody announced: see `core.settlement`.
    """
    lives: dict[Did, list[LifeEvent]] = {}
    for key, item in new.items():
        event = item.event
        if isinstance(event, CatalogEvent) and event.of_a_life and event.did is not None:
            lives.setdefault(event.did, []).append(LifeEvent(key, event.event_type, event.created_at, found))
    before = _earlier(connection, lives)
    for row in before.values():
        lives[Did(row["scope"], row["name"])].append(life_event(row))
    places: dict[str, Place] = {}
    for events in lives.values():
        places.update(settle(events))
    _replace(connection, before, places, now)
    return places


_LIFE_COLUMNS = (
    *("id", "identity", "state", "event_type", "scope", "name", "created_at", "origin", "incarnation", "generation"),
)

#: Scope by scope: SQLite uses no index for pairs.
_EARLIER = select(*(messages.c[name] for name in _LIFE_COLUMNS)).where(
    messages.c.scope == bindparam("scope"),
    messages.c.name.in_(bindparam("names", expanding=True)),
    messages.c.event_type.in_(sorted(LIFE_EVENTS)),
    messages.c.state != MessageState.QUARANTINED,
)


def life_event(row: Row) -> LifeEvent:
    """A stored event, as `core.settlement` knows it."""
    return LifeEvent(
        row["identity"], row["event_type"], row["created_at"], row["origin"] == RECONCILED, number=row["id"]
    )


def _earlier(connection: Connection, lives: Iterable[Did]) -> dict[str, Row]:
    """The stored events of these datasets' lives, by identity."""
    names: dict[str, list[str]] = {}
    for did in lives:
        names.setdefault(did.scope, []).append(did.name)
    earlier: dict[str, Row] = {}
    for scope, within in names.items():
        for chunk in chunks(within):
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
    new: Mapping[str, Read],
    places: Mapping[str, Place],
    again: Mapping[str, int],
    caught: Mapping[str, str],
    origin: str,
    now: datetime,
    *,
    first_id: int,
) -> list[tuple[Any, ...]]:
    return [
        _row(id_, item, places.get(key), again.get(key, 0), caught.get(key), origin, now)
        for id_, (key, item) in enumerate(new.items(), start=first_id)
    ]


#: In the words of the database, looked up once.
_PENDING, _DROPPED, _SUPERSEDED, _QUARANTINED = (
    state.value
    for state in (MessageState.PENDING, MessageState.DROPPED, MessageState.SUPERSEDED, MessageState.QUARANTINED)
)

#: The order of the values in `_row`.
_COLUMNS: Final = (
    *("id", "identity", "state", "reason"),
    *("event_type", "scope", "name", "created_at", "received_at", "origin", "duplicates", "incarnation", "generation"),
    *("account", "bytes", "length", "events", "judged_revision", "headers", "body"),
)

_UNPLACED: Final = (None, None, None)


def _caught(new: Mapping[str, Read], sieve: Sieve | None) -> dict[str, str]:
    """Why some of the events are put away, by identity."""
    if sieve is None:
        return {}
    events = ((key, item.event) for key, item in new.items())
    whys = ((key, sieve.catches(event)) for key, event in events if isinstance(event, CatalogEvent))
    return {key: why for key, why in whys if why is not None}


def _row(
    id_: int, item: Read, place: Place | None, duplicates: int, caught: str | None, origin: str, now: datetime
) -> tuple[Any, ...]:
    key, arrival, event = item
    incarnation, generation, overtaken = place or _UNPLACED
    if isinstance(event, Rejection):
        state, reason, event = _QUARANTINED, event.reason, _NOTHING
    elif overtaken is not None and event.event_type == "close":
        state, reason = _SUPERSEDED, overtaken
    elif caught is not None:
        state, reason = _DROPPED, caught
    else:
        state, reason = _PENDING, None
    scope, name = event.did or (None, None)
    payload = event.payload
    account = payload.get("account")
    return (
        *(id_, key, state, reason, event.event_type or None, scope, name),
        *(event.created_at if event is not _NOTHING else None, now, origin, duplicates, incarnation, generation),
        account if isinstance(account, str) and len(account) <= _LONGEST_ACCOUNT else None,
        *(count_of(payload.get("bytes")), count_of(payload.get("length")), count_of(payload.get("events"))),
        *(-1, _dumped(arrival.headers), arrival.body),
    )


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


def _record_arrivals(connection: Connection, rows: Sequence[tuple[Any, ...]], origin: str, now: datetime) -> None:
    """A message that arrives as pending says all of it in its own row, and `Journal.of` reads it there."""
    alike: dict[tuple[str, str], list[int]] = {}
    for id_, _, state, reason, *_ in rows:
        if state != _PENDING:
            alike.setdefault((state, reason), []).append(id_)
    for (state, reason), ids in alike.items():
        record(connection, "message", ids, None, state, who=origin, why=reason, at=now)


_COUNT_AGAIN = (
    update(messages)
    .where(messages.c.identity == bindparam("key"))
    .values(duplicates=messages.c.duplicates + bindparam("count"))
)


def _count_duplicates(connection: Connection, again: Mapping[str, int]) -> None:
    if again:
        connection.execute(_COUNT_AGAIN, [{"key": key, "count": count} for key, count in sorted(again.items())])


def chunks(items: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """The items in pieces that fit into one IN list."""
    for start in range(0, len(items), _CHUNK):
        yield items[start : start + _CHUNK]
