"""What the store promises as a whole: transactions, states, the journal, bells; and of launches."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from typing import Any

import pytest
from sqlalchemy import Connection, Table, delete, insert, select, text, update
from sqlalchemy.exc import DatabaseError

from orchestrator.core.states import DISPATCH, LAUNCH, MESSAGE, may_follow
from orchestrator.core.states import Table as Transitions
from orchestrator.store.engine import Database
from orchestrator.store.intake import Arrival
from orchestrator.store.journal import move
from orchestrator.store.launches import Intent
from orchestrator.store.port import NotFound, StoreError, StoreUnavailable
from orchestrator.store.signals import DISPATCHES, MESSAGES, RULES
from orchestrator.store.store import Store
from orchestrator.store.tables import dispatches, journal, launches, messages, rule_versions
from schemas.dispatch import DispatchState
from schemas.launch import Launch, LaunchId, LaunchState, StepProgress, StepState
from schemas.message import MessageState
from tests.unit.making import NOW, ROOT, frame, later, rule

# Transactions.


def test_a_transaction_that_fails_changes_nothing(store: Store) -> None:
    """Whatever was written before the failure is gone with it."""
    with pytest.raises(ZeroDivisionError), store.database.write(RULES) as connection:
        connection.execute(insert(rule_versions).values(_rule_row("a")))
        raise ZeroDivisionError

    assert store.rules.in_force() == (0, [])


def test_a_claim_that_starts_with_with_is_rolled_back(store: Store) -> None:
    """Python's driver for SQLite would commit such a statement at once; a rollback undoes it all the same."""
    store.rules.apply([rule("a")], prune=False, who="test", now=NOW)
    claim = (
        "WITH due AS (SELECT id FROM rule_versions) "
        "UPDATE rule_versions SET until_revision = 1 WHERE id IN (SELECT id FROM due) RETURNING id"
    )

    with pytest.raises(ZeroDivisionError), store.database.write() as connection:
        assert connection.scalars(text(claim)).all() == [1]
        raise ZeroDivisionError

    assert [each.rule.name for each in store.rules.in_force()[1]] == ["a"]


def test_no_bell_rings_for_what_was_not_committed(store: Store) -> None:
    """A bell is rung after the commit, so that whoever it wakes finds what it was rung for."""
    before = store.bells.heard(MESSAGES)

    with pytest.raises(ZeroDivisionError), store.database.write(MESSAGES):
        raise ZeroDivisionError

    assert store.bells.heard(MESSAGES) == before


def test_a_reader_does_not_wait_for_a_writer(store: Store) -> None:
    """While somebody writes, others read what was committed last."""
    with store.database.write() as connection:
        connection.execute(insert(rule_versions).values(_rule_row("a")))
        seen: list[int] = []
        reading = threading.Thread(target=lambda: seen.append(len(store.rules.in_force()[1])))
        reading.start()
        reading.join(5)

    assert seen == [0]


@pytest.mark.parametrize(
    "moment",
    [
        NOW,
        NOW.replace(microsecond=0),
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
        NOW.astimezone(timezone(timedelta(hours=-5))),
    ],
    ids=str,
)
def test_a_moment_is_kept_to_the_microsecond_in_utc(store: Store, moment: datetime) -> None:
    """Whatever zone it came in, whatever its year."""
    store.messages.take_in([frame()], origin="broker", now=moment)

    (kept,) = store.messages.list()
    assert (kept.received_at, kept.received_at.utcoffset()) == (moment, timedelta())


def _rule_row(name: str) -> dict[str, Any]:
    document = rule(name).model_dump_json()
    return {"name": name, "version": 1, "document": document, "since_revision": 1, "until_revision": None}


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://u:secret@host/db", "the store cannot be kept in 'mysql': use sqlite or postgresql"),
        ("no url", "the store's URL cannot be read"),
        ("postgresql//u:secret@host/db", "the store's URL cannot be read"),
    ],
)
def test_a_store_that_cannot_be_is_refused(url: str, said: str) -> None:
    """The error names what can be used, and never shows a password."""
    with pytest.raises(StoreError) as refused:
        Database(url)

    assert said in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_database_that_is_away_is_unavailable_and_its_password_is_not_shown() -> None:
    """The error says which store, and why, in words that may go into a log."""
    database = Database("postgresql://me:secret@127.0.0.1:1/none")

    with pytest.raises(StoreUnavailable) as refused, database.read():
        pass

    assert "me:***@127.0.0.1:1" in str(refused.value)
    assert "secret" not in str(refused.value)


# States.


def put_message(connection: Connection, state: StrEnum) -> None:
    texts = {"identity": "x", "state": state, "origin": "test", "headers": "{}"}
    row = {"id": 1, "received_at": NOW, "duplicates": 0, "judged_revision": 0, "body": b"", **texts}
    connection.execute(insert(messages).values(row))


def put_dispatch(connection: Connection, state: StrEnum) -> None:
    put_message(connection, MessageState.DISPATCHED)
    version = connection.scalars(insert(rule_versions).values(_rule_row("a")).returning(rule_versions.c.id)).one()
    texts = {"rule": "a", "actor": "run", "captured": "{}", "options": "{}", "retry": "{}", "state": state}
    numbers = {"id": 1, "message_id": 1, "rule_version_id": version, "action": 0, "attempts": 0, "spent": 0}
    row = {**numbers, **texts, "created_at": NOW, "updated_at": NOW}
    connection.execute(insert(dispatches).values(row))


def put_launch(connection: Connection, state: StrEnum) -> None:
    texts = dict.fromkeys(("key", "name", "workflow", "engine"), "x")
    documents = {"parameters": "{}", "inputs": "{}", "outputs": "{}", "steps": "[]"}
    row = {**texts, **documents, "id": 1, "state": state, "created_at": NOW, "updated_at": NOW}
    connection.execute(insert(launches).values(row))


KINDS: list[tuple[str, Table, Transitions, type[StrEnum], Callable[[Connection, StrEnum], None]]] = [
    ("message", messages, MESSAGE, MessageState, put_message),
    ("dispatch", dispatches, DISPATCH, DispatchState, put_dispatch),
    ("launch", launches, LAUNCH, LaunchState, put_launch),
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind[0])
def test_only_the_steps_that_a_table_lists_can_be_made(store: Store, kind: Any) -> None:
    """Each listed step changes the state and writes one journal row; each of all the others changes nothing."""
    subject, table, transitions, states, put = kind
    for source in states:
        for target in states:
            with store.database.engine.connect() as connection, connection.begin() as transaction:
                put(connection, source)
                moved = try_to_move(connection, table, source, target)
                state = connection.scalars(select(table.c.state)).one()
                written = connection.execute(
                    select(journal.c.subject, journal.c.subject_id, journal.c.from_state, journal.c.to_state)
                ).all()
                transaction.rollback()

            if may_follow(transitions, source, target):
                assert (moved, state, written) == ([1], target, [(subject, 1, source, target)])
            else:
                assert (moved, state, written) == (None, source, []), f"{source} -> {target}"


def try_to_move(connection: Connection, table: Table, source: StrEnum, target: StrEnum) -> list[int] | None:
    """The ids that were moved; None if the step was refused."""
    try:
        return move(connection, table, [1], source, target, who="test", why="because", at=NOW)
    except AssertionError:
        return None


def test_a_row_that_somebody_else_moved_first_is_left_alone(store: Store) -> None:
    """A step is made only from the state that the caller believed in; otherwise nothing is changed or written."""
    with store.database.write() as connection:
        put_launch(connection, LaunchState.RUNNING)

        moved = move(
            connection, launches, [1], LaunchState.PREPARED, LaunchState.SUBMITTING, who="test", why=None, at=NOW
        )

    assert moved == []
    assert [each.state for each in store.launches.list()] == ["running"]
    assert store.journal.since(0) == []


# The journal.


def test_the_journal_has_one_row_for_each_change(store: Store) -> None:
    """When, who, from, to and why, in the order in which it happened; of one thing, or of everything since a number."""
    store.messages.take_in([frame(), frame(name="OTHER")], origin="broker", now=NOW)
    store.messages.take_in([frame("open", at=later(1)), Arrival({}, b"?")], origin="broker", now=later(2))

    first = store.journal.of("message", 1)

    assert [(each.at, each.who, each.from_state, each.to_state) for each in first] == [
        (NOW, "broker", None, "pending"),
        (later(2), "listener", "pending", "superseded"),
    ]
    everything = store.journal.since(0)
    assert [(number, each.subject_id, each.to_state) for number, each in everything] == [
        (1, 1, "superseded"),
        (2, 4, "quarantined"),
    ]
    assert store.journal.since(1) == everything[1:]
    assert store.journal.since(0, limit=1) == everything[:1]
    assert store.journal.of("message", 99) == store.journal.of("launch", 1) == []


def test_an_arrival_is_the_first_entry_of_a_message_and_told_once(store: Store) -> None:
    """Whether it arrived as pending, which its own row says, or as something else, which the journal says."""
    store.messages.take_in([frame(), Arrival({}, b"?")], origin="inject", now=NOW)

    def told(id_: int) -> list[tuple[Any, ...]]:
        return [(each.at, each.who, each.from_state, each.to_state) for each in store.journal.of("message", id_)]

    assert told(1) == [(NOW, "inject", None, "pending")]
    assert told(2) == [(NOW, "inject", None, "quarantined")]


@pytest.mark.parametrize("statement", [update(journal).values(who="nobody"), delete(journal)], ids=["UPDATE", "DELETE"])
def test_the_database_itself_refuses_to_change_the_journal(store: Store, statement: Any) -> None:
    """What happened cannot be made not to have happened, not even by a defect of ours."""
    store.messages.take_in([Arrival({}, b"?")], origin="broker", now=NOW)
    before = store.journal.since(0)

    with pytest.raises(DatabaseError, match="the journal is append-only"), store.database.write() as connection:
        connection.execute(statement)

    assert store.journal.since(0) == before


# Launches.


def intent(key: str = "calo/dispatch-1", name: str | None = None) -> Intent:
    return Intent(
        key=key,
        name=name or key.replace("/", "."),
        dispatch_id=None,
        workflow="calo",
        parameters={"run": "1"},
        inputs={"raw": "s:n"},
        outputs={"s:o": "reco"},
        engine="embedded",
        steps=[StepProgress(name="reco", state=StepState.WAITING)],
    )


def test_a_launch_is_written_down_before_anything_is_sent(store: Store) -> None:
    """Prepared, with its name, and in the journal."""
    launch = store.launches.intend(intent(), who="launcher", now=NOW)

    assert launch == Launch(
        id=LaunchId(1),
        dispatch_id=None,
        key="calo/dispatch-1",
        name="calo.dispatch-1",
        workflow="calo",
        parameters={"run": "1"},
        inputs={"raw": "s:n"},
        outputs={"s:o": "reco"},
        engine="embedded",
        reference=None,
        state=LaunchState.PREPARED,
        reason=None,
        steps=(StepProgress(name="reco", state=StepState.WAITING),),
        created_at=NOW,
        updated_at=NOW,
    )
    (entry,) = store.journal.of("launch", 1)
    assert (entry.who, entry.to_state, entry.why) == ("launcher", "prepared", "calo.dispatch-1")


def test_the_same_key_is_the_same_launch(store: Store) -> None:
    """Asked for again, by whomever and however far it has come, the launch that is there is the answer."""
    launch = store.launches.intend(intent(), who="launcher", now=NOW)
    store.launches.advance(launch, LaunchState.SUBMITTING, who="launcher", why=None, now=later(1))

    again = store.launches.intend(intent(), who="other", now=later(2))

    assert (again.id, again.state, again.created_at) == (launch.id, LaunchState.SUBMITTING, NOW)
    assert len(store.launches.list()) == 1
    assert len(store.journal.of("launch", 1)) == 2


def test_many_who_ask_at_once_get_one_launch(store: Store) -> None:
    """Eight threads with one key: one row, and every one of them gets it."""
    got: list[int] = []
    threads = [
        threading.Thread(target=lambda: got.append(store.launches.intend(intent(), who="x", now=NOW).id))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert got == [store.launches.by_key("calo/dispatch-1").id] * 8
    assert len(store.launches.list()) == 1


def test_who_comes_second_changes_nothing(store: Store) -> None:
    """Of two that advance the same launch, the second gets it as it is now."""
    launch = store.launches.intend(intent(), who="launcher", now=NOW)
    first = store.launches.advance(launch, LaunchState.SUBMITTING, who="a", why=None, now=later(1))

    second = store.launches.advance(launch, LaunchState.KILLED, who="b", why="no more", now=later(2))

    assert second == first
    assert [each.who for each in store.journal.of("launch", 1)] == ["launcher", "a"]


def test_a_launch_is_followed_to_its_end(store: Store) -> None:
    """Reference, steps and reasons are kept as they come; what has ended is no longer active."""
    launch = store.launches.intend(intent(), who="launcher", now=NOW)
    running = [StepProgress(name="reco", state=StepState.RUNNING, started_at=later(3))]
    ended = [StepProgress(name="reco", state=StepState.FAILED, exit_code=1, reason="a\0b")]

    launch = store.launches.advance(launch, LaunchState.SUBMITTING, who="l", why=None, now=later(1))
    launch = store.launches.advance(launch, LaunchState.SUBMITTED, who="l", why=None, now=later(2), reference="42")
    store.launches.note_steps(launch, running, now=later(3))
    noted = store.launches.get(launch.id)
    active = [each.id for each in store.launches.active()]
    launch = store.launches.advance(noted, LaunchState.FAILED, who="w", why="a\0b broke", now=later(4), steps=ended)

    assert (noted.state, list(noted.steps), noted.reference, active) == (LaunchState.SUBMITTED, running, "42", [1])
    assert (launch.state, launch.reference, launch.updated_at) == (LaunchState.FAILED, "42", later(4))
    assert (list(launch.steps), launch.reason) == (ended, "a\\0b broke")
    assert store.launches.active() == []


def test_launches_are_listed_and_found(store: Store) -> None:
    """Newest first, by state, page by page; by id and by key; an unknown one is an error in words."""
    for number in range(4):
        store.launches.intend(intent(f"k{number}"), who="x", now=NOW)
    store.launches.advance(store.launches.get(LaunchId(2)), LaunchState.KILLED, who="x", why=None, now=NOW)

    assert [each.id for each in store.launches.list(limit=3)] == [4, 3, 2]
    assert [each.id for each in store.launches.list(limit=3, before=2)] == [1]
    assert [each.id for each in store.launches.list(states=[LaunchState.KILLED])] == [2]
    assert store.launches.by_key("k3").id == 4
    with pytest.raises(NotFound, match="there is no launch 9"):
        store.launches.get(LaunchId(9))
    with pytest.raises(NotFound, match="there is no launch with the key 'k9'"):
        store.launches.by_key("k9")


# Bells.


def test_a_bell_that_rang_before_the_wait_is_heard(store: Store) -> None:
    """Between a look into the store and the wait nothing is missed: whoever asked `heard` first is woken."""
    heard = store.bells.heard(MESSAGES)
    store.messages.take_in([frame()], origin="broker", now=NOW)

    assert store.bells.wait(MESSAGES, since=heard, timeout=0)
    assert not store.bells.wait(MESSAGES, since=store.bells.heard(MESSAGES), timeout=0.01)


def test_whoever_waits_is_woken_by_the_commit(store: Store) -> None:
    """At once, in the same process, and by its own bell alone."""
    heard, other = store.bells.heard(RULES), store.bells.heard(DISPATCHES)
    woken: list[float] = []
    waiting = threading.Thread(
        target=lambda: woken.append(time.monotonic() if store.bells.wait(RULES, since=heard, timeout=10) else 0.0)
    )
    waiting.start()
    store.rules.apply([rule()], prune=False, who="test", now=NOW)
    committed = time.monotonic()
    waiting.join()

    assert woken[0] - committed < 0.2
    assert not store.bells.wait(DISPATCHES, since=other, timeout=0.01)


CHILD = """
import sys
from orchestrator.store.store import Store
from tests.unit.making import NOW, frame
store = Store.open(sys.argv[1])
sys.stdin.readline()
store.messages.take_in([frame()], origin="broker", now=NOW)
print("committed", flush=True)
store.close()
"""


def test_what_another_process_commits_is_heard_within_half_a_second(store: Store, store_url: str) -> None:
    """LISTEN and NOTIFY on PostgreSQL, a glance at the file on SQLite: nobody waits for the safety poll."""
    relay = store.relay()
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, store_url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert child.stdin is not None and child.stdout is not None
    try:
        time.sleep(1.0)  # both are up: whatever rings while they start is not counted
        heard = store.bells.heard(MESSAGES)
        child.stdin.write("\n")
        child.stdin.flush()
        child.stdout.readline()
        rang = store.bells.wait(MESSAGES, since=heard, timeout=0.5)
        child.communicate(timeout=30)
    finally:
        child.kill()
        relay.close()

    assert rang
    assert child.returncode == 0
