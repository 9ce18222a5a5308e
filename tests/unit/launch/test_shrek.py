"""shrek's files on disk: launched as they are, written as a workflow, and their scripts run by a real bash."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator.core.documents import written
from orchestrator.core.workflow import WorkflowError
from orchestrator.launch import planning, shrek
from orchestrator.launch.definition import Definition
from orchestrator.launch.workflows import Workflows, read_file
from orchestrator.panda.embedded.engine import LocalEngine
from orchestrator.panda.packing import cwl, package
from orchestrator.panda.port import Progress, Reference, Submission, SubmissionState, Tracked
from schemas.did import Did
from tests.unit.panda.samples import site

PRESSURE = Path(__file__).parents[2] / "data" / "shrek" / "pressure"
VALUES = {"scope": "test", "name": "RUN-7"}
GIVEN = {"probes": "gauges", "factor": "1.5"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of workflows with shrek's files in `pressure`."""
    shutil.copytree(PRESSURE, tmp_path / "workflows" / "pressure")
    return tmp_path / "workflows" / "pressure"


def plan(definition: Definition, given: Mapping[str, str] = GIVEN, name: str = "pressure-7") -> Submission:
    return planning.plan(definition, name=name, parameters=given, values=VALUES)


def found(folder: Path) -> shrek.Found:
    return shrek.read(shrek.chosen([folder]), name=folder.name, roots=[folder], plugins=folder / "plugins")


@dataclass
class Job:
    """A worker node's directory, and the workflow whose jobs run in it as PanDA runs them."""

    place: Path
    definition: Definition
    given: Mapping[str, str] = field(default_factory=dict)

    def run(self, step: str, number: str = "0", **inputs: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Run one job; `inputs` are the files that PanDA brings, by name, for the streams IN, IN2 and so on."""
        package.write(
            package.pack(plan(self.definition, self.given), planning.source(self.definition), site(), "panda"),
            self.place,
        )
        for stream, files in inputs.items():
            for name, content in files.items():
                (self.place / name).write_text(content)
            (self.place / "muleteer" / f"{stream}.list").write_text(",".join(files))
        return subprocess.run(
            [sys.executable, "muleteer/job.py", step, number],
            cwd=self.place,
            env={"PATH": os.environ["PATH"], "USER": "pilot"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=60,
        )

    def text(self, name: str) -> str:
        return (self.place / name).read_text()

    @property
    def metadata(self) -> dict[str, str]:
        found: dict[str, str] = json.loads(self.text("userJobMetadata.json"))
        return found


def one_job(place: Path, text: str, given: Mapping[str, str] | None = None) -> Job:
    """The only job of a workflow."""
    folder = place / "workflows" / "one"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "one.yaml").write_text(text)
    return Job(place / "work", shrek.read_folder(folder), given or {})


def commands(*lines: str, **parameters: str) -> str:
    """A job's file with these commands."""
    commands = "".join(f"{line}\n" for line in lines)
    return written({"Parameters": {"name": "One", **parameters}, "JobCommands": commands})


def test_a_folder_of_shreks_files_is_a_workflow(folder: Path) -> None:
    """It is found by the folder's name like any other, and listed."""
    workflows = Workflows([folder.parent])

    assert workflows.get("pressure").workflow.name == "pressure"
    assert list(workflows.names()) == ["pressure"]


def test_a_workflow_of_ours_goes_before_shreks_files(folder: Path) -> None:
    """What was imported in place counts, and the old files beside it do not."""
    (folder / "workflow.yaml").write_text("name: pressure\nsteps: [{name: only, command: [env]}]\n")

    assert [step.name for step in Workflows([folder.parent]).get("pressure").workflow.steps] == ["only"]
    assert list(Workflows([folder.parent]).names()) == ["pressure"]


def test_an_edit_counts_from_the_next_launch_on(folder: Path) -> None:
    """Files are read afresh each time, and a mistake is said with its line."""
    workflows = Workflows([folder.parent])
    workflows.get("pressure")
    (folder / "noise.yaml").write_text((folder / "noise.yaml").read_text().replace("nJobs: 3", "nJobs: three"))

    with pytest.raises(WorkflowError, match=r"noise\.yaml:4: Parameters\.nJobs: expected a whole number"):
        workflows.get("pressure")


def test_jobs_get_what_was_made_and_named_and_nothing_else(folder: Path) -> None:
    """No file that merely lies in the folder is sent, so no token is either."""
    (folder / ".token").write_text("secret")
    (folder / "token").write_text("secret")
    source = planning.source(Workflows([folder.parent]).get("pressure"))

    assert set(source) == {
        *(f"{name}.sh" for name in ("Alarm", "Collect", "Count", "Noise", "Report")),
        "muleteer-shrek.sh",
        "plugins/lines.sh",
        "__Report/constants.txt",
        "__Report/tables/constants.txt",
    }
    assert not any(b"secret" in file.content for file in source.values())


def test_what_is_imported_is_the_same_as_what_is_launched(folder: Path, tmp_path: Path) -> None:
    """The written workflow passes every check, and sends the same files and steps."""
    shrek.write(found(folder), tmp_path / "new" / "pressure", "{}")
    direct, again = shrek.read_folder(folder), read_file(tmp_path / "new" / "pressure" / "workflow.yaml")

    assert planning.source(again) == planning.source(direct)
    assert plan(again) == plan(direct)


def test_the_written_folder_tells_editors_how_it_looks(folder: Path, tmp_path: Path) -> None:
    """The first line names a schema that is there."""
    shrek.write(found(folder), tmp_path / "new", '{"title": "Workflow"}')
    first = (tmp_path / "new" / "workflow.yaml").read_text().splitlines()[0]

    assert first.startswith("# yaml-language-server: $schema=")
    assert "Workflow" in (tmp_path / "new" / first.partition("=")[2]).read_text()
    assert os.access(tmp_path / "new" / "Report.sh", os.X_OK)


def test_nothing_that_exists_is_removed_or_overwritten(folder: Path, tmp_path: Path) -> None:
    """shrek cleared an existing directory of the same tag."""
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "precious").write_text("mine")

    with pytest.raises(WorkflowError, match="is there already"):
        shrek.write(found(folder), tmp_path / "new", "{}")
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["precious"]


def test_text_for_the_submitting_machine_is_kept_but_not_sent(folder: Path, tmp_path: Path) -> None:
    """It lies in a folder that no job gets."""
    shrek.write(found(folder), tmp_path / "new", "{}")

    assert "where one submits" in (tmp_path / "new" / "by-hand" / "Report-init.sh").read_text()
    assert not any(
        path.startswith("by-hand") for path in planning.source(read_file(tmp_path / "new" / "workflow.yaml"))
    )


def test_a_resource_that_is_not_there_is_said_with_its_line(folder: Path) -> None:
    """shrek sent the job without it. All that are missing are said at once."""
    shutil.rmtree(folder / "tables")

    with pytest.raises(WorkflowError) as refusal:
        shrek.read_folder(folder)
    lines = str(refusal.value).splitlines()
    assert [line.partition("report.yaml:")[2].split(" ")[:2] for line in lines] == [
        ["6:", "Resources.0.file:"],
        ["7:", "Resources.1.directory:"],
    ]


def test_two_resources_of_one_name_are_refused(folder: Path) -> None:
    """Only one of them could lie beside the job."""
    for name in ("a", "b"):
        (folder / name).mkdir()
        (folder / name / "x.C").write_text(name)
    report = folder / "report.yaml"
    report.write_text(report.read_text().replace("- file: tables/*.txt", '- file: "[ab]/x.C"'))

    with pytest.raises(WorkflowError, match=r"report\.yaml:6: .*another resource is called x\.C too"):
        shrek.read_folder(folder)


def test_a_list_of_files_has_to_be_there(tmp_path: Path) -> None:
    """It is looked for where the files are; what it holds is read at each launch."""
    text = commands("cat $IN1").replace("name: One", "name: One\n  pfnList: run-7.list")
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "one.yaml").write_text(text)
    with pytest.raises(WorkflowError, match=r"run-7\.list \(pfnList\) is not there"):
        shrek.read_folder(tmp_path / "one")
    (tmp_path / "one" / "run-7.list").write_text("/data/a.prdf\n")

    assert plan(shrek.read_folder(tmp_path / "one"), {}).file_lists == {"One_files": ("/data/a.prdf",)}


def test_a_script_reads_a_list_of_files_as_its_input(tmp_path: Path) -> None:
    """As $IN1 and $2, under the name that shrek gave it."""
    (tmp_path / "workflows" / "one").mkdir(parents=True)
    (tmp_path / "workflows" / "one" / "run-7.list").write_text("/data/seb00.prdf\n/data/seb01.prdf\n")
    job = one_job(tmp_path, commands('echo "$1 $2 ${IN1[1]} $IN1_name $IN1_task" > seen', pfnList="run-7.list"))
    job.run("One", "3", IN={"seb00.prdf": "", "seb01.prdf": ""})

    assert job.text("seen") == "3 seb00.prdf,seb01.prdf seb01.prdf pfnlist_run-7.list run-7.list\n"


def test_a_folder_whose_name_no_workflow_can_have_is_refused(tmp_path: Path) -> None:
    """The message says what names may hold."""
    shutil.copytree(PRESSURE, tmp_path / "rhic2023.AuAu")

    with pytest.raises(WorkflowError, match=r"name: expected a text that matches .*; found \"rhic2023\.AuAu\""):
        shrek.read_folder(tmp_path / "rhic2023.AuAu")


def test_a_file_that_is_no_text_is_named(folder: Path) -> None:
    """It ends in a sentence, not in a traceback."""
    (folder / "noise.yaml").write_bytes(b"Parameters:\n  name: \xff\n")

    with pytest.raises(WorkflowError, match=r"noise\.yaml: it is no text in UTF-8"):
        shrek.read_folder(folder)


def test_on_panda_each_secondary_is_its_own_dataset(folder: Path) -> None:
    """The chain names secondaries by %{SECDSn}; shrek's name was replaced by the primary's dataset."""
    packed = package.pack(plan(shrek.read_folder(folder)), planning.source(shrek.read_folder(folder)), site(), "panda")
    chain = packed[cwl.WORKFLOW].content.decode()

    assert "%{SECDS1}" in chain and "test:weather" in chain
    assert "%{DS1}" not in chain
    assert "--stage" not in chain and " tee " not in chain
    assert chain.count("outputSource") == len({line for line in chain.splitlines() if "outputSource" in line})


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)


@settings(max_examples=15, deadline=None)
@example(value='it\'s "so" \\ ; | & < > * ~ # !\nthere')
@example(value="")
@given(value=TEXT.filter(lambda text: not set(text) & {"$", "`"}))
def test_values_reach_the_script_byte_for_byte(value: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Blanks, quotes, line breaks and whatever else: shrek exported them unquoted."""
    job = one_job(
        tmp_path_factory.mktemp("value"),
        commands('printf "%s" "$word" > early', 'printf "%s" "$late" > late', word=value, late=f"{value} $uniqueId"),
    )

    assert job.run("One", "7").returncode == 0
    assert (job.place / "early").read_bytes() == value.encode()
    assert (job.place / "late").read_bytes() == f"{value} 7".encode()


@settings(max_examples=15, deadline=None)
@example(value="'; touch broken; $(touch broken) `touch broken` \"")
@given(value=TEXT)
def test_what_a_launch_gives_is_never_read_by_a_shell(value: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Not even where it is put together with what only the job knows."""
    job = one_job(
        tmp_path_factory.mktemp("value"),
        commands(
            'printf "%s" "$early" > early', 'printf "%s" "$late" > late', early="a $word", late="b $word $uniqueId"
        ),
        {"word": value},
    )

    assert job.run("One", "7").returncode == 0
    assert (job.place / "early").read_bytes() == f"a {value}".encode()
    assert (job.place / "late").read_bytes() == f"b {value} 7".encode()


def test_a_script_finds_what_shrek_promised(folder: Path, tmp_path: Path) -> None:
    """Inputs as arrays and arguments, resources beside it, plugins sourced, its own log, metadata that is JSON."""
    job = Job(tmp_path / "work", shrek.read_folder(folder), {**GIVEN, "shift_leader": "Fiona"})
    ended = job.run(
        "Report",
        "12",
        IN={"readings 1.txt": "1013\n"},
        IN2={"noise-1.txt": "hiss\n", "noise-2.txt": "hum\n"},
        IN3={"weather.txt": "rain\n"},
    )

    assert ended.returncode == 0, ended.stdout
    assert job.text("page.txt").splitlines() == [
        "Report of Fiona",
        "===============",
        "273.15",
        "273.15",
        "1013",
        "hiss",
        "hum",
        "rain",
        "arguments: 4 readings 1.txt weather.txt; from Collect and Noise/outDS",
    ]
    assert job.metadata["lines"] == "9"
    assert (job.metadata["shrek_uniqueId"], job.metadata["shrek_tag"]) == ("12", "pressure-7")
    assert next(iter(job.metadata)) == "shrek_begin_metafile" and "shrek_end_time" in job.metadata
    assert "The page is written" in job.text("_Report.log")
    assert "The page is written" in ended.stdout


def test_what_a_launch_leaves_out_is_not_set(folder: Path, tmp_path: Path) -> None:
    """Scripts ask for it with ${x:-...} or ${x+x}, as they did."""
    job = Job(tmp_path / "work", shrek.read_folder(folder), GIVEN)
    job.run("Report", IN={"a": ""}, IN2={"b": ""}, IN3={"c": ""})

    assert job.text("page.txt").startswith("Report of nobody\n")


@pytest.mark.parametrize(
    ("line", "code"),
    [("shrek_status_code=7", 7), ("exit 3", 3), ("false", 0), ("kill -9 $$", 137), ("true", 0)],
)
def test_exit_codes_are_passed_on(tmp_path: Path, line: str, code: int) -> None:
    """The status that a script sets, or ends with itself; one that fails on the way does not end it, as before."""
    assert one_job(tmp_path, commands(line)).run("One").returncode == code


def test_names_keep_the_group(tmp_path: Path) -> None:
    """$rucio_dsname is what names on PanDA begin with; shrek wrote user.<user> whatever the group."""
    job = one_job(tmp_path, commands('echo "$rucio_dsname" > name'))
    packed = package.pack(
        plan(job.definition, {}), planning.source(job.definition), site(official=True, prefix="group.sphenix"), "panda"
    )
    package.write(packed, job.place)
    subprocess.run([sys.executable, "muleteer/job.py", "One"], cwd=job.place, check=True, capture_output=True)

    assert job.text("name") == "group.sphenix.pressure-7\n"


def test_metadata_is_json_whatever_is_added(tmp_path: Path) -> None:
    """Also from a function, a subshell or another directory, and when the script leaves early."""
    value = 'a "b" \\ c\nd'
    lines = ('addmetadata "the key" "$value"', "(cd / && addmetadata inner 1)", "exit 0")
    job = one_job(tmp_path, commands(*lines, value=value))
    job.run("One")

    assert job.metadata["the key"] == value and job.metadata["inner"] == "1"


def test_an_input_goes_before_a_resource_of_its_name(tmp_path: Path) -> None:
    """What PanDA brought is never overwritten."""
    text = commands("cat a.txt > seen") + "Resources: [{file: a.txt}]\nInputDataSets: [{name: x, datasets: 's:x'}]\n"
    (tmp_path / "workflows" / "one").mkdir(parents=True)
    (tmp_path / "workflows" / "one" / "a.txt").write_text("resource")
    (tmp_path / "workflows" / "one" / "one.yaml").write_text(text)
    job = Job(tmp_path / "work", shrek.read_folder(tmp_path / "workflows" / "one"))
    job.run("One", IN={"a.txt": "input"})

    assert (job.text("seen"), job.text("a.txt")) == ("input", "input")


def test_shreks_files_run_from_end_to_end(folder: Path, tmp_path: Path) -> None:
    """On the embedded engine: every job finishes but the one that was for a failure."""
    for name in ("a.dat", "b.dat", "c.txt"):
        (tmp_path / name).write_text(f"{name}\n")
    paths = {Did("test", "gauges"): ["a.dat", "b.dat", "c.txt"], Did("test", "weather"): ["c.txt"]}
    engine = LocalEngine(tmp_path / "launches", lambda did: [tmp_path / name for name in paths[did]])
    definition = shrek.read_folder(folder)
    reference, _ = engine.submit("pressure-7", engine.pack(plan(definition), planning.source(definition)))
    progress = ended(engine, reference)

    assert progress.state is SubmissionState.FINISHED, progress.reason
    (page,) = engine.outputs(reference, "Report")
    (count,) = engine.outputs(reference, "Count")
    readings = ["a.dat", "b.dat", 'hPa (hecto "pascal") x 1.5']
    assert page.read_text().splitlines()[4:] == [
        *readings,
        "0 hisses",
        "c.txt",
        "arguments: 4 readings.txt c.txt; from Collect and Noise/outDS",
    ]
    assert count.read_text() == "3\n"


def ended(engine: LocalEngine, reference: Reference) -> Progress:
    """Wait for a submission's end."""
    tracked = Tracked("pressure-7", reference, (), datetime.now(UTC), dict)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        seen = engine.look([tracked])["pressure-7"]
        assert isinstance(seen, Progress)
        if seen.state not in (SubmissionState.SUBMITTED, SubmissionState.RUNNING):
            return seen
        time.sleep(0.1)
    raise AssertionError("it did not end")
