"""What a replay would do, found out without writing anything."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection, func, select

from orchestrator.store.intake import chunks
from orchestrator.store.rejoining import LOOP, joins_there, kept_out, leaving, passed_over, sittings
from orchestrator.store.replay_batch import Judged, MatchKey
from orchestrator.store.replaying import matches_there
from orchestrator.store.restraints import Wanted, looping
from orchestrator.store.tables import guards, prescales
from schemas.message import Message, MessageId
from schemas.replay import ReplayRequest

_EXAMPLES: Final = 5

_PASSED_OVER: Final = "passed over by the prescale"
_TAKEN: Final = "another match has the unique key"


@dataclass(slots=True)
class RuleForeseen:
    """What a replay would do for one rule, in matches."""

    written: int = 0
    there: int = 0
    #: How many would be refused, by reason in few words.
    refused: Counter[str] = field(default_factory=Counter)
    #: Some messages that would be dispatched, or put back to pending for a waiting room.
    examples: list[Message] = field(default_factory=list)


@dataclass(slots=True)
class Foreseen:
    """What a replay would do."""

    looked_at: int = 0
    rules: dict[str, RuleForeseen] = field(default_factory=dict)
    #: Matches whose templates cannot be filled in, and why some of them cannot.
    troubles: int = 0
    trouble_examples: list[str] = field(default_factory=list)
    #: Unique keys that would be taken.
    keys: set[str] = field(default_factory=set)
    #: The last number that each rule's prescale would have given.
    numbers: dict[str, int] = field(default_factory=dict)

    def of(self, rule: str) -> RuleForeseen:
        return self.rules.setdefault(rule, RuleForeseen())

    def add(self, message: Message, rule: str, refused: str | None) -> None:
        """One match more: written, or refused for a reason."""
        found = self.of(rule)
        if refused is not None:
            found.refused[refused] += 1
            return
        found.written += 1
        if len(found.examples) < _EXAMPLES:
            found.examples.append(message)


def foresee(connection: Connection, request: ReplayRequest, judged: Sequence[Judged], so_far: Foreseen) -> None:
    """Add what would follow for these messages; obstacles in the order in which they would be met."""
    so_far.looked_at += len(judged)
    _add_troubles(judged, so_far)
    dispatched = matches_there(connection, [each.message.id for each in judged if each.matches or each.joining])
    new: list[Wanted] = []
    for each in (Wanted(one.message, match) for one in judged for match in one.matches):
        if (each.message.id, each.rule) in dispatched:
            so_far.of(each.rule).there += 1
        else:
            new.append(each)
    passed: set[MatchKey] = set()
    for each, why in list(_obstacles(connection, request, new, so_far)):
        so_far.add(each.message, each.rule, why)
        if why in (None, _TAKEN):
            dispatched.add((each.message.id, each.rule))
        elif why == _PASSED_OVER:
            passed.add((each.message.id, each.rule))
    _foresee_rooms(connection, [each for each in judged if each.joining], dispatched, passed, so_far)


def _foresee_rooms(
    connection: Connection,
    judged: Sequence[Judged],
    dispatched: set[MatchKey],
    passed: set[MatchKey],
    so_far: Foreseen,
) -> None:
    """Add which messages would be put back for waiting rooms, once these matches are dispatched or passed over."""
    ids = [each.message.id for each in judged]
    states = {each.message.id: each.message.state for each in judged}
    seats = sittings(connection, ids)
    there = joins_there(judged, states, dispatched, seats)
    for _, rule in there:
        so_far.of(rule).there += 1
    wanted = leaving(judged, states, there)
    refused = kept_out(connection, wanted, dispatched, seats, passed | passed_over(connection, ids))
    for each in wanted:
        for rule in each.rules:
            so_far.add(each.message, rule, refused.get((each.message.id, rule)))


def _add_troubles(judged: Sequence[Judged], so_far: Foreseen) -> None:
    troubles = [trouble for each in judged for trouble in each.troubles]
    so_far.troubles += len(troubles)
    so_far.trouble_examples = [*so_far.trouble_examples, *troubles][:_EXAMPLES]


def _obstacles(
    connection: Connection, request: ReplayRequest, new: Sequence[Wanted], so_far: Foreseen
) -> Iterator[tuple[Wanted, str | None]]:
    """Each match, with what would keep it from being dispatched, in few words."""
    loops = looping(connection, new)
    counted = _counted(connection, new, so_far)
    holders = _holders(connection, new)
    for each in new:
        mine = (each.message.id, each.rule)
        key = None if request.lift_unique else each.match.unique_key
        if mine in loops:
            yield each, LOOP
        elif not _passes(each, counted, so_far):
            yield each, _PASSED_OVER
        elif key is not None and (key in so_far.keys or holders.get(key, mine) != mine):
            yield each, _TAKEN
        else:
            so_far.keys.update(() if key is None else (key,))
            yield each, None


def _passes(each: Wanted, counted: Mapping[MatchKey, bool], so_far: Foreseen) -> bool:
    """Whether the prescale lets a match through; one that was counted before keeps its number."""
    every, mine = each.match.version.rule.prescale, (each.message.id, each.rule)
    if every == 1 or mine in counted:
        return counted.get(mine, True)
    so_far.numbers[each.rule] += 1
    return (so_far.numbers[each.rule] - 1) % every == 0


def _counted(connection: Connection, new: Sequence[Wanted], so_far: Foreseen) -> dict[MatchKey, bool]:
    """What the prescales have counted of these matches, and whether it was let through."""
    scaled = [each for each in new if each.match.version.rule.prescale > 1]
    for rule in {each.rule for each in scaled} - so_far.numbers.keys():
        newest = select(func.max(prescales.c.number)).where(prescales.c.rule == rule)
        so_far.numbers[rule] = connection.scalars(newest).one() or 0
    found: dict[MatchKey, bool] = {}
    for chunk in chunks(sorted({each.message.id for each in scaled})):
        query = select(prescales.c.message_id, prescales.c.rule, prescales.c.taken)
        for id_, rule, taken in connection.execute(query.where(prescales.c.message_id.in_(chunk))):
            found[MessageId(id_), rule] = bool(taken)
    return found


def _holders(connection: Connection, new: Sequence[Wanted]) -> dict[str, MatchKey]:
    """Who has the unique keys that these matches ask for."""
    holders: dict[str, MatchKey] = {}
    for chunk in chunks(sorted({each.match.unique_key for each in new if each.match.unique_key is not None})):
        query = select(guards.c.key, guards.c.message_id, guards.c.rule).where(guards.c.key.in_(chunk))
        holders.update((key, (MessageId(id_), rule)) for key, id_, rule in connection.execute(query))
    return holders
