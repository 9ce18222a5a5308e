"""Whether what has failed of a launch is retried by its workflow's policy: decided from what is known, and in words.

Each step is judged by itself: by the classes of what its jobs failed of since its last retry, by how often the policy
has had it retried, and by the memory that it may still get. What only stopped because a step that it reads had failed
goes on with that one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from orchestrator.core.commanding import hold_of
from orchestrator.core.failures import Table
from orchestrator.core.retry_steps import ALONG, WHO, Retriable, StepFailure, judged, step_failures, stopped_by
from schemas.failure import FailedJob
from schemas.failure_class import FailureClass
from schemas.launch import Command, CommandState, Launch, LaunchCommand, LaunchState, StepProgress, StepState
from schemas.retry import RetryPolicy

#: Launches that ended so are retried, if their policy says so. One that was killed is not.
RETRIED_FROM: Final = frozenset({LaunchState.FAILED, LaunchState.PARTLY_FINISHED})

#: While somebody's retry is still to be carried out, it is looked at again after so long.
_PENDING: Final = timedelta(minutes=1)

_STOPPED: Final = frozenset({StepState.FAILED, StepState.KILLED})


@dataclass(frozen=True, slots=True)
class Wanted:
    """One retry that is to be asked for."""

    #: None: all that has failed.
    step: str | None
    #: In the engine's words.
    parameters: Mapping[str, str]
    why: str
    #: Of all that has failed: the steps for which it is asked. What else has failed with them costs no attempt.
    attempt_of: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Retried:
    """These retries, in this order."""

    wanted: tuple[Wanted, ...]


@dataclass(frozen=True, slots=True)
class Later:
    """Not before that moment."""

    at: datetime


@dataclass(frozen=True, slots=True)
class Stays:
    """It stays as it is, and why."""

    why: str


Decision = Retried | Later | Stays


def settled_without_asking(launch: Launch, commands: Sequence[LaunchCommand], now: datetime) -> Later | Stays | None:
    """What can be said before the engine is asked why it failed; None if it has to be asked.

    Args:
        commands: all that was ever asked of it, oldest first.
    """
    if launch.reference is None:
        return Stays("it never reached its engine")
    hold = hold_of(commands)
    for verb, holds in ((Command.KILL, hold.killed), (Command.FINISH, hold.finishing)):
        if holds:
            return Stays(f"{_who_asked(commands, verb)} asked to {verb} it")
    if any(each.command is Command.RETRY and each.state is CommandState.WANTED for each in commands):
        return Later(now + _PENDING)
    return None


def decide(
    launch: Launch,
    policy: RetryPolicy,
    failed: Sequence[FailedJob],
    table: Table,
    commands: Sequence[LaunchCommand],
    now: datetime,
    *,
    by_step: bool,
) -> Decision:
    """What becomes of a launch that has ended and was not complete.

    Args:
        failed: its failed jobs, as its engine tells them.
        commands: all that was ever asked of it, oldest first.
        by_step: whether its engine retries steps while others run, and gives them memory. One that does not retries a
            launch once it has ended, one of its steps or all that has failed.
    """
    early = settled_without_asking(launch, commands, now)
    if early is not None:
        return early
    steps = list(step_failures(launch, policy, failed, table, commands))
    answers = {step.name: judged(step, commands, gives_memory=by_step) for step in steps}
    good = [each for each in answers.values() if isinstance(each, Retriable)]
    along = _along({each.step.name for each in good}, steps, policy, commands)
    refused = [f"{name}: {why}" for name, why in answers.items() if isinstance(why, str) and name not in along]
    if not good:
        return Stays("; ".join(refused) or "no step of it has failed")
    chosen = good if by_step or not refused else good[:1]
    at = _since(launch, commands) + max(each.step.policy.after for each in chosen)
    if now < at:
        return Later(at)
    if not by_step:
        return Retried((_whole(chosen, refused),))
    following = [_going_on(step, launch, along[step]) for step in along if _has_stopped(launch, step)]
    return Retried((*(_single(each, refused) for each in good), *following))


# What goes on with what it reads.


def _along(
    retried: set[str], steps: Sequence[StepFailure], policy: RetryPolicy, commands: Sequence[LaunchCommand]
) -> dict[str, str]:
    """Steps that have failed of nothing of their own, with the step that they read and go on with."""
    found: dict[str, str] = {}
    going = set(retried)
    names = list(policy.steps)
    failed = {step.name: step for step in steps}
    for name in names:  # each stands after those that it reads
        parent = next((each for each in policy.steps[name].reads if each in going), None)
        if parent is None or name in retried:
            continue
        step = failed.get(name)
        if step is not None and (set(step.classes) - {FailureClass.OURS} or stopped_by(name, commands)):
            continue
        going.add(name)
        if step is not None:
            found[name] = parent
    return found


def _has_stopped(launch: Launch, name: str) -> bool:
    """Whether the engine has to be told that it goes on: what never began does so by itself."""
    step = _progress(launch, name)
    return step.task is not None and step.state in _STOPPED


def _progress(launch: Launch, name: str) -> StepProgress:
    return next(step for step in launch.steps if step.name == name)


def _going_on(name: str, launch: Launch, parent: str) -> Wanted:
    step = _progress(launch, name)
    return Wanted(name, {}, f"{ALONG}it was {step.task_status or step.state} because {parent} had failed")


# The launch.


def _since(launch: Launch, commands: Sequence[LaunchCommand]) -> datetime:
    """When it ended; or, if the policy's retry was refused then, when that was said."""
    told = [each.settled_at or each.asked_at for each in commands if each.who == WHO]
    return max([launch.updated_at, *told])


def _single(yes: Retriable, refused: Sequence[str]) -> Wanted:
    return Wanted(yes.step.name, yes.parameters, "; ".join([yes.why, *(f"not {each}" for each in refused)]))


def _whole(chosen: Sequence[Retriable], refused: Sequence[str]) -> Wanted:
    """One retry for all of them: the engine would take a second one only once the first has ended."""
    if len(chosen) == 1:
        return _single(chosen[0], refused)
    why = "; ".join(f"{each.step.name}: {each.why}" for each in chosen)
    return Wanted(None, {}, why, tuple(each.step.name for each in chosen))


def _who_asked(commands: Sequence[LaunchCommand], verb: Command) -> str:
    asked = [each.who for each in commands if each.command is verb and each.state is not CommandState.REFUSED]
    return asked[-1] if asked else "somebody"
