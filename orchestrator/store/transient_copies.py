"""The copies that leave with a transient dataset, and what became of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, bindparam, case, delete, func, select, update

from orchestrator.store.engine import insert_many
from orchestrator.store.intake import chunks
from orchestrator.store.journal import without_nul
from orchestrator.store.tables import transient_copies, transients
from orchestrator.store.transient_rows import Part
from schemas.did import Did
from schemas.transient import Copy, TransientId, TransientState

#: The fate of a copy that is not there any more. Any other text says why it stays.
GONE: Final = "gone"

_COLUMNS: Final = ("transient_id", "number", "scope", "name", "rse", "pfn", "bytes", "fate")

_SETTLE: Final = (
    update(transient_copies)
    .where(transient_copies.c.transient_id == bindparam("whose"), transient_copies.c.number == bindparam("which"))
    .values(fate=bindparam("became"))
)


class Fates(NamedTuple):
    """What became of the copies of one dataset."""

    #: Proved to be gone: how many, and their bytes.
    gone: int
    gone_bytes: int
    #: They stay; each says why.
    staying: int
    #: Not settled yet.
    open: int


class Copies(Part):
    """Part of `Transients`: the copies that leave."""

    def copies(
        self, id_: TransientId, *, after: int = -1, limit: int = 1000, unsettled: bool = False
    ) -> list[tuple[int, Copy]]:
        """The next copies after a number, with their numbers; on demand only those whose fate is open."""
        these = transient_copies.c
        query = select(transient_copies).where(these.transient_id == id_, these.number > after)
        query = query.where(these.fate.is_(None)) if unsettled else query
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(these.number).limit(limit)).mappings().all()
        return [(row["number"], _copy(row)) for row in rows]

    def settle_copies(self, id_: TransientId, fates: Mapping[int, str]) -> None:
        """Write down what became of copies, by number: `gone`, or why one stays."""
        rows = [{"whose": id_, "which": number, "became": without_nul(fate)} for number, fate in sorted(fates.items())]
        if rows:
            with self._database.write() as connection:
                connection.execute(_SETTLE, rows)

    def fates(self, id_: TransientId) -> Fates:
        """What became of all copies of a dataset."""
        these = transient_copies.c
        gone, is_open = these.fate == GONE, these.fate.is_(None)
        query = select(
            _sum(case((gone, 1), else_=0)),
            _sum(case((gone, these.bytes), else_=0)),
            _sum(case((gone | is_open, 0), else_=1)),
            _sum(case((is_open, 1), else_=0)),
        ).where(these.transient_id == id_)
        with self._database.read() as connection:
            return Fates(*(int(each) for each in connection.execute(query).one()))

    def freed_so_far(self) -> SoFar:
        """What has gone of all datasets that are leaving still."""
        these = transient_copies.c
        query = select(func.count(these.transient_id.distinct()), func.count(), _sum(these.bytes))
        query = query.join(transients, transients.c.id == these.transient_id)
        with self._database.read() as connection:
            found = connection.execute(query.where(transients.c.state == TransientState.LEAVING, these.fate == GONE))
            return SoFar(*(int(each) for each in found.one()))


class SoFar(NamedTuple):
    """What has gone of datasets that are leaving still."""

    datasets: int
    #: Copies, and their bytes.
    files: int
    bytes: int


def gone_copies(connection: Connection, id_: TransientId) -> tuple[int, int]:
    """How many copies of a dataset are proved to be gone, and their bytes."""
    these = transient_copies.c
    query = select(func.count(), _sum(these.bytes)).where(these.transient_id == id_, these.fate == GONE)
    files, bytes_ = connection.execute(query).one()
    return int(files), int(bytes_)


def forget_copies(connection: Connection, ids: Sequence[int]) -> None:
    """Those of an earlier time that these were to leave, or of one that came to nothing."""
    for chunk in chunks(ids):
        connection.execute(delete(transient_copies).where(transient_copies.c.transient_id.in_(chunk)))


def write_copies(connection: Connection, id_: TransientId, first: int, copies: Sequence[Copy]) -> None:
    """Copies, numbered from `first`."""
    rows = [
        (id_, number, *copy.did, copy.rse, without_nul(copy.pfn), copy.bytes, copy.fate)
        for number, copy in enumerate(copies, first)
    ]
    insert_many(connection, transient_copies, _COLUMNS, rows)


def _copy(row: Mapping[Any, Any]) -> Copy:
    did = Did(row["scope"], row["name"])
    return Copy(did=did, rse=row["rse"], pfn=row["pfn"], bytes=row["bytes"], fate=row["fate"])


def _sum(what: Any) -> Any:
    return func.coalesce(func.sum(what), 0)
