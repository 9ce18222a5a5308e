"""What must stay, because a person or a rule said so. It counts whatever a policy says."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection, insert, or_, select, update

from orchestrator.core.transient.protection import STAYS, demand_glob, exactly
from orchestrator.store.engine import Database
from orchestrator.store.journal import record, without_nul
from orchestrator.store.port import NotAllowed, NotFound
from orchestrator.store.tables import transient_keeps
from schemas.did import Did
from schemas.globs import mistake_in_glob
from schemas.transient import Keep


class TransientKeeps:
    """Every keep there ever was. They are never deleted, only lifted."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(self, which: str, *, who: str, why: str, now: datetime, until: datetime | None = None) -> Keep:
        """Let nothing leave whose `scope:name` fits the glob, until then or for ever. What is leaving already leaves.

        Raises:
            NotAllowed: it is no glob that anything could fit, or it would be over already.
        """
        try:
            demand_glob(which)
        except ValueError as error:
            raise NotAllowed(str(error)) from None
        if (mistake := mistake_in_glob(which)) is not None:
            raise NotAllowed(mistake)
        if until is not None and until <= now:
            raise NotAllowed(f"until {until:%Y-%m-%d %H:%M} UTC is over: nothing would be kept")
        with self._database.write() as connection:
            return _kept(connection, which, who, why, now, until)

    def lift(self, id_: int, *, who: str, why: str, now: datetime) -> Keep:
        """Let it keep nothing any more. Raises NotFound: there is none, or it was lifted before."""
        this = (transient_keeps.c.id == id_, transient_keeps.c.lifted_at.is_(None))
        with self._database.write() as connection:
            lifted = update(transient_keeps).where(*this).values(lifted_at=now, lifted_by=who)
            row = connection.execute(lifted.returning(*transient_keeps.c)).mappings().one_or_none()
            if row is None:
                raise NotFound(f"there is no keep {id_} in force; `muleteer transient keeps` shows which there are")
            record(connection, "keep", [id_], "kept", "lifted", who=who, why=f"{row['which']}: {why}", at=now)
            return Keep.model_validate(dict(row))

    def in_force(self, now: datetime) -> list[Keep]:
        """Those that were not lifted and are not over, oldest first."""
        with self._database.read() as connection:
            return keeps_in_force(connection, now)

    def all(self, limit: int) -> list[Keep]:
        """Those that are over or lifted, too; newest first."""
        query = select(transient_keeps).order_by(transient_keeps.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            return [Keep.model_validate(dict(row)) for row in connection.execute(query).mappings()]


def keep_for_a_while(connection: Connection, dids: Iterable[Did], *, who: str, why: str, now: datetime) -> None:
    """Have each of these datasets, and no other, stay for a week, within a transaction."""
    for did in dids:
        _kept(connection, exactly(did), who, why, now, now + STAYS)


def _kept(connection: Connection, which: str, who: str, why: str, now: datetime, until: datetime | None) -> Keep:
    row = {"which": which, "who": who, "why": without_nul(why), "at": now, "until": until}
    made = insert(transient_keeps).values(row).returning(*transient_keeps.c)
    kept = Keep.model_validate(dict(connection.execute(made).mappings().one()))
    record(connection, "keep", [kept.id], None, "kept", who=who, why=f"{which}: {why}", at=now)
    return kept


def keeps_in_force(connection: Connection, now: datetime) -> list[Keep]:
    these = transient_keeps.c
    lasts = or_(these.until.is_(None), these.until > now)
    query = select(transient_keeps).where(these.lifted_at.is_(None), lasts).order_by(these.id)
    return [Keep.model_validate(dict(row)) for row in connection.execute(query).mappings()]
