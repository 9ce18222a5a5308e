"""Judging, in the order of its steps: which messages come up, what becomes of them, what is to be done."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, insert, literal_column, select, update

from orchestrator.core.matching import Match, Verdict
from orchestrator.store.journal import move, record
from orchestrator.store.messages import message_of, shown_columns
from orchestrator.store.tables import Row, dispatches, messages
from schemas.dispatch import DispatchId, DispatchState
from schemas.message import Message, MessageId, MessageState


def pending_messages(
    connection: Connection, revision: int, limit: int, again_after: MessageId | None
) -> Sequence[Message]:
    """Up to `limit` messages to be judged, locked until the transaction ends."""
    order = [messages.c.id] if again_after is not None else [messages.c.judged_revision, messages.c.id]
    query = select(*shown_columns()).where(*is_pending(revision, again_after)).order_by(*order).limit(limit)
    # another dispatcher's batch is passed over, not waited for
    rows = connection.execute(query.with_for_update(skip_locked=True)).mappings()
    return [message_of(dict(row)) for row in rows]


def is_pending(revision: int, again_after: MessageId | None) -> list[ColumnElement[bool]]:
    """Pending, and not judged at this revision yet; or with `again_after`, pending and later than that."""
    # spelled out, not a parameter: only then may either database take the index on what is pending
    pending = messages.c.state == literal_column(f"'{MessageState.PENDING}'")
    later = messages.c.judged_revision < revision if again_after is None else messages.c.id > again_after
    return [pending, later]


def settle_messages(
    connection: Connection, verdicts: Iterable[tuple[Message, Verdict]], revision: int, now: datetime
) -> None:
    """Move the messages to where their verdicts say. Those alike go together."""
    alike: dict[tuple[MessageState, str], list[MessageId]] = {}
    for message, verdict in verdicts:
        alike.setdefault((verdict.state, verdict.reason), []).append(message.id)
    for (state, reason), ids in alike.items():
        values: dict[str, Any] = {"judged_revision": revision, "reason": reason}
        if state is MessageState.PENDING:
            connection.execute(update(messages).where(messages.c.id.in_(ids)).values(values))
        else:
            move(connection, messages, ids, MessageState.PENDING, state, who="dispatcher", why=reason, at=now, **values)


def write_dispatches(
    connection: Connection, verdicts: Iterable[tuple[Message, Verdict]], now: datetime
) -> list[DispatchId]:
    """One dispatch for each action of each match, but for those that are there already."""
    rows = [row for message, verdict in verdicts for match in verdict.matches for row in _rows(message, match, now)]
    if not rows:
        return []
    there = _already(connection, {row["message_id"] for row in rows})
    rows = [row for row in rows if (row["message_id"], row["rule"], row["action"]) not in there]
    if not rows:
        return []
    returned = insert(dispatches).returning(dispatches.c.id, sort_by_parameter_order=True)
    ids = list(connection.scalars(returned, rows))
    record(connection, "dispatch", ids, None, DispatchState.READY, who="dispatcher", why=None, at=now)
    return [DispatchId(id_) for id_ in ids]


def _already(connection: Connection, message_ids: set[int]) -> set[tuple[int, str, int]]:
    """A message that was judged before keeps the dispatches it has: each rule fires once per message."""
    query = select(dispatches.c.message_id, dispatches.c.rule, dispatches.c.action)
    return {tuple(row) for row in connection.execute(query.where(dispatches.c.message_id.in_(message_ids)))}


def _rows(message: Message, match: Match, now: datetime) -> list[Row]:
    return [
        {
            "message_id": message.id,
            "rule": match.version.rule.name,
            "rule_version_id": match.version.id,
            "action": planned.action,
            "actor": planned.actor,
            "captured": json.dumps(dict(match.captured)),
            "options": json.dumps(planned.options),
            "retry": planned.retry.model_dump_json(),
            "state": DispatchState.READY.value,
            "attempts": 0,
            "spent": 0,
            "created_at": now,
            "updated_at": now,
        }
        for planned in match.planned
    ]
