"""Dispatches by hand: those that are there changed, and new ones written for messages that a person gives to a rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, and_, func, select

from orchestrator.core.by_hand import (
    DISPATCH_STEPS,
    GIVEN_FROM,
    LAUNCHES,
    WITH_ENGINE,
    DispatchVerb,
    Hand,
    Tally,
    begins_a_round,
    in_the_way,
)
from orchestrator.core.clauses import CompiledRule, Facts
from orchestrator.core.matching import RuleSet, plan
from orchestrator.core.templates import TemplateError
from orchestrator.store.facts import known_facts
from orchestrator.store.intake import chunks
from orchestrator.store.journal import move
from orchestrator.store.judging import dispatch_rows, facts_of, insert_dispatches
from orchestrator.store.messages import message_of
from orchestrator.store.restraints import Wanted, restrain
from orchestrator.store.rules import current_revision
from orchestrator.store.tables import Row, dispatches, guards, launches, messages
from schemas.dispatch import DispatchState
from schemas.launch import LaunchState
from schemas.message import Message, MessageId, MessageState

# Changed.

#: They begin anew: their earlier tries count no more, and they need not wait.
_ANEW: Final = (DispatchVerb.RETRY, DispatchVerb.REDISPATCH)

_WITHOUT_KEY: Final = "without their unique key, which another dispatch has"


def change_dispatches(
    connection: Connection, rows: list[Row], verb: DispatchVerb, hand: Hand, tally: Tally, *, again: bool
) -> None:
    """Change the state of these dispatches, which are locked."""
    steps = DISPATCH_STEPS[verb]
    taken = _keys_of_others(connection, rows) if DispatchState.READY in steps.values() else {}
    newest = _newest_launches(connection, rows) if verb is DispatchVerb.REDISPATCH else {}
    alike: dict[tuple[DispatchState, bool], list[int]] = {}
    for row in rows:
        id_, state = row["id"], DispatchState(row["state"])
        launch = newest.get(id_)
        why = in_the_way(launch, again=again) if verb is DispatchVerb.REDISPATCH else None
        if state not in steps:
            tally.stay(id_, state)
        elif id_ in taken:
            tally.stay(id_, _WITHOUT_KEY, f"the key {row['unique_key']!r} is taken by dispatch {taken[id_]}")
        elif why is not None:
            tally.stay(id_, why)
        else:
            anew = begins_a_round(launch, again=again and row["actor"] == LAUNCHES)
            alike.setdefault((state, anew), []).append(id_)
    for (state, new_round), ids in alike.items():
        tally.changed += ids
        if new_round:
            for id_ in ids:
                tally.remark(id_, "to make another launch, beside the one there was")
        if not hand.dry_run:
            values: dict[str, Any] = {"spent": 0, "not_before": None} if verb in _ANEW else {}
            if new_round:
                values["round"] = dispatches.c.round + 1
            values |= {"reason": hand.why, "updated_at": hand.now}
            move(connection, dispatches, ids, state, steps[state], who=hand.who, why=hand.why, at=hand.now, **values)


class _Holder(NamedTuple):
    """The match that has a unique key."""

    message_id: int
    rule: str
    dispatch_id: int


def _holders(connection: Connection, keys: Sequence[str]) -> dict[str, _Holder]:
    found: dict[str, _Holder] = {}
    for chunk in chunks(sorted({*keys})):
        query = select(guards.c.key, guards.c.message_id, guards.c.rule, guards.c.dispatch_id)
        found.update(
            (key, _Holder(*holder)) for key, *holder in connection.execute(query.where(guards.c.key.in_(chunk)))
        )
    return found


def _keys_of_others(connection: Connection, rows: Sequence[Row]) -> Mapping[int, int]:
    """Those of the dispatches whose unique key belongs to another match, with the dispatch that has it."""
    with_key = [row for row in rows if row["unique_key"] is not None]
    holders = _holders(connection, [row["unique_key"] for row in with_key])
    return {
        row["id"]: holder.dispatch_id
        for row in with_key
        if (holder := holders.get(row["unique_key"])) is not None and holder[:2] != (row["message_id"], row["rule"])
    }


def _newest_launches(connection: Connection, rows: Sequence[Row]) -> Mapping[int, LaunchState]:
    """Where the newest launch of each dispatch stands; an older one goes before it that is at work, being retried."""
    found: dict[int, LaunchState] = {}
    for chunk in chunks([row["id"] for row in rows]):
        newest = (
            select(func.max(launches.c.id)).where(launches.c.dispatch_id.in_(chunk)).group_by(launches.c.dispatch_id)
        )
        at_work = and_(launches.c.dispatch_id.in_(chunk), launches.c.state.in_(WITH_ENGINE))
        columns = (launches.c.dispatch_id, launches.c.state)
        for query in (select(*columns).where(launches.c.id.in_(newest)), select(*columns).where(at_work)):
            found.update((id_, LaunchState(state)) for id_, state in connection.execute(query))
    return found


# Written for messages that are given to a rule.


def give(connection: Connection, rows: list[Row], rule: CompiledRule, rules: RuleSet, hand: Hand, tally: Tally) -> None:
    """Dispatch these messages, which are locked, to a rule. `rules` are those in force."""
    fitting = _fitting(connection, rows, rule, tally)
    looping = restrain(connection, fitting)
    wanted: list[Wanted] = []
    for each in fitting:
        why = looping.get((each.message.id, each.rule))
        if why is None:
            wanted.append(each)
        else:
            tally.stay(each.message.id, "not for this rule, which had a part in making them", why)
    tally.changed += [each.message.id for each in wanted]
    refused = _foreseen(connection, wanted) if hand.dry_run else _write(connection, wanted, hand)
    for id_, why in refused.items():
        tally.remark(id_, "refused: another match has their unique key", why)
    _settle(connection, [each.message for each in wanted], rule.name, rules, hand, tally)


def _fitting(connection: Connection, rows: Sequence[Row], rule: CompiledRule, tally: Tally) -> list[Wanted]:
    """What is to be done for each message that may be given to the rule; of the others the tally is told."""
    ids = [row["id"] for row in rows]
    there = _dispatched_to(connection, ids, rule.name)
    known = known_facts(connection, ids)
    fitting: list[Wanted] = []
    for row in rows:
        message, metadata = message_of(row), known.get(row["id"])
        if message.state not in GIVEN_FROM:
            tally.stay(message.id, message.state, message.reason)
        elif message.id in there:
            tally.stay(message.id, "dispatched to this rule already", f"dispatch {there[message.id]}")
        else:
            try:
                captured = rule.pattern.captures(message.name or "") or {}
                fitting.append(Wanted(message, plan(rule, Facts(message, {}, metadata), captured)))
            except TemplateError as error:
                unasked = "" if metadata is not None else "; the catalog was not asked about it"
                tally.stay(message.id, "not enough to fill the rule's templates", f"{error}{unasked}")
    return fitting


def _dispatched_to(connection: Connection, ids: Sequence[int], rule: str) -> Mapping[int, int]:
    """Those of the messages that this rule has already, with the first dispatch of each."""
    there: dict[int, int] = {}
    for chunk in chunks(ids):
        query = select(dispatches.c.message_id, func.min(dispatches.c.id)).group_by(dispatches.c.message_id)
        mine = (dispatches.c.message_id.in_(chunk), dispatches.c.rule == rule)
        there.update((message_id, id_) for message_id, id_ in connection.execute(query.where(*mine)))
    return there


def _foreseen(connection: Connection, wanted: Sequence[Wanted]) -> Mapping[int, str]:
    """The messages that would be refused for their unique key, and why."""
    keys = {each.message.id: each.match.unique_key for each in wanted if each.match.unique_key is not None}
    takers = {key: f"dispatch {each.dispatch_id}" for key, each in _holders(connection, list(keys.values())).items()}
    refused: dict[int, str] = {}
    for id_, key in keys.items():
        if key in takers:
            refused[id_] = f"the key {key!r} is taken by {takers[key]}"
        else:
            takers[key] = f"message {id_}, given with this one"
    return refused


def _write(connection: Connection, wanted: Sequence[Wanted], hand: Hand) -> Mapping[int, str]:
    """Write the dispatches. Returns the messages that were refused for their unique key, and why."""
    rows = [row for each in wanted for row in dispatch_rows(each.message, each.match, hand.now)]
    insert_dispatches(connection, rows, who=hand.who, why=hand.why, now=hand.now)
    refused: dict[int, str] = {}
    for chunk in chunks([each.message.id for each in wanted if each.match.unique_key is not None]):
        query = select(dispatches.c.message_id, dispatches.c.reason).order_by(dispatches.c.id)
        mine = (dispatches.c.message_id.in_(chunk), dispatches.c.rule == wanted[0].rule)
        these = query.where(*mine, dispatches.c.state == DispatchState.REFUSED)
        refused.update((message_id, why) for message_id, why in connection.execute(these))
    return refused


def _settle(
    connection: Connection, given: Sequence[Message], rule: str, rules: RuleSet, hand: Hand, tally: Tally
) -> None:
    """The messages are dispatched now, but for those that other rules want, or may want yet."""
    settled = _settled(connection, given, rule, rules)
    alike: dict[MessageState, list[int]] = {}
    for message in given:
        if message.state is MessageState.PENDING and message.id not in settled:
            tally.remark(message.id, "pending as before: the rules in force have not judged them to the end")
        elif message.state is not MessageState.DISPATCHED:
            alike.setdefault(message.state, []).append(message.id)
    reason = f"given to rule {rule} by hand: {hand.why}"
    for state, ids in alike.items():
        if not hand.dry_run:
            target = MessageState.DISPATCHED
            move(connection, messages, ids, state, target, who=hand.who, why=reason, at=hand.now, reason=reason)


def _settled(connection: Connection, given: Sequence[Message], rule: str, rules: RuleSet) -> set[MessageId]:
    """Those pending messages that, given to this rule, have nothing more to wait for."""
    pending = [message.id for message in given if message.state is MessageState.PENDING]
    if not pending or current_revision(connection) != rules.revision:
        return set()
    return {
        facts.message.id for facts in facts_of(connection, rules, pending) if _wanted_by_no_other(facts, rule, rules)
    }


def _wanted_by_no_other(facts: Facts, rule: str, rules: RuleSet) -> bool:
    try:
        verdict = rules.judge(facts)
    except Exception:  # a defect, for which the dispatcher puts it off
        return False
    return not verdict.waits and {match.version.rule.name for match in verdict.matches} <= {rule}
