"""One dataset that is odd keeps no other; and what people change while others are worked on counts at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from orchestrator.core.gates import TRANSIENT
from orchestrator.core.transient.caps import Caps
from orchestrator.rucio.port import CatalogError
from orchestrator.store.intake import Arrival
from orchestrator.store.port import NotAllowed, Stopped
from orchestrator.store.store import Store
from orchestrator.transient.releaser import Moved
from orchestrator.transient.remarks import Remarks
from schemas.did import Did
from schemas.transient import Release, TransientState
from tests.contract.transients import DISK, SCOPE, TAPE, World, dst, hits, noticer, policy, releaser, worlds
from tests.services.catalog import Faulty
from tests.unit.making import frame


@pytest.fixture(params=["fake", "embedded"])
def world(request: pytest.FixtureRequest, tmp_path: Path, store: Store) -> World:
    return worlds(tmp_path, store, request.param)


@pytest.fixture
def simple(tmp_path: Path, store: Store) -> World:
    """With the catalog in memory: what is asked does not hang on the catalog."""
    return worlds(tmp_path, store, "fake")


def survey(world: World) -> Any:
    return world.desk().survey(who="surveyor")


def states(world: World, *runs: int) -> list[TransientState]:
    return [world.known(hits(run)).state for run in runs]


# Released by themselves.


def test_copies_that_come_back_hold_nothing_up(world: World) -> None:
    """What has left without its dataset is looked at no more; the others are released."""
    did = world.ripe(policy(keep={"copies": TAPE}, automatic=True), rses=(DISK, TAPE))
    world.catalog.add_rule(did, DISK)
    survey(world)
    world.move(hours=25)
    assert world.until_gone(did).state == "gone"
    world.catalog.register([world.file(f"HITS-00000001-{n}.root", DISK) for n in range(3)], DISK)
    world.pair(run=2, rses=(DISK, TAPE))
    world.move(days=8)

    looked = survey(world)

    assert ([each.did for each in looked.released], looked.refused) == ([hits(2)], None)
    assert looked.survey.proofs == 1
    assert "released" in world.refusals(did)
    assert len(world.on_disk("disk/HITS-00000001*")) == 3


def test_one_that_is_refused_keeps_no_other(world: World) -> None:
    """All together are refused because of it; then each is tried alone, and the others are released."""
    for run in (1, 2, 3):
        world.pair(run=run)
    world.apply(policy(automatic=True))
    world.move(days=8)
    found = world.desk().plan(who="me").releases
    world.store.transients.release([(found[1], world.told.undo)], Caps(), who="me", why="mine", now=world.now)

    released, refused = releaser(world).automatic(found)

    assert [each.did for each in released] == [hits(1), hits(3)]
    assert refused == [f"nothing was released: {hits(2)} is released already"]
    with pytest.raises(NotAllowed, match="released already"):
        world.store.transients.release([(found[1], world.told.undo)], Caps(), who="x", why="y", now=world.now)


def test_a_stop_is_told_once_and_not_for_each(simple: World) -> None:
    """Nothing is tried one by one that nobody may do."""
    simple.pair(run=2)
    simple.ripe(policy(automatic=True))
    found = simple.desk().plan(who="me").releases
    simple.store.suspensions.suspend(TRANSIENT, who="me", why="alarm", now=simple.now)

    with pytest.raises(Stopped):
        releaser(simple).automatic(found)

    assert "releases stand still" in str(survey(simple).refused)


def test_an_earlier_life_of_a_successor_holds_nothing_up(simple: World) -> None:
    """It leaves for ever, since its storage keeps the file; the dataset of its name that is there now is another."""
    seeds = policy(name="dst", pattern=r"DST-(?P<run>\d{8})", successor={"dataset": "{scope}:ANA-{run}"})
    simple.fill(dst(), ["DST-00000001-x.root"])
    simple.fill(Did(SCOPE, "ANA-00000001"), ["ana.root"])
    simple.apply(seeds, policy(automatic=True))
    simple.move(days=8)
    simple.release()
    simple.move(hours=25)
    desk = simple.desk()
    desk.step()
    simple.catalog.delete = lambda pfn: None
    for _ in range(2):
        simple.sweep()
        simple.move(minutes=11)
        desk.step()
    assert simple.known(dst()).state == "leaving"
    simple.fill(hits(), ["HITS-00000001-0.root"])
    simple.move(minutes=1)
    simple.fill(dst(), ["DST-00000001-new.root"])
    simple.pair(run=2)
    simple.move(days=8)

    looked = survey(simple)

    assert looked.refused is None
    assert sorted(str(each.did) for each in looked.released) == [str(hits(1)), str(hits(2))]


def test_what_stands_in_the_way_is_logged_once(simple: World) -> None:
    """A policy that matches too much, and what was refused; said again after it was over."""
    simple.ripe(policy(fraction=0.1))
    remarks = Remarks()

    def logged() -> list[str]:
        with capture_logs() as logs:
            remarks.take(survey(simple))
        return [each["event"] for each in logs if each["log_level"] == "warning"]

    assert logged() == ["transient.policy_releases_nothing"]
    assert logged() == []
    simple.apply(policy(automatic=True))
    simple.store.suspensions.suspend(TRANSIENT, who="me", why="alarm", now=simple.now)
    assert logged() == ["transient.not_released"]
    assert logged() == []
    simple.apply(policy(fraction=0.1))
    assert logged() == ["transient.policy_releases_nothing"]


def test_a_cap_of_an_rse_that_there_is_not_is_logged_once(simple: World) -> None:
    """It caps nothing, and a slip of the pen is not seen elsewhere."""
    simple.ripe(policy())
    simple.told.rse_bytes_per_day = {"DISK": 1, "no such": 1}
    remarks = Remarks()

    with capture_logs() as logs:
        for _ in range(2):
            remarks.take(survey(simple))

    (warning,) = (each for each in logs if each["event"] == "transient.bounds_nothing")
    assert "rse_bytes_per_day, no such, caps nothing" in warning["reason"]


# Changed while others are worked on.


@pytest.mark.parametrize("change", ["taken out", "disabled", "replaced"])
def test_a_policy_that_is_changed_lets_nothing_more_leave(world: World, change: str) -> None:
    """Also those of the same batch, and the one that is just being proved by it."""
    world.pair(run=2)
    world.ripe()
    world.release()
    world.move(hours=25)
    done: list[str] = []

    def meanwhile(name: str, number: int) -> None:
        if name == "files" and not done:
            done.append(change)
            policies = world.store.transient_policies
            named: dict[str, Any] = {"who": "me", "now": world.now, "reason": "wrong"}
            if change == "taken out":
                policies.remove(["hits"], **named)
            elif change == "disabled":
                policies.set_enabled(["hits"], False, **named)
            else:
                policies.apply([policy(lifetime="90d")], prune=False, **named)

    desk = world.desk(Faulty(world.catalog, hook=meanwhile))
    for _ in range(3):
        desk.step()
        world.move(minutes=2)

    assert done
    assert states(world, 1, 2) == ["held", "held"]
    assert all(world.catalog.dataset(hits(run)).expires_at is None for run in (1, 2))


# Heard of.


def test_a_dataset_that_cannot_be_asked_for_stops_no_event(simple: World) -> None:
    """What comes after it is followed, and it is not asked for again and again."""
    for run in (1, 2):
        simple.pair(run=run)
    simple.apply()
    simple.move(days=8)
    survey(simple)

    class Refusing:
        """The catalog answers about one dataset with an error, for ever."""

        def __getattr__(self, name: str) -> Any:
            return getattr(simple.catalog, name)

        def dataset(self, did: Did) -> Any:
            if did == hits(1):
                raise CatalogError("500: internal server error")
            return simple.catalog.dataset(did)

    listening = noticer(simple, Refusing())
    listening.step()
    for run in (1, 2):
        simple.catalog.erase(hits(run))
        arrival = frame("erase", name=hits(run).name, scope=SCOPE)
        assert isinstance(arrival, Arrival)
        simple.store.messages.take_in([arrival], origin="broker", now=simple.now)

    assert (listening.step(), listening.step()) == (2, 0)
    assert states(simple, 1, 2) == ["releasable", "gone"]


# Asked for.


def test_the_catalog_is_not_gone_through_for_each_step(simple: World) -> None:
    """What policies match is counted for a survey and a plan, and otherwise every few minutes; or for new policies."""
    simple.pair(run=2)
    simple.ripe()
    counting = Faulty(simple.catalog)
    desk = simple.desk(counting)
    plan = desk.plan(who="me")
    before = counting.calls["walk"]
    desk.plan(who="me")
    assert counting.calls["walk"] == 2 * before
    desk.release(plan, who="me", why="full")
    assert counting.calls["walk"] == 2 * before

    simple.apply(policy(description="other words"))
    simple.store.transients.take_back([simple.known(hits(2)).id], who="me", why="no", now=simple.now)
    with pytest.raises(Moved, match="version"):
        desk.release(plan, who="me", why="full")
    assert counting.calls["walk"] == 2 * before + 1

    simple.move(hours=25)
    desk.step()
    assert counting.calls["walk"] == 2 * before + 2


# Written by hand.


def test_a_plan_with_something_that_is_no_dataset_is_refused(simple: World) -> None:
    """When it is read; and also if it comes from elsewhere."""
    simple.ripe()
    plan = simple.desk().plan(who="me")
    wrong: Release = plan.releases[0].model_copy(update={"did": "HITS-00000001"})

    with pytest.raises(ValueError, match="'HITS-00000001' is not a DID"):
        Release.model_validate_json(wrong.model_dump_json())
    with pytest.raises(ValueError, match="'DST' is not a DID"):
        Release.model_validate(plan.releases[0].model_dump() | {"successor": "DST"})
    with pytest.raises(Moved, match="'HITS-00000001' is not a DID"):
        simple.desk().release(plan.model_copy(update={"releases": (wrong,)}), who="me", why="x")
