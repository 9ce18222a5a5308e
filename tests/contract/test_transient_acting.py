"""What actors get of transient datasets: it is done, tried again, waited for, or given up."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.actor import Done, GiveUp, Outcome, Retry, Wait
from orchestrator.core.gates import EVERYTHING, Subject
from orchestrator.rucio.port import CatalogError, CatalogUnavailable
from orchestrator.store.store import Store
from orchestrator.transient.acting import InTransit
from schemas.did import Did
from schemas.gate import Kind
from tests.contract.transients import SCOPE, Told, World, dst, hits, policy, releaser, worlds
from tests.services.catalog import Faulty, When

WHO: dict[str, str] = {"who": "rule raw", "why": "dispatch 3"}


class Counting:
    """A catalog that counts how often a dataset was looked at closely."""

    def __init__(self, catalog: Any) -> None:
        self._catalog = catalog
        self.looks = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._catalog, name)

    def parents(self, dids: Any) -> Any:
        self.looks += 1
        return self._catalog.parents(dids)


@pytest.fixture
def world(tmp_path: Path, store: Store) -> World:
    return worlds(tmp_path, store, "fake")


def acting(world: World, catalog: Any = None) -> InTransit:
    return InTransit(world.store, lambda: releaser(world, catalog), world.clock)


# Released.


def test_what_is_on_its_way_is_done(world: World) -> None:
    """Released, leaving or gone: once is enough, by whomever; the caps do not count it twice."""
    did = world.ripe()
    world.told = Told(datasets_per_day=1)
    told = [acting(world).release(did, **WHO), acting(world).release(did, **WHO)]
    world.move(hours=25)
    world.desk().step()
    told.append(acting(world).release(did, **WHO))
    world.until_gone(did)
    told.append(acting(world).release(did, **WHO))

    assert told[0] == Done(f"{did} is released, and leaves 2026-12-01 01:13 UTC")
    assert told[1:3] == [Done(f"{did} is {state} already") for state in ("released", "leaving")]
    assert told[3] == GiveUp(f"the catalog does not have {did}")


def test_another_dataset_of_the_name_is_released_by_itself(world: World) -> None:
    """That an earlier one is gone says nothing of it."""
    did = world.ripe()
    world.release()
    world.move(hours=25)
    world.until_gone(did)
    world.fill(did, [f"HITS-00000001-{n}.root" for n in range(3)])

    told = acting(world).release(did, **WHO)
    world.catalog.reopen(dst())
    world.move(days=8)
    world.catalog.close(dst())
    world.move(seconds=1)

    assert isinstance(told, Retry)  # it is too young, and its successor was made of the other one
    assert isinstance(acting(world).release(did, **WHO), Done)


@pytest.mark.parametrize(
    ("refuse", "said"),
    [
        (lambda world: world.catalog.reopen(hits()), "open: "),
        (lambda world: world.catalog.reopen(dst()), "successor: "),
        (lambda world: world.catalog.erase(dst()), "successor: "),
        (lambda world: world.rule(hits(), "a.student"), "foreign_rule: "),
        (lambda world: world.apply(policy(fraction=0.1)), "fraction: "),
        (lambda world: world.apply(policy(), policy(name="other")), "ambiguous: "),
    ],
)
def test_what_stands_in_the_way_is_tried_again(world: World, refuse: Callable[[World], None], said: str) -> None:
    """How often is for the rule to say. All that was found is told."""
    did = world.ripe()
    refuse(world)

    told = acting(world).release(did, **WHO)

    assert isinstance(told, Retry) and said in told.reason
    assert world.store.transients.list() == []


@pytest.mark.parametrize("stopped", [Subject(Kind.TRANSIENT), EVERYTHING])
def test_a_stop_is_waited_for(world: World, stopped: Subject) -> None:
    """It costs no attempt; when it has ended, the dataset is released."""
    did = world.ripe()
    world.store.suspensions.suspend(stopped, who="ann", why="wait", now=world.now)

    told = acting(world).release(did, **WHO)

    assert isinstance(told, Wait) and "ann stopped" in told.reason
    world.store.suspensions.resume(stopped, who="ann", why="go", now=world.now)
    assert isinstance(acting(world).release(did, **WHO), Done)


@pytest.mark.parametrize(
    "cap", [Told(datasets_per_day=1), Told(bytes_per_day=100), Told(rse_bytes_per_day={"DISK": 100})]
)
def test_room_within_the_caps_is_waited_for(world: World, cap: Told) -> None:
    """One fits; the next one has its turn a day later."""
    world.pair(run=2)
    world.ripe()
    world.told = cap

    first, second = (acting(world).release(hits(run), **WHO) for run in (1, 2))
    world.move(hours=24, seconds=1)
    third = acting(world).release(hits(2), **WHO)

    assert isinstance(first, Done) and isinstance(third, Done)
    assert isinstance(second, Wait) and "_per_day" in second.reason
    assert [world.known(hits(run)).state for run in (1, 2)] == ["released", "released"]


@pytest.mark.parametrize(
    ("cap", "proved"),
    [(Told(datasets_per_day=1), False), (Told(bytes_per_day=93), False), (Told(bytes_per_day=150), True)],
)
def test_what_waits_for_room_is_not_proved_each_time(world: World, cap: Told, proved: bool) -> None:
    """Not at all where there is no room for anything; else once, to see what it comes to, and again once it fits."""
    world.pair(run=2)
    world.ripe()
    world.told = cap
    catalog = Counting(world.catalog)
    one = releaser(world, catalog)
    rule = InTransit(world.store, lambda: one, world.clock)
    assert isinstance(rule.release(hits(1), **WHO), Done)

    told, looked = list[Outcome](), [catalog.looks]
    for _ in range(4):
        told.append(rule.release(hits(2), **WHO))
        looked.append(catalog.looks)
        world.move(minutes=15)

    assert all(isinstance(each, Wait) and "_per_day" in each.reason for each in told)
    assert [before < after for before, after in pairwise(looked)] == [proved, False, False, False]
    world.move(hours=24)
    assert isinstance(rule.release(hits(2), **WHO), Done)


@pytest.mark.parametrize("cap", [Told(bytes_per_day=90), Told(rse_bytes_per_day={"DISK": 90})])
def test_what_no_day_has_room_for_is_given_up(world: World, cap: Told) -> None:
    """It would wait for ever."""
    did = world.ripe()
    world.told = cap

    told = acting(world).release(did, **WHO)

    assert isinstance(told, GiveUp) and f"no day has room for {did}: 93 bytes" in told.reason


@pytest.mark.parametrize(("error", "told"), [(CatalogUnavailable("away"), Wait), (CatalogError("no"), Retry)])
def test_a_catalog_that_does_not_answer_releases_nothing(
    world: World, error: CatalogError, told: type[Wait | Retry]
) -> None:
    """One that is away is waited for; one that says no is asked again as the rule says."""
    did = world.ripe()
    faulty = Faulty(world.catalog, {1: When.BEFORE}, error=lambda: error)

    answer = acting(world, faulty).release(did, **WHO)

    assert isinstance(answer, told) and str(error) in answer.reason
    assert isinstance(acting(world, faulty).release(did, **WHO), Done)


def test_what_no_policy_matches_is_given_up(world: World) -> None:
    """Also if the one that matches is off."""
    did = world.ripe()
    assert acting(world).release(dst(), **WHO) == GiveUp(f"no policy of transient datasets matches {dst()}")
    assert isinstance(acting(world).release(Did(SCOPE, "NONE"), **WHO), GiveUp)

    world.store.transient_policies.set_enabled(["hits"], False, who="me", now=world.now, reason="test")

    assert isinstance(acting(world).release(did, **WHO), GiveUp)


# Kept.


def test_a_keep_is_made_once(world: World) -> None:
    """A longer one is made anew, a shorter one is not; others' keeps are theirs."""
    which, days = str(hits()), [2, 1, 3, None, 5, None]
    world.store.transient_keeps.keep(which, who="ben", why="mine", now=world.now)

    told = [acting(world).keep(which, None if each is None else timedelta(days=each), **WHO) for each in days]

    assert [each == Done(f"{which} stays") for each in told] == [True, False, True, True, False, False]
    assert told[1] == Done(f"{which} is kept already: dispatch 3")
    ours = [each.until for each in world.store.transient_keeps.in_force(world.now) if each.who == "rule raw"]
    assert ours == [world.now + timedelta(days=2), world.now + timedelta(days=3), None]


# Extended.


def test_a_dataset_is_extended_once(world: World) -> None:
    """A longer extension stands; it is held when it was released, and what leaves cannot be extended any more."""
    did = world.ripe()
    day = timedelta(days=1)
    early = acting(world).extend(did, day, **WHO)
    world.desk().survey(who="test")
    until = world.now + 2 * day

    told = [acting(world).extend(did, each * day, **WHO) for each in (2, 1)]

    assert isinstance(early, GiveUp) and "no policy has matched" in early.reason
    assert told == [
        Done(f"{did} stays until {until:%Y-%m-%d %H:%M} UTC"),
        Done(f"{did} stays until {until:%Y-%m-%d %H:%M} UTC already"),
    ]
    assert set(world.refusals(did)) == {"extended"}
    world.move(days=2)
    world.release()
    world.move(hours=25)
    world.desk().step()
    late = acting(world).extend(did, day, **WHO)
    assert isinstance(late, GiveUp) and "is leaving" in late.reason


def test_what_is_gone_is_not_extended(world: World) -> None:
    """It is not said that it stays, though it was extended for longer once; another of its name must be seen first."""
    did = world.ripe()
    world.desk().survey(who="test")
    assert isinstance(acting(world).extend(did, timedelta(days=30), **WHO), Done)
    world.move(minutes=1)
    world.catalog.erase(did)
    world.desk().survey(who="test")
    assert world.known(did).state == "gone"

    told = acting(world).extend(did, timedelta(days=7), **WHO)

    assert isinstance(told, GiveUp) and "no policy has matched" in told.reason


@pytest.mark.parametrize(("which", "span"), [("a:b", timedelta(0)), ("a:[b", None), ("a:b ", None), ("a", None)])
def test_a_keep_of_nothing_is_given_up(world: World, which: str, span: timedelta | None) -> None:
    """Trying again cannot help."""
    told = acting(world).keep(which, span, **WHO)

    assert isinstance(told, GiveUp) and told.reason
    assert world.store.transient_keeps.in_force(world.now) == []
