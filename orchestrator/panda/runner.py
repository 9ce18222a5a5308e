"""The embedded engine's runner: one process per submission, which runs its steps and outlives muleteer.

Started by its path, `python -I -S runner.py DIRECTORY LOCK`, so it imports only the standard library. LOCK is a
file descriptor of `DIRECTORY/runner.lock`, already locked: whoever holds that lock is the only runner of the
submission. It reads `plan.json`, keeps `status.json` true at every moment, and may be killed at any of them: the
next runner finds the finished steps finished, and runs an interrupted one again from a clean directory. Linux only.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypedDict

#: Steps of one submission that run at the same time, where their inputs allow it.
PARALLEL = 2
#: Seconds between asking a step to end and ending it.
GRACE = 2.0
#: Set for every step, and the mark by which its processes are found again after a crash.
MARK = "MULETEER_SUBMISSION"

_LOG = "log.txt"
_LAST_LINES = 10
_LAST_BYTES = 4096
_NEWS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1


class StepPlan(TypedDict):
    name: str
    command: list[str]
    inputs: list[str]
    outputs: list[str]
    #: Seconds.
    timeout: float | None


class Plan(TypedDict):
    """`plan.json`: what is to be done. Never changes."""

    name: str
    workflow: str
    parameters: dict[str, str]
    environment: dict[str, str]
    #: Absolute paths of the files, by the name of the input.
    inputs: dict[str, list[str]]
    steps: list[StepPlan]


class StepStatus(TypedDict):
    #: In the words of `schemas.launch.StepState`.
    state: str
    started_at: str | None
    ended_at: str | None
    exit_code: int | None
    reason: str | None
    #: What a finished step made, relative to its directory.
    outputs: list[str]
    interruptions: int


class Status(TypedDict):
    """`status.json`: how far it has come."""

    #: In the words of `orchestrator.panda.port.SubmissionState`.
    state: str
    reason: str | None
    steps: dict[str, StepStatus]


class StepFailed(Exception):
    """A step cannot go on; the text says why."""


def main(directory: Path, lock: int) -> None:
    """Leave the caller, so that nobody has to wait for us, and run."""
    if os.fork():
        os._exit(0)
    os.setsid()
    os.set_inheritable(lock, False)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_BLOCK, _NEWS)
    # Only now: whoever reads the number may send a signal to it.
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    Runner(directory).run()


def new_status(plan: Plan) -> Status:
    """The status of a submission that nobody has run yet."""
    step = StepStatus(
        state="waiting",
        started_at=None,
        ended_at=None,
        exit_code=None,
        reason=None,
        outputs=[],
        interruptions=0,
    )
    steps = {entry["name"]: step.copy() for entry in plan["steps"]}
    return Status(state="submitted", reason=None, steps=steps)


def killed_mark(directory: Path) -> Path:
    """The file whose presence says that the submission is to be stopped for good."""
    return directory / "killed"


def work_directory(directory: Path, plan: Plan, step: str) -> Path:
    """Where a step runs: `steps/<n>-<step>`, counted from 1."""
    number = [entry["name"] for entry in plan["steps"]].index(step) + 1
    return directory / "steps" / f"{number}-{step}"


def variable(prefix: str, name: str) -> str:
    """The environment variable for a parameter or an input: `MULETEER_PARAM_RUN`."""
    return f"MULETEER_{prefix}_" + re.sub(r"\W", "_", name, flags=re.ASCII).upper()


def write_durably(path: Path, text: str) -> None:
    """Replace a file at once; when this returns it survives a power failure."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with fresh.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    flush_to_disk(path.parent)


def flush_to_disk(path: Path) -> None:
    """Have the disk keep a file's bytes, or a directory's entries."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@dataclass
class Child:
    """A step that is running."""

    step: StepPlan
    process: subprocess.Popen[bytes]
    #: When something has to be done about it, on the monotonic clock.
    deadline: float
    late: bool = False
    asked_to_end: bool = False

    @property
    def ended(self) -> bool:
        """Whether it has ended. It is not reaped, so its process group still cannot be somebody else's."""
        return os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def ask_to_end(self) -> None:
        if not self.asked_to_end:
            self.asked_to_end = True
            self.deadline = time.monotonic() + GRACE
            os.killpg(self.process.pid, signal.SIGTERM)

    def end(self) -> None:
        self.deadline = float("inf")
        os.killpg(self.process.pid, signal.SIGKILL)

    def reap(self) -> int:
        """End what it has left running, and give its exit code; below 0, the signal that ended it."""
        self.end()
        return self.process.wait()


class Runner:
    """Runs what is left to do of one submission."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.plan: Plan = json.loads((directory / "plan.json").read_bytes())
        self.status: Status = json.loads((directory / "status.json").read_bytes())
        self.children: list[Child] = []
        #: Somebody shuts the machine down: leave everything to the next runner.
        self.leaving = False

    def run(self) -> None:
        self._take_over()
        while True:
            if self.leaving or self._killed:
                for child in self.children:
                    child.ask_to_end()
            else:
                self._start_what_can_start()
            if not self.children:
                break
            self._wait_for_news()
            for child in list(self.children):
                if child.ended:
                    self._settle(child)
                elif time.monotonic() >= child.deadline:
                    self._press(child)
        self._conclude()

    @property
    def _killed(self) -> bool:
        return killed_mark(self.directory).exists()

    def _take_over(self) -> None:
        """Clear up after a runner that died, then say that we are running."""
        interrupted = [name for name, step in self.status["steps"].items() if step["state"] == "running"]
        if interrupted:
            _end_processes_of(self.directory)
        for name in interrupted:
            self._set_aside(name)
        self.status["state"] = "running"
        self._keep()

    def _set_aside(self, name: str) -> None:
        step = self.status["steps"][name]
        work = work_directory(self.directory, self.plan, name)
        step["interruptions"] += 1
        while (aside := work.with_name(f"{work.name}.interrupted-{step['interruptions']}")).exists():
            step["interruptions"] += 1
        if work.exists():
            work.rename(aside)
        step["state"] = "waiting"
        step["reason"] = f"its runner died, so it runs again from the start; what it had made is in {aside}"

    def _start_what_can_start(self) -> None:
        for step in self.plan["steps"]:
            if len(self.children) < PARALLEL and self._ready(step):
                self._start(step)

    def _ready(self, step: StepPlan) -> bool:
        steps = self.status["steps"]
        waiting = steps[step["name"]]["state"] == "waiting"
        return waiting and all(steps[name]["state"] == "finished" for name in step["inputs"] if name in steps)

    def _start(self, step: StepPlan) -> None:
        status = self.status["steps"][step["name"]]
        status["state"] = "running"
        status["started_at"] = _now()
        # Before the process: what a crash leaves behind must be found under a step that says `running`.
        self._keep()
        try:
            process = self._spawn(step)
        except (StepFailed, OSError, ValueError) as error:
            self._fail(step["name"], f"it could not be started: {error}")
            return
        deadline = float("inf") if step["timeout"] is None else time.monotonic() + step["timeout"]
        self.children.append(Child(step, process, deadline))

    def _spawn(self, step: StepPlan) -> subprocess.Popen[bytes]:
        work = work_directory(self.directory, self.plan, step["name"])
        work.mkdir(parents=True)
        self._stage(step, work)
        command = list(step["command"])
        if "/" in command[0] and not command[0].startswith("/"):
            command[0] = self._script(command[0])
        with (work / _LOG).open("wb") as log:
            return subprocess.Popen(
                command,
                cwd=work,
                env=self._environment(step, work),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # Safe although Python warns of it in general: this process has one thread.
                preexec_fn=_die_with(os.getpid()),
            )

    def _stage(self, step: StepPlan, work: Path) -> None:
        """Lay the step's inputs beside it, as a pilot does, and write down where they are."""
        for name in step["inputs"]:
            files = self._files(name)
            for file in files:
                link = work / file.name
                if link.is_symlink() or file.name == _LOG:
                    raise StepFailed(f"two of its files are called {file.name}: rename one of them")
                if not file.exists():
                    raise StepFailed(f"its input {name} is incomplete: {file} is not there")
                link.symlink_to(file)
            listing = self._listing(name)
            listing.parent.mkdir(exist_ok=True)
            # At once, since another step may be reading the same list.
            write_durably(listing, "".join(f"{file}\n" for file in files))

    def _files(self, name: str) -> list[Path]:
        """The files of an input, or what an earlier step made."""
        if name in self.plan["inputs"]:
            return [Path(file) for file in self.plan["inputs"][name]]
        work = work_directory(self.directory, self.plan, name)
        return [work / output for output in self.status["steps"][name]["outputs"]]

    def _listing(self, name: str) -> Path:
        return self.directory / "inputs" / f"{name}.list"

    def _script(self, argument: str) -> str:
        script = self.directory / "source" / argument
        if not script.is_file():
            raise StepFailed(f"{argument} is not in the workflow's folder")
        if not os.access(script, os.X_OK):
            raise StepFailed(f"{argument} is not executable: chmod +x it in the workflow's folder")
        return str(script)

    def _environment(self, step: StepPlan, work: Path) -> dict[str, str]:
        return {
            **self.plan["environment"],
            **{variable("PARAM", name): value for name, value in self.plan["parameters"].items()},
            **{variable("INPUT", name): str(self._listing(name)) for name in step["inputs"]},
            "MULETEER_LAUNCH": self.plan["name"],
            "MULETEER_WORKFLOW": self.plan["workflow"],
            "MULETEER_STEP": step["name"],
            MARK: str(self.directory),
            "PWD": str(work),
        }

    def _wait_for_news(self) -> None:
        """Until a child ends, somebody wants us to leave, or a deadline is over."""
        patience = min(child.deadline for child in self.children) - time.monotonic()
        news = signal.sigtimedwait(_NEWS, max(0.0, min(patience, 3600.0)))
        if news is not None and news.si_signo != signal.SIGCHLD:
            self.leaving = True

    def _press(self, child: Child) -> None:
        """A deadline is over: ask it to end, and the next time end it."""
        if child.asked_to_end:
            child.end()
        else:
            child.late = True
            child.ask_to_end()

    def _settle(self, child: Child) -> None:
        self.children.remove(child)
        name, code = child.step["name"], child.reap()
        if self.leaving or self._killed:
            # It stays `running`: the next runner takes it as interrupted, `_conclude` as killed.
            return
        self.status["steps"][name]["exit_code"] = code
        if child.late:
            self._fail(name, f"it was ended because it took longer than {child.step['timeout']:g} s")
        elif code:
            self._fail(name, f"it {_ending(code)}")
        else:
            self._finish(child.step)

    def _finish(self, step: StepPlan) -> None:
        work = work_directory(self.directory, self.plan, step["name"])
        staged = {file.name for name in step["inputs"] for file in self._files(name)} | {_LOG}
        outputs: set[str] = set()
        for pattern in step["outputs"]:
            made = [str(path.relative_to(work)) for path in work.glob(pattern) if path.is_file()]
            made = [path for path in made if path not in staged]
            if not made:
                self._fail(step["name"], f"it ended well but made no file matching {pattern}")
                return
            outputs.update(made)
        for output in outputs:
            # A step that says `finished` is never run again, so its files must be as durable as its state.
            flush_to_disk(work / output)
        flush_to_disk(work)
        status = self.status["steps"][step["name"]]
        status["state"] = "finished"
        status["ended_at"] = _now()
        status["outputs"] = sorted(outputs)
        self._keep()

    def _fail(self, name: str, reason: str) -> None:
        status = self.status["steps"][name]
        lines = _last_lines(work_directory(self.directory, self.plan, name) / _LOG)
        status["state"] = "failed"
        status["ended_at"] = _now()
        status["reason"] = f"{reason}; its log ends with:\n{lines}" if lines else f"{reason}; its log is empty"
        self.status["reason"] = self.status["reason"] or f"step {name} failed: {status['reason']}"
        self._keep()

    def _conclude(self) -> None:
        """Say how the whole submission ended, unless the next runner is to go on with it."""
        states = {name: step["state"] for name, step in self.status["steps"].items()}
        if set(states.values()) <= {"finished", "failed"} or not (self._killed or self.leaving):
            self.status["state"] = self._verdict(states)
            self._explain_what_did_not_run()
        elif self._killed:
            self.status["state"] = "killed"
            self.status["reason"] = self.status["reason"] or "it was killed on request"
            for step in self.status["steps"].values():
                if step["state"] in ("running", "waiting"):
                    step["ended_at"] = _now() if step["state"] == "running" else None
                    step["reason"] = "killed while it ran" if step["state"] == "running" else "killed before it ran"
                    step["state"] = "killed"
        self._keep()

    def _verdict(self, states: dict[str, str]) -> str:
        if all(state == "finished" for state in states.values()):
            return "finished"
        read = {name for step in self.plan["steps"] for name in step["inputs"]}
        ends_well = any(state == "finished" for name, state in states.items() if name not in read)
        return "partly_finished" if ends_well else "failed"

    def _explain_what_did_not_run(self) -> None:
        for entry in self.plan["steps"]:
            step = self.status["steps"][entry["name"]]
            if step["state"] == "waiting":
                missing = [name for name in entry["inputs"] if not self._has_finished(name)]
                step["reason"] = f"not run: it reads {', '.join(missing)}, which did not finish"

    def _has_finished(self, name: str) -> bool:
        return name in self.plan["inputs"] or self.status["steps"][name]["state"] == "finished"

    def _keep(self) -> None:
        write_durably(self.directory / "status.json", json.dumps(self.status, indent=1))


def _die_with(parent: int) -> Callable[[], None]:
    """For a child between fork and exec: it is killed by the kernel when the runner dies, however it dies."""
    prctl = ctypes.CDLL(None).prctl

    def bind() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the kernel knew
            os._exit(1)

    return bind


def _end_processes_of(directory: Path) -> None:
    """End what a dead runner's steps left running: the kernel ends a step with its runner, not the step's children.

    Raises RuntimeError if they do not go away; a step must never run twice at once.
    """
    patience = time.monotonic() + 10
    while pids := list(_processes_of(directory)):
        if time.monotonic() > patience:
            raise RuntimeError(f"processes {pids} of {directory} cannot be killed: end them by hand")
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _processes_of(directory: Path) -> Iterator[int]:
    mark = b"\0" + f"{MARK}={directory}".encode() + b"\0"
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environment = (entry / "environ").read_bytes()
            except OSError:  # gone, or not ours
                continue
            if mark in b"\0" + environment:
                yield int(entry.name)


def _ending(code: int) -> str:
    return f"ended with exit code {code}" if code > 0 else f"was ended by {signal.Signals(-code).name}"


def _last_lines(log: Path) -> str:
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LAST_BYTES))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return "\n".join(text.rstrip().splitlines()[-_LAST_LINES:])


def _now() -> str:
    return datetime.now(UTC).isoformat()


def _arguments(words: Sequence[str]) -> tuple[Path, int]:
    return Path(words[0]), int(words[1])


if __name__ == "__main__":
    main(*_arguments(sys.argv[1:]))
