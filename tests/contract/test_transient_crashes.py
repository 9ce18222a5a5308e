"""A process that is killed at any call while a dataset leaves: the next one comes to the same end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.rucio.port import CatalogUnavailable
from orchestrator.store.store import Store
from schemas.did import Did
from tests.contract.filling import Killed
from tests.contract.transients import DISK, SCOPE, TAPE, World, dst, hits, policy, worlds
from tests.services.catalog import Faulty, When

#: Of the store, what writes; of the catalog, what changes something.
WRITES = frozenset({"claim_due", "begin_leaving", "refuse", "settle_copies", "look_again", "gone", "vanished"})
CHANGES = frozenset({"set_rule_lifetime", "set_tombstones", "add_rule", "detach", "set_lifetime"})


class Dying:
    """Something that dies at the n-th of these calls, before it or after."""

    def __init__(self, real: Any, calls: frozenset[str], number: int, *, after: bool) -> None:
        self._real = real
        self._calls = calls
        self._number = number
        self._after = after
        self.count = 0

    def __getattr__(self, name: str) -> Any:
        do = getattr(self._real, name)
        return do if name not in self._calls else lambda *args, **named: self._call(do, *args, **named)

    def _call(self, do: Callable[..., Any], *args: Any, **named: Any) -> Any:
        self.count += 1
        if self.count == self._number and not self._after:
            raise Killed
        done = do(*args, **named)
        if self.count == self._number:
            raise Killed
        return done


class OtherStore:
    """The store, with other transients."""

    def __init__(self, store: Store, transients: Any) -> None:
        self._store = store
        self.transients = transients

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


@pytest.fixture(params=["fake", "embedded"])
def world(request: pytest.FixtureRequest, tmp_path: Path, store: Store) -> World:
    world = worlds(tmp_path, store, request.param)
    world.apply(policy())
    world.catalog.add_container(Did(SCOPE, "ALL"))
    return world


def released(world: World, run: int) -> Did:
    """One that is in a container, has a rule of ours and copies at two RSEs, and whose time is over."""
    did = world.pair(run=run, rses=(DISK, TAPE))
    world.catalog.enclose(Did(SCOPE, "ALL"), [did])
    world.catalog.add_rule(did, DISK)
    world.move(days=8)
    world.release()
    world.move(hours=25)
    return did


def carried_on(world: World, did: Did, catalog: Any, store: Any) -> bool:
    """Whether the process was killed before it was over; if so another one goes on."""
    desk = world.desk(catalog, store)
    try:
        world.until_gone(did, desk)
    except Killed:
        world.move(minutes=11)  # the dead one's claim runs out
        world.until_gone(did)
        return True
    return False


def demand_gone(world: World, run: int) -> None:
    found = world.known(hits(run))
    assert (found.state, found.freed_files, world.there(hits(run))) == ("gone", 6, False)
    assert world.on_disk(f"*/HITS-{run:08d}*") == []
    assert len(world.on_disk(f"*/DST-{run:08d}*")) == 3
    assert world.there(dst(run))


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_every_call_that_changes_the_catalog(world: World, after: bool) -> None:
    """Before it, or after it and before that is known."""
    run, died = 0, True
    while died:
        run += 1
        did = released(world, run)
        died = carried_on(world, did, Dying(world.catalog, CHANGES, run, after=after), None)
        demand_gone(world, run)
    assert run > 4  # our rule, the copies that it does not hold, the container, the dataset


@pytest.mark.parametrize("after", [False, True])
def test_killed_at_every_write_to_the_store(world: World, after: bool) -> None:
    """The copies are known before anything is done to them, so nothing is forgotten."""
    run, died = 0, True
    while died:
        run += 1
        did = released(world, run)
        transients = Dying(world.store.transients, WRITES, run, after=after)
        died = carried_on(world, did, None, OtherStore(world.store, transients))
        demand_gone(world, run)
    assert run > 5


@pytest.mark.parametrize("when", list(When))
def test_a_catalog_that_is_away_at_any_call(world: World, when: When) -> None:
    """It is asked again later; every call of the way fails once, one of them half-way."""
    seen = 0
    for run in range(1, 60, 4):
        did = released(world, run)
        catalog = Faulty(world.catalog, dict.fromkeys(range(run, run + 4), when))
        assert catalog.account
        world.until_gone(did, world.desk(catalog))
        demand_gone(world, run)
        seen = max(seen, catalog.total)
    assert seen > 40


def test_nothing_leaves_while_the_catalog_cannot_be_asked(world: World) -> None:
    """What was released waits; it is neither begun nor held."""
    did = released(world, 1)

    def away(name: str, number: int) -> None:
        raise CatalogUnavailable("away")

    desk = world.desk(Faulty(world.catalog, hook=away))
    for _ in range(3):
        desk.step()
        world.sweep()
        world.move(minutes=30)

    assert (world.known(did).state, world.there(did), len(world.on_disk("*/HITS*"))) == ("released", True, 6)
    demand = world.until_gone(did)
    assert demand.freed_files == 6
