"""The embedded engine: runs workflows on this machine, behind the same port as PanDA.

Each submission is a directory of its own, and one detached process (`runner.py`) that works in it:

    <name>/plan.json        what is to be done; never changes
    <name>/status.json      how far it has come; replaced at once
    <name>/source/          the job scripts, as they were when it was submitted
    <name>/steps/1-combine/ where a step ran: its inputs as links, what it made, its log.txt
    <name>/runner.lock      held by the one runner for as long as it lives
    <name>/killed           there once somebody has stopped it
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import structlog

from orchestrator.panda import runner
from orchestrator.panda.port import (
    EngineError,
    EngineRefused,
    EngineUnavailable,
    Progress,
    Reference,
    Submission,
    SubmissionState,
    UnknownSubmission,
)
from orchestrator.panda.runner import Plan, Status, StepPlan
from schemas.did import Did
from schemas.launch import StepProgress

log = structlog.get_logger(__name__)

#: What a job may see of our own environment. Everything else may hold secrets.
_HANDED_ON = re.compile(r"PATH|HOME|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|USER|LOGNAME|SHELL")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]{0,199}")
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,39}")
_ENDED = frozenset({"finished", "partly_finished", "failed", "killed"})
_BUILDING = ".building-"


class LocalEngine:
    """Runs submissions in processes that need muleteer neither to go on nor to end.

    Whoever asks for the `progress` of a submission whose runner died (kill -9, a reboot) starts the next one.

    Args:
        directory: where submissions live; made if it is not there. One directory is one engine, also for several
            processes at once.
        resolve: the files of an input dataset. An EngineError of its own passes; any other exception counts as
            EngineUnavailable, since nothing has been sent.
        environment: what jobs see of it is PATH, HOME, LANG and their like.
    """

    name = "embedded"
    registers_outputs = False

    def __init__(
        self,
        directory: Path,
        resolve: Callable[[Did], Sequence[Path]],
        *,
        python: str = sys.executable,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self.directory = directory.resolve()
        self._resolve = resolve
        self._python = python
        self._environment = {name: value for name, value in environment.items() if _HANDED_ON.fullmatch(name)}
        self.directory.mkdir(parents=True, exist_ok=True)
        self.identity = f"{self.name}:{_identity(self.directory)}"
        self._sweep()

    def submit(self, submission: Submission) -> Reference:
        """Hand over a workflow. At most one submission of a name ever exists.

        Raises EngineRefused, EngineUnavailable.
        """
        if problem := _problem(submission):
            raise EngineRefused(f"{submission.name!r} cannot be run: {problem}")
        place = self.directory / submission.name
        if not place.exists():
            plan = self._plan(submission)
            try:
                self._place(submission.source, plan, place)
            except OSError as error:
                raise EngineUnavailable(f"{place} could not be written, nothing was started: {error}") from error
        self._keep_going(place)
        return Reference(submission.name)

    def find(self, name: str) -> Reference | None:
        return Reference(name) if _NAME.fullmatch(name) and (self.directory / name).is_dir() else None

    def progress(self, reference: Reference) -> Progress:
        place = self._known(reference)
        plan, status = _read_plan(place), self._keep_going(place)
        return Progress(
            state=SubmissionState(status["state"]),
            steps=tuple(_step_progress(place, plan, status, step["name"]) for step in plan["steps"]),
            reason=status["reason"],
        )

    def outputs(self, reference: Reference, step: str) -> Sequence[Path]:
        """The files that a finished step made, by name; none before it has finished."""
        place = self._known(reference)
        plan, status = _read_plan(place), _read_status(place)
        if step not in status["steps"]:
            raise UnknownSubmission(f"{reference} has no step {step!r}; it has {', '.join(status['steps'])}")
        work = runner.work_directory(place, plan, step)
        return [work / name for name in status["steps"][step]["outputs"]]

    def kill(self, reference: Reference) -> None:
        """Stop it, and return once it has stopped; stopping what has ended does nothing."""
        place = self._known(reference)
        if _read_status(place)["state"] in _ENDED:
            return
        # First the mark: whatever happens from here on, no runner starts another step.
        runner.write_durably(runner.killed_mark(place), "")
        log.info("submission.killed", submission=reference)
        gentle, last = time.monotonic() + 2 * runner.GRACE, time.monotonic() + 10 * runner.GRACE
        while self._keep_going(place)["state"] not in _ENDED:
            if time.monotonic() > last:
                raise EngineUnavailable(f"{reference} does not end; it will not start another step. See {place}")
            _signal_runner(place, signal.SIGTERM if time.monotonic() < gentle else signal.SIGKILL)
            time.sleep(0.02)

    def _plan(self, submission: Submission) -> Plan:
        return Plan(
            name=submission.name,
            workflow=submission.workflow,
            parameters=dict(submission.parameters),
            environment={**self._environment, **submission.environment},
            inputs={name: self._files(did) for name, did in submission.inputs.items()},
            steps=[
                StepPlan(
                    name=step.name,
                    command=list(step.command),
                    inputs=list(step.inputs),
                    outputs=list(step.outputs),
                    timeout=step.timeout.total_seconds() if step.timeout else None,
                )
                for step in submission.steps
            ],
        )

    def _files(self, did: Did) -> list[str]:
        try:
            return [str(path.absolute()) for path in self._resolve(did)]
        except EngineError:
            raise
        except Exception as error:  # whatever the catalog raises: nothing has been sent
            raise EngineUnavailable(f"the files of {did} cannot be found out, nothing was sent: {error}") from error

    def _place(self, source: Path, plan: Plan, place: Path) -> None:
        """Build the directory beside its place, then put it there in one move: all of it or nothing.

        Of two who do so at the same time one is second, and throws his own away.
        """
        building = self.directory / f"{_BUILDING}{uuid4().hex}"
        building.mkdir()
        try:
            with _locked(building):
                shutil.copytree(source, building / "source", ignore=shutil.ignore_patterns("__pycache__"))
                (building / "plan.json").write_text(json.dumps(plan, indent=1))
                (building / "plan.json").chmod(0o600)
                (building / "status.json").write_text(json.dumps(runner.new_status(plan), indent=1))
                for path in (*building.rglob("*"), building):
                    runner.flush_to_disk(path)
                building.rename(place)
                runner.flush_to_disk(self.directory)
        except OSError as error:
            shutil.rmtree(building, ignore_errors=True)
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise

    def _keep_going(self, place: Path) -> Status:
        """Start a runner if there is work left and nobody does it. Gives the status as it is now."""
        status = _read_status(place)
        if status["state"] in _ENDED:
            return status
        try:
            lock = _claim(place)
            if lock is not None:
                try:
                    self._start_runner(place, lock)
                finally:
                    os.close(lock)
        except OSError as error:  # too many processes, say: the submission is safe, and the next look tries again
            log.warning("runner.not_started", submission=place.name, error=str(error))
        return _read_status(place)

    def _start_runner(self, place: Path, lock: int) -> None:
        """Start it with the lock in its hands, so that between the two of us the lock is never free."""
        status = _read_status(place)
        if status["state"] in _ENDED:
            return
        with (place / "runner.log").open("ab") as output:
            # The process forks and leaves at once: there is nothing to wait for later, and no zombie.
            subprocess.run(
                [self._python, "-I", "-S", runner.__file__, str(place), str(lock)],
                cwd=place,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(lock,),
                start_new_session=True,
                check=False,
            )
        log.info("runner.started", submission=place.name, state=status["state"])

    def _known(self, reference: Reference) -> Path:
        if self.find(reference) is None:
            raise UnknownSubmission(f"there is no submission {reference!r} in {self.directory}")
        return self.directory / reference

    def _sweep(self) -> None:
        """Throw away what somebody was building when he died."""
        for building in self.directory.glob(f"{_BUILDING}*"):
            try:
                with _locked(building):
                    shutil.rmtree(building, ignore_errors=True)
            except OSError:  # he lives, or has just finished
                continue


def _problem(submission: Submission) -> str | None:
    """Why this submission can never run, in words; None if it can."""
    if not _NAME.fullmatch(submission.name):
        return (
            "its name must be 1 to 200 letters, digits, `.`, `_`, `:`, `+` and `-`, and begin with one of the first two"
        )
    if not submission.source.is_dir():
        return f"its job scripts are not there: {submission.source} is not a directory"
    known = set(submission.inputs)
    for step in submission.steps:
        if problem := _step_problem(step.name, step.command, step.inputs, step.outputs, known):
            return f"step {step.name!r} {problem}"
        known.add(step.name)
    for prefix, names in (("INPUT", known), ("PARAM", set(submission.parameters))):
        if len({runner.variable(prefix, name) for name in names}) < len(names):
            return f"two of {', '.join(sorted(names))} would have the same environment variable: rename one"
    if bad := [name for name in known if not _WORD.fullmatch(name)]:
        return f"{bad[0]!r} is no name for an input or a step: use letters, digits and `_`"
    return None


def _step_problem(
    name: str, command: Sequence[str], inputs: Sequence[str], outputs: Sequence[str], known: set[str]
) -> str | None:
    if name in known:
        return "has a name that is already taken by an input or an earlier step"
    if not command:
        return "has no command"
    if missing := [source for source in inputs if source not in known]:
        return f"reads {missing[0]!r}, which is neither an input nor an earlier step"
    for pattern in outputs:
        if not pattern or pattern.startswith("/") or ".." in pattern.split("/"):
            return f"has the output pattern {pattern!r}: it must stay within the step's directory"
    return None


def _step_progress(place: Path, plan: Plan, status: Status, name: str) -> StepProgress:
    step = status["steps"][name]
    return StepProgress.model_validate(
        {
            **{field: step[field] for field in ("state", "started_at", "ended_at", "exit_code", "reason")},
            "name": name,
            "log": str(runner.work_directory(place, plan, name) / "log.txt") if step["started_at"] else None,
        }
    )


def _identity(directory: Path) -> str:
    """What tells this engine from those of other homes; made once, by whoever is first."""
    path = directory / "engine-id"
    fresh = directory / f".engine-id.{uuid4().hex}"
    if not path.exists():
        runner.write_durably(fresh, uuid4().hex[:12])
        with suppress(FileExistsError):
            path.hardlink_to(fresh)
        fresh.unlink()
    return path.read_text().strip()


def _read_plan(place: Path) -> Plan:
    plan: Plan = _read(place / "plan.json")
    return plan


def _read_status(place: Path) -> Status:
    status: Status = _read(place / "status.json")
    return status


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise EngineUnavailable(f"{path} cannot be read: {error}") from error


def _claim(place: Path) -> int | None:
    """Take the runner's lock; None if a runner, or somebody about to start one, has it.

    The lock goes with the descriptor: it is free once every process that has a copy has closed it.
    """
    descriptor = os.open(place / "runner.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _signal_runner(place: Path, number: signal.Signals) -> None:
    """Send a signal to the runner, if there is one. Its number is in the lock that it holds."""
    try:
        os.kill(int((place / "runner.lock").read_text()), number)
    except (ValueError, OSError):  # just starting, or just gone
        return


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Hold a directory's lock. Raises OSError if another process has it, or if there is no such directory."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
