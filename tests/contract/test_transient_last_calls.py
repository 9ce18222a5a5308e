"""What comes up after a dataset that leaves was looked at, and before the next call that cannot be undone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.store.store import Store
from orchestrator.transient import settling
from schemas.did import Did
from tests.contract.transients import DISK, SCOPE, World, dst, hits, worlds
from tests.services.catalog import Faulty, When

BOX = Did(SCOPE, "ALL")
OTHER = Did(SCOPE, "OTHER")


@pytest.fixture(params=["fake", "embedded"])
def world(request: pytest.FixtureRequest, tmp_path: Path, store: Store) -> World:
    return worlds(tmp_path, store, request.param)


@pytest.fixture
def fakes(tmp_path: Path, store: Store) -> World:
    return worlds(tmp_path, store, "fake")


def due(world: World) -> Did:
    did = world.ripe()
    world.release()
    world.move(hours=25)
    return did


def before(world: World, call: str, change: Callable[[World], object], number: int = 1) -> Faulty:
    """The world changes while a call is on its way."""
    catalog = Faulty(world.catalog)

    def hook(name: str, _: int) -> None:
        if (name, catalog.calls[name]) == (call, number):
            change(world)

    catalog.hook = hook
    return catalog


def rule(world: World) -> None:
    world.rule(hits())


def rule_above(world: World) -> None:
    world.rule(BOX)


def grow(world: World) -> None:
    world.catalog.reopen(hits())
    world.catalog.attach(hits(), [world.file("HITS-00000001-new.root")], DISK)
    world.catalog.close(hits())


def reopen(world: World) -> None:
    world.catalog.reopen(hits())


@pytest.mark.parametrize(
    ("change", "said"),
    [(rule, "is another account's"), (grow, "it was opened and closed again"), (reopen, "it was opened again")],
)
def test_what_would_go_with_the_dataset_keeps_it(world: World, change: Callable[[World], None], said: str) -> None:
    """Somebody's rule, or a file that was put into it, after the last look: nothing is erased around them."""
    did = due(world)
    catalog = before(world, "set_tombstones", change)

    world.desk(catalog).step()

    assert catalog.calls["set_lifetime"] == 0
    assert said in (world.known(did).reason or "")
    files = [file.did for file in world.catalog.files(did)]
    for _ in range(3):
        world.sweep()
        world.move(minutes=11)
    assert world.there(did)
    assert [file.did for file in world.catalog.files(did)] == files


def test_a_rule_that_comes_between_two_pages_stops_the_rest(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copies that the catalog does not mark any more say that somebody holds them."""
    monkeypatch.setattr(settling, "AT_ONCE", 1)
    did = due(world)
    catalog = before(world, "set_tombstones", rule, 2)

    world.desk(catalog).step()

    assert (catalog.calls["set_tombstones"], catalog.calls["set_lifetime"]) == (2, 0)
    for _ in range(3):
        world.sweep()
        world.move(minutes=11)
    assert len(world.on_disk("*/HITS*")) == 3
    assert world.there(did)


def test_a_dataset_stays_in_a_container_that_somebody_holds(world: World) -> None:
    """Out of it the rule would not hold it any more."""
    world.catalog.add_container(BOX)
    did = due(world)
    world.catalog.enclose(BOX, [did])
    catalog = before(world, "set_tombstones", rule_above)

    world.desk(catalog).step()

    assert (catalog.calls["detach"], catalog.calls["set_lifetime"]) == (0, 0)
    for _ in range(3):
        world.sweep()
        world.move(minutes=11)
    assert len(world.on_disk("*/HITS*")) == 3


def test_a_dataset_stays_in_a_container_that_somebody_holds_later(world: World) -> None:
    """After its copies were marked: the rule has taken the marks off."""
    world.catalog.add_container(BOX)
    did = due(world)
    world.catalog.enclose(BOX, [did])
    catalog = Faulty(world.catalog)

    def hook(name: str, _: int) -> None:
        if name == "metadata" and catalog.calls["set_tombstones"] and not world.catalog.rules([BOX])[BOX]:
            rule_above(world)

    catalog.hook = hook
    world.desk(catalog).step()

    assert (catalog.calls["detach"], catalog.calls["set_lifetime"]) == (0, 0)
    world.sweep()
    assert len(world.on_disk("*/HITS*")) == 3


def erase(world: World) -> None:
    files = [file.did for file in world.catalog.files(dst())]
    world.catalog.erase(dst())
    world.catalog.set_tombstones(files, DISK)


def open_successor(world: World) -> None:
    world.catalog.reopen(dst())


def name_used_again(world: World) -> None:
    world.catalog.erase(dst())
    world.move(seconds=1)
    world.catalog.add_dataset(dst())
    world.catalog.close(dst())


@pytest.mark.parametrize("change", [erase, open_successor, name_used_again])
def test_without_its_successor_no_more_pages_are_marked(
    world: World, monkeypatch: pytest.MonkeyPatch, change: Callable[[World], None]
) -> None:
    """It is asked for before each: what is marked until then is held."""
    monkeypatch.setattr(settling, "AT_ONCE", 1)
    did = due(world)
    catalog = before(world, "set_tombstones", change)

    world.desk(catalog).step()

    assert (catalog.calls["set_tombstones"], catalog.calls["set_lifetime"]) == (1, 0)
    assert f"its successor {dst()} " in (world.known(did).reason or "")
    assert world.there(did)


def test_the_calls_of_one_look_are_bounded(world: World) -> None:
    """What is asked again before each call does not grow with the number of files, up to a thousand."""

    def calls(files: int, run: int) -> int:
        did = world.pair(run, files)
        world.apply()
        world.move(days=8)
        world.release()
        world.move(hours=25)
        catalog = Faulty(world.catalog)
        world.desk(catalog).step()
        world.until_gone(did)
        return catalog.total

    assert calls(3, 1) == calls(300, 2) < 120


# A file that somebody takes out.


def take_out(world: World) -> None:
    world.catalog.detach(hits(), [world.catalog.files(hits())[0].did])


def test_a_file_that_somebody_takes_out_stays(world: World) -> None:
    """It is in nothing, and nobody has put it out for nothing: it may be on its way into something else."""
    did = due(world)
    world.desk(Faulty(world.catalog, {("set_tombstones", 1): When.BEFORE})).step()
    take_out(world)
    world.move(minutes=11)

    gone = world.until_gone(did)

    assert (gone.freed_files, world.on_disk("*/HITS*")) == (2, ["disk/HITS-00000001-0.root"])
    assert "1 stay" in (gone.reason or "")
    fates = [copy.fate for _, copy in world.store.transients.copies(gone.id)]
    assert fates.count("stays: somebody has taken the file out of the dataset") == 1


def test_a_file_that_somebody_takes_out_in_the_instant_of_its_mark_stays(world: World) -> None:
    """It is asked once more right after that."""
    did = due(world)
    world.desk(before(world, "set_tombstones", take_out)).step()
    world.sweep()

    gone = world.until_gone(did)

    assert (gone.freed_files, world.on_disk("*/HITS*")) == (2, ["disk/HITS-00000001-0.root"])


def test_a_file_that_somebody_takes_out_later_stays(world: World) -> None:
    """If it is looked at before the catalog deletes it."""
    did = due(world)
    world.desk(before(world, "set_lifetime", take_out)).step()
    world.move(minutes=1)

    gone = world.until_gone(did)

    assert (gone.freed_files, world.on_disk("*/HITS*")) == (2, ["disk/HITS-00000001-0.root"])


def test_what_the_catalog_erases_while_it_is_looked_at_was_not_taken_out(world: World) -> None:
    """Then its files are in nothing as well, and leave."""
    did = due(world)
    world.desk().step()
    world.move(minutes=11)
    catalog = before(world, "parents", lambda world: world.catalog.erase(did))

    world.desk(catalog).step()

    gone = world.until_gone(did)
    assert (gone.freed_files, world.on_disk("*/HITS*")) == (3, [])


# What the settings and the disks say.


def test_a_scope_that_becomes_one_of_raw_data_stops_what_leaves(world: World) -> None:
    """As any other setting that keeps it."""
    did = due(world)
    world.desk(Faulty(world.catalog, {("set_tombstones", 1): When.BEFORE})).step()
    world.told.raw_scopes = (SCOPE,)
    world.move(minutes=11)
    catalog = Faulty(world.catalog)

    world.desk(catalog).step()

    assert catalog.calls["set_tombstones"] == 0
    assert "is a scope of raw data" in (world.known(did).reason or "")


def test_what_lay_on_a_disk_that_is_not_there_any_more_is_not_gone(fakes: World) -> None:
    """Whatever the catalog says: nobody can see it. It has gone when the directory is there again, and empty."""
    did = due(fakes)
    fakes.desk().step()
    away = fakes.folder / "away"
    (fakes.folder / "disk").rename(away)
    fakes.catalog.delete = lambda pfn: None
    fakes.sweep()
    fakes.move(minutes=11)

    fakes.desk().step()

    assert fakes.known(did).state == "leaving"
    assert "is not there: if its disk is mounted, make it" in (fakes.known(did).reason or "")
    (fakes.folder / "disk").mkdir()
    assert fakes.until_gone(did).freed_files == 3
