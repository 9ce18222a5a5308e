"""What the store knows of our own work that hangs on a dataset."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, update

from orchestrator.core.by_hand import DispatchVerb, Hand
from orchestrator.core.transient.facts import Maker
from orchestrator.store.launch_commands import Ask
from orchestrator.store.store import Store
from orchestrator.store.tables import launches
from schemas.did import Did
from schemas.dispatch import DispatchId
from schemas.launch import Command, LaunchState
from tests.contract.store_transients import HITS, SEED, hits, launch
from tests.contract.test_store_dispatches import claim, judge, settle
from tests.contract.test_store_rooms import arrive, joining
from tests.contract.test_store_rooms import judge as judge_rooms
from tests.unit.making import NOW, SCOPE, frame, later, rule

OTHER = Did(SCOPE, "DS-9")
CLOSED = Did(SCOPE, "DS-0")


@pytest.mark.parametrize(
    ("state", "used"),
    [
        (LaunchState.PREPARED, "launch 1, which is prepared, reads it"),
        (LaunchState.RUNNING, "launch 1, which is running, reads it"),
        (LaunchState.FINISHED, None),
        (LaunchState.FAILED, None),
    ],
)
def test_what_a_launch_reads_is_in_use_until_it_has_ended(store: Store, state: LaunchState, used: str | None) -> None:
    """Each of its inputs, and nothing that it makes."""
    launch(store, "one", state, reads=[HITS, OTHER], makes=[SEED])

    said = {} if used is None else dict.fromkeys((HITS, OTHER), used)
    assert store.transient_readers.in_use([HITS, OTHER, SEED, hits(3)]) == said


def test_what_is_going_to_be_retried_still_reads_and_makes(store: Store) -> None:
    """By its policy, as long as that is not decided; or because a person asked for it."""
    by_policy = launch(store, "one", LaunchState.FAILED, reads=[HITS], makes=[SEED])
    with store.database.write() as connection:
        connection.execute(update(launches).where(launches.c.id == by_policy.id).values(retry_at=later(60)))
    by_hand = launch(store, "two", LaunchState.FAILED, reads=[OTHER])
    store.launch_commands.ask(Ask(Command.RETRY), [by_hand.id], Hand(who="me", why="again", now=NOW))

    assert store.transient_readers.in_use([HITS, SEED, OTHER]) == {
        HITS: "launch 1, which is failed, reads it",
        SEED: "launch 1, which is failed, makes it and is to be retried",
        OTHER: "launch 2, which is failed, reads it",
    }


def test_a_dispatch_of_a_dataset_needs_it_until_it_has_ended(store: Store) -> None:
    """Ready, running, waiting or held; done or cancelled no more."""
    store.messages.take_in([frame(name="DS-0")], origin="broker", now=NOW)
    in_use = store.transient_readers.in_use
    assert in_use([CLOSED]) == {}
    judge(store, rule())
    assert in_use([CLOSED, OTHER]) == {CLOSED: "dispatch 1 of it is ready"}
    hand = Hand(who="me", why="wait", now=NOW)
    store.by_hand.dispatches(DispatchVerb.HOLD, [DispatchId(1)], hand)
    assert in_use([CLOSED]) == {CLOSED: "dispatch 1 of it is held"}
    store.by_hand.dispatches(DispatchVerb.RELEASE, [DispatchId(1)], hand)
    (claimed,) = claim(store)
    assert in_use([CLOSED]) == {CLOSED: "dispatch 1 of it is running"}

    settle(store, claimed)

    assert in_use([CLOSED]) == {}


def test_a_launch_that_was_made_of_a_dataset_needs_it(store: Store) -> None:
    """Even if none of its inputs names it: its files may be listed in one."""
    store.messages.take_in([frame(name="DS-0")], origin="broker", now=NOW)
    judge(store, rule())
    (claimed,) = claim(store)
    launch(store, "one", LaunchState.RUNNING, dispatch_id=DispatchId(1))
    settle(store, claimed)

    assert store.transient_readers.in_use([CLOSED]) == {CLOSED: "launch 1, which is running, was made of it"}


def test_every_member_of_a_waiting_room_is_needed(store: Store) -> None:
    """While it waits, while the room's dispatch goes on, and while its launch does; the latter points at one only."""
    members = [Did(SCOPE, "a-7"), Did(SCOPE, "b-7")]
    store.rules.apply([joining(slots="ab")], prune=True, who="test", now=NOW)
    in_use = store.transient_readers.in_use
    arrive(store, "a-7")
    judge_rooms(store)
    assert in_use(members) == {members[0]: "it waits in room 1 of rule both for 7"}
    arrive(store, "b-7")
    judge_rooms(store)
    assert in_use(members) == {
        members[0]: "dispatch 1 of it is ready",
        members[1]: "dispatch 1 of it and others is ready",
    }
    (claimed,) = claim(store)
    made = launch(store, "one", LaunchState.RUNNING, dispatch_id=DispatchId(1))
    settle(store, claimed)
    assert in_use(members) == {
        members[0]: "launch 1, which is running, was made of it",
        members[1]: "launch 1, which is running, was made of it and others",
    }

    store.launches.advance(made, LaunchState.FINISHED, who="test", why=None, now=NOW)

    assert in_use(members) == {}


def test_a_member_that_left_its_room_is_not_needed(store: Store) -> None:
    """Its dataset was opened again."""
    store.rules.apply([joining(slots="ab")], prune=True, who="test", now=NOW)
    arrive(store, "a-7")
    judge_rooms(store)

    arrive(store, "a-7", at=5, event="open")
    arrive(store, "b-7", at=6)
    judge_rooms(store)

    members = [Did(SCOPE, "a-7"), Did(SCOPE, "b-7")]
    assert store.transient_readers.in_use(members) == {members[1]: "it waits in room 1 of rule both for 7"}


def test_the_launches_that_make_a_dataset_are_told_with_their_state(store: Store) -> None:
    """Every one that names it, oldest first, with the step."""
    launch(store, "one", LaunchState.FAILED, makes=[SEED, OTHER])
    launch(store, "two", LaunchState.RUNNING, reads=[HITS], makes=[SEED])

    first, second = Maker(1, "reco", "track", LaunchState.FAILED), Maker(2, "reco", "track", LaunchState.RUNNING)
    assert store.transient_readers.makers([HITS, SEED, OTHER]) == {SEED: [first, second], OTHER: [first]}


def test_it_is_known_when_a_launch_last_read_a_dataset(store: Store) -> None:
    """When the newest change of any of them was; the database's own order of moments is time's."""
    launch(store, "one", LaunchState.FINISHED, reads=[HITS], now=later(3600))
    launch(store, "two", LaunchState.FINISHED, reads=[HITS, OTHER], now=NOW + timedelta(days=3))
    launch(store, "three", LaunchState.FAILED, reads=[HITS], makes=[SEED], now=later(10))

    last = NOW + timedelta(days=3)
    assert store.transient_readers.last_use([HITS, OTHER, SEED]) == {HITS: last, OTHER: last}


def test_many_are_asked_for_at_once(store: Store) -> None:
    """More than fit into one statement."""
    dids = [hits(number) for number in range(1_300)]
    launch(store, "one", LaunchState.RUNNING, reads=dids[::2], makes=dids[1::2])

    assert set(store.transient_readers.in_use(dids)) == set(dids[::2])
    assert set(store.transient_readers.makers(dids)) == set(dids[1::2])
    assert set(store.transient_readers.last_use(dids)) == set(dids[::2])


def test_a_backlog_of_other_datasets_costs_nothing(tmp_path: Path) -> None:
    """No question goes through all dispatches or launches of a state, nor through a whole table."""
    store, asked = Store.open(f"sqlite:///{tmp_path / 'muleteer.db'}"), list[tuple[str, Any]]()
    event.listen(*(store.database.engine, "before_cursor_execute"), lambda *each: asked.append((str(each[2]), each[3])))

    store.transient_readers.in_use([HITS, OTHER])

    questions = [(statement, values) for statement, values in asked if statement.startswith("SELECT")]
    assert len(questions) == 14  # of two scopes
    with store.database.read() as connection:
        for statement, values in questions:
            plan = " ".join(map(str, connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", values)))
            assert "SCAN" not in plan.replace("SCAN CONSTANT ROW", ""), plan
            assert "ix_dispatches_rule" not in plan and "ix_dispatches_state" not in plan, plan
    store.close()
