"""Several processes on one store do the work of one."""

from __future__ import annotations

from collections import Counter

from orchestrator.store.store import Store
from schemas.dispatch import DispatchState
from tests.acceptance.home import EVERY_CLOSE, NOTE_ID, Home, apply_rules, noted, until
from tests.acceptance.sender import closes, send
from tests.services.activemq import ActiveMQ

FRAMES = 300


def test_dispatchers_and_workers_side_by_side_carry_out_each_message_once(
    home: Home, store: Store, activemq: ActiveMQ, destination: str
) -> None:
    """Two dispatchers and two workers share the to-do list without treading on each other's feet."""
    home.script("act", f"sleep 0.02; {NOTE_ID}")
    apply_rules(store, EVERY_CLOSE)
    dispatchers = [home.start("run", "--only", "dispatcher") for _ in range(2)]
    workers = [home.start("run", "--only", "worker") for _ in range(2)]
    for process in (*dispatchers, *workers):
        process.await_said("muleteer.started")
    home.start("run", "--only", "listener")
    send(activemq, destination, closes(FRAMES))

    until(lambda: store.counts().dispatches == {DispatchState.DONE: FRAMES}, 60, "every dispatch done")

    assert sorted(noted(home)) == sorted(message.id for message in store.messages.list(limit=2 * FRAMES))
    owners = Counter(store.dispatches.attempts_of(each.id)[0].owner for each in store.dispatches.list(limit=FRAMES))
    assert len(owners) == 2


def test_a_process_for_each_role_does_the_same_job_as_one(
    home: Home, store: Store, activemq: ActiveMQ, destination: str
) -> None:
    """`run --only listener`, `--only dispatcher` and `--only worker` hand on to each other through the store alone."""
    home.script("act", NOTE_ID)
    apply_rules(store, EVERY_CLOSE)
    processes = [home.start("run", "--only", role) for role in ("listener", "dispatcher", "worker")]
    for process in processes:
        process.await_said("muleteer.started")
    send(activemq, destination, closes(100))

    until(lambda: store.counts().dispatches == {DispatchState.DONE: 100}, 30, "every dispatch done")

    assert sorted(noted(home)) == list(range(1, 101))
    assert [process.stop() for process in processes] == [0, 0, 0]
