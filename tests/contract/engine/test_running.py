"""What every engine promises of steps that run: in which order, with what, and what is said of them."""

from __future__ import annotations

import pytest

from orchestrator.panda.port import EngineRefused, Reference, SubmissionState, SubmissionStep, UnknownSubmission
from schemas.launch import StepState
from tests.contract.engine.bench import RAW, Bench, found, kill, progress_of, states, step, until


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
