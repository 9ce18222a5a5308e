"""Work that only one process is to do at a time, and not too often: whose turn it is."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import and_, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from orchestrator.store.engine import Database
from orchestrator.store.tables import turns


class Turns:
    """Turns at named work. One that ended is followed by the next when it is due, one that was cut off at once."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def begin(self, name: str, *, owner: str, every: timedelta, lease: timedelta, now: datetime) -> bool:
        """Whether it is this owner's turn, which lasts for as long as the lease unless it is renewed.

        False: another one is at it, or the last turn that ended began less than `every` ago.
        """
        row = {"name": name, "owner": owner, "begun_at": now, "until": now + lease, "ended_at": None}
        due = or_(
            and_(turns.c.ended_at.is_(None), turns.c.until <= now),
            and_(turns.c.ended_at.is_not(None), turns.c.begun_at <= now - every),
        )
        with self._database.read() as connection:
            known = connection.execute(select(turns.c.name, due).where(turns.c.name == name)).one_or_none()
            if known is not None and not known[1]:
                return False  # as nearly always: no need to become the writer
        insert = sqlite.insert(turns) if self._database.is_sqlite else postgresql.insert(turns)
        taken = insert.values(row).on_conflict_do_update(index_elements=[turns.c.name], set_=row, where=due)
        with self._database.write() as connection:
            return connection.scalars(taken.returning(turns.c.owner)).one_or_none() is not None

    def renew(self, name: str, *, owner: str, lease: timedelta, now: datetime) -> bool:
        """Have the turn last so long from now on. False: it was over, and another one may be at it."""
        return self._change(name, owner, until=now + lease)

    def end(self, name: str, *, owner: str, now: datetime) -> None:
        """It is done. Nothing happens if another one is at it by now."""
        self._change(name, owner, ended_at=now)

    def give_up(self, name: str, *, owner: str, now: datetime) -> None:
        """It is not done: whoever comes next may begin at once."""
        self._change(name, owner, until=now)

    def _change(self, name: str, owner: str, **values: datetime) -> bool:
        mine = (turns.c.name == name, turns.c.owner == owner, turns.c.ended_at.is_(None))
        with self._database.write() as connection:
            return bool(connection.execute(update(turns).where(*mine).values(**values)).rowcount)
