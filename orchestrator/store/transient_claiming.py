"""Whose a transient dataset is that is due: one worker's at a time, until it is given back or the lease is over."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Any, Final

import structlog
from sqlalchemy import ColumnElement, Connection, and_, func, or_, select, update

from orchestrator.store.gates import take_turn
from orchestrator.store.journal import record, without_nul
from orchestrator.store.port import NotAllowed, Overtaken
from orchestrator.store.suspensions import what_stops_transients
from orchestrator.store.tables import Moment, Row, transients
from orchestrator.store.transient_rows import (
    UNCLAIMED,
    Part,
    demand,
    life_of,
    locked,
    transient_of,
    unreadable,
    whole_transient_of,
)
from schemas.transient import Transient, TransientId, TransientState

log = structlog.get_logger()

#: When one is looked at again of which something cannot be read.
_LATER: Final = timedelta(minutes=10)

#: What tells two reasons of the same kind apart.
_FIGURES: Final = re.compile(r"0x[0-9a-f]+|\d+(?:[.,:]\d+)*")

_RELEASED, _LEAVING = TransientState.RELEASED, TransientState.LEAVING


class Claiming(Part):
    """Part of `Transients`: what is due, and who works on it."""

    def claim_due(self, *, owner: str, now: datetime, lease: timedelta, limit: int) -> list[Transient]:
        """Take what is to be worked on now: released, and its time is over; or leaving. Longest due first.

        Nothing that is released while releases stand still, but what is leaving: it has to be held. Nor what a living
        owner has. The claim ends with the lease. One of which something cannot be read is put off, and keeps no other.
        """
        query = select(transients.c.id).where(_is_due(now), _is_unclaimed(now)).order_by(_DUE_SINCE, transients.c.id)
        with self._database.read() as connection:
            if connection.execute(query.limit(1)).first() is None:
                return []  # as nearly always: no need to become the writer
        with self._database.write() as connection:
            take_turn(connection, alone=False)
            if what_stops_transients(connection) is not None:
                query = query.where(transients.c.state == _LEAVING)
            query, taken = query.with_for_update(skip_locked=True), list[Transient]()
            while len(taken) < limit and (ids := list(connection.scalars(query.limit(limit - len(taken))))):
                found = (_taken(connection, TransientId(id_), owner, now, lease) for id_ in ids)
                taken += [each for each in found if each is not None]
            return taken

    def claim(self, id_: TransientId, *, owner: str, now: datetime, lease: timedelta) -> Transient:
        """Take this one, even while releases stand still: for whoever recalls it.

        Raises:
            NotFound: there is no such transient dataset.
            NotAllowed: it is not leaving.
            Overtaken: a living owner works on it.
        """
        with self._database.write() as connection:
            demand(connection, id_)
            (row,) = locked(connection, [id_])
            if row["state"] != _LEAVING:
                raise NotAllowed(f"{life_of(row).did} is {row['state']}: only what is leaving can be recalled")
            if row["owner"] is not None and row["owner"] != owner and row["lease_until"] > now:
                raise Overtaken(f"{row['owner']} works on {life_of(row).did} just now: try again in a minute")
            return transient_of(_claimed(connection, id_, owner, now + lease))

    def renew(self, id_: TransientId, *, owner: str, now: datetime, lease: timedelta, goes_on: bool = False) -> bool:
        """Have the claim last so long from now on. False if it is not the owner's any more: another works on it.

        Args:
            goes_on: a call is about to be made that lets it leave; it is counted.
        """
        with self._database.write() as connection:
            (row,) = locked(connection, [id_])
            if row["owner"] != owner:
                return False
            _claimed(connection, id_, owner, now + lease, went_on=row["went_on"] + int(goes_on))
            return True

    def look_again(self, id_: TransientId, at: datetime, reason: str, *, owner: str, now: datetime) -> bool:
        """Give the claim back, until then. The journal hears of it if the reason is another one than before.

        Figures in it do not count: how many copies are left, addresses, times.

        False if it is not the owner's any more.
        """
        with self._database.write() as connection:
            row = ours(connection, id_, _LEAVING, owner) or ours(connection, id_, _RELEASED, owner)
            if row is None:
                return False
            put_off(connection, row, at, reason, owner, now)
            return True


# Due, and whose.


_DUE_SINCE: Final = func.coalesce(transients.c.not_before, transients.c.leaves_at, type_=Moment)


def _is_due(now: datetime) -> ColumnElement[bool]:
    again = transients.c.not_before
    over = and_(transients.c.state == _RELEASED, transients.c.leaves_at <= now)
    return and_(or_(over, transients.c.state == _LEAVING), or_(again.is_(None), again <= now))


def _is_unclaimed(now: datetime) -> ColumnElement[bool]:
    return or_(transients.c.owner.is_(None), transients.c.lease_until <= now)


def _taken(connection: Connection, id_: TransientId, owner: str, now: datetime, lease: timedelta) -> Transient | None:
    """Claimed; None if something of it cannot be read: then it is put off."""
    try:
        return whole_transient_of(_claimed(connection, id_, owner, now + lease))
    except (ValueError, TypeError) as error:
        log.error("transient.unreadable", transient=id_, reason=unreadable(error), next=f"tried again in {_LATER}")
        plain = select(transients.c.id, transients.c.state, transients.c.reason).where(transients.c.id == id_)
        row = dict(connection.execute(plain).mappings().one())
        put_off(connection, row, now + _LATER, unreadable(error), owner, now)
        return None


def _claimed(connection: Connection, id_: TransientId, owner: str, until: datetime, **values: Any) -> Row:
    taken = update(transients).where(transients.c.id == id_).values(owner=owner, lease_until=until, **values)
    return dict(connection.execute(taken.returning(*transients.c)).mappings().one())


def standing(connection: Connection, id_: TransientId, state: TransientState) -> Row | None:
    """The row, locked, if it stands there."""
    return next((row for row in locked(connection, [id_]) if row["state"] == state), None)


def ours(connection: Connection, id_: TransientId, state: TransientState, owner: str) -> Row | None:
    """The row, locked, if it stands there and nobody has claimed it since."""
    row = standing(connection, id_, state)
    return row if row is not None and row["owner"] == owner else None


def put_off(connection: Connection, row: Row, at: datetime, reason: str, who: str, now: datetime) -> None:
    """Nobody's any more, and not due before then. The journal hears of another kind of reason only."""
    said = without_nul(reason)
    values: Row = {"not_before": at, "reason": said, "updated_at": now, **UNCLAIMED}
    connection.execute(update(transients).where(transients.c.id == row["id"]).values(**values))
    if _FIGURES.sub("#", said or "") != _FIGURES.sub("#", row["reason"] or ""):
        record(connection, "transient", [row["id"]], row["state"], row["state"], who=who, why=said, at=now)
