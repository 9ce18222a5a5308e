"""Why steps failed on the embedded engine: its own words, read by the table that comes with the product."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator.launch.failure_table import read_table
from orchestrator.panda.embedded.engine import LocalEngine
from orchestrator.panda.port import (
    EngineRefused,
    PackedFile,
    Progress,
    Reference,
    Submission,
    SubmissionState,
    SubmissionStep,
    Tracked,
    UnknownSubmission,
)
from schemas.did import Did
from schemas.failure import FailureClass
from schemas.launch import Command
from schemas.workflow import StepInput
from tests.unit.making import NOW

GOING_ON = (SubmissionState.SUBMITTED, SubmissionState.RUNNING)
RAW = Did("group.sphenix", "RAW")


@pytest.fixture
def engine(tmp_path: Path) -> LocalEngine:
    return LocalEngine(tmp_path / "launches", lambda did: [tmp_path / "gone.prdf"])


def step(name: str, script: str, **fields: Any) -> SubmissionStep:
    return SubmissionStep(name, fields.pop("command", ()), script=script or None, **fields)


def tracked(name: str) -> Tracked:
    return Tracked(name, Reference(name), (), NOW, dict)


def started(engine: LocalEngine, *steps: SubmissionStep) -> Tracked:
    asked = Submission("n1", "calo", {}, {"raw": RAW}, steps)
    engine.submit("n1", engine.pack(asked, {"run.sh": PackedFile(b"#!/bin/sh\n")}))
    return tracked("n1")


def wait(engine: LocalEngine, of: Tracked, good: Callable[[Progress], bool]) -> None:
    deadline = time.monotonic() + 20
    while True:
        progress = engine.look([of])[of.name]
        assert isinstance(progress, Progress)
        if good(progress):
            return
        assert time.monotonic() < deadline, progress
        time.sleep(0.05)


def ended(engine: LocalEngine, *steps: SubmissionStep) -> Tracked:
    of = started(engine, *steps)
    wait(engine, of, lambda progress: progress.state not in GOING_ON)
    return of


@pytest.mark.parametrize(
    ("failing", "class_", "code"),
    [
        (step("s", "echo crash; exit 7"), FailureClass.PAYLOAD, 7),
        (step("s", "kill -KILL $$"), FailureClass.MEMORY, 137),
        (step("s", "kill -SEGV $$"), FailureClass.PAYLOAD, 139),
        (step("s", "no-such-command"), FailureClass.OURS, 127),
        (step("s", "sleep 60", timeout=timedelta(seconds=0.2)), FailureClass.TIME, None),
        (step("s", "true", outputs=("*.root",)), FailureClass.PAYLOAD, None),
        (step("s", "", command=("./run.sh",)), FailureClass.OURS, None),
        (step("s", "true", inputs=(StepInput(source="raw"),)), FailureClass.STORAGE, None),
        (step("s", "true", inputs=(StepInput(source="raw", match="calib*"),)), FailureClass.STORAGE, None),
        (step("s", "echo 'cp: error writing x: No space left on device' >&2; exit 1"), FailureClass.SITE, 1),
    ],
    ids=lambda value: value.script or "run.sh" if isinstance(value, SubmissionStep) else str(value),
)
def test_what_the_runner_says_is_classed(
    engine: LocalEngine, tmp_path: Path, failing: SubmissionStep, class_: FailureClass, code: int | None
) -> None:
    """Each way in which a step fails is one that the table knows."""
    (failed,) = engine.failures(ended(engine, failing)).jobs
    meaning = read_table(tmp_path).meaning(failed)

    assert (meaning.class_, meaning.complaint.code) == (class_, code)
    assert failed.at is not None
    assert failed.log is not None and failed.log.endswith("steps/1-s/log.txt")


def test_what_was_killed_is_ours(engine: LocalEngine, tmp_path: Path) -> None:
    """The step that ran and the one that waited; one may be asked for alone."""
    of = started(engine, step("a", "sleep 60", outputs=("x",)), step("b", "true", inputs=(StepInput(source="a"),)))
    wait(engine, of, lambda progress: progress.steps[0].state == "running")
    engine.command(of, Command.KILL, None, {})

    jobs = engine.failures(of).jobs
    assert [(job.step, read_table(tmp_path).meaning(job).class_) for job in jobs] == [
        ("a", FailureClass.OURS),
        ("b", FailureClass.OURS),
    ]
    assert [job.step for job in engine.failures(of, "b").jobs] == ["b"]


def test_what_is_not_there_is_said(engine: LocalEngine) -> None:
    of = ended(engine, step("a", "true"))

    assert engine.failures(of).jobs == ()
    with pytest.raises(EngineRefused, match="it has a"):
        engine.failures(of, "b")
    with pytest.raises(UnknownSubmission):
        engine.failures(tracked("n2"))
