"""Mistakes in a workflow document, each said with its line, and remarks on one that can run."""

from __future__ import annotations

import pytest

from orchestrator.core.documents import Document, DocumentError
from orchestrator.core.workflow import read
from orchestrator.core.workflow_remarks import Weight, remarks

GOOD = """\
name: calo
launch_name: "rn{run:08d}-CALO-{build}"
parameters:
  run: {type: integer, minimum: 1}
  build: {default: ana381, choices: [ana381, ana382]}
inputs:
  raw: "{scope}:{name}"
  geometry: group.sphenix:geometry
environment: {BUILD: "{build}"}
steps:
  - name: combine
    command: [./combine.py, "{run:08d}"]
    inputs: [raw]
    outputs: ["beam-{run:08d}-*.prdf"]
  - name: reco
    script: ./reco.sh
    inputs:
      - combine
      - {from: geometry, files_per_job: 2, reusable: true}
    outputs: ["DST_{segment}.root"]
    scatter: {variable: segment, values: ["0", "1"]}
  - name: merge
    command: [./merge.py]
    inputs: [reco]
    outputs: [all.root]
  - name: alarm
    command: [./alarm.py]
    inputs: [merge]
    when: failed
outputs:
  - {dataset: "{scope}:rn{run}-CALO", step: merge}
"""


def refused(text: str) -> list[str]:
    with pytest.raises(DocumentError) as error:
        read(Document(text, "workflow.yaml"))
    return str(error.value).splitlines()


def test_a_document_that_fits_is_read() -> None:
    """All of what a document may say, and nothing to remark but what PanDA alone heeds."""
    workflow = read(Document(GOOD, "workflow.yaml"))

    assert [step.name for step in workflow.steps] == ["combine", "reco", "merge", "alarm"]
    assert {remark.weight for remark in remarks(workflow)} == {Weight.NOTE}


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        (
            "inputs: [raw]",
            "inputs: [rav]",
            "13: steps.0.inputs.0: there is no input and no step 'rav'; did you mean raw?",
        ),
        (
            "inputs: [raw]",
            "inputs: [reco]",
            "13: steps.0.inputs: the steps combine -> reco -> combine wait for each other",
        ),
        ("inputs: [raw]", "inputs: [raw, raw]", "13: steps.0.inputs.1: raw is read already"),
        ("  - name: merge", "  - name: reco", "22: steps.2.name: another step is called reco too"),
        ("  - name: merge", "  - name: raw", "22: steps.2.name: an input is called raw too"),
        ("  - name: merge", "  - name: reco_7", "22: steps.2.name: the scattered step reco becomes reco_1, reco_2"),
        ("  - name: merge", "  - name: Combine", "22: steps.2.name: combine and Combine would have one environment"),
        ("inputs: [merge]", "inputs: [raw]", "29: steps.3.when: it runs when its first input has failed"),
        ("inputs: [merge]", "inputs: [reco]", "29: steps.3.when: its first input reco is scattered"),
        ("inputs: [reco]", "inputs: [{from: reco, reusable: true}]", "24: steps.2.inputs.0.reusable: is for secondary"),
        ("inputs: [reco]", "inputs: [{from: reco, files_per_job: 2}]", "say panda: {nFilesPerJob: ...} instead"),
        ("step: merge}", "step: mrege}", "31: outputs.0.step: there is no step 'mrege'; did you mean merge?"),
        (
            '"{run:08d}"]',
            '"{rum:08d}"]',
            "12: steps.0.command.1: '{rum:08d}': there is no parameter 'rum'; did you mean",
        ),
        ('"{run:08d}"]', '"{segment}"]', "12: steps.0.command.1: '{segment}': there is no parameter 'segment'"),
        ('BUILD: "{build}"', 'BUILD: "{build:08d}"', "9: environment.BUILD: '{build:08d}': build is 'ana381', not the"),
        ('CALO-{build}"', 'CALO-{launch}"', "2: launch_name: 'rn{run:08d}-CALO-{launch}': there is no parameter"),
        ('CALO-{build}"', 'CALO-{build"', "2: launch_name: 'rn{run:08d}-CALO-{build'"),
        ("default: ana381", "default: ana38", "5: parameters.build.default: it is 'ana38', which is none of"),
        (
            "minimum: 1}",
            "minimum: 1, choices: [one]}",
            "4: parameters.run.choices.0: it is 'one', which is not a whole",
        ),
        ("minimum: 1}", "pattern: '(?=x)'}", "4: parameters.run.pattern: pattern '(?=x)'"),
        (
            "  build: {",
            "  RUN: {default: x}\n  build: {",
            "5: parameters.RUN: is MULETEER_PARAM_RUN for a step, as run is",
        ),
        ("  build: {", "  scope: {default: x}\n  build: {", "5: parameters.scope: is what every workflow has already"),
        ("  build: {", "  a-b: {default: x}\n  build: {", "5: parameters.a-b: is no name for a parameter"),
        ("[all.root]", "[../all.root]", "25: steps.2.outputs.0: '../all.root' must stay within the step's directory"),
        ("[all.root]", "[/all.root]", "25: steps.2.outputs.0: '/all.root' must stay within"),
        (
            "geometry: group.sphenix:geometry",
            "geometry: {file_list: ../x}",
            "8: inputs.geometry.file_list: '../x' must",
        ),
        (
            "name: calo\n",
            "name: calo\nsetup: /etc/profile\n",
            "2: setup: '/etc/profile' must stay within the workflow's",
        ),
        ("variable: segment", "variable: run", "21: steps.1.scatter.variable: run has a meaning already"),
        ('["0", "1"]', '["0", "0"]', "21: steps.1.scatter.values: step reco is scattered over '0' twice"),
        (
            "[./merge.py]",
            "[./merge.py]\n    panda: {nJob: 3}",
            "24: steps.2.panda.nJob: there is no such field; did you mean",
        ),
        (
            "[./merge.py]",
            "[./merge.py]\n    panda: {maxAttempt: 99}",
            "24: steps.2.panda.maxAttempt: expected 50 or less",
        ),
    ],
)
def test_a_mistake_is_said_with_its_line(right: str, wrong: str, said: str) -> None:
    """Whoever wrote the document is led to the place, and told what to write there."""
    assert GOOD.count(right) == 1

    found = refused(GOOD.replace(right, wrong))

    assert any(said in line for line in found), found
    assert all(line.startswith("workflow.yaml:") for line in found)


def test_every_mistake_is_said_at_once() -> None:
    """Two mistakes in one document are two lines, in the order of the text."""
    found = refused(GOOD.replace("inputs: [raw]", "inputs: [rav]").replace("step: merge}", "step: mrege}"))

    assert [line.split(": ")[0] for line in found] == ["workflow.yaml:13", "workflow.yaml:31"]


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("echo, hi]", "echo, hi]\n    retry: {classes: [gremlins]}", "5: steps.0.retry.classes.0: expected "),
        ("echo, hi]", "echo, hi]\n    retry: {classes: [site], times: 2}", "5: steps.0.retry.times: there is no"),
        ("steps:\n  - name: a\n    command: [echo, hi]\n", "steps: []\n", "2: steps: expected at least 1"),
    ],
)
def test_a_mistake_is_said_alone(right: str, wrong: str, said: str) -> None:
    """A step that is wrong is there all the same: nobody is told that there is none, unless there is none."""
    text = "name: x\nsteps:\n  - name: a\n    command: [echo, hi]\n"
    assert text.count(right) == 1

    (line,) = refused(text.replace(right, wrong))

    assert said in line


@pytest.mark.parametrize(
    ("right", "wrong", "place", "said"),
    [
        ("inputs: [raw]\n", "inputs: [geometry]\n", ("inputs", "raw"), "no step reads it"),
        (
            "inputs: [merge]\n",
            "inputs: [merge]\n    outputs: [mail.txt]\n",
            ("steps", 3, "outputs"),
            "no step reads what alarm makes",
        ),
        ('    outputs: ["beam-{run:08d}-*.prdf"]\n', "", ("steps", 0), "the steps that read it find no file"),
        ("DST_{segment}.root", "DST.root", ("steps", 1, "outputs", 0), "use {segment} in it"),
        ("    outputs: [all.root]\n", "", ("steps", 2), "it names no outputs"),
    ],
)
def test_what_is_probably_not_meant_is_a_warning(
    right: str, wrong: str, place: tuple[int | str, ...], said: str
) -> None:
    """The document can run all the same."""
    assert GOOD.count(right) == 1

    workflow = read(Document(GOOD.replace(right, wrong), "workflow.yaml"))

    found = [remark for remark in remarks(workflow) if remark.weight is Weight.WARNING]
    assert [(remark.place, said in remark.message) for remark in found] == [(place, True)]


def test_what_counts_on_panda_alone_is_a_note() -> None:
    """Every field that the embedded engine ignores is named once."""
    more = "\n    panda: {memory: 4000}\n    queue: high\n    site: BNL\n    image: x.sif\n    start: 0.5"

    workflow = read(Document(GOOD.replace("command: [./merge.py]", "command: [./merge.py]" + more), "workflow.yaml"))

    assert [remark.place for remark in remarks(workflow)] == [
        ("steps", 1, "inputs", 1, "files_per_job"),
        ("steps", 1, "inputs", 1, "reusable"),
        ("steps", 2, "panda"),
        ("steps", 2, "queue"),
        ("steps", 2, "site"),
        ("steps", 2, "image"),
        ("steps", 2, "start"),
    ]
