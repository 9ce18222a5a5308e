"""The embedded engine: what a step reads, what it leaves, and on what it waits."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.launch import planning
from orchestrator.launch.workflows import Workflows
from orchestrator.panda.port import EngineUnavailable, Reference, SubmissionState
from schemas.launch import StepState
from schemas.panda import PandaOptions
from schemas.workflow import StepInput
from tests.contract.engine.bench import RAW, ROOT, Bench, by_name, found, states, step


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
