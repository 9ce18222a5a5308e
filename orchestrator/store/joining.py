"""Waiting rooms within a transaction: messages go in and leave.

Messages are taken one by one, in the order of their ids, so that it makes no difference in which batches they come.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, exists, or_, select, update

from orchestrator.core.joins import Member
from orchestrator.core.matching import Joining, Match, Verdict
from orchestrator.store.chambers import Chamber, Chambers, Seat, join_of, rows_of
from orchestrator.store.intake import chunks
from orchestrator.store.restraints import Wanted, count_alone, looping, prescaled
from orchestrator.store.room_settling import Fate, Outcome, Settling, join_in_force
from orchestrator.store.tables import room_members, rooms
from schemas.message import Message, MessageId, MessageState
from schemas.room import RoomState
from schemas.rule import Join, Late, RuleVersion


class Seating:
    """Lets messages into rooms and has rooms settled, within one transaction."""

    def __init__(
        self, connection: Connection, revision: int, now: datetime, *, who: str = "dispatcher", patient: bool = True
    ) -> None:
        """If `patient`, a room is settled once all its members were judged at this revision; else at once."""
        self.revision = revision
        self._chambers = Chambers(connection, now, who)
        self._outcome = Outcome()
        self._settling = Settling(self._chambers, self._outcome, revision, patient=patient)
        #: What it comes to: see `Outcome`.
        self.fates = self._outcome.fates
        self.wanted = self._outcome.wanted
        self.others = self._outcome.others
        self.alerts = self._outcome.alerts

    # Messages come.

    def take(self, verdicts: Sequence[tuple[Message, Verdict]]) -> None:
        """Let the messages into the rooms that their verdicts name; those that no rule wants there any more leave."""
        arriving = [(message, each) for message, verdict in verdicts for each in verdict.joins]
        earlier = self._earlier([message for message, _ in verdicts if message.judged_revision >= 0])
        if not arriving and not earlier:
            return
        self._outcome.batch = {message.id for message, _ in verdicts}
        looped = looping(self._chambers.connection, [_wish(message, each.version) for message, each in arriving])
        arriving = [(message, each) for message, each in arriving if (message.id, each.rule) not in looped]
        count_alone(self._chambers.connection, prescaled(each.version for _, each in arriving))
        first = {(each.rule, each.key): each.version for _, each in arriving}
        self._chambers.make_missing(first)
        self._chambers.load(first.keys() | {room.pair for found in earlier.values() for room in found}, lock=True)
        joined = {(message.id, each.rule) for message, each in arriving}
        coming: dict[MessageId, list[Joining]] = {}
        for message, each in arriving:
            coming.setdefault(message.id, []).append(each)
        for (id_, rule), why in looped.items():
            self._outcome.say(id_, rule, MessageState.DROPPED, why)
        for message, _ in sorted(verdicts, key=lambda each: each[0].id):
            self._outcome.seated.add(message.id)
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
            for row in rows_of(self._chambers.connection, query):
                found.setdefault(row.pop("message_id"), []).append(Chamber(row))
        return found

    def _unwanted(self, message: Message, rule: str) -> None:
        """The rule does not want it (any more). While the rule is not in force, it keeps what it has."""
        in_force = join_in_force(self._chambers.connection, rule)
        for chamber, seat in self._chambers.seats(message.id, rule):
            if not chamber.waits or seat.left_at is not None or seat.late:
                continue
            if in_force is None:
                why = f"waits in {chamber}, which is not in force: it goes on once the rule is, or by hand"
                self._outcome.say(message.id, rule, MessageState.PENDING, why)
            else:
                self._chambers.leave(chamber, seat)

    def _arrive(self, message: Message, joining: Joining) -> None:
        join = join_of(joining.version.rule)
        room = self._chambers.last((joining.rule, joining.key))
        released = False
        for chamber, seat in self._chambers.seats(message.id, joining.rule):
            if chamber.waits:
                if seat.left_at is None and (chamber is not room or seat.slot != joining.slot):
                    self._chambers.leave(chamber, seat)
            elif seat.left_at is None and not (seat.late and join.late is Late.DISPATCH):
                self._outcome.say(message.id, joining.rule, *_settled_fate(chamber, seat, join))
                return
            else:
                released = released or seat.late
        if room.waits:
            self._enter(room, message, joining)
        else:
            self._late(room, message, joining, released=released)

    def _late(self, room: Chamber, message: Message, joining: Joining, *, released: bool) -> None:
        join = join_of(joining.version.rule)
        newer = _newer(self._chambers.known(room.pair), Member(joining.slot, message))
        if newer is not None:
            why = f"{room} was dispatched with a newer {joining.slot}, message {newer.message.id}"
            self._outcome.say(message.id, joining.rule, MessageState.DROPPED, why)
        elif join.late is Late.DISPATCH or (join.late is Late.ALERT and released):
            self._enter(self._chambers.open_round(room, joining.version), message, joining)
        else:
            self._chambers.sit(room, message, joining.slot, late=True)
            ignored = join.late is Late.IGNORE
            what = "is ignored" if ignored else "waits for a person: release it to dispatch with it, or drop it"
            why = f"came after {room} was {room.row['state']}, and {what}"
            self._outcome.say(message.id, joining.rule, MessageState.DROPPED if ignored else MessageState.HELD, why)
            if not ignored:
                self.alerts.append(f"message {message.id} ({message.did}) {why}")

    def _enter(self, room: Chamber, message: Message, joining: Joining) -> None:
        self._chambers.sit(room, message, joining.slot, late=False)
        self._renew_deadline(room, join_of(joining.version.rule))
        standing = self._settling.stand(room, joining.version.rule)
        why = f"waits in {room}; missing when it came: {', '.join(standing.missing) or 'nothing'}"
        self._outcome.say(message.id, joining.rule, MessageState.PENDING, why)
        if standing.complete:
            self._settling.dispatch(room, joining.version, standing, "it is complete")

    def _renew_deadline(self, room: Chamber, join: Join) -> None:
        """By the version in force, counted from when the room was opened."""
        deadline = None if join.deadline is None else room.row["opened_at"] + join.deadline
        waits_for_it = room.row["state"] == RoomState.OPEN
        if waits_for_it and (room.row["deadline"], room.row["look_at"]) != (deadline, deadline):
            self._chambers.note(room, deadline=deadline, look_at=deadline)

    # Rooms are settled.

    def settle_due(self, versions: Mapping[str, RuleVersion]) -> None:
        """Settle the rooms of these rules whose time has come."""
        self._settling.settle_due(versions)

    def open(self, room_id: int) -> Chamber | None:
        """A room with its rounds, locked; None if there is none."""
        rule = select(rooms.c.rule).where(rooms.c.id == room_id)
        # with a prescale or without: which version it goes by is not known yet
        count_alone(self._chambers.connection, self._chambers.connection.scalars(rule).all())
        return self._chambers.open(room_id)

    def consider(self, room: Chamber, version: RuleVersion) -> bool:
        """Settle the room if it is complete. Returns whether it was."""
        return self._settling.consider(room, version)

    def dispatch_what_is_there(self, room: Chamber, version: RuleVersion, why: str) -> bool:
        """Whether anything new is there, and nobody else has it in hand."""
        return self._settling.dispatch_what_is_there(room, version, why)

    def drop(self, room: Chamber, why: str) -> bool:
        """Drop what waits in the room; False if it has to be put off."""
        return self._settling.drop(room, why)

    # Others of the members of rooms that were settled.

    def fates_elsewhere(self, verdicts: Sequence[tuple[Message, Verdict]]) -> None:
        """What their other rooms say of messages outside the batch: nothing has changed there."""
        earlier = self._earlier([message for message, _ in verdicts])
        for message, verdict in verdicts:
            joins = {each.rule: join_of(each.version.rule) for each in verdict.joins}
            for chamber in earlier.get(message.id, ()):
                rule = chamber.pair[0]
                if rule in self.fates.get(message.id, {}):
                    continue
                self._chambers.load({chamber.pair})
                for room, seat in self._chambers.seats(message.id, rule):
                    if room.waits and seat.left_at is None:
                        self._outcome.say(message.id, rule, MessageState.PENDING, f"waits in {room}")
                    elif seat.left_at is None and rule in joins:
                        self._outcome.say(message.id, rule, *_settled_fate(room, seat, joins[rule]))

    def put_away(self, ids: Collection[MessageId]) -> None:
        """These messages have gone from pending to where rooms did not dispatch them: they leave those rooms."""
        undone = exists().where(rooms.c.id == room_members.c.room_id, rooms.c.state == RoomState.DROPPED)
        for chunk in chunks(sorted(ids)):
            still = (room_members.c.message_id.in_(chunk), room_members.c.left_at.is_(None))
            gone = update(room_members).where(*still, or_(room_members.c.late, undone))
            self._chambers.connection.execute(gone.values(left_at=self._chambers.now))


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
