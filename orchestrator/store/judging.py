"""Judging, in the order of its steps: which messages come up, what becomes of them, what is to be done."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, delete, insert, literal_column, select, update

from orchestrator.core.clauses import Facts
from orchestrator.core.matching import Match, RuleSet, Verdict
from orchestrator.store.facts import known_facts, want_facts
from orchestrator.store.intake import chunks
from orchestrator.store.joining import Seating
from orchestrator.store.journal import move, record
from orchestrator.store.messages import message_of, payload_of, shown_columns
from orchestrator.store.restraints import Guarded, Restrained, Wanted, restrain, take_keys
from orchestrator.store.room_settling import Fate
from orchestrator.store.run_flags import flags_of_runs
from orchestrator.store.tables import Row, dispatches, messages, near_misses
from schemas.dispatch import DispatchId, DispatchState
from schemas.message import Message, MessageId, MessageState

#: Messages with what the rules say of them.
Verdicts = Sequence[tuple[Message, Verdict]]


def pending_messages(
    connection: Connection, rules: RuleSet, limit: int, again_after: MessageId | None
) -> Sequence[Row]:
    """Up to `limit` messages to be judged, locked until the transaction ends."""
    order = [messages.c.id] if again_after is not None else [messages.c.judged_revision, messages.c.id]
    query = select(*_columns(rules)).where(*is_pending(rules.revision, again_after)).order_by(*order).limit(limit)
    # another dispatcher's batch is passed over, not waited for
    return [dict(row) for row in connection.execute(query.with_for_update(skip_locked=True)).mappings()]


def verdicts_of(connection: Connection, rules: RuleSet, rows: Sequence[Row]) -> Verdicts:
    """What the rules say of these messages, as `pending_messages` has read them."""
    return [(facts.message, rules.judge(facts)) for facts in _facts(connection, rules, rows)]


def facts_of(connection: Connection, rules: RuleSet, ids: Sequence[MessageId]) -> Sequence[Facts]:
    """What these rules may ask of these messages, which the transaction has locked."""
    rows: list[Row] = []
    for chunk in chunks(ids):
        query = select(*_columns(rules)).where(messages.c.id.in_(chunk)).order_by(messages.c.id)
        rows += [dict(row) for row in connection.execute(query).mappings()]
    return _facts(connection, rules, rows)


def _columns(rules: RuleSet) -> Sequence[Any]:
    return [*shown_columns(), *([messages.c.body] if rules.needs_payload else [])]


def _facts(connection: Connection, rules: RuleSet, rows: Sequence[Row]) -> Sequence[Facts]:
    said = {row["id"]: payload_of(bytes(row.pop("body"))) for row in rows} if rules.needs_payload else {}
    known = known_facts(connection, [row["id"] for row in rows])
    flags = flags_of_runs(connection) if rules.needs_run_flags else {}
    return [Facts(message_of(row), said.get(row["id"], {}), known.get(row["id"]), flags) for row in rows]


def is_pending(revision: int, again_after: MessageId | None) -> list[ColumnElement[bool]]:
    """Pending, and not judged at this revision yet; or with `again_after`, pending and later than that."""
    # spelled out, not a parameter: only then may either database take the index on what is pending
    pending = messages.c.state == literal_column(f"'{MessageState.PENDING}'")
    later = messages.c.judged_revision < revision if again_after is None else messages.c.id > again_after
    return [pending, later]


class JudgingFailed(Exception):
    """Some of these messages cannot be judged, for a reason that nobody foresaw; of none was anything written down."""

    def __init__(self, ids: Sequence[MessageId], why: str) -> None:
        super().__init__(why)
        #: Those that were judged together.
        self.ids = ids


class Written(NamedTuple):
    """What was written down."""

    dispatches: list[DispatchId]
    #: Where each message went.
    states: list[MessageState]
    #: What people should hear of.
    alerts: Sequence[str]


def write_down(connection: Connection, rules: RuleSet, verdicts: Verdicts, now: datetime) -> Written:
    """Write down what follows from the verdicts.

    By the rules other messages are judged, too: those that wait in rooms that these have made complete.
    """
    revision = rules.revision
    wanted = [Wanted(message, match) for message, verdict in verdicts for match in verdict.matches]
    held = restrain(connection, wanted)
    seating = Seating(connection, revision, now)
    seating.take(verdicts)
    carried_out = [each for each in wanted if (each.message.id, each.rule) not in held]
    written = _write_dispatches(connection, [*carried_out, *seating.wanted], now)
    states = _settle_messages(connection, verdicts, held, seating, now, who="dispatcher", judged_revision=revision)
    _settle_others(connection, rules, seating, now, who="dispatcher")
    _write_near_misses(connection, verdicts, revision)
    want_facts(connection, [message.id for message, verdict in verdicts if verdict.wants_facts], now)
    return Written(written, states, seating.alerts)


def write_rooms(
    connection: Connection, rules: RuleSet, seating: Seating, now: datetime, *, who: str
) -> list[DispatchId]:
    """Write down what follows from rooms that were settled, whether by their deadline or by a person."""
    written = _write_dispatches(connection, seating.wanted, now)
    _settle_others(connection, rules, seating, now, who=who)
    return written


def _settle_others(connection: Connection, rules: RuleSet, seating: Seating, now: datetime, *, who: str) -> None:
    """Move the messages that came earlier into a room that is settled now, unless another rule keeps them."""
    if not seating.others:
        return
    verdicts = [(facts.message, rules.judge(facts)) for facts in facts_of(connection, rules, sorted(seating.others))]
    held = _not_carried_out(connection, verdicts)
    # one that other rules want, and have not been asked about yet, is left to the dispatcher
    undone = {id_ for id_, _ in held}
    ready = [each for each in verdicts if each[0].judged_revision == seating.revision or each[0].id not in undone]
    seating.fates_elsewhere(ready)
    _settle_messages(connection, ready, held, seating, now, who=who)


def _not_carried_out(connection: Connection, verdicts: Verdicts) -> Restrained:
    """The matches that have no dispatch."""
    matches = [(message.id, match.version.rule.name) for message, verdict in verdicts for match in verdict.matches]
    there = _already(connection, {id_ for id_, _ in matches})
    return {(id_, rule): f"rule {rule} did not carry it out" for id_, rule in matches if (id_, rule) not in there}


def _settle_messages(
    connection: Connection,
    verdicts: Verdicts,
    held: Restrained,
    seating: Seating,
    now: datetime,
    *,
    who: str,
    **values: Any,
) -> list[MessageState]:
    """Move the messages to where their verdicts say. Those alike go together."""
    alike: dict[tuple[MessageState, str], list[MessageId]] = {}
    states: list[MessageState] = []
    for message, verdict in verdicts:
        state, reason = _outcome(message, verdict, held, seating.fates.get(message.id, {}))
        alike.setdefault((state, reason), []).append(message.id)
        states.append(state)
    for (state, reason), ids in alike.items():
        given = {**values, "reason": reason}
        if state is MessageState.PENDING:
            connection.execute(update(messages).where(messages.c.id.in_(ids)).values(given))
        else:
            move(connection, messages, ids, MessageState.PENDING, state, who=who, why=reason, at=now, **given)
            seating.put_away([id_ for id_ in ids if id_ in seating.fates])
    return states


def _outcome(
    message: Message, verdict: Verdict, held: Restrained, fates: Mapping[str, Fate]
) -> tuple[MessageState, str]:
    """The verdict, but for matches that are not carried out: without any that is, the message is put away."""
    rules = [match.version.rule.name for match in verdict.matches]
    whys = [held[message.id, rule] for rule in rules if (message.id, rule) in held]
    if verdict.joins or fates:
        reason = "; ".join([*verdict.said, *whys, *(fate.reason for fate in fates.values())])
        return _joined(verdict, {fate.state for fate in fates.values()}, len(whys) < len(rules)), reason
    if not whys:
        return verdict.state, verdict.reason
    put_away = verdict.state is MessageState.DISPATCHED and len(whys) == len(rules)
    return MessageState.DROPPED if put_away else verdict.state, "; ".join([verdict.reason, *whys])


def _joined(verdict: Verdict, fates: set[MessageState], carried_out: bool) -> MessageState:
    """Where a message goes that joins concern: it waits for as long as anybody waits, then it goes the furthest."""
    if verdict.undecided or MessageState.PENDING in fates:
        return MessageState.PENDING
    if MessageState.HELD in fates:
        return MessageState.HELD
    return MessageState.DISPATCHED if carried_out or MessageState.DISPATCHED in fates else MessageState.DROPPED


def _write_dispatches(connection: Connection, wanted: Sequence[Wanted], now: datetime) -> list[DispatchId]:
    """One dispatch for each action of each match, but for the matches of rules that have the message already."""
    rows = [row for each in wanted for row in dispatch_rows(each.message, each.match, now)]
    if not rows:
        return []
    there = _already(connection, {row["message_id"] for row in rows})
    rows = [row for row in rows if (row["message_id"], row["rule"]) not in there]
    return insert_dispatches(connection, rows, who="dispatcher", why=None, now=now)


def insert_dispatches(
    connection: Connection, rows: Sequence[Row], *, who: str, why: str | None, now: datetime
) -> list[DispatchId]:
    """Insert dispatches that are ready; those whose unique key another has are refused. Returns those that are not."""
    if not rows:
        return []
    returned = insert(dispatches).returning(dispatches.c.id, sort_by_parameter_order=True)
    ids = [DispatchId(id_) for id_ in connection.scalars(returned, rows)]
    record(connection, "dispatch", ids, None, DispatchState.READY, who=who, why=why, at=now)
    asking: dict[tuple[MessageId, str], Guarded] = {}
    for id_, row in zip(ids, rows, strict=True):
        if row["unique_key"] is not None:
            asking.setdefault(
                (row["message_id"], row["rule"]), Guarded(row["unique_key"], row["message_id"], row["rule"], id_)
            )
    taken = take_keys(connection, list(asking.values()), now)
    refused: set[DispatchId] = set()
    for id_, row in zip(ids, rows, strict=True):
        first = taken.get((row["message_id"], row["rule"]))
        if first is not None:
            reason = f"the key {row['unique_key']!r} is taken by dispatch {first}"
            refused.update(map(DispatchId, _refuse(connection, id_, reason, now)))
    return [id_ for id_ in ids if id_ not in refused]


def _refuse(connection: Connection, id_: DispatchId, reason: str, now: datetime) -> list[int]:
    return move(
        connection,
        dispatches,
        [id_],
        DispatchState.READY,
        DispatchState.REFUSED,
        who="dispatcher",
        why=reason,
        at=now,
        reason=reason,
        updated_at=now,
    )


def _already(connection: Connection, message_ids: set[int]) -> set[tuple[int, str]]:
    """A message that was judged before keeps the dispatches it has: each rule fires once per message.

    Not action by action: an action that was moved to another place in its rule since would be carried out again.
    """
    query = select(dispatches.c.message_id, dispatches.c.rule).distinct()
    found: set[tuple[int, str]] = set()
    for chunk in chunks(sorted(message_ids)):
        found.update(tuple(row) for row in connection.execute(query.where(dispatches.c.message_id.in_(chunk))))
    return found


def dispatch_rows(message: Message, match: Match, now: datetime) -> list[Row]:
    """The rows of a match, one for each of its actions."""
    rule = match.version.rule
    return [
        {
            "message_id": message.id,
            "rule": rule.name,
            "rule_version_id": match.version.id,
            "action": planned.action,
            "actor": planned.actor,
            "captured": json.dumps(dict(match.captured)),
            "options": json.dumps(planned.options),
            "retry": planned.retry.model_dump_json(),
            "required": None if planned.required is None else planned.required.model_dump_json(exclude_defaults=True),
            "state": DispatchState.READY.value,
            "attempts": 0,
            "spent": 0,
            "priority": rule.priority,
            "rule_group": rule.group,
            "unique_key": match.unique_key,
            "created_at": now,
            "updated_at": now,
        }
        for planned in match.planned
    ]


def _write_near_misses(connection: Connection, verdicts: Verdicts, revision: int) -> None:
    """Of all that the rules said, only this is kept: the rest can be asked again at any time."""
    before = [message.id for message, _ in verdicts if message.judged_revision >= 0]
    for chunk in chunks(before):
        connection.execute(delete(near_misses).where(near_misses.c.message_id.in_(chunk)))
    rows: list[Mapping[str, Any]] = [
        {"message_id": message.id, "rule": miss.rule, "revision": revision, "clause": miss.clause}
        for message, verdict in verdicts
        for miss in verdict.near_misses
    ]
    if rows:
        connection.execute(insert(near_misses), rows)
