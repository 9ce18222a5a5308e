"""What people said of runs, and rules may ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from pydantic import BaseModel, ConfigDict
from sqlalchemy import Connection, and_, delete, exists, insert, or_, select

from orchestrator.store.engine import Database
from orchestrator.store.facts import judge_again, let_no_answer_in
from orchestrator.store.intake import chunks, take_turns
from orchestrator.store.journal import record
from orchestrator.store.signals import MESSAGES
from orchestrator.store.tables import facts, messages, run_flags
from schemas.message import MessageState


class RunFlag(BaseModel):
    """One flag of one run."""

    model_config = ConfigDict(frozen=True)

    run: int
    flag: str
    who: str
    reason: str
    at: datetime


def flags_of_runs(connection: Connection) -> Mapping[int, Sequence[str]]:
    """The flags of every run that has some."""
    found: dict[int, list[str]] = {}
    query = select(run_flags.c.run, run_flags.c.flag).order_by(run_flags.c.run, run_flags.c.flag)
    for run, flag in connection.execute(query):
        found.setdefault(run, []).append(flag)
    return found


class RunFlags:
    """The flags of runs. Whoever changes one has the pending messages of that run judged again."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def set(self, runs: Sequence[int], flag: str, *, who: str, reason: str, now: datetime) -> list[int]:
        """Give runs a flag. Returns those that did not have it."""
        with self._database.write(MESSAGES) as connection:
            self._alone(connection)
            have = set(connection.scalars(select(run_flags.c.run).where(run_flags.c.flag == flag)))
            new = [run for run in dict.fromkeys(runs) if run not in have]
            if new:
                rows = [{"run": run, "flag": flag, "who": who, "reason": reason, "at": now} for run in new]
                connection.execute(insert(run_flags), rows)
            self._changed(connection, new, flag, None, "set", who, reason, now)
        return new

    def unset(self, runs: Sequence[int], flag: str, *, who: str, reason: str, now: datetime) -> list[int]:
        """Take a flag from runs. Returns those that had it."""
        with self._database.write(MESSAGES) as connection:
            self._alone(connection)
            have = set(connection.scalars(select(run_flags.c.run).where(run_flags.c.flag == flag)))
            old = [run for run in dict.fromkeys(runs) if run in have]
            for chunk in chunks(old):
                connection.execute(delete(run_flags).where(run_flags.c.flag == flag, run_flags.c.run.in_(chunk)))
            self._changed(connection, old, flag, "set", "unset", who, reason, now)
        return old

    def list(self, run: int | None = None) -> list[RunFlag]:
        """Every flag, or those of one run."""
        query = select(run_flags).order_by(run_flags.c.run, run_flags.c.flag)
        if run is not None:
            query = query.where(run_flags.c.run == run)
        with self._database.read() as connection:
            return [RunFlag.model_validate(dict(row)) for row in connection.execute(query).mappings()]

    def _alone(self, connection: Connection) -> None:
        """No message of a run arrives, is put back, or is found to be of it, before the flags are committed.

        It could be judged by the flags as they were, and would not be judged again.
        """
        take_turns(self._database, connection)
        let_no_answer_in(connection)

    def _changed(
        self,
        connection: Connection,
        runs: Sequence[int],
        flag: str,
        source: str | None,
        target: str,
        who: str,
        reason: str,
        now: datetime,
    ) -> None:
        record(connection, "run", runs, source, target, who=who, why=f"{flag}: {reason}", at=now)
        asked = exists().where(and_(facts.c.message_id == messages.c.id, facts.c.document.is_not(None)))
        found: set[int] = set()
        for chunk in chunks(runs):
            # a run's number stands in the name, or the catalog has told it
            named = [messages.c.name.contains(str(run), autoescape=True) for run in chunk]
            again = (messages.c.state == MessageState.PENDING, or_(asked, *named))
            found.update(connection.scalars(select(messages.c.id).where(*again)))
        judge_again(connection, found)
