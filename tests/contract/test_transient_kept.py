"""What is held stays held: the dataset is erased all the same, the account may do little, or something is not known."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.rucio.port import CatalogError, FileEntry, NotPermitted
from orchestrator.store.store import Store
from schemas.did import Did
from tests.contract.test_transient_holding import days, due, go, leaving, reason, stop
from tests.contract.transients import DISK, OURS, TAPE, World, dst, policy, worlds
from tests.services.catalog import Faulty


@pytest.fixture
def world(tmp_path: Path, store: Store) -> World:
    """A catalog whose daemons come one by one."""
    return worlds(tmp_path, store, "fake")


class NoAdmin(Faulty):
    """An account that may make rules, and neither change them nor mark copies, as on a Rucio server."""

    def add_rule(self, did: Did, rse: str, lifetime: timedelta | None = None) -> None:
        for rule in self._catalog.rules([did]).get(did, ()):
            if (rule.account, rule.rse_expression) == (OURS, rse):
                if rule.expires_at is None and lifetime is None:
                    return
                raise NotPermitted(f"{OURS} may not change rules")
        self._catalog.add_rule(did, rse, lifetime)

    def set_rule_lifetime(self, rule_id: str, lifetime: timedelta | None) -> None:
        raise NotPermitted(f"{OURS} may not change rules")

    def set_tombstones(self, files: object, rse: str) -> list[Did]:
        raise NotPermitted(f"{OURS} may not mark")


class NoLifetimes(Faulty):
    """Lifetimes can be set, and not be taken off."""

    def set_lifetime(self, did: Did, lifetime: timedelta | None) -> None:
        if lifetime is None:
            raise NotPermitted("not now")
        self._catalog.set_lifetime(did, lifetime)


class NoSuccessor(Faulty):
    """The successor's files cannot be listed."""

    def files(self, did: Did) -> list[FileEntry]:
        if did == dst():
            raise CatalogError("500")
        return list(self._catalog.files(did))


def erased_late(world: World, did: Did) -> None:
    """By an undertaker that had the dataset in hand before it was told not to."""
    world.catalog.set_lifetime(did, timedelta())
    world.move(minutes=1)
    world.catalog.undertake()
    assert not world.there(did)


def reaped(world: World) -> None:
    world.catalog.end_rules()
    world.catalog.reap()


def left(world: World) -> int:
    return len(world.on_disk("*/HITS*"))


def test_what_is_held_outlives_its_dataset(world: World) -> None:
    """A rule on the dataset would go with it."""
    did, desk = leaving(world)
    stop(world)
    world.move(minutes=11)
    desk.step()

    erased_late(world, did)
    reaped(world)

    assert left(world) == 3


def test_what_was_held_with_its_dataset_is_held_anew_without_it(world: World) -> None:
    """It was not to be erased when it was held; somebody does so later."""
    did = due(world)

    def stopped(name: str, number: int) -> None:
        if name == "set_lifetime" and not world.store.suspensions.all():
            stop(world)

    desk = world.desk(Faulty(world.catalog, hook=stopped))
    desk.step()
    world.catalog.set_lifetime(did, None)
    for _ in range(2):
        world.move(minutes=11)
        desk.step()
    erased_late(world, did)

    world.move(minutes=11)
    desk.step()
    reaped(world)

    assert left(world) == 3


def test_it_is_held_if_it_cannot_be_kept_from_being_erased(world: World) -> None:
    """The catalog refuses to take off the lifetime; that is said."""
    did, _ = leaving(world)
    stop(world)
    world.move(minutes=11)
    world.desk(NoLifetimes(world.catalog)).step()
    assert "the catalog may erase it: not now" in reason(world, did)

    world.catalog.undertake()
    reaped(world)

    assert not world.there(did)
    assert left(world) == 3


def test_what_is_called_back_outlives_its_dataset(world: World) -> None:
    """The same, for a recall: nobody looks again."""
    did, _ = leaving(world)
    world.desk().recall(world.known(did).id, who="me", why="wanted")
    assert world.known(did).state == "held"

    erased_late(world, did)
    reaped(world)

    assert left(world) == 3


def test_it_is_held_against_an_objection_whatever_is_not_known(world: World) -> None:
    """People stop just when the catalog is odd: both are said."""
    did, _ = leaving(world)
    desk = world.desk(NoSuccessor(world.catalog))
    stop(world)

    for _ in range(3):
        world.move(minutes=11)
        desk.step()
        world.sweep()

    assert left(world) == 3
    assert "stands still" in reason(world, did) and "not known: 500" in reason(world, did)


def test_it_is_held_while_a_keep_is_not_understood(world: World) -> None:
    """A newer program may have written it down: nothing is known then, so the catalog is told not to erase it."""
    did, desk = leaving(world)
    world.told.never = ("[z-a]*",)
    stop(world)
    world.move(minutes=11)

    desk.step()

    assert world.catalog.dataset(did).expires_at is None
    assert "not known" in reason(world, did)
    days(world, desk, rounds=3)
    assert left(world) == 3


def test_an_account_that_may_not_end_rules_lets_leave_what_it_held(world: World) -> None:
    """After a stop and a go the dataset goes; copies under rules that it may not end stay, and that is an end."""
    did = due(world)
    desk = world.desk(NoAdmin(world.catalog))
    desk.step()
    stop(world)
    world.move(minutes=1)
    desk.step()
    go(world)

    days(world, desk, rounds=40)

    assert (world.known(did).state, world.there(did), left(world)) == ("gone", False, 3)
    assert "3 stay" in reason(world, did)


def test_an_account_that_may_not_end_its_rule_says_what_to_do(world: World) -> None:
    """Only some copies leave, so the rule does not end with the dataset."""
    did = world.ripe(policy(keep={"copies": TAPE}), rses=(DISK, TAPE))
    world.catalog.add_rule(did, DISK)
    (rule,) = world.catalog.rules([did])[did]
    world.release()
    world.move(hours=25)
    desk = world.desk(NoAdmin(world.catalog))

    desk.step()

    assert f"end replication rule {rule.id} by hand" in reason(world, did)
