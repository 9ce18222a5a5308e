"""Several processes run, and each wants to look at everything: one does, and none looks again too soon."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.rucio.port import CatalogUnavailable
from orchestrator.store.store import Store
from orchestrator.transient.desk import Desk, Looked
from tests.contract.transients import World, hits, worlds
from tests.services.catalog import Faulty, When

EVERY = timedelta(hours=1)


@pytest.fixture
def world(tmp_path: Path, store: Store) -> World:
    made = worlds(tmp_path, store, "fake")
    made.ripe()
    return made


def look(desk: Desk) -> Looked | None:
    return desk.survey_in_turn(EVERY, who="surveyor")


def test_one_process_looks_for_all(world: World) -> None:
    """And the next time it may be another."""
    one, two = world.desk(), world.desk()

    found = look(one)
    assert found is not None and found.survey.proofs == 1
    assert look(two) is None
    world.move(minutes=59)
    assert look(one) is look(two) is None
    world.move(minutes=1)
    assert look(two) is not None
    assert look(one) is None


def test_nobody_looks_while_another_does(world: World) -> None:
    """However long that takes."""
    other, seen = world.desk(), list[Looked | None]()

    def slow(name: str, number: int) -> None:
        if name in ("walk", "files", "parents"):
            world.move(minutes=3)
            seen.append(look(other))

    assert look(world.desk(Faulty(world.catalog, hook=slow))) is not None
    assert len(seen) > 5
    assert set(seen) == {None}


def test_a_look_that_failed_is_made_up_for_at_once(world: World) -> None:
    """The catalog was away."""
    with pytest.raises(CatalogUnavailable):
        look(world.desk(Faulty(world.catalog, {("scopes", 1): When.BEFORE})))

    assert look(world.desk()) is not None
    assert world.known(hits()).state == "releasable"


def test_a_look_of_a_process_that_was_killed_is_made_up_for(world: World) -> None:
    """When nothing was heard of it for half an hour."""
    lease = timedelta(minutes=30)
    assert world.store.turns.begin("transient-survey", owner="killed", every=EVERY, lease=lease, now=world.now)

    assert look(world.desk()) is None
    world.move(minutes=30)
    assert look(world.desk()) is not None


def test_a_look_that_is_stopped_is_made_up_for(world: World) -> None:
    """The process is told to end in the middle."""
    assert world.desk().survey_in_turn(EVERY, who="surveyor", stopping=lambda: True) is not None

    assert look(world.desk()) is not None
    assert look(world.desk()) is None


def test_whoever_was_thought_dead_stops_looking(world: World) -> None:
    """Another one looks by now, and two would only be in each other's way."""
    other = list[Looked | None]()

    def sleep(name: str, number: int) -> None:
        if name == "walk" and number > 3 and not other:
            world.move(minutes=31)
            other.append(look(world.desk()))

    found = look(world.desk(Faulty(world.catalog, hook=sleep)))

    assert other[0] is not None and other[0].survey.proofs == 1
    assert found is not None and found.survey.proofs == 0
