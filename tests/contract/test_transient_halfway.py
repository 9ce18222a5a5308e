"""Something comes up while a dataset leaves, and calls were made already: what is there still is held."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.gates import TRANSIENT
from orchestrator.store.port import NotAllowed
from orchestrator.store.store import Store
from orchestrator.transient.desk import Desk
from schemas.did import Did
from schemas.transient import Transient
from tests.contract.filling import Killed
from tests.contract.transients import DISK, OURS, SCOPE, TAPE, World, dst, hits, policy, worlds
from tests.services.catalog import FakeCatalog, Faulty, When

BOX = Did(SCOPE, "ALL")
OTHER = Did(SCOPE, "OTHER")


@pytest.fixture(params=["fake", "embedded"])
def world(request: pytest.FixtureRequest, tmp_path: Path, store: Store) -> World:
    return worlds(tmp_path, store, request.param)


@pytest.fixture
def fakes(tmp_path: Path, store: Store) -> World:
    """A world in which calls can be forbidden, and copies declared away."""
    return worlds(tmp_path, store, "fake")


def due(world: World, **more: Any) -> Did:
    """One that is released, and its time to be taken back is over."""
    did = world.ripe(**more)
    world.release()
    world.move(hours=25)
    return did


def leaving(world: World, **more: Any) -> tuple[Did, Desk]:
    """One of which the catalog was asked to let it go; its daemons have not come."""
    did, desk = due(world, **more), world.desk()
    desk.step()
    assert world.known(did).state == "leaving"
    return did, desk


def some_went(world: World, did: Did) -> None:
    """The reaper has come by the first file, and not by the others: they were saved, and are marked anew."""
    files = [file.did for file in world.catalog.files(did)]
    for file in files[1:]:
        world.catalog.add_rule(file, DISK)
    world.sweep()
    rules = world.catalog.rules(files[1:])
    for found in rules.values():
        world.catalog.set_rule_lifetime(found[0].id, timedelta())
    if isinstance(world.catalog, FakeCatalog):
        world.catalog.end_rules()


def recall(world: World, did: Did, catalog: Any = None) -> Any:
    return world.desk(catalog).recall(world.known(did).id, who="me", why="needed")


# Where copies are to stay.


def only_on_tape(world: World) -> Did:
    did = world.ripe(policy(keep={"copies": TAPE}), rses=(DISK, TAPE))
    world.catalog.add_rule(did, DISK)
    world.release()
    world.move(hours=25)
    return did


def lose_tape(world: World, did: Did) -> None:
    world.catalog.set_tombstones([file.did for file in world.catalog.files(did)], TAPE)
    world.sweep()
    assert world.on_disk("tape/*") == []


def test_the_last_copies_stay_if_those_on_tape_are_lost(world: World) -> None:
    """They were there when it was proved, and the catalog was away when it began to leave."""
    did = only_on_tape(world)
    world.desk(Faulty(world.catalog, {("set_rule_lifetime", 1): When.BEFORE})).step()
    assert world.known(did).state == "leaving"
    lose_tape(world, did)

    for _ in range(5):
        world.move(minutes=11)
        world.desk().step()
        world.sweep()

    assert len(world.on_disk("disk/HITS*")) == 3
    assert "files have no copy at TAPE that can be read: HITS-00000001-0.root" in str(world.known(did).reason)


def test_before_copies_are_marked_it_is_asked_for_those_on_tape(fakes: World) -> None:
    """They are lost after the look at everything, which takes its time."""
    did = fakes.ripe(policy(keep={"copies": TAPE}), rses=(DISK, TAPE))
    fakes.release()
    fakes.move(hours=25)
    asked: list[int] = []

    def lose(name: str, number: int) -> None:
        if name == "replicas" and fakes.known(did).state == "leaving":
            asked.append(number)
            if len(asked) == 4:  # what is left, what stays, whether each has a copy there; and now: what is marked
                lose_tape(fakes, did)

    catalog = Faulty(fakes.catalog, hook=lose)
    fakes.desk(catalog).step()

    assert len(asked) > 4
    assert catalog.calls["set_tombstones"] == 0
    fakes.sweep()
    assert len(fakes.on_disk("disk/HITS*")) == 3


# The catalog was told to erase it.


def lose_successor(world: World) -> None:
    world.catalog.erase(dst())


def keep(world: World) -> None:
    world.store.transient_keeps.keep(f"{SCOPE}:HITS-*", who="me", why="calibration", now=world.now)


def stop(world: World) -> None:
    world.store.suspensions.suspend(TRANSIENT, who="me", why="alarm", now=world.now)


@pytest.mark.parametrize("comes_up", [lose_successor, keep, stop])
def test_the_catalog_is_kept_from_erasing_what_something_speaks_against(
    world: World, comes_up: Callable[[World], None]
) -> None:
    """The undertaker has not come when it is next looked at: the dataset stays, and so do copies not marked."""
    did, desk = leaving(world)
    assert world.catalog.dataset(did).expires_at is not None
    comes_up(world)
    world.move(minutes=1)

    desk.step()

    assert world.catalog.dataset(did).expires_at is None
    assert "nothing more is done" in str(world.known(did).reason)
    if isinstance(world.catalog, FakeCatalog):
        world.catalog.undertake()
        assert world.there(did)


def test_it_leaves_when_nothing_speaks_against_it_any_more(world: World) -> None:
    """The lifetime is set again."""
    did, desk = leaving(world)
    stop(world)
    world.move(minutes=1)
    desk.step()
    assert world.catalog.dataset(did).expires_at is None

    world.store.suspensions.resume(TRANSIENT, who="me", why="go", now=world.now)

    assert world.until_gone(did).freed_files == 3


def test_what_comes_up_between_two_calls_is_held_at_once(world: World) -> None:
    """Not only when it is looked at next: the undertaker may be there before."""
    did, _ = leaving(world)
    world.catalog.add_container(BOX)
    world.catalog.enclose(BOX, [did])
    world.move(minutes=1)
    kept: list[str] = []

    def hook(name: str, number: int) -> None:
        if name == "set_tombstones" and not kept:
            kept.append(name)
            keep(world)

    world.desk(Faulty(world.catalog, hook=hook)).step()

    assert kept
    assert world.catalog.children(BOX) == [did]
    assert world.catalog.dataset(did).expires_at is None


def test_a_file_put_elsewhere_in_the_instant_of_its_mark_stays(world: World) -> None:
    """After the last question and before the mark: the reaper comes at once, and finds it saved."""
    did = due(world)
    first = world.catalog.files(did)[0]

    def share(name: str, number: int) -> None:
        if name == "set_tombstones" and not world.there(OTHER):
            world.catalog.add_dataset(OTHER)
            world.catalog.attach(OTHER, [world.file(first.did.name)], DISK)

    world.desk(Faulty(world.catalog, hook=share)).step()
    world.sweep()

    assert f"disk/{first.did.name}" in world.on_disk()
    assert f"{first.did.name} is in {OTHER} too" in str(world.known(did).reason)


# The claim.


def test_a_call_that_comes_too_late_is_undone(world: World) -> None:
    """The claim ran out while it was on its way, and somebody has called the dataset back meanwhile."""
    did = due(world)
    back: list[Transient] = []

    def slow(name: str, number: int) -> None:
        if name == "set_lifetime" and not back:
            world.move(minutes=11)
            back.append(recall(world, did))

    world.desk(Faulty(world.catalog, hook=slow)).step()
    world.move(minutes=1)
    world.sweep()
    world.sweep()

    assert (back[0].state, world.known(did).state) == ("held", "held")
    assert (world.catalog.dataset(did).expires_at, len(world.on_disk("disk/HITS*"))) == (None, 3)


def test_whoever_lost_the_claim_makes_no_call_more(world: World) -> None:
    """Another worker has it: two at once would each undo what the other has done."""
    did = due(world)
    claimed: list[Transient] = []

    def slow(name: str, number: int) -> None:
        if name == "files" and world.known(did).state == "leaving" and not claimed:
            world.move(minutes=61)
            claimed.extend(
                world.store.transients.claim_due(owner="other", now=world.now, lease=timedelta(hours=1), limit=1)
            )

    catalog = Faulty(world.catalog, hook=slow)
    world.desk(catalog).step()

    assert [each.did for each in claimed] == [did]
    assert catalog.calls["set_tombstones"] == catalog.calls["set_lifetime"] == 0


def test_a_proof_that_takes_longer_than_a_claim_is_not_taken_over(world: World) -> None:
    """To go through a large catalog takes its time: else two workers take it from each other for ever."""
    did = due(world)
    taken: list[Transient] = []

    def slow(name: str, number: int) -> None:
        if name == "walk":
            world.move(minutes=30)
            due_now = world.store.transients.claim_due(owner="b", now=world.now, lease=timedelta(minutes=10), limit=9)
            taken.extend(due_now)

    world.desk(Faulty(world.catalog, hook=slow)).step()

    assert (taken, world.known(did).state) == ([], "leaving")


# Called back.


def test_a_recall_that_was_killed_is_not_forgotten(world: World) -> None:
    """Nobody has to repeat it: whoever looks at the dataset next holds it, and keeps it for a week from then on."""
    did, desk = leaving(world)
    world.move(minutes=11)
    with pytest.raises(Killed):
        recall(world, did, Faulty(world.catalog, {("add_rule", 1): When.AFTER}, error=Killed))
    assert f"muleteer transient recall {world.known(did).id}" in str(world.known(did).reason)
    world.move(days=3)
    desk.step()
    world.sweep()

    assert (world.known(did).state, world.there(did), len(world.on_disk("disk/HITS*"))) == ("held", True, 3)
    world.move(days=6)
    assert "never" in world.refusals(did)


def test_what_is_called_back_is_kept_for_the_whole_week(world: World) -> None:
    """Also if the same person keeps it already, and that is over in an hour."""
    did, _ = leaving(world)
    world.move(minutes=11)
    soon = world.now + timedelta(hours=1)
    world.store.transient_keeps.keep(str(did), who="me", why="a look", now=world.now, until=soon)

    recall(world, did)
    world.move(days=6, hours=23)

    assert "never" in world.refusals(did)


def test_what_is_called_back_is_in_its_containers_again(world: World) -> None:
    """The answer says so; and of one that was erased meanwhile that it could not be."""
    did, gone = world.pair(), Did(SCOPE, "ERASED")
    for box in (BOX, gone):
        world.catalog.add_container(box)
        world.catalog.enclose(box, [did])
    world.apply()
    world.move(days=8)
    world.release()
    world.move(hours=25)
    world.desk().step()
    assert world.catalog.children(BOX) == []
    world.catalog.set_lifetime(did, None)
    world.catalog.set_lifetime(gone, timedelta())
    world.catalog.undertake() if isinstance(world.catalog, FakeCatalog) else world.catalog.erase(gone)
    world.move(minutes=11)

    back = recall(world, did)

    assert world.catalog.children(BOX) == [did]
    assert f"it is in {BOX} again" in str(back.reason)
    assert f"it was in {gone}, and could not be put back" in str(back.reason)


def test_copies_that_have_gone_are_not_made_again(world: World) -> None:
    """A rule on the dataset would transfer them back: those that are left are held one by one."""
    did, _ = leaving(world, rses=(DISK, TAPE))
    world.catalog.set_lifetime(did, None)
    world.catalog.add_rule(did, TAPE)
    some_went(world, did)
    assert len(world.on_disk("disk/HITS*")) == 2
    world.move(minutes=11)

    recall(world, did)
    world.sweep()

    files = [file.did for file in world.catalog.files(did)]
    held = world.catalog.rules([did, *files])
    assert [rule.rse_expression for rule in held[did]] == [TAPE]
    assert [[rule.rse_expression for rule in held[file]] for file in files] == [[], [DISK], [DISK]]
    assert len(world.on_disk("disk/HITS*")) == 2


def test_no_rule_that_ends_makes_copies_again(fakes: World) -> None:
    """Our account may not mark them any more, half-way: the rule is on the files that are left."""
    did, _ = leaving(fakes)
    fakes.catalog.set_lifetime(did, None)
    some_went(fakes, did)
    fakes.catalog.forbidden.add("set_tombstones")
    fakes.move(minutes=11)

    fakes.desk().step()

    files = [file.did for file in fakes.catalog.files(did)]
    found = fakes.catalog.rules([did, *files])
    assert len(files) == 2
    assert [len(found[each]) for each in (did, *files)] == [0, 1, 1]


# What others do with its files.


def take(world: World, did: Did) -> None:
    """Somebody puts the first file into another dataset."""
    world.catalog.add_dataset(OTHER)
    world.catalog.attach(OTHER, [world.file(f"{did.name}-0.root")])
    world.catalog.close(OTHER)


def test_a_file_that_others_take_before_it_is_marked_stays(fakes: World) -> None:
    """Asked page by page: since all was looked at others may have taken it."""
    did = due(fakes)
    catalog = Faulty(fakes.catalog)

    def hook(name: str, number: int) -> None:
        # the last thing that is asked for before the calls: what the successor lacks
        if name == "parents" and fakes.known(did).state == "leaving" and not fakes.there(OTHER):
            hook.seen += 1  # type: ignore[attr-defined]
            if hook.seen == 4:  # type: ignore[attr-defined]
                take(fakes, did)

    hook.seen = 0  # type: ignore[attr-defined]
    catalog.hook = hook
    fakes.desk(catalog).step()
    assert fakes.there(OTHER)
    fakes.sweep()

    assert catalog.calls["set_tombstones"] == 0
    assert len(fakes.on_disk("disk/HITS*")) == 3


def test_a_file_that_others_take_while_it_is_marked_is_saved(fakes: World) -> None:
    """A rule on it takes the mark off, as soon as it is looked at, and stays when the dataset is erased."""
    did, desk = leaving(fakes)
    take(fakes, did)
    fakes.move(minutes=1)

    desk.step()
    for _ in range(3):
        fakes.sweep()
        fakes.move(minutes=11)
        desk.step()
    assert len(fakes.on_disk("disk/HITS*")) == 3
    fakes.catalog.erase(did)
    fakes.until_gone(did, desk)

    assert fakes.on_disk("disk/HITS*") == [f"disk/{did.name}-0.root"]
    assert [file.did.name for file in fakes.catalog.files(OTHER)] == [f"{did.name}-0.root"]
    assert [rule.account for rule in fakes.catalog.rules([Did(SCOPE, f"{did.name}-0.root")]).popitem()[1]] == [OURS]


def test_a_file_that_others_take_after_the_dataset_went_is_saved(fakes: World) -> None:
    """It is settled as staying only when it is held."""
    did, desk = leaving(fakes)
    take(fakes, did)
    fakes.catalog.undertake()
    assert not fakes.there(did)
    fakes.move(minutes=1)

    gone = fakes.until_gone(did, desk)

    assert gone.freed_files == 2
    assert fakes.on_disk("disk/HITS*") == [f"disk/{did.name}-0.root"]


# Addresses.


class Dated(Faulty):
    """Tells when files were made, as Rucio does."""

    made_at: Any = None

    def metadata(self, dids: Iterable[Did]) -> Mapping[Did, Mapping[str, Any]]:
        return {did: {**known, "created_at": self.made_at} for did, known in super().metadata(dids).items()}


def moved_address(world: World) -> None:
    """The RSE gets another door: copies lie where they lay, and their address is told otherwise."""
    for each in world.catalog._dids.values():
        if hasattr(each, "copies"):
            each.copies = {rse: pfn.replace("file://localhost", "file://") for rse, pfn in each.copies.items()}


@pytest.mark.parametrize(("made", "left"), [(timedelta(days=-9), 0), (timedelta(minutes=2), 3)])
def test_a_copy_at_another_address_is_there_still(fakes: World, made: timedelta, left: int) -> None:
    """It leaves as all others do; but a file that was made later is another one."""
    did = due(fakes)
    catalog = Dated(fakes.catalog, {("set_tombstones", 1): When.BEFORE})
    catalog.made_at = fakes.now - timedelta(days=9)
    desk = fakes.desk(catalog)
    desk.step()
    moved_address(fakes)
    fakes.catalog.delete = lambda pfn: Path(pfn.removeprefix("file://")).unlink()
    catalog.made_at = fakes.now + made
    fakes.move(minutes=11)

    gone = fakes.until_gone(did, desk)

    assert (gone.freed_files, len(fakes.on_disk("disk/HITS*"))) == (3 - left, left)


def test_a_recall_of_what_is_gone_says_so(world: World) -> None:
    """And nothing is noted that would keep the rest from being settled."""
    did, _ = leaving(world)
    world.sweep()
    world.sweep()
    world.move(minutes=11)
    with pytest.raises(NotAllowed, match="is not in the catalog any more"):
        recall(world, hits())

    assert world.until_gone(did).freed_files == 3
