"""PanDA as an engine: a workflow of several steps is one request of iDDS, one of a single step is one task.

Neither is sent twice: iDDS takes a name as often as it is sent, so whoever is in doubt looks with `find` until it is
found, or until `settled` says that it will not come any more.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Final

from orchestrator.clock import Clock, utc_now
from orchestrator.panda import acting, failing, following, reference
from orchestrator.panda.client import address
from orchestrator.panda.client.api import PandaApi
from orchestrator.panda.client.rows import Task
from orchestrator.panda.client.sending import Sender
from orchestrator.panda.follower import GRACE, Followed, Follower, names_of
from orchestrator.panda.following import Chain
from orchestrator.panda.looking_up import Together, first_task, named
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
    SubmissionState,
    Tracked,
    UnknownSubmission,
)
from orchestrator.panda.reference import Kind, reference_of
from schemas.failure import FailedJobs
from schemas.launch import Command, StepProgress
from schemas.site import Site

_GOING_ON: Final = frozenset({SubmissionState.SUBMITTED, SubmissionState.RUNNING})


class PandaEngine:
    """Hands workflows to one PanDA and follows them there. Threads may share it.

    Args:
        api: asks PanDA, as the same person as `sender` submits.
    """

    name = "panda"
    registers_outputs = True
    retries_steps = True

    def __init__(self, site: Site, api: PandaApi, sender: Sender, *, clock: Clock = utc_now) -> None:
        self._site = site
        self._api = api
        self._sender = sender
        self._clock = clock
        self._follower = Follower(site, api, clock=clock)
        self._looking = Lock()
        self._chains: dict[str, Chain] = {}
        #: Whose state was told since this process began.
        self._told: set[str] = set()
        self._all_requests = Together(api.requests)
        self.identity = f"{self.name}:{address.server(site.url_ssl).partition('://')[2]}/{site.prefix}"

    def pack(self, submission: Submission, source: Package) -> Package:
        """Raises EngineRefused."""
        return package.pack(submission, source, self._site, "panda")

    def datasets(self, submission: Submission) -> Mapping[str, str]:
        return naming.datasets(self._site, submission)

    def submit(self, name: str, package_: Package) -> tuple[Reference, Receipt]:
        submission = package.submission_of(package_)
        with written(package_) as directory:
            if len(submission.steps) == 1:
                step = submission.steps[0].name
                sent = self._sender.send("prun", package.step_arguments(package_, step), directory, step)
                return reference.of_task(task_number(sent.number)), sent.receipt
            sent = self._sender.send("pchain", package.chain_arguments(package_), directory)
            return reference.of_request(task_number(sent.number)), sent.receipt

    def find(self, name: str, package_: Package) -> Reference | None:
        """By the names of its first tasks, and by its name in iDDS. Raises EngineUnavailable."""
        submission = package.submission_of(package_)
        if len(submission.steps) > 1:
            request = self._request(name, set(naming.task_names(self._site, submission).values()))
            if request is not None:
                return reference.of_request(request)
        task = first_task(self._api, self._site, submission)
        if task is None or len(submission.steps) == 1:
            return None if task is None else reference.of_task(task.id)
        # tasks without a request: somebody has sent its steps one by one
        return reference.of_steps(naming.out_ds(self._site, name))

    def settled(self, doubtful_since: datetime, now: datetime) -> bool:
        return now - doubtful_since > self._site.settle

    def look(self, tracked: Sequence[Tracked]) -> Mapping[str, Progress | EngineError]:
        with self._looking:
            seen: dict[str, Progress | EngineError] = {}
            good = [each for each in tracked if not _note_wrong(each, seen)]
            self._told &= {each.name for each in good}
            self._chains = {each.name: self._chains[each.name] for each in good if each.name in self._chains}
            known = self._follower.look(good)
            self._go_on(good, known)
            for each in good:
                try:
                    news: Progress | EngineError | None = self._news(each, known[each.name])
                except EngineError as error:
                    news = error
                if news is not None:
                    seen[each.name] = news
            return seen

    def outputs(self, reference: Reference, step: str) -> Sequence[Path]:
        raise UnknownSubmission(
            f"the files of step {step} are not on this machine: PanDA's jobs store and register them themselves"
        )

    def failures(self, tracked: Tracked, step: str | None = None) -> FailedJobs:
        if step is not None and step not in (names := [each.name for each in tracked.steps]):
            raise acting.unknown_step(tracked.name, step, names)
        return failing.failures(self._api, self._site, tracked, self._tasks_now(tracked), step)

    def command(self, tracked: Tracked, command: Command, step: str | None, parameters: Mapping[str, str]) -> str:
        parsed = reference_of(tracked.reference)
        if step is not None and step not in (names := [each.name for each in tracked.steps]):
            raise acting.unknown_step(tracked.name, step, names)
        if command is Command.KILL and step is None and parsed.kind is Kind.REQUEST:
            return self._kill_request(parsed.number, tracked)
        tasks = self._tasks_now(tracked)
        if not tasks:
            raise self._no_task(tracked, command)
        said = acting.act(self._api, acting.only(tasks, tracked.name, step), command, parameters)
        if command is Command.RETRY and parsed.kind is Kind.REQUEST and step is None:
            said += self._never_came(tracked, tasks)
        return "; ".join(said)

    def _request(self, name: str, tasks: set[str]) -> int | None:
        """The first request with a step of such a name, or, before it has steps, of that name.

        Raises EngineUnavailable.
        """
        found = [
            row.request_id
            for row in self._all_requests()
            if (row.transform_name.removesuffix("/") in tasks if row.transform_name else row.name == name)
        ]
        return min(found, default=None)

    def _go_on(self, tracked: Sequence[Tracked], known: Mapping[str, Followed]) -> None:
        """What is to be done for workflows that go on: nothing, iDDS does it."""

    def _steps(self, tracked: Tracked, followed: Followed) -> tuple[StepProgress, ...]:
        return followed.steps(tracked)

    def _receipts(self, tracked: Tracked) -> tuple[Receipt, ...]:
        """What was sent since this was asked last."""
        return ()

    def _news(self, tracked: Tracked, followed: Followed) -> Progress | None:
        """What is to be told: what is new, and an end until somebody has heard it. Raises UnknownSubmission."""
        if followed.lost is not None:
            raise UnknownSubmission(followed.lost)
        steps = self._steps(tracked, followed)
        progress = self._concluded(tracked, followed, steps) or following.going_on(steps)
        receipts = self._receipts(tracked)
        old = tracked.name in self._told and steps == tracked.steps and not receipts
        if old and progress.state in _GOING_ON:
            return None
        self._told.add(tracked.name)
        return replace(progress, receipts=receipts)

    def _concluded(self, tracked: Tracked, followed: Followed, steps: tuple[StepProgress, ...]) -> Progress | None:
        """The end; None if something may still happen by itself."""
        if is_at_work(tracked, followed, steps):
            return None
        verdict = followed.verdict
        if len(followed.seen) < len(steps) and (verdict is None or not verdict.is_over):
            return None
        killed = verdict is not None and verdict.was_cancelled
        return following.concluded(self._chain(tracked), steps, killed=killed)

    def _chain(self, tracked: Tracked) -> Chain:
        if tracked.name not in self._chains:
            self._chains[tracked.name] = following.chain_of(package.submission_of(tracked.package()))
        return self._chains[tracked.name]

    def _tasks_now(self, tracked: Tracked) -> dict[str, Task]:
        """The task of each step that has one, as it is now, in order. Raises EngineUnavailable."""
        parsed = reference_of(tracked.reference)
        numbers = {step.name: step.task for step in tracked.steps if step.task is not None}
        if parsed.kind is Kind.TASK:
            numbers = {tracked.steps[0].name: parsed.number}
        names = names_of(self._site, tracked)
        if parsed.kind is Kind.REQUEST and len(numbers) < len(names):
            verdict = following.verdict_of(
                self._api.requests(parsed.number), {name: step for step, name in names.items()}
            )
            numbers |= {} if verdict is None else verdict.tasks
        found: dict[str, Task] = {}
        for step, name in names.items():
            if step in numbers:
                row = self._api.task(numbers[step])
            else:
                row = named(self._api, name) if parsed.kind is Kind.STEPS else None
            if row is not None:
                found[step] = row
        return found

    def _kill_request(self, number: int, tracked: Tracked) -> str:
        """The request first: it would go on handing in steps. If iDDS is away, the tasks are stopped all the same."""
        away: EngineError | None = None
        try:
            said = f"iDDS: {self._api.abort(number)}"
        except (EngineRefused, UnknownSubmission) as error:
            said = str(error)
        except (EngineUnavailable, EngineInDoubt) as error:
            away, said = error, str(error)
        lines = acting.act(self._api, self._tasks_now(tracked), Command.KILL, {})
        if away is not None:
            raise away
        return "; ".join([said, *lines])

    def _no_task(self, tracked: Tracked, command: Command) -> EngineError:
        """What it has just taken PanDA may not know yet: then it is worth while to ask again."""
        if self._clock() - tracked.submitted_at < GRACE:
            return EngineUnavailable(f"PanDA knows no task of {tracked.name} yet, so {command} was not asked for")
        return UnknownSubmission(f"PanDA knows no task of {tracked.name}: there is nothing to {command}")

    def _never_came(self, tracked: Tracked, tasks: Mapping[str, Task]) -> list[str]:
        missing = [step.name for step in tracked.steps if step.name not in tasks]
        if not missing:
            return []
        return [
            f"{', '.join(missing)}: never handed in by iDDS, which does not begin again; once the others have ended, "
            "launch the workflow again, or use panda-stepwise"
        ]


def is_at_work(tracked: Tracked, followed: Followed, steps: Sequence[StepProgress]) -> bool:
    """Whether a task of it may still move by itself, or is still to be heard of."""
    return followed.is_live or bool(followed.unseen(tracked)) or any(map(following.is_live, steps))


@contextmanager
def written(package_: Package) -> Iterator[Path]:
    """A directory that holds the package and nothing else. Raises EngineUnavailable: it cannot be written."""
    try:
        holder = tempfile.TemporaryDirectory(prefix="muleteer-package-", ignore_cleanup_errors=True)
    except OSError as error:
        raise EngineUnavailable(f"no temporary directory for the package, so nothing was sent: {error}") from error
    with holder as path:
        try:
            package.write(package_, Path(path))
        except OSError as error:
            raise EngineUnavailable(f"the package cannot be written, so nothing was sent: {error}") from error
        yield Path(path)


def task_number(number: int | None) -> int:
    if number is None:
        raise AssertionError("what was sent has a number")
    return number


def _note_wrong(tracked: Tracked, seen: dict[str, Progress | EngineError]) -> bool:
    """Whether its reference is none of PanDA's, which is noted."""
    try:
        reference_of(tracked.reference)
    except UnknownSubmission as error:
        seen[tracked.name] = error
        return True
    return False
