"""The embedded engine: its runners die, freeze and race, and every step is run once."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

from orchestrator.panda.embedded.engine import LocalEngine
from orchestrator.panda.port import Reference, SubmissionState
from schemas.launch import StepState
from tests.contract.engine.bench import (
    ROOT,
    Bench,
    by_name,
    found,
    kill,
    processes_of,
    progress_of,
    runner_of,
    running,
    states,
    step,
    until,
)

SUBMITTER = """
import os, sys, time
from pathlib import Path
from orchestrator.panda.embedded.engine import LocalEngine
from orchestrator.panda.port import PackedFile, Submission, SubmissionStep

directory, folder, notes = map(Path, sys.argv[1:4])
name, racers = sys.argv[4], int(sys.argv[5])
engine = LocalEngine(directory, lambda did: [])
steps = (SubmissionStep("one", ("./one.sh",)),)
submission = Submission(name, "bench", {}, {}, steps, environment={"NOTES": str(notes)})
package = engine.pack(submission, {"one.sh": PackedFile((folder / "one.sh").read_bytes(), True)})
(notes / f"ready-{os.getpid()}").touch()
while len(list(notes.glob("ready-*"))) < racers:
    pass
reference, _ = engine.submit(name, package)
(notes / f"submitted-{os.getpid()}").write_text(reference)
time.sleep(60)
"""


def submitted_by_others(bench: Bench, directory: Path, name: str, racers: int) -> list[str]:
    """What other muleteers get for submitting a name, all at the same time, just before they are killed."""
    arguments = [str(value) for value in (directory, bench.folder, bench.notes, name, racers)]
    command = [sys.executable, "-c", SUBMITTER, *arguments]
    others = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) for _ in range(racers)]
    try:
        answers = [bench.notes / f"submitted-{other.pid}" for other in others]
        until(lambda: [answer.exists() and answer.read_text() for answer in answers], all)
        return [answer.read_text() for answer in answers]
    finally:
        for other in others:
            other.kill()
            other.wait()


def test_every_directory_is_an_engine_of_its_own(local: Bench, directory: Path, tmp_path: Path) -> None:
    """An engine keeps its identity when it is opened again, and no other has it."""
    again = LocalEngine(directory, lambda did: [])
    other = LocalEngine(tmp_path / "other", lambda did: [])

    assert again.identity == local.engine.identity
    assert other.identity != local.engine.identity


def test_two_processes_submit_one_name(local: Bench, directory: Path) -> None:
    """Of two processes that submit the same name at the same time, both succeed and it runs once."""
    local.script("one", 'echo ran >> "$NOTES/tally"; sleep 0.3')

    references = submitted_by_others(local, directory, "race", 2)

    assert references == ["race", "race"]
    assert local.ended(Reference("race")).state is SubmissionState.FINISHED
    assert local.note("tally") == ["ran"]
    assert sorted(path.name for path in directory.iterdir()) == ["engine-id", "race"]


def test_a_submission_outlives_muleteer(local: Bench, directory: Path) -> None:
    """A submission runs to its end although the muleteer that submitted it was killed and nobody looks."""
    local.script("one", 'sleep 0.5; echo ran >> "$NOTES/tally"')

    submitted_by_others(local, directory, "alone", 1)

    until(lambda: local.note("tally"), bool)
    assert local.ended(Reference("alone")).state is SubmissionState.FINISHED


def test_a_dead_runner_is_replaced(local: Bench, directory: Path) -> None:
    """After a kill -9 the next look goes on: finished steps are not run again, the interrupted one is, cleanly."""
    local.script("one", 'echo one >> "$NOTES/tally"; echo 1 > a.out')
    local.script(
        "two",
        """
        echo two >> "$NOTES/tally"
        test ! -e half || exit 9
        touch half
        test -e "$NOTES/second" || { echo asleep > "$NOTES/second"; sleep 60; }
        cat a.out > b.out
        """,
    )
    local.script("three", 'echo three >> "$NOTES/tally"')
    reference = local.submit(
        "resume",
        step("one", outputs=["a.out"]),
        step("two", inputs=["one"], outputs=["b.out"]),
        step("three", inputs=["two"]),
    )
    until(lambda: local.note("second"), lambda second: second == ["asleep"])

    runner_of(directory / "resume").kill()
    progress = local.ended(reference)

    assert progress.state is SubmissionState.FINISHED
    assert local.note("tally") == ["one", "two", "two", "three"]
    assert (directory / "resume" / "steps" / "2-two.interrupted-1" / "half").exists()
    reason = by_name(progress)["two"].reason
    assert reason is not None
    assert "its runner died, so it runs again from the start" in reason
    assert by_name(progress)["one"].reason is None


def test_an_interrupted_step_never_runs_twice_at_once(local: Bench, directory: Path) -> None:
    """What a killed runner's step has left running, in whatever session, is ended before the step runs again."""
    local.script(
        "one",
        """
        if test -e "$NOTES/orphan"; then
            grep -s "^State:.*[^Z] (" "/proc/$(cat "$NOTES/orphan")/status" > "$NOTES/twice" || exit 0
        fi
        setsid sh -c 'echo $$ > "$NOTES/orphan.new"; mv "$NOTES/orphan.new" "$NOTES/orphan"; sleep 60' &
        wait
        """,
    )
    reference = local.submit("orphan", step("one"))
    (orphan,) = until(lambda: local.note("orphan"), bool)

    runner_of(directory / "orphan").kill()
    progress = local.ended(reference)

    assert progress.state is SubmissionState.FINISHED
    assert not running(int(orphan))
    assert local.note("twice") == []


def test_a_step_dies_with_its_runner(local: Bench, directory: Path) -> None:
    """When a runner is killed the kernel ends its steps at once, although nobody has looked yet."""
    local.script("one", 'echo $$ > "$NOTES/pid"; exec sleep 60')
    local.submit("together", step("one"))
    (pid,) = until(lambda: local.note("pid"), bool)

    runner_of(directory / "together").kill()

    until(lambda: running(int(pid)), lambda alive: not alive)


def test_a_crash_before_the_runner_started_is_mended(local: Bench, directory: Path) -> None:
    """A submission whose runner never started is found by its name, and runs as soon as somebody looks."""
    local.script("one", 'echo ran >> "$NOTES/tally"')
    without_runner = LocalEngine(directory, lambda did: [], python="/bin/false")
    local.send(local.submission("crash", step("one")), without_runner)

    reference = found(local.engine, "crash")

    assert reference is not None
    assert not (directory / "crash" / "steps").exists()
    assert local.ended(reference).state is SubmissionState.FINISHED
    assert local.note("tally") == ["ran"]


def test_a_terminated_runner_leaves_its_work_to_the_next(local: Bench, directory: Path) -> None:
    """A runner that is asked to end, as at shutdown, ends its steps, and the next look runs them again."""
    local.script("one", 'echo ran >> "$NOTES/tally"; test -e "$NOTES/go" || sleep 60')
    reference = local.submit("shutdown", step("one"))
    until(lambda: local.note("tally"), bool)

    runner_of(directory / "shutdown").terminate()
    until(lambda: processes_of(directory / "shutdown"), lambda left: not left)
    (local.notes / "go").touch()

    assert local.ended(reference).state is SubmissionState.FINISHED
    assert local.note("tally") == ["ran", "ran"]


def test_kill_needs_no_runner(local: Bench, directory: Path) -> None:
    """A submission whose runner died can be killed, and then runs no more."""
    local.script("one", 'echo ran >> "$NOTES/tally"; sleep 60')
    reference = local.submit("dead", step("one"))
    until(lambda: local.note("tally"), bool)
    runner_of(directory / "dead").kill()

    kill(local.engine, reference)

    assert progress_of(local.engine, reference).state is SubmissionState.KILLED
    assert local.note("tally") == ["ran"]
    until(lambda: processes_of(directory), lambda left: not left)


def test_a_frozen_runner_can_be_killed(local: Bench, directory: Path) -> None:
    """A runner that does not react to the request to end is ended with its steps."""
    local.script("one", 'echo ran >> "$NOTES/tally"; sleep 60')
    reference = local.submit("frozen", step("one"))
    until(lambda: local.note("tally"), bool)
    runner_of(directory / "frozen").suspend()

    kill(local.engine, reference)

    assert progress_of(local.engine, reference).state is SubmissionState.KILLED
    until(lambda: processes_of(directory), lambda left: not left)


def test_no_process_is_left_behind(local: Bench, directory: Path) -> None:
    """What a step leaves running ends with the step, and a submission that has ended leaves no process, no zombie."""
    local.script("one", 'sleep 60 & echo $! > "$NOTES/pid"')

    local.run("tidy", step("one"))

    (pid,) = local.note("pid")
    assert not running(int(pid))
    until(lambda: processes_of(directory), lambda left: not left)
    assert [child for child in psutil.Process().children() if child.status() == psutil.STATUS_ZOMBIE] == []


def test_half_a_submission_is_swept_away(local: Bench, directory: Path) -> None:
    """What a muleteer was building when it died is never found, and the next one throws it away."""
    half = directory / ".building-0"
    (half / "source").mkdir(parents=True)

    LocalEngine(directory, lambda did: [])

    assert not half.exists()


def test_a_runner_can_be_killed_at_any_moment(local: Bench, directory: Path) -> None:
    """However often and whenever its runner is killed, a submission ends, and a finished step never runs again."""
    names = ["one", "two", "three"]
    for name in names:
        local.script(name, f'echo {name} >> "$NOTES/begun"; sleep 0.1; echo {name} > made.{name}')
    steps = [
        step(name, inputs=names[position - 1 : position], outputs=[f"made.{name}"])
        for position, name in enumerate(names)
    ]
    reference = local.submit("storm", *steps)

    for pause in (0.0, 0.02, 0.05, 0.08, 0.12, 0.17, 0.0, 0.1):
        progress = progress_of(local.engine, reference)
        finished = {name for name, state in states(progress).items() if state is StepState.FINISHED}
        begun = len(local.note("begun"))
        time.sleep(pause)
        with suppress(psutil.NoSuchProcess):
            runner_of(directory / "storm").kill()
        assert not finished & set(local.note("begun")[begun:])
    progress = local.ended(reference)

    assert progress.state is SubmissionState.FINISHED
    assert local.engine.outputs(reference, "three")[0].read_text() == "three\n"
