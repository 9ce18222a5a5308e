"""Waiting rooms as people see them: listed, shown, waived, closed, dispatched with what is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, delete, func, insert, select

from orchestrator.core.joins import LIVE, Member, Standing, stand
from orchestrator.core.matching import RuleSet
from orchestrator.store.chambers import WAITING, Chamber, Seat, rows_of, seats_of
from orchestrator.store.engine import Database
from orchestrator.store.intake import chunks
from orchestrator.store.joining import Seating
from orchestrator.store.journal import record
from orchestrator.store.judging import write_rooms
from orchestrator.store.port import NotAllowed, NotFound
from orchestrator.store.room_settling import join_in_force, version_of
from orchestrator.store.rules import Rules, current_revision
from orchestrator.store.signals import DISPATCHES
from orchestrator.store.tables import Row, rooms, rule_versions, waivers
from schemas.message import MessageState
from schemas.room import Room, RoomDetail, RoomId, RoomMember, RoomState, Waiver
from schemas.rule import Join, RuleVersion

#: Rooms read at once while some of them are looked for.
_PAGE = 200


@dataclass(frozen=True, slots=True)
class RoomFilter:
    """Which rooms a list shows. Everything given must hold."""

    rule: str | None = None
    states: Sequence[RoomState] = ()
    #: Only rooms that wait for this slot.
    missing: str | None = None


class Rooms:
    """Every waiting room that was ever opened."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self, filter_: RoomFilter = RoomFilter(), *, limit: int = 50, before: RoomId | None = None) -> list[Room]:
        """A page of rooms, newest first; `before` is the last id of the page before."""
        found: list[Room] = []
        with self._database.read() as connection:
            for page in _pages(connection, filter_, before):
                shown = (Room.model_validate(each.model_dump(exclude={"members", "waivers"})) for each in page)
                found += [each for each in shown if filter_.missing is None or filter_.missing in each.missing]
                if len(found) >= limit:
                    break
        return found[:limit]

    def get(self, room_id: RoomId) -> RoomDetail:
        """One room, whole. Raises NotFound."""
        with self._database.read() as connection:
            return _room(connection, room_id)

    def next_look(self, now: datetime) -> datetime | None:
        """When, later than now, the next room is to be looked at; None if none is."""
        query = select(func.min(rooms.c.look_at)).where(rooms.c.state.in_(WAITING), rooms.c.look_at > now)
        with self._database.read() as connection:
            moment: datetime | None = connection.scalars(query).one()
        return moment

    def waive(self, room_id: RoomId, slot: str, *, who: str, why: str, now: datetime) -> RoomDetail:
        """Declare a member unnecessary for this room; if nothing else is missing, it is dispatched at once.

        Raises:
            NotFound, NotAllowed: there is no such room, it no longer waits, or it has or needs no such member.
        """
        with self._deciding(room_id, who, now, patient=True) as (seating, room, connection):
            _demand_waiting(room)
            standing, _ = _standing(connection, room)
            if slot in standing.present:
                raise NotAllowed(f"{slot} has arrived in room {room_id}: there is nothing to waive")
            if slot not in standing.absent:
                known = ", ".join([*standing.present, *standing.absent])
                raise NotAllowed(f"room {room_id} has no member {slot}; it has: {known}")
            if slot in room.waived:
                raise NotAllowed(f"{slot} is waived for room {room_id} already")
            row = {"room_id": room_id, "slot": slot, "who": who, "reason": why, "at": now}
            connection.execute(insert(waivers).values(row))
            room.waived.add(slot)
            _note(connection, room, "waived", slot, who, why, now)
            version = join_in_force(connection, room.pair[0])
            if version is not None:
                seating.consider(room, version)
        return self.get(room_id)

    def unwaive(self, room_id: RoomId, slot: str, *, who: str, why: str, now: datetime) -> RoomDetail:
        """Take a waiver back. Raises NotFound, NotAllowed."""
        with self._deciding(room_id, who, now, patient=True) as (_, room, connection):
            _demand_waiting(room)
            if slot not in room.waived:
                raise NotAllowed(f"{slot} is not waived for room {room_id}")
            connection.execute(delete(waivers).where(waivers.c.room_id == room_id, waivers.c.slot == slot))
            _note(connection, room, "unwaived", slot, who, why, now)
        return self.get(room_id)

    def close(self, room_id: RoomId, *, who: str, why: str, now: datetime) -> RoomDetail:
        """Wait no more, and drop what waits. Raises NotFound, NotAllowed."""
        with self._deciding(room_id, who, now) as (seating, room, _):
            _demand_waiting(room)
            if not seating.drop(room, f"closed by {who}: {why}"):
                raise NotAllowed(_BUSY.format(room_id))
        return self.get(room_id)

    def dispatch(self, room_id: RoomId, *, who: str, why: str, now: datetime) -> RoomDetail:
        """Wait no more, and dispatch with what is there, by the rule in force or else by the one that was.

        Raises:
            NotFound, NotAllowed: there is no such room, it no longer waits, or nothing is there.
        """
        with self._deciding(room_id, who, now) as (seating, room, connection):
            _demand_waiting(room)
            standing, version = _standing(connection, room)
            if not standing.new:
                raise NotAllowed(f"nothing is there in room {room_id} to dispatch with")
            if not seating.dispatch_what_is_there(room, version, f"dispatched by {who}: {why}"):
                raise NotAllowed(_BUSY.format(room_id))
        return self.get(room_id)

    @contextmanager
    def _deciding(
        self, room_id: RoomId, who: str, now: datetime, *, patient: bool = False
    ) -> Iterator[tuple[Seating, Chamber, Connection]]:
        """A transaction on one room, at the end of which all is written that follows."""
        revision, versions = Rules(self._database).in_force()
        rules = RuleSet(revision, versions, {"*": MessageState.PENDING})
        with self._database.write(DISPATCHES) as connection:
            seating = Seating(connection, revision, now, who=who, patient=patient)
            room = seating.open(room_id)
            if room is None:
                raise NotFound(f"there is no room {room_id}")
            if current_revision(connection) != revision:
                raise NotAllowed("the rules were changed in this moment: look at the room again")
            yield seating, room, connection
            write_rooms(connection, rules, seating, now, who=who)


_BUSY = "room {} cannot be settled in this moment, because a member is in other hands: try again, or look at its reason"


def _note(connection: Connection, room: Chamber, what: str, slot: str, who: str, why: str, now: datetime) -> None:
    record(connection, "room", [room.id], room.row["state"], what, who=who, why=f"{slot}: {why}", at=now)


def _demand_waiting(room: Chamber) -> None:
    if not room.waits:
        raise NotAllowed(f"room {room.id} is {room.row['state']}; only a room that waits can be changed")


# How rooms are shown.


class _Versions(NamedTuple):
    """The rules that rooms go by: those in force that join, by name; and those that opened them, by id."""

    in_force: Mapping[str, RuleVersion]
    of_rooms: Mapping[int, RuleVersion]

    def of(self, room: Chamber) -> tuple[RuleVersion, bool]:
        """The version that a room goes by, and whether it is in force. A room that is settled keeps its own."""
        current = self.in_force.get(room.pair[0]) if room.waits else None
        return (self.of_rooms[room.row["rule_version_id"]], False) if current is None else (current, True)


def _pages(connection: Connection, filter_: RoomFilter, before: int | None) -> Iterator[list[RoomDetail]]:
    query = select(rooms).order_by(rooms.c.id.desc()).limit(_PAGE)
    if filter_.rule is not None:
        query = query.where(rooms.c.rule == filter_.rule)
    states = filter_.states or (WAITING if filter_.missing is not None else ())
    if states:
        query = query.where(rooms.c.state.in_(states))
    while rows := rows_of(connection, query if before is None else query.where(rooms.c.id < before)):
        yield _details(connection, rows)
        before = rows[-1]["id"]


def _room(connection: Connection, room_id: int) -> RoomDetail:
    rows = rows_of(connection, select(rooms).where(rooms.c.id == room_id))
    if not rows:
        raise NotFound(f"there is no room {room_id}")
    return _details(connection, rows)[0]


def _details(connection: Connection, rows: Sequence[Row]) -> list[RoomDetail]:
    chambers = {row["id"]: Chamber(row) for row in rows}
    for id_, seat in seats_of(connection, chambers):
        chambers[id_].seats.append(seat)
    said: dict[int, list[Waiver]] = {}
    for chunk in chunks(sorted(chambers)):
        query = select(waivers).where(waivers.c.room_id.in_(chunk)).order_by(waivers.c.at, waivers.c.slot)
        for row in rows_of(connection, query):
            said.setdefault(row.pop("room_id"), []).append(Waiver.model_validate(row))
    versions = _versions(connection, list(chambers.values()))
    return [_detail(room, versions, said.get(id_, [])) for id_, room in chambers.items()]


def _versions(connection: Connection, chambers: Sequence[Chamber]) -> _Versions:
    names = sorted({room.pair[0] for room in chambers if room.waits})
    found = {name: join_in_force(connection, name) for name in names}
    of_rooms: dict[int, RuleVersion] = {}
    for chunk in chunks(sorted({room.row["rule_version_id"] for room in chambers})):
        query = select(rule_versions).where(rule_versions.c.id.in_(chunk))
        of_rooms |= {row["id"]: version_of(row) for row in rows_of(connection, query)}
    return _Versions({name: version for name, version in found.items() if version is not None}, of_rooms)


def _standing(connection: Connection, room: Chamber) -> tuple[Standing, RuleVersion]:
    """How far a room is, by the version that it goes by."""
    version, _ = _versions(connection, [room]).of(room)
    return _stand(room, _join_of(version), room.waived), version


def _detail(room: Chamber, versions: _Versions, said: Sequence[Waiver]) -> RoomDetail:
    version, in_force = versions.of(room)
    join = _join_of(version)
    waived = [waiver.slot for waiver in said]
    standing = _stand(room, join, waived)
    shown = {key: value for key, value in room.row.items() if key != "look_at"}
    counting = {member.message.id for member in standing.present.values()}
    return RoomDetail(
        **shown,
        arrived=tuple(standing.present),
        missing=tuple(standing.missing),
        masked=join.masked,
        waived=tuple(waived),
        orphaned=room.waits and not in_force,
        members=tuple(_member(seat, seat.message.id in counting) for seat in room.seats),
        waivers=tuple(said),
    )


def _stand(room: Chamber, join: Join, waived: Sequence[str] | set[str]) -> Standing:
    return stand(join, [Member(seat.slot, seat.message) for seat in room.seats if _counts(room, seat)], waived)


def _counts(room: Chamber, seat: Seat) -> bool:
    """Whether a seat counts; in a room that is settled, whether it did in the end."""
    if seat.late:
        return False
    if room.waits:
        return seat.left_at is None and seat.message.state in LIVE
    if room.row["state"] == RoomState.DISPATCHED:
        return seat.left_at is None
    stayed = seat.left_at is None or seat.left_at >= room.row["closed_at"]
    return stayed and seat.message.state is not MessageState.SUPERSEDED


def _member(seat: Seat, counts: bool) -> RoomMember:
    message = seat.message
    return RoomMember(
        slot=seat.slot,
        message_id=message.id,
        did=str(message.did),
        created_at=message.created_at,
        at=seat.at,
        left_at=seat.left_at,
        late=seat.late,
        counts=counts and not seat.late,
        state=message.state,
        reason=message.reason,
    )


def _join_of(version: RuleVersion) -> Join:
    assert version.rule.join is not None
    return version.rule.join
