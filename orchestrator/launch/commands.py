"""Carries out what people asked of launches, as whoever reaches the engine: who asks needs no token of his own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Final
from uuid import uuid4

import structlog

from orchestrator.clock import Clock
from orchestrator.core.commanding import FITS, HARMLESS_TWICE
from orchestrator.core.states import LAUNCH_ENDED
from orchestrator.launch.receipts import tracked
from orchestrator.panda.port import (
    Engine,
    EngineInDoubt,
    EngineRefused,
    EngineUnavailable,
    UnknownSubmission,
)
from orchestrator.store.launch_commands import Errand, LaunchCommands
from orchestrator.store.launches import Launches
from schemas.launch import Command, CommandState, Launch, LaunchCommand, LaunchState

log = structlog.get_logger()

_WHO: Final = "commander"

#: After so long whoever took a command upon himself is taken for dead.
_LEASE: Final = timedelta(minutes=10)

#: What could not be carried out for now is tried again after so long.
_AGAIN: Final = timedelta(seconds=5)

#: Commands that are carried out at the same time.
_AT_ONCE: Final = 4


class Commander:
    """Carries out commands, each by one process only."""

    def __init__(self, launches: Launches, commands: LaunchCommands, engine: Engine, *, clock: Clock) -> None:
        self._launches = launches
        self._commands = commands
        self._engine = engine
        self._clock = clock
        self._owner = uuid4().hex
        #: The last reason why the engine could not be asked, said once.
        self._away: str | None = None

    def carry_out(self) -> None:
        """Carry out some of what is wanted. A command that goes wrong does not keep the others.

        Raises:
            StoreUnavailable: the next turn does it.
        """
        errands = self._commands.claim(self._engine.identity, owner=self._owner, lease=_LEASE, now=self._clock())
        if len(errands) > 1:
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                list(pool.map(self._settle, errands))
        else:
            for errand in errands:
                self._settle(errand)

    def _settle(self, errand: Errand) -> None:
        command = errand.command
        launch = self._launches.get(command.launch_id)
        if errand.doubtful and command.command not in HARMLESS_TWICE:
            self._in_doubt(launch, command, "whoever carried it out is gone")
        elif launch.state not in FITS[command.command]:
            self._say(command, CommandState.REFUSED, f"the launch is {launch.state}: {command.command} does not fit")
        elif launch.reference is None:
            self._kill_unsent(launch, command)
        else:
            self._ask(launch, command)

    def _ask(self, launch: Launch, command: LaunchCommand) -> None:
        try:
            answer = self._engine.command(
                tracked(self._launches, launch), command.command, command.step, command.parameters
            )
        except (EngineRefused, UnknownSubmission) as error:
            self._say(command, CommandState.REFUSED, str(error))
        except EngineUnavailable as error:
            self._not_now(command, str(error))
        except EngineInDoubt as error:
            if command.command in HARMLESS_TWICE:
                self._not_now(command, str(error))
            else:
                self._in_doubt(launch, command, str(error))
        except Exception as error:  # a defect; asking again would only repeat it
            log.exception("command.defect", command=command.id, launch=launch.id)
            self._say(command, CommandState.REFUSED, f"it could not be carried out: {type(error).__name__}: {error}")
        else:
            self._follow_again(launch, command, answer)
            self._say(command, CommandState.TAKEN, answer)

    def _kill_unsent(self, launch: Launch, command: LaunchCommand) -> None:
        """Nothing was sent, so nobody but the store need be asked."""
        if launch.state is not LaunchState.PREPARED:
            self._say(command, CommandState.REFUSED, f"the launch is {launch.state}, and the engine never had it")
            return
        why = f"killed before it was sent, by {command.who}: {command.why}"
        killed = self._launches.advance(launch, LaunchState.KILLED, who=command.who, why=why, now=self._clock())
        if killed.state is LaunchState.KILLED:
            self._say(command, CommandState.TAKEN, "killed; nothing was ever sent")
        else:
            self._release(command)

    def _follow_again(self, launch: Launch, command: LaunchCommand, answer: str) -> None:
        """What had ended and is retried goes on; its end is seen by following it, as before.

        It may have ended while the engine was asked.
        """
        launch = self._launches.get(launch.id)
        if command.command is Command.RETRY and launch.state in LAUNCH_ENDED:
            why = f"retried by {command.who}: {answer}"
            self._launches.advance(launch, LaunchState.RUNNING, who=_WHO, why=why, now=self._clock())

    def _in_doubt(self, launch: Launch, command: LaunchCommand, why: str) -> None:
        """A retry that was perhaps taken: it is not asked for twice, but what the launch does is looked at."""
        answer = f"nobody knows whether the engine took it ({why}); see what the launch does, then ask again"
        self._follow_again(launch, command, answer)
        self._say(command, CommandState.REFUSED, answer)

    def _not_now(self, command: LaunchCommand, why: str) -> None:
        self._release(command)
        if why != self._away:
            self._away = why
            log.warning("command.waits", command=command.id, launch=command.launch_id, reason=why)

    def _release(self, command: LaunchCommand) -> None:
        again_at = self._clock() + _AGAIN
        self._commands.release(command.id, owner=self._owner, lease=_LEASE, not_before=again_at)

    def _say(self, command: LaunchCommand, state: CommandState, answer: str) -> None:
        self._commands.settle(command.id, state, answer, who=_WHO, now=self._clock())
        log.info(f"command.{state}", command=command.id, verb=command.command, launch=command.launch_id, answer=answer)
