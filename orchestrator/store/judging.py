"""Judging, in the order of its steps: which messages come up, what becomes of them, what is to be done."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, insert, literal_column, select, update

from orchestrator.core.clauses import Facts
from orchestrator.core.matching import Match, Verdict
from orchestrator.store.facts import known_facts, want_facts
from orchestrator.store.intake import chunks
from orchestrator.store.journal import move, record
from orchestrator.store.messages import message_of, payload_of, shown_columns
from orchestrator.store.restraints import Guarded, Restrained, Wanted, restrain, take_keys
from orchestrator.store.tables import Row, dispatches, messages, near_misses
from schemas.dispatch import DispatchId, DispatchState
from schemas.message import Message, MessageId, MessageState


def pending_messages(
    connection: Connection, revision: int, limit: int, again_after: MessageId | None, *, payloads: bool
) -> Sequence[Facts]:
    """Up to `limit` messages to be judged, with what is known of each, locked until the transaction ends."""
    order = [messages.c.id] if again_after is not None else [messages.c.judged_revision, messages.c.id]
    columns = [*shown_columns(), *([messages.c.body] if payloads else [])]
    query = select(*columns).where(*is_pending(revision, again_after)).order_by(*order).limit(limit)
    # another dispatcher's batch is passed over, not waited for
    rows = [dict(row) for row in connection.execute(query.with_for_update(skip_locked=True)).mappings()]
    said = {row["id"]: payload_of(bytes(row.pop("body"))) for row in rows} if payloads else {}
    known = known_facts(connection, [row["id"] for row in rows])
    return [Facts(message_of(row), said.get(row["id"], {}), known.get(row["id"])) for row in rows]


def is_pending(revision: int, again_after: MessageId | None) -> list[ColumnElement[bool]]:
    """Pending, and not judged at this revision yet; or with `again_after`, pending and later than that."""
    # spelled out, not a parameter: only then may either database take the index on what is pending
    pending = messages.c.state == literal_column(f"'{MessageState.PENDING}'")
    later = messages.c.judged_revision < revision if again_after is None else messages.c.id > again_after
    return [pending, later]


def write_down(
    connection: Connection, verdicts: Sequence[tuple[Message, Verdict]], revision: int, now: datetime
) -> tuple[list[DispatchId], list[MessageState]]:
    """Write down what follows from the verdicts. Returns the new dispatches, and where each message went."""
    wanted = [Wanted(message, match) for message, verdict in verdicts for match in verdict.matches]
    held = restrain(connection, wanted)
    written = _write_dispatches(
        connection, [each for each in wanted if (each.message.id, each.rule) not in held], revision, now
    )
    states = _settle_messages(connection, verdicts, held, revision, now)
    _write_near_misses(connection, verdicts, revision)
    want_facts(connection, [message.id for message, verdict in verdicts if verdict.wants_facts], now)
    return written, states


def _settle_messages(
    connection: Connection,
    verdicts: Iterable[tuple[Message, Verdict]],
    held: Restrained,
    revision: int,
    now: datetime,
) -> list[MessageState]:
    """Move the messages to where their verdicts say. Those alike go together."""
    alike: dict[tuple[MessageState, str], list[MessageId]] = {}
    states: list[MessageState] = []
    for message, verdict in verdicts:
        state, reason = _outcome(message, verdict, held)
        alike.setdefault((state, reason), []).append(message.id)
        states.append(state)
    for (state, reason), ids in alike.items():
        values: dict[str, Any] = {"judged_revision": revision, "reason": reason}
        if state is MessageState.PENDING:
            connection.execute(update(messages).where(messages.c.id.in_(ids)).values(values))
        else:
            move(connection, messages, ids, MessageState.PENDING, state, who="dispatcher", why=reason, at=now, **values)
    return states


def _outcome(message: Message, verdict: Verdict, held: Restrained) -> tuple[MessageState, str]:
    """The verdict, but for matches that are not carried out: without any that is, the message is put away."""
    rules = [match.version.rule.name for match in verdict.matches]
    whys = [held[message.id, rule] for rule in rules if (message.id, rule) in held]
    if not whys:
        return verdict.state, verdict.reason
    put_away = verdict.state is MessageState.DISPATCHED and len(whys) == len(rules)
    return MessageState.DROPPED if put_away else verdict.state, "; ".join([verdict.reason, *whys])


def _write_dispatches(
    connection: Connection, wanted: Sequence[Wanted], revision: int, now: datetime
) -> list[DispatchId]:
    """One dispatch for each action of each match, but for those that are there already."""
    rows = [row for each in wanted for row in dispatch_rows(each.message, each.match, now)]
    if not rows:
        return []
    there = _already(connection, {row["message_id"] for row in rows})
    rows = [row for row in rows if (row["message_id"], row["rule"], row["action"]) not in there]
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


def _already(connection: Connection, message_ids: set[int]) -> set[tuple[int, str, int]]:
    """A message that was judged before keeps the dispatches it has: each rule fires once per message."""
    query = select(dispatches.c.message_id, dispatches.c.rule, dispatches.c.action)
    found: set[tuple[int, str, int]] = set()
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


def _write_near_misses(connection: Connection, verdicts: Sequence[tuple[Message, Verdict]], revision: int) -> None:
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
