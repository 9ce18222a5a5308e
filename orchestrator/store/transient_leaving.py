"""Transient datasets on their way out: claimed by one worker at a time, and written down before each step."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select, update

from orchestrator.core.transient.protection import Guard
from orchestrator.store.gates import take_turn
from orchestrator.store.journal import move, record, without_nul
from orchestrator.store.port import NotAllowed, Overtaken
from orchestrator.store.suspensions import what_stops_transients
from orchestrator.store.tables import Moment, Row, transients
from orchestrator.store.transient_copies import forget_copies, gone_copies, write_copies
from orchestrator.store.transient_keeps import keeps_in_force
from orchestrator.store.transient_policies import against_version
from orchestrator.store.transient_readers import in_use
from orchestrator.store.transient_rows import (
    NOT_RELEASED,
    UNCLAIMED,
    Part,
    demand,
    life_of,
    locked,
    reason_of,
    refused,
    transient_of,
)
from schemas.transient import Copy, Refusal, Transient, TransientId, TransientState

#: Copies that are written in one transaction.
_COPIES_AT_ONCE: Final = 5000

#: When a dataset is looked at again that could not begin to leave.
_SOON: Final = timedelta(minutes=1)

#: What tells two reasons of the same kind apart.
_FIGURES: Final = re.compile(r"0x[0-9a-f]+|\d+(?:[.,:]\d+)*")

_RELEASED, _LEAVING, _HELD = TransientState.RELEASED, TransientState.LEAVING, TransientState.HELD


class Leaving(Part):
    """Part of `Transients`: what leaves, step by step."""

    def claim_due(self, *, owner: str, now: datetime, lease: timedelta, limit: int) -> list[Transient]:
        """Take what is to be worked on now: released, and its time is over; or leaving. Longest due first.

        Nothing that is released while releases stand still, but what is leaving: it has to be held. Nor what a living
        owner has. The claim ends with the lease.
        """
        query = select(transients.c.id).where(_is_due(now), _is_unclaimed(now)).order_by(_DUE_SINCE, transients.c.id)
        with self._database.read() as connection:
            if connection.execute(query.limit(1)).first() is None:
                return []  # as nearly always: no need to become the writer
        with self._database.write() as connection:
            take_turn(connection, alone=False)
            if what_stops_transients(connection) is not None:
                query = query.where(transients.c.state == _LEAVING)
            ids = list(connection.scalars(query.limit(limit).with_for_update(skip_locked=True)))
            return [_claimed(connection, TransientId(id_), owner, now + lease) for id_ in ids]

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
            return _claimed(connection, id_, owner, now + lease)

    def renew(self, id_: TransientId, *, owner: str, now: datetime, lease: timedelta) -> bool:
        """Have the claim last so long from now on. False if it is not the owner's any more: another works on it."""
        with self._database.write() as connection:
            (row,) = locked(connection, [id_])
            if row["owner"] != owner:
                return False
            _claimed(connection, id_, owner, now + lease)
            return True

    def begin_leaving(self, id_: TransientId, copies: Iterable[Copy], *, owner: str, who: str, now: datetime) -> bool:
        """Released, proved once more, its time over: write down the copies that leave, and then that it leaves.

        When this returns True everything is on disk, and the first call to the catalog may be made; the claim goes on.
        False: it may not leave. It was taken back, is claimed by another, was stopped; or somebody has meanwhile begun
        to read it, extended or kept it, or the version of the policy by which it was released is not in force any
        more: then it is looked at again soon.
        """
        if not self._write_copies(id_, copies, owner):
            return False
        with self._database.write() as connection:
            take_turn(connection, alone=False)
            row = _ours(connection, id_, _RELEASED, owner)
            if row is None:
                return False
            in_the_way = _in_the_way(connection, row, now)
            if in_the_way is not None:
                forget_copies(connection, [id_])
                _put_off(connection, row, now + _SOON, in_the_way, who, now)
                return False
            values: Row = {"leaving_at": now, "not_before": None, **refused([])}
            return _move(connection, row, _LEAVING, who, "proved once more", now, **values)

    def _write_copies(self, id_: TransientId, copies: Iterable[Copy], owner: str) -> bool:
        """Some thousand at a time: they may be many, and come from afar."""
        source, first = iter(copies), 0
        while True:
            some = list(islice(source, _COPIES_AT_ONCE))
            with self._database.write() as connection:
                if _ours(connection, id_, _RELEASED, owner) is None:
                    return False
                if first == 0:
                    forget_copies(connection, [id_])
                write_copies(connection, id_, first, some)
            first += len(some)
            if len(some) < _COPIES_AT_ONCE:
                return True

    def refuse(self, id_: TransientId, refusals: Sequence[Refusal], *, owner: str, who: str, now: datetime) -> bool:
        """Released, and no longer proved: it is held. False if it is not released any more, or not the owner's."""
        with self._database.write() as connection:
            row = _ours(connection, id_, _RELEASED, owner)
            if row is None:
                return False
            forget_copies(connection, [id_])
            why = f"no longer proved: {reason_of(refusals)}"
            return _move(connection, row, _HELD, who, why, now, **refused(refusals), **NOT_RELEASED, **UNCLAIMED)

    def look_again(self, id_: TransientId, at: datetime, reason: str, *, owner: str, now: datetime) -> bool:
        """Give the claim back, until then. The journal hears of it if the reason is another one than before.

        Figures in it do not count: how many copies are left, addresses, times.

        False if it is not the owner's any more.
        """
        with self._database.write() as connection:
            row = _ours(connection, id_, _LEAVING, owner) or _ours(connection, id_, _RELEASED, owner)
            if row is None:
                return False
            _put_off(connection, row, at, reason, owner, now)
            return True

    def gone(self, id_: TransientId, *, who: str, why: str, now: datetime, freed_files: int, freed_bytes: int) -> bool:
        """It has left, as was verified; so many copies and bytes are proved to be gone. False if it was not leaving."""
        with self._database.write() as connection:
            row = _standing(connection, id_, _LEAVING)
            if row is None:
                return False
            values = {**_freed(row, freed_files, freed_bytes), "gone_at": now, "not_before": None, **UNCLAIMED}
            return _move(connection, row, TransientState.GONE, who, why, now, **values)

    def recalled(self, id_: TransientId, *, who: str, why: str, now: datetime) -> bool:
        """It was leaving, and stays, as far as it was there still; `why` says what has gone. False if it was not.

        What was released counts for the caps all the same, and copies that have gone were freed.
        """
        with self._database.write() as connection:
            row = _standing(connection, id_, _LEAVING)
            if row is None:
                return False
            files, bytes_ = gone_copies(connection, id_)
            values: Row = {"not_before": None, "leaves_at": None, "leaving_at": None, **UNCLAIMED}
            values |= {**_freed(row, files, bytes_), "gone_at": now} if files else {}
            return _move(connection, row, _HELD, who, why, now, **values)


# Due, and whose.


_DUE_SINCE: Final = func.coalesce(transients.c.not_before, transients.c.leaves_at, type_=Moment)


def _is_due(now: datetime) -> ColumnElement[bool]:
    put_off = transients.c.not_before
    over = and_(transients.c.state == _RELEASED, transients.c.leaves_at <= now)
    return and_(or_(over, transients.c.state == _LEAVING), or_(put_off.is_(None), put_off <= now))


def _is_unclaimed(now: datetime) -> ColumnElement[bool]:
    return or_(transients.c.owner.is_(None), transients.c.lease_until <= now)


def _claimed(connection: Connection, id_: TransientId, owner: str, until: datetime) -> Transient:
    taken = update(transients).where(transients.c.id == id_).values(owner=owner, lease_until=until)
    return transient_of(dict(connection.execute(taken.returning(*transients.c)).mappings().one()))


def _standing(connection: Connection, id_: TransientId, state: TransientState) -> Row | None:
    """The row, locked, if it stands there."""
    return next((row for row in locked(connection, [id_]) if row["state"] == state), None)


def _ours(connection: Connection, id_: TransientId, state: TransientState, owner: str) -> Row | None:
    """The row, locked, if it stands there and nobody has claimed it since."""
    row = _standing(connection, id_, state)
    return row if row is not None and row["owner"] == owner else None


# Written.


def _in_the_way(connection: Connection, row: Row, now: datetime) -> str | None:
    """What has come up since it was proved: a stop, its time, its policy, people and our own work."""
    did = life_of(row).did
    stop, until = what_stops_transients(connection), row["extended_until"]
    if stop is not None:
        return f"{stop.who} stopped {stop.kind}: {stop.reason}"
    if row["leaves_at"] > now:
        return f"it can be taken back until {row['leaves_at']:%Y-%m-%d %H:%M} UTC"
    if until is not None and until > now:
        return f"it is to stay until {until:%Y-%m-%d %H:%M} UTC"
    against = against_version(connection, row["policy"], row["policy_version"])
    kept = next(Guard(keeps=keeps_in_force(connection, now)).kept(did, now), None)
    return against or kept or in_use(connection, [did]).get(did)


def _freed(row: Row, files: int, bytes_: int) -> Row:
    """With what had gone of it when it was to leave before, and was called back."""
    return {"freed_files": row["freed_files"] + files, "freed_bytes": row["freed_bytes"] + bytes_}


def _put_off(connection: Connection, row: Row, at: datetime, reason: str, who: str, now: datetime) -> None:
    said = without_nul(reason)
    values: Row = {"not_before": at, "reason": said, "updated_at": now, **UNCLAIMED}
    connection.execute(update(transients).where(transients.c.id == row["id"]).values(**values))
    if _FIGURES.sub("#", said or "") != _FIGURES.sub("#", row["reason"] or ""):
        record(connection, "transient", [row["id"]], row["state"], row["state"], who=who, why=said, at=now)


def _move(
    connection: Connection, row: Row, target: TransientState, who: str, why: str, now: datetime, **values: Any
) -> bool:
    source = TransientState(row["state"])
    values |= {"reason": why, "updated_at": now}
    return bool(move(connection, transients, [row["id"]], source, target, who=who, why=why, at=now, **values))
