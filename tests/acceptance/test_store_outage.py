"""The database goes away for ten seconds and comes back: nothing is lost, and nobody has to do anything."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from orchestrator.store import schema
from orchestrator.store.engine import Database
from orchestrator.store.store import Store
from schemas.dispatch import DispatchState
from tests.acceptance.home import EVERY_CLOSE, NOTE_ID, Home, Process, apply_rules, broker_settings, noted, until
from tests.acceptance.sender import Stream, closes, send
from tests.services.activemq import ActiveMQ
from tests.services.postgres import Postgres

Maker = Callable[[Mapping[str, str]], Home]

AWAY = 10.0
#: Far shorter than the outage: a worker that could not renew its claims must not be taken for dead.
LEASE = "2s"
FRAMES = 300

LOCK = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
connection.execute("BEGIN EXCLUSIVE")
time.sleep(float(sys.argv[2]))
connection.execute("COMMIT")
"""


@pytest.fixture
def own_store(own_postgres: Postgres) -> Iterator[Store]:
    """A store in a PostgreSQL server that the test may stop."""
    url = own_postgres.create_database("outage")
    database = Database(url)
    schema.upgrade(database)
    database.close()
    store = Store.open(url)
    yield store
    store.close()


def _busy(home: Home, store: Store) -> Process:
    home.script("act", f"sleep 0.05; {NOTE_ID}")
    apply_rules(store, EVERY_CLOSE)
    process = home.run(WORKER__LEASE=LEASE)
    process.await_said("listener.subscribed")
    return process


def _assert_nothing_lost_and_nothing_done_twice(store: Store, home: Home, process: Process) -> None:
    assert process.running
    assert process.stop() == 0
    assert store.messages.count() == FRAMES
    assert store.counts().dispatches == {DispatchState.DONE: FRAMES}
    assert sorted(noted(home)) == [message.id for message in store.messages.list(limit=FRAMES)][::-1]


def _outages(process: Process) -> tuple[int, int]:
    """How many it said, and how many of them are over."""
    return len(process.said("store.lost")), len(process.said("store.back"))


@pytest.mark.slow
def test_a_sqlite_file_locked_by_somebody_else_is_waited_for(
    new_home: Maker, tmp_path: Path, activemq: ActiveMQ, destination: str
) -> None:
    """A backup tool holds the file for ten seconds: frames wait at the broker, outcomes wait in memory."""
    file = tmp_path / "muleteer.db"
    store = Store.open(f"sqlite:///{file}")
    home = new_home({"STORE__URL": f"sqlite:///{file}", **broker_settings(activemq, destination)})
    process = _busy(home, store)
    with Stream(activemq, destination, closes(FRAMES), each_second=25) as stream:
        until(lambda: store.messages.count() > 30, 20, "the first frames")

        subprocess.run([sys.executable, "-c", LOCK, str(file), str(AWAY)], check=True)

        stream.finish()
        until(lambda: store.counts().dispatches == {DispatchState.DONE: FRAMES}, 60, "every dispatch done")

    _assert_nothing_lost_and_nothing_done_twice(store, home, process)
    assert _outages(process) == (1, 1)
    store.close()


@pytest.mark.slow
def test_a_postgresql_that_is_stopped_is_waited_for(
    new_home: Maker, own_store: Store, own_postgres: Postgres, activemq: ActiveMQ, destination: str
) -> None:
    """The server is down for ten seconds, as for an upgrade of its own; two processes work on it."""
    url = own_store.database.url.render_as_string(hide_password=False)
    home = new_home({"STORE__URL": url, **broker_settings(activemq, destination)})
    process, other = _busy(home, own_store), home.run("worker", WORKER__LEASE=LEASE)
    with Stream(activemq, destination, closes(FRAMES), each_second=25) as stream:
        until(lambda: own_store.messages.count() > 30, 20, "the first frames")

        own_postgres.stop()
        time.sleep(AWAY)
        own_postgres.start()

        stream.finish()
        until(lambda: own_store.counts().dispatches == {DispatchState.DONE: FRAMES}, 60, "every dispatch done")

    _assert_nothing_lost_and_nothing_done_twice(own_store, home, process)
    until(lambda: (_outages(process), _outages(other)) == ((1, 1), (1, 1)), 20, "both to say once that it is back")


@pytest.mark.slow
def test_a_postgresql_that_does_not_answer_is_waited_for(
    new_home: Maker, own_store: Store, own_postgres: Postgres, activemq: ActiveMQ, destination: str
) -> None:
    """The server is frozen for ten seconds, as on a stalled disk: connections stay open, nothing answers."""
    url = own_store.database.url.render_as_string(hide_password=False)
    home = new_home({"STORE__URL": url, **broker_settings(activemq, destination)})
    process = _busy(home, own_store)
    with Stream(activemq, destination, closes(FRAMES), each_second=25) as stream:
        until(lambda: own_store.messages.count() > 30, 20, "the first frames")

        own_postgres.suspend()
        time.sleep(AWAY)
        own_postgres.resume()

        stream.finish()
        until(lambda: own_store.counts().dispatches == {DispatchState.DONE: FRAMES}, 60, "every dispatch done")

    _assert_nothing_lost_and_nothing_done_twice(own_store, home, process)
    assert _outages(process) in ((0, 0), (1, 1))


@pytest.mark.slow
def test_muleteer_can_be_stopped_while_the_store_is_away(
    new_home: Maker, own_store: Store, own_postgres: Postgres, activemq: ActiveMQ, destination: str
) -> None:
    """It ends within its grace; an outcome that could not be written down costs a repetition, never a loss."""
    url = own_store.database.url.render_as_string(hide_password=False)
    home = new_home({"STORE__URL": url, **broker_settings(activemq, destination), "WORKER__LEASE": LEASE})
    home.script("act", f"{NOTE_ID}; sleep 1")
    apply_rules(own_store, EVERY_CLOSE)
    process = home.run(WORKER__GRACE="3s")
    send(activemq, destination, closes(1))
    until(lambda: len(noted(home)) == 1, 10, "the action")
    own_postgres.stop()
    began = time.monotonic()

    code = process.stop()

    seconds = time.monotonic() - began
    own_postgres.start()
    home.run()
    until(lambda: own_store.counts().dispatches == {DispatchState.DONE: 1}, 20, "the second try")
    assert code == 0
    assert seconds < 3 + 12
