"""An engine, a workflow to be written, and what is asked of both: for the tests of engines."""

from __future__ import annotations

import os
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import psutil

from orchestrator.panda.port import (
    Engine,
    EngineError,
    Package,
    PackedFile,
    Progress,
    Reference,
    Submission,
    SubmissionState,
    SubmissionStep,
    Tracked,
)
from schemas.did import Did
from schemas.launch import Command, StepProgress, StepState
from schemas.workflow import StepInput

T = TypeVar("T")

ROOT = Path(__file__).parents[3]

RAW = Did("group.sphenix", "RAW")

ENDED = {
    SubmissionState.FINISHED,
    SubmissionState.PARTLY_FINISHED,
    SubmissionState.FAILED,
    SubmissionState.KILLED,
}


def step(
    name: str,
    *,
    command: Sequence[str] = (),
    inputs: Sequence[str | StepInput] = (),
    outputs: Sequence[str] = (),
    timeout: float | None = None,
    **more: Any,
) -> SubmissionStep:
    """A step that runs the script of its own name."""
    return SubmissionStep(
        name,
        () if "script" in more else tuple(command) or (f"./{name}.sh",),
        tuple(each if isinstance(each, StepInput) else StepInput(source=each) for each in inputs),
        tuple(outputs),
        None if timeout is None else timedelta(seconds=timeout),
        **more,
    )


def packed(folder: Path) -> Package:
    """The files of a folder."""
    return {
        path.name: PackedFile(path.read_bytes(), os.access(path, os.X_OK))
        for path in folder.iterdir()
        if path.is_file()
    }


def tracked(reference: Reference) -> Tracked:
    return Tracked(reference, reference, (), datetime.now(UTC), dict)


def progress_of(engine: Engine, reference: Reference) -> Progress:
    """What one look says of a submission. Raises the EngineError that it says instead."""
    seen = engine.look([tracked(reference)])[reference]
    if isinstance(seen, EngineError):
        raise seen
    return seen


def found(engine: Engine, name: str) -> Reference | None:
    return engine.find(name, {})


def command(engine: Engine, reference: Reference, command: Command, step: str | None = None) -> str:
    return engine.command(tracked(reference), command, step, {})


def kill(engine: Engine, reference: Reference) -> None:
    command(engine, reference, Command.KILL)


@dataclass
class Bench:
    """An engine, a workflow's folder to write job scripts into, and input datasets on disk."""

    engine: Engine
    folder: Path
    datasets: dict[Did, list[Path]]
    #: Outside the engine: scripts write here what the tests look at.
    notes: Path
    parameters: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    file_lists: dict[str, tuple[str, ...]] = field(default_factory=dict)
    setup: str | None = None

    def script(self, name: str, text: str) -> None:
        path = self.folder / f"{name}.sh"
        path.write_text(f"#!/bin/sh\nset -e\n{textwrap.dedent(text)}\n")
        path.chmod(0o755)

    def submission(self, name: str, *steps: SubmissionStep) -> Submission:
        return Submission(
            name=name,
            workflow="bench",
            parameters=self.parameters,
            inputs={did.name.lower(): did for did in self.datasets},
            steps=steps,
            environment={"NOTES": str(self.notes), **self.environment},
            file_lists=self.file_lists,
            setup=self.setup,
        )

    def submit(self, name: str, *steps: SubmissionStep) -> Reference:
        return self.send(self.submission(name, *steps))

    def send(self, submission: Submission, engine: Engine | None = None) -> Reference:
        to = engine or self.engine
        reference, _ = to.submit(submission.name, to.pack(submission, packed(self.folder)))
        return reference

    def run(self, name: str, *steps: SubmissionStep) -> Progress:
        return self.ended(self.submit(name, *steps))

    def ended(self, reference: Reference) -> Progress:
        return until(lambda: progress_of(self.engine, reference), lambda progress: progress.state in ENDED)

    def note(self, name: str) -> list[str]:
        path = self.notes / name
        return path.read_text().splitlines() if path.exists() else []


def until(look: Callable[[], T], good: Callable[[T], object], patience: float = 20) -> T:
    """Look again and again until what is seen is good."""
    deadline = time.monotonic() + patience
    while not good(seen := look()):
        assert time.monotonic() < deadline, f"still {seen}"
        time.sleep(0.02)
    return seen


def by_name(progress: Progress) -> dict[str, StepProgress]:
    return {entry.name: entry for entry in progress.steps}


def states(progress: Progress) -> dict[str, StepState]:
    return {entry.name: entry.state for entry in progress.steps}


def processes_of(directory: Path) -> list[psutil.Process]:
    """The processes that work within a directory, zombies left out."""
    found = []
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()).is_relative_to(directory):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def runner_of(place: Path) -> psutil.Process:
    """The process that runs a submission of the embedded engine. Raises NoSuchProcess if none does."""
    process = psutil.Process(int(until((place / "runner.lock").read_text, bool)))
    if str(place) not in process.cmdline():
        raise psutil.NoSuchProcess(process.pid)
    return process


def running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
