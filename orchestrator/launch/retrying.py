"""Retries what has failed of launches by the policies of their workflows: decides and asks; the commander carries out.

Nothing is lost by a death in between: what was decided and not asked is decided again, and what is asked is written
down together with the moment at which it is looked at again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final, assert_never

import structlog

from orchestrator.clock import Clock
from orchestrator.core.failures import Table
from orchestrator.core.naming import round_of
from orchestrator.core.retrying import Decision, Later, Retried, Stays, decide, settled_without_asking
from orchestrator.launch.receipts import tracked
from orchestrator.panda.port import Engine, EngineRefused, EngineUnavailable, UnknownSubmission
from orchestrator.settings import ConfigurationError
from orchestrator.store.launch_commands import LaunchCommands
from orchestrator.store.launch_retries import LaunchRetries
from orchestrator.store.launches import Launches
from orchestrator.store.port import StoreUnavailable
from schemas.launch import Launch, LaunchCommand
from schemas.retry import RetryPolicy

log = structlog.get_logger()

#: What was asked is looked at again after so long: the engine may refuse it.
_LOOK_AGAIN: Final = timedelta(minutes=1)

#: While the engine is away, a launch is decided about again after so long.
_AWAY: Final = timedelta(seconds=30)

#: One over which we stumbled is left alone for so long.
_ODD: Final = timedelta(minutes=30)


class Retrier:
    """Decides about launches that have ended and are not complete, each once for each end.

    Args:
        table: reads what errors mean, as it is now. Raises ConfigurationError.
    """

    def __init__(
        self,
        launches: Launches,
        commands: LaunchCommands,
        retries: LaunchRetries,
        engine: Engine,
        table: Callable[[], Table],
        *,
        clock: Clock,
    ) -> None:
        self._launches = launches
        self._commands = commands
        self._retries = retries
        self._engine = engine
        self._table = table
        self._clock = clock
        #: What stands in the way of deciding, said once for as long as it is the same.
        self._in_the_way: str | None = None

    def decide(self) -> None:
        """Decide about some of those that are due. One that goes wrong does not keep the others.

        Raises:
            StoreUnavailable: the next turn does it.
        """
        due = self._retries.due(self._engine.identity, now=self._clock())
        if not due:
            return
        try:
            table = self._table()
        except ConfigurationError as error:
            self._say_in_the_way(f"what errors mean cannot be read: {error}")
            return
        for launch in due:
            try:
                self._settle(launch, self._decision(launch, table))
            except EngineUnavailable as error:
                self._retries.postpone(launch, self._clock() + _AWAY)
                self._say_in_the_way(str(error))
                return  # the others would fare no better, and are the first at the next turn
            except StoreUnavailable:
                raise
            except Exception:  # a defect; the others are decided about all the same
                log.exception("retry.defect", launch=launch.id, name=launch.name)
                self._retries.postpone(launch, self._clock() + _ODD)
        else:
            self._in_the_way = None

    def _decision(self, launch: Launch, table: Table) -> Decision:
        """Raises EngineUnavailable."""
        policy = launch.retry
        if policy is None:
            return Stays("it was launched without a policy")
        commands = self._commands.of(launch.id)
        early = self._repeated(launch) or settled_without_asking(launch, commands, self._clock())
        return early if early is not None else self._judged(launch, policy, table, commands)

    def _repeated(self, launch: Launch) -> Stays | None:
        """What somebody has launched once more is not brought back beside it."""
        later = [each for each in self._launches.rounds(launch.key) if round_of(each.key) > round_of(launch.key)]
        return Stays(f"launch {later[-1].id} ({later[-1].name}) repeats it") if later else None

    def _judged(self, launch: Launch, policy: RetryPolicy, table: Table, commands: Sequence[LaunchCommand]) -> Decision:
        try:
            failed = self._engine.failures(tracked(self._launches, launch))
        except (EngineRefused, UnknownSubmission) as error:
            return Stays(f"the engine does not tell what failed: {error}")
        by_step = self._engine.retries_steps
        return decide(launch, policy, failed.jobs, table, commands, self._clock(), by_step=by_step)

    def _settle(self, launch: Launch, decision: Decision) -> None:
        now = self._clock()
        match decision:
            case Later():
                self._retries.postpone(launch, decision.at)
            case Stays():
                if self._retries.leave(launch, decision.why, now=now):
                    log.warning("launch.not_retried", launch=launch.id, name=launch.name, reason=decision.why)
            case Retried():
                self._ask(launch, decision)
            case _:
                assert_never(decision)

    def _ask(self, launch: Launch, decision: Retried) -> None:
        now = self._clock()
        not_asked = self._retries.ask(launch, decision.wanted, look_again_at=now + _LOOK_AGAIN, now=now)
        if not_asked is not None:
            log.info("launch.not_retried", launch=launch.id, name=launch.name, reason=not_asked)
            return
        for each in decision.wanted:
            parameters = dict(each.parameters)
            log.info("launch.retried", launch=launch.id, step=each.step, parameters=parameters, reason=each.why)

    def _say_in_the_way(self, why: str) -> None:
        if why != self._in_the_way:
            self._in_the_way = why
            log.warning("retry.waits", engine=self._engine.name, reason=why)
