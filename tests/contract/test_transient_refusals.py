"""What keeps a dataset: each thing alone, on a dataset that could leave otherwise."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.rucio.port import CatalogUnavailable
from orchestrator.store.store import Store
from schemas.did import Did
from schemas.transient import Release, TransientPolicy
from tests.contract.transients import DISK, SCOPE, TAPE, Told, World, dst, hits, policy, worlds
from tests.services.catalog import Faulty


@pytest.fixture(params=["fake", "embedded"])
def world(request: pytest.FixtureRequest, tmp_path: Path, store: Store) -> World:
    return worlds(tmp_path, store, request.param)


def test_what_is_proved_may_leave(world: World) -> None:
    """All of it is told: what leaves, why it may, and what it frees. A plan changes nothing."""
    did = world.ripe()

    plan = world.desk().plan(who="me")

    (release,) = plan.releases
    assert (release.did, release.files, release.successor) == (str(did), 3, str(dst()))
    assert [(each.rse, each.files) for each in release.frees] == [(DISK, 3)]
    assert any(str(dst()) in line for line in release.evidence)
    assert [(each.matches, each.looked_at, each.releases) for each in plan.policies] == [(1, 2, 1)]
    assert world.store.transients.list() == []


# What protects it, whatever a policy says.


def _never(world: World) -> None:
    world.told = Told(never=(f"{SCOPE}:HITS-0*",))


def _keep(world: World) -> None:
    world.store.transient_keeps.keep(str(hits()), who="me", why="calibration", now=world.now)


def _raw(world: World) -> None:
    world.told = Told(raw_scopes=("group.*",))


def _open(world: World) -> None:
    world.catalog.reopen(hits())


def _locked(world: World) -> None:
    world.rule(hits(), world.catalog.account, locked=True)


def _foreign(world: World) -> None:
    world.rule(hits(), "a.student")


def _foreign_above(world: World) -> None:
    """On a container that a container is in that it is in."""
    outer, inner = Did(SCOPE, "OUTER"), Did(SCOPE, "INNER")
    for box in (outer, inner):
        world.catalog.add_container(box)
    world.catalog.enclose(outer, [inner])
    world.catalog.enclose(inner, [hits()])
    world.rule(outer, "a.student")


def _shared(world: World) -> None:
    world.catalog.add_dataset(Did(SCOPE, "SAMPLE"))
    world.catalog.attach(Did(SCOPE, "SAMPLE"), [world.file("HITS-00000001-1.root")])


def _extended(world: World) -> None:
    world.desk().survey(who="test")
    until = world.now + timedelta(days=3)
    world.store.transients.extend(hits(), until, who="me", why="a look", now=world.now)


def _another_policy(world: World) -> None:
    world.apply(policy(), policy(name="other", pattern="HITS.*"))


# What its policy wants.


def _young(world: World) -> None:
    world.now -= timedelta(days=2)


def _successor_open(world: World) -> None:
    world.catalog.reopen(dst())


def _successor_erased(world: World) -> None:
    world.catalog.erase(dst())


def _successor_to_be_erased(world: World) -> None:
    world.catalog.set_lifetime(dst(), timedelta(days=1))


def _count(world: World) -> None:
    world.catalog.reopen(dst())
    world.catalog.attach(dst(), [world.file("DST-more.root")])
    world.catalog.close(dst())
    world.move(seconds=1)


def _disabled(world: World) -> None:
    world.store.transient_policies.set_enabled(["hits"], False, who="me", now=world.now, reason="test")


REFUSED: list[tuple[str, Callable[[World], None]]] = [
    ("never", _never),
    ("never", _keep),
    ("raw", _raw),
    ("open", _open),
    ("locked", _locked),
    ("foreign_rule", _foreign),
    ("foreign_rule", _foreign_above),
    ("shared", _shared),
    ("extended", _extended),
    ("ambiguous", _another_policy),
    ("age", _young),
    ("successor", _successor_open),
    ("successor", _successor_erased),
    ("successor", _successor_to_be_erased),
    ("count", _count),
]


@pytest.mark.parametrize(("check", "change"), REFUSED, ids=[change.__name__.strip("_") for _, change in REFUSED])
def test_each_thing_alone_keeps_it(world: World, check: str, change: Callable[[World], None]) -> None:
    """It could leave before; nothing else is said of it after."""
    did = world.ripe()
    assert world.refusals(did) == {}

    change(world)

    assert set(world.refusals(did)) == {check}


WANTED: list[tuple[str, TransientPolicy]] = [
    ("successor", policy(successor={"dataset": "{scope}:DST-{run}", "require": {"files": 4}})),
    (
        "successor",
        policy(
            successor={
                "dataset": "{scope}:DST-{run}",
                "require": {"numbered": r"DST-\d+-(?P<n>\d+)\.root", "replicas": TAPE},
            }
        ),
    ),
    ("successor", policy(successor={"dataset": "{scope}:DST-{run}", "age": "30d"})),
    ("launch", policy(successor={"dataset": "{scope}:DST-{run}", "launched": True})),
    (
        "maps",
        policy(
            successor={
                "dataset": "{scope}:DST-{run}",
                "maps": {"files": r"HITS-\d+-(?P<n>[01])\.root", "onto": r"DST-\d+-(?P<n>\d)\.root"},
            }
        ),
    ),
    ("made_by", policy(made_by={"workflow": "reco"})),
    ("last_runs", policy(keep={"last_runs": 1})),
    ("runs", policy(keep={"runs": {"include": [1]}})),
    ("copies", policy(keep={"copies": TAPE})),
    ("where", policy(where={"run_number": "1"})),
]


@pytest.mark.parametrize(("check", "wanted"), WANTED, ids=[f"{check}{n}" for n, (check, _) in enumerate(WANTED)])
def test_each_wish_of_a_policy_keeps_what_does_not_fulfil_it(world: World, check: str, wanted: TransientPolicy) -> None:
    """The same dataset could leave by a policy without it."""
    world.catalog.register([world.file("elsewhere.root", TAPE)], TAPE)  # the RSE is known
    did = world.ripe()
    assert world.refusals(did) == {}

    world.apply(wanted)

    assert check in world.refusals(did)


@pytest.mark.parametrize("change", [_disabled, lambda world: world.apply(policy(fraction=0.2))])
def test_a_policy_that_is_off_or_matches_too_much_releases_nothing(
    world: World, change: Callable[[World], None]
) -> None:
    """That is said of the policy. Once the number is confirmed it does."""
    world.ripe()
    plan = world.desk().plan(who="me")
    change(world)

    assert world.verdicts() == {}
    assert world.desk().plan(who="me").policies[0].refused is not None
    assert world.desk().plan(who="me").releases == ()
    with pytest.raises(Exception, match="does not hold any more"):
        world.desk().release(plan, who="me", why="full disks")


def test_a_number_that_was_confirmed_is_enough(world: World) -> None:
    """A policy that is meant to match a lot."""
    did = world.ripe(policy(fraction=0.2))
    world.store.transient_policies.confirm("hits", 1, 1, who="me", now=world.now, reason="meant")
    assert world.refusals(did) == {}


def test_what_another_release_rests_on_stays(world: World) -> None:
    """A chain: the middle of it is both a successor and transient. Only its beginning leaves, and then the middle."""
    world.pair()
    end = Did(SCOPE, "AOD-00000001")
    world.fill(end, [f"AOD-{n}.root" for n in range(3)])
    middle = policy(name="dst", pattern=r"DST-(?P<run>\d{8})", successor={"dataset": "{scope}:AOD-{run}"})
    world.apply(policy(), middle)
    world.move(days=8)

    assert [isinstance(each, Release) for each in world.verdicts().values()].count(True) == 1
    (released,) = world.release()
    assert released.did == hits()
    assert set(world.refusals(dst())) == {"proof"}

    world.move(hours=25)
    world.until_gone(hits())
    assert world.refusals(dst()) == {}


@pytest.mark.parametrize("call", ["files", "replicas", "parents", "rules", "dataset", "metadata"])
def test_what_cannot_be_asked_is_no_permission(world: World, call: str) -> None:
    """Whichever question the catalog does not answer: the dataset stays, and the reason is told."""
    did = world.ripe(policy(where={"project": "*"}) if call == "metadata" else policy())
    found: dict[str, object] = {}

    def away(name: str, number: int) -> None:
        if name == call:
            raise CatalogUnavailable("away: this is a test")

    desk = world.desk(Faulty(world.catalog, hook=away))
    plan = desk.plan(who="me", take=lambda verdict: found.update({verdict.did: verdict}))

    assert plan.releases == ()
    assert "unknown" in plan.refused, found[str(did)]


def test_no_more_are_looked_at_closely_than_wanted(world: World) -> None:
    """Those that were due first; of the others it is said."""
    for run in (1, 2, 3):
        world.pair(run=run)
        world.move(hours=1)
    world.apply()
    world.move(days=8)

    plan = world.desk().plan(who="me", most=2)

    assert [each.did for each in plan.releases] == [str(hits(1)), str(hits(2))]
    assert plan.refused == {"beyond": 1}
