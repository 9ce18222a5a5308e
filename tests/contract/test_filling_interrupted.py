"""Datasets are filled: stopped and resumed, and while others change the same."""

from __future__ import annotations

import threading

import pytest

from orchestrator.register.filler import Filled
from orchestrator.rucio.port import CatalogUnavailable, DatasetState
from schemas.registration import FileState
from tests.contract.filling import (
    DONE,
    FAILED,
    OPEN,
    SCOPE,
    WAY,
    Killed,
    World,
    at,
    demand_agreement,
    filler,
    other,
    planned,
    reasons,
)
from tests.services.catalog import FakeCatalog, Faulty, When
from tests.unit.making import NOW


def test_what_is_summed_is_not_read_again_unless_it_has_changed(world: World) -> None:
    """After a kill while the catalog was spoken to: all sums are known; one file was written to since."""
    with pytest.raises(Killed):
        world.fill(catalog=Faulty(world.catalog, {("attach", 1): When.BEFORE}, error=Killed))
    assert world.read == [f"{letter}.root" for letter in "abcde"]
    world.read = []
    world.file("c.root", "changed")

    world.fill()

    assert world.read == ["c.root"]
    assert {file.did.name: file.bytes for file in world.catalog.files(world.dataset)}["c.root"] == 7


def test_a_guid_is_in_our_record_before_the_catalog_sees_the_file(world: World) -> None:
    """And is the same after any number of calls."""
    with pytest.raises(Killed):
        world.fill(catalog=Faulty(world.catalog, {("attach", 1): When.BEFORE}, error=Killed))
    (registration,) = world.store.registrations.list()
    kept = {file.did: file.guid for file in world.store.registrations.files(registration.id)}

    world.fill()

    assert {str(file.did): file.guid for file in world.catalog.files(world.dataset)} == kept


def test_our_record_says_attached_only_once_the_catalog_has_it(world: World) -> None:
    """Between the two calls, whatever happens, it says less than the catalog, never more."""
    seen: list[tuple[int, int]] = []

    def look(name: str, number: int) -> None:
        (registration,) = world.store.registrations.list()
        there = world.catalog.dataset(world.dataset).length if name not in ("demand_rse", "add_dataset") else 0
        seen.append((registration.files.get(FileState.ATTACHED, 0), there))

    world.fill(catalog=Faulty(world.catalog, hook=look))

    assert all(ours <= theirs for ours, theirs in seen) and seen[-1] == (5, 5)


def test_files_that_were_detached_meanwhile_are_attached_again(world: World) -> None:
    """Our record is brought up by looking."""
    with pytest.raises(Killed):
        world.fill(catalog=Faulty(world.catalog, {("close", 1): When.BEFORE}, error=Killed))
    fresh = FakeCatalog()  # as if the dataset had been erased, and all of it forgotten

    filled = world.fill(catalog=fresh)

    assert filled.registration.state is DONE
    assert len(fresh.files(world.dataset)) == 5


def test_it_stops_when_it_is_told_to(world: World) -> None:
    """What was done stands; the next call goes on."""
    calls = iter([False, False, False, False, True])

    filled = world.fill(stopping=lambda: next(calls, True))

    assert (filled.stopped, filled.registration.state) == (True, OPEN)
    assert world.fill().registration.state is DONE


def test_it_says_how_far_it_is(world: World) -> None:
    """What is being done, of how many files it is done, and how many there are."""
    told: list[tuple[str, int, int]] = []

    world.fill(tell=lambda *news: told.append(news))

    assert [news for news in told if news[0] == "attached"] == [("attached", done, 5) for done in (2, 4, 5)]
    assert {what for what, _, _ in told} == {"listed", "summed", "attached"}


def test_a_registration_goes_on_by_its_number(world: World) -> None:
    """Without the list; what was refused is tried again, but for what policy refuses."""
    bad = planned("x.partial", world.folder / "x.partial", state=FileState.REFUSED, reason="partial")
    other(world, "b.root", "something else")
    first = world.fill([*world.files(), bad])
    world.file("b.root", "something else")

    resumed = filler(world).resume(first.registration.id, who="cli:me", why="mended")

    assert resumed.registration.state is FAILED
    assert reasons(resumed, world) == {"x.partial": "partial"}
    assert len(world.content()) == 5


def test_two_who_fill_the_same_dataset_at_once_do_it_once(world: World) -> None:
    """Whoever is later finds it done."""
    files, ends = world.files("abcdefghij"), list[Filled]()
    threads = [threading.Thread(target=lambda: ends.append(world.fill(list(files)))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(ends) == 3
    assert world.fill(files).registration.state is DONE
    assert world.catalog.dataset(world.dataset).length == 10
    assert isinstance(world.catalog, FakeCatalog)
    assert [event["event_type"] for event in world.catalog.events].count("close") == 1


def test_a_dataset_that_somebody_else_has_closed_meanwhile_is_well_if_all_of_it_is_there(world: World) -> None:
    """He was quicker with the same files."""
    filled = world.fill(catalog=Faulty(world.catalog, hook=at("attach", 2, world.fill)))

    assert (filled.registration.state, filled.hopeless) == (DONE, False)
    demand_agreement(world.store, world.catalog, world.dataset)


@pytest.mark.parametrize("call", ["attach", "files"])
def test_a_dataset_is_not_closed_while_somebody_else_plans_more_for_it(world: World, call: str) -> None:
    """Whoever is last closes it."""

    def plan_more() -> None:
        begun = world.store.registrations.begin(world.wanted(), who="other", why=None, now=NOW)
        world.store.registrations.plan(
            begun.registration, world.files("z"), lambda: "0f0f0f0f-0000-4000-8000-000000000001"
        )

    filled = world.fill(catalog=Faulty(world.catalog, hook=at(call, 1, plan_more)))

    assert (filled.registration.state, filled.stopped) == (OPEN, False)
    assert world.catalog.dataset(world.dataset).state is DatasetState.OPEN
    # what else is on his list, which was not read to its end, nobody knows
    assert world.fill(world.files("z")).registration.state is FAILED
    assert world.fill(world.files("abcdez")).registration.files == {FileState.ATTACHED: 6}
    assert world.catalog.dataset(world.dataset).state is DatasetState.CLOSED


def test_what_vanishes_while_it_is_filled_is_missing_in_our_record_too(world: World) -> None:
    """The dataset was erased and made again by somebody: nothing is closed, and the next call attaches all of it."""
    assert isinstance(world.catalog, FakeCatalog)
    catalog = world.catalog

    def make_anew() -> None:
        catalog.erase(world.dataset)
        catalog.add_dataset(world.dataset)

    filled = world.fill(catalog=Faulty(catalog, hook=at("files", 1, make_anew)))

    assert filled.registration.state is FAILED
    assert f"5 files are not in it: {SCOPE}:a.root" in str(filled.registration.reason)
    assert filled.registration.files == {FileState.SUMMED: 5}
    assert world.fill().registration.state is DONE


def test_a_dataset_that_is_closed_already_can_still_be_put_into_containers(world: World) -> None:
    """If it is what was asked for."""
    world.fill(wanted=world.wanted(containers=()))

    filled = world.fill()

    assert filled.registration.state is DONE
    assert world.catalog.children(WAY[1]) == [world.dataset]


def test_a_catalog_that_is_away_leaves_the_registration_open(world: World) -> None:
    """The caller tries again later."""
    with pytest.raises(CatalogUnavailable):
        world.fill(catalog=Faulty(world.catalog, {("attach", 2): When.MIDWAY}))

    (registration,) = world.store.registrations.list()
    assert registration.state is OPEN
