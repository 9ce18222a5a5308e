"""Dispatches that require something of the catalog before they are started: looked at now and then, let through once.

Until then no worker claims them: they count for no cap and no pace, and a look costs no try.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, func, literal, or_, select, update

from orchestrator.core.actor import Order
from orchestrator.store.candidates import IS_READY
from orchestrator.store.claiming import orders_of
from orchestrator.store.engine import Database
from orchestrator.store.journal import move, record, without_nul
from orchestrator.store.signals import DISPATCHES
from orchestrator.store.tables import Moment, dispatches
from schemas.checks import Requirement
from schemas.dispatch import DispatchId, DispatchState

_HELD_BACK: Final = (IS_READY, dispatches.c.required.is_not(None), dispatches.c.let_through_at.is_(None))


class HeldBack(NamedTuple):
    """A dispatch that is to be looked at."""

    order: Order
    #: As it is stored.
    text: str
    #: Since when it waits for that.
    since: datetime
    #: What was said of it when it was looked at last.
    reason: str | None

    @property
    def required(self) -> Requirement:
        """Raises ValueError: another version of muleteer wrote it, and it means nothing to this one."""
        return Requirement.model_validate_json(self.text)


class Requirements:
    """What dispatches require, and whether they were let through."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, *, now: datetime, until: datetime, limit: int) -> Sequence[HeldBack]:
        """Those that are to be looked at now; nobody else gets them before `until`."""
        query = select(dispatches).where(*_HELD_BACK, _is_due(now)).order_by(dispatches.c.look_at, dispatches.c.id)
        with self._database.read() as connection:
            if connection.execute(query.limit(1)).first() is None:
                return []  # as nearly always: no need to become the writer
        with self._database.write() as connection:
            locked = query.limit(limit).with_for_update(skip_locked=True)
            rows = [dict(row) for row in connection.execute(locked).mappings()]
            taken = update(dispatches).where(dispatches.c.id.in_([row["id"] for row in rows]))
            since = func.coalesce(dispatches.c.required_since, literal(now, Moment()), type_=Moment)
            connection.execute(taken.values(look_at=until, required_since=since))
            orders = orders_of(connection, rows)
        return [
            HeldBack(order, row["required"], row["required_since"] or now, row["reason"])
            for row, order in zip(rows, orders, strict=True)
        ]

    def waiting(self) -> set[DispatchId]:
        """Those that wait for nothing but what they require."""
        with self._database.read() as connection:
            return {DispatchId(id_) for id_ in connection.scalars(select(dispatches.c.id).where(*_HELD_BACK))}

    def let_through(self, id_: DispatchId, *, who: str, now: datetime) -> None:
        """What it requires holds: from now on it is like any other that is ready."""
        with self._database.write(DISPATCHES) as connection:
            values = {"let_through_at": now, "look_at": None, "reason": None, "updated_at": now}
            if _changed(connection, id_, values, *_HELD_BACK):
                record(connection, "dispatch", [id_], _READY, _READY, who=who, why="what it requires holds", at=now)

    def confirm(self, id_: DispatchId, *, now: datetime) -> None:
        """The catalog was asked before it was begun, and is not asked again."""
        with self._database.write() as connection:
            _changed(connection, id_, {"let_through_at": now})

    def put_off(self, held: HeldBack, reason: str, until: datetime, *, who: str, now: datetime) -> None:
        """It is looked at again then. The journal hears of it when something else is missing than before."""
        id_ = held.order.dispatch_id
        with self._database.write() as connection:
            changed = _changed(connection, id_, {"look_at": until, "reason": without_nul(reason)}, *_HELD_BACK)
            if changed and reason != held.reason:
                record(connection, "dispatch", [id_], _READY, _READY, who=who, why=reason, at=now)

    def fail(self, id_: DispatchId, reason: str, *, who: str, now: datetime) -> None:
        """It waited for too long. If it is retried by hand, it has as long again."""
        with self._database.write(DISPATCHES) as connection:
            values: dict[str, Any] = {"look_at": None, "required_since": None, "updated_at": now}
            said = without_nul(reason)
            move(
                *(connection, dispatches, [id_], _READY, DispatchState.FAILED),
                who=who,
                why=said,
                at=now,
                only_if=_HELD_BACK[1:],
                reason=said,
                **values,
            )


_READY: Final = DispatchState.READY


def _is_due(now: datetime) -> ColumnElement[bool]:
    return or_(dispatches.c.look_at.is_(None), dispatches.c.look_at <= now)


def _changed(connection: Connection, id_: DispatchId, values: dict[str, Any], *only_if: ColumnElement[bool]) -> bool:
    done = connection.execute(update(dispatches).where(dispatches.c.id == id_, *only_if).values(**values))
    return done.rowcount > 0
