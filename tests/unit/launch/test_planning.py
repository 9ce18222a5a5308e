"""A workflow and a launch's values become a submission and a package; the folder's files are looked at before."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.core.workflow import WorkflowError
from orchestrator.launch import planning
from orchestrator.launch.building import EngineKind, build, build_sample
from orchestrator.launch.workflows import Definition, Workflows, read_file
from orchestrator.panda.plain import dump, load
from orchestrator.panda.port import PackedFile, Submission
from schemas.did import Did
from schemas.site import Site

RAW = Did("group.sphenix", "RAW")

DOCUMENT = """\
name: calo
launch_name: "rn{run:08d}-CALO"
parameters:
  run: {type: integer}
  segments: {default: "0,1"}
inputs:
  raw: "{scope}:{name}"
  files: {file_list: "lists/{run:08d}.list"}
environment: {RUN: "{run:08d}"}
setup: setup.sh
steps:
  - name: reco
    command: [./reco.sh, "{run}", "{segment}"]
    inputs: [{from: raw, match: "seg{segment}"}, files]
    outputs: ["DST_{segment}.root"]
    environment: {SEGMENT: "{segment}"}
    scatter: {variable: segment, values: "{segments}"}
    timeout: 2h
  - name: merge
    script: |
      echo "{run}" "$MULETEER_PARAM_RUN"
    inputs: [reco]
    panda: {memory: 4000}
    queue: high
outputs:
  - {dataset: "{scope}:rn{run:08d}-CALO", step: reco}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A workflow's folder whose files are all there."""
    place = tmp_path / "workflows" / "calo"
    (place / "lists").mkdir(parents=True)
    (place / "workflow.yaml").write_text(DOCUMENT)
    (place / "setup.sh").write_text("export X=1\n")
    (place / "reco.sh").write_text("#!/bin/sh\n")
    (place / "reco.sh").chmod(0o755)
    (place / "lists" / "00021615.list").write_text("# beam\n/data/a.raw\n\nroot://far//b.raw\n")
    return place


def definition(folder: Path) -> Definition:
    return Workflows([folder.parent]).get("calo")


def planned(folder: Path, **parameters: str) -> Submission:
    values = {"scope": RAW.scope, "name": RAW.name}
    return planning.plan(definition(folder), name="n", parameters={"run": "21615", **parameters}, values=values)


def edited(folder: Path, right: str, wrong: str) -> None:
    assert DOCUMENT.count(right) == 1
    (folder / "workflow.yaml").write_text(DOCUMENT.replace(right, wrong))


def test_every_template_is_filled(folder: Path) -> None:
    """Inputs, environment, commands, outputs and matches have the launch's values; a script has nothing filled in."""
    submission = planned(folder)

    assert submission.parameters == {"run": "21615", "segments": "0,1"}
    assert submission.inputs == {"raw": RAW}
    assert submission.file_lists == {"files": ("/data/a.raw", "root://far//b.raw")}
    assert submission.environment == {"RUN": "00021615"}
    assert submission.setup == "setup.sh"
    first, second, merge = submission.steps
    assert first.command == ("./reco.sh", "21615", "0")
    assert [(each.source, each.match) for each in second.inputs] == [("raw", "seg1"), ("files", None)]
    assert second.outputs == ("DST_1.root",)
    assert second.environment == {"MULETEER_PARAM_SEGMENT": "1", "SEGMENT": "1"}
    assert second.timeout == timedelta(hours=2)
    assert merge.script == 'echo "{run}" "$MULETEER_PARAM_RUN"\n'
    assert merge.reads == ("reco_1", "reco_2")
    assert (merge.panda.memory, merge.queue) == (4000, "high")


def test_a_submission_survives_as_bytes(folder: Path) -> None:
    """What a package keeps of a submission is the same submission again, and the same bytes."""
    submission = planned(folder)

    assert load(dump(submission)) == submission
    assert dump(load(dump(submission))) == dump(submission)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"name": 3}', b"\xff"])
def test_what_is_no_submission_is_refused(content: bytes) -> None:
    """A damaged file is said to be one."""
    with pytest.raises(ValueError, match="no submission"):
        load(content)


def test_the_datasets_left_behind_are_known_before(folder: Path) -> None:
    """A scattered step is named as it is written."""
    values = {"scope": RAW.scope, "name": RAW.name}

    found = planning.outputs(definition(folder), name="n", parameters={"run": "21615"}, values=values)

    assert found == {"group.sphenix:rn00021615-CALO": "reco"}


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"run": "later"}, "parameter run is 'later', which is not a whole number"),
        ({"runs": "1"}, "has no parameter runs; did you mean run?"),
        ({"segments": ""}, "is scattered over no value"),
        ({"segments": "0,/../up"}, "must stay within the step's directory"),
        ({"run": "7"}, "00000007.list cannot be read"),
    ],
)
def test_values_that_do_not_fit_are_refused(folder: Path, parameters: dict[str, str], said: str) -> None:
    """The workflow is named, and what to mend."""
    with pytest.raises(WorkflowError, match="workflow calo") as refused:
        planned(folder, **parameters)

    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a.raw\n", ":1: 'a.raw' is neither a path from / on nor an address"),
        ("/a\n/b\n/a\n", ":3: '/a' stands in line 1 already"),
        ("# none\n", "names no file"),
    ],
)
def test_a_list_of_files_that_cannot_be_used_is_refused(folder: Path, text: str, said: str) -> None:
    """The line of the list is named."""
    (folder / "lists" / "00021615.list").write_text(text)

    with pytest.raises(WorkflowError) as refused:
        planned(folder)

    assert said in str(refused.value)


def test_a_list_may_not_lead_out_of_the_folder(folder: Path) -> None:
    """Not by a link either, which somebody may have made since the folder was looked at."""
    found = definition(folder)
    (folder / "lists" / "00000008.list").symlink_to("/etc/hostname")

    with pytest.raises(WorkflowError, match="must stay within the workflow's folder"):
        planning.plan(found, name="n", parameters={"run": "8"}, values={"scope": "s", "name": "n"})


def test_jobs_get_the_folders_files(folder: Path) -> None:
    """All but hidden files and what Python made; links within the folder are followed, and executables stay so."""
    for path in (".git/config", "__pycache__/a.pyc", "lib/deep/b.py"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text("x")
    (folder / "linked").symlink_to("lib")
    (folder / "lib" / "round").symlink_to("..")

    package = planning.source(definition(folder))

    assert list(package) == [
        "lib/deep/b.py",
        "linked/deep/b.py",
        "lists/00021615.list",
        "reco.sh",
        "setup.sh",
        "workflow.yaml",
    ]
    assert package["reco.sh"] == PackedFile(b"#!/bin/sh\n", executable=True)
    assert package["setup.sh"] == PackedFile(b"export X=1\n", executable=False)


def test_resources_say_which_files_jobs_get(folder: Path) -> None:
    """Only what a pattern matches is sent."""
    edited(folder, "setup: setup.sh\n", "setup: setup.sh\nresources: ['*.sh']\n")

    assert list(planning.source(definition(folder))) == ["reco.sh", "setup.sh"]


def absent(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (absent("reco.sh"), "13: steps.0.command.0: there is no file ./reco.sh in the folder"),
        (lambda folder: (folder / "reco.sh").chmod(0o644), "./reco.sh is not executable: chmod +x it"),
        (absent("setup.sh"), "10: setup: there is no file setup.sh in the folder"),
        (
            lambda folder: edited(folder, "setup: setup.sh\n", "setup: setup.sh\nresources: ['*.py', setup.sh]\n"),
            "11: resources.0: '*.py' matches no file of the folder",
        ),
        (
            lambda folder: edited(folder, "setup: setup.sh\n", "setup: setup.sh\nresources: [setup.sh]\n"),
            "14: steps.0.command.0: ./reco.sh is in the folder, but resources leaves it out",
        ),
        (lambda folder: (folder / "out").symlink_to("/etc"), "out leads out of the folder"),
        (lambda folder: edited(folder, "lists/{run:08d}.list", "none.list"), "8: inputs.files.file_list: there is no"),
        (lambda folder: (folder / "muleteer").mkdir() or (folder / "muleteer" / "x").touch(), "muleteer's own"),
        (lambda folder: edited(folder, "name: calo\n", "name: other\n"), "1: name: it is 'other', but its folder is"),
    ],
)
def test_files_that_are_not_as_the_document_says_are_named(
    folder: Path, spoil: Callable[[Path], object], said: str
) -> None:
    """With the document's line, before anything is launched."""
    spoil(folder)

    with pytest.raises(WorkflowError) as refused:
        definition(folder)

    assert said in str(refused.value)
    assert str(refused.value).startswith(str(folder / "workflow.yaml"))


SITE = Site.model_validate(
    {
        "name": "test",
        "url": "http://panda.example.org:25080",
        "url_ssl": "https://panda.example.org:25443",
        "vo": "sphenix",
        "prefix": "user.jane",
        "site": "BNL",
        "queues": {"high": "BNL_HIGH"},
    }
)


@pytest.mark.parametrize("kind", list(EngineKind))
def test_what_is_built_is_the_same_every_time(folder: Path, kind: EngineKind) -> None:
    """For each engine: the same words, the same bytes; and the name is the one that a launch would have."""
    edited(folder, '  files: {file_list: "lists/{run:08d}.list"}\n', "")
    (folder / "workflow.yaml").write_text((folder / "workflow.yaml").read_text().replace(", files]", "]"))

    first, second = (build(definition(folder), {"run": "21615"}, RAW, kind, SITE) for _ in range(2))

    assert first == second
    assert first.submission.name == "rn00021615-CALO"
    assert first.package["muleteer/launch.json"].content == dump(first.submission)


def test_a_dataset_is_asked_for_where_one_is_needed(folder: Path) -> None:
    """A template that names the dataset's scope or name cannot be filled without one."""
    with pytest.raises(WorkflowError, match="name that with --did"):
        build(definition(folder), {"run": "21615"}, None, EngineKind.EMBEDDED, None)


def test_a_sample_is_built_where_values_can_be_guessed(folder: Path) -> None:
    """A check needs no values where the parameters have samples; a text without a default is not guessed."""
    (folder / "lists" / "00000000.list").write_text("/a\n")
    found = build_sample(definition(folder), {}, None, EngineKind.EMBEDDED, None)
    edited(folder, 'segments: {default: "0,1"}', "segments: {}")

    unknown = build_sample(read_file(folder / "workflow.yaml"), {}, None, EngineKind.EMBEDDED, None)

    assert found is not None
    assert found.submission.name == "rn00000000-CALO"
    assert unknown is None
