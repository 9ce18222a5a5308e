"""The embedded engine: a submission is run again, finished early, paused and killed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from orchestrator.panda.port import (
    EngineRefused,
    Progress,
    Reference,
    SubmissionState,
    SubmissionStep,
    UnknownSubmission,
)
from schemas.launch import Command, StepState
from tests.contract.engine.bench import (
    Bench,
    by_name,
    command,
    kill,
    progress_of,
    runner_of,
    states,
    step,
    tracked,
    until,
)


def flaky(local: Bench) -> tuple[SubmissionStep, ...]:
    """Three steps in a row, of which the second fails until the test says go."""
    local.script("one", 'echo one >> "$NOTES/tally"; echo 1 > a.out')
    local.script("two", 'echo two >> "$NOTES/tally"; test -e "$NOTES/go"; cat a.out > b.out')
    local.script("three", 'echo three >> "$NOTES/tally"')
    return (
        step("one", outputs=["a.out"]),
        step("two", inputs=["one"], outputs=["b.out"]),
        step("three", inputs=["two"]),
    )


def test_what_failed_can_be_run_again(local: Bench, directory: Path) -> None:
    """After a retry only what failed, and what never ran, runs; the log of the first try is kept."""
    reference = local.submit("again", *flaky(local))
    assert local.ended(reference).state is SubmissionState.FAILED
    (local.notes / "go").touch()

    said = command(local.engine, reference, Command.RETRY)

    progress = local.ended(reference)
    assert "two" in said
    assert progress.state is SubmissionState.FINISHED
    assert progress.reason is None
    assert local.note("tally") == ["one", "two", "two", "three"]
    assert (directory / "again" / "steps" / "2-two.try-1" / "log.txt").exists()


def test_what_was_killed_can_be_run_again(local: Bench) -> None:
    """A retry takes back a kill: what had finished stays, the rest runs."""
    local.script("one", 'echo one >> "$NOTES/tally"')
    local.script("two", 'echo two >> "$NOTES/tally"; test -e "$NOTES/go" || sleep 60')
    reference = local.submit("killed-again", step("one"), step("two", inputs=["one"]))
    until(lambda: local.note("tally"), lambda tally: "two" in tally)
    kill(local.engine, reference)
    (local.notes / "go").touch()

    command(local.engine, reference, Command.RETRY)

    assert local.ended(reference).state is SubmissionState.FINISHED
    assert local.note("tally") == ["one", "two", "two"]


def test_a_retry_survives_a_killed_runner(local: Bench, directory: Path) -> None:
    """A runner that is killed while it does a retry is replaced, and what finished still stays."""
    local.script("one", 'echo one >> "$NOTES/tally"')
    local.script(
        "two",
        """
        echo two >> "$NOTES/tally"
        test -e "$NOTES/go" || exit 1
        test -e "$NOTES/second" || { touch "$NOTES/second"; sleep 60; }
        """,
    )
    reference = local.submit("kill-9", step("one"), step("two", inputs=["one"]))
    local.ended(reference)
    (local.notes / "go").touch()
    command(local.engine, reference, Command.RETRY)
    until((local.notes / "second").exists, bool)

    runner_of(directory / "kill-9").kill()

    assert local.ended(reference).state is SubmissionState.FINISHED
    assert local.note("tally") == ["one", "two", "two", "two"]


def test_one_step_alone_can_be_run_again(local: Bench) -> None:
    """Of two steps that failed, only the one that is named runs again."""
    local.script("one", 'echo one >> "$NOTES/tally"; test -e "$NOTES/go"')
    local.script("two", 'echo two >> "$NOTES/tally"; false')
    reference = local.submit("single", step("one"), step("two"))
    local.ended(reference)
    (local.notes / "go").touch()

    command(local.engine, reference, Command.RETRY, "one")

    progress = local.ended(reference)
    assert progress.state is SubmissionState.PARTLY_FINISHED
    assert sorted(local.note("tally")) == ["one", "one", "two"]


def test_what_cannot_be_run_again_is_refused(local: Bench) -> None:
    """What runs, what has finished, and a step that does not exist cannot be retried; the words say so."""
    local.script("one", 'until test -e "$NOTES/go"; do sleep 0.02; done')
    reference = local.submit("finished", step("one"), step("alarm", inputs=["one"], when="failed", script="true"))

    with pytest.raises(EngineRefused, match="still runs"):
        command(local.engine, reference, Command.RETRY)
    (local.notes / "go").touch()
    local.ended(reference)
    with pytest.raises(EngineRefused, match="nothing to run again: it is finished"):
        command(local.engine, reference, Command.RETRY)
    with pytest.raises(EngineRefused, match="one is finished"):
        command(local.engine, reference, Command.RETRY, "one")
    with pytest.raises(EngineRefused, match="no step 'strange'"):
        command(local.engine, reference, Command.RETRY, "strange")
    with pytest.raises(EngineRefused, match="reads its input once"):
        command(local.engine, reference, Command.RELOAD)

    assert progress_of(local.engine, reference).state is SubmissionState.FINISHED


def test_a_submission_can_be_finished_early(local: Bench) -> None:
    """Asked to finish, it begins no further step; what runs goes on to its end, and what was done counts."""
    local.script("one", 'touch "$NOTES/began"; until test -e "$NOTES/go"; do sleep 0.02; done')
    local.script("two", 'echo two >> "$NOTES/tally"')
    reference = local.submit("enough", step("one"), step("two", inputs=["one"]))
    until((local.notes / "began").exists, bool)

    command(local.engine, reference, Command.FINISH)
    (local.notes / "go").touch()

    progress = local.ended(reference)
    assert progress.state is SubmissionState.PARTLY_FINISHED
    assert states(progress) == {"one": StepState.FINISHED, "two": StepState.WAITING}
    assert by_name(progress)["two"].reason == "not run: no further step was to begin, by request"
    assert local.note("tally") == []


@pytest.mark.parametrize("crash", [False, True])
def test_a_submission_can_be_paused(local: Bench, directory: Path, crash: bool) -> None:
    """Paused, it begins no further step, whatever happens to its runner; resumed, it goes on."""
    local.script("one", 'touch "$NOTES/began"; until test -e "$NOTES/go"; do sleep 0.02; done')
    local.script("two", 'echo two >> "$NOTES/tally"')
    reference = local.submit("break", step("one"), step("two", inputs=["one"]))
    until((local.notes / "began").exists, bool)

    command(local.engine, reference, Command.PAUSE)
    (local.notes / "go").touch()
    paused = until(lambda: progress_of(local.engine, reference), lambda seen: seen.steps[0].state is StepState.FINISHED)
    if crash:
        runner_of(directory / "break").kill()
    time.sleep(0.8)
    still = progress_of(local.engine, reference)
    tally = local.note("tally")
    command(local.engine, reference, Command.RESUME)

    assert paused.steps[1].task_status == still.steps[1].task_status == "paused"
    assert still.state is SubmissionState.RUNNING
    assert tally == []
    assert local.ended(reference).state is SubmissionState.FINISHED
    assert local.note("tally") == ["two"]


def test_a_paused_submission_can_be_killed(local: Bench) -> None:
    """What is paused does not have to be resumed to be killed."""
    local.script("one", 'touch "$NOTES/began"; sleep 0.2')
    reference = local.submit("stop", step("one"), step("two", inputs=["one"], script="true"))
    until((local.notes / "began").exists, bool)
    command(local.engine, reference, Command.PAUSE)

    kill(local.engine, reference)

    assert local.ended(reference).state is SubmissionState.KILLED


def test_one_odd_submission_keeps_no_other_from_being_seen(local: Bench) -> None:
    """A look answers for each by itself."""
    local.run("there", step("one", script="true"))

    seen = local.engine.look([tracked(Reference("there")), tracked(Reference("strange"))])

    there, strange = seen["there"], seen["strange"]
    assert isinstance(there, Progress)
    assert there.state is SubmissionState.FINISHED
    assert isinstance(strange, UnknownSubmission)
