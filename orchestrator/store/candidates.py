"""Dispatches that are ready and due, found by rule: a hundred thousand of one rule cost no more than one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Integer,
    Select,
    Text,
    TextualSelect,
    and_,
    bindparam,
    func,
    literal_column,
    or_,
    select,
    text,
)

from orchestrator.core.gates import Candidate
from orchestrator.store.intake import chunks
from orchestrator.store.tables import Moment, dispatches, launches
from schemas.dispatch import DispatchId, DispatchState
from schemas.launch import LaunchState

#: Spelled out, not a parameter: only then may either database take the index on what is ready.
IS_READY: Final = dispatches.c.state == literal_column(f"'{DispatchState.READY}'")

#: Launches that may have been sent, or not.
_UNSURE: Final = (LaunchState.SUBMITTING, LaunchState.IN_DOUBT)

#: Says the group of a rule now, given its group when the dispatch was written.
GroupOf = Callable[[str, str | None], str | None]

_COLUMNS: Final = (
    dispatches.c.id,
    dispatches.c.rule,
    dispatches.c.rule_group,
    dispatches.c.priority,
    func.coalesce(dispatches.c.not_before, dispatches.c.updated_at, type_=Moment).label("due_since"),
    dispatches.c.attempts,
)

_COLUMNS_OF_D: Final = (
    "d.id, d.rule, d.rule_group, d.priority, coalesce(d.not_before, d.updated_at) AS due_since, d.attempts"
)

#: Steps from one rule and priority to the next.
_HEADS: Final = f"""
    WITH RECURSIVE line(rule, priority) AS (
        SELECT rule, priority FROM dispatches WHERE id = (
            SELECT n.id FROM dispatches AS n {{by_index}} WHERE n.state = 'ready'
            ORDER BY n.rule, n.priority, n.id LIMIT 1)
        UNION ALL
        SELECT d.rule, d.priority FROM line JOIN dispatches d ON d.id = coalesce(
            (SELECT n.id FROM dispatches AS n {{by_index}}
            WHERE n.state = 'ready' AND n.rule = line.rule AND n.priority > line.priority
            ORDER BY n.priority, n.id LIMIT 1),
            (SELECT n.id FROM dispatches AS n {{by_index}}
            WHERE n.state = 'ready' AND n.rule > line.rule ORDER BY n.rule, n.priority, n.id LIMIT 1))
    )
    SELECT {_COLUMNS_OF_D} FROM line JOIN dispatches d ON d.id = (
        SELECT n.id FROM dispatches AS n {{by_index}}
        WHERE n.state = 'ready' AND n.rule = line.rule AND n.priority BETWEEN line.priority AND line.priority
            AND (n.not_before IS NULL OR n.not_before <= :now)
            AND (n.required IS NULL OR n.let_through_at IS NOT NULL)
        ORDER BY n.priority, n.id LIMIT 1)
    """

_LIKE: Final = f"""
    SELECT {_COLUMNS_OF_D} FROM dispatches AS d {{by_index}}
    WHERE d.state = 'ready' AND d.rule = :rule AND d.priority BETWEEN :priority AND :priority
        AND (d.not_before IS NULL OR d.not_before <= :now)
        AND (d.required IS NULL OR d.let_through_at IS NOT NULL)
    ORDER BY d.priority {{way}}, d.id {{way}} LIMIT :limit
    """


@cache
def _statement(template: str, dialect: str, way: str = "") -> TextualSelect:
    """The statement, made to use the index on what is ready: another would pass by all that is done already.

    SQLite is told. For PostgreSQL a priority lies between itself and itself: no other index has the order that this
    asks for.
    """
    by_index = "INDEXED BY ix_dispatches_ready" if dialect == "sqlite" else ""
    types = {"id": Integer, "rule": Text, "rule_group": Text, "priority": Integer, "attempts": Integer}
    written = text(template.format(by_index=by_index, way=way)).bindparams(bindparam("now", type_=Moment))
    return written.columns(**types, due_since=Moment)


#: What must hold before it is started holds, or nothing must.
LET_THROUGH: Final = or_(dispatches.c.required.is_(None), dispatches.c.let_through_at.is_not(None))


def is_due(now: datetime) -> ColumnElement[bool]:
    return and_(or_(dispatches.c.not_before.is_(None), dispatches.c.not_before <= now), LET_THROUGH)


def heads(connection: Connection, now: datetime, group_of: GroupOf) -> list[Candidate]:
    """The oldest that is due of each rule and priority."""
    found = connection.execute(_statement(_HEADS, connection.dialect.name), {"now": now})
    return [_candidate(row, group_of) for row in found]


def like(
    connection: Connection, head: Candidate, now: datetime, limit: int, group_of: GroupOf, *, newest: bool = False
) -> list[Candidate]:
    """The first `limit` that are due of the rule and the priority of `head`, oldest first or newest first."""
    statement = _statement(_LIKE, connection.dialect.name, "DESC" if newest else "ASC")
    asked = {"rule": head.rule, "priority": head.priority, "now": now, "limit": limit}
    return [_candidate(row, group_of) for row in connection.execute(statement, asked)]


def among(connection: Connection, ids: Sequence[DispatchId], now: datetime, group_of: GroupOf) -> list[Candidate]:
    """Those of the given ones (no more than fit into one IN list) that are ready and due, oldest first."""
    query = _due(now).where(IS_READY, dispatches.c.id.in_(ids)).order_by(dispatches.c.id)
    return [_candidate(row, group_of) for row in connection.execute(query)]


def unsure(connection: Connection, now: datetime, group_of: GroupOf) -> list[Candidate]:
    """Those whose launch may have been sent, oldest first. There are few, so the launches are asked first."""
    sent = select(launches.c.dispatch_id).where(launches.c.state.in_(_UNSURE), launches.c.dispatch_id.is_not(None))
    ids = sorted(connection.scalars(sent))
    return [each for chunk in chunks(ids) for each in among(connection, chunk, now, group_of)]


def _due(now: datetime) -> Select[Any]:
    return select(*_COLUMNS).where(is_due(now))


def _candidate(row: Any, group_of: GroupOf) -> Candidate:
    group = group_of(row.rule, row.rule_group)
    return Candidate(row.id, row.rule, group, row.priority, row.due_since, row.attempts == 0)
