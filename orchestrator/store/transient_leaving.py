"""Transient datasets on their way out: each step is written down before it is done."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import islice
from typing import Any, Final

from sqlalchemy import Connection

from orchestrator.store.gates import take_turn
from orchestrator.store.journal import move
from orchestrator.store.suspensions import what_stops_transients
from orchestrator.store.tables import Row, transients
from orchestrator.store.transient_claiming import ours, put_off, standing
from orchestrator.store.transient_copies import forget_copies, gone_copies, write_copies
from orchestrator.store.transient_meanwhile import Proved, come_up
from orchestrator.store.transient_rows import NOT_RELEASED, UNCLAIMED, Part, life_of, reason_of, refused
from orchestrator.store.transient_spending import end_release, forget_releases
from schemas.transient import Copy, Refusal, TransientId, TransientState

#: Copies that are written in one transaction.
_COPIES_AT_ONCE: Final = 5000

#: When a dataset is looked at again that could not begin to leave.
_SOON: Final = timedelta(minutes=1)

_RELEASED, _LEAVING, _HELD = TransientState.RELEASED, TransientState.LEAVING, TransientState.HELD


class Leaving(Part):
    """Part of `Transients`: what leaves, step by step. Who does a step has claimed the dataset."""

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
            row = ours(connection, id_, _RELEASED, owner)
            if row is None:
                return False
            in_the_way = _in_the_way(connection, row, now)
            if in_the_way is not None:
                forget_copies(connection, [id_])
                put_off(connection, row, now + _SOON, in_the_way, who, now)
                return False
            values: Row = {"leaving_at": now, "not_before": None, **refused([])}
            return _move(connection, row, _LEAVING, who, "proved once more", now, **values)

    def _write_copies(self, id_: TransientId, copies: Iterable[Copy], owner: str) -> bool:
        """Some thousand at a time: they may be many, and come from afar."""
        source, first = iter(copies), 0
        while True:
            some = list(islice(source, _COPIES_AT_ONCE))
            with self._database.write() as connection:
                if ours(connection, id_, _RELEASED, owner) is None:
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
            row = ours(connection, id_, _RELEASED, owner)
            if row is None:
                return False
            forget_copies(connection, [id_])
            forget_releases(connection, [id_])
            why = f"no longer proved: {reason_of(refusals)}"
            return _move(connection, row, _HELD, who, why, now, **refused(refusals), **NOT_RELEASED, **UNCLAIMED)

    def gone(self, id_: TransientId, *, who: str, why: str, now: datetime, freed_files: int, freed_bytes: int) -> bool:
        """It has left, as was verified; so many copies and bytes are proved to be gone. False if it was not leaving."""
        with self._database.write() as connection:
            row = standing(connection, id_, _LEAVING)
            if row is None:
                return False
            end_release(connection, id_, now, freed_files, freed_bytes, left=True)
            values = {**_freed(row, freed_files, freed_bytes), "gone_at": now, "not_before": None, **UNCLAIMED}
            return _move(connection, row, TransientState.GONE, who, why, now, **values)

    def recalled(self, id_: TransientId, *, who: str, why: str, now: datetime) -> bool:
        """It was leaving, and stays, as far as it was there still; `why` says what has gone. False if it was not.

        What was released counts for the caps all the same, and copies that have gone were freed.
        """
        with self._database.write() as connection:
            row = standing(connection, id_, _LEAVING)
            if row is None:
                return False
            files, bytes_ = gone_copies(connection, id_)
            end_release(connection, id_, now, files, bytes_, left=files > 0)
            values: Row = {"not_before": None, "leaves_at": None, "leaving_at": None, **UNCLAIMED, **refused([])}
            values |= {**_freed(row, files, bytes_), "gone_at": now} if files else {}
            return _move(connection, row, _HELD, who, why, now, **values)


def _in_the_way(connection: Connection, row: Row, now: datetime) -> str | None:
    """What has come up since it was proved: a stop, its time, its policy, people and our own work."""
    stop = what_stops_transients(connection)
    if stop is not None:
        return f"{stop.who} stopped {stop.kind}: {stop.reason}"
    if row["leaves_at"] > now:
        return f"it can be taken back until {row['leaves_at']:%Y-%m-%d %H:%M} UTC"
    did = life_of(row).did
    proved = Proved(did, row["policy"], row["policy_version"], row["extended_until"])
    return come_up(connection, [proved], now).get(did)


def _freed(row: Row, files: int, bytes_: int) -> Row:
    """With what had gone of it when it was to leave before, and was called back."""
    return {"freed_files": row["freed_files"] + files, "freed_bytes": row["freed_bytes"] + bytes_}


def _move(
    connection: Connection, row: Row, target: TransientState, who: str, why: str, now: datetime, **values: Any
) -> bool:
    source = TransientState(row["state"])
    values |= {"reason": why, "updated_at": now}
    return bool(move(connection, transients, [row["id"]], source, target, who=who, why=why, at=now, **values))
