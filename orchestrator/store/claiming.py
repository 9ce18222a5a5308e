"""Claiming, in the order of its steps: what is due, what the gates let through, and what a worker gets of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Select, insert, select

from orchestrator.core.actor import Order
from orchestrator.core.gates import order_of
from orchestrator.store.candidates import is_due
from orchestrator.store.gates import GateKeeper, Regime
from orchestrator.store.journal import MOST_PARAMETERS, move
from orchestrator.store.messages import detail_of, whole_columns
from orchestrator.store.suspensions import note_starts
from orchestrator.store.tables import Row, attempts, dispatches, messages
from schemas.dispatch import AttemptOutcome, DispatchId, DispatchState
from schemas.rule import Order as StartOrder
from schemas.rule import Retry

#: From these states a dispatch is claimed.
DUE: Final = (DispatchState.READY, DispatchState.WAITING)


@dataclass(frozen=True, slots=True)
class Claim:
    """A dispatch that this worker has, ready to be carried out."""

    order: Order
    actor: str
    retry: Retry
    #: Which try it is by the retry policy's count.
    spent: int
    #: Whether the catalog was asked about it already, and had nothing against it.
    let_through: bool = False


def any_due(connection: Connection, states: Sequence[DispatchState], now: datetime) -> bool:
    """Whether anything in these states is due, whatever the gates say. Takes no lock."""
    return connection.execute(select(dispatches.c.id).where(*_is_due(states, now)).limit(1)).first() is not None


class Claiming:
    """One claim, within a transaction."""

    def __init__(self, connection: Connection, keeper: GateKeeper, regime: Regime, now: datetime) -> None:
        self._connection = connection
        self._keeper = keeper
        self._regime = regime
        self._now = now

    def finds_any(self) -> bool:
        """Whether the gates let anything through, as far as can be seen without a lock."""
        return (
            not self._regime.gated
            or any_due(self._connection, [DispatchState.WAITING], self._now)
            or bool(self._keeper.choose(self._connection, self._regime, now=self._now, limit=1))
        )

    def claim(
        self,
        states: Sequence[DispatchState],
        *,
        owner: str,
        limit: int,
        lease: timedelta,
        only: Sequence[DispatchId] | None,
    ) -> list[Claim]:
        """Take up to `limit` dispatches, those in the first of the states first."""
        claimed: list[int] = []
        for state in states:
            if len(claimed) < limit:
                ids = self._next(state, limit - len(claimed), only)
                claimed += self._take(ids, state, owner, lease)
        return _claims(self._connection, claimed, owner, self._now)

    def _next(self, state: DispatchState, limit: int, only: Sequence[DispatchId] | None) -> list[int]:
        """Those to be taken next, locked. What waits for its moment goes on already: no gate is before it."""
        regime = self._regime
        if state is DispatchState.WAITING or not regime.gated:
            return self._due(state, limit, only)
        chosen = self._keeper.choose(self._connection, regime, now=self._now, limit=limit, only=only)
        ids = set(self._due(state, limit, [DispatchId(each.id) for each in chosen]))
        started = [each for each in chosen if each.id in ids]
        newest_first = (
            each.rule for each in started if order_of(each.rule, each.group, regime.limits) is StartOrder.NEWEST
        )
        for rule, count in Counter(newest_first).items():
            note_starts(self._connection, rule, count)
        return [each.id for each in started]

    def _due(self, state: DispatchState, limit: int, only: Sequence[DispatchId] | None) -> list[int]:
        if only is None:
            return list(self._connection.scalars(_due_ids(state, self._now, limit, None)))
        found: list[int] = []
        for start in range(0, len(only), MOST_PARAMETERS):
            if len(found) < limit:
                part = only[start : start + MOST_PARAMETERS]
                found += self._connection.scalars(_due_ids(state, self._now, limit - len(found), part))
        return found

    def _take(self, ids: Sequence[int], state: DispatchState, owner: str, lease: timedelta) -> list[int]:
        return move(
            self._connection,
            dispatches,
            ids,
            state,
            DispatchState.RUNNING,
            who=owner,
            why=None,
            at=self._now,
            owner=owner,
            lease_until=self._now + lease,
            not_before=None,
            attempts=dispatches.c.attempts + 1,
            spent=dispatches.c.spent + 1,
            updated_at=self._now,
        )


def _due_ids(state: DispatchState, now: datetime, limit: int, only: Sequence[DispatchId] | None) -> Select[Any]:
    query = select(dispatches.c.id).where(*_is_due([state], now)).order_by(dispatches.c.id).limit(limit)
    if only is not None:
        query = query.where(dispatches.c.id.in_(only))
    return query.with_for_update(skip_locked=True)


def _is_due(states: Sequence[DispatchState], now: datetime) -> list[ColumnElement[bool]]:
    return [
        dispatches.c.state.in_(states),
        is_due(now),
    ]


def _claims(connection: Connection, ids: Sequence[int], owner: str, now: datetime) -> list[Claim]:
    if not ids:
        return []
    rows = connection.execute(select(dispatches).where(dispatches.c.id.in_(ids)).order_by(dispatches.c.id)).mappings()
    found = [dict(row) for row in rows]
    begun = [
        {
            "dispatch_id": row["id"],
            "number": row["attempts"],
            "owner": owner,
            "started_at": now,
            "outcome": AttemptOutcome.RUNNING.value,
        }
        for row in found
    ]
    connection.execute(insert(attempts), begun)
    orders = orders_of(connection, found)
    return [_claim(row, order) for row, order in zip(found, orders, strict=True)]


def orders_of(connection: Connection, rows: Sequence[Row]) -> list[Order]:
    """What an actor is asked to do, for each of these dispatches."""
    wanted = select(*whole_columns()).where(messages.c.id.in_({row["message_id"] for row in rows}))
    bodies = {row["id"]: detail_of(dict(row)) for row in connection.execute(wanted).mappings()}
    return [_order(row, bodies) for row in rows]


def _order(row: Row, bodies: Mapping[int, Any]) -> Order:
    return Order(
        dispatch_id=DispatchId(row["id"]),
        attempt=row["attempts"],
        rule=row["rule"],
        message=bodies[row["message_id"]],
        captured=json.loads(row["captured"]),
        options=json.loads(row["options"]),
        round=row["round"],
    )


def _claim(row: Row, order: Order) -> Claim:
    let_through = row["let_through_at"] is not None
    return Claim(order, row["actor"], Retry.model_validate_json(row["retry"]), row["spent"], let_through)
