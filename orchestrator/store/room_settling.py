"""Waiting rooms are settled: dispatched when they are complete, and by their policy when their deadline has passed.

For a message that somebody else has in hand nobody waits: the room is looked at again a moment later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, select

from orchestrator.core.clauses import Facts
from orchestrator.core.joins import LIVE, Member, Standing, stand, told
from orchestrator.core.matching import Match, plan_version
from orchestrator.core.templates import TemplateError
from orchestrator.store.chambers import WAITING, Chamber, Chambers, join_of, rows_of
from orchestrator.store.facts import known_facts
from orchestrator.store.intake import chunks
from orchestrator.store.restraints import Wanted, count_alone, prescaled, restrain
from orchestrator.store.tables import Row, dispatches, messages, rooms, rule_versions
from schemas.message import Message, MessageId, MessageState
from schemas.room import RoomState
from schemas.rule import AtDeadline, Rule, RuleVersion, RuleVersionId

#: When a room is looked at again that could not be settled: a member was in other hands, or a template did not fit.
_SOON, _AFTER_TROUBLE = timedelta(seconds=1), timedelta(minutes=5)

#: Rooms settled in one transaction because their time has come.
_DUE_AT_ONCE: Final = 100


class Fate(NamedTuple):
    """What becomes of a message as far as one rule is concerned that joins it with others."""

    state: MessageState
    reason: str


@dataclass(slots=True)
class Outcome:
    """What one transaction on rooms comes to, beside the rooms themselves."""

    #: Messages that this transaction has judged, or is about to judge; and those of them whose turn has come.
    batch: set[MessageId] = field(default_factory=set)
    seated: set[MessageId] = field(default_factory=set)
    #: What became of messages, by rule.
    fates: dict[MessageId, dict[str, Fate]] = field(default_factory=dict)
    #: What is to be dispatched: one match for each room.
    wanted: list[Wanted] = field(default_factory=list)
    #: Messages outside the batch that are affected.
    others: set[MessageId] = field(default_factory=set)
    #: What people should hear of.
    alerts: list[str] = field(default_factory=list)

    def say(self, id_: MessageId, rule: str, state: MessageState, why: str) -> None:
        """What becomes of a message as far as a rule is concerned; what is said last holds."""
        self.fates.setdefault(id_, {})[rule] = Fate(state, why)


class Settling:
    """Settles the rooms of one transaction."""

    def __init__(self, chambers: Chambers, outcome: Outcome, revision: int, *, patient: bool) -> None:
        """If `patient`, a room is settled once all its members were judged at this revision; else at once."""
        self._chambers = chambers
        self._outcome = outcome
        self._revision = revision
        self._patient = patient

    # Whether a room is settled.

    def settle_due(self, versions: Mapping[str, RuleVersion]) -> None:
        """Settle the rooms of these rules whose time has come."""
        count_alone(self._chambers.connection, prescaled(versions.values()))
        due = (*_is_due(self._chambers.now), rooms.c.rule.in_(versions))
        query = select(rooms).where(*due).order_by(rooms.c.look_at).limit(_DUE_AT_ONCE)
        found = [Chamber(row) for row in rows_of(self._chambers.connection, query.with_for_update(skip_locked=True))]
        self._chambers.load({chamber.pair for chamber in found})
        for chamber in found:
            room = self._chambers.room(chamber.pair, chamber.id)
            self._due(room, versions[room.pair[0]])

    def _due(self, room: Chamber, version: RuleVersion) -> None:
        join = join_of(version.rule)
        standing = self.stand(room, version.rule)
        over = (
            room.row["state"] == RoomState.OPEN and room.row["deadline"] and room.row["deadline"] <= self._chambers.now
        )
        if standing.complete:
            self.dispatch(room, version, standing, "it is complete")
        elif not over:
            self._chambers.note(room, look_at=room.row["deadline"] if room.row["state"] == RoomState.OPEN else None)
        elif self._unjudged(room):
            self._chambers.note(room, look_at=self._chambers.now + _SOON)
        elif join.at_deadline is AtDeadline.ALERT:
            self._overdue(room, standing)
        elif join.at_deadline is AtDeadline.DISPATCH and standing.new:
            self.dispatch(room, version, standing, f"its deadline has passed without {', '.join(standing.absent)}")
        else:
            self.drop(room, f"its deadline has passed without {', '.join(standing.absent)}")

    def _overdue(self, room: Chamber, standing: Standing) -> None:
        why = f"its deadline has passed; it goes on waiting for {', '.join(standing.missing)}"
        self._chambers.move(room, RoomState.OVERDUE, why, look_at=None)
        self._outcome.alerts.append(f"{room}: {why}")

    def consider(self, room: Chamber, version: RuleVersion) -> bool:
        """Settle the room if it is complete. Returns whether it was."""
        standing = self.stand(room, version.rule)
        return standing.complete and self.dispatch(room, version, standing, "it is complete")

    def dispatch_what_is_there(self, room: Chamber, version: RuleVersion, why: str) -> bool:
        """Whether anything new is there, and nobody else has it in hand."""
        standing = self.stand(room, version.rule)
        return standing.new and self.dispatch(room, version, standing, why)

    def stand(self, room: Chamber, rule: Rule) -> Standing:
        """How far it is. Members whose messages no longer count leave."""
        for seat in room.seats:
            if room.waits and seat.left_at is None and not seat.late and seat.message.state not in LIVE:
                self._chambers.leave(room, seat)
        return stand(join_of(rule), room.members(), room.waived, self._chambers.known(room.pair))

    def _unjudged(self, room: Chamber) -> bool:
        """Whether members are still to be judged by the rules in force: perhaps these do not want them."""
        return self._patient and any(
            each.message.id not in self._outcome.seated and each.message.judged_revision != self._revision
            for each in self._pending(room)
        )

    def _pending(self, room: Chamber) -> list[Member]:
        """The members whose messages wait in it."""
        known = self._chambers.known(room.pair)
        return [
            each
            for each in room.members()
            if each.message.state is MessageState.PENDING and each.message.id not in known
        ]

    def _have_in_hand(self, room: Chamber) -> bool:
        """Lock the members outside the batch; False if somebody else has one, or it has just left."""
        ids = {each.message.id for each in self._pending(room)} - self._outcome.batch
        locked = 0
        for chunk in chunks(sorted(ids)):
            query = select(messages.c.id).where(messages.c.id.in_(chunk), messages.c.state == MessageState.PENDING)
            locked += len(
                self._chambers.connection.scalars(query.order_by(messages.c.id).with_for_update(skip_locked=True)).all()
            )
        return locked == len(ids)

    # How a room is settled.

    def dispatch(self, room: Chamber, version: RuleVersion, standing: Standing, why: str) -> bool:
        """One match for the room, and the end of waiting for its members; False if it has to be put off."""
        if self._unjudged(room) or not self._have_in_hand(room):
            self._chambers.note(room, look_at=self._chambers.now + _SOON)
            return False
        first, waiting = self._first(room, standing), self._pending(room)
        try:
            match = self._match(room, version, standing, first)
        except TemplateError as error:
            self._wait_for_mending(room, f"waits in {room} for the rule to be mended: {error}")
            return False
        wanted = Wanted(first.message, match)
        held = restrain(self._chambers.connection, [wanted])
        if held:
            why = held[first.message.id, wanted.rule]
        else:
            self._outcome.wanted.append(wanted)
        missing = f", without {', '.join(standing.absent)}" if standing.absent and why == "it is complete" else ""
        state = RoomState.DROPPED if held else RoomState.DISPATCHED
        point = {} if held else {"message_id": first.message.id}
        self._chambers.close(room, state, why + missing, rule_version_id=version.id, **point)
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
        for chamber, seat in self._chambers.seats(member.message.id, room.pair[0]):
            if chamber is room:
                self._chambers.leave(chamber, seat)

    def drop(self, room: Chamber, why: str) -> bool:
        """Drop what waits in the room; False if it has to be put off."""
        if not self._have_in_hand(room):
            self._chambers.note(room, look_at=self._chambers.now + _SOON)
            return False
        waiting = self._pending(room)
        self._chambers.close(room, RoomState.DROPPED, why)
        for each in waiting:
            self._end(each.message, room, MessageState.DROPPED, f"{room} was dropped: {why}")
        return True

    def _match(self, room: Chamber, version: RuleVersion, standing: Standing, first: Member) -> Match:
        key, round_ = room.row["key"], room.row["round"]
        captured = told(version.rule, standing, first, room=room.id, round_=round_, key=key)
        metadata = known_facts(self._chambers.connection, [first.message.id]).get(first.message.id)
        return plan_version(version, Facts(first.message, metadata=metadata), captured)

    def _first(self, room: Chamber, standing: Standing) -> Member:
        """The member that the dispatches point at: of those new in this round, the first in the order of the slots.

        One that the rule has no dispatch for: a person may have given it to the rule before.
        """
        known = self._chambers.known(room.pair)
        ordered = sorted(standing.present.values(), key=lambda each: each.message.id in known)
        ids = [each.message.id for each in ordered]
        query = select(dispatches.c.message_id).where(dispatches.c.rule == room.pair[0])
        taken = set(self._chambers.connection.scalars(query.where(dispatches.c.message_id.in_(ids))))
        return next((each for each in ordered if each.message.id not in taken), ordered[0])

    def _wait_for_mending(self, room: Chamber, why: str) -> None:
        self._chambers.note(room, look_at=self._chambers.now + _AFTER_TROUBLE, reason=why)
        for each in room.members():
            if each.message.id in self._outcome.batch:
                self._outcome.say(each.message.id, room.pair[0], MessageState.PENDING, why)

    def _end(self, message: Message, room: Chamber, state: MessageState, why: str) -> None:
        """A message has waited to the end."""
        self._outcome.say(message.id, room.pair[0], state, why)
        if message.id not in self._outcome.batch:
            self._outcome.others.add(message.id)


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
