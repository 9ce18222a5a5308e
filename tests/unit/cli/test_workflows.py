"""`muleteer workflow`: listed, checked, shown, drawn, built and launched by hand."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest

from orchestrator.settings import load
from orchestrator.store.store import Store
from orchestrator.wiring import Muleteer as Wired
from schemas.launch import LaunchId, LaunchState
from tests.unit.cli.conftest import Muleteer

DOCUMENT = """\
name: tiny
launch_name: "rn{run:08d}-TINY"
parameters:
  run: {type: integer, minimum: 1}
steps:
  - name: make
    script: echo "$MULETEER_PARAM_RUN" > made.txt
    outputs: [made.txt]
  - name: look
    command: [./look.sh]
    inputs: [make]
"""


@pytest.fixture
def folder(home: Path) -> Path:
    """A workflow of two steps in the home."""
    place = home / "workflows" / "tiny"
    place.mkdir(parents=True)
    (place / "workflow.yaml").write_text(DOCUMENT)
    (place / "look.sh").write_text("#!/bin/sh\ncat made.txt\n")
    (place / "look.sh").chmod(0o755)
    return place


@pytest.fixture
def site(home: Path) -> str:
    """A site profile in the home."""
    (home / "sites").mkdir()
    (home / "sites" / "test.yaml").write_text(
        "name: test\ninstance: testbed\nurl: http://127.0.0.1:9\nurl_ssl: http://127.0.0.1:9\n"
        "vo: sphenix\nprefix: user.jane\nsite: BNL\n"
    )
    return "test"


@pytest.mark.usefixtures("folder")
def test_workflows_are_listed(muleteer: Muleteer) -> None:
    """Those of the home and those that come with the product."""
    said = muleteer("workflow", "list", "--json")

    assert said.code == 0
    assert {row["name"]: row["steps"] for row in said.json} == {"calorimeter": 3, "tiny": 2}
    assert "rn{run:08d}-TINY" in muleteer("workflow", "list").out


def test_a_workflow_with_a_mistake_is_listed_with_it(muleteer: Muleteer, folder: Path) -> None:
    """It hides no other, and the exit code tells."""
    (folder / "look.sh").unlink()

    said = muleteer("workflow", "list", "--json")

    assert said.code == 1
    mistakes = {row["name"]: row["mistake"] for row in said.json}
    assert mistakes["calorimeter"] is None
    assert "workflow.yaml:10: steps.1.command.0: there is no file ./look.sh" in mistakes["tiny"]
    assert f"tiny does not fit: {folder}/workflow.yaml:10: steps.1" in muleteer("workflow", "list").out


@pytest.mark.parametrize("words", [["tiny"], ["workflows/tiny/workflow.yaml"], ["workflows/tiny"]])
@pytest.mark.usefixtures("folder")
def test_a_workflow_that_fits_passes_its_check(
    muleteer: Muleteer, home: Path, monkeypatch: pytest.MonkeyPatch, words: Sequence[str]
) -> None:
    """By name, by file and by folder."""
    monkeypatch.chdir(home)

    said = muleteer("workflow", "check", *words)

    assert said.code == 0
    assert said.out == "It fits, and can run on the engine embedded.\n"


def test_every_mistake_is_said_with_its_line(muleteer: Muleteer, folder: Path) -> None:
    """In words for people, and as JSON."""
    text = DOCUMENT.replace("inputs: [make]", "inputs: [mak]").replace("{run:08d}-", "{rum}-")
    (folder / "workflow.yaml").write_text(text)
    file = folder / "workflow.yaml"

    said, json = muleteer("workflow", "check", "tiny"), muleteer("workflow", "check", "tiny", "--json").json

    assert said.code == 1
    assert f"mistake: {file}:2: launch_name: 'rn{{rum}}-TINY': there is no parameter 'rum'" in said.out
    assert f"mistake: {file}:11: steps.1.inputs.0: there is no input and no step 'mak'; did you mean make?" in said.out
    assert json["fits"] is False
    assert [each["weight"] for each in json["findings"]] == ["mistake", "mistake"]


def test_warnings_and_notes_do_not_fail_a_check(muleteer: Muleteer, folder: Path) -> None:
    """What is probably not meant is said with its line; what counts on PanDA alone is a note."""
    text = DOCUMENT.replace("inputs: [make]", "inputs: []\n    panda: {memory: 4000}")
    (folder / "workflow.yaml").write_text(text)

    said = muleteer("workflow", "check", "tiny")

    assert said.code == 0
    assert f"warning: {folder}/workflow.yaml:8: steps.0.outputs: no step reads what make makes" in said.out
    assert f"note: {folder}/workflow.yaml:12: steps.1.panda: counts on PanDA alone" in said.out


def test_notes_are_about_the_engine_that_is_checked_for(muleteer: Muleteer, folder: Path, site: str) -> None:
    """What counts on PanDA alone is no news there; what is left out there is."""
    text = DOCUMENT.replace("inputs: [make]", "inputs: [make]\n    start: open\n    panda: {memory: 4000}")
    (folder / "workflow.yaml").write_text(text + "outputs: [{dataset: 'x:y', step: make}]\n")

    def notes(*words: str) -> list[str]:
        found = muleteer("workflow", "check", "tiny", "--json", *words).json["findings"]
        return [each["message"].partition(": ")[2] for each in found if each["weight"] == "note"]

    assert [note.partition(":")[0] for note in notes()] == ["steps.1.panda", "steps.1.start"]
    whole, stepwise = notes("--site", site), notes("--site", site, "--engine", "panda-stepwise")
    assert [note.partition(",")[0][:45] for note in whole] == [
        "steps.1.start: counts on panda-stepwise alone",
        "outputs: not made on PanDA: its tasks leave d",
    ]
    assert stepwise == whole[1:]


@pytest.mark.usefixtures("folder")
def test_what_git_has_to_know_is_warned_of_before(muleteer: Muleteer, home: Path) -> None:
    """A workflow that fits and is not committed is refused only when it is launched; the check says so."""
    (home / "muleteer.toml").write_text('[launch]\nrequire_commit = "committed"\n')

    said = muleteer("workflow", "check", "tiny")

    assert said.code == 0
    assert "warning: a launch would be refused as it is: workflow tiny:" in said.out


@pytest.mark.usefixtures("folder")
def test_a_name_that_panda_refuses_is_found_before(muleteer: Muleteer, folder: Path, site: str) -> None:
    """With a site the names that PanDA would give are checked too."""
    (folder / "workflow.yaml").write_text(DOCUMENT.replace("-TINY", "-" + "T" * 103))

    embedded, panda = muleteer("workflow", "check", "tiny"), muleteer("workflow", "check", "tiny", "--site", site)

    assert embedded.code == 0
    assert panda.code == 1
    assert "characters" in panda.out


def test_a_package_that_is_too_large_is_found_before(muleteer: Muleteer, home: Path, folder: Path) -> None:
    """What the settings allow is the limit; the largest file is named."""
    (home / "muleteer.toml").write_text("[engine]\nlargest_package = 1\n")
    (folder / "huge.dat").write_bytes(bytes(1_200_000))

    said = muleteer("workflow", "check", "tiny")

    assert said.code == 1
    assert "huge.dat" in said.out


@pytest.mark.usefixtures("folder")
def test_a_workflow_is_shown(muleteer: Muleteer) -> None:
    """Its parameters with what is allowed, and its steps; as JSON it is the document."""
    said, json = muleteer("workflow", "show", "tiny"), muleteer("workflow", "show", "tiny", "--json").json

    assert said.code == 0
    assert "integer" in said.out
    assert "from 1" in said.out
    assert json["workflow"]["steps"][1]["inputs"] == [{"from": "make"}]


@pytest.mark.usefixtures("folder")
def test_a_workflow_is_drawn(muleteer: Muleteer, tmp_path: Path) -> None:
    """In the terminal, as a file, and on standard output."""
    drawn = muleteer("workflow", "graph", "tiny")
    written = muleteer("workflow", "graph", "tiny", "--svg", tmp_path / "tiny.svg")
    streamed = muleteer("workflow", "graph", "tiny", "--svg", "-")

    assert "│ ./look.sh │" in drawn.out
    assert drawn.out.count("▼") == 1
    assert (written.code, written.out) == (0, "")
    assert ElementTree.fromstring((tmp_path / "tiny.svg").read_text()).tag.endswith("svg")
    assert streamed.out == (tmp_path / "tiny.svg").read_text()


@pytest.mark.usefixtures("folder")
def test_a_workflow_is_built(muleteer: Muleteer, tmp_path: Path, site: str) -> None:
    """Everything that PanDA would get lies in the directory, byte for byte the same each time, and nothing is sent."""
    words = ("workflow", "build", "tiny", "--param", "run=7", "--site", site)

    first = muleteer(*words, "--to", tmp_path / "a", "--json")
    again = muleteer(*words, "--to", tmp_path / "b")

    assert first.code == again.code == 0
    assert (first.json["name"], first.json["instance"]) == ("rn00000007-TINY", "testbed")
    assert "panda at test (testbed)" in again.out
    files = {path.relative_to(tmp_path / "a"): path for path in (tmp_path / "a").rglob("*") if path.is_file()}
    assert Path("workflow.cwl") in files
    assert all(path.read_bytes() == (tmp_path / "b" / name).read_bytes() for name, path in files.items())


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["build", "tiny", "--param", "run=0", "--to", "x"], 3, "parameter run is '0', which is below 1"),
        (["build", "tiny", "--to", "x"], 3, "parameter 'run' has no default"),
        (["build", "tiny", "--param", "run", "--to", "x"], 2, "write NAME=VALUE"),
        (["build", "tiny", "--param", "run=1", "--to", "."], 3, "is not empty"),
        (["build", "tiny", "--param", "run=1", "--did", "x", "--to", "x"], 2, "is not a DID"),
        (["build", "tiny", "--param", "run=1", "--engine", "panda", "--to", "x"], 2, "needs --site"),
        (["build", "tiny", "--param", "run=1", "--site", "none", "--to", "x"], 3, "there is no site profile"),
        (["launch", "tiny"], 3, "parameter 'run' has no default"),
        (["launch", "calorimeter", "--param", "run=1"], 3, "name that with --did"),
        (["launch", "absent"], 3, "there is no workflow 'absent'"),
        (["launch"], 2, "name a workflow"),
        (["show", "absent"], 3, "there is no workflow 'absent'"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_what_cannot_be_done_is_refused(
    muleteer: Muleteer, home: Path, monkeypatch: pytest.MonkeyPatch, words: Sequence[str], code: int, said: str
) -> None:
    """The exit code tells whose turn it is, the words what to do; nothing is written."""
    monkeypatch.chdir(home)

    answer = muleteer("workflow", *words)

    assert answer.code == code
    assert said in " ".join(answer.err.replace("│", " ").split())
    assert not (home / "x").exists()


@pytest.mark.usefixtures("folder")
def test_a_workflow_is_launched_by_hand(muleteer: Muleteer, home: Path, store: Store) -> None:
    """It is with the engine when the command ends, under who asked for it, and runs to its end."""
    said = muleteer("workflow", "launch", "tiny", "--param", "run=7")

    assert said.code == 0, said.err
    assert "`muleteer launches watch 1`" in said.out
    launch = store.launches.get(LaunchId(1))
    assert (launch.name, launch.state, launch.dispatch_id) == ("rn00000007-TINY", LaunchState.SUBMITTED, None)
    assert any(entry.who.startswith("cli:") for entry in store.journal.of("launch", 1))
    engine = Wired(home, load(home)).engine
    made = home / "launches" / launch.name / "steps" / "1-make" / "made.txt"
    deadline = time.monotonic() + 20
    reference = engine.find(launch.name, {})
    assert reference is not None
    while not engine.outputs(reference, "make"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert made.read_text() == "7\n"


@pytest.mark.usefixtures("folder")
def test_a_name_is_launched_once(muleteer: Muleteer) -> None:
    """Another launch of the same name is refused, and says which one has it."""
    muleteer("workflow", "launch", "tiny", "--param", "run=7")

    said = muleteer("workflow", "launch", "tiny", "--param", "run=7")

    assert said.code == 3
    assert "rn00000007-TINY" in said.err
    assert "launch 1" in said.err


@pytest.mark.usefixtures("folder")
def test_nothing_is_sent_or_stored_to_see_what_would_be(muleteer: Muleteer, home: Path) -> None:
    """With --no-submit there is no launch, and no store where there was none."""
    said = muleteer("workflow", "launch", "tiny", "--param", "run=7", "--no-submit")

    assert said.code == 0
    assert "look.sh" in said.out
    assert "Nothing was sent." in said.out
    assert not (home / "muleteer.db").exists()


def test_a_launch_that_was_stored_alone_can_go_on(muleteer: Muleteer, folder: Path, store: Store) -> None:
    """What could not be sent stays as it was packed, and is sent once the hindrance is gone."""
    (folder / "workflow.yaml").write_text(DOCUMENT.replace("inputs: [make]", "inputs: [make, raw]") + "")
    text = (folder / "workflow.yaml").read_text().replace("steps:\n", 'inputs: {raw: "group.sphenix:RAW"}\nsteps:\n')
    (folder / "workflow.yaml").write_text(text)
    refused = muleteer("workflow", "launch", "tiny", "--param", "run=7")
    (folder / "workflow.yaml").unlink()
    (folder / "raw.dat").write_text("raw")
    muleteer("catalog", "create", "group.sphenix:RAW", folder / "raw.dat")

    said = muleteer("workflow", "launch", "--go-on", "1")

    assert refused.code == 3
    assert "is not in the catalog" in refused.err
    assert (said.code, said.err) == (0, "")
    assert store.launches.get(LaunchId(1)).state is LaunchState.SUBMITTED


def test_a_launch_that_was_stored_for_another_dataset_is_not_taken_for_this_one(
    muleteer: Muleteer, folder: Path, store: Store
) -> None:
    """The same name with another input or another value is refused, and both ways out are said."""
    text = DOCUMENT.replace("inputs: [make]", "inputs: [make, raw]")
    (folder / "workflow.yaml").write_text(text.replace("steps:\n", 'inputs: {raw: "{scope}:{name}"}\nsteps:\n'))
    words = ("workflow", "launch", "tiny", "--param", "run=7", "--did")
    typo = muleteer(*words, "test:RWA")
    (folder / "raw.dat").write_text("raw")
    muleteer("catalog", "create", "test:RAW", folder / "raw.dat")

    said = muleteer(*words, "test:RAW")

    assert (typo.code, said.code) == (3, 3)
    for words_of in (typo.err, said.err):
        assert "`muleteer workflow launch --go-on 1`" in words_of
        assert "`muleteer launches kill 1 --reason ...`" in words_of
    assert "of other values: test:RWA, run=7" in said.err
    assert store.launches.get(LaunchId(1)).state is LaunchState.PREPARED
    assert "muleteer workflow launch --go-on 1" in muleteer("launches", "show", "1").out
    assert "`muleteer workflow launch --go-on ID`" in muleteer("launches", "list").out


@pytest.mark.usefixtures("folder")
def test_the_embedded_engine_needs_no_handshake(muleteer: Muleteer) -> None:
    """It is asked for PanDA's sake, and does no harm here."""
    said = muleteer("workflow", "launch", "--handshake")

    assert said.code == 0
    assert "needs none" in said.out


def test_a_panda_that_is_away_is_said_to_be(
    muleteer: Muleteer, home: Path, site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handshake with nobody there ends with 5, and shows no token."""
    (home / "muleteer.toml").write_text(f'[engine]\nkind = "panda"\nsite = "{site}"\n')
    monkeypatch.setenv("PANDA_AUTH_ID_TOKEN", "e30.e30.carrot")

    said = muleteer("workflow", "launch", "--handshake")

    assert said.code == 5
    assert "carrot" not in said.err + said.out
