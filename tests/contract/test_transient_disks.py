"""What the disks say against a release: the successor lies on the files that leave, or is not there."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.rucio.port import FileEntry
from orchestrator.store.store import Store
from orchestrator.transient.releaser import Moved
from schemas.transient import Release
from tests.contract.transients import DISK, Told, World, dst, hits, worlds
from tests.services.catalog import Faulty

DOOR = "root://door.example.org:1094//data"


@pytest.fixture(params=["fake", "embedded"])
def world(request: pytest.FixtureRequest, tmp_path: Path, store: Store) -> World:
    return worlds(tmp_path, store, request.param)


@pytest.fixture
def wide(tmp_path: Path, store: Store) -> World:
    """A catalog that takes any address."""
    return worlds(tmp_path, store, "embedded")


def path(world: World, name: str) -> Path:
    return world.folder / DISK.lower() / name


def old(number: int) -> str:
    return f"{hits().name}-{number}.root"


def new(number: int) -> str:
    return f"{dst().name}-{number}.root"


def replaced(world: World, by: Callable[[Path, Path], None]) -> None:
    """The second file of the successor is made anew, of the dataset's own; its size is registered."""
    (world.folder / DISK.lower()).mkdir()
    files = [world.file(new(number)) for number in range(3)]
    there, here = path(world, old(1)), path(world, new(1))
    world.file(old(1))
    here.unlink()
    by(there, here)
    files[1] = FileEntry(files[1].did, files[1].pfn, there.stat().st_size, "0a1b2c3d")
    world.fill(hits(), [old(number) for number in range(3)])
    world.catalog.add_dataset(dst())
    world.catalog.attach(dst(), files, DISK)
    world.catalog.close(dst())
    world.apply()
    world.move(days=8)


def relative(there: Path, here: Path) -> None:
    """A link through a link to the directory."""
    (here.parent / "up").symlink_to(".")
    here.symlink_to(Path("up") / there.name)


@pytest.mark.parametrize(
    "by",
    [
        lambda there, here: here.symlink_to(there),
        lambda there, here: os.link(there, here),
        relative,
    ],
    ids=["link", "hard_link", "links"],
)
def test_a_successor_of_links_to_the_dataset_is_no_successor(world: World, by: Callable[[Path, Path], None]) -> None:
    """What is left would be nothing."""
    replaced(world, by)

    found = world.refusals(hits())

    assert set(found) == {"successor"}
    assert f"its successor lies on the same files: {new(1)} is {old(1)}" in found["successor"]


def test_a_successor_registered_with_the_same_path_is_no_successor(world: World) -> None:
    """However it is spelt."""
    world.fill(hits(), [old(number) for number in range(3)])
    same = world.file(old(1))
    files = [world.file(new(number)) for number in range(3)]
    files[1] = FileEntry(files[1].did, f"file://localhost{world.folder}/disk//./{old(1)}", same.bytes, "0a1b2c3d")
    world.catalog.add_dataset(dst())
    world.catalog.attach(dst(), files, DISK)
    world.catalog.close(dst())
    world.apply()
    world.move(days=8)

    assert "lies on the same files" in world.refusals(hits())["successor"]


def test_the_same_address_is_the_same_file_wherever_it_is(wide: World) -> None:
    """Nobody has to see it for that."""
    for did, names in ((hits(), [old(0), old(1)]), (dst(), [new(0), old(1)])):
        wide.catalog.add_dataset(did)
        numbers = enumerate(names)
        files = [
            FileEntry(did._replace(name=f"{did.name}-{number}.root"), f"root://elsewhere//{name}", 7, "0a1b2c3d")
            for number, name in numbers
        ]
        wide.catalog.attach(did, files, DISK)
        wide.catalog.close(did)
    wide.apply()
    wide.move(days=8)

    assert f"{new(1)} is {old(1)}" in wide.refusals(hits())["successor"]


def _removed(file: Path) -> None:
    file.unlink()


def _cut(file: Path) -> None:
    file.write_text("cut")


def _dangling(file: Path) -> None:
    file.unlink()
    file.symlink_to("nowhere")


def _directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


@pytest.mark.parametrize("spoil", [_removed, _cut, _dangling, _directory])
def test_a_file_of_the_successor_that_is_not_there_whole_refuses_the_plan_and_the_release(
    world: World, spoil: Callable[[Path], None]
) -> None:
    """Whatever the catalog says: the disk can be seen."""
    did = world.ripe()
    plan = world.desk().plan(who="me")
    (release,) = plan.releases
    assert any(line.startswith("3 of its copies seen on the disk, whole") for line in release.evidence)

    spoil(path(world, new(1)))

    found = world.refusals(did)
    assert set(found) == {"successor"}
    assert new(1) in found["successor"]
    with pytest.raises(Moved, match=new(1)):
        world.desk().release(plan, who="me", why="full disks")


def test_a_file_that_went_in_the_time_to_take_it_back_holds_the_dataset(world: World) -> None:
    """Nothing is done in the catalog then."""
    did = world.ripe()
    world.release()
    path(world, new(2)).unlink()

    world.move(hours=25)
    world.desk().step()

    assert world.known(did).state == "held"
    assert new(2) in (world.known(did).reason or "")
    assert world.there(did)


def test_a_file_that_went_while_the_dataset_leaves_is_an_objection(world: World) -> None:
    """What the catalog has not deleted yet stays."""
    did = world.ripe()
    world.release()
    world.move(hours=25)
    desk = world.desk()
    desk.step()
    path(world, new(2)).unlink()

    world.move(minutes=11)
    desk.step()

    assert world.known(did).state == "leaving"
    assert new(2) in (world.known(did).reason or "")


def test_one_whole_copy_is_enough_and_what_is_out_of_sight_is_believed(wide: World) -> None:
    """What the catalog says of a place that cannot be seen from here."""
    did = wide.ripe()
    size = path(wide, new(1)).stat().st_size
    away = [FileEntry(dst()._replace(name=new(1)), f"root://elsewhere/{new(1)}", size, "0a1b2c3d")]
    path(wide, new(1)).unlink()
    assert "successor" in wide.refusals(did)

    wide.catalog.register(away, "ELSEWHERE")

    assert wide.refusals(did) == {}


def test_a_disk_that_is_away_proves_nothing(wide: World, tmp_path: Path) -> None:
    """What lies behind a door is seen where the settings say; if there is nothing at all, nobody knows."""
    for did in (hits(), dst()):
        files = [wide.file(f"{did.name}-{number}.root") for number in range(2)]
        wide.catalog.add_dataset(did)
        doors = [FileEntry(each.did, f"{DOOR}/disk/{each.did.name}", each.bytes, "0a1b2c3d") for each in files]
        wide.catalog.attach(did, doors, DISK)
        wide.catalog.close(did)
    wide.apply()
    wide.move(days=8)
    assert wide.refusals(hits()) == {}

    wide.told = Told(disks={DOOR: wide.folder})
    verdict = wide.verdicts()[str(hits())]
    assert isinstance(verdict, Release)
    assert any(line.startswith("2 of its copies") for line in verdict.evidence)
    (tmp_path / "unmounted").mkdir()
    wide.told = Told(disks={DOOR: tmp_path / "unmounted"})

    found = wide.refusals(hits())

    assert set(found) == {"successor", "unknown"}
    assert "cannot be looked at" in found["unknown"]
    wide.told = Told(disks={DOOR: wide.folder})
    path(wide, f"{dst().name}-0.root").unlink()
    assert set(wide.refusals(hits())) == {"successor"}


def test_a_successor_that_becomes_links_while_the_dataset_leaves_stops_it(world: World) -> None:
    """Its copies were its own when it was proved: nothing more is done."""
    world.ripe()
    world.release()
    world.move(hours=25)

    def link(name: str, number: int) -> None:
        if name == "parents" and world.known(hits()).state == "leaving" and not path(world, new(1)).is_symlink():
            there = path(world, new(1))
            there.write_bytes(path(world, old(1)).read_bytes()[: there.stat().st_size])
            path(world, old(1)).write_bytes(there.read_bytes())
            there.unlink()
            there.symlink_to(path(world, old(1)))

    catalog = Faulty(world.catalog, hook=link)
    world.desk(catalog).step()

    assert f"its successor lies on the same files: {new(1)} is {old(1)}" in str(world.known(hits()).reason)
    assert catalog.calls["set_tombstones"] == catalog.calls["set_lifetime"] == 0
