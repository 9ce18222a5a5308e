"""What hermes tells of transient datasets is looked at in the catalog at once: frames as a Rucio server sent them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from orchestrator.rucio.port import CatalogUnavailable
from orchestrator.store.intake import Arrival
from orchestrator.store.store import Store
from orchestrator.transient.noticing import Noticer
from schemas.did import Did
from tests.contract.transients import DISK, SCOPE, World, dst, hits, noticer, worlds
from tests.services.catalog import Faulty, When
from tests.unit.making import FRAMES

FILE = Did(SCOPE, "HITS-00000001-1.root")


@pytest.fixture(params=["fake", "embedded"])
def world(request: pytest.FixtureRequest, tmp_path: Path, store: Store) -> World:
    return worlds(tmp_path, store, request.param)


@pytest.fixture
def listening(world: World) -> Noticer:
    """It has begun to listen, and a survey has seen a dataset that could leave."""
    world.ripe()
    world.desk().survey(who="test")
    assert world.known(hits()).state == "releasable"
    made = noticer(world)
    assert made.step() == 0
    return made


def recorded(event: str) -> dict[str, Any]:
    """The payload of such an event, as it came."""
    bodies = (json.loads(frame["body"]) for frame in FRAMES)
    return next(body for body in bodies if body["event_type"] == event)


def tell(world: World, event: str, **names: Any) -> None:
    """Such an event comes in, with other names in it."""
    body = recorded(event) if event != "deletion-failed" else recorded("deletion-done") | {"event_type": event}
    assert names.keys() <= body["payload"].keys()
    body["payload"] |= names
    body["created_at"] = f"{world.now:%Y-%m-%d %H:%M:%S.%f}"
    arrival = Arrival({"event_type": event}, json.dumps(body).encode())
    world.store.messages.take_in([arrival], origin="broker", now=world.now)


def of(did: Did) -> dict[str, str]:
    return {"scope": did.scope, "name": did.name}


def tell_erase(world: World) -> None:
    tell(world, "erase", **of(hits()))


def tell_detach(world: World) -> None:
    tell(world, "detach", **of(hits()), child_scope=SCOPE, child_name=FILE.name)


def tell_incomplete(world: World) -> None:
    tell(world, "incomplete", **of(hits()))


def tell_lost(world: World) -> None:
    tell(world, "lost", **of(FILE), dataset_scope=SCOPE, dataset_name=hits().name)


TOLD = [tell_erase, tell_detach, tell_incomplete, tell_lost]
EACH = pytest.mark.parametrize("told", TOLD, ids=[told.__name__.removeprefix("tell_") for told in TOLD])


@EACH
def test_what_is_erased_has_vanished(world: World, listening: Noticer, told: Callable[[World], None]) -> None:
    """Whichever event comes first, it is looked at once, and nothing counts as freed."""
    world.catalog.erase(hits())
    told(world)

    assert (listening.step(), listening.step()) == (1, 0)

    found = world.known(hits())
    assert (found.state, found.freed_files) == ("gone", 0)
    assert "not muleteer" in str(found.reason)


@EACH
def test_what_lost_a_file_is_held(world: World, listening: Noticer, told: Callable[[World], None]) -> None:
    """It is proved anew, with the files that it has now: the successor has one more."""
    world.catalog.detach(hits(), [FILE])
    told(world)

    assert listening.step() == 1

    found = world.known(hits())
    assert (found.state, [refusal.check for refusal in found.refusals]) == ("held", ["count"])


@EACH
def test_an_event_alone_changes_nothing(world: World, listening: Noticer, told: Callable[[World], None]) -> None:
    """It may be about an earlier dataset of that name, come late, or twice: the catalog has it, and all is proved."""
    told(world)
    world.move(seconds=1)
    told(world)

    assert listening.step() == 2

    assert world.known(hits()).state == "releasable"


@EACH
def test_a_name_that_is_used_again_is_another_dataset(
    world: World, listening: Noticer, told: Callable[[World], None]
) -> None:
    """The one that was known has vanished, though there is one of its name."""
    world.catalog.erase(hits())
    world.move(seconds=1)
    world.fill(hits(), ["other.root"])
    told(world)

    listening.step()

    assert [each.state for each in world.store.transients.find(hits())] == ["gone"]


def test_what_is_released_and_erased_by_others_has_vanished(world: World, listening: Noticer) -> None:
    """What is released and there stays released: it is proved at its end."""
    world.pair(run=2)
    world.move(days=8)
    world.release()
    world.catalog.erase(hits())
    tell_erase(world)
    tell(world, "detach", **of(hits(2)))

    assert listening.step() == 2

    assert [world.known(hits(run)).state for run in (1, 2)] == ["gone", "released"]


@pytest.mark.parametrize("event", ["deletion-done", "deletion-not-found", "deletion-failed", "erase", "incomplete"])
def test_what_leaves_is_not_settled_by_an_event(world: World, listening: Noticer, event: str) -> None:
    """It is gone when the catalog and the disks say so."""
    world.release()
    world.move(hours=25)
    world.desk().step()
    assert world.known(hits()).state == "leaving"
    tell(world, event, **of(FILE if event.startswith("deletion") else hits()))

    assert listening.step() == 1

    assert world.known(hits()).state == "leaving"
    assert world.until_gone(hits()).freed_files == 3


def test_what_is_of_no_concern_is_passed_over(world: World, listening: Noticer) -> None:
    """Events of other datasets, of the successor, of a container that it is taken out of."""
    tell(world, "erase", **of(dst(9)))
    tell(world, "erase", **of(dst()))
    tell(world, "detach", scope=SCOPE, name="BOX", child_scope=SCOPE, child_name=hits().name)
    tell(world, "deletion-done", **of(Did(SCOPE, "DST-00000001-0.root")))
    tell(world, "close", **of(hits()))

    assert listening.step() == 0
    assert world.known(hits()).state == "releasable"


def test_what_came_before_it_listened_is_the_surveys(world: World) -> None:
    """An old event is not followed once more with each start."""
    world.ripe()
    world.desk().survey(who="test")
    world.catalog.erase(hits())
    tell_erase(world)

    assert noticer(world).step() == 0
    assert world.known(hits()).state == "releasable"
    world.move(seconds=1)
    assert world.desk().survey(who="test").vanished == 1


def test_events_wait_while_the_catalog_is_away(world: World) -> None:
    """None is lost."""
    world.ripe()
    world.desk().survey(who="test")
    listening = noticer(world, Faulty(world.catalog, {1: When.BEFORE}))
    listening.step()
    world.catalog.erase(hits())
    tell_erase(world)

    with pytest.raises(CatalogUnavailable):
        listening.step()
    assert world.known(hits()).state == "releasable"

    assert listening.step() == 1
    assert world.known(hits()).state == "gone"


def test_a_policy_that_is_taken_out_is_noticed_with_an_event(world: World, listening: Noticer) -> None:
    """What it let leave is held, without a survey."""
    world.store.transient_policies.remove(["hits"], who="me", now=world.now, reason="test")
    world.rule(hits(), rse=DISK)
    tell_incomplete(world)

    listening.step()

    found = world.known(hits())
    assert (found.state, found.reason) == ("held", "policy hits is not in force any more")
