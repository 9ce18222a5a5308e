"""Datasets are filled: once, completely, and however often it is interrupted."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.registering import Mistold
from orchestrator.register.filler import Filled, Filler
from orchestrator.register.foreseeing import Foreseen, Foresight, What
from orchestrator.register.reading import Reader
from orchestrator.register.summing import Summing
from orchestrator.rucio.embedded.catalog import LocalCatalog
from orchestrator.rucio.port import Catalog, CatalogError, CatalogUnavailable, DatasetState, FileEntry
from orchestrator.store.port import NotAllowed
from orchestrator.store.registration_rows import Listing, Wanted
from orchestrator.store.store import Store
from schemas.did import Did
from schemas.registration import FileState, RegisteredFile, RegistrationState
from tests.contract.filling import SCOPE, Counting, Dying, Killed, World, demand_agreement, dump, planned
from tests.services.catalog import FakeCatalog, Faulty, When
from tests.unit.making import NOW

WAY = [Did(SCOPE, "ALL"), Did(SCOPE, "CALOR")]

OPEN, DONE, FAILED = RegistrationState.OPEN, RegistrationState.DONE, RegistrationState.FAILED


@pytest.fixture
def world(tmp_path: Path, store: Store) -> World:
    """With a catalog in memory, which has nothing in it."""
    folder = tmp_path / "data"
    folder.mkdir()
    return World(folder, store, FakeCatalog())


def other(world: World, name: str, content: str, **changes: Any) -> FileEntry:
    """A file that is in the catalog already."""
    path = world.folder / "elsewhere"
    path.write_text(content)
    sums = Reader().sums(str(path))
    values = {"md5": sums.md5, "guid": "0f0f0f0f-0000-4000-8000-000000000000", **changes}
    entry = FileEntry(Did(SCOPE, name), str(path), sums.bytes, sums.adler32, **values)
    world.catalog.register([entry])
    return entry


def reasons(filled: Filled, world: World) -> dict[str, str | None]:
    refused = world.store.registrations.files(filled.registration.id, [FileState.REFUSED])
    return {file.did.partition(":")[2]: file.reason for file in refused}


# What comes of it.


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


# What is refused.


def test_a_file_that_differs_is_refused_and_the_others_are_done(world: World) -> None:
    """The dataset stays open; a second call tries it again, once it has been mended."""
    other(world, "b.root", "something else")

    filled = world.fill()

    assert (filled.registration.state, filled.hopeless) == (FAILED, False)
    assert "the catalog has another file of this name (bytes 14 there and 17 here" in str(reasons(filled, world))
    assert f"1 file is refused: {SCOPE}:b.root: the catalog has another" in str(filled.registration.reason)
    assert world.content() == ["a.root", "c.root", "d.root", "e.root"]
    assert world.catalog.dataset(world.dataset).state is DatasetState.OPEN
    demand_agreement(world.store, world.catalog, world.dataset)

    world.read = []
    world.file("b.root", "something else")
    again = world.fill()

    assert (again.registration.id, again.registration.state) == (filled.registration.id, DONE)
    assert world.read == ["b.root"]
    demand_agreement(world.store, world.catalog, world.dataset)


def test_every_kind_of_file_that_the_catalog_will_not_take_is_found(tmp_path: Path, store: Store) -> None:
    """A PFN outside the RSE, a name that a dataset has, a scope that is not, a file that is not: each its reason."""
    folder = tmp_path / "data"
    folder.mkdir()
    catalog = FakeCatalog(scopes=[SCOPE], rses={"BNL": f"{folder}/"})
    world = World(folder, store, catalog)
    catalog.add_dataset(Did(SCOPE, "d.root"))
    files = world.files("abcdefgh")
    files[1] = planned("b.root", folder / "b.root", pfn="/outside/b.root")
    files[4] = files[4].model_copy(update={"did": "user.me:e.root"})
    files[6] = planned("g.root", folder / "missing")

    filled = world.fill(files, world.wanted(rse="BNL"))

    assert filled.registration.files == {FileState.ATTACHED: 4, FileState.REFUSED: 4}
    found = {name: str(why) for name, why in reasons(filled, world).items()}
    assert "does not lie at BNL" in found["b.root"]
    assert "a file needs a name of its own" in found["d.root"]
    assert "there is no scope user.me" in found["e.root"]
    assert "missing is not there" in found["g.root"]
    assert world.content() == ["a.root", "c.root", "f.root", "h.root"]


def test_what_the_list_refuses_keeps_the_dataset_open(world: World) -> None:
    """A name that policy refuses, or a line that is no file: nobody closes a dataset that is not complete."""
    bad = planned("x.partial", world.folder / "x", state=FileState.REFUSED, reason="partial")

    filled = world.fill([*world.files(), bad, Mistold("list:7", "no PFN"), Mistold("list:8", "twice", harmless=True)])

    assert filled.registration.state is FAILED
    assert filled.registration.reason == (
        f"1 file is refused: {SCOPE}:x.partial: partial. of the list 1 could not be read: list:7: no PFN"
    )
    assert len(world.content()) == 5
    with pytest.raises(NotAllowed, match="was not read to its end"):
        filler(world).resume(filled.registration.id, who="me")
    again = world.fill(world.files())
    assert again.registration.state is FAILED
    assert (
        f"1 file is wanted still from an earlier list, and not on this one: {SCOPE}:x.partial; name those too"
        in str(again.registration.reason)
    )
    assert world.fill(world.files(), world.wanted(listing=Listing.ANEW)).registration.state is DONE


def test_another_list_does_not_close_a_dataset_without_what_was_refused(world: World) -> None:
    """Whoever asked for the file mends it, and it is closed with the files of both."""
    bad = world.file("bad.root", "")
    assert world.fill([*world.files("ab"), bad]).registration.state is FAILED

    other_list = world.fill(world.files("cd"))

    assert other_list.registration.state is FAILED
    assert "1 file is wanted still from an earlier list" in str(other_list.registration.reason)
    assert world.catalog.dataset(world.dataset).state is DatasetState.OPEN
    world.file("bad.root", "mended")
    assert world.fill([*world.files("ab"), bad]).registration.state is DONE
    assert world.content() == ["a.root", "b.root", "bad.root", "c.root", "d.root"]


def test_a_list_that_replaces_another_closes_only_what_is_on_it(world: World) -> None:
    """What an earlier list brought into the dataset, and it does not name, is foreign then."""
    world.fill([*world.files("ab"), world.file("bad.root", "")])

    less = world.fill(world.files("a"), world.wanted(listing=Listing.ANEW))

    assert less.registration.state is FAILED
    assert less.registration.reason == f"1 file is in it that nobody asked for: {SCOPE}:b.root"
    assert world.fill(world.files("ab"), world.wanted(listing=Listing.ANEW)).registration.state is DONE


def test_files_that_are_added_close_nothing_and_let_go_of_nothing(world: World) -> None:
    """The registration that is to close the dataset stays as it was, and does it once all is in."""
    first = world.fill([*world.files("ab"), world.file("bad.root", "")]).registration
    more = Wanted(world.dataset, closes=False, listing=Listing.MORE)

    one = world.fill(world.files("c"), more).registration
    world.file("bad.root", "mended")
    two = world.fill([world.file("bad.root")], more).registration

    assert (one.id, one.state, two.id, two.state) == (first.id, FAILED, first.id, FAILED)
    assert "bad.root" in str(one.reason) and f"`muleteer register resume {first.id}` does" in str(two.reason)
    assert (two.closes, two.containers, two.metadata) == (True, first.containers, first.metadata)
    assert world.catalog.dataset(world.dataset).state is DatasetState.OPEN
    assert filler(world).resume(first.id, who="me").registration.state is DONE
    assert world.catalog.dataset(world.dataset).state is DatasetState.CLOSED
    assert world.content() == ["a.root", "b.root", "bad.root", "c.root"]


@pytest.mark.parametrize("call", ["demand_rse", "attach"])
def test_a_file_that_changes_after_it_was_summed_is_summed_again(world: World, call: str) -> None:
    """The catalog gets what is on the disk when it is attached."""
    files = world.files()

    def change() -> None:
        world.file("e.root", "quite another content, longer")

    filled = world.fill(files, catalog=Faulty(world.catalog, hook=at(call, 1, change)))

    assert filled.registration.state is DONE
    (entry,) = [each for each in world.catalog.files(world.dataset) if each.did.name == "e.root"]
    assert (entry.bytes, entry.adler32) == (29, Reader().sums(str(world.folder / "e.root")).adler32)
    demand_agreement(world.store, world.catalog, world.dataset)


def test_a_file_that_is_gone_after_it_was_summed_is_refused(world: World) -> None:
    """With the reason, and the others are attached."""
    files = world.files()
    gone = world.folder / "e.root"

    filled = world.fill(files, catalog=Faulty(world.catalog, hook=at("attach", 1, gone.unlink)))

    assert reasons(filled, world) == {"e.root": f"{gone} is not there"}
    assert world.content() == [f"{letter}.root" for letter in "abcd"]


def refusing(text: str) -> Callable[[str, int], None]:
    """A hook of a catalog that lets nobody attach."""

    def hook(name: str, _: int) -> None:
        if name == "attach":
            raise CatalogError(text)

    return hook


def test_what_is_wrong_with_all_files_alike_is_found_with_few_calls(world: World) -> None:
    """No file is refused for it."""
    catalog = Faulty(world.catalog, hook=refusing("a disk of the server is full"))

    filled = world.fill(world.files("abcdefgh"), catalog=catalog, at_once=8)

    assert (filled.registration.state, filled.hopeless) == (FAILED, True)
    assert filled.registration.files == {FileState.SUMMED: 8}
    assert filled.registration.reason == "a disk of the server is full"
    assert catalog.calls["attach"] == 3


def test_the_search_for_files_that_the_catalog_refuses_can_be_stopped(world: World) -> None:
    """Once it is told to, nothing more is asked."""
    catalog = Faulty(world.catalog, hook=refusing("no"))

    filled = world.fill(world.files("ab"), catalog=catalog, stopping=lambda: catalog.calls["attach"] > 0)

    assert (filled.stopped, filled.registration.state, catalog.calls["attach"]) == (True, OPEN, 1)


def test_an_rse_that_there_is_not_is_found_before_files_are_read(world: World) -> None:
    """And before a dataset is made."""
    filled = world.fill(wanted=world.wanted(rse="NOWHERE"))

    assert (filled.hopeless, world.read) == (True, [])
    assert world.catalog.datasets() == []


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
    assert world.fill(wanted=world.wanted(metadata={"run_number": 1})).registration.state is DONE


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


# Interrupted.


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


def at(call: str, number: int, do: Callable[[], Any]) -> Callable[[str, int], None]:
    """A hook that does something once, before the n-th call of that name."""
    calls: list[str] = []

    def hook(name: str, _: int) -> None:
        calls.append(name)
        if name == call and calls.count(call) == number:
            do()

    return hook


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


def filler(world: World) -> Filler:
    return Filler(world.store.registrations, world.catalog, Summing(Reader()).all, at_once=2)


# Every point at which it can be interrupted.


@pytest.fixture(params=["fake", "embedded"])
def catalogs(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[int], Catalog]:
    """Gives an empty catalog for each number."""
    if request.param == "fake":
        return lambda number: FakeCatalog()
    return lambda number: LocalCatalog(tmp_path / f"{number}.db", lambda headers, body: None)


def worlds(tmp_path: Path, store: Store, catalogs: Callable[[int], Catalog]) -> Iterator[World]:
    """One after the other, each with a dataset of its own; one file is in the catalog already, one is another there."""
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(1000):
        world = World(folder, store, catalogs(number), Did(SCOPE, f"CALOR-{number}"))
        other(world, "b.root", "content of b.root")
        yield world


def expected(world: World) -> tuple[Any, RegistrationState]:
    filled = world.fill()
    demand_agreement(world.store, world.catalog, world.dataset)
    return _dump(world), filled.registration.state


def _dump(world: World) -> Any:
    found = dump(world.catalog, [world.dataset], WAY)
    return {
        "dataset": found["datasets"][str(world.dataset)],
        "containers": [
            [child.replace(world.dataset.name, "") for child in each] for each in found["containers"].values()
        ],
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    ("catalogs", "error", "differs"),
    [("fake", None, False), ("fake", Killed, True), ("embedded", Killed, False)],
    indirect=["catalogs"],
)
def test_wherever_the_catalog_fails_a_second_call_ends_the_same(
    tmp_path: Path,
    store: Store,
    catalogs: Callable[[int], Catalog],
    error: type[BaseException] | None,
    differs: bool,
) -> None:
    """At every call, before it, half-way and after it: the same catalog, and our record agrees with it."""
    coming = worlds(tmp_path, store, catalogs)

    def next_world() -> World:
        world = next(coming)
        if differs:
            other(world, "d.root", "other")
        return world

    reference = next_world()
    counting = Faulty(reference.catalog)
    state = reference.fill(catalog=counting).registration.state
    wanted = _dump(reference)
    assert counting.total >= 10 and state is (FAILED if differs else DONE)

    named: dict[str, Any] = {} if error is None else {"error": error}
    for number in range(1, counting.total + 1):
        for when in When:
            world = next_world()
            with pytest.raises(CatalogUnavailable if error is None else error):
                world.fill(catalog=Faulty(world.catalog, {number: when}, **named))

            again = world.fill()

            assert (again.registration.state, _dump(world)) == (state, wanted), (number, when)
            demand_agreement(store, world.catalog, world.dataset)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("catalogs", "after"),
    [("fake", False), ("fake", True), ("embedded", True)],
    indirect=["catalogs"],
)
def test_wherever_it_is_killed_when_it_writes_a_second_call_ends_the_same(
    tmp_path: Path, store: Store, catalogs: Callable[[int], Catalog], after: bool
) -> None:
    """Before each write into our record is committed, and after it."""
    coming = worlds(tmp_path, store, catalogs)
    reference = next(coming)
    counting = Dying(store.registrations, 0, after=after)
    state = reference.fill(record=counting.as_record()).registration.state
    wanted = _dump(reference)
    assert counting.writes > 7 and state is DONE

    for number in range(1, counting.writes + 1):
        world = next(coming)
        with pytest.raises(Killed):
            world.fill(record=Dying(store.registrations, number, after=after).as_record())

        again = world.fill()

        assert (again.registration.state, _dump(world)) == (state, wanted), number
        if not (after and number == counting.writes):  # then it was done, and a second registration saw that it was
            demand_agreement(store, world.catalog, world.dataset)


def test_wherever_it_is_killed_while_it_reads_a_second_call_ends_the_same(
    tmp_path: Path, store: Store, catalogs: Callable[[int], Catalog]
) -> None:
    """At each file."""
    coming = worlds(tmp_path, store, catalogs)
    wanted, state = expected(next(coming))

    for number in range(1, 6):
        world = next(coming)
        with pytest.raises(Killed):
            world.fill(reader=Counting(dies_at=number))

        again = world.fill()

        assert (again.registration.state, _dump(world)) == (state, wanted), number
        demand_agreement(store, world.catalog, world.dataset)


# Looking ahead.


def foreseen(world: World, files: list[RegisteredFile | Mistold], wanted: Wanted | None = None) -> dict[str, Foreseen]:
    foresight = Foresight(world.store.registrations, world.catalog, Summing(Reader()).all, at_once=2)
    return {each.did.removeprefix(f"{SCOPE}:"): each for each in foresight.foresee(wanted or world.wanted(), files)}


def test_what_would_be_done_is_said_and_nothing_is_done(world: World) -> None:
    """Of containers, the dataset, and every file."""
    other(world, "b.root", "content of b.root")
    other(world, "c.root", "something else")
    bad = planned("x.partial", world.folder / "x", state=FileState.REFUSED, reason="partial")
    missing = planned("y.root", world.folder / "y.root")
    catalog = Faulty(world.catalog)

    found = foreseen(replace(world, catalog=catalog), [*world.files("abc"), bad, missing, Mistold("list:7", "no PFN")])

    assert {did: each.what for did, each in found.items()} == {
        "ALL": What.CREATE,
        "CALOR": What.CREATE,
        world.dataset.name: What.CREATE,
        "a.root": What.REGISTER,
        "b.root": What.ATTACH,
        "c.root": What.REFUSE,
        "x.partial": What.REFUSE,
        "y.root": What.REFUSE,
        "list:7": What.REFUSE,
    }
    assert "another file of this name" in str(found["c.root"].reason)
    assert set(catalog.calls) <= {"children", "dataset", "files", "registered"}
    assert world.store.registrations.list() == []


def test_of_a_dataset_that_is_done_nothing_would_be_done(world: World) -> None:
    """All of it is as it should be."""
    world.fill()

    found = foreseen(world, list(world.files()))

    assert {each.what for each in found.values()} == {What.KEEP}


def test_what_a_closed_dataset_will_not_take_is_foreseen(world: World) -> None:
    """A file that is not in it is refused, and one that nobody asked for is said."""
    world.fill(world.files("ab"))

    found = foreseen(world, list(world.files("bc")))

    assert {did: found[did].what for did in ("a.root", "b.root", "c.root")} == {
        "a.root": What.FOREIGN,
        "b.root": What.KEEP,
        "c.root": What.REFUSE,
    }
    assert "closed" in str(found["c.root"].reason)


def test_files_too_small_and_foreign_ones_and_other_metadata_are_foreseen(world: World) -> None:
    """Of a dataset that is open; what an earlier list of it brought is not foreign."""
    world.fill([*world.files("a"), world.file("e.root", "")])
    foreign = other(world, "z.root", "z")
    world.catalog.attach(world.dataset, [foreign])

    found = foreseen(world, [*world.files("b"), world.file("e.root")], world.wanted(metadata={"run_number": 2}))

    assert {did: found[did].what for did in ("b.root", "e.root", "z.root", world.dataset.name)} == {
        "b.root": What.REGISTER,
        "e.root": What.REFUSE,
        "z.root": What.FOREIGN,
        world.dataset.name: What.REFUSE,
    }
    assert "a.root" not in found and found["e.root"].reason == "it is empty"
    assert "with run_number 21615, and not 2" in str(found[world.dataset.name].reason)


def test_a_file_that_changed_after_it_was_attached_is_refused(world: World) -> None:
    """A second call finds that it is not what the catalog has, by its size or the moment of its change."""
    world.fill(wanted=world.wanted(closes=False))
    path = world.folder / "a.root"
    path.write_text("content of A.root")
    os.utime(path, ns=(1, 1))

    filled = world.fill(wanted=world.wanted(closes=False))

    assert filled.registration.state is FAILED
    assert "another file of this name (adler32" in str(filled.registration.reason)
