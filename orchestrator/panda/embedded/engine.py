"""The embedded engine: runs workflows on this machine, behind the same port as PanDA.

Each submission is a directory of its own, and one detached process (`runner.py`) that works in it:

    <name>/plan.json        what is to be done; never changes
    <name>/status.json      how far it has come; replaced at once
    <name>/source/          the package: the job scripts as they were when it was submitted
    <name>/scripts/         the text of steps that have a script of their own
    <name>/steps/1-combine/ where a step ran: its inputs and the package's files as links, what it made, its log.txt
    <name>/runner.lock      held by the one runner for as long as it lives
    <name>/killed           there once somebody has stopped it; likewise `finish` and `paused`

What a workflow says of PanDA alone (its options, sites, queues, images, jobs) does not count here: a step is one job.
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
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, assert_never
from uuid import uuid4

import structlog

from orchestrator.core.failures import failures_of_steps
from orchestrator.panda.embedded import runner
from orchestrator.panda.embedded.plan import NAME, pack, plan_of, problem_of
from orchestrator.panda.embedded.runner import Plan, Status, StepStatus
from orchestrator.panda.plain import submission_of
from orchestrator.panda.port import (
    EngineError,
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
from schemas.did import Did
from schemas.failure import FailedJobs
from schemas.launch import Command, FileCounts, StepProgress

log = structlog.get_logger(__name__)

#: What a job may see of our own environment. Everything else may hold secrets.
_HANDED_ON = re.compile(r"PATH|HOME|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|USER|LOGNAME|SHELL")
_ENDED = frozenset({"finished", "partly_finished", "failed", "killed"})
_BUILDING = ".building-"
#: Seconds that a runner has to go away, once it has said that all has ended.
_LEAVING = 5.0


class LocalEngine:
    """Runs submissions in processes that need muleteer neither to go on nor to end.

    Whoever looks at a submission whose runner died (kill -9, a reboot) starts the next one.

    Args:
        directory: where submissions live; made if it is not there. One directory is one engine, also for several
            processes at once.
        resolve: the files of an input dataset. An EngineError of its own passes; any other exception counts as
            EngineUnavailable, since nothing has been sent.
        environment: what jobs see of it is PATH, HOME, LANG and their like.
    """

    name = "embedded"
    registers_outputs = False
    retries_steps = False

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

    def pack(self, submission: Submission, source: Package) -> Package:
        """Raises EngineRefused."""
        return pack(submission, source)

    def datasets(self, submission: Submission) -> Mapping[str, str]:
        """None: what the steps make is registered by whoever follows the launch."""
        return {}

    def submit(self, name: str, package: Package) -> tuple[Reference, Receipt]:
        """Hand over a workflow. At most one submission of a name ever exists.

        Raises EngineRefused, EngineUnavailable.
        """
        submission = submission_of(package)
        if problem := problem_of(submission, package):
            raise EngineRefused(f"{name!r} cannot be run: {problem}")
        began = datetime.now(UTC)
        place = self.directory / submission.name
        known = place.exists()
        if not known:
            plan = self._plan(submission)
            try:
                self._place(submission, package, plan, place)
            except OSError as error:
                raise EngineUnavailable(f"{place} could not be written, nothing was started: {error}") from error
        self._keep_going(place)
        return Reference(name), Receipt(
            step=None,
            command=(),
            client=f"muleteer {version('muleteer')}",
            started_at=began,
            ended_at=datetime.now(UTC),
            verdict=f"it was in {place} already" if known else f"it runs in {place}",
        )

    def find(self, name: str, package: Package) -> Reference | None:
        return Reference(name) if self._has(name) else None

    def settled(self, doubtful_since: datetime, now: datetime) -> bool:
        """At once: a submission is there or is not, and sending its name again does no harm."""
        return True

    def look(self, tracked: Sequence[Tracked]) -> Mapping[str, Progress | EngineError]:
        seen: dict[str, Progress | EngineError] = {}
        for each in tracked:
            try:
                seen[each.name] = self._progress(each.reference)
            except EngineError as error:
                seen[each.name] = error
        return seen

    def _progress(self, reference: Reference) -> Progress:
        place = self._known(reference)
        plan, status = _read_plan(place), self._keep_going(place)
        return Progress(
            state=SubmissionState(status["state"]),
            steps=tuple(_step_progress(place, plan, status, step["name"]) for step in plan["steps"]),
            reason=status["reason"],
        )

    def outputs(self, reference: Reference, step: str) -> Sequence[Path]:
        """The files that a finished step made, by name; none before it has finished.

        Of a scattered step, what all of its parts made.
        """
        place = self._known(reference)
        plan, status = _read_plan(place), _read_status(place)
        parts = [step] if step in status["steps"] else _parts(step, list(status["steps"]))
        if not parts:
            raise UnknownSubmission(f"{reference} has no step {step!r}; it has {', '.join(status['steps'])}")
        return [
            runner.work_directory(place, plan, part) / name
            for part in parts
            for name in status["steps"][part]["outputs"]
        ]

    def failures(self, tracked: Tracked, step: str | None = None) -> FailedJobs:
        """The steps that failed or were stopped: each is one job."""
        place = self._known(tracked.reference)
        plan, status = _read_plan(place), _read_status(place)
        if step is not None and step not in status["steps"]:
            raise EngineRefused(f"{tracked.name} has no step {step!r}; it has {', '.join(status['steps'])}")
        names = [name for name in status["steps"] if step in (None, name)]
        return FailedJobs(jobs=tuple(failures_of_steps([_step_progress(place, plan, status, name) for name in names])))

    def command(self, tracked: Tracked, command: Command, step: str | None, parameters: Mapping[str, str]) -> str:
        place = self._known(tracked.reference)
        status = _read_status(place)
        ended = status["state"] in _ENDED
        if step is not None and step not in status["steps"]:
            raise EngineRefused(f"{tracked.name} has no step {step!r}; it has {', '.join(status['steps'])}")
        if step is not None and command is not Command.RETRY:
            raise EngineRefused(f"the embedded engine can {command} a whole launch only, not the step {step} alone")
        if ended and command in (Command.KILL, Command.FINISH, Command.PAUSE, Command.RESUME):
            return f"it has ended already and is {status['state']}: nothing was done"
        match command:
            case Command.KILL:
                self._kill(place)
                return "it was stopped"
            case Command.RETRY:
                return self._retry(place, step, parameters)
            case Command.FINISH:
                runner.write_durably(runner.finish_mark(place), "")
                self._keep_going(place)
                return "no further step begins; what runs goes on to its end"
            case Command.PAUSE:
                runner.write_durably(runner.paused_mark(place), "")
                return "no further step begins until it is resumed; what runs goes on to its end"
            case Command.RESUME:
                runner.paused_mark(place).unlink(missing_ok=True)
                self._keep_going(place)
                return "it goes on"
            case Command.RELOAD:
                raise EngineRefused(
                    "the embedded engine reads its input once, when a launch is handed over: repeat the launch instead"
                )
            case _:
                assert_never(command)

    def _kill(self, place: Path) -> None:
        """Stop it, and return once it has stopped."""
        # First the mark: whatever happens from here on, no runner starts another step.
        runner.write_durably(runner.killed_mark(place), "")
        log.info("submission.killed", submission=place.name)
        gentle, last = time.monotonic() + 2 * runner.GRACE, time.monotonic() + 10 * runner.GRACE
        while self._keep_going(place)["state"] not in _ENDED:
            if time.monotonic() > last:
                raise EngineUnavailable(f"{place.name} does not end; it will not start another step. See {place}")
            _signal_runner(place, signal.SIGTERM if time.monotonic() < gentle else signal.SIGKILL)
            time.sleep(0.02)

    def _retry(self, place: Path, step: str | None, parameters: Mapping[str, str]) -> str:
        """Run again what did not finish. Nobody runs it while its lock is ours."""
        lock = _claim_soon(place) if _read_status(place)["state"] in _ENDED else None
        if lock is None:
            raise EngineRefused("it still runs: retry it once it has ended, or kill it first")
        try:
            status = _read_status(place)
            if status["state"] not in _ENDED:
                raise EngineRefused("somebody else has had it retried just now")
            again = runner.begin_again(status, step)
            if not again:
                what = f"it is {status['state']}" if step is None else f"{step} is {status['steps'][step]['state']}"
                raise EngineRefused(f"there is nothing to run again: {what}")
            # The status last: until it is written, nothing has changed.
            for mark in (runner.killed_mark(place), runner.finish_mark(place), runner.paused_mark(place)):
                mark.unlink(missing_ok=True)
            runner.write_durably(place / "status.json", json.dumps(status, indent=1))
            self._start_runner(place, lock)
        except OSError as error:
            raise EngineUnavailable(f"{place} cannot be used: {error}") from error
        finally:
            os.close(lock)
        log.info("submission.retried", submission=place.name, steps=",".join(again))
        ignored = f"; the embedded engine has no use for {', '.join(sorted(parameters))}" if parameters else ""
        return f"{', '.join(again)} will run again{ignored}"

    def _plan(self, submission: Submission) -> Plan:
        files = {name: self._files(did) for name, did in submission.inputs.items()}
        files |= {name: list(paths) for name, paths in submission.file_lists.items()}
        return plan_of(submission, files, self._environment)

    def _files(self, did: Did) -> list[str]:
        try:
            return [str(path.absolute()) for path in self._resolve(did)]
        except EngineError:
            raise
        except Exception as error:  # whatever the catalog raises: nothing has been sent
            raise EngineUnavailable(f"the files of {did} cannot be found out, nothing was sent: {error}") from error

    def _place(self, submission: Submission, package: Package, plan: Plan, place: Path) -> None:
        """Build the directory beside its place, then put it there in one move: all of it or nothing.

        Of two who do so at the same time one is second, and throws his own away.
        """
        building = self.directory / f"{_BUILDING}{uuid4().hex}"
        building.mkdir()
        try:
            with _locked(building):
                _write(package, building / "source")
                for step in submission.steps:
                    if step.script is not None:
                        script = runner.script_file(building, step.name)
                        script.parent.mkdir(exist_ok=True)
                        script.write_text(step.script)
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

    def _has(self, name: str) -> bool:
        return NAME.fullmatch(name) is not None and (self.directory / name).is_dir()

    def _known(self, reference: Reference) -> Path:
        if not self._has(reference):
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


def _write(package: Package, directory: Path) -> None:
    """Write a package's files, for reading alone: a step that changed one would change it for all the others."""
    directory.mkdir()
    for path, file in package.items():
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.content)
        target.chmod(0o555 if file.executable else 0o444)


def _parts(step: str, names: Sequence[str]) -> list[str]:
    """The parts of a scattered step, which are called `<step>_1` and so on."""
    return [name for name in names if re.fullmatch(rf"{re.escape(step)}_[1-9]\d*", name)]


def _step_progress(place: Path, plan: Plan, status: Status, name: str) -> StepProgress:
    step = status["steps"][name]
    return StepProgress.model_validate(
        {
            **{field: step[field] for field in ("state", "started_at", "ended_at", "exit_code", "reason")},
            "name": name,
            "task_status": "paused" if step["state"] == "waiting" and _is_paused(place, status) else None,
            "files": _files_read(step),
            "log": str(runner.work_directory(place, plan, name) / "log.txt") if step["started_at"] else None,
        }
    )


def _is_paused(place: Path, status: Status) -> bool:
    return status["state"] not in _ENDED and runner.paused_mark(place).exists()


def _files_read(step: StepStatus) -> FileCounts | None:
    total = step["files"]
    if total is None:
        return None
    finished, failed = step["state"] == "finished", step["state"] == "failed"
    return FileCounts(total=total, finished=total if finished else 0, failed=total if failed else 0)


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


def _claim_soon(place: Path) -> int | None:
    """The same for a submission that has ended, whose runner may need a moment more to go away."""
    deadline = time.monotonic() + _LEAVING
    while (lock := _claim(place)) is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return lock


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
