"""Which catalog datasets leave: not another one at its place, and no file that was made anew; and odd rows."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from orchestrator.rucio.embedded.catalog import LocalCatalog
from orchestrator.rucio.port import CatalogError, CatalogUnavailable, FileEntry
from orchestrator.store.store import Store
from orchestrator.store.tables import transients
from schemas.did import Did
from schemas.transient import Transient, TransientState
from tests.contract.announcements import Listener
from tests.contract.test_transient_noticing import tell_erase
from tests.contract.transients import DISK, OURS, SCOPE, TAPE, World, dst, hits, noticer, worlds
from tests.services.catalog import FakeCatalog, Faulty, When


@pytest.fixture(params=["fake", "embedded"])
def world(request: pytest.FixtureRequest, tmp_path: Path, store: Store) -> World:
    return worlds(tmp_path, store, request.param)


@pytest.fixture
def local(tmp_path: Path, store: Store) -> World:
    return worlds(tmp_path, store, "embedded")


def due(world: World, *policies: Any, **more: Any) -> Did:
    did = world.ripe(*policies, **more)
    world.release()
    world.move(hours=25)
    return did


# A file that was made anew.


def test_a_file_that_is_registered_anew_is_not_deleted(world: World) -> None:
    """The old one has left. A production writes the same file again, and is to attach it in a moment."""
    did = due(world)
    desk = world.desk()
    desk.step()
    world.sweep()
    assert not world.on_disk("*/HITS*")
    world.move(seconds=20)
    world.catalog.register([world.file("HITS-00000001-0.root")], DISK)

    gone = world.until_gone(did, desk)

    assert world.on_disk("*/HITS*") == ["disk/HITS-00000001-0.root"]
    assert gone.freed_files == 2
    assert "1 stay" in str(gone.reason)


def test_when_a_file_was_made_is_told_from_its_first_registration(world: World) -> None:
    """Not from the one of another copy, and anew once it was gone."""
    file = world.file("a.root")
    world.catalog.register([file], DISK)
    world.move(hours=1)
    world.catalog.register([world.file("a.root", TAPE)], TAPE)
    began = world.catalog.metadata([file.did])[file.did]["created_at"]

    for rse in (DISK, TAPE):
        world.catalog.set_tombstones([file.did], rse)
    world.sweep()
    world.move(hours=1)
    world.catalog.register([world.file("a.root")], DISK)
    anew = world.catalog.metadata([file.did])[file.did]["created_at"]

    assert (world.now - began).total_seconds() == pytest.approx(7200, abs=1)
    assert (world.now - anew).total_seconds() == pytest.approx(0, abs=1)


# Another catalog.


def another(world: World, path: Path) -> Any:
    """An empty one, as it is made where the right one is not mounted."""
    if isinstance(world.catalog, FakeCatalog):
        return FakeCatalog(account=OURS, clock=world.clock)
    return LocalCatalog(path / "elsewhere.db", Listener().announce, account=OURS, clock=world.clock)


def is_elsewhere(world: World, transient: Transient, other: Any) -> bool:
    """Whether it is said which catalog was meant, and which is here."""
    return {word in str(transient.reason) for word in (world.catalog.identity, other.identity, other.address)} == {True}


def far(world: World) -> Did:
    """A pair of which no file can be seen from here."""
    for did in (hits(), dst()):
        world.catalog.add_dataset(did)
        names = (f"{did.name}-{number}" for number in range(3))
        files = [FileEntry(Did(SCOPE, name), f"root://door//{name}", 10, "0a1b2c3d") for name in names]
        world.catalog.attach(did, files, DISK)
        world.catalog.close(did)
    world.apply()
    world.move(days=8)
    return hits()


def test_what_leaves_has_not_left_since_another_catalog_does_not_know_it(local: World, tmp_path: Path) -> None:
    """Nothing is done with it until the right one is back; then it goes on."""
    did = far(local)
    local.release()
    local.move(hours=25)
    local.desk(Faulty(local.catalog, {("set_tombstones", 1): When.BEFORE})).step()
    local.move(minutes=11)
    other = another(local, tmp_path)

    for _ in range(3):
        local.desk(other).step()
        local.move(minutes=11)

    left = local.known(did)
    assert (left.state, left.freed_files, local.there(did)) == ("leaving", 0, True)
    assert is_elsewhere(local, left, other)
    assert left.catalog == local.catalog.identity
    local.desk().step()
    assert local.catalog.dataset(did).expires_at is not None


def test_what_is_released_has_not_vanished_from_another_catalog(world: World, tmp_path: Path) -> None:
    """It is released still, and says why it does not leave."""
    did = due(world)
    other = another(world, tmp_path)

    world.desk(other).step()

    assert world.known(did).state == "released"
    assert is_elsewhere(world, world.known(did), other)
    world.move(minutes=11)
    assert world.until_gone(did).freed_files == 3


def test_a_survey_of_another_catalog_says_of_nothing_that_it_vanished(world: World, tmp_path: Path) -> None:
    """What could leave is held and says why; it could leave again after the next survey of the right one."""
    world.pair(2)
    did = due(world)  # run 1 and 2 are released
    world.pair(3)
    world.move(days=8)
    world.desk().survey(who="test")
    assert world.known(hits(3)).state == "releasable"
    other = another(world, tmp_path)

    for held_now in (1, 0):  # that it was looked at there does not make it one of these
        world.move(minutes=1)
        looked = world.desk(other).survey(who="test")
        assert (looked.vanished, looked.held) == (0, held_now)

    assert world.known(did).state == "released"
    held = world.known(hits(3))
    assert (held.state, [each.check for each in held.refusals]) == ("held", ["unknown"])
    assert is_elsewhere(world, held, other)
    world.desk().survey(who="test")
    assert world.known(hits(3)).state == "releasable"


def test_a_catalog_that_got_another_name_is_released_from_anew(world: World) -> None:
    """A Rucio server at a new address, say: what leaves can be called back, since it is there in this life of it."""
    did = due(world)
    world.desk(Faulty(world.catalog, {("set_tombstones", 1): When.BEFORE})).step()
    renamed = Faulty(world.catalog)
    renamed.identity = "https://new.example.org (def)"
    desk = world.desk(renamed)
    world.move(minutes=11)
    desk.step()
    assert (world.known(did).state, renamed.calls["set_tombstones"]) == ("leaving", 0)

    desk.recall(world.known(did).id, who="me", why="renamed")
    world.move(days=8)
    desk.release(desk.plan(who="me"), who="me", why="again")

    assert world.known(did).catalog == renamed.identity
    world.move(hours=25)
    assert world.until_gone(did, desk).freed_files == 3


def test_a_recall_does_not_take_another_catalog_for_the_right_one(local: World, tmp_path: Path) -> None:
    """It is noted, and finished where the dataset is."""
    did = due(local)
    local.desk(Faulty(local.catalog, {("set_tombstones", 1): When.BEFORE})).step()
    transient = local.known(did)

    with pytest.raises(CatalogError, match="another catalog"):
        local.desk(another(local, tmp_path)).recall(transient.id, who="me", why="needed")

    local.move(minutes=11)
    local.desk().step()
    assert (local.known(did).state, len(local.on_disk("*/HITS*"))) == ("held", 3)


def test_what_was_noted_before_catalogs_were_is_noted_by_the_next_survey(world: World) -> None:
    """Until then it counts as seen here: it may vanish, and leave."""
    did = world.ripe()
    world.desk().survey(who="test")
    write(world.store, did, catalog=None)

    world.desk().survey(who="test")

    assert world.known(did).catalog == world.catalog.identity
    world.release()
    write(world.store, did, catalog=None)
    world.move(hours=25)
    assert world.until_gone(did).freed_files == 3


def test_an_event_does_not_make_another_catalog_a_witness(world: World, tmp_path: Path) -> None:
    """It says that the dataset was erased, and this catalog does not have it: it never had."""
    did = world.ripe()
    world.desk().survey(who="test")
    listening = noticer(world, another(world, tmp_path))
    listening.step()
    tell_erase(world)

    assert listening.step() == 1

    assert world.known(did).state == "releasable"


def test_a_catalog_at_whose_place_another_is_put_is_away(local: World, tmp_path: Path) -> None:
    """While muleteer runs. Nothing is said from the other one, nor written into it; the right one may come back."""
    local.pair()
    path, aside = tmp_path / "catalog.db", tmp_path / "aside.db"
    path.rename(aside)
    other = LocalCatalog(path, Listener().announce, clock=local.clock)

    with pytest.raises(CatalogUnavailable, match="another one than was opened"):
        local.catalog.metadata([hits()])
    with pytest.raises(CatalogUnavailable, match="another one than was opened"):
        local.catalog.add_dataset(hits(9))

    assert list(other.walk()) == []
    aside.rename(path)
    assert local.there(hits())


def test_a_copy_of_a_catalog_is_the_same_one(local: World, tmp_path: Path) -> None:
    """Wherever it is put: what tells it from others lies in it."""
    local.pair()
    with closing(sqlite3.connect(tmp_path / "catalog.db")) as db, closing(sqlite3.connect(tmp_path / "b.db")) as to:
        db.backup(to)

    copied = LocalCatalog(tmp_path / "b.db", Listener().announce, clock=local.clock)

    assert copied.identity == local.catalog.identity
    assert copied.identity != LocalCatalog(tmp_path / "c.db", Listener().announce, clock=local.clock).identity


# Rows that cannot be read.


def write(store: Store, did: Did, **values: Any) -> None:
    """As no muleteer does it."""
    with store.transients._database.write() as connection:
        connection.execute(update(transients).where(transients.c.name == did.name).values(**values))


odd = pytest.mark.parametrize(
    "values",
    [{"release": json.dumps({"odd": "1"})}, {"release": "no JSON"}, {"refusals": "[1]"}, {"refusals": '{"a": "b"}'}],
    ids=["another release", "no JSON", "no refusals", "a document"],
)


@odd
def test_a_row_that_cannot_be_read_keeps_no_other(world: World, values: dict[str, str]) -> None:
    """It is put off, and says why; the other leaves in the same step."""
    for run in (1, 2):
        world.pair(run)
    world.apply()
    world.move(days=8)
    world.release()
    world.move(hours=25)
    write(world.store, hits(1), **values)
    desk = world.desk()

    desk.step()

    assert world.known(hits(2)).state == "leaving"
    assert world.until_gone(hits(2), desk).freed_files == 3
    stuck = world.known(hits(1))
    assert (stuck.state, len(world.on_disk("*/HITS-00000001*"))) == ("released", 3)
    assert "cannot be read" in str(stuck.reason)


@odd
def test_a_row_that_cannot_be_read_is_listed_like_any_other(world: World, values: dict[str, str]) -> None:
    """Lists, surveys and whoever looks for it by name find it, with the reason."""
    did = due(world)
    write(world.store, did, **values)

    (listed,) = world.store.transients.list(states=[TransientState.RELEASED])
    world.desk().survey(who="test")

    assert (listed.did, listed.release) == (did, None)
    assert "cannot be read" in str(listed.reason)
    assert world.known(did).state == "released"
    assert world.desk().take_back([listed.id], who="me", why="odd")[0].state == "held"


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_a_row_with_an_odd_time_keeps_no_other(local: World) -> None:
    """Only SQLite lets it be written."""
    for run in (1, 2):
        local.pair(run)
    local.apply()
    local.move(days=8)
    local.release()
    local.move(hours=25)
    with local.store.database.write() as connection:
        connection.exec_driver_sql("UPDATE transients SET seen_at = 'odd' WHERE name = 'HITS-00000001'")

    assert local.until_gone(hits(2)).freed_files == 3
