"""Messages of a replay that rules join: which of them may go back to pending, to be let into waiting rooms.

What is pending is judged by all rules in force. So a message goes back only if nothing comes of that but what the
replay is about: every other rule in force that wants it must have had it before, or would never start on it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, select

from orchestrator.core.joins import Member
from orchestrator.core.matching import Match, Verdict
from orchestrator.core.pacing import Spent
from orchestrator.store.by_hand import overtaken
from orchestrator.store.chambers import WAITING, Chamber, Pair, rows_of, seats_of
from orchestrator.store.intake import chunks
from orchestrator.store.journal import move
from orchestrator.store.replay_batch import Batch, Hand, Judged, MatchKey
from orchestrator.store.restraints import Wanted, looping
from orchestrator.store.tables import messages, prescales, room_members, rooms
from schemas.message import Message, MessageId, MessageState
from schemas.rule import RuleVersion

LOOP: Final = "the rule had a part in making the dataset"
_NEWER: Final = "the room was dispatched with a newer dataset for the same member"
_OVERTAKEN: Final = "a later event of the dataset has overtaken it"
_UNDECIDED: Final = "a rule in force cannot be asked about it, or cannot be filled in (messages explain says which)"


class Sitting(NamedTuple):
    """A seat that a message has, or had, in a room of a rule."""

    rule: str
    #: The room waits.
    waits: bool
    #: The message has not left it, and did not come late.
    stays: bool


#: The seats of messages.
Sittings = Mapping[MessageId, Sequence[Sitting]]


class Leaving(NamedTuple):
    """A message that is not pending, and the rules that are to let it into a room for the first time."""

    message: Message
    #: Where it stands now.
    state: MessageState
    rules: Sequence[str]
    #: What all rules in force say of it, these too.
    live: Verdict


# Which messages those are.


def joins_there(
    judged: Sequence[Judged], states: Mapping[MessageId, MessageState], dispatched: set[MatchKey], seats: Sittings
) -> set[MatchKey]:
    """The matches of joins for which nothing is to be done.

    The rule had the message before, whatever became of it there; or it is pending, so that all rules judge it anyway.
    """
    had = {(id_, seat.rule) for id_, found in seats.items() for seat in found} | dispatched
    return {
        (each.message.id, rule)
        for each in judged
        for rule in each.joining
        if states[each.message.id] is MessageState.PENDING or (each.message.id, rule) in had
    }


def leaving(judged: Sequence[Judged], states: Mapping[MessageId, MessageState], there: set[MatchKey]) -> list[Leaving]:
    """The messages that are to be put back, if they can be."""
    return [
        Leaving(each.message, states[each.message.id], rules, each.rejoining.live)
        for each in judged
        if each.rejoining is not None
        and (rules := [rule for rule in each.joining if (each.message.id, rule) not in there])
    ]


def sittings(connection: Connection, ids: Collection[MessageId]) -> Sittings:
    """Every seat that these messages ever had."""
    found: dict[MessageId, list[Sitting]] = {}
    for chunk in chunks(sorted(ids)):
        query = (
            select(room_members.c.message_id, rooms.c.rule, rooms.c.state, room_members.c.left_at, room_members.c.late)
            .join(rooms, rooms.c.id == room_members.c.room_id)
            .where(room_members.c.message_id.in_(chunk))
        )
        for id_, rule, state, left_at, late in connection.execute(query):
            found.setdefault(MessageId(id_), []).append(Sitting(rule, state in WAITING, left_at is None and not late))
    return found


# What keeps them where they are.


def passed_over(connection: Connection, ids: Collection[MessageId]) -> set[MatchKey]:
    """The matches of these messages that the prescale of a rule has counted, and does not let through."""
    found: set[MatchKey] = set()
    for chunk in chunks(sorted(ids)):
        query = select(prescales.c.message_id, prescales.c.rule).where(prescales.c.message_id.in_(chunk))
        found.update(
            (MessageId(id_), rule) for id_, rule in connection.execute(query.where(prescales.c.taken.is_(False)))
        )
    return found


def kept_out(
    connection: Connection,
    leaving: Sequence[Leaving],
    dispatched: Collection[MatchKey],
    seats: Sittings,
    passed: Collection[MatchKey],
) -> dict[MatchKey, str]:
    """Those of the rules to which a message cannot go back, and why, in few words.

    `dispatched` are the matches that have a dispatch, those of this batch too; `passed` as in `passed_over`.
    """
    vain = _in_vain(connection, leaving)
    rows = [each.message.model_dump(include={"id", "event_type", "scope", "name"}) for each in leaving]
    late = overtaken(connection, rows)
    found: dict[MatchKey, str] = {}
    for each in leaving:
        id_ = each.message.id
        mine = {(id_, rule) for rule in each.rules}
        found |= {key: vain[key] for key in mine & vain.keys()}
        if going := mine - vain.keys():
            others = _Others(id_, each.live, {rule for _, rule in going}, seats.get(id_, ()))
            why = next(others.obstacles(dispatched, vain, passed), None)
            if each.state is MessageState.SUPERSEDED or id_ in late:
                why = _OVERTAKEN
            if why is not None:
                found |= dict.fromkeys(going, why)
    return found


def _in_vain(connection: Connection, leaving: Sequence[Leaving]) -> dict[MatchKey, str]:
    """The matches, of all rules in force, of which nothing would come whatever else there is; and why."""
    wishes = [_wish(each.message, version) for each in leaving for version in _versions(each.live)]
    found = dict.fromkeys(_older(connection, leaving), _NEWER)
    return found | dict.fromkeys(looping(connection, wishes), LOOP)


def _versions(live: Verdict) -> Iterator[RuleVersion]:
    yield from (each.version for each in live.matches)
    yield from (each.version for each in live.joins)


def _wish(message: Message, version: RuleVersion) -> Wanted:
    """A match that is not planned: enough for the loop guard."""
    return Wanted(message, Match(version, {}, ()))


def _older(connection: Connection, leaving: Sequence[Leaving]) -> Iterator[MatchKey]:
    """Those whose room was dispatched with a newer dataset for the same member, and waits for nothing."""
    rounds = _rounds(connection, {(join.rule, join.key) for each in leaving for join in each.live.joins})
    for each in leaving:
        for join in each.live.joins:
            its = rounds.get((join.rule, join.key), [])
            if its and not its[-1].waits:
                known = [member for room in its if room.dispatched for member in room.members()]
                mine = Member(join.slot, each.message)
                if any(member.slot == mine.slot and member.age > mine.age for member in known):
                    yield each.message.id, join.rule


def _rounds(connection: Connection, pairs: Collection[Pair]) -> Mapping[Pair, Sequence[Chamber]]:
    """The rooms of these rules and keys, in the order of their rounds."""
    found: dict[Pair, list[Chamber]] = {}
    for rule in {rule for rule, _ in pairs}:
        for chunk in chunks(sorted(key for name, key in pairs if name == rule)):
            query = select(rooms).where(rooms.c.rule == rule, rooms.c.key.in_(chunk)).order_by(rooms.c.round)
            for room in map(Chamber, rows_of(connection, query)):
                found.setdefault(room.pair, []).append(room)
    by_id = {room.id: room for its in found.values() for room in its}
    for id_, seat in seats_of(connection, by_id):
        by_id[id_].seats.append(seat)
    return found


class _Others(NamedTuple):
    """The rules in force that the message is not put back for."""

    id_: MessageId
    live: Verdict
    going: Collection[str]
    seats: Sequence[Sitting]

    def obstacles(
        self, dispatched: Collection[MatchKey], vain: Collection[MatchKey], passed: Collection[MatchKey]
    ) -> Iterator[str]:
        """What else would come of putting the message back; of the matches in `vain` nothing would."""
        if self.live.undecided:
            yield _UNDECIDED
        for match in self.live.matches:
            key = (self.id_, match.version.rule.name)
            counted = match.version.rule.prescale > 1 and key in passed
            if not (counted or key in dispatched or key in vain):
                yield f"rule {key[1]} in force would start on it as well"
        wanted = {each.rule for each in self.live.joins if (self.id_, each.rule) not in vain}
        for name in sorted(self._rooms(wanted)):
            yield f"rule {name} would have it in a waiting room as well"

    def _rooms(self, wanted: Collection[str]) -> set[str]:
        """The rules in whose rooms it would count again. Where a room that is settled has it, nothing changes."""
        settled = {each.rule for each in self.seats if each.stays and not each.waits}
        waiting = {each.rule for each in self.seats if each.stays and each.waits}
        return ({*wanted} | waiting) - {*self.going} - (settled & {*wanted})


# Put back.


def put_back(
    connection: Connection,
    wanted: Sequence[Leaving],
    dispatched: set[MatchKey],
    seats: Sittings,
    hand: Hand,
    batch: Batch,
) -> None:
    """Put messages back to pending, if nothing keeps them where they are; and count both."""
    if not wanted:
        return
    passed = passed_over(connection, [each.message.id for each in wanted])
    refused = kept_out(connection, wanted, dispatched, seats, passed)
    alike: dict[tuple[MessageState, str], list[MessageId]] = {}
    for each in wanted:
        rules = [rule for rule in each.rules if (each.message.id, rule) not in refused]
        if rules:
            alike.setdefault((each.state, f"put back for {', '.join(rules)} in {hand.why}"), []).append(each.message.id)
    for (state, why), ids in alike.items():
        # 0: it comes up again; not -1, for it may have near misses
        values: dict[str, Any] = {"reason": why, "judged_revision": 0}
        move(connection, messages, ids, state, MessageState.PENDING, who=hand.who, why=why, at=hand.now, **values)
    batch.refused += len(refused)
    for (id_, _), why in refused.items():
        batch.kept_out.setdefault(why, id_)
    if count := sum(len(each.rules) for each in wanted) - len(refused):
        batch.written += count
        batch.spent = Spent(batch.spent.started + count, hand.now)
