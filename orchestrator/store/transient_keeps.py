"""What must stay, because a person or a rule said so. It counts whatever a policy says."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Select, insert, or_, select, update

from orchestrator.core.transient.protection import STAYS, alone, demand_glob, exactly
from orchestrator.store.engine import Database
from orchestrator.store.intake import chunks
from orchestrator.store.journal import record, without_nul
from orchestrator.store.port import NotAllowed, NotFound
from orchestrator.store.tables import transient_keeps
from schemas.did import Did
from schemas.globs import mistake_in_glob
from schemas.transient import Keep

#: Longer names are looked for among the globs: PostgreSQL's indexes have no room for them. In characters.
_LONGEST: Final = 500


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
            row = connection.execute(lifted.returning(*_SHOWN)).mappings().one_or_none()
            if row is None:
                raise NotFound(f"there is no keep {id_} in force; `muleteer transient keeps` shows which there are")
            record(connection, "keep", [id_], "kept", "lifted", who=who, why=f"{row['which']}: {why}", at=now)
            return Keep.model_validate(dict(row))

    def in_force(self, now: datetime) -> list[Keep]:
        """Those that were not lifted and are not over, oldest first."""
        with self._database.read() as connection:
            return _read(connection, _lasting(now).order_by(transient_keeps.c.id))

    def on(self, dids: Iterable[Did], now: datetime) -> list[Keep]:
        """Those in force of which one of these datasets may be kept: what names it, and every glob. Oldest first."""
        with self._database.read() as connection:
            return keeps_on(connection, dids, now)

    def saying(self, which: str, now: datetime) -> list[Keep]:
        """Those in force that say exactly this, oldest first."""
        these = transient_keeps.c
        named = these.did.is_(None) if (name := _named(which)) is None else these.did == name
        same = _lasting(now).where(named, these.which == which)
        with self._database.read() as connection:
            return _read(connection, same.order_by(these.id))

    def newest(self, limit: int, now: datetime) -> list[Keep]:
        """Those that were not lifted and are not over, newest first."""
        with self._database.read() as connection:
            return _read(connection, _lasting(now).order_by(transient_keeps.c.id.desc()).limit(limit))

    def all(self, limit: int) -> list[Keep]:
        """Those that are over or lifted, too; newest first."""
        query = select(*_SHOWN).order_by(transient_keeps.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            return _read(connection, query)


def keep_for_a_while(connection: Connection, dids: Iterable[Did], *, who: str, why: str, now: datetime) -> None:
    """Have each of these datasets, and no other, stay for a week, within a transaction."""
    for did in dids:
        _kept(connection, exactly(did), who, why, now, now + STAYS)


def _kept(connection: Connection, which: str, who: str, why: str, now: datetime, until: datetime | None) -> Keep:
    row = {"which": which, "did": _named(which), "who": who, "why": without_nul(why), "at": now, "until": until}
    made = insert(transient_keeps).values(row).returning(*_SHOWN)
    kept = Keep.model_validate(dict(connection.execute(made).mappings().one()))
    record(connection, "keep", [kept.id], None, "kept", who=who, why=f"{which}: {why}", at=now)
    return kept


def keeps_on(connection: Connection, dids: Iterable[Did], now: datetime) -> list[Keep]:
    """As `TransientKeeps.on`, within a transaction.

    There may be a hundred thousand names, of which none but these are read; globs are few.
    """
    these, names = transient_keeps.c, sorted(set(map(str, dids)))
    if not names:
        return []
    found = _read(connection, _lasting(now).where(these.did.is_(None)))
    for chunk in chunks(names):
        found += _read(connection, _lasting(now).where(these.did.in_(chunk)))
    return sorted(found, key=lambda keep: keep.id)


def _named(which: str) -> str | None:
    """The one dataset that it fits, as it is looked for; None: it is looked for among the globs."""
    name = alone(which)
    return name if name is not None and len(name) <= _LONGEST else None


#: What is told of a keep.
_SHOWN: Final = tuple(column for column in transient_keeps.c if column.name != "did")


def _lasting(now: datetime) -> Select[Any]:
    these = transient_keeps.c
    return select(*_SHOWN).where(these.lifted_at.is_(None), or_(these.until.is_(None), these.until > now))


def _read(connection: Connection, query: Select[Any]) -> list[Keep]:
    return [Keep.model_validate(dict(row)) for row in connection.execute(query).mappings()]
