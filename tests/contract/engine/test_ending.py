"""What every engine promises of steps that are ended: by their timeout, or by a kill."""

from __future__ import annotations

from orchestrator.panda.port import Reference, SubmissionState
from schemas.launch import StepState
from tests.contract.engine.bench import Bench, kill, progress_of, running, states, step, until


def test_a_step_that_takes_too_long_is_ended(bench: Bench) -> None:
    """A step that takes longer than its timeout is ended with all it has started, and has failed."""
    bench.script("one", 'sleep 60 & echo $! > "$NOTES/pid"; echo started; wait')

    progress = bench.run("late", step("one", timeout=0.5))

    assert progress.state is SubmissionState.FAILED
    (one,) = progress.steps
    assert one.reason is not None
    assert "longer than 0.5 s" in one.reason
    assert "started" in one.reason
    (pid,) = bench.note("pid")
    until(lambda: running(int(pid)), lambda alive: not alive)


def test_a_submission_can_be_killed(bench: Bench) -> None:
    """Killing stops what runs and what has not run yet, for good."""
    bench.script("one", 'echo $$ > "$NOTES/pid"; sleep 60')
    bench.script("two", 'echo ran >> "$NOTES/tally"')
    reference = bench.submit("killed", step("one"), step("two", inputs=["one"]))
    (pid,) = until(lambda: bench.note("pid"), bool)

    kill(bench.engine, reference)

    progress = bench.ended(reference)
    assert progress.state is SubmissionState.KILLED
    assert progress.reason is not None
    assert states(progress) == {"one": StepState.KILLED, "two": StepState.KILLED}
    assert not running(int(pid))
    assert bench.note("tally") == []


def test_killing_what_has_ended_does_nothing(bench: Bench) -> None:
    """A submission that has finished stays finished when it is killed."""
    bench.script("one", "true")
    bench.run("ended", step("one"))

    kill(bench.engine, Reference("ended"))

    assert progress_of(bench.engine, Reference("ended")).state is SubmissionState.FINISHED


def test_a_killed_step_may_tidy_up(bench: Bench) -> None:
    """A step is first asked to end, so that it can put things in order."""
    bench.script(
        "one",
        """
        trap 'echo tidy >> "$NOTES/tally"; exit 0' TERM
        sleep 60 &
        touch "$NOTES/started"
        wait
        """,
    )
    reference = bench.submit("tidy", step("one"))
    until((bench.notes / "started").exists, bool)

    kill(bench.engine, reference)

    assert bench.ended(reference).state is SubmissionState.KILLED
    assert bench.note("tally") == ["tidy"]


def test_a_step_that_does_not_want_to_end_is_killed(bench: Bench) -> None:
    """A step that ignores the request to end is ended all the same."""
    bench.script("one", """trap '' TERM; echo $$ > "$NOTES/pid"; while :; do sleep 0.1; done""")
    reference = bench.submit("stubborn", step("one"))
    (pid,) = until(lambda: bench.note("pid"), bool)

    kill(bench.engine, reference)

    assert bench.ended(reference).state is SubmissionState.KILLED
    assert not running(int(pid))
