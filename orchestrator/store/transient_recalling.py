"""Transient datasets that are called back: what has to be known of that when whoever does it breaks off."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import func, select, update

from orchestrator.store.journal import record, without_nul
from orchestrator.store.tables import Row, journal, transients
from orchestrator.store.transient_rows import Part, locked, refused
from schemas.did import Did
from schemas.transient import Refusal, TransientId, TransientState

#: The check that stands in the way of what is being called back.
RECALLED: Final = "recalled"

#: How the journal says that it was taken out of something.
_TAKEN_OUT: Final = "taken out of "

_RELEASED, _LEAVING = TransientState.RELEASED, TransientState.LEAVING


class Recalling(Part):
    """Part of `Transients`: what is called back while it leaves."""

    def note_recall(self, id_: TransientId, *, owner: str, who: str, why: str, now: datetime) -> bool:
        """A person calls it back: from now on it goes no further, also if that breaks off.

        Only another recall ends that. False if it is not leaving, or is not the owner's.
        """
        with self._database.write() as connection:
            row = next(iter(locked(connection, [id_])), None)
            if row is None or row["state"] != _LEAVING or row["owner"] != owner:
                return False
            said = f"{who} calls it back, which is not finished (`muleteer transient recall {id_}` does it): {why}"
            values: Row = {"reason": without_nul(said), "updated_at": now, **refused([Refusal(RECALLED, said)])}
            connection.execute(update(transients).where(transients.c.id == id_).values(**values))
            record(connection, "transient", [id_], _LEAVING, _LEAVING, who=who, why=said, at=now)
            return True

    def note_container(self, id_: TransientId, container: Did, *, who: str, now: datetime) -> None:
        """It is taken out of something: written down before that is done, so that a recall can put it back."""
        if container in self.containers_noted(id_):
            return
        with self._database.write() as connection:
            said = f"{_TAKEN_OUT}{container}"
            record(connection, "transient", [id_], _LEAVING, _LEAVING, who=who, why=said, at=now)

    def containers_noted(self, id_: TransientId) -> list[Did]:
        """What it was taken out of since it began to leave, in the order in which that was done."""
        its = (journal.c.subject == "transient", journal.c.subject_id == id_, journal.c.to_state == _LEAVING)
        begun = select(func.max(journal.c.id)).where(*its, journal.c.from_state == _RELEASED).scalar_subquery()
        said = select(journal.c.why).where(*its, journal.c.from_state == _LEAVING, journal.c.id > begun)
        said = said.where(journal.c.why.startswith(_TAKEN_OUT, autoescape=True)).order_by(journal.c.id)
        with self._database.read() as connection:
            return [Did.parse(str(why).removeprefix(_TAKEN_OUT)) for why in connection.scalars(said)]
