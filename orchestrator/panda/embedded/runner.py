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
from typing import NotRequired, TypedDict

#: Steps of one submission that run at the same time, where their inputs allow it.
PARALLEL = 2
#: Seconds between asking a step to end and ending it.
GRACE = 2.0
#: Set for every step, and the mark by which its processes are found again after a crash.
MARK = "MULETEER_SUBMISSION"

#: What the shell does with a setup file ($0) and what comes after it. The file must not see arguments of ours, and what
#: it sets must last; a script is sourced too, so that it has the functions and aliases.
_SOURCE_FIRST = 'muleteer_command=("$@"); set --; source "$0" || exit; exec "${muleteer_command[@]}"'
_SOURCE_BOTH = 'muleteer_command=("$@"); set --; source "$0" || exit; source "${muleteer_command[0]}"'

_LOG = "log.txt"
#: What muleteer added to the workflow's own files.
_OWN = "muleteer"
#: Of these: programs that steps find on their PATH; and where to tell how far they are, if anybody wants to know.
_TOOLS, _CALLBACK = "muleteer/bin", "muleteer/callback.json"
#: Seconds after which a paused submission looks whether it may go on.
_PAUSED_LOOK = 0.5
_LAST_LINES = 10
_LAST_BYTES = 4096
_NEWS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_PR_SET_PDEATHSIG = 1


class InputPlan(TypedDict):
    """One thing that a step reads: an input of the plan or an earlier step."""

    source: str
    #: Only files whose name holds this, `*` for anything.
    match: str | None


class StepPlan(TypedDict):
    name: str
    #: Arguments; empty if there is a script in `scripts/<name>.sh`.
    command: list[str]
    inputs: list[InputPlan]
    outputs: list[str]
    #: Those of the outputs that it may leave out.
    optional: NotRequired[list[str]]
    #: Seconds.
    timeout: float | None
    environment: dict[str, str]
    #: Whether it runs only if the step that its first input comes from has failed.
    when_failed: bool


class Plan(TypedDict):
    """`plan.json`: what is to be done. Never changes."""

    name: str
    workflow: str
    parameters: dict[str, str]
    environment: dict[str, str]
    #: A shell file of `source/` that every step sources first.
    setup: str | None
    #: Absolute paths or URLs of the files, by the name of the input.
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
    #: How many files it reads, once it has started.
    files: int | None
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
        files=None,
        interruptions=0,
    )
    steps = {entry["name"]: step.copy() for entry in plan["steps"]}
    return Status(state="submitted", reason=None, steps=steps)


def begin_again(status: Status, only: str | None) -> list[str]:
    """Change the status of a submission that has ended so that what did not finish can run; gives its steps' names.

    With `only`, that step; those that never began wait again in any case, since they may depend on it.
    """
    steps = status["steps"]
    wanted = ("failed", "killed") if only else ("failed", "killed", "waiting")
    again = [name for name, step in steps.items() if only in (None, name) and step["state"] in wanted]
    if status["state"] == "finished" or not again:
        return []
    for name, step in steps.items():
        if name in again or step["started_at"] is None:
            step["state"] = "waiting"
            step["started_at"] = step["ended_at"] = step["exit_code"] = step["reason"] = step["files"] = None
    status["state"], status["reason"] = "submitted", None
    return again


def killed_mark(directory: Path) -> Path:
    """The file whose presence says that the submission is to be stopped for good."""
    return directory / "killed"


def finish_mark(directory: Path) -> Path:
    """The file whose presence says that no further step is to begin."""
    return directory / "finish"


def paused_mark(directory: Path) -> Path:
    """The file whose presence says that no further step is to begin until it is gone again."""
    return directory / "paused"


def work_directory(directory: Path, plan: Plan, step: str) -> Path:
    """Where a step runs: `steps/<n>-<step>`, counted from 1."""
    number = [entry["name"] for entry in plan["steps"]].index(step) + 1
    return directory / "steps" / f"{number}-{step}"


def script_file(directory: Path, step: str) -> Path:
    """Where the text of a step's script lies."""
    return directory / "scripts" / f"{step}.sh"


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
            if not self.children and not self._held_back:
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

    @property
    def _finishing(self) -> bool:
        return finish_mark(self.directory).exists()

    @property
    def _paused(self) -> bool:
        return paused_mark(self.directory).exists()

    @property
    def _held_back(self) -> bool:
        """Whether there is work that a pause alone keeps from being done."""
        free = self._paused and not (self.leaving or self._killed or self._finishing)
        return free and any(map(self._ready, self.plan["steps"]))

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
        if self._finishing or self._paused:
            return
        for step in self.plan["steps"]:
            if len(self.children) < PARALLEL and self._ready(step):
                self._start(step)

    def _ready(self, step: StepPlan) -> bool:
        if self._state(step["name"]) != "waiting":
            return False
        sources = self._steps_read(step)
        if step["when_failed"]:
            return self._state(sources[0]) == "failed" and all(map(self._is_over, sources))
        return all(self._state(name) == "finished" for name in sources)

    def _steps_read(self, step: StepPlan) -> list[str]:
        """The steps that it reads, in order."""
        return [each["source"] for each in step["inputs"] if each["source"] in self.status["steps"]]

    def _state(self, name: str) -> str:
        return self.status["steps"][name]["state"]

    def _is_over(self, name: str) -> bool:
        """Whether a step has ended, or will never begin as things stand."""
        if self._state(name) != "waiting":
            return self._state(name) != "running"
        step = self._entry(name)
        sources = self._steps_read(step)
        if step["when_failed"] and self._state(sources[0]) != "failed" and self._is_over(sources[0]):
            return True
        missed = (source for source in sources if self._is_over(source) and self._state(source) != "finished")
        return not step["when_failed"] and any(missed)

    def _entry(self, name: str) -> StepPlan:
        return next(entry for entry in self.plan["steps"] if entry["name"] == name)

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
        self._keep_former(work)
        work.mkdir(parents=True)
        self._stage(step, work)
        with (work / _LOG).open("wb") as log:
            return subprocess.Popen(
                self._command(step),
                cwd=work,
                env=self._environment(step, work),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # Safe although Python warns of it in general: this process has one thread.
                preexec_fn=_die_with(os.getpid()),
            )

    def _keep_former(self, work: Path) -> None:
        """What an earlier try of the step has left, somebody may still want to read."""
        if work.exists():
            number = 1
            while (aside := work.with_name(f"{work.name}.try-{number}")).exists():
                number += 1
            work.rename(aside)

    def _command(self, step: StepPlan) -> list[str]:
        command = list(step["command"])
        if command and "/" in command[0] and not command[0].startswith("/"):
            command[0] = self._program(command[0])
        script = [] if command else [str(script_file(self.directory, step["name"]))]
        setup = self.plan["setup"]
        if setup is not None:
            return ["bash", "-c", _SOURCE_BOTH if script else _SOURCE_FIRST, self._setup(setup), *command, *script]
        return command or ["bash", *script]

    def _stage(self, step: StepPlan, work: Path) -> None:
        """Lay the step's inputs beside it, as a pilot does, and write down where they are; then the workflow's files.

        A file of an input goes before one of the workflow's of the same name.
        """
        count = 0
        wanted: dict[str, list[str]] = {}
        for each in step["inputs"]:
            wanted.setdefault(each["source"], []).extend(self._wanted(each))
        for source, found in wanted.items():
            # read twice, with another match each time, it is one list, and no file is in it twice
            files = list(dict.fromkeys(found))
            for file in files:
                if "://" not in file:
                    self._link(work, Path(file), source)
            listing = self._listing(step["name"], source)
            listing.parent.mkdir(parents=True, exist_ok=True)
            write_durably(listing, "".join(f"{file}\n" for file in files))
            count += len(files)
        self.status["steps"][step["name"]]["files"] = count
        for entry in (self.directory / "source").iterdir():
            if entry.name not in (_OWN, _LOG) and not (work / entry.name).is_symlink():
                (work / entry.name).symlink_to(entry)

    def _link(self, work: Path, file: Path, source: str) -> None:
        link = work / file.name
        if link.is_symlink() or file.name == _LOG:
            raise StepFailed(f"two of its files are called {file.name}: rename one of them")
        if not file.exists():
            raise StepFailed(f"its input {source} is incomplete: {file} is not there")
        link.symlink_to(file)

    def _wanted(self, each: InputPlan) -> list[str]:
        """The files of one input of a step that it asks for."""
        files = self._files(each["source"])
        if each["match"] is None:
            return files
        pattern = re.compile(".*".join(map(re.escape, each["match"].split("*"))))
        found = [file for file in files if pattern.search(file.rpartition("/")[2])]
        if files and not found:
            raise StepFailed(f"none of the {len(files)} files of its input {each['source']} matches {each['match']}")
        return found

    def _files(self, name: str) -> list[str]:
        """The files of an input, or what an earlier step made."""
        if name in self.plan["inputs"]:
            return self.plan["inputs"][name]
        work = work_directory(self.directory, self.plan, name)
        return [str(work / output) for output in self.status["steps"][name]["outputs"]]

    def _listing(self, step: str, name: str) -> Path:
        return self.directory / "inputs" / step / f"{name}.list"

    def _program(self, argument: str) -> str:
        program = self.directory / "source" / argument
        if not program.is_file():
            raise StepFailed(f"{argument} is not in the workflow's folder")
        if not os.access(program, os.X_OK):
            raise StepFailed(f"{argument} is not executable: chmod +x it in the workflow's folder")
        return str(program)

    def _setup(self, name: str) -> str:
        setup = self.directory / "source" / name
        if not setup.is_file():
            raise StepFailed(f"the setup file {name} is not in the workflow's folder")
        return str(setup)

    def _environment(self, step: StepPlan, work: Path) -> dict[str, str]:
        said = {**self.plan["environment"], **step["environment"]}
        return {
            **self._callback(),
            **said,
            "PATH": os.pathsep.join([said.get("PATH", os.defpath), str(self.directory / "source" / _TOOLS)]),
            **{variable("PARAM", name): value for name, value in self.plan["parameters"].items()},
            **{
                variable("INPUT", each["source"]): str(self._listing(step["name"], each["source"]))
                for each in step["inputs"]
            },
            "MULETEER_LAUNCH": self.plan["name"],
            "MULETEER_WORKFLOW": self.plan["workflow"],
            "MULETEER_STEP": step["name"],
            MARK: str(self.directory),
            "PWD": str(work),
        }

    def _callback(self) -> dict[str, str]:
        """Where the step's job can tell how far it is; less if nobody wants to know."""
        tools = {"MULETEER_TOOLS": str(self.directory / "source" / _TOOLS)}
        try:
            told = json.loads((self.directory / "source" / _CALLBACK).read_bytes())
            return {**tools, "MULETEER_CALLBACK_URL": told["url"], "MULETEER_CALLBACK_TOKEN": told["token"]}
        except (OSError, ValueError, LookupError):
            return tools

    def _wait_for_news(self) -> None:
        """Until a child ends, somebody wants us to leave, a deadline is over, or a pause may be."""
        longest = _PAUSED_LOOK if self._held_back else 3600.0
        patience = min((child.deadline - time.monotonic() for child in self.children), default=longest)
        news = signal.sigtimedwait(_NEWS, max(0.0, min(patience, longest)))
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
        staged = {Path(file).name for each in step["inputs"] for file in self._wanted(each)}
        staged |= {entry.name for entry in (self.directory / "source").iterdir()}
        outputs: set[str] = set()
        for pattern in step["outputs"]:
            found = (path.relative_to(work) for path in work.glob(pattern) if path.is_file())
            # what was laid beside the step is not of its making, unless it has put a file of its own in its place
            made = [
                str(path) for path in found if not (path.parts[0] in staged and (work / path.parts[0]).is_symlink())
            ]
            made = [path for path in made if path != _LOG]
            if not made and pattern not in step.get("optional", []):
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
            if self.status["state"] != "finished":
                self.status["reason"] = self.status["reason"] or "no further step was to begin, by request"
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
        """By the ordinary steps: those that run only because another failed make nothing better and nothing worse."""
        spare = self._spare()
        ordinary = {name: state for name, state in states.items() if name not in spare}
        if all(state == "finished" for state in ordinary.values()):
            return "finished"
        read = {name for step in self.plan["steps"] if step["name"] in ordinary for name in self._steps_read(step)}
        # asked to finish, what has been done so far counts
        ends = [name for name in ordinary if name not in read or self._finishing]
        return "partly_finished" if any(states[name] == "finished" for name in ends) else "failed"

    def _spare(self) -> set[str]:
        """Steps that run only when another has failed, and what reads them."""
        spare: set[str] = set()
        for step in self.plan["steps"]:
            if step["when_failed"] or spare & set(self._steps_read(step)):
                spare.add(step["name"])
        return spare

    def _explain_what_did_not_run(self) -> None:
        for entry in self.plan["steps"]:
            step = self.status["steps"][entry["name"]]
            if step["state"] == "waiting":
                step["reason"] = f"not run: {self._why_not(entry)}"

    def _why_not(self, step: StepPlan) -> str:
        sources = self._steps_read(step)
        if step["when_failed"] and self._state(sources[0]) != "failed":
            return f"it runs only if {sources[0]} fails"
        missing = [name for name in sources if self._state(name) != "finished"]
        if missing and not step["when_failed"]:
            return f"it reads {', '.join(missing)}, which did not finish"
        return "no further step was to begin, by request"

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
