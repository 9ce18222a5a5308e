"""Releases of transient datasets, and taking them back: nothing is done in the catalog in between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection, bindparam, select, text, update

from orchestrator.core.transient.caps import Caps, beyond
from orchestrator.store.gates import take_turn
from orchestrator.store.intake import chunks
from orchestrator.store.journal import move, without_nul
from orchestrator.store.port import NotAllowed, NotFound, Overtaken, Stopped
from orchestrator.store.suspensions import what_stops_transients
from orchestrator.store.tables import Row, transients
from orchestrator.store.transient_copies import forget_copies
from orchestrator.store.transient_keeps import keep_for_a_while
from orchestrator.store.transient_meanwhile import Proved, come_up
from orchestrator.store.transient_rows import (
    NOT_RELEASED,
    SAID,
    UNCLAIMED,
    Life,
    Part,
    entered,
    life_of,
    locked,
    row_of,
    rows_of,
    said_of,
    transient_of,
)
from orchestrator.store.transient_spending import forget_releases, note_releases, spent
from schemas.did import Did
from schemas.transient import Release, Transient, TransientId, TransientState

#: On PostgreSQL whoever releases holds this lock for the length of one transaction: each sees what the others released.
_RELEASE_LOCK: Final = 0x72656C65

#: What counts for the caps.
_DAY: Final = timedelta(hours=24)

#: On its way out.
GOING: Final = (TransientState.RELEASED, TransientState.LEAVING)

#: So many are named in an error.
_FEW: Final = 5

_PUT_DOWN: Final = (
    update(transients)
    .where(transients.c.id == bindparam("this"))
    .values({name: bindparam(f"new_{name}") for name in (*(SAID - {"reason"}), "release", "leaves_at")})
)


class Releasing(Part):
    """Part of `Transients`: released, and taken back."""

    def release(
        self,
        releases: Sequence[tuple[Release, timedelta]],
        caps: Caps,
        *,
        who: str,
        why: str,
        now: datetime,
        catalog: str | None = None,
    ) -> list[Transient]:
        """Release datasets, each with how long that can be taken back, all or nothing. They need not be known yet.

        Args:
            catalog: the identity of the one in which they were proved. Only there they may leave.

        Raises:
            Stopped: releases stand still.
            NotAllowed: a cap would be passed.
            Overtaken: one of them is released, leaving or gone already; it was kept or extended, something began to
                read it, or the version of its policy is not in force any more; or one is what is left of another that
                is to leave.
        """
        with self._database.write() as connection:
            _take_turn(connection)
            demand_no_stop(connection)
            passed = beyond(caps, spent(connection, now - _DAY), (release for release, _ in releases))
            if passed is not None:
                raise NotAllowed(f"nothing was released: {passed}")
            rows = entered(connection, [row_of(release, now, catalog) for release, _ in releases], who=who, now=now)
            alone = [release for release, _ in releases]
            wrong = [*_twice(alone), *_gone_ahead(rows.values()), *_chained(connection, alone)]
            wrong += _meanwhile(connection, alone, rows, now)
            if wrong:
                raise Overtaken(f"nothing was released: {_some(wrong)}")
            return _released(connection, releases, rows, who=who, why=why, now=now, catalog=catalog)

    def take_back(self, ids: Collection[TransientId], *, who: str, why: str, now: datetime) -> list[Transient]:
        """Hold what was released; nothing was done to it. Each is kept for a week: no policy releases it again at once.

        All or nothing.

        Raises:
            NotFound: there is no such transient dataset.
            NotAllowed: one of them is not released, or leaves already.
        """
        with self._database.write() as connection:
            rows = locked(connection, ids)
            _demand_released(ids, rows)
            said = without_nul(f"taken back: {why}")
            values = {"reason": said, "updated_at": now, **NOT_RELEASED, **UNCLAIMED}
            held = move(
                *(connection, transients, [row["id"] for row in rows], TransientState.RELEASED, TransientState.HELD),
                who=who,
                why=said,
                at=now,
                **values,
            )
            forget_copies(connection, held)
            forget_releases(connection, held)
            back = [transient_of(row) for row in locked(connection, held)]
            keep_for_a_while(connection, (each.did for each in back), who=who, why=f"taken back: {why}", now=now)
            return back


def demand_no_stop(connection: Connection) -> None:
    """Raises Stopped."""
    stop = what_stops_transients(connection)
    if stop is not None:
        raise Stopped(
            f"releases stand still: {stop.who} stopped {stop.kind} at {stop.at:%Y-%m-%d %H:%M} UTC ({stop.reason}); "
            f"`muleteer dispatch status` shows what else stands still"
        )


def _take_turn(connection: Connection) -> None:
    """Nobody stops releases in the midst of one, nor releases beside us. SQLite has one writer anyway."""
    take_turn(connection, alone=False)
    if connection.dialect.name != "sqlite":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _RELEASE_LOCK})


def _twice(releases: Iterable[Release]) -> Iterator[str]:
    for did, count in Counter(release.did for release in releases).items():
        if count > 1:
            yield f"{did} is to be released {count} times"


def _gone_ahead(rows: Iterable[Row]) -> Iterator[str]:
    for row in rows:
        if row["state"] in (*GOING, TransientState.GONE):
            yield f"{life_of(row).did} is {row['state']} already"


def _chained(connection: Connection, releases: Sequence[Release]) -> Iterator[str]:
    """What another rests on stays, and what leaves, in this life of it, is nobody's successor."""
    own = {release.did for release in releases}
    for release in releases:
        if release.successor in own:
            yield f"{release.successor} is what is left of {release.did}, and both are to leave"
    resting = resting_on(connection, [Did.parse(did) for did in own])
    for did, others in resting.items():
        yield f"{did} is what is left of {', '.join(others[:_FEW])}, which leaves"
    rested = {release.successor: release for release in releases}
    for row in rows_of(connection, map(Did.parse, rested)):
        release = rested[str(life_of(row).did)]
        # one that was said to have vanished was there when it was proved
        left = row["state"] == TransientState.GONE and row["leaving_at"] is not None
        if row["born_at"] == release.successor_born_at and (left or row["state"] in GOING):
            yield f"{release.successor}, the successor of {release.did}, is {row['state']}"


def _meanwhile(
    connection: Connection, releases: Iterable[Release], rows: Mapping[Life, Row], now: datetime
) -> list[str]:
    """What people, and our own work, have wanted since these were proved."""
    lives = {_life(each): each for each in releases}
    proved = [Proved(life.did, each.policy, each.version, rows[life]["extended_until"]) for life, each in lives.items()]
    return [f"{did}: {why}" for did, why in come_up(connection, proved, now).items()]


def resting_on(connection: Connection, dids: Iterable[Did]) -> dict[Did, list[str]]:
    """By dataset those (`scope:name`) that are released or leave, and of which it is the successor."""
    found: dict[Did, list[str]] = {}
    names = {str(did): did for did in dids}
    for chunk in chunks(sorted(names)):
        query = select(transients.c.successor, transients.c.scope, transients.c.name)
        query = query.where(transients.c.successor.in_(chunk), transients.c.state.in_(GOING)).order_by(transients.c.id)
        for successor, scope, name in connection.execute(query):
            found.setdefault(names[successor], []).append(str(Did(scope, name)))
    return found


def _released(
    connection: Connection,
    releases: Sequence[tuple[Release, timedelta]],
    rows: Mapping[Life, Row],
    *,
    who: str,
    why: str,
    now: datetime,
    catalog: str | None,
) -> list[Transient]:
    ids: dict[TransientState, list[int]] = {}
    changes: list[Row] = []
    for release, undo in releases:
        row = rows[_life(release)]
        seen_in = catalog or row["catalog"]
        ids.setdefault(TransientState(row["state"]), []).append(row["id"])
        said = {name: value for name, value in said_of(release, now, seen_in).items() if name != "reason"}
        said |= {"release": without_nul(release.model_dump_json()), "leaves_at": now + undo}
        changes.append({"this": row["id"], **{f"new_{name}": value for name, value in said.items()}})
    if changes:
        connection.execute(_PUT_DOWN, changes)
    note_releases(connection, ((rows[_life(release)]["id"], release) for release, _ in releases), who=who, now=now)
    values: Row = {"reason": why, "released_at": now, "released_by": without_nul(who), "updated_at": now}
    values |= {"leaving_at": None, "not_before": None, **UNCLAIMED}
    moved: list[int] = []
    for source, those in ids.items():
        moved += move(
            connection, transients, those, source, TransientState.RELEASED, who=who, why=why, at=now, **values
        )
    return [transient_of(row) for row in locked(connection, moved)]


def _life(release: Release) -> Life:
    return Life(Did.parse(release.did), release.born_at)


def _demand_released(ids: Collection[TransientId], rows: Sequence[Row]) -> None:
    """Raises NotFound, NotAllowed."""
    missing = sorted(set(ids) - {row["id"] for row in rows})
    if missing:
        raise NotFound(f"nothing was taken back: there is no transient dataset {_some(map(str, missing))}")
    others = [row for row in rows if row["state"] != TransientState.RELEASED]
    if others:
        said = _some(f"{row['id']} ({life_of(row).did}) is {row['state']}" for row in others)
        recall = any(row["state"] == TransientState.LEAVING for row in others)
        hint = "; what leaves can be recalled, as far as it is there: `muleteer transient recall`" if recall else ""
        raise NotAllowed(f"nothing was taken back: {said}, and only what is released can be{hint}")


def _some(said: Iterable[str]) -> str:
    words = list(said)
    more = f"; and {len(words) - _FEW:,} more" if len(words) > _FEW else ""
    return "; ".join(words[:_FEW]) + more
