"""What every engine promises, and what the embedded one promises beyond it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest

from orchestrator.launch import planning
from orchestrator.launch.workflows import Workflows
from orchestrator.panda.embedded.engine import LocalEngine
from orchestrator.panda.plain import submission_of
from orchestrator.panda.port import (
    Engine,
    EngineError,
    EngineRefused,
    EngineUnavailable,
    Package,
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
from schemas.launch import Command, StepProgress, StepState
from schemas.panda import PandaOptions
from schemas.workflow import StepInput

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
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


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the embedded engine keeps its submissions."""
    return tmp_path / "engine"


@pytest.fixture
def local(tmp_path: Path, directory: Path) -> Iterator[Bench]:
    """A bench with the embedded engine."""
    folder, notes, datasets = tmp_path / "workflow", tmp_path / "notes", dict[Did, list[Path]]()
    folder.mkdir()
    notes.mkdir()
    yield Bench(LocalEngine(directory, datasets.__getitem__), folder, datasets, notes)
    for process in processes_of(directory):
        process.kill()


@pytest.fixture(params=["embedded"])
def bench(request: pytest.FixtureRequest) -> Bench:
    """A bench with each engine in turn."""
    made: Bench = request.getfixturevalue({"embedded": "local"}[request.param])
    return made


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


# Every engine.


def test_steps_run_after_those_they_read(bench: Bench) -> None:
    """A step starts once the steps it reads have finished, and finds their files in its working directory."""
    bench.script("one", "echo apple > a.out; echo pear > b.out; echo noise > c.tmp")
    bench.script("two", "cat *.out > both.txt; ls > seen.txt")

    progress = bench.run("order", step("one", outputs=["*.out"]), step("two", inputs=["one"], outputs=["*.txt"]))

    assert progress.state is SubmissionState.FINISHED
    assert progress.reason is None
    assert states(progress) == {"one": StepState.FINISHED, "two": StepState.FINISHED}
    both, seen = bench.engine.outputs(Reference("order"), "two")
    assert both.read_text() == "apple\npear\n"
    assert "c.tmp" not in seen.read_text()
    one, two = progress.steps
    assert one.started_at and one.ended_at and two.started_at
    assert one.started_at < one.ended_at <= two.started_at
    assert one.started_at.tzinfo is not None


def test_outputs_are_what_the_patterns_match(bench: Bench) -> None:
    """The outputs of a step are the files it made that its patterns match, by name; inputs and logs are none."""
    bench.datasets[RAW] = [bench.notes / "in.dat"]
    (bench.notes / "in.dat").touch()
    bench.script("one", "touch b.dat a.dat x.txt; mkdir -p sub; touch sub/c.dat")

    bench.run("outputs", step("one", inputs=["raw"], outputs=["*.dat", "a.*", "sub/*", "*.txt"]))

    made = bench.engine.outputs(Reference("outputs"), "one")
    assert [path.name for path in made] == ["a.dat", "b.dat", "c.dat", "x.txt"]


def test_inputs_are_staged(bench: Bench) -> None:
    """The files of an input dataset lie in the working directory, and a list of them is in the environment."""
    files = [bench.notes / name for name in ("first.raw", "second.raw")]
    for file in files:
        file.write_text(f"{file.stem}\n")
    bench.datasets[RAW] = files
    bench.script("one", 'cat first.raw second.raw > made; cat $(cat "$MULETEER_INPUT_RAW") >> made')

    bench.run("staged", step("one", inputs=["raw"], outputs=["made"]))

    (made,) = bench.engine.outputs(Reference("staged"), "one")
    assert made.read_text() == "first\nsecond\nfirst\nsecond\n"


def test_a_step_knows_its_launch(bench: Bench) -> None:
    """Launch, workflow, step and parameters are in the environment, and so is what the submission adds to it."""
    bench.parameters["run"] = "00021615"
    bench.environment["OFFLINE_MAIN"] = "/opt/sphenix"
    bench.script(
        "one",
        'echo "$MULETEER_LAUNCH $MULETEER_WORKFLOW $MULETEER_STEP $MULETEER_PARAM_RUN $OFFLINE_MAIN" > made',
    )

    bench.run("environment", step("one", outputs=["made"]))

    (made,) = bench.engine.outputs(Reference("environment"), "one")
    assert made.read_text() == "environment bench one 00021615 /opt/sphenix\n"


def test_arguments_are_not_split(bench: Bench) -> None:
    """A command is a list of arguments: blanks, quotes, stars and dollars in them mean nothing."""
    bench.script("one", """printf '%s|' "$@" > made""")
    arguments = ["2026-11-22 01:13:40", "*", "$HOME", "it's", ""]

    bench.run("arguments", step("one", command=["./one.sh", *arguments], outputs=["made"]))

    (made,) = bench.engine.outputs(Reference("arguments"), "one")
    assert made.read_text() == "".join(f"{argument}|" for argument in arguments)


def test_a_submission_is_found_by_its_name(bench: Bench) -> None:
    """A name leads to the reference of its submission, and an unknown name to nothing."""
    bench.script("one", "true")

    reference = bench.submit("found", step("one"))

    assert found(bench.engine, "found") == reference
    assert found(bench.engine, "lost") is None
    assert found(bench.engine, "../found") is None


def test_a_name_is_submitted_once(bench: Bench) -> None:
    """Submitting a name again gives the same reference and starts nothing, also after it has ended."""
    bench.script("one", 'echo ran >> "$NOTES/tally"')

    first = bench.submit("once", step("one"))
    second = bench.submit("once", step("one"))
    bench.ended(first)
    third = bench.submit("once", step("one"))
    bench.ended(third)

    assert first == second == third
    assert bench.note("tally") == ["ran"]


def test_a_failed_step_says_why(bench: Bench) -> None:
    """A step that fails says so with its exit code and the end of its log, and what reads it does not run."""
    bench.script("one", "echo begin; echo 'event 17 is missing' >&2; exit 3")
    bench.script("two", 'echo ran >> "$NOTES/tally"')

    progress = bench.run("failed", step("one"), step("two", inputs=["one"]))

    assert progress.state is SubmissionState.FAILED
    assert progress.reason is not None
    assert "step one failed" in progress.reason
    one, two = progress.steps
    assert (one.state, one.exit_code) == (StepState.FAILED, 3)
    assert one.reason is not None
    assert one.reason.endswith("its log ends with:\nbegin\nevent 17 is missing")
    assert one.log is not None
    assert two.state is StepState.WAITING
    assert two.reason == "not run: it reads one, which did not finish"
    assert bench.note("tally") == []


def test_a_branch_may_finish_alone(bench: Bench) -> None:
    """A submission is partly finished when one of its ends finished and another failed."""
    bench.script("good", "echo good > made")
    bench.script("bad", "false")

    progress = bench.run("partly", step("good", outputs=["made"]), step("bad"))

    assert progress.state is SubmissionState.PARTLY_FINISHED
    assert states(progress) == {"good": StepState.FINISHED, "bad": StepState.FAILED}
    assert len(bench.engine.outputs(Reference("partly"), "good")) == 1


def test_finished_steps_stay_finished(bench: Bench) -> None:
    """A submission whose only end failed has failed, and the steps that had finished keep their outputs."""
    bench.script("good", "echo good > made")
    bench.script("bad", "false")

    progress = bench.run("half", step("good", outputs=["made"]), step("bad", inputs=["good"]))

    assert progress.state is SubmissionState.FAILED
    assert states(progress) == {"good": StepState.FINISHED, "bad": StepState.FAILED}
    assert len(bench.engine.outputs(Reference("half"), "good")) == 1


def test_a_step_that_makes_nothing_failed(bench: Bench) -> None:
    """A step that ends well but has made no file for one of its patterns has failed, and names the pattern."""
    bench.script("one", "touch a.root")

    progress = bench.run("nothing", step("one", outputs=["*.root", "*.json"]))

    assert progress.state is SubmissionState.FAILED
    (one,) = progress.steps
    assert one.reason is not None
    assert "made no file matching *.json" in one.reason
    assert bench.engine.outputs(Reference("nothing"), "one") == []


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


def test_nothing_is_known_of_a_strange_reference(bench: Bench) -> None:
    """Progress, outputs and kill of a reference that the engine never gave raise UnknownSubmission."""
    for call in (
        lambda: progress_of(bench.engine, Reference("strange")),
        lambda: bench.engine.outputs(Reference("strange"), "one"),
        lambda: kill(bench.engine, Reference("strange")),
    ):
        with pytest.raises(UnknownSubmission, match="strange"):
            call()


def test_there_are_no_outputs_before_the_end(bench: Bench) -> None:
    """A step that still runs has no outputs, whatever it has written so far."""
    bench.script("one", 'touch made; touch "$NOTES/wrote"; sleep 60')
    reference = bench.submit("early", step("one", outputs=["made"]))
    until((bench.notes / "wrote").exists, bool)

    progress, made = progress_of(bench.engine, reference), bench.engine.outputs(reference, "one")
    kill(bench.engine, reference)

    assert made == []
    assert progress.state is SubmissionState.RUNNING
    assert states(progress) == {"one": StepState.RUNNING}


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ((step("two", inputs=["one"]), step("one")), "neither an input nor an earlier step"),
        ((step("one"), step("one")), "already taken"),
        ((step("one", outputs=["../*"]),), "must stay within"),
        ((step("one", outputs=["/etc/*"]),), "must stay within"),
        ((step("a/b"),), "is no name"),
    ],
)
def test_a_submission_that_cannot_run_is_refused(bench: Bench, steps: tuple[SubmissionStep, ...], words: str) -> None:
    """A submission that makes no sense is refused with the reason, and its name is still free."""
    bench.script("one", "true")

    with pytest.raises(EngineRefused, match=words):
        bench.submit("refused", *steps)

    assert found(bench.engine, "refused") is None


# The embedded engine.


def running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


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
        test -e "$NOTES/second" || { touch "$NOTES/second"; sleep 60; }
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
    until(lambda: local.note("tally"), lambda tally: tally == ["one", "two"])

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


def test_jobs_see_no_secrets(local: Bench, directory: Path, tmp_path: Path) -> None:
    """Of muleteer's own environment a job sees the path, the home and their like, and no setting or password."""
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME")},
        "MULETEER_BROKER_PASSCODE": "carrot",
        "RUCIO_PASSWORD": "carrot",
        "PANDA_AUTH_ID_TOKEN": "carrot",
    }
    engine = LocalEngine(directory, lambda did: [], environment=environment)
    local.script("one", 'env > made; tr "\\0" "\\n" < /proc/$PPID/environ >> made')

    local.send(local.submission("secrets", step("one", outputs=["made"])), engine)

    local.ended(Reference("secrets"))
    (made,) = engine.outputs(Reference("secrets"), "one")
    assert "PATH=" in made.read_text()
    assert "carrot" not in made.read_text()
    assert not [path for path in directory.rglob("*") if path.is_file() and b"carrot" in path.read_bytes()]


def test_no_process_is_left_behind(local: Bench, directory: Path) -> None:
    """What a step leaves running ends with the step, and a submission that has ended leaves no process, no zombie."""
    local.script("one", 'sleep 60 & echo $! > "$NOTES/pid"')

    local.run("tidy", step("one"))

    (pid,) = local.note("pid")
    assert not running(int(pid))
    until(lambda: processes_of(directory), lambda left: not left)
    assert [child for child in psutil.Process().children() if child.status() == psutil.STATUS_ZOMBIE] == []


def test_the_scripts_are_those_of_the_submission(local: Bench) -> None:
    """Changing a workflow's scripts does not touch what was submitted before."""
    local.script("one", 'until test -e "$NOTES/go"; do sleep 0.02; done')
    local.script("two", "echo old > made")
    reference = local.submit("frozen", step("one"), step("two", inputs=["one"], outputs=["made"]))

    local.script("two", "echo new > made")
    (local.notes / "go").touch()
    local.ended(reference)

    (made,) = local.engine.outputs(reference, "two")
    assert made.read_text() == "old\n"


def test_independent_steps_run_together(local: Bench) -> None:
    """Two steps that do not read each other run at the same time."""
    local.script("one", 'touch "$NOTES/one"; until test -e "$NOTES/two"; do sleep 0.02; done')
    local.script("two", 'touch "$NOTES/two"; until test -e "$NOTES/one"; do sleep 0.02; done')

    progress = local.run("together", step("one", timeout=10), step("two", timeout=10))

    assert progress.state is SubmissionState.FINISHED


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("./absent.sh", "./absent.sh is not in the workflow's folder"),
        ("./plain.sh", "./plain.sh is not executable"),
        ("no-such-program", "could not be started"),
    ],
)
def test_a_command_that_cannot_start_says_why(local: Bench, command: str, words: str) -> None:
    """A step whose command is not there or not executable fails with a reason that says what to mend."""
    local.script("plain", "true")
    (local.folder / "plain.sh").chmod(0o644)

    progress = local.run("absent", step("one", command=[command]))

    assert progress.state is SubmissionState.FAILED
    assert progress.reason is not None
    assert words in progress.reason


def test_a_missing_input_file_fails_the_step(local: Bench) -> None:
    """A step whose input file has gone from disk fails before it starts, and names the file."""
    local.datasets[RAW] = [local.notes / "gone.raw"]
    local.script("one", 'echo ran >> "$NOTES/tally"')

    progress = local.run("gone", step("one", inputs=["raw"]))

    assert progress.state is SubmissionState.FAILED
    assert progress.reason is not None
    assert "gone.raw is not there" in progress.reason
    assert local.note("tally") == []


def test_nothing_is_sent_when_the_inputs_cannot_be_found_out(local: Bench, directory: Path) -> None:
    """When the catalog cannot name the files of an input, nothing is submitted, and trying again is safe."""
    local.script("one", "true")
    submission = local.submission("later", step("one"))
    unknown = replace(submission, inputs={"raw": RAW})

    with pytest.raises(EngineUnavailable, match=r"group\.sphenix:RAW"):
        local.send(unknown)

    assert found(local.engine, "later") is None
    assert [path.name for path in directory.iterdir()] == ["engine-id"]


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


def test_a_script_sees_values_in_its_environment_alone(local: Bench) -> None:
    """A script is bash with nothing filled in: what a value holds is never read as shell."""
    local.parameters["tag"] = "$(touch pwned); `id` 'x'"
    script = """set -o pipefail; words=({run} "$MULETEER_PARAM_TAG"); printf '%s|' "${words[@]}" > made"""

    local.run("script", step("one", script=script, outputs=["made"]))

    (made,) = local.engine.outputs(Reference("script"), "one")
    assert made.read_text() == "{run}|$(touch pwned); `id` 'x'|"
    assert not (made.parent / "pwned").exists()


def test_setup_is_sourced_before_a_script_and_a_command(local: Bench) -> None:
    """What the setup file exports, and for a script its functions too, is there; it sees none of the arguments."""
    local.setup = "setup.sh"
    (local.folder / "setup.sh").write_text('export GREETING="hello $#"; greet() { echo "$GREETING"; }\n')
    local.script("two", 'printf "%s|" "$GREETING" "$@" > made')

    local.run(
        "setup",
        step("one", script="greet > made", outputs=["made"]),
        step("two", command=["./two.sh", "a b", "*"], outputs=["made"]),
    )

    (one,), (two,) = (local.engine.outputs(Reference("setup"), name) for name in ("one", "two"))
    assert one.read_text() == "hello 0\n"
    assert two.read_text() == "hello 0|a b|*|"


def test_a_setup_that_fails_fails_the_step(local: Bench) -> None:
    """A step does not run in surroundings that could not be set up."""
    local.setup = "setup.sh"
    (local.folder / "setup.sh").write_text("echo no such build >&2; return 7\n")

    progress = local.run("badsetup", step("one", script='echo ran >> "$NOTES/tally"'))

    assert progress.steps[0].exit_code == 7
    assert "no such build" in str(progress.reason)
    assert local.note("tally") == []


def test_the_workflows_files_lie_beside_a_step(local: Bench) -> None:
    """A step finds the package's files in its directory, as on a worker node; they are not its outputs."""
    (local.folder / "table.csv").write_text("1,2\n")

    progress = local.run("files", step("one", script="cat table.csv > copy.csv", outputs=["*.csv"]))

    assert progress.state is SubmissionState.FINISHED, progress.reason
    made = local.engine.outputs(Reference("files"), "one")
    assert [path.name for path in made] == ["copy.csv"]


def test_a_file_of_the_package_may_be_replaced_and_is_an_output_then(local: Bench) -> None:
    """A step that puts a file of its own in the place of the package's has made it, and spoils it for nobody."""
    (local.folder / "table.csv").write_text("old\n")
    replace_it = "echo new > t; mv t table.csv"

    local.run(
        "replaced",
        step("one", script=replace_it, outputs=["table.csv"]),
        step("two", script="cp table.csv seen", outputs=["seen"]),
    )

    (one,), (two,) = (local.engine.outputs(Reference("replaced"), name) for name in ("one", "two"))
    assert (one.read_text(), two.read_text()) == ("new\n", "old\n")


def test_an_input_that_is_read_twice_is_one_list(local: Bench) -> None:
    """With another match each time; a file that both want is there once."""
    for name in ("DST_a.root", "DST_b.root", "HIST_a.root"):
        (local.notes / name).write_text("")
    local.file_lists["one"] = tuple(str(path) for path in sorted(local.notes.iterdir()))
    twice = [StepInput(source="one", match="DST"), StepInput(source="one", match="_a.root")]
    local.run("twice", step("some", inputs=twice, outputs=["f"], script="xargs -n1 basename < $MULETEER_INPUT_ONE > f"))

    made = local.engine.outputs(Reference("twice"), "some")[0].read_text().split()
    assert sorted(made) == ["DST_a.root", "DST_b.root", "HIST_a.root"]


def test_an_output_that_may_be_left_out_is_not_missed(local: Bench) -> None:
    """As on PanDA: what allowNoOutput names is taken if it is there."""
    lax = PandaOptions(allowNoOutput=("*.json",))
    progress = local.run(
        "lax",
        step("one", outputs=["*.root", "*.json"], script="touch a.root", panda=lax),
        step("two", outputs=["*.json", "*.root"], script="touch a.json", panda=lax),
    )

    assert states(progress) == {"one": StepState.FINISHED, "two": StepState.FAILED}
    assert [path.name for path in local.engine.outputs(Reference("lax"), "one")] == ["a.root"]


def test_an_input_is_matched_by_its_files_names(local: Bench) -> None:
    """Of an input with match a step reads the files whose name holds it, and what has no match reads all."""
    local.script("one", "touch DST_a.root DST_b.root HIST.json")
    some = StepInput(source="one", match="DST*root")
    script = 'ls -d *.root *.json > made; wc -l < "$MULETEER_INPUT_ONE" >> made'

    progress = local.run(
        "match",
        step("one", outputs=["*.root", "*.json"]),
        step("some", inputs=[some], script="rm -f *.json; ls *.root *.json > made || true", outputs=["made"]),
        step("all", inputs=["one"], script=script, outputs=["made"]),
        step("none", inputs=[StepInput(source="one", match="x.y")], script="true"),
    )

    assert local.engine.outputs(Reference("match"), "some")[0].read_text() == "DST_a.root\nDST_b.root\n"
    assert local.engine.outputs(Reference("match"), "all")[0].read_text().split()[-1] == "3"
    assert "none of the 3 files of its input one matches x.y" in str(by_name(progress)["none"].reason)


def test_an_input_may_be_a_list_of_files(local: Bench) -> None:
    """Files of a list lie beside the step; addresses are listed, for whoever can read them."""
    (local.notes / "here.raw").write_text("here\n")
    local.file_lists["list"] = (str(local.notes / "here.raw"), "root://far.away//there.raw")

    progress = local.run(
        "listed", step("one", inputs=["list"], script='cat here.raw "$MULETEER_INPUT_LIST" > made', outputs=["made"])
    )

    (made,) = local.engine.outputs(Reference("listed"), "one")
    assert made.read_text() == f"here\n{local.notes}/here.raw\nroot://far.away//there.raw\n"
    files = progress.steps[0].files
    assert files is not None
    assert (files.total, files.finished, files.failed) == (2, 2, 0)


def test_steps_have_variables_of_their_own(local: Bench) -> None:
    """A step's variable goes before the submission's of the same name, and no other step has it."""
    local.environment["MODE"] = "common"
    script = 'echo "$MODE" > made'

    local.run(
        "variables",
        step("one", script=script, outputs=["made"], environment={"MODE": "own"}),
        step("two", script=script, outputs=["made"]),
    )

    made = [local.engine.outputs(Reference("variables"), name)[0].read_text() for name in ("one", "two")]
    assert made == ["own\n", "common\n"]


def test_a_step_may_run_only_if_another_failed(local: Bench) -> None:
    """What runs on failure runs then, and makes the verdict no better; where nothing failed, it does not run."""
    local.script("bad", "exit 3")
    local.script("good", "touch made")
    local.script("alarm", 'echo $MULETEER_LAUNCH >> "$NOTES/alarms"')

    failed = local.run(
        "alarmed", step("bad"), step("alarm", inputs=["bad"], when="failed"), step("after", inputs=["bad"])
    )
    well = local.run("calm", step("good"), step("alarm", inputs=["good"], when="failed"))

    assert local.note("alarms") == ["alarmed"]
    assert failed.state is SubmissionState.FAILED
    assert by_name(failed)["alarm"].state is StepState.FINISHED
    assert by_name(failed)["after"].reason == "not run: it reads bad, which did not finish"
    assert well.state is SubmissionState.FINISHED
    assert well.reason is None
    assert (by_name(well)["alarm"].state, by_name(well)["alarm"].reason) == (
        StepState.WAITING,
        "not run: it runs only if good fails",
    )


def test_what_runs_on_failure_waits_for_its_other_inputs(local: Bench) -> None:
    """Its other inputs are as they are once they have ended: what finished has files, what failed has none."""
    local.script("bad", "false")
    local.script("slow", "sleep 0.5; touch slow.out")
    local.script("never", "touch never.out")

    local.run(
        "late-alarm",
        step("bad"),
        step("slow", outputs=["slow.out"]),
        step("never", inputs=["bad"], outputs=["never.out"]),
        step("alarm", inputs=["bad", "slow", "never"], when="failed", script="ls *.out > made", outputs=["made"]),
    )

    assert local.engine.outputs(Reference("late-alarm"), "alarm")[0].read_text() == "slow.out\n"


def test_outputs_of_a_scattered_step_are_those_of_its_parts(local: Bench) -> None:
    """Asked for a step that was scattered, the engine gives what all of its parts made."""
    parts = [step(f"part_{number}", script=f"touch {number}.out", outputs=["*.out"]) for number in (1, 2)]

    local.run("scattered", *parts)

    made = local.engine.outputs(Reference("scattered"), "part")
    assert [path.name for path in made] == ["1.out", "2.out"]


def test_a_package_says_what_it_was_made_of(local: Bench) -> None:
    """Packing twice gives the same bytes, and a package alone is enough to run it."""
    local.script("one", "touch made")
    submission = local.submission("packed", step("one", outputs=["made"], timeout=30))

    first, second = (local.engine.pack(submission, packed(local.folder)) for _ in range(2))
    (local.folder / "one.sh").unlink()
    reference, receipt = local.engine.submit("packed", first)

    assert first == second
    assert submission_of(first) == submission
    assert local.ended(reference).state is SubmissionState.FINISHED
    assert receipt.verdict is not None
    assert receipt.ended_at >= receipt.started_at


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


# The calorimeter workflow.


def test_the_calorimeter_workflow_runs(local: Bench, directory: Path, tmp_path: Path) -> None:
    """The calorimeter workflow makes DSTs with the pion in them from raw files, and links with official names."""
    definition = Workflows([ROOT / "workflows"]).get("calorimeter")
    folder = definition.folder
    made = ("--run", "21615", "--directory", str(tmp_path / "raw"))
    subprocess.run([sys.executable, "-B", folder / "make_raw.py", *made], check=True, stdout=subprocess.DEVNULL)
    local.datasets[RAW] = sorted((tmp_path / "raw").iterdir())
    submission = planning.plan(
        definition,
        name="calorimeter.21615",
        parameters={"run": "00021615", "lookup": str(tmp_path / "gpfs")},
        values={"scope": RAW.scope, "name": RAW.name},
    )

    package = local.engine.pack(submission, planning.source(definition))
    reference, _ = local.engine.submit(submission.name, package)
    progress = local.ended(reference)

    assert progress.state is SubmissionState.FINISHED, progress.reason
    *dsts, histograms = local.engine.outputs(reference, "calorimeter")
    assert [path.name for path in dsts] == [
        f"DST_CALO_ana381_2023p001-00021615-000{segment}.root" for segment in range(2)
    ]
    assert [len(path.read_text().splitlines()) for path in dsts] == [26, 26]
    assert '"pairs": 50, "mean_mass": 0.13' in histograms.read_text()
    links = sorted((tmp_path / "gpfs" / "run_00021600_00021700").iterdir())
    assert [link.readlink() for link in links] == dsts
