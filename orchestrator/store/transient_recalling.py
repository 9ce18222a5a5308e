"""Transient datasets that are called back: what has to be known of that when whoever does it breaks off."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Select, func, select, update

from orchestrator.store.journal import record, without_nul
from orchestrator.store.port import NotAllowed
from orchestrator.store.tables import Row, journal, transients
from orchestrator.store.transient_rows import Part, demand, life_of, locked, refused, transient_of
from schemas.did import Did
from schemas.transient import Refusal, Transient, TransientId, TransientState

#: The check that stands in the way of what is being called back.
RECALLED: Final = "recalled"

#: How the journal says that it was taken out of something, and that somebody calls it back.
_TAKEN_OUT: Final = "taken out of "
_CALLED: Final = "calls it back: "

_RELEASED, _LEAVING = TransientState.RELEASED, TransientState.LEAVING


class Recall(NamedTuple):
    """Somebody calls it back, and that is not finished."""

    who: str
    why: str


class Recalling(Part):
    """Part of `Transients`: what is called back while it leaves."""

    def note_recall(self, id_: TransientId, *, who: str, why: str, now: datetime) -> Transient:
        """A person calls it back: from now on it goes no further, whoever works on it. It is due at once.

        Raises:
            NotFound: there is no such transient dataset.
            NotAllowed: it is not leaving.
        """
        with self._database.write() as connection:
            demand(connection, id_)
            (row,) = locked(connection, [id_])
            if row["state"] != _LEAVING:
                raise NotAllowed(f"{life_of(row).did} is {row['state']}: only what is leaving can be recalled")
            more = f"a running service finishes that, or `muleteer transient recall {id_}` once more"
            said = f"{who} {_CALLED}{why} ({more})"
            values: Row = {
                "reason": without_nul(said),
                "updated_at": now,
                "not_before": None,
                **refused([Refusal(RECALLED, said)]),
            }
            changed = update(transients).where(transients.c.id == id_).values(**values).returning(*transients.c)
            noted = dict(connection.execute(changed).mappings().one())
            record(connection, "transient", [id_], _LEAVING, _LEAVING, who=who, why=f"{_CALLED}{why}", at=now)
            return transient_of(noted)

    def recall_noted(self, id_: TransientId) -> Recall | None:
        """Who calls it back, as long as that is not finished."""
        standing = select(transients.c.refusals).where(transients.c.id == id_, transients.c.state == _LEAVING)
        with self._database.read() as connection:
            found = connection.scalar(standing)
            if found is None or all(check != RECALLED for check, _ in json.loads(found)):
                return None
            who, why = connection.execute(_said(id_, _CALLED, journal.c.who, journal.c.why)).all()[-1]
            return Recall(who, why.removeprefix(_CALLED))

    def drop_recall(self, id_: TransientId, *, who: str, why: str, now: datetime) -> None:
        """It cannot be called back: it goes on leaving."""
        with self._database.write() as connection:
            values: Row = {"reason": without_nul(why), "updated_at": now, **refused([])}
            its = (transients.c.id == id_, transients.c.state == _LEAVING)
            if connection.execute(update(transients).where(*its).values(**values)).rowcount:
                record(connection, "transient", [id_], _LEAVING, _LEAVING, who=who, why=why, at=now)

    def note_container(self, id_: TransientId, container: Did, *, who: str, now: datetime) -> None:
        """It is taken out of something: written down before that is done, so that a recall can put it back."""
        if container in self.containers_noted(id_):
            return
        with self._database.write() as connection:
            said = f"{_TAKEN_OUT}{container}"
            record(connection, "transient", [id_], _LEAVING, _LEAVING, who=who, why=said, at=now)

    def containers_noted(self, id_: TransientId) -> list[Did]:
        """What it was taken out of since it began to leave, in the order in which that was done."""
        with self._database.read() as connection:
            found = connection.execute(_said(id_, _TAKEN_OUT, journal.c.why))
            return [Did.parse(str(why).removeprefix(_TAKEN_OUT)) for (why,) in found]


def _said(id_: TransientId, first: str, *columns: ColumnElement[Any]) -> Select[Any]:
    """What the journal has, beginning with these words, since it began to leave; oldest first."""
    its = (journal.c.subject == "transient", journal.c.subject_id == id_, journal.c.to_state == _LEAVING)
    begun = select(func.max(journal.c.id)).where(*its, journal.c.from_state == _RELEASED).scalar_subquery()
    said = select(*columns).where(*its, journal.c.from_state == _LEAVING, journal.c.id > begun)
    return said.where(journal.c.why.startswith(first, autoescape=True)).order_by(journal.c.id)
