"""What a dataset leaves behind must last: copies that are about to go themselves prove nothing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.store.store import Store
from schemas.did import Did
from tests.contract.transients import DISK, OURS, SCOPE, TAPE, World, dst, policy, worlds
from tests.services.catalog import Faulty, When

BOX = Did(SCOPE, "ALL")
SOON = timedelta(days=3)


@pytest.fixture(params=["fake", "embedded"])
def world(request: pytest.FixtureRequest, tmp_path: Path, store: Store) -> World:
    return worlds(tmp_path, store, request.param)


@pytest.fixture
def embedded(tmp_path: Path, store: Store) -> World:
    return worlds(tmp_path, store, "embedded")


def kept(world: World) -> Did:
    """One whose copies on tape are to stay."""
    return world.ripe(policy(keep={"copies": TAPE}), rses=(DISK, TAPE))


def ours(world: World, did: Did, rse: str) -> None:
    world.catalog.add_rule(did, rse, SOON)


def somebodys(world: World, did: Did, rse: str) -> None:
    world.rule(did, rse=rse)
    (rule,) = world.catalog.rules([did])[did]
    world.catalog.set_rule_lifetime(rule.id, SOON)


def above(world: World, did: Did, rse: str) -> None:
    world.catalog.add_container(BOX)
    world.catalog.enclose(BOX, [did])
    world.catalog.add_rule(BOX, rse, SOON)


RULES = [ours, somebodys, above]


def mark(world: World, did: Did, rse: str) -> None:
    world.catalog.set_tombstones([file.did for file in world.catalog.files(did)], rse)


@pytest.mark.parametrize("rule", RULES)
def test_copies_that_a_rule_holds_that_ends_do_not_stay(world: World, rule: Callable[[World, Did, str], None]) -> None:
    """Whoever's it is, and wherever it is: when it ends, the last copies would go."""
    world.told.accounts = ("somebody",)
    did = kept(world)

    rule(world, did, TAPE)

    found = world.refusals(did)
    assert set(found) == {"copies"}
    assert "at TAPE 3 files have only copies that go when replication rule" in found["copies"]
    assert f"ends, {world.now + SOON:%Y-%m-%d %H:%M} UTC: take off its lifetime" in found["copies"]


@pytest.mark.parametrize("rule", RULES)
def test_a_successor_that_a_rule_holds_that_ends_is_none(world: World, rule: Callable[[World, Did, str], None]) -> None:
    """What is left would be nothing."""
    did = world.ripe()

    rule(world, dst(), DISK)

    found = world.refusals(did)
    assert set(found) == {"successor"}
    assert f"of {dst()} 3 files have only copies that go when replication rule" in found["successor"]


def test_copies_that_another_rule_holds_stay(world: World) -> None:
    """One that never ends is enough."""
    did = kept(world)
    for each in (did, dst()):
        world.catalog.add_rule(each, TAPE if each == did else DISK)
        somebodys_too(world, each, TAPE if each == did else DISK)
    world.told.accounts = ("somebody",)

    assert world.refusals(did) == {}


def somebodys_too(world: World, did: Did, rse: str) -> None:
    world.rule(did, rse=rse)
    (rule,) = [each for each in world.catalog.rules([did])[did] if each.account != OURS]
    world.catalog.set_rule_lifetime(rule.id, SOON)


def test_a_successor_with_copies_elsewhere_that_stay_is_one(world: World) -> None:
    """A rule that ends on disk does not matter to those that lie on tape too."""
    did = world.ripe()
    world.catalog.register([world.file(f"{dst().name}-{n}.root", TAPE) for n in range(3)], TAPE)

    ours(world, dst(), DISK)

    assert world.refusals(did) == {}


def test_the_embedded_catalog_does_not_count_what_is_marked(embedded: World) -> None:
    """It knows what it is about to delete."""
    did = kept(embedded)

    mark(embedded, did, TAPE)

    assert embedded.catalog.replicas([did], TAPE)[embedded.catalog.files(did)[0].did] == []
    assert len(embedded.catalog.replicas([did], TAPE, readable=False)) == 3
    assert "3 files have no copy at TAPE" in embedded.refusals(did)["copies"]


def test_a_successor_that_is_marked_is_none(embedded: World) -> None:
    did = embedded.ripe()

    mark(embedded, dst(), DISK)

    assert set(embedded.refusals(did)) == {"successor"}


def leaving(world: World, did: Did) -> None:
    """It leaves, and nothing of it has been marked yet."""
    world.release()
    world.move(hours=25)
    world.desk(Faulty(world.catalog, {("set_tombstones", 1): When.BEFORE})).step()
    assert world.known(did).state == "leaving"
    world.move(minutes=11)


def test_a_rule_that_gets_an_end_while_the_dataset_leaves_stops_it(world: World) -> None:
    """Nothing more is marked until the rule lasts again."""
    did = kept(world)
    world.catalog.add_rule(did, TAPE)
    leaving(world, did)
    ours(world, did, TAPE)
    catalog = Faulty(world.catalog)

    world.desk(catalog).step()

    assert catalog.calls["set_tombstones"] == 0
    assert "at TAPE 3 files have only copies that go when" in (world.known(did).reason or "")
    world.catalog.add_rule(did, TAPE)
    world.move(minutes=11)
    assert world.until_gone(did).freed_files == 3
    assert len(world.on_disk("tape/*")) == 3


def test_a_rule_that_gets_an_end_just_before_the_mark_stops_it(world: World) -> None:
    """It is asked before each page."""
    did = kept(world)
    world.catalog.add_rule(did, TAPE)
    leaving(world, did)
    catalog = Faulty(world.catalog)

    def hook(name: str, number: int) -> None:
        if name == "metadata" and catalog.calls[name] == 2:  # the first of the questions just before files are marked
            ours(world, did, TAPE)

    catalog.hook = hook
    world.desk(catalog).step()

    assert catalog.calls["set_tombstones"] == 0


def test_a_successor_that_will_go_stops_what_leaves(world: World) -> None:
    did = world.ripe()
    leaving(world, did)
    ours(world, dst(), DISK)
    catalog = Faulty(world.catalog)

    world.desk(catalog).step()

    assert (catalog.calls["set_tombstones"], catalog.calls["set_lifetime"]) == (0, 0)
    assert f"of its successor {dst()} 3 files have only copies that go" in (world.known(did).reason or "")


def test_nothing_more_is_done_to_one_that_was_to_stay_and_was_erased(world: World) -> None:
    """Its rules went with it, and nobody can say whether what was to stay does."""
    did = kept(world)
    leaving(world, did)
    world.catalog.erase(did)

    gone = world.until_gone(did)

    assert (gone.freed_files, len(world.on_disk("*/HITS*"))) == (0, 6)
    assert "3 stay" in (gone.reason or "")


def test_what_is_marked_of_one_that_is_erased_just_then_is_held(world: World) -> None:
    """It was to stay with its other copies."""
    did = kept(world)
    world.release()
    world.move(hours=25)
    catalog = Faulty(world.catalog)

    def hook(name: str, number: int) -> None:
        if name == "set_tombstones" and catalog.calls[name] == 1:
            world.catalog.erase(did)

    catalog.hook = hook
    world.desk(catalog).step()
    world.sweep()

    gone = world.until_gone(did)

    assert (gone.freed_files, len(world.on_disk("*/HITS*"))) == (0, 6)
