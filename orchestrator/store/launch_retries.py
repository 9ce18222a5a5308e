"""Launches of which it is to be decided whether what failed is retried, and what was decided: each once.

A launch that ends and is not complete gets the moment of its decision, if it was launched with a policy. Whatever is
decided is written only if that moment is still the one that was read; so of several who decide, one does.

While its rule, its rule's group or everything is suspended, a launch is not due: it is as soon as that goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import islice
from typing import Any, Final

from sqlalchemy import Connection, select, update

from orchestrator.core.by_hand import Hand, Tally
from orchestrator.core.gates import EVERYTHING, Subject, subjects_of
from orchestrator.core.retry_steps import WHO
from orchestrator.core.retrying import RETRIED_FROM, Wanted
from orchestrator.store.engine import Database
from orchestrator.store.gates import GateKeeper, stamp_of, suspended, take_turn
from orchestrator.store.journal import record
from orchestrator.store.launch_commands import Ask, sorted_out, write_asked
from orchestrator.store.launch_rows import launch_of
from orchestrator.store.tables import dispatches, launch_commands, launches, suspensions
from schemas.gate import Suspension
from schemas.launch import Command, CommandState, Launch

#: Launches with their rules, and the groups that these had then; those by hand have none.
_OF_RULES: Final = select(launches.c.id, dispatches.c.rule, dispatches.c.rule_group).outerjoin_from(
    launches, dispatches, dispatches.c.id == launches.c.dispatch_id
)


class LaunchRetries:
    """Decisions of retry policies."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._keeper = GateKeeper()

    def due(self, engine: str, *, now: datetime, limit: int = 50) -> list[Launch]:
        """Launches of an engine that are to be decided about by now, those that wait longest first."""
        by_now = (launches.c.retry_at <= now, launches.c.engine == engine, launches.c.state.in_(sorted(RETRIED_FROM)))
        with self._database.read() as connection:
            query = select(launches).order_by(launches.c.retry_at, launches.c.id).limit(limit)
            if stamp_of(connection).suspended:
                query = query.where(launches.c.id.in_(self._let_through(connection, by_now, limit)))
            return [launch_of(dict(row)) for row in connection.execute(query.where(*by_now)).mappings()]

    def _let_through(self, connection: Connection, by_now: Sequence[Any], limit: int) -> list[int]:
        """The first of these launches that nothing holds up."""
        held = self._held_up(connection)
        if held(None, None) is not None:
            return []  # everything stands still
        query = _OF_RULES.where(*by_now).order_by(launches.c.retry_at, launches.c.id)
        passing = (id_ for id_, rule, group in connection.execute(query) if held(rule, group) is None)
        return list(islice(passing, limit))

    def _held_up(self, connection: Connection) -> Callable[[str | None, str | None], Subject | None]:
        """What holds up launches of a rule, and of the group that it had then; of no rule, those by hand."""
        still = suspended(connection)
        regime = self._keeper.regime(connection, {})

        def held(rule: str | None, then: str | None) -> Subject | None:
            on_the_way = [EVERYTHING] if rule is None else subjects_of(rule, regime.group_of(rule, then))
            return next((each for each in on_the_way if each in still), None)

        return held

    def held_up_by(self, launch: Launch) -> Suspension | None:
        """What has to go on before it is decided about a launch; None if nothing stands still."""
        with self._database.read() as connection:
            subject = self._subject_in_the_way(connection, launch)
            if subject is None:
                return None
            this = (suspensions.c.kind == subject.kind, suspensions.c.name == subject.name)
            found = connection.execute(select(suspensions).where(*this)).mappings().first()
            return None if found is None else Suspension.model_validate(dict(found))

    def _subject_in_the_way(self, connection: Connection, launch: Launch) -> Subject | None:
        if not stamp_of(connection).suspended:
            return None
        _, rule, then = connection.execute(_OF_RULES.where(launches.c.id == launch.id)).one()
        return self._held_up(connection)(rule, then)

    def postpone(self, launch: Launch, until: datetime) -> bool:
        """Decide about it not before then. False if somebody else was first."""
        with self._database.write() as connection:
            return _set(connection, launch, until)

    def leave(self, launch: Launch, why: str, *, now: datetime) -> bool:
        """It is not retried, and its journal says why. False if somebody else was first."""
        with self._database.write() as connection:
            return _left(connection, launch, why, now)

    def ask(self, launch: Launch, wanted: Sequence[Wanted], *, look_again_at: datetime, now: datetime) -> str | None:
        """Ask for these retries. Until one is taken the launch is decided about again, at that moment.

        Beside another launch for the same that is at work nothing is asked, and that is its journal's last word. If it
        is held up by now nothing is asked either, and it is due once that goes on.

        Returns:
            why nothing was asked, in words; None if all was.
        """
        with self._database.write() as connection:
            take_turn(connection, alone=False)  # whoever suspends it has done so before, or does so after
            held = self._subject_in_the_way(connection, launch)
            if held is not None:
                return f"{held.words} is suspended"
            if not _set(connection, launch, look_again_at):
                return "somebody else has decided already"
            if _is_asked_for(connection, launch):
                return "somebody has asked for a retry"
            asks = [Ask(Command.RETRY, each.step, each.parameters, attempt_of=each.attempt_of) for each in wanted]
            rival = _rival(connection, asks[0], launch)
            if rival is not None:
                _left(connection, launch.model_copy(update={"retry_at": look_again_at}), rival, now)
                return rival
            for ask, each in zip(asks, wanted, strict=True):
                write_asked(connection, ask, [launch.id], {launch.id: launch.state}, Hand(WHO, each.why, now))
        return None


def _set(connection: Connection, launch: Launch, at: datetime | None) -> bool:
    """Move the decision; False if the launch is not as it was read."""
    this: list[Any] = [launches.c.id == launch.id, launches.c.state == launch.state]
    as_read = launches.c.retry_at == launch.retry_at
    moved = update(launches).where(*this, as_read).values(retry_at=at).returning(launches.c.id)
    return connection.scalars(moved).first() is not None


def _left(connection: Connection, launch: Launch, why: str, now: datetime) -> bool:
    if not _set(connection, launch, None):
        return False
    said = f"not retried by {WHO}: {why}"
    record(connection, "launch", [launch.id], launch.state, launch.state, who=WHO, why=said, at=now)
    return True


def _is_asked_for(connection: Connection, launch: Launch) -> bool:
    query = select(launch_commands.c.id).where(
        launch_commands.c.launch_id == launch.id,
        launch_commands.c.command == Command.RETRY,
        launch_commands.c.state == CommandState.WANTED,
    )
    return connection.execute(query.limit(1)).first() is not None


def _rival(connection: Connection, ask: Ask, launch: Launch) -> str | None:
    """Another launch for the same that is at work, in words."""
    tally = Tally()
    if sorted_out(connection, ask, [launch.id], {launch.id: launch.state}, tally):
        return None
    return "; ".join([*tally.details.values()] or [*tally.stayed])
