"""Datasets are filled: once and completely, and doing it again changes nothing."""

from __future__ import annotations

from datetime import timedelta

from orchestrator.rucio.port import DatasetState
from orchestrator.store.registration_rows import Wanted
from schemas.did import Did
from schemas.registration import FileState
from tests.contract.filling import DONE, SCOPE, WAY, World, demand_agreement, dump


def test_a_dataset_is_made_filled_and_closed_with_one_call(world: World) -> None:
    """With its metadata, in its containers, every file with size, both sums and a GUID; our record says the same."""
    filled = world.fill(wanted=world.wanted(lifetime=timedelta(days=2)))

    assert (filled.registration.state, filled.stopped, filled.hopeless) == (DONE, False, False)
    assert filled.registration.reason == f"{world.dataset} closed with 5 files"
    assert filled.registration.files == {FileState.ATTACHED: 5}
    entry = world.catalog.dataset(world.dataset)
    assert (entry.state, entry.length, entry.bytes) == (DatasetState.CLOSED, 5, 5 * len("content of a.root"))
    known = world.catalog.metadata([world.dataset])[world.dataset]
    assert known["run_number"] == 21615 and known["expired_at"] == entry.created_at + timedelta(days=2)
    assert [world.catalog.children(did) for did in WAY] == [[WAY[1]], [world.dataset]]
    for file in world.catalog.files(world.dataset):
        assert None not in (file.adler32, file.md5, file.guid)
    demand_agreement(world.store, world.catalog, world.dataset)


def test_one_that_is_not_to_be_closed_stays_open(world: World) -> None:
    """More can be registered later; what others put in meanwhile is none of ours."""
    world.fill(world.files("ab"), world.wanted(closes=False))
    filled = world.fill(world.files("cd"), world.wanted(closes=False))

    assert filled.registration.state is DONE
    assert world.content() == ["a.root", "b.root", "c.root", "d.root"]
    assert world.catalog.dataset(world.dataset).state is DatasetState.OPEN


def test_runs_of_a_production_lie_beneath_one_collection(world: World) -> None:
    """Containers that are there are used; a dataset can lie in several."""
    world.fill(world.files("ab"))
    second = Did(SCOPE, "CALOR-00021616")
    filled = world.fill(world.files("cd"), Wanted(second, containers=("ALL/CALOR", f"{SCOPE}:GOOD")))

    assert filled.registration.state is DONE
    assert world.catalog.children(WAY[1]) == [world.dataset, second]
    assert world.catalog.children(Did(SCOPE, "GOOD")) == [second]


def test_files_can_be_registered_without_a_dataset(world: World) -> None:
    """Nothing is attached; the catalog has them."""
    filled = world.fill(wanted=Wanted(None))

    assert (filled.registration.state, filled.registration.reason) == (DONE, "registered with 5 files")
    dids = [Did(SCOPE, f"{letter}.root") for letter in "abcde"]
    assert set(world.catalog.registered(dids)) == set(dids)


def test_doing_it_again_changes_nothing_and_reads_nothing(world: World) -> None:
    """The dataset is closed and as it should be: that is well, and no file is read to see it."""
    world.fill()
    before, world.read = dump(world.catalog, [world.dataset], WAY), []

    again = world.fill()

    assert again.registration.state is DONE
    assert (world.read, dump(world.catalog, [world.dataset], WAY)) == ([], before)


def test_an_empty_list_makes_an_empty_dataset(world: World) -> None:
    """Whoever asks for it gets it."""
    assert world.fill([]).registration.reason == f"{world.dataset} closed with 0 files"
