"""What each release of a transient dataset comes to, by itself: it counts for the caps, and what was freed by it.

A later release of the same dataset changes nothing of it, nor does it if that one is taken back.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, Connection, Text, delete, func, select, update

from orchestrator.core.transient.caps import Spent
from orchestrator.store.engine import insert_many
from orchestrator.store.intake import chunks
from orchestrator.store.journal import without_nul
from orchestrator.store.tables import Row, transient_releases
from orchestrator.store.transient_rows import Part
from schemas.transient import Release

_COLUMNS = ("transient_id", "policy", "released_at", "released_by", "frees", "freed_bytes", "freed_files")


class Freed(NamedTuple):
    """What has left, by a day, a policy, or whoever released it."""

    key: str
    #: Of which anything has left, those that were called back half-way too.
    datasets: int
    #: Copies, and their bytes.
    files: int
    bytes: int


class Spending(Part):
    """Part of `Transients`: what was released, and what was freed by it."""

    def released_since(self, moment: datetime) -> Spent:
        """What was released since then, for the caps; but what came to nothing before anything was done."""
        with self._database.read() as connection:
            return spent(connection, moment)

    def freed(self, since: datetime, by: Literal["day", "policy", "who"]) -> list[Freed]:
        """What has left since then and is proved to be gone, by the key. What vanished by other hands is not in it.

        What had gone of a dataset before it was called back is in it, at the time of the recall.
        """
        with self._database.read() as connection:
            these, key = transient_releases.c, _key(by, connection.dialect.name)
            query = select(
                *(key, func.count(these.transient_id.distinct())), _sum(these.freed_files), _sum(these.freed_bytes)
            )
            rows = connection.execute(query.where(these.gone_at >= since).group_by(key).order_by(key)).all()
        return [Freed(str(key), datasets, int(files), int(size)) for key, datasets, files, size in rows]


def spent(connection: Connection, moment: datetime) -> Spent:
    """As `Spending.released_since`, within a transaction."""
    datasets, by_rse = 0, Counter[str]()
    query = select(transient_releases.c.frees).where(transient_releases.c.released_at > moment)
    for frees in connection.scalars(query):
        datasets += 1
        by_rse.update(json.loads(frees))
    return Spent(datasets, by_rse.total(), dict(by_rse))


# Within a transaction, together with the move of the dataset.


def note_releases(connection: Connection, released: Iterable[tuple[int, Release]], *, who: str, now: datetime) -> None:
    """These are released, each with the id of its row."""
    rows = [(id_, each.policy, now, without_nul(who), _frees(each), 0, 0) for id_, each in released]
    insert_many(connection, transient_releases, _COLUMNS, rows)


def forget_releases(connection: Connection, ids: Sequence[int]) -> None:
    """The last release of each came to nothing: nothing was done to the dataset."""
    for chunk in chunks(ids):
        connection.execute(delete(transient_releases).where(*_open(transient_releases.c.transient_id.in_(chunk))))


def end_release(connection: Connection, id_: int, at: datetime, files: int, bytes_: int, *, left: bool) -> None:
    """The dataset has left, or was called back: so many copies and bytes are gone by this release of it.

    Args:
        left: something of it has left.
    """
    values: Row = {"ended_at": at, "freed_files": files, "freed_bytes": bytes_, "gone_at": at if left else None}
    its = _open(transient_releases.c.transient_id == id_)
    connection.execute(update(transient_releases).where(*its).values(**values))


def _open(which: ColumnElement[bool]) -> tuple[ColumnElement[bool], ...]:
    return which, transient_releases.c.ended_at.is_(None)


def _frees(release: Release) -> str:
    return json.dumps({each.rse: each.bytes for each in release.frees})


def _key(by: Literal["day", "policy", "who"], dialect: str) -> Any:
    these = transient_releases.c
    if by != "day":
        return {"policy": these.policy, "who": these.released_by}[by]
    # on SQLite a moment is text that begins with the day; PostgreSQL's sessions count in UTC
    text = these.gone_at.cast(Text) if dialect == "sqlite" else func.to_char(these.gone_at, "YYYY-MM-DD")
    return func.substr(text, 1, 10)


def _sum(what: Any) -> Any:
    return func.coalesce(func.sum(what), 0)
