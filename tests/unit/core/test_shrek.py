"""shrek's YAML as a workflow: what its blocks mean here, and that none of shrek's defects came along."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.documents import Document
from orchestrator.core.shrek import Imported, ShrekError, convert, is_shrek
from orchestrator.core.shrek_values import read_but_not_set
from orchestrator.core.workflow import read
from schemas.workflow import Step

PRESSURE = Path(__file__).parents[2] / "data" / "shrek" / "pressure"


def job(name: str = "One", *, parameters: str = "", blocks: str = "", output: str = "required: a.txt") -> str:
    """A job's file; what is given goes into its parameters, and after its other blocks."""
    return (
        f"Parameters:\n  name: {name}\n"
        + "".join(f"  {line}\n" for line in parameters.splitlines())
        + f'OutputDataSets:\n  - name: {name}/outDS\n    filelist: ["{output}"]\n'
        + f"JobCommands: |\n  echo {name} > a.txt\n{blocks}"
    )


def imported(*texts: str, given: Mapping[str, str | None] | None = None) -> Imported:
    """The workflow of some files, which are called 1.yaml, 2.yaml and so on."""
    named = {f"{number}.yaml": text for number, text in enumerate(texts, start=1)}
    return convert(named, name="some", given=given)


def step(workflow: Imported, name: str = "One") -> Step:
    return next(each for each in workflow.workflow.steps if each.name == name)


def refused(*texts: str, given: Mapping[str, str | None] | None = None) -> str:
    with pytest.raises(ShrekError) as refusal:
        imported(*texts, given=given)
    return str(refusal.value)


@pytest.fixture
def pressure() -> Imported:
    """Six jobs and files of every kind."""
    texts = {path.name: path.read_text() for path in PRESSURE.glob("*.yaml")}
    return convert(texts, name="pressure")


def test_jobs_become_steps_joined_by_the_names_of_datasets(pressure: Imported) -> None:
    """A job reads the job that makes what it names, or a dataset."""
    reads = {each.name: each.reads for each in pressure.workflow.steps}

    assert reads == {
        "Collect": ("probes",),
        "Noise": (),
        "Count": ("Collect",),
        "Report": ("Collect", "Noise", "weather"),
        "Alarm": ("Report",),
    }


def test_steps_stand_after_what_they_read(pressure: Imported) -> None:
    """The document reads from top to bottom."""
    names = [each["name"] for each in pressure.document["steps"]]

    assert names.index("Collect") < names.index("Report") < names.index("Alarm")


def test_a_file_without_parameters_only_names_datasets(pressure: Imported) -> None:
    """It makes no step; a `$name` in it is a parameter."""
    assert pressure.workflow.inputs["probes"].dataset == "test:{probes}"
    assert pressure.workflow.parameters["probes"].default is None


def test_what_is_written_reads_as_the_same_workflow(pressure: Imported) -> None:
    """The text of workflow.yaml says all that was understood."""
    again = read(Document(pressure.text(["**"]), "workflow.yaml"))

    assert sorted(again.steps, key=lambda each: each.name) == sorted(
        pressure.workflow.steps, key=lambda each: each.name
    )
    assert again.inputs == pressure.workflow.inputs and again.parameters == pressure.workflow.parameters


def test_inputs_beyond_the_first_layer_have_their_datasets(pressure: Imported) -> None:
    """shrek gave datasets only to jobs that read no other job."""
    assert pressure.workflow.inputs["weather"].dataset == "test:weather"


def test_the_first_input_is_primary_and_the_rest_secondary(pressure: Imported) -> None:
    """Secondaries are inputs of their own, with files for each job; shrek gave them all the primary's dataset."""
    report = step(pressure, "Report")

    assert [(each.source, each.files_per_job, each.reusable) for each in report.inputs] == [
        ("Collect", None, False),
        ("Noise", 3, True),
        ("weather", 1, False),
    ]
    assert report.inputs[1].match == "noise-"
    assert report.panda.nFilesPerJob == 1


def test_secondary_datasets_are_inputs_too() -> None:
    """shrek read the block and did nothing with it."""
    blocks = "SecondaryDataSets:\n  - name: Two/outDS\n    nFilesPerJob: 5\n"
    workflow = imported(job(blocks="InputDataSets: [{name: x, datasets: 's:x'}]\n" + blocks), job("Two"))

    assert step(workflow).reads == ("x", "Two") and step(workflow).inputs[1].files_per_job == 5
    assert any("SecondaryDataSets" in remark and "IN2" in remark for remark in workflow.remarks)


def test_options_go_to_panda_with_the_inputs_own_before(pressure: Imported) -> None:
    """As in shrek, one try unless it is said, no scouts, and what an input says goes before the parameters."""
    collect, noise = step(pressure, "Collect").panda, step(pressure, "Noise").panda

    assert (collect.maxAttempt, collect.memory, collect.nFilesPerJob) == (3, 2000, 2)
    assert (noise.maxAttempt, noise.nJobs, noise.skipScout, noise.avoidVP) == (1, 3, True, True)
    assert any("nFilesPerJob" in remark and "goes before 4" in remark for remark in pressure.remarks)


def test_stage_is_never_passed_on() -> None:
    """The server refuses --stage; what was meant for the primary input has an option."""
    primary, secondary = imported(job(parameters="stage: all")), imported(job(parameters="stage: secondary"))

    assert step(primary).panda.forceStaged and not step(secondary).panda.forceStaged
    assert all(any("1.yaml:3: Parameters.stage" in line for line in each.remarks) for each in (primary, secondary))
    assert "stage" not in step(primary).panda.model_dump()


@pytest.mark.parametrize("option", ["processingType: test", "dumpTaskParams: a.json", "writeInputToTxt: IN:a"])
def test_options_that_are_no_more_are_left_out_with_a_remark(option: str) -> None:
    """The job still sees them as variables."""
    workflow = imported(job(parameters=option))

    name, value = option.split(": ")
    assert any(remark.startswith(f"1.yaml:3: Parameters.{name}: ") for remark in workflow.remarks)
    assert step(workflow).environment[name] == value
    assert not [key for key in step(workflow).panda.model_dump() if key == name]


def test_scripts_are_called_without_any_words_after_them(pressure: Imported) -> None:
    """shrek ended the call with `tee _X.log`, with no pipe before it, so that jobs got these words as arguments."""
    assert all(each.command == (f"./{each.name}.sh",) for each in pressure.workflow.steps)


def test_a_pattern_called_regex_is_the_glob_that_was_meant(pressure: Imported) -> None:
    """`noise-*` means whatever begins with it; so does the true regex `noise-.*`."""
    assert step(pressure, "Noise").outputs == ("noise-*", "hum.txt")
    assert step(pressure, "Noise").panda.allowNoOutput == ("hum.txt",)
    assert step(imported(job(output="regex|^a.*$"))).outputs == ("a*",)


def test_a_regex_that_no_glob_can_say_is_refused() -> None:
    """It is not guessed at."""
    assert "1.yaml:5: OutputDataSets.0.filelist.0: 'a+' cannot be said" in refused(job(output="regex|a+"))


def test_a_misspelt_kind_of_output_is_refused_with_what_was_meant() -> None:
    """shrek took anything before the colon."""
    message = refused(job(output="requried: manifest.dat"))

    assert message == "1.yaml:5: OutputDataSets.0.filelist.0: there is no 'requried'; did you mean required?"


def test_several_jobs_may_end_the_workflow(pressure: Imported) -> None:
    """shrek wrote the same key twice; here each end is told apart, and hears how to keep what it makes."""
    ends = [remark for remark in pressure.remarks if "the workflow ends here" in remark]

    assert [re.sub(r":.*", "", remark) for remark in ends] == ["alarm.yaml", "count.yaml", "report.yaml"]


def test_values_are_filled_in_by_whole_words() -> None:
    """A parameter `k` is not found within the name of a dataset, as it was in shrek."""
    read = "InputDataSets: [{name: raw, datasets: 's:kicker.$k.$kind'}]\n"
    workflow = imported(job(blocks=read), given={"k": "7", "kind": None})

    assert workflow.workflow.inputs["raw"].dataset == "s:kicker.{k}.{kind}"
    assert workflow.workflow.parameters["k"].default == "7"
    assert workflow.workflow.parameters["kind"].default is None


def test_a_word_alone_for_a_dataset_is_a_parameter() -> None:
    """`datasets: CHARM` was a name for something on the command line."""
    workflow = imported(job(blocks="InputDataSets: [{name: raw, datasets: CHARM}]\n"))

    assert workflow.workflow.inputs["raw"].dataset == "{CHARM}"


@pytest.mark.parametrize(
    ("name", "did"),
    [
        ("group.sphenix.run7", "group.sphenix:group.sphenix.run7"),
        ("user.fiona.tag_000_One/", "user.fiona:user.fiona.tag_000_One"),
        ("mc16.361238.HITS", "mc16:mc16.361238.HITS"),
        ("group.sphenix:mdc2.raw", "group.sphenix:mdc2.raw"),
    ],
)
def test_the_group_stays_in_names(name: str, did: str) -> None:
    """A dataset named without its scope is of the user or group that its name begins with."""
    workflow = imported(job(blocks=f"InputDataSets: [{{name: raw, datasets: '{name}'}}]\n"))

    assert workflow.workflow.inputs["raw"].dataset == did


def test_parameters_are_variables_of_the_step_byte_for_byte(pressure: Imported) -> None:
    """Values with blanks and quotes are no shell's words; a `$name` is what it stood for."""
    environment = step(pressure, "Collect").environment

    assert environment["comment"] == "The gauges' readings; all of them & no others"
    assert environment["unit"] == 'hPa (hecto "pascal")'
    assert environment["factor"] == "{factor}"
    assert environment["label"] == 'hPa (hecto "pascal") x {factor}'


def test_braces_in_values_are_no_templates() -> None:
    """What looks like a template of ours is text in shrek's files."""
    assert step(imported(job(parameters="text: 'a {b}'"))).environment["text"] == "a {{b}}"


def test_what_only_the_job_knows_is_set_by_its_script(pressure: Imported) -> None:
    """The line in the script quotes the text around it."""
    assert "file" not in step(pressure, "Noise").environment
    assert "export file='noise-'\"${uniqueId}\"'.txt'\n" in pressure.scripts["Noise.sh"]


def test_the_launchs_values_come_from_variables_of_ours_there() -> None:
    """A parameter of the job may have the name of one that a launch gives."""
    script = imported(job(parameters="build: $build-$shrek_tag-$uniqueId")).scripts["One.sh"]

    assert """export build="${MULETEER_PARAM_BUILD}"'-'"${MULETEER_LAUNCH}"'-'"${uniqueId}"\n""" in script


@pytest.mark.parametrize("value", ["$(date)", "a `date`", "${x:-y}", "$((1 + 1))"])
def test_a_value_that_only_a_shell_can_work_out_is_refused(value: str) -> None:
    """It would be another value here; the message says where it can stand."""
    message = refused(job(parameters=f"stamp: '{value}'"))

    assert message.startswith("1.yaml:3: Parameters.stamp: holds ") and "Initialize" in message


def test_values_stay_as_they_are_written() -> None:
    """shrek's YAML made octal numbers of run numbers, and 1.1 of the build 1.10; both are remarked on."""
    workflow = imported(job(parameters="run: 00023721\nbuild: 1.10\nfast: true\nnone:\nword: yes"))
    environment = step(workflow).environment

    assert (environment["run"], environment["build"]) == ("00023721", "1.10")
    assert (environment["fast"], environment["none"], environment["word"]) == ("True", "None", "True")
    assert [re.sub(r": .*", "", remark) for remark in workflow.remarks[:3]] == ["1.yaml:3", "1.yaml:4", "1.yaml:6"]
    assert "shrek took it for 10193" in workflow.remarks[0]


def test_what_scripts_read_and_no_file_sets_may_be_given_at_launch(pressure: Imported) -> None:
    """shrek's users gave it on the command line, or did not."""
    assert pressure.workflow.parameters["shift_leader"].default == ""
    assert "shrek_optional shift_leader" in pressure.scripts["Report.sh"]
    assert any(remark.startswith("report.yaml:2: ") and "shift_leader" in remark for remark in pressure.remarks)
    assert pressure.workflow.environment["shift_leader"] == "{shift_leader}"


@pytest.mark.parametrize(
    ("script", "names"),
    [
        ("echo $a ${b} ${#c[@]} ${d:-x}", ["a", "b", "c", "d"]),
        ("a=1; echo $a", []),
        ("for f in *; do echo $f; done", []),
        ("read -r x y < list; echo $x $y", []),
        ("local p=$1 q; echo $p $q", []),
        ("mapfile -t all < list; echo ${all[@]}", []),
        ("# echo $comment\necho \\$escaped $HOME $PanDA_TaskID $uniqueId ${IN2[@]}", []),
    ],
)
def test_variables_that_a_script_sets_are_its_own(script: str, names: list[str]) -> None:
    """So are those of the machine, written in capitals, and those that every script of shrek's has."""
    assert read_but_not_set(script) == names


def test_a_list_of_files_is_an_input() -> None:
    """A word that is no file in the folder names a parameter; anything else is the list's name."""
    given, there = imported(job(parameters="pfnList: mylist")), imported(job(parameters="pfnList: run-7.list"))

    assert given.workflow.inputs["One_files"].file_list == "{mylist}"
    assert there.workflow.inputs["One_files"].file_list == "run-7.list"
    assert step(there).reads == ("One_files",)


def test_when_the_first_input_failed(pressure: Imported) -> None:
    """The one condition of shrek's that has a counterpart; others are refused."""
    assert step(pressure, "Alarm").when == "failed"
    assert "1.yaml:3: Parameters.when: '$(1 > 2)' has no counterpart" in refused(job(parameters="when: $(1 > 2)"))


def test_what_was_for_the_submitting_machine_is_kept_and_never_run(pressure: Imported) -> None:
    """Its text is a file beside the workflow; no script holds it."""
    assert pressure.by_hand == {"by-hand/Report-init.sh": "#!/usr/bin/env bash\necho to be run where one submits\n"}
    assert not any("where one submits" in script for script in pressure.scripts.values())
    assert any("LocalInit" in remark and "by-hand/Report-init.sh" in remark for remark in pressure.remarks)


def test_resources_are_named_with_the_job_that_wants_them(pressure: Imported) -> None:
    """Files and directories; shrek left directories out."""
    assert [(each.folder, each.pattern, each.directory) for each in pressure.resources] == [
        ("__Report", "tables/*.txt", False),
        ("__Report", "tables", True),
    ]


@pytest.mark.parametrize(
    ("block", "where"),
    [
        ("Resources: [{repository: {url: https://example.org/a.git, action: git clone}}]\n", "Resources.0.repository"),
        ("InputDataSets: [{name: x, datasets: 's:x', nSkip: 3}]\n", "InputDataSets.0.nSkip"),
        ("InputDataSets: [{name: x, datasets: 's:x', reusable: true}]\n", "InputDataSets.0.reusable"),
    ],
)
def test_nothing_is_lost_without_a_remark(block: str, where: str) -> None:
    """What has no counterpart is named with its line."""
    remarks = imported(job(blocks=block)).remarks

    assert any(remark.startswith(f"1.yaml:8: {where}: ") for remark in remarks), remarks


def test_a_number_for_panda_can_be_given_when_files_are_imported() -> None:
    """`nJobs: top.njobs` was a name for something on the command line; a launch cannot give options."""
    text = job(parameters="nJobs: top.njobs")

    assert step(imported(text, given={"top.njobs": "5"})).panda.nJobs == 5
    assert '1.yaml:3: Parameters.nJobs: expected a whole number; found "top.njobs"' in refused(text)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([job(blocks="JobComands: x\n")], "1.yaml:8: JobComands: there is no such field; did you mean JobCommands?"),
        ([job(blocks="InputDataSets: [{name: Tow/outDS}]\n"), job("Two")], "did you mean Two/outDS?"),
        ([job(), job()], "2.yaml:2: Parameters.name: the job of 1.yaml is called One too"),
        ([job(), job("Two").replace("Two/outDS", "One/outDS")], "2.yaml:4: OutputDataSets.0.name: One makes One/outDS"),
        (
            [
                job(blocks="InputDataSets: [{name: Two/outDS}]\n"),
                job("Two", blocks="InputDataSets: [{name: One/outDS}]\n"),
            ],
            "1.yaml:2: Parameters.name: the step One: ",
        ),
        (["Parameters: {name: A}\n"], "1.yaml:1: the job has nothing to run: give it JobCommands"),
        (["InputDataSets: [{name: x, datasets: 's:x'}]\n"], "there is no job in 1.yaml"),
        ([job(parameters="memory: 2GB")], '1.yaml:3: Parameters.memory: expected a whole number; found "2GB"'),
        ([job(parameters="id: [1, 2]")], "1.yaml:3: Parameters.id: expected a text"),
        (
            [job(blocks="InputDataSets: [{name: x, datasets: bare}, {name: x, datasets: other}]\n")],
            "is {bare} elsewhere",
        ),
        ([job(blocks="InputDataSets: [{name: x, datasets: 's:x,s:y'}]\n")], "an input is one dataset"),
        (
            [job(parameters="pfnList: a.list", blocks="InputDataSets: [{name: x, datasets: 's:x'}]\n")],
            "one or the other",
        ),
        ([job(parameters="pfnList: /tmp/a.list")], "put the list into the folder"),
        (
            [job(blocks="Resources: [{file: $HOME/x}]\n")],
            "1.yaml:8: Resources.0.file: '$HOME/x' depends on who submits",
        ),
        ([job() + "x: ["], "1.yaml:8:"),
        ([job(parameters='text: "\\ud800"')], "1.yaml: it holds a half character"),
    ],
)
def test_mistakes_are_refused_with_file_and_line(texts: list[str], message: str) -> None:
    """Nothing is guessed, and nothing is half imported."""
    assert message in refused(*texts)


def test_all_mistakes_are_said_at_once() -> None:
    """Whoever has twenty files does not start twenty times."""
    lines = refused(job(output="requird: a"), job("Two", parameters="memory: much")).splitlines()

    assert [line.split(":")[0] for line in lines] == ["1.yaml", "2.yaml"]


def test_a_name_that_no_step_can_have_is_changed_with_a_remark() -> None:
    """Scripts still see the job under its own name."""
    workflow = imported(job("my-job"))

    assert step(workflow, "my_job").environment["name"] == "my-job"
    assert any("the step is called my_job" in remark for remark in workflow.remarks)


@pytest.mark.parametrize(
    ("text", "is_one"), [(job(), True), ("name: x\nsteps: []\n", False), ("- Parameters\n", False)]
)
def test_shreks_files_are_known_by_their_blocks(text: str, is_one: bool) -> None:
    """Other YAML in a folder does not make it one of shrek's."""
    assert is_shrek(text) is is_one


def test_no_value_stands_in_a_script(pressure: Imported) -> None:
    """Scripts hold what the author wrote, and names of variables; a launch's values come by the environment."""
    given: dict[str, Any] = {"factor": "$(touch broken)"}
    texts = {path.name: path.read_text() for path in PRESSURE.glob("*.yaml")}

    assert convert(texts, name="pressure", given=given).scripts == pressure.scripts
