"""What people have done to tasks: which of them it fits, and what PanDA answers, in words for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from orchestrator.core.commanding import MEMORY
from orchestrator.panda.client.api import PandaApi
from orchestrator.panda.client.rows import Task
from orchestrator.panda.following import FINAL
from orchestrator.panda.port import EngineError, EngineInDoubt, EngineRefused, EngineUnavailable, UnknownSubmission
from schemas.launch import Command

#: PanDA takes no retry of others, except of tasks that run and have failed files.
_RETRIED: Final = frozenset({"finished", "failed", "exhausted", "broken", "aborted"})
_STOPPING: Final = frozenset({"toabort", "aborting", "tobroken"})
_PAUSED: Final = frozenset({"paused", "throttled", "staging"})


def act(api: PandaApi, tasks: Mapping[str, Task], command: Command, parameters: Mapping[str, str]) -> list[str]:
    """Do it to each task that it fits; `tasks` by step, as they are now. One line for each step.

    Raises:
        EngineRefused: PanDA said no to all that it fits.
        EngineUnavailable: not all could be asked; asking all of them again does no harm, and no retry was taken.
        EngineInDoubt: an answer was lost.
    """
    said: list[str] = []
    refused: list[str] = []
    doubts: list[str] = []
    for step, task in tasks.items():
        if (why := _does_not_fit(task, command)) is not None:
            said.append(f"{step}: {why}")
            continue
        try:
            said.append(f"{step}: {_ask(api, task, command, parameters)}")
        except (EngineRefused, UnknownSubmission) as error:
            refused.append(f"{step}: {error}")
        except EngineInDoubt as error:
            doubts.append(f"{step}: {error}")
        except EngineUnavailable as error:
            if command is not Command.RETRY or not _taken(said, tasks, command):
                raise
            refused.append(f"{step}: {error}")
    return _summed_up(said, refused, doubts, tasks, command)


def fits(task: Task, command: Command) -> bool:
    return _does_not_fit(task, command) is None


def _summed_up(
    said: list[str], refused: list[str], doubts: list[str], tasks: Mapping[str, Task], command: Command
) -> list[str]:
    if doubts:
        raise EngineInDoubt("; ".join([*said, *refused, *doubts]))
    if refused and not _taken(said, tasks, command):
        raise EngineRefused("; ".join([*refused, *said]))
    return [*said, *refused]


def _taken(said: list[str], tasks: Mapping[str, Task], command: Command) -> bool:
    """Whether PanDA has said yes to any of them."""
    fitting = {step for step, task in tasks.items() if fits(task, command)}
    return any(line.partition(":")[0] in fitting for line in said)


def _does_not_fit(task: Task, command: Command) -> str | None:
    """Why there is nothing to do; None if there is."""
    over = task.status in FINAL
    match command:
        case Command.KILL | Command.FINISH | Command.PAUSE if over:
            return f"task {task.id} has ended already and is {task.status}"
        case Command.KILL | Command.FINISH if task.status in _STOPPING:
            return f"task {task.id} is being stopped already"
        case Command.RETRY if task.status not in _RETRIED and not (not over and task.n_files_failed):
            return f"task {task.id} is {task.status}: there is nothing to retry"
        case Command.RESUME if task.status not in _PAUSED:
            return f"task {task.id} is {task.status}, and not paused"
        case _:
            return None


def _ask(api: PandaApi, task: Task, command: Command, parameters: Mapping[str, str]) -> str:
    match command:
        case Command.KILL:
            return api.kill(task.id)
        case Command.RETRY:
            return api.retry(task.id, parameters or _as_it_was(task))
        case Command.FINISH:
            return api.finish(task.id, soft=True)
        case Command.PAUSE:
            return api.pause(task.id)
        case Command.RESUME:
            return api.resume(task.id)
        case Command.RELOAD:
            return api.reload(task.id)


def _as_it_was(task: Task) -> Mapping[str, int]:
    """PanDA takes a retry of a task that was stopped only with parameters; the memory that it has changes nothing."""
    return {MEMORY: task.ram_count} if task.status == "aborted" and task.ram_count else {}


def only(tasks: Mapping[str, Task], name: str, step: str | None) -> Mapping[str, Task]:
    """The one task, if only one is meant. Raises EngineRefused: that step has none."""
    if step is None:
        return tasks
    if step not in tasks:
        raise EngineRefused(f"step {step} of {name} has no task yet; there are tasks of: {', '.join(tasks) or 'none'}")
    return {step: tasks[step]}


def unknown_step(name: str, step: str, steps: list[str]) -> EngineError:
    return EngineRefused(f"{name} has no step {step!r}; it has {', '.join(steps)}")
