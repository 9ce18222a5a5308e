"""Waiting rooms within a transaction: messages go in and leave, and rooms that are complete or overdue are settled.

Messages are taken one by one, in the order of their ids, so that it makes no difference in which batches they come.

Locks, on PostgreSQL: whoever lets messages into the rooms of a key locks its rooms first, in the order of rule and key.
For a message that somebody else has in hand nobody waits: the room is looked at again a moment later.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, exists, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as insert_postgresql
from sqlalchemy.dialects.sqlite import insert as insert_sqlite

from orchestrator.core.clauses import Facts
from orchestrator.core.joins import LIVE, Member, Standing, stand, told
from orchestrator.core.matching import Joining, Match, Verdict, plan_version
from orchestrator.core.templates import TemplateError
from orchestrator.store.facts import known_facts
from orchestrator.store.intake import chunks
from orchestrator.store.journal import move, record
from orchestrator.store.messages import message_of, shown_columns
from orchestrator.store.restraints import Wanted, looping, restrain
from orchestrator.store.tables import Row, dispatches, messages, room_members, rooms, rule_versions, waivers
from schemas.message import Message, MessageId, MessageState
from schemas.room import RoomState
from schemas.rule import AtDeadline, Join, Late, Rule, RuleVersion, RuleVersionId

#: When a room is looked at again that could not be settled: a member was in other hands, or a template did not fit.
_SOON, _AFTER_TROUBLE = timedelta(seconds=1), timedelta(minutes=5)

#: Rooms settled in one transaction because their time has come.
_DUE_AT_ONCE: Final = 100

WAITING: Final = (RoomState.OPEN, RoomState.OVERDUE)

#: A rule and a key: the rounds of one pair share their locks.
Pair = tuple[str, str]


class Fate(NamedTuple):
    """What becomes of a message as far as one rule is concerned that joins it with others."""

    state: MessageState
    reason: str


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


class Seating:
    """Lets messages into rooms and settles rooms, within one transaction."""

    def __init__(
        self, connection: Connection, revision: int, now: datetime, *, who: str = "dispatcher", patient: bool = True
    ) -> None:
        """If `patient`, a room is settled once all its members were judged at this revision; else at once."""
        self._connection = connection
        self.revision = revision
        self._patient = patient
        self._now = now
        self._who = who
        #: The rooms of each pair, in the order of their rounds; and the seats in them, by message.
        self._rounds: dict[Pair, list[Chamber]] = {}
        self._sitting: dict[MessageId, list[tuple[Chamber, Seat]]] = {}
        #: Messages that this transaction has judged, or is about to judge.
        self._batch: set[MessageId] = set()
        self._seated: set[MessageId] = set()
        #: What became of messages, by rule.
        self.fates: dict[MessageId, dict[str, Fate]] = {}
        #: What is to be dispatched: one match for each room.
        self.wanted: list[Wanted] = []
        #: Messages outside the batch that are affected.
        self.others: set[MessageId] = set()
        #: What people should hear of.
        self.alerts: list[str] = []

    # Messages come.

    def take(self, verdicts: Sequence[tuple[Message, Verdict]]) -> None:
        """Let the messages into the rooms that their verdicts name; those that no rule wants there any more leave."""
        arriving = [(message, each) for message, verdict in verdicts for each in verdict.joins]
        earlier = self._earlier([message for message, _ in verdicts if message.judged_revision >= 0])
        if not arriving and not earlier:
            return
        self._batch = {message.id for message, _ in verdicts}
        looped = looping(self._connection, [_wish(message, each.version) for message, each in arriving])
        arriving = [(message, each) for message, each in arriving if (message.id, each.rule) not in looped]
        self._load(_pairs(arriving, earlier), arriving)
        joined = {(message.id, each.rule) for message, each in arriving}
        coming: dict[MessageId, list[Joining]] = {}
        for message, each in arriving:
            coming.setdefault(message.id, []).append(each)
        for (id_, rule), why in looped.items():
            self._fate(id_, rule, MessageState.DROPPED, why)
        for message, _ in sorted(verdicts, key=lambda each: each[0].id):
            self._seated.add(message.id)
            for rule in sorted({chamber.pair[0] for chamber in earlier.get(message.id, ())}):
                if (message.id, rule) not in joined:
                    self._unwanted(message, rule)
            for each in coming.get(message.id, ()):
                self._arrive(message, each)

    def _earlier(self, before: Sequence[Message]) -> dict[MessageId, list[Chamber]]:
        """The rooms in which messages that were judged before have a seat."""
        found: dict[MessageId, list[Chamber]] = {}
        for chunk in chunks([message.id for message in before]):
            query = (
                select(room_members.c.message_id, *rooms.c)
                .join(rooms, rooms.c.id == room_members.c.room_id)
                .where(room_members.c.message_id.in_(chunk))
            )
            for row in rows_of(self._connection, query):
                found.setdefault(row.pop("message_id"), []).append(Chamber(row))
        return found

    def _unwanted(self, message: Message, rule: str) -> None:
        """The rule does not want it (any more). While the rule is not in force, it keeps what it has."""
        in_force = join_in_force(self._connection, rule)
        for chamber, seat in self._seats(message.id, rule):
            if not chamber.waits or seat.left_at is not None or seat.late:
                continue
            if in_force is None:
                why = f"waits in {chamber}, which is not in force: it goes on once the rule is, or by hand"
                self._fate(message.id, rule, MessageState.PENDING, why)
            else:
                self._leave(chamber, seat)

    def _arrive(self, message: Message, joining: Joining) -> None:
        join = _join_of(joining.version.rule)
        room = self._rounds[joining.rule, joining.key][-1]
        released = False
        for chamber, seat in self._seats(message.id, joining.rule):
            if chamber.waits:
                if seat.left_at is None and (chamber is not room or seat.slot != joining.slot):
                    self._leave(chamber, seat)
            elif seat.left_at is None and not (seat.late and join.late is Late.DISPATCH):
                self._fate(message.id, joining.rule, *_settled_fate(chamber, seat, join))
                return
            else:
                released = released or seat.late
        if room.waits:
            self._enter(room, message, joining)
        else:
            self._late(room, message, joining, released=released)

    def _late(self, room: Chamber, message: Message, joining: Joining, *, released: bool) -> None:
        join = _join_of(joining.version.rule)
        newer = _newer(self._known(room.pair), Member(joining.slot, message))
        if newer is not None:
            why = f"{room} was dispatched with a newer {joining.slot}, message {newer.message.id}"
            self._fate(message.id, joining.rule, MessageState.DROPPED, why)
        elif join.late is Late.DISPATCH or (join.late is Late.ALERT and released):
            self._enter(self._open_round(room, joining), message, joining)
        else:
            self._sit(room, message, joining.slot, late=True)
            ignored = join.late is Late.IGNORE
            what = "is ignored" if ignored else "waits for a person: release it to dispatch with it, or drop it"
            why = f"came after {room} was {room.row['state']}, and {what}"
            self._fate(message.id, joining.rule, MessageState.DROPPED if ignored else MessageState.HELD, why)
            if not ignored:
                self.alerts.append(f"message {message.id} ({message.did}) {why}")

    def _enter(self, room: Chamber, message: Message, joining: Joining) -> None:
        self._sit(room, message, joining.slot, late=False)
        self._renew_deadline(room, _join_of(joining.version.rule))
        standing = self._stand(room, joining.version.rule)
        why = f"waits in {room}; missing when it came: {', '.join(standing.missing) or 'nothing'}"
        self._fate(message.id, joining.rule, MessageState.PENDING, why)
        if standing.complete:
            self._dispatch(room, joining.version, standing, "it is complete")

    def _renew_deadline(self, room: Chamber, join: Join) -> None:
        """By the version in force, counted from when the room was opened."""
        deadline = None if join.deadline is None else room.row["opened_at"] + join.deadline
        waits_for_it = room.row["state"] == RoomState.OPEN
        if waits_for_it and (room.row["deadline"], room.row["look_at"]) != (deadline, deadline):
            self._note(room, deadline=deadline, look_at=deadline)

    # Rooms are settled.

    def settle_due(self, versions: Mapping[str, RuleVersion]) -> None:
        """Settle the rooms of these rules whose time has come."""
        due = (*_is_due(self._now), rooms.c.rule.in_(versions))
        query = select(rooms).where(*due).order_by(rooms.c.look_at).limit(_DUE_AT_ONCE)
        found = [Chamber(row) for row in rows_of(self._connection, query.with_for_update(skip_locked=True))]
        self._load_rounds({chamber.pair for chamber in found})
        for chamber in found:
            room = next(each for each in self._rounds[chamber.pair] if each.id == chamber.id)
            self._due(room, versions[room.pair[0]])

    def _due(self, room: Chamber, version: RuleVersion) -> None:
        join = _join_of(version.rule)
        standing = self._stand(room, version.rule)
        over = room.row["state"] == RoomState.OPEN and room.row["deadline"] and room.row["deadline"] <= self._now
        if standing.complete:
            self._dispatch(room, version, standing, "it is complete")
        elif not over:
            self._note(room, look_at=room.row["deadline"] if room.row["state"] == RoomState.OPEN else None)
        elif self._unjudged(room):
            self._note(room, look_at=self._now + _SOON)
        elif join.at_deadline is AtDeadline.ALERT:
            self._overdue(room, standing)
        elif join.at_deadline is AtDeadline.DISPATCH and standing.new:
            self._dispatch(room, version, standing, f"its deadline has passed without {', '.join(standing.absent)}")
        else:
            self.drop(room, f"its deadline has passed without {', '.join(standing.absent)}")

    def _overdue(self, room: Chamber, standing: Standing) -> None:
        why = f"its deadline has passed; it goes on waiting for {', '.join(standing.missing)}"
        self._move(room, RoomState.OVERDUE, why, look_at=None)
        self.alerts.append(f"{room}: {why}")

    def consider(self, room: Chamber, version: RuleVersion) -> bool:
        """Settle the room if it is complete. Returns whether it was."""
        standing = self._stand(room, version.rule)
        return standing.complete and self._dispatch(room, version, standing, "it is complete")

    def dispatch_what_is_there(self, room: Chamber, version: RuleVersion, why: str) -> bool:
        """Whether anything new is there, and nobody else has it in hand."""
        standing = self._stand(room, version.rule)
        return standing.new and self._dispatch(room, version, standing, why)

    def _dispatch(self, room: Chamber, version: RuleVersion, standing: Standing, why: str) -> bool:
        """One match for the room, and the end of waiting for its members; False if it has to be put off."""
        if self._unjudged(room) or not self._have_in_hand(room):
            self._note(room, look_at=self._now + _SOON)
            return False
        first, waiting = self._first(room, standing), self._pending(room)
        try:
            match = self._match(room, version, standing, first)
        except TemplateError as error:
            self._wait_for_mending(room, f"waits in {room} for the rule to be mended: {error}")
            return False
        wanted = Wanted(first.message, match)
        held = restrain(self._connection, [wanted])
        if held:
            why = held[first.message.id, wanted.rule]
        else:
            self.wanted.append(wanted)
        missing = f", without {', '.join(standing.absent)}" if standing.absent and why == "it is complete" else ""
        state = RoomState.DROPPED if held else RoomState.DISPATCHED
        point = {} if held else {"message_id": first.message.id}
        self._close(room, state, why + missing, rule_version_id=version.id, **point)
        for each in waiting:
            newest = standing.present[each.slot].message if each.slot in standing.present else None
            if newest is None or newest.id != each.message.id:
                self._leave_for_newer(room, each, newest)
            elif held:
                self._end(each.message, room, MessageState.DROPPED, f"{room} was dropped: {why}")
            else:
                self._end(each.message, room, MessageState.DISPATCHED, f"dispatched with {room}")
        return True

    def _leave_for_newer(self, room: Chamber, member: Member, newest: Message | None) -> None:
        why = f"its slot {member.slot} is gone" if newest is None else f"it took message {newest.id} for {member.slot}"
        self._end(member.message, room, MessageState.DROPPED, f"{room} went without it: {why}")
        for chamber, seat in self._sitting.get(member.message.id, ()):
            if chamber is room:
                self._leave(chamber, seat)

    def drop(self, room: Chamber, why: str) -> bool:
        """Drop what waits in the room; False if it has to be put off."""
        if not self._have_in_hand(room):
            self._note(room, look_at=self._now + _SOON)
            return False
        waiting = self._pending(room)
        self._close(room, RoomState.DROPPED, why)
        for each in waiting:
            self._end(each.message, room, MessageState.DROPPED, f"{room} was dropped: {why}")
        return True

    def _match(self, room: Chamber, version: RuleVersion, standing: Standing, first: Member) -> Match:
        key, round_ = room.row["key"], room.row["round"]
        captured = told(version.rule, standing, first, room=room.id, round_=round_, key=key)
        metadata = known_facts(self._connection, [first.message.id]).get(first.message.id)
        return plan_version(version, Facts(first.message, metadata=metadata), captured)

    def _first(self, room: Chamber, standing: Standing) -> Member:
        """The member that the dispatches point at: of those new in this round, the first in the order of the slots.

        One that the rule has no dispatch for: a person may have given it to the rule before.
        """
        known = self._known(room.pair)
        ordered = sorted(standing.present.values(), key=lambda each: each.message.id in known)
        ids = [each.message.id for each in ordered]
        query = select(dispatches.c.message_id).where(dispatches.c.rule == room.pair[0])
        taken = set(self._connection.scalars(query.where(dispatches.c.message_id.in_(ids))))
        return next((each for each in ordered if each.message.id not in taken), ordered[0])

    def _wait_for_mending(self, room: Chamber, why: str) -> None:
        self._note(room, look_at=self._now + _AFTER_TROUBLE, reason=why)
        for each in room.members():
            if each.message.id in self._batch:
                self._fate(each.message.id, room.pair[0], MessageState.PENDING, why)

    def _end(self, message: Message, room: Chamber, state: MessageState, why: str) -> None:
        """A message has waited to the end."""
        self._fate(message.id, room.pair[0], state, why)
        if message.id not in self._batch:
            self.others.add(message.id)

    def _unjudged(self, room: Chamber) -> bool:
        """Whether members are still to be judged by the rules in force: perhaps these do not want them."""
        return self._patient and any(
            each.message.id not in self._seated and each.message.judged_revision != self.revision
            for each in self._pending(room)
        )

    def _pending(self, room: Chamber) -> list[Member]:
        """The members whose messages wait in it."""
        known = self._known(room.pair)
        return [
            each
            for each in room.members()
            if each.message.state is MessageState.PENDING and each.message.id not in known
        ]

    def _have_in_hand(self, room: Chamber) -> bool:
        """Lock the members outside the batch; False if somebody else has one, or it has just left."""
        ids = {each.message.id for each in self._pending(room)} - self._batch
        locked = 0
        for chunk in chunks(sorted(ids)):
            query = select(messages.c.id).where(messages.c.id.in_(chunk), messages.c.state == MessageState.PENDING)
            locked += len(
                self._connection.scalars(query.order_by(messages.c.id).with_for_update(skip_locked=True)).all()
            )
        return locked == len(ids)

    def _stand(self, room: Chamber, rule: Rule) -> Standing:
        """How far it is. Members whose messages no longer count leave."""
        for seat in room.seats:
            if room.waits and seat.left_at is None and not seat.late and seat.message.state not in LIVE:
                self._leave(room, seat)
        return stand(_join_of(rule), room.members(), room.waived, self._known(room.pair))

    def _known(self, pair: Pair) -> Mapping[MessageId, Member]:
        """What was dispatched in earlier rounds."""
        return {each.message.id: each for room in self._rounds[pair] if room.dispatched for each in room.members()}

    # Others of the members of rooms that were settled.

    def fates_elsewhere(self, verdicts: Sequence[tuple[Message, Verdict]]) -> None:
        """What their other rooms say of messages outside the batch: nothing has changed there."""
        earlier = self._earlier([message for message, _ in verdicts])
        for message, verdict in verdicts:
            joins = {each.rule: _join_of(each.version.rule) for each in verdict.joins}
            for chamber in earlier.get(message.id, ()):
                rule = chamber.pair[0]
                if rule in self.fates.get(message.id, {}):
                    continue
                self._load_rounds({chamber.pair})
                for room, seat in self._seats(message.id, rule):
                    if room.waits and seat.left_at is None:
                        self._fate(message.id, rule, MessageState.PENDING, f"waits in {room}")
                    elif seat.left_at is None and rule in joins:
                        self._fate(message.id, rule, *_settled_fate(room, seat, joins[rule]))

    def put_away(self, ids: Collection[MessageId]) -> None:
        """These messages have gone from pending to where rooms did not dispatch them: they leave those rooms."""
        undone = exists().where(rooms.c.id == room_members.c.room_id, rooms.c.state == RoomState.DROPPED)
        for chunk in chunks(sorted(ids)):
            still = (room_members.c.message_id.in_(chunk), room_members.c.left_at.is_(None))
            gone = update(room_members).where(*still, or_(room_members.c.late, undone))
            self._connection.execute(gone.values(left_at=self._now))

    # Rows.

    def open(self, room_id: int) -> Chamber | None:
        """A room with its rounds, locked; None if there is none."""
        row = next(iter(rows_of(self._connection, select(rooms).where(rooms.c.id == room_id))), None)
        if row is None:
            return None
        pair = Chamber(row).pair
        self._load_rounds({pair}, lock=True)
        return next(each for each in self._rounds[pair] if each.id == room_id)

    def _load(self, pairs: Sequence[Pair], arriving: Sequence[tuple[Message, Joining]]) -> None:
        """Make the first rooms of keys that have none, and lock all in the same order as everybody."""
        first = {(each.rule, each.key): each.version for _, each in arriving}
        there = self._existing(first)
        make = insert_sqlite(rooms) if self._connection.dialect.name == "sqlite" else insert_postgresql(rooms)
        returned = make.on_conflict_do_nothing().returning(rooms.c.id)
        for pair in sorted(first.keys() - there):
            made = self._connection.scalars(returned, [self._new_row(pair, 1, first[pair])]).all()
            self._opened(made, first[pair])
        self._load_rounds(pairs, lock=True)

    def _existing(self, pairs: Collection[Pair]) -> set[Pair]:
        found: set[Pair] = set()
        for rule in {rule for rule, _ in pairs}:
            for chunk in chunks(sorted(key for name, key in pairs if name == rule)):
                query = select(rooms.c.key).where(rooms.c.rule == rule, rooms.c.key.in_(chunk), rooms.c.round == 1)
                found.update((rule, key) for key in self._connection.scalars(query))
        return found

    def _load_rounds(self, pairs: Collection[Pair], *, lock: bool = False) -> None:
        wanted = sorted({*pairs} - self._rounds.keys())
        found: list[Chamber] = []
        for rule in sorted({rule for rule, _ in wanted}):
            for chunk in chunks([key for name, key in wanted if name == rule]):
                query = select(rooms).where(rooms.c.rule == rule, rooms.c.key.in_(chunk))
                query = query.order_by(rooms.c.rule, rooms.c.key, rooms.c.round)
                query = query.with_for_update() if lock else query
                found += [Chamber(row) for row in rows_of(self._connection, query)]
        self._fill(found)
        for pair in wanted:
            self._rounds[pair] = [each for each in found if each.pair == pair]

    def _fill(self, chambers: Sequence[Chamber]) -> None:
        by_id = {each.id: each for each in chambers}
        for id_, seat in seats_of(self._connection, by_id):
            self._add_seat(by_id[id_], seat)
        for chunk in chunks(sorted(by_id)):
            query = select(waivers.c.room_id, waivers.c.slot).where(waivers.c.room_id.in_(chunk))
            for id_, slot in self._connection.execute(query):
                by_id[id_].waived.add(slot)

    def _open_round(self, last: Chamber, joining: Joining) -> Chamber:
        """Another round, in which all that was dispatched before has a seat."""
        row = self._new_row(last.pair, last.row["round"] + 1, joining.version)
        row["id"] = self._connection.scalars(insert(rooms).values(row).returning(rooms.c.id)).one()
        self._opened([row["id"]], joining.version)
        room = Chamber(row)
        known = self._known(last.pair).values()
        self._rounds[last.pair].append(room)
        for each in known:
            self._sit(room, each.message, each.slot, late=False)
        return room

    def _new_row(self, pair: Pair, round_: int, version: RuleVersion) -> Row:
        span = _join_of(version.rule).deadline
        deadline = None if span is None else self._now + span
        return {
            "rule": pair[0],
            "key": pair[1],
            "round": round_,
            "rule_version_id": version.id,
            "state": RoomState.OPEN.value,
            "opened_at": self._now,
            "deadline": deadline,
            "closed_at": None,
            "reason": None,
            "message_id": None,
            "look_at": deadline,
        }

    def _opened(self, ids: Sequence[int], version: RuleVersion) -> None:
        why = f"rule {version.rule.name}"
        record(self._connection, "room", ids, None, RoomState.OPEN, who=self._who, why=why, at=self._now)

    def _seats(self, message_id: MessageId, rule: str) -> list[tuple[Chamber, Seat]]:
        return [each for each in self._sitting.get(message_id, ()) if each[0].pair[0] == rule]

    def _sit(self, room: Chamber, message: Message, slot: str, *, late: bool) -> None:
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
                    self._connection.execute(update(room_members).where(*this).values(left_at=None, late=late))
                return
        row = {"room_id": room.id, "slot": slot, "message_id": message.id, "at": self._now, "late": late}
        self._connection.execute(insert(room_members).values(row))
        self._add_seat(room, Seat(slot, message, self._now, None, late))

    def _add_seat(self, room: Chamber, seat: Seat) -> None:
        room.seats.append(seat)
        self._sitting.setdefault(seat.message.id, []).append((room, seat))

    def _leave(self, room: Chamber, seat: Seat) -> None:
        seat.left_at = self._now
        this = (
            room_members.c.room_id == room.id,
            room_members.c.slot == seat.slot,
            room_members.c.message_id == seat.message.id,
        )
        self._connection.execute(update(room_members).where(*this).values(left_at=self._now))

    def _note(self, room: Chamber, **values: Any) -> None:
        room.row.update(values)
        self._connection.execute(update(rooms).where(rooms.c.id == room.id).values(values))

    def _close(self, room: Chamber, state: RoomState, why: str, **values: Any) -> None:
        self._move(room, state, why, closed_at=self._now, look_at=None, **values)

    def _move(self, room: Chamber, state: RoomState, why: str, **values: Any) -> None:
        source = RoomState(room.row["state"])
        given: dict[str, Any] = {"reason": why, **values}
        move(self._connection, rooms, [room.id], source, state, who=self._who, why=why, at=self._now, **given)
        room.row.update(given, state=state)

    def _fate(self, id_: MessageId, rule: str, state: MessageState, why: str) -> None:
        self.fates.setdefault(id_, {})[rule] = Fate(state, why)


def rules_due(connection: Connection, now: datetime) -> Mapping[str, RuleVersion]:
    """The rules in force that have rooms whose time has come. Where the rule is not, nobody may decide but a person."""
    names = connection.scalars(select(rooms.c.rule).where(*_is_due(now)).distinct()).all()
    found = {name: join_in_force(connection, name) for name in sorted(names)}
    return {name: version for name, version in found.items() if version is not None}


def _is_due(now: datetime) -> tuple[ColumnElement[bool], ...]:
    return rooms.c.state.in_(WAITING), rooms.c.look_at <= now


def join_in_force(connection: Connection, rule: str) -> RuleVersion | None:
    """The version of a rule that is in force, is enabled, and joins; None if there is no such thing."""
    query = select(rule_versions).where(rule_versions.c.name == rule, rule_versions.c.until_revision.is_(None))
    for row in rows_of(connection, query):
        version = version_of(row)
        if version.rule.enabled and version.rule.join is not None:
            return version
    return None


def version_of(row: Row) -> RuleVersion:
    """A row of `rule_versions`."""
    return RuleVersion(
        id=RuleVersionId(row["id"]),
        version=row["version"],
        since_revision=row["since_revision"],
        until_revision=row["until_revision"],
        rule=Rule.model_validate_json(row["document"]),
    )


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


def _pairs(
    arriving: Sequence[tuple[Message, Joining]], earlier: Mapping[MessageId, Sequence[Chamber]]
) -> Sequence[Pair]:
    coming = {(each.rule, each.key) for _, each in arriving}
    return sorted(coming | {chamber.pair for chambers in earlier.values() for chamber in chambers})


def _wish(message: Message, version: RuleVersion) -> Wanted:
    """A match that is not planned yet: enough for the loop guard."""
    return Wanted(message, Match(version, {}, ()))


def _newer(known: Mapping[MessageId, Member], than: Member) -> Member | None:
    newer = [each for each in known.values() if each.slot == than.slot and each.age > than.age]
    return newer[-1] if newer else None


def _settled_fate(room: Chamber, seat: Seat, join: Join) -> Fate:
    """Of a message that is pending for another reason, in a room that is settled."""
    if seat.late:
        held = join.late is Late.ALERT
        why = f"came after {room} was {room.row['state']}"
        return Fate(MessageState.HELD if held else MessageState.DROPPED, why)
    if room.dispatched:
        return Fate(MessageState.DISPATCHED, f"dispatched with {room}")
    return Fate(MessageState.DROPPED, f"{room} was dropped: {room.row['reason']}")


def _join_of(rule: Rule) -> Join:
    assert rule.join is not None
    return rule.join
