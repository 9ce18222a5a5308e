"""Datasets are checked, and lost closings found, on the command line; on the embedded catalog."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.rucio.embedded.catalog import LocalCatalog
from orchestrator.rucio.port import FileEntry
from schemas.did import Did
from tests.unit.cli.conftest import Muleteer

SCOPE = "group.sphenix"


@pytest.fixture
def catalog(home: Path) -> LocalCatalog:
    """Three datasets of two runs, one open with a gap, in one container. Their events reach nobody."""
    found = LocalCatalog(home / "catalog.db", lambda headers, body: None)
    for name, numbers, is_closed in (
        ("CALO-00021615", (0, 1, 2), True),
        ("SEED-00021615", (0, 1), True),
        ("CALO-00021616", (0, 2), False),
    ):
        did = Did(SCOPE, name)
        found.add_dataset(did)
        found.attach(did, [file(f"{name}-{number:03d}.root") for number in numbers])
        if is_closed:
            found.close(did)
    found.add_container(Did(SCOPE, "ALL"))
    found.enclose(Did(SCOPE, "ALL"), [entry.did for entry in found.datasets(SCOPE)])
    return found


def file(name: str) -> FileEntry:
    return FileEntry(Did(SCOPE, name), f"/data/{name}", 10, "00000001")


pytestmark = pytest.mark.usefixtures("catalog")

NUMBERED = ("--numbered", r".*-(?P<run>\d{8})-(?P<n>\d+)\.root")


def test_a_complete_dataset_passes(muleteer: Muleteer) -> None:
    """Without options: there are files, and each has a copy somewhere."""
    said = muleteer("check", "dataset", f"{SCOPE}:CALO-00021615")

    assert (said.code, said.out) == (0, "1 dataset checked: all as it should be\n")


def test_each_finding_is_a_line_with_the_file(muleteer: Muleteer) -> None:
    """What is found of a file is headed by it; that there is none, by the dataset."""
    said = muleteer("check", "dataset", f"{SCOPE}:CALO-*", f"{SCOPE}:NONE", "--closed", *NUMBERED)

    assert said.code == 1
    assert said.out.splitlines() == [
        f"{SCOPE}:CALO-00021616: it is open (closed)",
        f"{SCOPE}:CALO-00021616: number 1 is missing, run 00021616 (numbered)",
        f"{SCOPE}:NONE: the catalog has no such dataset: never made, or erased (exists)",
        "3 datasets checked: 3 found wrong",
    ]


def test_findings_as_json(muleteer: Muleteer) -> None:
    said = muleteer("check", "dataset", f"{SCOPE}:CALO-00021616", "--closed", "--files", "2", "--json")

    assert (said.code, said.json) == (
        1,
        {
            "findings": [{"check": "closed", "did": f"{SCOPE}:CALO-00021616", "file": None, "text": "it is open"}],
            "checked": 1,
            "found": 1,
            "complete": True,
        },
    )
    assert muleteer("check", "dataset", f"{SCOPE}:CALO-00021615", "--json").json == {
        "findings": [],
        "checked": 1,
        "found": 0,
        "complete": True,
    }


def test_no_files_is_something_to_ask_for(muleteer: Muleteer) -> None:
    assert "it has 3 files, not 0" in muleteer("check", "dataset", f"{SCOPE}:CALO-00021615", "--files", "0").out


def test_json_is_one_value_also_when_something_else_goes_wrong(muleteer: Muleteer) -> None:
    """Nothing if nothing was found; else it says that it is not complete."""
    nothing = muleteer("check", "dataset", f"{SCOPE}:X-*", "--json")
    half = muleteer("check", "dataset", f"{SCOPE}:CALO-00021616", f"{SCOPE}:X-*", "--closed", "--json")

    assert (nothing.code, nothing.out) == (4, "")
    assert (half.code, half.json["found"], half.json["complete"]) == (4, 1, False)


def test_of_nothing_nothing_is_true(muleteer: Muleteer, catalog: LocalCatalog) -> None:
    """An empty dataset has no files with copies, and an empty container no closed datasets."""
    catalog.add_dataset(Did(SCOPE, "EMPTY"))
    catalog.add_container(Did(SCOPE, "BARE"))

    assert "there is no file in it" in muleteer("check", "dataset", f"{SCOPE}:EMPTY", "--replicas", "LOCAL").out
    assert "there is no dataset in it" in muleteer("check", "collection", f"{SCOPE}:BARE", "--closed").out
    assert muleteer("check", "dataset", "-", given="\n").code == 4


def test_datasets_are_read_from_standard_input(muleteer: Muleteer) -> None:
    said = muleteer("check", "dataset", "-", given=f"{SCOPE}:CALO-00021615\n\n{SCOPE}:SEED-00021615\n")

    assert said.out == "2 datasets checked: all as it should be\n"


def test_a_collection_is_checked_with_all_that_is_in_it(muleteer: Muleteer) -> None:
    said = muleteer("check", "collection", f"{SCOPE}:ALL", "--closed", "--member", "SEED-*", "--member", "TRKR-*")

    assert said.code == 1
    assert said.out.splitlines() == [
        f"{SCOPE}:ALL: no dataset of it fits TRKR-* (members)",
        f"{SCOPE}:CALO-00021616: it is open (closed)",
        "1 collection checked: 2 found wrong",
    ]


def test_two_collections_are_compared_run_by_run(muleteer: Muleteer, catalog: LocalCatalog) -> None:
    other = Did(SCOPE, "SEEDS")
    catalog.add_container(other)
    catalog.enclose(other, [Did(SCOPE, "SEED-00021615")])

    said = muleteer("check", "collection", f"{SCOPE}:ALL", "--same-runs-as", str(other))

    assert said.out.splitlines()[0] == f"{SCOPE}:ALL: run 21616 is here and not in {other} (same_runs_as)"


def test_a_run_is_checked_with_the_datasets_that_it_should_have(muleteer: Muleteer) -> None:
    said = muleteer(
        *("check", "run", "21615", "21616", "--scope", SCOPE, "--filled"),
        *("--member", "CALO-{run:08d}", "--member", "SEED-{run:08d}"),
    )

    assert said.code == 1
    assert said.out.splitlines() == [
        f"{SCOPE}:*00021616*: no dataset of run 21616 fits SEED-00021616 (members)",
        "2 runs checked: 1 found wrong",
    ]
    assert "the catalog has no dataset of run 7" in muleteer("check", "run", "7", "--scope", SCOPE).out


def test_checks_are_read_from_a_file(muleteer: Muleteer, home: Path) -> None:
    (home / "checks.yaml").write_text("closed: true\nmin_bytes: 11\n")

    said = muleteer("check", "dataset", f"{SCOPE}:SEED-00021615", "--checks", home / "checks.yaml")

    assert said.out.splitlines()[0] == (f"{SCOPE}:SEED-00021615-000.root: it has 10 bytes, fewer than 11 (min_bytes)")


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["dataset", "NONSENSE"], 2, "is not a DID"),
        (["dataset", f"{SCOPE}:X-*"], 4, "no dataset fits"),
        (["dataset", f"{SCOPE}:A", "--names", "("], 2, "names: pattern"),
        (["dataset", f"{SCOPE}:A", "--numbered", r"\d+"], 2, "has no group n"),
        (["dataset", f"{SCOPE}:A", "--first", "1"], 2, "go with --numbered"),
        (["dataset", f"{SCOPE}:A", "--has", "sha1"], 2, "checksums"),
        (["collection", f"{SCOPE}:ALL", "--same-runs-as", "ALL"], 2, "is not a DID"),
        (["run", "7", "--scope", SCOPE, "--name", "{x}"], 2, "where the run stands"),
    ],
)
def test_what_cannot_be_checked_is_said(muleteer: Muleteer, words: list[str], code: int, text: str) -> None:
    said = muleteer("check", *words)

    assert said.code == code
    assert text in " ".join(said.err.split())


def test_a_file_of_checks_with_a_mistake_is_refused_with_its_line(muleteer: Muleteer, home: Path) -> None:
    (home / "checks.yaml").write_text("closed: true\nsized: 4\n")

    said = muleteer("check", "dataset", f"{SCOPE}:A", "--checks", home / "checks.yaml")

    assert said.code == 3
    assert "checks.yaml:2" in said.err


# Lost closings.


def test_the_first_look_says_that_it_begins_there(muleteer: Muleteer) -> None:
    said = muleteer("reconcile", "once")

    assert said.code == 0
    assert said.out.startswith("This was the first look: nothing was compared, and it begins at ")
    assert "--since looks further back." in said.out


def test_lost_closings_are_found_and_stored(muleteer: Muleteer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Named, with how late; once; and listed afterwards."""
    monkeypatch.setenv("MULETEER_RECONCILE__PATIENCE", "0s")
    since = f"{datetime.now(UTC) - timedelta(hours=1):%Y-%m-%dT%H:%M:%S}"

    tried = muleteer("reconcile", "once", "--since", since, "--dry-run", "--json").json
    said = muleteer("reconcile", "once", "--since", since)
    again = muleteer("reconcile", "once")

    assert (tried["missing"], tried["id"], tried["dry_run"]) == (2, None, True)
    lines = said.out.splitlines()
    assert [line.split()[0] for line in lines[:2]] == [f"{SCOPE}:CALO-00021615", f"{SCOPE}:SEED-00021615"]
    assert lines[2].endswith("2 were missing, and are stored now")
    assert again.out.splitlines()[-1].endswith("none is missing")
    found = muleteer("messages", "list", "--json").json
    assert {(each["name"], each["origin"]) for each in found} == {
        ("CALO-00021615", "reconcile"),
        ("SEED-00021615", "reconcile"),
    }
    assert [each["missing"] for each in muleteer("reconcile", "list", "--json").json] == [0, 2]


def test_a_scope_that_there_is_not_is_said(muleteer: Muleteer) -> None:
    """It must not look like one of which nothing is missing; the exit code is that of a thing not found."""
    typo = muleteer("reconcile", "once", "--scope", f"{SCOPE}s", "--json")

    assert (typo.code, typo.out) == (4, "")
    assert f"has no scope {SCOPE}s; did you mean {SCOPE}?" in typo.err


def test_a_pattern_of_scopes_that_fits_none_is_said(muleteer: Muleteer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other patterns count all the same. JSON stays one value."""
    monkeypatch.setenv("MULETEER_RECONCILE__PATIENCE", "0s")
    since = f"{datetime.now(UTC) - timedelta(hours=1):%Y-%m-%dT%H:%M:%S}"

    none = muleteer("reconcile", "once", "--since", since, "--scope", "nowhere.*")
    both = muleteer("reconcile", "once", "--since", since, "--scope", "nowhere.*", "--scope", f"{SCOPE}*", "--json")

    assert (none.code, both.code) == (0, 0)
    for said in (none, both):
        assert "fits nowhere.*: nothing is looked at for it" in said.err
    assert none.out.startswith("Nothing was closed in nowhere.* from ")
    assert both.json["closings"] == 2
