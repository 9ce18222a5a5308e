"""A dataset is called back whoever has it in hand: at once nothing more is done to it, and what is left is held."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from orchestrator.rucio.port import CatalogError, CatalogUnavailable, NotPermitted
from orchestrator.store.port import NotAllowed
from orchestrator.store.store import Store
from orchestrator.transient.desk import Desk
from orchestrator.transient.memory import Memory
from schemas.did import Did
from schemas.transient import Transient
from tests.contract.filling import Killed
from tests.contract.transients import DISK, OURS, SCOPE, TAPE, World, hits, worlds
from tests.services.catalog import FakeCatalog, Faulty, When

BOX = Did(SCOPE, "ALL")
OTHER = Did(SCOPE, "OTHER")

#: How long nobody else takes what somebody has in hand.
LEASE: Final[Mapping[str, float]] = {"minutes": 11}


@pytest.fixture(params=["fake", "embedded"])
def world(request: pytest.FixtureRequest, tmp_path: Path, store: Store) -> World:
    return worlds(tmp_path, store, request.param)


@pytest.fixture
def fakes(tmp_path: Path, store: Store) -> World:
    """A world in which calls can be forbidden."""
    return worlds(tmp_path, store, "fake")


def due(world: World, *, ruled: bool = False, **more: Any) -> Did:
    """One that is released, and in a container; its time to be taken back is over. `ruled`: a rule of ours holds it."""
    did = world.pair(**more)
    world.catalog.add_container(BOX)
    world.catalog.enclose(BOX, [did])
    if ruled:
        world.catalog.add_rule(did, DISK)
    world.apply()
    world.move(days=8)
    world.release()
    world.move(hours=25)
    return did


def recall(world: World, did: Did, catalog: Any = None, owner: str | None = None) -> Transient:
    """As another process."""
    return world.desk(catalog, owner=owner).recall(world.known(did).id, who="me", why="needed")


def killed_at(world: World, call: str) -> None:
    """A worker that lets it leave is killed right after this call."""
    with pytest.raises(Killed):
        world.desk(Faulty(world.catalog, {(call, 1): When.AFTER}, error=Killed)).step()


def daemons(world: World) -> None:
    """They have all the time that they need."""
    for _ in range(3):
        world.move(minutes=1)
        world.sweep()


def demand_whole(world: World, did: Did) -> None:
    """The catalog's daemons take nothing of it, and nobody lets it leave."""
    daemons(world)
    assert world.there(did)
    assert world.catalog.dataset(did).expires_at is None
    assert len(world.on_disk("disk/HITS*")) == 3


def demand_back(world: World, did: Did) -> None:
    demand_whole(world, did)
    found = world.known(did)
    assert (found.state, found.refusals, found.leaving_at) == ("held", (), None)
    assert world.catalog.children(BOX) == [did]
    (rule,) = world.catalog.rules([did])[did]
    assert (rule.account, rule.rse_expression, rule.expires_at) == (OURS, DISK, None)


# Whoever has it in hand.

CALLS: Final = ("set_rule_lifetime", "set_tombstones", "detach", "set_lifetime")


@pytest.mark.parametrize("call", CALLS)
def test_a_worker_that_was_killed_keeps_nobody_from_a_recall(world: World, call: str) -> None:
    """For ten minutes it is in nobody else's hand: it is held before that is waited for, and its state follows."""
    did = due(world, ruled=call == "set_rule_lifetime")
    killed_at(world, call)

    world.pause = lambda seconds: world.sweep()
    back = recall(world, did)

    assert (back.state, "what is left of it is held" in str(back.reason)) == ("leaving", True)
    demand_whole(world, did)
    world.move(**LEASE)
    world.desk().step()
    demand_back(world, did)


@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_was_under_way_is_undone(world: World, call: str) -> None:
    """By the worker that made it, and that is alive: it finishes the recall as well."""
    did = due(world, ruled=call == "set_rule_lifetime")
    back: list[Transient] = []

    def slow(name: str, number: int) -> None:
        if name == call and not back:
            back.append(recall(world, did))

    world.desk(Faulty(world.catalog, hook=slow)).step()

    assert [each.state for each in back] == ["leaving"]
    demand_back(world, did)


def test_a_call_of_a_killed_worker_that_comes_late_is_undone(world: World) -> None:
    """It was sent before the worker was killed, and the catalog gets to it seconds after all was held."""
    did = due(world, ruled=True)
    with pytest.raises(Killed):
        world.desk(Faulty(world.catalog, {("set_rule_lifetime", 1): When.BEFORE}, error=Killed)).step()
    (rule,) = world.catalog.rules([did])[did]

    def late(seconds: float) -> None:
        world.catalog.set_rule_lifetime(rule.id, timedelta())
        world.catalog.set_lifetime(did, timedelta())

    world.pause = late
    recall(world, did)

    assert [each.expires_at for each in world.catalog.rules([did])[did]] == [None]
    demand_whole(world, did)


def one_went(fakes: World, did: Did) -> None:
    """The reaper has come by the first file, and not by the others. Our account may not mark any more."""
    _, *others = [file.did for file in fakes.catalog.files(did)]
    fakes.catalog.set_lifetime(did, None)
    for file in others:
        fakes.catalog.add_rule(file, DISK)
    fakes.catalog.end_rules()
    fakes.catalog.reap()
    for rules in fakes.catalog.rules(others).values():
        fakes.catalog.set_rule_lifetime(rules[0].id, timedelta())
    fakes.catalog.end_rules()
    fakes.catalog.forbidden.add("set_tombstones")


@pytest.mark.parametrize("some", [False, True])
def test_rules_that_end_are_undone(fakes: World, some: bool) -> None:
    """Where our account may not mark copies they are made: on the dataset, or on each file that is left."""
    did = due(fakes)
    fakes.catalog.forbidden |= set() if some else {"set_tombstones"}
    fakes.desk(Faulty(fakes.catalog, {} if some else {("add_rule", 1): When.BEFORE})).step()
    if some:
        one_went(fakes, did)
    fakes.move(**LEASE)
    back: list[Transient] = []

    def slow(name: str, number: int) -> None:
        if name == "add_rule" and not back:
            back.append(recall(fakes, did))

    catalog = Faulty(fakes.catalog, hook=slow)
    fakes.desk(catalog).step()

    assert [each.state for each in back] == ["leaving"]
    assert fakes.known(did).state == "held"
    assert [rule.expires_at for rule in fakes.catalog.rules([did])[did]] == [None]
    assert catalog.calls["add_rule"] == 2  # one of those that end, and then the one that lasts
    daemons(fakes)
    assert len(fakes.on_disk("disk/HITS*")) == (2 if some else 3)


def test_a_worker_that_lets_go_soon_is_waited_for(world: World) -> None:
    """The answer says that it is held."""
    did = due(world)
    world.desk(Faulty(world.catalog, {("set_lifetime", 1): When.BEFORE})).step()
    world.move(**LEASE)
    rows = world.store.transients
    (transient,) = rows.claim_due(owner="slow", now=world.now, lease=timedelta(hours=1), limit=1)
    world.pause = lambda seconds: rows.look_again(transient.id, world.now, "later", owner="slow", now=world.now)

    back = recall(world, did)

    assert (back.state, str(back.reason).startswith("needed")) == ("held", True)
    demand_back(world, did)


def test_a_worker_finishes_while_it_is_waited_for(world: World) -> None:
    """Whoever comes first: it is called back once."""
    did = due(world)
    killed_at(world, "set_lifetime")
    desk = world.desk()

    def work(seconds: float) -> None:
        world.move(**LEASE)
        desk.step()

    world.pause = work
    back = recall(world, did)

    assert (back.state, str(back.reason).startswith("needed")) == ("held", True)
    demand_back(world, did)
    keeps = [keep for keep in world.store.transient_keeps.in_force(world.now) if keep.why == "recalled: needed"]
    assert [(keep.who, keep.until) for keep in keeps] == [("me", keeps[0].at + timedelta(days=7))]


# A recall that breaks off.


@pytest.mark.parametrize("call", ["dataset", "set_lifetime", "files", "add_rule", "enclose"])
def test_a_recall_that_was_killed_is_finished_by_any_worker(world: World, call: str) -> None:
    """Who called it back, and why, is kept."""
    did = due(world)
    desk = world.desk()
    desk.step()
    with pytest.raises(Killed):
        recall(world, did, Faulty(world.catalog, {(call, 1): When.BEFORE}, error=Killed))
    world.move(**LEASE)

    desk.step()

    demand_back(world, did)
    (moved,) = [each for each in journal(world, did) if each.to_state == "held" and each.from_state == "leaving"]
    assert (moved.who, str(moved.why).split(";")[0]) == ("me", "needed")
    assert "never" in world.refusals(did)


def test_a_recall_is_noted_while_the_catalog_is_away(world: World) -> None:
    """No further call is made, and whoever reaches the catalog first finishes it."""
    did = due(world)
    desk = world.desk(Faulty(world.catalog, {("set_tombstones", 1): When.BEFORE}))
    desk.step()
    with pytest.raises(CatalogUnavailable):
        recall(world, did, Faulty(world.catalog, {1: When.BEFORE}))
    assert f"muleteer transient recall {world.known(did).id}" in world.known(did).refusals[0].text
    assert "me calls it back, which is not finished" in str(world.known(did).reason)

    world.move(minutes=1)
    desk.step()

    demand_back(world, did)


def test_what_is_gone_cannot_be_called_back_whoever_has_it(world: World) -> None:
    """And nothing is noted that would keep the rest from being settled."""
    did = due(world)
    killed_at(world, "set_lifetime")
    daemons(world)
    assert not world.there(did)

    with pytest.raises(NotAllowed, match="is not in the catalog any more"):
        recall(world, did)

    world.move(**LEASE)
    assert world.until_gone(did).freed_files == 3


def test_of_what_went_before_the_recall_was_finished_it_is_said(world: World) -> None:
    """It was noted, and then the catalog erased it: it goes on leaving."""
    did = due(world)
    killed_at(world, "set_lifetime")
    with pytest.raises(Killed):
        recall(world, did, Faulty(world.catalog, {1: When.BEFORE}, error=Killed))
    daemons(world)
    world.move(**LEASE)

    assert world.until_gone(did).freed_files == 3
    assert any("cannot be called back" in str(each.why) for each in journal(world, did))


# Where copies cannot be held.


def test_what_fails_at_one_rse_keeps_no_other_from_being_held(world: World) -> None:
    """The error is said, and whoever looks at it next tries again."""
    did = due(world, rses=(DISK, TAPE))
    desk = world.desk()
    desk.step()
    with pytest.raises(CatalogError, match="full"):
        recall(world, did, Faulty(world.catalog, {("add_rule", 1): When.BEFORE}, error=lambda: CatalogError("full")))

    assert [rule.rse_expression for rule in world.catalog.rules([did])[did] if rule.expires_at is None] == [TAPE]
    world.move(minutes=1)
    desk.step()
    assert world.known(did).state == "held"
    assert {rule.rse_expression for rule in world.catalog.rules([did])[did]} == {DISK, TAPE}


class NoAdmin(Faulty):
    """May not change rules, as most accounts of a Rucio server."""

    def add_rule(self, did: Did, rse: str, lifetime: timedelta | None = None) -> None:
        for rule in self._catalog.rules([did]).get(did, ()):
            if (rule.account, rule.rse_expression) == (OURS, rse) and (rule.expires_at or lifetime) is not None:
                raise NotPermitted(f"{OURS} may not change rules")
        super().add_rule(did, rse, lifetime)


def test_where_our_rule_may_not_be_changed_files_are_held(world: World) -> None:
    """One on the dataset was made so that it ends, since our account may not mark copies there."""
    did = due(world)
    world.desk().step()
    world.catalog.add_rule(did, DISK, timedelta(minutes=1))
    world.move(seconds=30)

    back = recall(world, did, NoAdmin(world.catalog))

    assert back.state == "held"
    files = [file.did for file in world.catalog.files(did)]
    assert [len(rules) for rules in world.catalog.rules(files).values()] == [1, 1, 1]
    demand_whole(world, did)


def test_a_file_whose_rule_may_not_be_changed_keeps_no_other_from_being_held(world: World) -> None:
    """It is said, and tried again: once that rule has ended there is nothing in the way."""
    did = due(world)
    desk = world.desk(NoAdmin(world.catalog))
    desk.step()
    first, *others = [file.did for file in world.catalog.files(did)]
    for ending in (did, first):
        world.catalog.add_rule(ending, DISK, timedelta(minutes=1))

    with pytest.raises(NotPermitted):
        recall(world, did, NoAdmin(world.catalog))

    assert [len(rules) for rules in world.catalog.rules(others).values()] == [1, 1]
    world.move(seconds=61)
    if isinstance(world.catalog, FakeCatalog):
        world.catalog.end_rules()
        desk.step()
        assert world.known(did).state == "held"
        demand_whole(world, did)


# What is remembered.


def test_what_was_saved_is_saved_again_when_it_leaves_again(world: World) -> None:
    """It was called back by another process: this one does not take for saved what was marked anew."""
    did = due(world)
    first = world.catalog.files(did)[0].did
    desk = world.desk()
    share_while_it_leaves(world, desk, first)
    recall(world, did)
    put_back(world, did, first)

    share_while_it_leaves(world, desk, first)

    held = world.catalog.rules([first])[first]
    assert [(rule.account, rule.rse_expression, rule.expires_at) for rule in held] == [(OURS, DISK, None)]


def share_while_it_leaves(world: World, desk: Desk, file: Did) -> None:
    """Another worker has its copies marked. Somebody takes a file, which is saved when this one looks at it."""
    world.desk().step()
    if not world.there(OTHER):
        world.catalog.add_dataset(OTHER)
    world.catalog.attach(OTHER, [world.file(file.name)], DISK)
    world.move(minutes=1)
    desk.step()
    assert f"{file.name} is in {OTHER} too" in str(world.known(hits()).reason)
    world.move(**LEASE)


def put_back(world: World, did: Did, file: Did) -> None:
    """Nobody else has the file any more, no rule is on it, and the dataset may leave again, as it was released."""
    world.catalog.detach(OTHER, [file])
    (rule,) = world.catalog.rules([file])[file]
    world.catalog.set_rule_lifetime(rule.id, timedelta())
    for keep in world.store.transient_keeps.in_force(world.now):
        world.store.transient_keeps.lift(keep.id, who="me", why="test", now=world.now)
    world.sweep()
    assert world.catalog.rules([file])[file] == []
    world.release()
    world.move(hours=25)


def test_what_was_learned_holds_for_one_leaving(world: World) -> None:
    """RSEs at which our account may not mark copies are remembered all the same."""
    did = due(world)
    desk: Desk = world.desk()
    desk.step()
    leaving, memory = world.known(did), Memory()
    memory.begin(leaving)
    memory.held[leaving.id, DISK] = 3
    memory.looks[leaving.id] = 9
    memory.may_not_mark.add(DISK)
    memory.begin(leaving)
    assert (memory.held, memory.looks) == ({(leaving.id, DISK): 3}, {leaving.id: 9})

    memory.begin(leaving.model_copy(update={"leaving_at": world.now + timedelta(days=1)}))

    assert (memory.held, memory.looks, memory.may_not_mark) == ({}, {}, {DISK})


def journal(world: World, did: Did) -> Any:
    """All that happened to it."""
    return world.store.journal.of("transient", world.known(did).id)
