"""What is left of a dataset is held while something speaks against its leaving, and leaves when nothing does."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.core.gates import TRANSIENT
from orchestrator.rucio.port import CatalogError, NotPermitted
from orchestrator.store.store import Store
from orchestrator.transient.desk import Desk
from schemas.did import Did
from schemas.transient import Release
from tests.contract.transients import DISK, OURS, SCOPE, TAPE, World, dst, policy, worlds
from tests.services.catalog import FakeCatalog, Faulty, When

OTHER = Did(SCOPE, "OTHER")


@pytest.fixture(params=["fake", "embedded"])
def world(request: pytest.FixtureRequest, tmp_path: Path, store: Store) -> World:
    return worlds(tmp_path, store, request.param)


@pytest.fixture
def fakes(tmp_path: Path, store: Store) -> World:
    """A world in which calls can be forbidden."""
    return worlds(tmp_path, store, "fake")


def due(world: World, **more: object) -> Did:
    """One that is released, and its time to be taken back is over."""
    did = world.ripe(**more)
    world.release()
    world.move(hours=25)
    return did


def leaving(world: World, **more: object) -> tuple[Did, Desk]:
    """One of which the catalog was asked to let it go; its daemons have not come."""
    did, desk = due(world, **more), world.desk()
    desk.step()
    assert world.known(did).state == "leaving"
    return did, desk


def files(world: World, did: Did) -> list[Did]:
    return [file.did for file in world.catalog.files(did)]


def days(world: World, desk: Desk | None = None, rounds: int = 12) -> None:
    """Looks and daemons in turn."""
    desk = desk or world.desk()
    for _ in range(rounds):
        world.sweep()
        world.move(minutes=11)
        desk.step()


def reason(world: World, did: Did) -> str:
    return str(world.known(did).reason)


# What comes up, and how it is over.


def lose_successor(world: World) -> None:
    world.catalog.erase(dst())


def open_successor(world: World) -> None:
    world.catalog.reopen(dst())


def keep(world: World) -> None:
    world.store.transient_keeps.keep(f"{SCOPE}:HITS-*", who="me", why="calibration", now=world.now)


def lift(world: World) -> None:
    for each in world.store.transient_keeps.in_force(world.now):
        world.store.transient_keeps.lift(each.id, who="me", why="done", now=world.now)


def stop(world: World) -> None:
    world.store.suspensions.suspend(TRANSIENT, who="me", why="alarm", now=world.now)


def go(world: World) -> None:
    world.store.suspensions.resume(TRANSIENT, who="me", why="go", now=world.now)


@pytest.mark.parametrize("comes_up", [lose_successor, open_successor, keep, stop])
def test_a_rule_of_ours_that_was_ended_gets_its_life_back(world: World, comes_up: Callable[[World], None]) -> None:
    """Nothing was marked yet: the catalog marks the copies itself when the rule ends."""
    did = world.ripe()
    world.catalog.add_rule(did, DISK)
    world.release()
    world.move(hours=25)
    world.desk(Faulty(world.catalog, {("set_lifetime", 1): When.BEFORE})).step()
    assert [rule.expires_at is None for rule in world.catalog.rules([did])[did]] == [False]
    comes_up(world)
    world.move(minutes=11)

    world.desk().step()
    days(world, rounds=3)

    assert [rule.expires_at for rule in world.catalog.rules([did])[did]] == [None]
    assert (world.there(did), len(world.on_disk("disk/HITS*"))) == (True, 3)
    assert "nothing more is done" in reason(world, did)


@pytest.mark.parametrize("comes_up", [lose_successor, open_successor, keep, stop])
def test_copies_that_are_marked_are_held(world: World, comes_up: Callable[[World], None]) -> None:
    """With a rule on the dataset; and one on each file, since whoever erases datasets may have it in hand already."""
    did, desk = leaving(world)
    comes_up(world)
    world.move(minutes=11)

    desk.step()
    days(world, desk)

    assert len(world.on_disk("disk/HITS*")) == 3
    rules = world.catalog.rules([did, *files(world, did)])
    for each in [did, *files(world, did)]:
        assert [(rule.account, rule.expires_at) for rule in rules[each]] == [(OURS, None)]


@pytest.mark.parametrize(("comes_up", "is_over"), [(keep, lift), (stop, go)])
def test_when_nothing_speaks_against_it_any_more_all_of_it_leaves(
    world: World, comes_up: Callable[[World], None], is_over: Callable[[World], None]
) -> None:
    """By itself; also if it comes and goes more than once."""
    did, desk = leaving(world)
    for _ in range(2):
        comes_up(world)
        world.move(minutes=11)
        desk.step()
        days(world, desk, rounds=2)
        assert len(world.on_disk("disk/HITS*")) == 3
        is_over(world)
        world.move(minutes=11)
        desk.step()

    gone = world.until_gone(did, desk)

    assert (gone.freed_files, world.on_disk("*/HITS*")) == (3, [])


def test_it_is_held_again_by_whoever_held_it_before(fakes: World) -> None:
    """Another worker went on with it in between, and what held it is over."""
    did, first = leaving(fakes)
    keep(fakes)
    fakes.move(minutes=11)
    first.step()
    lift(fakes)
    fakes.move(minutes=11)
    fakes.desk().step()
    fakes.catalog.end_rules()
    assert fakes.catalog.rules([did])[did] == []
    keep(fakes)
    fakes.move(minutes=11)

    first.step()
    days(fakes, first)

    assert len(fakes.on_disk("disk/HITS*")) == 3


def test_rules_that_we_have_ended_do_not_end_while_something_is_not_known(world: World) -> None:
    """The catalog does not answer one of the questions; no new rule is made."""
    did = world.ripe()
    world.catalog.add_rule(did, DISK)
    world.release()
    world.move(hours=25)
    world.desk(Faulty(world.catalog, {("set_lifetime", 1): When.BEFORE})).step()
    world.move(minutes=11)

    def odd(name: str, number: int) -> None:
        if name == "files":
            raise CatalogError("it makes no sense")

    calls = Faulty(world.catalog, hook=odd)
    desk = world.desk(calls)
    desk.step()
    days(world, desk, rounds=3)

    assert [rule.expires_at for rule in world.catalog.rules([did])[did]] == [None]
    assert (calls.calls["add_rule"], len(world.on_disk("disk/HITS*"))) == (0, 3)
    assert "not known: it makes no sense" in reason(world, did)


def with_one_elsewhere(world: World) -> tuple[Did, Desk]:
    """One file has its copies on tape only, where they stay: a rule on the dataset would bring it to the disk."""
    did = world.pair(rses=(DISK, TAPE))
    first = files(world, did)[0]
    world.catalog.set_tombstones([first], DISK)
    world.sweep()
    world.apply(policy(keep={"copies": TAPE}))
    world.move(days=8)
    world.release()
    world.move(hours=25)
    desk = world.desk()
    desk.step()
    return did, desk


def test_no_copy_is_made_by_what_holds_the_others(world: World) -> None:
    """Not every file has its copy there: the rules are on those that have, and are made once."""
    did, desk = with_one_elsewhere(world)
    keep(world)
    world.move(minutes=11)
    calls = Faulty(world.catalog)
    desk = world.desk(calls)

    desk.step()
    days(world, desk)

    _, *rest = files(world, did)
    rules = world.catalog.rules([did, *files(world, did)])
    assert [len(rules[each]) for each in (did, *files(world, did))] == [0, 0, 1, 1]
    assert calls.calls["add_rule"] == len(rest) == 2
    assert len(world.on_disk("disk/HITS*")) == 2
    lift(world)
    world.move(minutes=11)
    assert world.until_gone(did).freed_files == 2


def test_files_of_a_dataset_that_was_erased_are_held_one_by_one(world: World) -> None:
    """The undertaker has come, the reaper not."""
    did = due(world)
    held = files(world, did)
    world.desk().step()
    if isinstance(world.catalog, FakeCatalog):
        world.catalog.undertake()
    else:
        world.catalog.erase(did)
    assert not world.there(did)
    keep(world)
    world.move(minutes=11)

    desk = world.desk()
    desk.step()
    days(world, desk)

    assert len(world.on_disk("disk/HITS*")) == 3
    assert [len(rules) for rules in world.catalog.rules(held).values()] == [1, 1, 1]
    lift(world)
    world.move(minutes=11)
    assert world.until_gone(did, desk).freed_files == 3


class Refusing(Faulty):
    """Our account may make no rule at one RSE."""

    at = ""

    def add_rule(self, did: Did, rse: str, lifetime: timedelta | None = None) -> None:
        if rse == self.at:
            raise NotPermitted(f"{OURS} may make no rule at {rse}")
        super().add_rule(did, rse, lifetime)


def test_what_the_catalog_refuses_is_said_and_keeps_nothing_else(world: World) -> None:
    """Other RSEs are held, and it is tried again at the next look."""
    did, _ = leaving(world, rses=(DISK, TAPE))
    keep(world)
    world.move(minutes=11)
    catalog = Refusing(world.catalog)
    catalog.at = DISK
    desk = world.desk(catalog)

    desk.step()

    assert [rule.rse_expression for rule in world.catalog.rules([did])[did]] == [TAPE]
    assert f"not held at {DISK}: {OURS} may make no rule at {DISK}" in reason(world, did)
    catalog.at = ""
    world.move(minutes=11)
    desk.step()
    days(world, desk)
    assert len(world.on_disk("*/HITS*")) == 6
    assert "not held" not in reason(world, did)


# Rules of ours on single files.


def test_a_rule_of_ours_on_a_file_ends_with_the_dataset(world: World) -> None:
    """It held the file while something else had it too."""
    did = due(world)
    desk = world.desk(Faulty(world.catalog, {("set_tombstones", 1): When.BEFORE}))
    desk.step()
    first = files(world, did)[0]
    world.catalog.add_dataset(OTHER)
    world.catalog.attach(OTHER, [world.file(first.name)], DISK)
    world.move(minutes=11)
    desk.step()
    assert "is in" in reason(world, did)
    world.catalog.detach(OTHER, [first])
    world.move(minutes=11)

    gone = world.until_gone(did, desk)

    assert (gone.freed_files, world.on_disk("*/HITS*")) == (3, [])
    assert "stay" not in str(gone.reason)


def test_what_is_left_of_a_recall_half_way_leaves_when_it_is_released_anew(world: World) -> None:
    """The recall held the files one by one."""
    did = world.ripe()
    for file in files(world, did):
        world.catalog.add_rule(file, DISK)
    world.release()
    world.move(hours=25)

    gone = world.until_gone(did)

    assert (gone.freed_files, world.on_disk("*/HITS*")) == (3, [])
    assert gone.gone_at is not None
    assert gone.leaving_at is not None
    assert gone.gone_at - gone.leaving_at < timedelta(hours=1)


def test_a_rule_of_ours_on_a_file_that_others_have_stays(world: World) -> None:
    """They have got it while the dataset left."""
    did, desk = leaving(world)
    first = files(world, did)[0]
    world.catalog.add_dataset(OTHER)
    world.catalog.attach(OTHER, [world.file(first.name)], DISK)
    world.move(minutes=1)
    desk.step()
    world.catalog.erase(did)
    world.move(minutes=11)

    gone = world.until_gone(did, desk)
    days(world, desk)

    assert world.on_disk("*/HITS*") == [f"disk/{first.name}"]
    assert [rule.expires_at for rule in world.catalog.rules([first])[first]] == [None]
    assert gone.freed_files == 2


def test_rules_of_ours_over_what_stays_are_not_ended(world: World) -> None:
    """On tape a file keeps its rule; the one on disk ends."""
    did = world.ripe(policy(keep={"copies": TAPE}), rses=(DISK, TAPE))
    first = files(world, did)[0]
    world.catalog.add_rule(first, DISK)
    world.catalog.add_rule(first, TAPE)
    world.release()
    world.move(hours=25)

    gone = world.until_gone(did)

    assert (gone.freed_files, len(world.on_disk("tape/*")), world.on_disk("disk/HITS*")) == (3, 3, [])
    assert [rule.rse_expression for rule in world.catalog.rules([first])[first]] == [TAPE]


# Where we may not mark.


@pytest.mark.parametrize("held", [1, 3])
@pytest.mark.parametrize("keeps", [None, TAPE])
def test_what_others_hold_stays_also_where_we_may_not_mark(fakes: World, held: int, keeps: str | None) -> None:
    """It does not leave for ever."""
    rses = (DISK,) if keeps is None else (DISK, TAPE)
    did = fakes.ripe(policy(keep={"copies": keeps}), rses=rses)
    theirs = files(fakes, did)[:held]
    for file in theirs:
        fakes.rule(file)
    fakes.release()
    fakes.move(hours=25)
    fakes.catalog.forbidden.add("set_tombstones")

    gone = fakes.until_gone(did)

    assert gone.freed_files == 3 - held
    assert f"{held} stay" in str(gone.reason)
    assert fakes.on_disk("disk/HITS*") == [f"disk/{file.name}" for file in theirs]


def test_nothing_of_ours_is_made_over_what_others_hold(fakes: World) -> None:
    """A rule that ends is made for what only we would hold."""
    did = fakes.ripe()
    theirs, *_ = files(fakes, did)
    fakes.rule(theirs)
    fakes.release()
    fakes.move(hours=25)
    fakes.catalog.forbidden.add("set_tombstones")
    fakes.until_gone(did)

    assert [rule.account for rule in fakes.catalog.rules([theirs])[theirs]] == ["somebody"]


# What is said.


def test_the_evidence_says_which_rules_were_asked_for(world: World) -> None:
    """Those on its single files were not."""
    did = world.ripe()
    world.rule(files(world, did)[0], locked=True)

    verdict = world.verdicts()[str(did)]

    assert isinstance(verdict, Release)
    assert "no replication rule of others is on it, or on anything that it is in: 0 there" in verdict.evidence
