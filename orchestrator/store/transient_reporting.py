"""Looking at transient datasets: one by one, page by page, and what they come to."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import ColumnElement, func, select

from orchestrator.store.tables import transients
from orchestrator.store.transient_releasing import resting_on
from orchestrator.store.transient_rows import Part, demand, life_of, rows_of, transient_of
from schemas.did import Did
from schemas.transient import Transient, TransientId, TransientState


class StateOfPolicy(NamedTuple):
    """What the datasets of one policy in one state come to."""

    policy: str
    state: TransientState
    datasets: int
    #: In the datasets; several copies of a file count once.
    bytes: int


class Reporting(Part):
    """Part of `Transients`: read only."""

    def get(self, id_: TransientId) -> Transient:
        """One of them. Raises NotFound."""
        with self._database.read() as connection:
            return transient_of(demand(connection, id_))

    def any(self) -> bool:
        """Whether any dataset was ever noted here."""
        with self._database.read() as connection:
            return connection.execute(select(transients.c.id).limit(1)).first() is not None

    def find(self, did: Did) -> list[Transient]:
        """Every life of a dataset, the newest first; empty if no policy has matched it."""
        return list(self.lives([did]).get(did, ()))

    def lives(self, dids: Iterable[Did]) -> Mapping[Did, Sequence[Transient]]:
        """Every life of each dataset, the newest first; those of which there is none are left out."""
        found: dict[Did, list[Transient]] = {}
        with self._database.read() as connection:
            rows = sorted(rows_of(connection, dids), key=lambda row: row["born_at"], reverse=True)
        for row in rows:
            found.setdefault(life_of(row).did, []).append(transient_of(row))
        return found

    def resting_on(self, dids: Iterable[Did]) -> Mapping[Did, Sequence[str]]:
        """By dataset those (`scope:name`) that are released or leave, and of which it is the successor."""
        with self._database.read() as connection:
            return resting_on(connection, dids)

    def not_gone(self, after_id: int, limit: int) -> list[Transient]:
        """A page of those that the catalog should have still, by id."""
        return self.list(states=_NOT_GONE, after=after_id, limit=limit)

    def counts(self) -> list[StateOfPolicy]:
        """How many there are, by policy and state."""
        by = (transients.c.policy, transients.c.state)
        query = select(*by, func.count(), func.coalesce(func.sum(transients.c.bytes), 0)).group_by(*by).order_by(*by)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return [StateOfPolicy(policy, TransientState(state), count, int(size)) for policy, state, count, size in rows]

    def list(
        self,
        *,
        states: Sequence[TransientState] = (),
        policy: str | None = None,
        run: int | None = None,
        due_before: datetime | None = None,
        limit: int = 50,
        after: int | None = None,
    ) -> list[Transient]:
        """A page, by id; `after` is the last id of the page before. Everything given must hold."""
        wanted: list[ColumnElement[bool]] = [transients.c.id > after] if after is not None else []
        wanted += [transients.c.state.in_(states)] if states else []
        wanted += [transients.c.policy == policy] if policy is not None else []
        wanted += [transients.c.run == run] if run is not None else []
        wanted += [transients.c.due_at < due_before] if due_before is not None else []
        query = select(transients).where(*wanted).order_by(transients.c.id).limit(limit)
        with self._database.read() as connection:
            return [transient_of(dict(row)) for row in connection.execute(query).mappings()]


_NOT_GONE: Final = tuple(state for state in TransientState if state is not TransientState.GONE)
