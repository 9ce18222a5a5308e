"""What was compared with the catalog, and how far."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy import bindparam, func, insert, select

from orchestrator.store.engine import Database
from orchestrator.store.intake import chunks
from orchestrator.store.tables import messages, reconciliations
from schemas.did import Did
from schemas.event import LIFE_EVENTS
from schemas.message import MessageState
from schemas.reconciliation import Reconciliation

#: Scope by scope: SQLite uses no index for pairs.
_LIVES = select(messages.c.name, messages.c.event_type, messages.c.created_at).where(
    messages.c.scope == bindparam("scope"),
    messages.c.name.in_(bindparam("names", expanding=True)),
    messages.c.event_type.in_(sorted(LIFE_EVENTS)),
    messages.c.state != MessageState.QUARANTINED,
)


class Reconciliations:
    """Comparisons with the catalog."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def mark(self, catalog: str) -> datetime | None:
        """Up to when all of this catalog's closings were compared, without a gap; None if they never were."""
        query = select(func.max(reconciliations.c.mark)).where(reconciliations.c.catalog == catalog)
        with self._database.read() as connection:
            found: datetime | None = connection.scalars(query).one()
            return found

    def note(self, done: Reconciliation) -> Reconciliation:
        """Write down what was compared. The mark never goes back. Returns it with its number."""
        values = done.model_dump(exclude={"id"})
        with self._database.write() as connection:
            id_ = connection.scalars(insert(reconciliations).values(**values).returning(reconciliations.c.id)).one()
        return done.model_copy(update={"id": id_})

    def latest(self, limit: int) -> Sequence[Reconciliation]:
        """The last ones, newest first."""
        query = select(reconciliations).order_by(reconciliations.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            return [Reconciliation(**row) for row in connection.execute(query).mappings()]

    def lives(self, dids: Collection[Did]) -> Mapping[Did, Sequence[tuple[str, datetime]]]:
        """What happened to these datasets, and when, as far as it is stored; those without anything are left out."""
        names: dict[str, list[str]] = {}
        for did in dids:
            names.setdefault(did.scope, []).append(did.name)
        found: dict[Did, list[tuple[str, datetime]]] = {}
        with self._database.read() as connection:
            for scope, within in names.items():
                for chunk in chunks(within):
                    for name, what, at in connection.execute(_LIVES, {"scope": scope, "names": chunk}):
                        found.setdefault(Did(scope, name), []).append((what, at))
        return found
