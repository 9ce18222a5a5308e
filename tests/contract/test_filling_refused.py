"""Datasets are filled: which files are refused, and what becomes of the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.core.registering import Mistold
from orchestrator.register.reading import Reader
from orchestrator.rucio.port import CatalogError, DatasetState
from orchestrator.store.port import NotAllowed
from orchestrator.store.registration_rows import Listing, Wanted
from orchestrator.store.store import Store
from schemas.did import Did
from schemas.registration import FileState
from tests.contract.filling import (
    DONE,
    FAILED,
    OPEN,
    SCOPE,
    World,
    at,
    demand_agreement,
    filler,
    other,
    planned,
    reasons,
)
from tests.services.catalog import FakeCatalog, Faulty


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
