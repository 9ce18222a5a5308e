"""Suspensions: what stands still because a person or a circuit breaker said so, and the failures that lead to one."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, Final, NamedTuple

import structlog
from sqlalchemy import Connection, delete, exists, func, select, update
from sqlalchemy.dialects.postgresql import insert as insert_postgresql
from sqlalchemy.dialects.sqlite import insert as insert_sqlite

from orchestrator.core.gates import Subject
from orchestrator.store.engine import Database
from orchestrator.store.gates import limits_in, take_turn
from orchestrator.store.journal import record, without_nul
from orchestrator.store.port import NotFound
from orchestrator.store.signals import DISPATCHES
from orchestrator.store.tables import dispatches, launches, rule_versions, streaks, suspensions
from schemas.dispatch import DispatchId, DispatchState
from schemas.gate import Kind, Suspension
from schemas.launch import LaunchState

log = structlog.get_logger()

#: Who suspends a rule that fails again and again.
BREAKER: Final = "circuit breaker"


class Suspensions:
    """Suspending and resuming."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self) -> list[Suspension]:
        """What stands still: everything, then groups, then rules."""
        with self._database.read() as connection:
            rows = connection.execute(select(suspensions).order_by(suspensions.c.kind, suspensions.c.name)).mappings()
            return [Suspension.model_validate(dict(row)) for row in rows]

    def suspend(self, subject: Subject, *, who: str, why: str, now: datetime) -> tuple[Suspension, bool]:
        """Start nothing more of it; what is in flight goes on. After this returns, no worker claims any.

        Returns the suspension, and whether it is new: one that stands already stays as it is.

        Raises:
            NotFound: there is no such rule or group.
        """
        with self._database.write() as connection:
            take_turn(connection, alone=True)
            _demand(connection, subject)
            new = _suspend(connection, subject, who, why, now)
            found = connection.execute(select(suspensions).where(*_is(subject))).mappings().one()
            return Suspension.model_validate(dict(found)), new

    def resume(self, subject: Subject, *, who: str, why: str, now: datetime) -> Suspension:
        """Let it be started again; a rule's failures are forgotten. Returns what stood in the way.

        Raises:
            NotFound: it is not suspended.
        """
        with self._database.write(DISPATCHES) as connection:
            take_turn(connection, alone=True)
            _demand(connection, subject)
            if subject.kind is Kind.RULE:  # first, as whoever counts a failure does
                connection.execute(update(streaks).where(streaks.c.rule == subject.name).values(failures=0))
            found = connection.execute(delete(suspensions).where(*_is(subject)).returning(suspensions)).mappings()
            ended = found.one_or_none()
            if ended is None:
                raise NotFound(f"{subject.words} is not suspended; `muleteer dispatch status` shows what is")
            _record(connection, subject, "suspended", "resumed", who, why, now)
            return Suspension.model_validate(dict(ended))


def what_stops_transients(connection: Connection) -> Suspension | None:
    """Why no transient dataset is released and none is worked on; None if nothing is in the way."""
    stops = suspensions.c.kind.in_((Kind.TRANSIENT, Kind.EVERYTHING))
    found = (
        connection.execute(select(suspensions).where(stops).order_by(suspensions.c.kind).limit(1)).mappings().first()
    )
    return None if found is None else Suspension.model_validate(dict(found))


def _demand(connection: Connection, subject: Subject) -> None:
    """Raises NotFound for a name that nothing has: a slip of the pen must not look like a rule that stands still."""
    if subject.kind is Kind.RULE:
        known = select(rule_versions.c.id).where(rule_versions.c.name == subject.name).limit(1)
        if connection.execute(known).first() is None:
            raise NotFound(f"there is no rule {subject.name!r}; `muleteer rules list` shows which there are")
    elif subject.kind is Kind.GROUP:
        in_force = select(rule_versions.c.document).where(rule_versions.c.until_revision.is_(None))
        groups = {json.loads(document).get("group") for document in connection.scalars(in_force)} - {None}
        if subject.name not in groups:
            there = f"there are: {', '.join(sorted(groups))}" if groups else "no rule in force has one"
            raise NotFound(f"there is no group {subject.name!r}; {there}")


def _suspend(connection: Connection, subject: Subject, who: str, why: str, now: datetime) -> bool:
    """Whether it was not suspended before."""
    row = {"kind": subject.kind, "name": subject.name, "who": who, "reason": without_nul(why), "at": now}
    new = connection.execute(
        _insert(connection, suspensions).values(row).on_conflict_do_nothing().returning(suspensions.c.kind)
    ).first()
    if new is not None:
        _record(connection, subject, None, "suspended", who, why, now)
    return new is not None


def _record(
    connection: Connection, subject: Subject, source: str | None, target: str, who: str, why: str, now: datetime
) -> None:
    """The journal counts things by number: a rule by its newest version, a group or everything by 0."""
    id_ = 0
    if subject.kind is Kind.RULE:
        newest = select(func.max(rule_versions.c.id)).where(rule_versions.c.name == subject.name)
        id_ = connection.scalars(newest).one() or 0
    record(connection, "suspension", [id_], source, target, who=who, why=f"{subject.words}: {why}", at=now)


def _is(subject: Subject) -> list[Any]:
    return [suspensions.c.kind == subject.kind, suspensions.c.name == subject.name]


def _insert(connection: Connection, table: Any) -> Any:
    return insert_sqlite(table) if connection.dialect.name == "sqlite" else insert_postgresql(table)


# The circuit breaker, and other things that are counted for each rule.


class Tripped(NamedTuple):
    """A rule that the circuit breaker has suspended, and why. People hear of it once that is committed."""

    rule: str
    why: str


def tell(*tripped: Tripped | None) -> None:
    """Log what was committed."""
    for each in tripped:
        if each is not None:
            log.warning(
                "rule.suspended", rule=each.rule, reason=each.why, next=f"muleteer dispatch start --rule {each.rule}"
            )


def note_end_of_dispatch(
    connection: Connection, id_: DispatchId, state: DispatchState, reason: str, now: datetime
) -> Tripped | None:
    """Count a dispatch that has failed; one that is done ends the streak, unless its launch has yet to succeed."""
    rule = select(dispatches.c.rule).where(dispatches.c.id == id_)
    if state is DispatchState.FAILED:
        return _note_failure(connection, connection.scalars(rule).one(), f"dispatch {id_}: {reason}", now)
    if state is DispatchState.DONE:
        launched = exists(select(launches.c.id).where(launches.c.dispatch_id == id_))
        _end_streak(connection, streaks.c.rule == rule.scalar_subquery(), ~launched)
    return None


def note_end_of_launch(
    connection: Connection, id_: int, state: LaunchState, reason: str | None, now: datetime
) -> Tripped | None:
    """Count a launch that has failed or was killed, for its rule; one that finished ends the streak."""
    rule = (
        select(dispatches.c.rule).join(launches, launches.c.dispatch_id == dispatches.c.id).where(launches.c.id == id_)
    )
    if state in (LaunchState.FAILED, LaunchState.KILLED):
        name = connection.scalars(rule).one_or_none()
        if name is not None:
            return _note_failure(connection, name, f"launch {id_} is {state}: {reason or 'without a reason'}", now)
    elif state is LaunchState.FINISHED:
        _end_streak(connection, streaks.c.rule == rule.scalar_subquery())
    return None


def note_starts(connection: Connection, rule: str, count: int) -> None:
    """Count starts of a rule that starts its newest first."""
    added = _insert(connection, streaks).values(rule=rule, failures=0, starts=count)
    connection.execute(
        added.on_conflict_do_update(index_elements=[streaks.c.rule], set_={"starts": streaks.c.starts + count})
    )


def _end_streak(connection: Connection, *which: Any) -> None:
    connection.execute(update(streaks).where(*which, streaks.c.failures > 0).values(failures=0))


def _note_failure(connection: Connection, rule: str, last: str, now: datetime) -> Tripped | None:
    added = _insert(connection, streaks).values(rule=rule, failures=1, starts=0)
    counted = added.on_conflict_do_update(
        index_elements=[streaks.c.rule], set_={"failures": streaks.c.failures + 1}
    ).returning(streaks.c.failures)
    failures = connection.scalars(counted).one()
    in_force = (rule_versions.c.name == rule, rule_versions.c.until_revision.is_(None))
    document = connection.scalars(select(rule_versions.c.document).where(*in_force)).one_or_none()
    allowed = limits_in(json.loads(document)).failures if document is not None else None
    if allowed is None or failures < allowed:
        return None
    why = f"{failures} failures in a row, and {allowed} are allowed; the last was {last}"
    new = _suspend(connection, Subject(Kind.RULE, rule), BREAKER, why, now)
    return Tripped(rule, why) if new else None
