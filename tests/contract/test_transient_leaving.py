"""A transient dataset from the plan to its end: planned, released, taken back, leaving, gone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.core.gates import Subject
from orchestrator.store.port import NotAllowed
from orchestrator.store.store import Store
from orchestrator.transient.looking import Looker
from orchestrator.transient.releaser import Moved
from orchestrator.transient.witness import Witness
from schemas.did import Did
from schemas.gate import Kind
from schemas.transient import TransientState
from tests.contract.transients import DISK, OURS, SCOPE, TAPE, Told, World, complete, dst, hits, policy, worlds
from tests.services.catalog import FakeCatalog, Faulty, When


@pytest.fixture(params=["fake", "embedded"])
def world(request: pytest.FixtureRequest, tmp_path: Path, store: Store) -> World:
    return worlds(tmp_path, store, request.param)


def test_a_dataset_leaves_when_the_time_to_take_it_back_is_over(world: World) -> None:
    """Nothing is done before; then it goes from the catalog and from the disk, and its successor stays."""
    did = world.ripe()
    (released,) = world.release()

    world.desk().step()
    world.sweep()
    assert (released.state, world.there(did), len(world.on_disk())) == ("released", True, 6)

    world.move(hours=25)
    gone = world.until_gone(did)

    assert (gone.freed_files, gone.freed_bytes) == (3, released.release.freed if released.release else 0)
    assert (world.there(did), world.there(dst())) == (False, True)
    assert world.on_disk() == [f"disk/DST-00000001-{n}.root" for n in range(3)]
    story = [entry.to_state for entry in world.store.journal.of("transient", gone.id)]
    assert list(dict.fromkeys(story))[-3:] == ["released", "leaving", "gone"]


def test_a_release_that_is_taken_back_leaves_no_trace(world: World) -> None:
    """It can be taken back until something is done."""
    did = world.ripe()
    (released,) = world.release()

    (back,) = world.desk().take_back([released.id], who="me", why="needed")
    world.move(days=2)
    world.desk().step()
    world.sweep()

    assert (back.state, world.there(did), len(world.on_disk())) == ("held", True, 6)


def test_what_was_taken_back_is_not_released_again_by_itself(world: World) -> None:
    """An automatic policy would do so at the next look: for a week it does not. Another dataset is not kept with it."""
    world.pair(run=2)
    did = world.ripe(policy(automatic=True))
    released = world.desk().survey(who="test").released
    back = [each.id for each in released if each.did == did]
    world.desk().take_back(back, who="me", why="needed")

    early = world.desk().survey(who="test").released
    refused = world.refusals(did)
    world.move(days=7, seconds=1)
    late = world.desk().survey(who="test").released

    assert (len(released), list(early), set(refused)) == (2, [], {"never"})
    assert [each.did for each in late] == [did]


def test_our_own_rules_and_containers_do_not_hold_it(world: World) -> None:
    """Rules of ours end, and it leaves the containers that it is in, before it is erased."""
    did = world.pair()
    box = Did(SCOPE, "ALL")
    world.catalog.add_container(box)
    world.catalog.enclose(box, [did])
    world.catalog.add_rule(did, DISK)
    world.apply()
    world.move(days=8)
    world.release()
    world.move(hours=25)

    gone = world.until_gone(did)

    assert (gone.freed_files, world.catalog.children(box), world.there(did)) == (3, [], False)


def test_only_copies_leave_where_others_are_to_stay(world: World) -> None:
    """The dataset stays with its copies on tape; those on disk go."""
    did = world.ripe(policy(keep={"copies": TAPE}), rses=(DISK, TAPE))
    world.catalog.add_rule(did, DISK)
    (released,) = world.release()
    assert [each.rse for each in released.release.frees] == [DISK]  # type: ignore[union-attr]
    world.move(hours=25)

    gone = world.until_gone(did)

    assert (gone.freed_files, world.there(did), world.catalog.dataset(did).length) == (3, True, 3)
    assert world.on_disk("*/HITS*") == [f"tape/HITS-00000001-{n}.root" for n in range(3)]


# The plan and reality.


def change_successor(world: World) -> None:
    world.catalog.reopen(dst())
    world.catalog.attach(dst(), [world.file("DST-more.root")])
    world.catalog.close(dst())


def change_policy(world: World) -> None:
    world.apply(policy(description="another version"))


def erase(world: World) -> None:
    world.catalog.erase(hits())


def name_used_again(world: World) -> None:
    erase(world)
    world.move(seconds=1)
    world.fill(hits(), ["other.root"])


def more_copies(world: World) -> None:
    world.catalog.register([world.file("HITS-00000001-0.root", TAPE)], TAPE)


def keep(world: World) -> None:
    world.store.transient_keeps.keep(f"{SCOPE}:HITS-*", who="me", why="calibration", now=world.now)


MOVES = [change_successor, change_policy, erase, name_used_again, more_copies, keep]


@pytest.mark.parametrize("move", MOVES, ids=[move.__name__ for move in MOVES])
def test_a_plan_of_a_world_that_has_moved_releases_nothing(world: World, move: object) -> None:
    """Of two datasets one has changed: neither is released, and what changed is told."""
    world.pair(run=2)
    did = world.ripe()
    plan = world.desk().plan(who="me")
    assert len(plan.releases) == 2
    move(world)  # type: ignore[operator]

    with pytest.raises(Moved) as caught:
        world.desk().release(plan, who="me", why="full disks")

    assert any(str(did) in difference for difference in caught.value.differences)
    assert world.store.transients.list(states=[TransientState.RELEASED]) == []


@pytest.mark.parametrize("move", MOVES, ids=[move.__name__ for move in MOVES])
def test_what_is_released_is_proved_once_more_when_it_leaves(world: World, move: object) -> None:
    """What moved in the time to take back is held, or gone by other hands; nothing of it is touched."""
    did = world.ripe()
    world.release()
    move(world)  # type: ignore[operator]
    before = world.on_disk()
    world.move(hours=25)

    world.desk().step()
    world.sweep()

    first = world.store.transients.find(did)[-1]
    assert first.state == ("gone" if move in (erase, name_used_again) else "held"), first.reason
    assert (first.freed_files, world.on_disk()) == (0, before)


def test_a_plan_of_another_store_is_not_carried_out(world: World) -> None:
    """Nor one of another catalog, nor an empty one."""
    world.ripe()
    plan = world.desk().plan(who="me")
    for change in ({"store": "0" * 32}, {"catalog": "https://elsewhere"}, {"releases": ()}):
        with pytest.raises(Moved):
            world.desk().release(plan.model_copy(update=change), who="me", why="full disks")


def test_caps_hold_for_people(world: World) -> None:
    """Two may leave within a day; a plan of three is refused as a whole."""
    for run in (2, 3):
        world.pair(run=run)
    world.ripe()
    world.told = Told(datasets_per_day=2)
    with pytest.raises(NotAllowed, match="datasets_per_day"):
        world.release()
    assert world.store.transients.list(states=[TransientState.RELEASED]) == []


def test_automatic_policies_release_within_the_caps(world: World) -> None:
    """The oldest first; the next ones on the next day."""
    for run in (1, 2, 3):
        world.pair(run=run)
        world.move(hours=1)
    world.apply(policy(automatic=True))
    world.move(days=8)
    world.told = Told(datasets_per_day=2)

    looked = world.desk().survey(who="test")
    again = world.desk().survey(who="test")
    world.move(hours=24, seconds=1)
    later = world.desk().survey(who="test")

    assert [each.did for each in looked.released] == [hits(1), hits(2)]
    assert (list(again.released), [each.did for each in later.released]) == ([], [hits(3)])


# In the midst of it.


def leaving(world: World) -> Did:
    """A dataset that is leaving: the catalog was asked, and its daemons have not come."""
    did = world.ripe()
    world.release()
    world.move(hours=25)
    world.desk().step()
    assert world.known(did).state == "leaving"
    return did


def test_a_stop_holds_what_is_under_way(world: World) -> None:
    """Nothing is begun, nothing goes on, and nothing new is released."""
    first = world.ripe()
    world.pair(run=2)
    world.move(days=8)
    world.release()
    world.store.suspensions.suspend(Subject(Kind.TRANSIENT), who="me", why="wait", now=world.now)
    world.move(hours=25)

    assert world.desk().step().due == 0
    assert (world.known(first).state, len(world.on_disk())) == ("released", 12)

    world.store.suspensions.resume(Subject(Kind.TRANSIENT), who="me", why="go", now=world.now)
    assert world.until_gone(first).freed_files == 3


def lock(world: World) -> None:
    world.rule(hits(), locked=True)


def share(world: World) -> None:
    world.catalog.add_dataset(Did(SCOPE, "SAMPLE"))
    world.catalog.attach(Did(SCOPE, "SAMPLE"), [world.file("HITS-00000001-1.root")])


def open_again(world: World) -> None:
    world.catalog.reopen(hits())


def erase_successor(world: World) -> None:
    world.catalog.erase(dst())


COMES_UP = [lock, share, open_again, keep, change_successor, erase_successor]


@pytest.mark.parametrize("comes_up", COMES_UP, ids=[each.__name__ for each in COMES_UP])
def test_what_comes_up_half_way_stops_it(world: World, comes_up: Callable[[World], None]) -> None:
    """The catalog went away before anything was done; then something speaks against it. Nothing is done, and why."""
    did = world.ripe()
    world.release()
    world.move(hours=25)
    world.desk(Faulty(world.catalog, {("set_tombstones", 1): When.BEFORE})).step()
    assert world.known(did).state == "leaving"
    comes_up(world)
    before = world.on_disk()

    for _ in range(4):
        world.move(minutes=11)
        world.desk().step()
        world.sweep()

    found = world.known(did)
    assert (found.state, world.on_disk(), world.there(did)) == ("leaving", before, True)
    assert "nothing more is done" in str(found.reason)


def test_a_dataset_that_leaves_can_be_called_back(world: World) -> None:
    """What is left of it stays, under a rule of ours, and no policy releases it for a week."""
    did = leaving(world)

    back = world.desk().recall(world.known(did).id, who="me", why="a student needs it")
    for _ in range(3):
        world.sweep()
        world.move(hours=1)
        world.desk().step()

    assert (back.state, world.there(did), len(world.on_disk())) == ("held", True, 6)
    assert [rule.account for rule in world.catalog.rules([did])[did]] == [OURS]
    assert "never" in world.refusals(did)


def test_a_file_that_the_disk_keeps_is_told(world: World) -> None:
    """The catalog says that it is deleted, and it can be seen: then it is not gone."""
    did = leaving(world)
    stubborn = world.folder / "disk" / "HITS-00000001-1.root"
    content = stubborn.read_text()
    for _ in range(4):
        world.sweep()
        if not stubborn.exists():
            stubborn.write_text(content)
        world.move(minutes=11)
        world.desk().step()

    found = world.known(did)
    assert (found.state, world.there(did)) == ("leaving", False)
    assert str(stubborn) in str(found.reason)

    stubborn.unlink()
    assert world.until_gone(did).freed_files == 3


def test_another_dataset_of_the_same_name_is_not_touched(world: World) -> None:
    """The name is used again while the first one leaves: the second one and its files stay."""
    did = leaving(world)
    world.sweep()
    world.sweep()
    assert not world.there(did)
    world.fill(did, [f"HITS-00000001-{n}.root" for n in range(3)])

    gone = world.until_gone(did) if world.known(did).state != "gone" else world.known(did)
    for _ in range(3):
        world.sweep()

    assert gone.state == "gone"
    assert (world.there(did), len(world.on_disk("*/HITS*"))) == (True, 3)


@pytest.mark.parametrize("released", [False, True])
def test_what_others_erase_has_vanished(world: World, released: bool) -> None:
    """A survey notices it; nothing counts as freed by us."""
    did = world.ripe()
    world.desk().survey(who="test")
    if released:
        world.release()
    world.catalog.erase(did)
    world.move(seconds=1)

    looked = world.desk().survey(who="test")

    found = world.known(did)
    assert (looked.vanished, found.state, found.freed_files) == (1, "gone", 0)


def take_out(world: World) -> None:
    world.store.transient_policies.remove(["hits"], who="me", now=world.now, reason="test")


def disable(world: World) -> None:
    world.store.transient_policies.set_enabled(["hits"], False, who="me", now=world.now, reason="test")


NO_POLICY = [
    (take_out, "policy hits is not in force any more"),
    (disable, "policy hits releases nothing: it is disabled"),
    (lambda world: world.apply(policy(pattern="OTHER")), "policy hits does not match it any more"),
    (lambda world: world.apply(policy(fraction=0.1)), "policy hits releases nothing: it matches"),
]


@pytest.mark.parametrize(("change", "said"), NO_POLICY, ids=["gone", "disabled", "elsewhere", "too_much"])
def test_what_no_policy_lets_leave_any_more_is_held(world: World, change: Callable[[World], None], said: str) -> None:
    """What could leave at the last look cannot any more, and what was held says so: none keeps an old reason."""
    did = world.ripe()
    world.pair(run=2)  # too young
    world.desk().survey(who="test")
    assert [world.known(each).state for each in (did, hits(2))] == ["releasable", "held"]
    change(world)
    world.move(hours=1)

    assert world.desk().survey(who="test").held == 1
    for each in (did, hits(2)):
        found = world.known(each)
        assert (found.state, [refusal.check for refusal in found.refusals]) == ("held", ["policy"])
        assert found.refusals[0].text.startswith(said)
    told = len(world.store.journal.of("transient", world.known(did).id))
    assert world.desk().survey(who="test").held == 0
    assert len(world.store.journal.of("transient", world.known(did).id)) == told


# Copies that cannot be read.


@pytest.fixture
def fakes(tmp_path: Path, store: Store) -> World:
    """A world in which copies can be declared away."""
    return worlds(tmp_path, store, "fake")


def test_a_copy_that_cannot_be_read_leaves_too(fakes: World) -> None:
    """It is planned, counted and deleted as all others are."""
    did = fakes.ripe()
    fakes.catalog.declare(Did(SCOPE, "HITS-00000001-1.root"), DISK, readable=False)
    (released,) = fakes.release()
    assert released.release is not None
    assert [each.files for each in released.release.frees] == [3]
    fakes.move(hours=25)

    assert fakes.until_gone(did).freed_files == 3
    assert fakes.on_disk("*/HITS*") == []


def test_a_copy_that_is_about_to_be_deleted_is_there_still(fakes: World) -> None:
    """The catalog's reaper has it in hand, and fails: the dataset is not gone before its data is."""
    did = leaving(fakes)
    stubborn = Did(SCOPE, "HITS-00000001-1.root")
    delete = fakes.catalog.delete

    def refuse(pfn: str) -> None:
        if pfn.endswith(stubborn.name):
            raise PermissionError("the disk refuses")
        delete(pfn)

    fakes.catalog.delete = refuse
    for _ in range(4):
        fakes.sweep()
        fakes.move(minutes=11)
        fakes.desk().step()

    found = fakes.known(did)
    assert fakes.catalog.replicas([stubborn]) == {stubborn: []}
    assert (found.state, fakes.on_disk("*/HITS*")) == ("leaving", [f"disk/{stubborn.name}"])
    assert "1 copies at DISK are there still" in str(found.reason)
    fakes.catalog.delete = delete
    assert fakes.until_gone(did).freed_files == 3


def test_a_copy_that_cannot_be_read_proves_nothing(fakes: World) -> None:
    """Where copies are to stay it is none, and stays nevertheless: it may come back."""
    kept = policy(keep={"copies": TAPE})
    did = fakes.ripe(kept, rses=(DISK, TAPE))
    away = Did(SCOPE, "HITS-00000001-1.root")
    fakes.catalog.declare(away, TAPE, readable=False)
    assert set(fakes.refusals(did)) == {"copies"}
    looker = Looker(fakes.catalog, *complete(fakes.catalog, Witness({})))
    assert {copy.rse for copy in looker.leaving(did, TAPE)} == {DISK}
    fakes.catalog.declare(away, TAPE, readable=True)
    fakes.release()
    fakes.move(hours=25)
    fakes.desk().step()
    fakes.catalog.declare(away, TAPE, readable=False)

    assert fakes.until_gone(did).freed_files == 3
    assert len(fakes.on_disk("tape/HITS*")) == 3


def test_a_successor_that_cannot_be_read_proves_nothing(fakes: World) -> None:
    """One file of it has no copy that can be read: nothing is released, and what is released is held."""
    did = fakes.ripe()
    fakes.release()
    file = Did(SCOPE, "DST-00000001-2.root")
    fakes.catalog.declare(file, DISK, readable=False)
    fakes.move(hours=25)

    fakes.desk().step()

    found = fakes.known(did)
    assert (found.state, [refusal.check for refusal in found.refusals]) == ("held", ["successor"])
    assert file.name in found.refusals[0].text
    assert set(fakes.refusals(did)) == {"successor"}
    fakes.catalog.declare(file, DISK, readable=True)
    assert fakes.refusals(did) == {}


def test_an_account_that_may_not_mark_copies_has_a_rule_end(tmp_path: Path, store: Store) -> None:
    """Copies that no rule ever held would be kept for ever."""
    world = worlds(tmp_path, store, "fake")
    did = world.ripe()
    world.release()
    world.move(hours=25)
    assert isinstance(world.catalog, FakeCatalog)
    world.catalog.forbidden.add("set_tombstones")

    assert world.until_gone(did).freed_files == 3
    assert world.on_disk("*/HITS*") == []
