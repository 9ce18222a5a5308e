"""PanDA as an engine that gets each step as a task of its own, sent by us when its input is complete enough.

What goes wrong with one step ends no other: what reads it is not run until somebody retries it with success. There is
one task for each step's name, always: it is looked up before it is sent, and PanDA refuses a second one with the number
of the first. So sending a step is safe to repeat, after whatever crash, and from several processes at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import structlog

from orchestrator.clock import Clock, utc_now
from orchestrator.panda import following, reference, starting
from orchestrator.panda.client.api import PandaApi
from orchestrator.panda.client.sending import Sender
from orchestrator.panda.engine import PandaEngine, is_at_work, task_number, written
from orchestrator.panda.follower import Followed
from orchestrator.panda.looking_up import first_task, named
from orchestrator.panda.packing import naming, package
from orchestrator.panda.port import (
    EngineError,
    EngineInDoubt,
    EngineRefused,
    EngineUnavailable,
    Package,
    Progress,
    Receipt,
    Reference,
    Submission,
    Tracked,
    UnknownSubmission,
)
from orchestrator.panda.starting import Beginning
from schemas.launch import Command, StepProgress, StepState
from schemas.site import Site

log = structlog.get_logger(__name__)

#: A step that cannot be sent for now is tried again after so long at most.
_SELDOM: Final = timedelta(minutes=30)
#: Steps that are sent in one look, for each that is sent at the same time: nobody is looked at meanwhile.
_ROUNDS: Final = 4


#: The task and what was sent for it, if anything was; or why there is none.
_Came = tuple[int, Receipt | None] | EngineError


class _Waiting(NamedTuple):
    """A step that was not sent, or perhaps was."""

    why: str
    again_at: datetime
    pause: timedelta


@dataclass(slots=True)
class _Sending:
    """What came of sending a workflow's steps, since this process began."""

    #: Tasks that PanDA has taken, of which it may not have told yet.
    tasks: dict[str, int] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, _Waiting] = field(default_factory=dict)
    receipts: list[Receipt] = field(default_factory=list)
    #: Tasks that PanDA took while the workflow was killed, and that are still to be killed.
    unwanted: dict[str, int] = field(default_factory=dict)
    #: The retry of which it was heard last.
    retry: int = 0

    def step(self, step: StepProgress) -> StepProgress:
        """A step of whose task nothing was told yet. What became of it without a task in another life counts no more:
        it is decided anew."""
        task = self.tasks.get(step.name, step.task)
        if task is not None:
            return step if step.task == task else StepProgress(name=step.name, state=StepState.WAITING, task=task)
        waiting = self.waiting.get(step.name)
        fresh = StepProgress(name=step.name, state=StepState.WAITING, reason=None if waiting is None else waiting.why)
        return following.not_handed_in(fresh, self.refused[step.name]) if step.name in self.refused else fresh


class StepwiseEngine(PandaEngine):
    """Hands the steps of workflows to one PanDA, each by itself. Threads may share it.

    That no further step of a workflow may begin PanDA cannot know: `Tracked.hold` says so.
    """

    name = "panda-stepwise"

    def __init__(self, site: Site, api: PandaApi, sender: Sender, *, clock: Clock = utc_now) -> None:
        super().__init__(site, api, sender, clock=clock)
        self._sending: dict[str, _Sending] = {}

    def pack(self, submission: Submission, source: Package) -> Package:
        """Raises EngineRefused."""
        return package.pack(submission, source, self._site, "panda-stepwise")

    def submit(self, name: str, package_: Package) -> tuple[Reference, Receipt]:
        """Sends the first step. The others are sent by `look`, those that wait for nothing too."""
        submission = package.submission_of(package_)
        _, receipt = self._send(package_, Beginning(submission.steps[0].name))
        return reference.of_steps(naming.out_ds(self._site, name)), receipt

    def find(self, name: str, package_: Package) -> Reference | None:
        task = first_task(self._api, self._site, package.submission_of(package_))
        return None if task is None else reference.of_steps(naming.out_ds(self._site, name))

    def command(self, tracked: Tracked, command: Command, step: str | None, parameters: Mapping[str, str]) -> str:
        said = _MEANING.get(command) if step is None or command is Command.RETRY else None
        try:
            answer = super().command(tracked, command, step, parameters)
        except EngineRefused as error:
            if said is None or all(each.task is not None for each in tracked.steps):
                raise
            answer = str(error)
        return answer if said is None else f"{said}; {answer}"

    def _go_on(self, tracked: Sequence[Tracked], known: Mapping[str, Followed]) -> None:
        """Send the steps that may begin, a bounded number of them."""
        self._sending = {each.name: self._sending.get(each.name) or _Sending() for each in tracked}
        for each in tracked:
            self._try_again(each)
            self._kill_unwanted(each)
        wanted = [(each, one) for each in tracked for one in self._may_begin(each, known[each.name])]
        wanted = wanted[: _ROUNDS * self._site.parallel]
        if not wanted:
            return
        with ThreadPoolExecutor(self._site.parallel) as pool:
            for (each, one), came in zip(wanted, pool.map(self._try, wanted), strict=True):
                self._note(self._sending[each.name], one.step, came)
        for each, one in wanted:
            sending = self._sending[each.name]
            if one.step in sending.tasks and each.hold().killed:
                sending.unwanted[one.step] = sending.tasks[one.step]
                self._kill_unwanted(each)

    def _try_again(self, tracked: Tracked) -> None:
        """What could not be sent before a retry is tried again."""
        sending = self._sending[tracked.name]
        if not (sending.refused or sending.waiting):
            return
        retry = tracked.hold().retry
        if retry != sending.retry:
            sending.retry = retry
            sending.refused.clear()
            sending.waiting.clear()

    def _kill_unwanted(self, tracked: Tracked) -> None:
        """Steps that were being sent at the moment when somebody killed the workflow."""
        sending = self._sending[tracked.name]
        for step, task in list(sending.unwanted.items()):
            try:
                self._api.kill(task)
            except (EngineUnavailable, EngineInDoubt, UnknownSubmission):
                continue  # PanDA is away, or does not know it yet
            except EngineRefused as error:
                log.warning("task.not_killed", task=task, name=tracked.name, step=step, reason=str(error))
            del sending.unwanted[step]

    def _may_begin(self, tracked: Tracked, followed: Followed) -> Iterator[Beginning]:
        sending = self._sending[tracked.name]
        steps = self._steps(tracked, followed)
        # the package is read only if there is something to be sent
        if all(step.task is not None or step.state is not StepState.WAITING for step in steps):
            return
        try:
            chain = self._chain(tracked)
        except EngineError:  # which is told when it is looked at
            return
        now = self._clock()
        due = [
            one
            for one in starting.beginnings(chain, steps)
            if one.step not in sending.waiting or sending.waiting[one.step].again_at <= now
        ]
        if due and not tracked.hold().is_held:
            yield from due

    def _try(self, wanted: tuple[Tracked, Beginning]) -> _Came:
        tracked, one = wanted
        if tracked.hold().is_held:  # it may have had to wait for its turn
            return EngineUnavailable("no further step may begin")
        try:
            package_ = tracked.package()
            name = naming.task_names(self._site, package.submission_of(package_))[one.step]
            there = named(self._api, name)
            if there is not None:
                return there.id, None
            return self._send(package_, one)
        except EngineError as error:
            return error

    def _send(self, package_: Package, one: Beginning) -> tuple[int, Receipt]:
        arguments = package.step_arguments(package_, one.step, parent_task=one.parent_task)
        with written(package_) as directory:
            sent = self._sender.send("prun", arguments, directory, one.step)
        return task_number(sent.number), sent.receipt

    def _note(self, sending: _Sending, step: str, came: _Came) -> None:
        if isinstance(came, tuple):
            sending.tasks[step], receipt = came
            sending.waiting.pop(step, None)
        else:
            receipt = came.receipt
            if isinstance(came, EngineRefused):
                sending.refused[step] = str(came)
            else:  # out of reach, or in doubt: it is looked up before it is sent once more
                pause = sending.waiting[step].pause if step in sending.waiting else self._site.poll
                sending.waiting[step] = _Waiting(str(came), self._clock() + pause, min(2 * pause, _SELDOM))
        sending.receipts += [] if receipt is None else [receipt]

    def _steps(self, tracked: Tracked, followed: Followed) -> tuple[StepProgress, ...]:
        sending = self._sending[tracked.name]
        return tuple(
            step if step.name in followed.seen else sending.step(step) for step in super()._steps(tracked, followed)
        )

    def _receipts(self, tracked: Tracked) -> tuple[Receipt, ...]:
        sending = self._sending[tracked.name]
        receipts, sending.receipts = tuple(sending.receipts), []
        return receipts

    def _concluded(self, tracked: Tracked, followed: Followed, steps: tuple[StepProgress, ...]) -> Progress | None:
        if is_at_work(tracked, followed, steps):
            return None
        chain = self._chain(tracked)
        hold = tracked.hold()
        if not (hold.killed or hold.finishing) and starting.beginnings(chain, steps):
            return None
        return following.concluded(chain, steps, killed=hold.killed, finishing=hold.finishing)


#: What a command to a whole workflow means for its steps that have not begun.
_MEANING: Final = {
    Command.KILL: "no further step begins",
    Command.FINISH: "no further step begins",
    Command.PAUSE: "no further step begins until it is resumed",
    Command.RESUME: "steps begin again",
    Command.RETRY: "steps without a task begin as soon as they may",
}
