"""Datasets are filled: what the catalog has already stays as it is, and is compared."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from orchestrator.rucio.port import DatasetState
from schemas.registration import FileState
from tests.contract.filling import DONE, FAILED, SCOPE, WAY, World, demand_agreement, dump, other, planned, reasons


def test_a_file_that_is_registered_already_keeps_its_guid(world: World) -> None:
    """The catalog had it first, and our record says what it has."""
    entry = other(world, "b.root", "content of b.root")

    world.fill()

    guids = {file.did.name: file.guid for file in world.catalog.files(world.dataset)}
    assert guids["b.root"] == entry.guid
    demand_agreement(world.store, world.catalog, world.dataset)


def test_files_that_were_registered_without_a_guid_are_told(world: World) -> None:
    """It cannot be mended from here, and PanDA will pass them over."""
    other(world, "b.root", "content of b.root", guid=None)

    filled = world.fill()

    assert "; 1 of them were there before without a GUID" in str(filled.registration.reason)
    demand_agreement(world.store, world.catalog, world.dataset)


def test_a_dataset_with_something_foreign_in_it_is_not_closed(world: World) -> None:
    """It would not be what was asked for; the error names it."""
    foreign = other(world, "z.root", "z")
    world.catalog.add_dataset(world.dataset)
    world.catalog.attach(world.dataset, [foreign])

    filled = world.fill()

    assert filled.registration.state is FAILED
    assert filled.registration.reason == f"1 file is in it that nobody asked for: {SCOPE}:z.root"
    assert world.catalog.dataset(world.dataset).state is DatasetState.OPEN


def test_a_closed_dataset_that_is_another_is_an_error_that_says_how(world: World) -> None:
    """Before anything is read; nothing is changed, and trying again does not help."""
    world.fill(world.files("abc"))
    before = dump(world.catalog, [world.dataset], WAY)
    world.read = []

    filled = world.fill(world.files("abd"))

    assert (filled.registration.state, filled.hopeless, world.read) == (FAILED, True, [])
    said = str(filled.registration.reason)
    assert f"1 file is not in it: {SCOPE}:d.root" in said and f"nobody asked for: {SCOPE}:c.root" in said
    assert dump(world.catalog, [world.dataset], WAY) == before


def test_a_closed_dataset_with_other_contents_of_the_same_names_is_found(world: World) -> None:
    """Names are not enough."""
    world.fill(world.files("ab"))
    world.file("b.root", "content of B.root")

    filled = world.fill(world.files("ab"))

    assert filled.hopeless and "1 file is not the same: " in str(filled.registration.reason)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rse": "NOWHERE"}, "no RSE"),
        ({"containers": ("A//B",)}, "no way of containers"),
        ({"metadata": {"name": 1}}, ""),
    ],
)
def test_what_the_catalog_will_not_do_at_all_is_a_failure_that_says_so(
    world: World, changes: dict[str, Any], said: str
) -> None:
    """No file is refused for it: mended, the same call does it."""
    filled = world.fill(wanted=world.wanted(**changes))

    assert (filled.registration.state, filled.hopeless) == (FAILED, True)
    assert said in str(filled.registration.reason) and FileState.REFUSED not in filled.registration.files
    mended = world.wanted(**({"rse": "NOWHERE"} if "rse" in changes else {}))
    if "rse" not in changes:
        assert world.fill(wanted=mended).registration.id == filled.registration.id
        assert world.catalog.dataset(world.dataset).state is DatasetState.CLOSED


def test_metadata_that_a_dataset_lacks_is_set(world: World) -> None:
    """Somebody made it before, and left it open. Its lifetime stays, and that is said."""
    world.catalog.add_dataset(world.dataset, {"owner": "me"})

    filled = world.fill(wanted=world.wanted(lifetime=timedelta(days=2)))

    known = world.catalog.metadata([world.dataset])[world.dataset]
    assert (known["run_number"], known["owner"], known["expired_at"]) == (21615, "me", None)
    assert "it was there before, and keeps its lifetime, which is for ever" in str(filled.registration.reason)


def test_metadata_that_a_dataset_has_is_never_changed(world: World) -> None:
    """The error names both, and nothing is set; the same, mended, does it."""
    world.catalog.add_dataset(world.dataset, {"run_number": 1})

    filled = world.fill(wanted=world.wanted(metadata={"owner": "me", "run_number": 21615}))

    assert (filled.registration.state, filled.hopeless) == (FAILED, True)
    assert f"{world.dataset} is there already, with run_number 1, and not 21615" in str(filled.registration.reason)
    known = world.catalog.metadata([world.dataset])[world.dataset]
    assert known["run_number"] == 1 and "owner" not in known
    assert world.fill(wanted=world.wanted(metadata={"run_number": "0001"})).registration.state is DONE


def test_another_file_of_a_name_that_is_attached_is_found(world: World) -> None:
    """A second list that means another file is not taken for the first."""
    other(world, "b.root", "something else")
    world.fill()
    elsewhere = world.folder / "again"
    elsewhere.mkdir()
    files = [planned(f"{letter}.root", elsewhere / f"{letter}.root") for letter in "ac"]
    (elsewhere / "a.root").write_text("content of a.root")
    (elsewhere / "c.root").write_text("content of C.root")

    filled = world.fill(files)

    assert list(reasons(filled, world)) == ["b.root", "c.root"]
    assert filled.registration.files == {FileState.ATTACHED: 3, FileState.REFUSED: 2}
