"""What looks at the catalog have found of transient datasets, and which of them people want to stay longer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, bindparam, select, update

from orchestrator.store.intake import chunks
from orchestrator.store.journal import move, record
from orchestrator.store.port import NotAllowed, NotFound
from orchestrator.store.tables import Row, transients
from orchestrator.store.transient_copies import forget_copies
from orchestrator.store.transient_rows import (
    AT_ONCE,
    SAID,
    UNCLAIMED,
    Life,
    Part,
    demand,
    entered,
    life_of,
    locked,
    row_of,
    rows_of,
    said_of,
    state_of,
    transient_of,
)
from orchestrator.store.transient_spending import forget_releases
from schemas.did import Did
from schemas.transient import Refused, Release, Transient, TransientId, TransientState

#: Nobody has released it: a look may change it.
_FREE: Final = (TransientState.HELD, TransientState.RELEASABLE)

#: Nothing was done to it: if it is gone, it went by other hands.
_UNTOUCHED: Final = (*_FREE, TransientState.RELEASED)

_CHANGES: Final = (
    update(transients)
    .where(transients.c.id == bindparam("this"))
    .values({name: bindparam(f"new_{name}") for name in (*SAID, "updated_at")})
)


class Seeing(Part):
    """Part of `Transients`: what was found."""

    def seen(
        self,
        releasable: Sequence[Release],
        refused: Sequence[Refused],
        *,
        who: str,
        now: datetime,
        catalog: str | None = None,
    ) -> None:
        """Write down what a look has found, a thousand datasets in a transaction.

        Lives that are new are added. What was held and is proved now becomes releasable, and the other way round. What
        is released, leaving or gone is left alone; but what had vanished by other hands and is seen in a catalog again
        is held first. If nothing is new about one, the journal hears nothing.

        Args:
            catalog: the identity of the one in which they were seen. If it is not said, what is known of that stands.
        """
        looks: list[Release | Refused] = [*releasable, *refused]
        for start in range(0, len(looks), AT_ONCE):
            some = {_life(look): look for look in looks[start : start + AT_ONCE]}
            with self._database.write() as connection:
                rows = entered(connection, [row_of(look, now, catalog) for look in some.values()], who=who, now=now)
                _note(connection, some, rows, who, now, catalog)

    def vanished(self, lives: Iterable[tuple[Did, datetime]], *, who: str, why: str, now: datetime) -> list[Transient]:
        """The catalog has these no more (each with when it was made), and it was not us: they are gone.

        Returns those that were held, releasable or released. What is leaving is not settled by this.
        """
        wanted = {Life(did, born_at) for did, born_at in lives}
        gone: list[int] = []
        with self._database.write() as connection:
            found = rows_of(connection, (life.did for life in wanted))
            rows = locked(connection, [row["id"] for row in found if life_of(row) in wanted])
            for state in _UNTOUCHED:
                ids = [row["id"] for row in rows if row["state"] == state]
                values = {"reason": why, "gone_at": now, "updated_at": now, **UNCLAIMED}
                gone += move(
                    connection, transients, ids, state, TransientState.GONE, who=who, why=why, at=now, **values
                )
            forget_copies(connection, gone)
            forget_releases(connection, gone)
            return [transient_of(row) for row in locked(connection, gone)]

    def extend(
        self, did: Did, until: datetime, *, who: str, why: str, now: datetime, shorten: bool = False
    ) -> Transient:
        """Let it stay until then, even if it was released. A longer extension stands, unless this is to `shorten` it.

        Raises:
            NotFound: no policy has matched it yet, or it is gone.
            NotAllowed: it is leaving already.
        """
        with self._database.write() as connection:
            row = _newest(connection, did)
            before, state = row["extended_until"], row["state"]
            if state == TransientState.LEAVING:
                raise NotAllowed(f"{did} is leaving: `muleteer transient recall {row['id']}` saves what is left of it")
            if before is None or before < until or (shorten and before != until):
                id_ = row["id"]
                values = {"extended_until": until, "updated_at": now}
                connection.execute(update(transients).where(transients.c.id == id_).values(**values))
                said = f"stays until {until:%Y-%m-%d %H:%M} UTC: {why}"
                record(connection, "transient", [id_], state, state, who=who, why=said, at=now)
            return transient_of(demand(connection, TransientId(row["id"])))


def _life(look: Release | Refused) -> Life:
    return Life(Did.parse(look.did), look.born_at)


def _note(
    connection: Connection,
    looks: Mapping[Life, Release | Refused],
    rows: Mapping[Life, Row],
    who: str,
    now: datetime,
    catalog: str | None,
) -> None:
    same: list[int] = []
    changed: list[Row] = []
    moved: dict[tuple[TransientState, TransientState, str | None], list[int]] = {}
    for life, look in looks.items():
        row = rows[life]
        said = said_of(look, now, catalog or row["catalog"])
        if row["state"] not in _FREE:
            continue
        source, target = TransientState(row["state"]), state_of(look)
        if source is not target:
            moved.setdefault((source, target, said["reason"]), []).append(row["id"])
        elif all(row[name] == value for name, value in said.items() if name != "seen_at"):
            same.append(row["id"])
            continue
        changed.append({"this": row["id"], "new_updated_at": now, **{f"new_{name}": said[name] for name in said}})
    for chunk in chunks(same):
        connection.execute(update(transients).where(transients.c.id.in_(chunk)).values(seen_at=now))
    if changed:
        connection.execute(_CHANGES, changed)
    failed = [rows[life]["id"] for life, look in looks.items() if isinstance(look, Refused) and look.closely]
    proved = [rows[life]["id"] for life, look in looks.items() if isinstance(look, Release)]
    for ids, at in ((failed, now), (proved, None)):
        for chunk in chunks(ids):
            this = (transients.c.id.in_(chunk), transients.c.state.in_(_FREE))
            connection.execute(update(transients).where(*this).values(failed_at=at))
    for (source, target, why), ids in moved.items():
        move(connection, transients, ids, source, target, who=who, why=why, at=now)


def _newest(connection: Connection, did: Did) -> Row:
    """The newest life of a dataset that is not gone, locked. Raises NotFound."""
    query = (
        select(transients)
        .where(
            transients.c.scope == did.scope,
            transients.c.name == did.name,
            transients.c.state != TransientState.GONE,
        )
        .order_by(transients.c.born_at.desc())
        .limit(1)
        .with_for_update()
    )
    found = connection.execute(query).mappings().one_or_none()
    if found is None:
        raise NotFound(f"no policy has matched {did} at a survey yet: `muleteer transient keep {did}` keeps it anyway")
    return dict(found)
