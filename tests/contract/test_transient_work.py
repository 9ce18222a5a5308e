"""Our own work keeps a dataset: launches, dispatches and waiting rooms as the store really has them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.core.by_hand import DispatchVerb, Hand
from orchestrator.store.launch_commands import Ask
from orchestrator.store.store import Store
from schemas.dispatch import DispatchId
from schemas.launch import Command, LaunchState
from schemas.rule import Rule
from tests.contract.store_transients import launch
from tests.contract.test_store_dispatches import claim, judge, settle
from tests.contract.transients import SCOPE, World, dst, hits, policy, worlds
from tests.unit.making import NOW, frame, rule


@pytest.fixture
def world(tmp_path: Path, store: Store) -> World:
    return worlds(tmp_path, store, "fake")


def _arrives(store: Store) -> None:
    store.messages.take_in([frame(name=hits().name, scope=SCOPE)], origin="broker", now=NOW)


def _hand() -> Hand:
    return Hand(who="me", why="test", now=NOW)


def read(store: Store) -> None:
    launch(store, "one", LaunchState.RUNNING, reads=[hits()])


def read_later(store: Store) -> None:
    launch(store, "one", reads=[dst(7), hits()])


def read_again(store: Store) -> None:
    """It failed, and a person wants it to be tried again."""
    made = launch(store, "one", LaunchState.FAILED, reads=[hits()])
    store.launch_commands.ask(Ask(Command.RETRY), [made.id], _hand())


def made(store: Store) -> None:
    launch(store, "one", LaunchState.RUNNING, makes=[hits()])


def successor_made(store: Store) -> None:
    launch(store, "one", LaunchState.RUNNING, makes=[dst()])


def successor_made_again(store: Store) -> None:
    """An earlier one had finished."""
    launch(store, "one", LaunchState.FINISHED, makes=[dst()])
    launch(store, "two", LaunchState.RUNNING, makes=[dst()])


def dispatch_ready(store: Store) -> None:
    _arrives(store)
    judge(store, rule())


def dispatch_running(store: Store) -> None:
    dispatch_ready(store)
    claim(store)


def dispatch_held(store: Store) -> None:
    dispatch_ready(store)
    store.by_hand.dispatches(DispatchVerb.HOLD, [DispatchId(1)], _hand())


def waits_in_a_room(store: Store) -> None:
    """For the calibration of its run."""
    document = rule("both", ".*").document()
    members = {"hits": r"HITS-(?P<run>\d+)", "calib": r"CALIB-(?P<run>\d+)"}
    joining = Rule.model_validate(document | {"join": {"key": "{run}", "members": members}})
    _arrives(store)
    judge(store, joining)


#: What there is in the store, how a survey refuses for it, and what is said once it leaves already.
WORK: list[tuple[Callable[[Store], None], str, str]] = [
    (read, "read", "launch 1, which is running, reads it"),
    (read_later, "read", "launch 1, which is prepared, reads it"),
    (read_again, "read", "launch 1, which is failed, reads it"),
    (made, "making", "makes it"),
    (successor_made, "launch", f"makes its successor {dst()}"),
    (successor_made_again, "launch", f"makes its successor {dst()}"),
    (dispatch_ready, "read", "dispatch 1 of it is ready"),
    (dispatch_running, "read", "dispatch 1 of it is running"),
    (dispatch_held, "read", "dispatch 1 of it is held"),
    (waits_in_a_room, "read", "it waits in room 1 of rule both for 00000001"),
]
ALL = pytest.mark.parametrize(("work", "check", "said"), WORK, ids=[work.__name__ for work, _, _ in WORK])

#: What can come up while it leaves: nothing new reads it then.
LATE = [each for each in WORK if each[0] not in (read, read_later, read_again)]


@ALL
def test_work_keeps_a_dataset(world: World, work: Callable[[Store], None], check: str, said: str) -> None:
    """It alone, on a dataset that could leave; another one beside it may leave still."""
    world.pair(run=2)
    did = world.ripe()
    assert world.refusals(did) == {}

    work(world.store)

    assert set(world.refusals(did)) == {check}
    assert world.refusals(hits(2)) == {}


@ALL
def test_work_that_comes_up_in_time_keeps_what_is_released(
    world: World, work: Callable[[Store], None], check: str, said: str
) -> None:
    """When the time to take it back is over it is held; nothing was done to it."""
    did = world.ripe()
    world.release()
    work(world.store)
    world.move(hours=25)

    world.desk().step()

    found = world.known(did)
    assert (found.state, {refusal.check for refusal in found.refusals}) == ("held", {check})
    assert world.catalog.dataset(did).expires_at is None


@pytest.mark.parametrize(
    ("work", "said"), [(work, said) for work, _, said in LATE], ids=[work.__name__ for work, _, _ in LATE]
)
def test_work_that_comes_up_late_stops_what_leaves(world: World, work: Callable[[Store], None], said: str) -> None:
    """As soon as it is there: nothing more is done, and why."""
    _stops(world, work, said)


def test_a_launch_that_is_to_be_tried_again_stops_what_leaves(world: World) -> None:
    """It was made and had failed before; a person asks for it while the dataset leaves."""
    failed = launch(world.store, "one", LaunchState.FAILED, reads=[hits()])

    def again(store: Store) -> None:
        store.launch_commands.ask(Ask(Command.RETRY), [failed.id], _hand())

    _stops(world, again, "launch 1, which is failed, reads it")


def _stops(world: World, work: Callable[[Store], None], said: str) -> None:
    did = world.ripe()
    world.release()
    world.move(hours=25)
    world.catalog.forbidden.add("set_lifetime")  # it stays half-way
    world.rule(did, world.catalog.account)
    world.desk().step()
    assert world.known(did).state == "leaving"
    work(world.store)
    world.catalog.forbidden.clear()
    world.move(minutes=11)

    world.desk().step()

    found = world.known(did)
    assert (found.state, world.there(did)) == ("leaving", True)
    assert "nothing more is done" in str(found.reason) and said in str(found.reason)
    assert world.catalog.dataset(did).expires_at is None


def test_work_that_has_ended_keeps_nothing(world: World) -> None:
    """A launch that read it and one that made its successor have finished, and the dispatch of it is done."""
    did = world.ripe(policy(successor={"dataset": "{scope}:DST-{run}", "launched": True}))
    assert set(world.refusals(did)) == {"launch"}
    dispatch_ready(world.store)
    (claimed,) = claim(world.store)
    settle(world.store, claimed)
    launch(world.store, "one", LaunchState.FAILED, makes=[dst()])
    launch(world.store, "two", LaunchState.FINISHED, reads=[hits()], makes=[dst()])

    assert world.refusals(did) == {}


def test_what_a_launch_made_and_did_not_finish_is_no_proof(world: World) -> None:
    """The last of those that made the successor failed."""
    did = world.ripe()
    launch(world.store, "one", LaunchState.FINISHED, makes=[dst()])
    launch(world.store, "two", LaunchState.FAILED, makes=[dst()])

    assert set(world.refusals(did)) == {"launch"}
