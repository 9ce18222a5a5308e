"""Waiting rooms as rows: loaded with their seats and locked, opened, moved; and messages seated in them.

Locks, on PostgreSQL: whoever lets messages into the rooms of a key locks its rooms first, in the order of rule and key;
and before any room, the counts of the rules with a prescale.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Select, insert, select, update
from sqlalchemy.dialects.postgresql import insert as insert_postgresql
from sqlalchemy.dialects.sqlite import insert as insert_sqlite

from orchestrator.core.joins import LIVE, Member
from orchestrator.store.intake import chunks
from orchestrator.store.journal import move, record
from orchestrator.store.messages import message_of, shown_columns
from orchestrator.store.tables import Row, messages, room_members, rooms, waivers
from schemas.message import Message, MessageId
from schemas.room import RoomState
from schemas.rule import Join, Rule, RuleVersion

WAITING: Final = (RoomState.OPEN, RoomState.OVERDUE)

#: A rule and a key: the rounds of one pair share their locks.
Pair = tuple[str, str]


@dataclass(slots=True)
class Seat:
    """A message in a room."""

    slot: str
    message: Message
    at: datetime
    left_at: datetime | None
    late: bool


@dataclass(slots=True)
class Chamber:
    """A room as it is worked on."""

    row: Row
    seats: list[Seat] = field(default_factory=list)
    waived: set[str] = field(default_factory=set)

    @property
    def id(self) -> int:
        return int(self.row["id"])

    @property
    def pair(self) -> Pair:
        return self.row["rule"], self.row["key"]

    @property
    def waits(self) -> bool:
        return self.row["state"] in WAITING

    @property
    def dispatched(self) -> bool:
        return bool(self.row["state"] == RoomState.DISPATCHED)

    def members(self) -> list[Member]:
        """Those that count."""
        return [
            Member(seat.slot, seat.message)
            for seat in self.seats
            if seat.left_at is None and not seat.late and seat.message.state in LIVE
        ]

    def __str__(self) -> str:
        return f"room {self.id} of rule {self.row['rule']} for {self.row['key']}"


class Chambers:
    """The rooms that one transaction works on, with all rounds of their keys."""

    def __init__(self, connection: Connection, now: datetime, who: str) -> None:
        self.connection = connection
        self.now = now
        self._who = who
        #: The rooms of each pair, in the order of their rounds; and the seats in them, by message.
        self._rounds: dict[Pair, list[Chamber]] = {}
        self._sitting: dict[MessageId, list[tuple[Chamber, Seat]]] = {}

    # Rooms are found.

    def open(self, room_id: int) -> Chamber | None:
        """A room with its rounds, locked; None if there is none."""
        row = next(iter(rows_of(self.connection, select(rooms).where(rooms.c.id == room_id))), None)
        if row is None:
            return None
        pair = Chamber(row).pair
        self.load({pair}, lock=True)
        return self.room(pair, room_id)

    def load(self, pairs: Collection[Pair], *, lock: bool = False) -> None:
        """All rounds of these pairs, unless they are loaded already."""
        wanted = sorted({*pairs} - self._rounds.keys())
        found: list[Chamber] = []
        for rule in sorted({rule for rule, _ in wanted}):
            for chunk in chunks([key for name, key in wanted if name == rule]):
                query = select(rooms).where(rooms.c.rule == rule, rooms.c.key.in_(chunk))
                query = query.order_by(rooms.c.rule, rooms.c.key, rooms.c.round)
                rows = self._locked(query) if lock else rows_of(self.connection, query)
                found += [Chamber(row) for row in rows]
        self._fill(found)
        for pair in wanted:
            self._rounds[pair] = [each for each in found if each.pair == pair]

    def _locked(self, query: Select[Any]) -> list[Row]:
        """What the query finds, locked, and nothing is missing.

        While it waited for a room, another transaction may have opened the next round, which only another look sees.
        """
        rows = rows_of(self.connection, query.with_for_update())
        if self.connection.dialect.name == "sqlite":  # which has one writer anyway
            return rows
        while True:
            before, rows = rows, rows_of(self.connection, query.with_for_update())
            if [row["id"] for row in rows] == [row["id"] for row in before]:
                return rows

    def _fill(self, chambers: Sequence[Chamber]) -> None:
        by_id = {each.id: each for each in chambers}
        for id_, seat in seats_of(self.connection, by_id):
            self._add_seat(by_id[id_], seat)
        for chunk in chunks(sorted(by_id)):
            query = select(waivers.c.room_id, waivers.c.slot).where(waivers.c.room_id.in_(chunk))
            for id_, slot in self.connection.execute(query):
                by_id[id_].waived.add(slot)

    def room(self, pair: Pair, room_id: int) -> Chamber:
        """A room of a pair that is loaded."""
        return next(each for each in self._rounds[pair] if each.id == room_id)

    def last(self, pair: Pair) -> Chamber:
        """The room of the last round of a pair that is loaded."""
        return self._rounds[pair][-1]

    def known(self, pair: Pair) -> Mapping[MessageId, Member]:
        """What was dispatched in earlier rounds."""
        return {each.message.id: each for room in self._rounds[pair] if room.dispatched for each in room.members()}

    def seats(self, message_id: MessageId, rule: str) -> list[tuple[Chamber, Seat]]:
        """Where a message sits in the rooms of a rule that are loaded."""
        return [each for each in self._sitting.get(message_id, ()) if each[0].pair[0] == rule]

    # Rooms are opened.

    def make_missing(self, first: Mapping[Pair, RuleVersion]) -> None:
        """Make the first rooms of those pairs that have none, each by its version."""
        there = self._existing(first)
        make = insert_sqlite(rooms) if self.connection.dialect.name == "sqlite" else insert_postgresql(rooms)
        returned = make.on_conflict_do_nothing().returning(rooms.c.id)
        for pair in sorted(first.keys() - there):
            made = self.connection.scalars(returned, [self._new_row(pair, 1, first[pair])]).all()
            self._opened(made, first[pair])

    def _existing(self, pairs: Collection[Pair]) -> set[Pair]:
        found: set[Pair] = set()
        for rule in {rule for rule, _ in pairs}:
            for chunk in chunks(sorted(key for name, key in pairs if name == rule)):
                query = select(rooms.c.key).where(rooms.c.rule == rule, rooms.c.key.in_(chunk), rooms.c.round == 1)
                found.update((rule, key) for key in self.connection.scalars(query))
        return found

    def open_round(self, last: Chamber, version: RuleVersion) -> Chamber:
        """Another round, in which all that was dispatched before has a seat."""
        row = self._new_row(last.pair, last.row["round"] + 1, version)
        row["id"] = self.connection.scalars(insert(rooms).values(row).returning(rooms.c.id)).one()
        self._opened([row["id"]], version)
        room = Chamber(row)
        known = self.known(last.pair).values()
        self._rounds[last.pair].append(room)
        for each in known:
            self.sit(room, each.message, each.slot, late=False)
        return room

    def _new_row(self, pair: Pair, round_: int, version: RuleVersion) -> Row:
        span = join_of(version.rule).deadline
        deadline = None if span is None else self.now + span
        return {
            "rule": pair[0],
            "key": pair[1],
            "round": round_,
            "rule_version_id": version.id,
            "state": RoomState.OPEN.value,
            "opened_at": self.now,
            "deadline": deadline,
            "closed_at": None,
            "reason": None,
            "message_id": None,
            "look_at": deadline,
        }

    def _opened(self, ids: Sequence[int], version: RuleVersion) -> None:
        why = f"rule {version.rule.name}"
        record(self.connection, "room", ids, None, RoomState.OPEN, who=self._who, why=why, at=self.now)

    # Messages are seated.

    def sit(self, room: Chamber, message: Message, slot: str, *, late: bool) -> None:
        """Give the message a seat, or back the one that it had in this slot."""
        this = (
            room_members.c.room_id == room.id,
            room_members.c.slot == slot,
            room_members.c.message_id == message.id,
        )
        for seat in room.seats:
            if seat.message.id == message.id and seat.slot == slot:
                seat.message, back = message, (None, late)
                if (seat.left_at, seat.late) != back:
                    seat.left_at, seat.late = back
                    self.connection.execute(update(room_members).where(*this).values(left_at=None, late=late))
                return
        row = {"room_id": room.id, "slot": slot, "message_id": message.id, "at": self.now, "late": late}
        self.connection.execute(insert(room_members).values(row))
        self._add_seat(room, Seat(slot, message, self.now, None, late))

    def _add_seat(self, room: Chamber, seat: Seat) -> None:
        room.seats.append(seat)
        self._sitting.setdefault(seat.message.id, []).append((room, seat))

    def leave(self, room: Chamber, seat: Seat) -> None:
        """The seat stays on record, with when it was left."""
        seat.left_at = self.now
        this = (
            room_members.c.room_id == room.id,
            room_members.c.slot == seat.slot,
            room_members.c.message_id == seat.message.id,
        )
        self.connection.execute(update(room_members).where(*this).values(left_at=self.now))

    # Rooms are changed.

    def note(self, room: Chamber, **values: Any) -> None:
        """Change what is kept of a room, but not its state."""
        room.row.update(values)
        self.connection.execute(update(rooms).where(rooms.c.id == room.id).values(values))

    def close(self, room: Chamber, state: RoomState, why: str, **values: Any) -> None:
        """Move a room to a state in which it waits no more."""
        self.move(room, state, why, closed_at=self.now, look_at=None, **values)

    def move(self, room: Chamber, state: RoomState, why: str, **values: Any) -> None:
        """Move a room to another state, and keep these values with it."""
        source = RoomState(room.row["state"])
        given: dict[str, Any] = {"reason": why, **values}
        move(self.connection, rooms, [room.id], source, state, who=self._who, why=why, at=self.now, **given)
        room.row.update(given, state=state)


def seats_of(connection: Connection, room_ids: Collection[int]) -> Iterable[tuple[int, Seat]]:
    """All seats of these rooms, each with the id of its room, in the order in which they were taken."""
    columns = [column.label(f"seat_{column.name}") for column in room_members.c]
    for chunk in chunks(sorted(room_ids)):
        query = (
            select(*shown_columns(), *columns)
            .join(messages, messages.c.id == room_members.c.message_id)
            .where(room_members.c.room_id.in_(chunk))
            .order_by(room_members.c.at, room_members.c.message_id)
        )
        for row in rows_of(connection, query):
            seat = {key: row.pop(f"seat_{key}") for key in ("room_id", "slot", "at", "left_at", "late")}
            row.pop("seat_message_id")
            yield seat.pop("room_id"), Seat(message=message_of(row), **seat)


def rows_of(connection: Connection, query: Any) -> list[Row]:
    return [dict(row) for row in connection.execute(query).mappings()]


def join_of(rule: Rule) -> Join:
    """The join of a rule that joins."""
    assert rule.join is not None
    return rule.join
