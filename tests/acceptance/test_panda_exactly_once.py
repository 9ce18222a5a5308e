"""Whatever fails, and whoever dies while a launch is made: in the end PanDA has one workflow for it, and it finishes.

The installed command, the unmodified panda-client, and a stand-in for the server. `tests/contract` has every fault at
every request for the engines alone; here are those that the rooms around them have to get over.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import psutil
import psycopg
import pytest

from orchestrator.broker.embedded import EmbeddedBroker
from orchestrator.store import schema
from orchestrator.store.engine import Database
from orchestrator.store.store import Store
from schemas.launch import LaunchState
from tests.acceptance.home import Home, Process, apply_rules, until
from tests.acceptance.panda_home import RULES, PandaHome, await_state, await_states, out_ds, workflows_of
from tests.acceptance.sender import close_of, closes, send
from tests.services.activemq import ActiveMQ
from tests.services.panda import KINDS, PandaServer
from tests.services.postgres import Postgres

#: Where each kind of fault hits: pchain's requests in their order.
REQUESTS = ("file_server/validate_cache_file", "file_server/upload_cache_file", "put_workflow_request")
SECONDS = {"hang": 6.0, "hang_after": 6.0, "slow": 0.3, "late": 2.0}


@pytest.fixture
def panda() -> Iterator[PandaServer]:
    with PandaServer() as server:
        server.live(0.2)
        yield server


@pytest.mark.slow
@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_one_workflow_for_each_launch_whatever_the_server_answers(
    home: Home, panda: PandaServer, store: Store, activemq: ActiveMQ, destination: str
) -> None:
    """Every kind of fault hits each request of some launch, among many that are sent at the same time."""
    PandaHome(home, panda).write_site(submit_timeout="5s", settle="8s")
    apply_rules(store, RULES)
    for path in REQUESTS:
        for nth, kind in enumerate(KINDS, start=1):
            panda.fault(path, kind, nth=nth, seconds=SECONDS.get(kind, 0.0))
    count = len(KINDS)
    home.run(WORKER__THREADS="16")

    send(activemq, destination, closes(count))

    await_states(store, {LaunchState.FINISHED: count}, 100)
    assert workflows_of(panda) == {out_ds(number): 1 for number in range(1, count + 1)}
    assert all(panda.calls[path] >= count for path in REQUESTS)


@pytest.mark.parametrize("store_url", ["sqlite", "postgresql"], indirect=True)
def test_an_event_that_comes_three_times_is_one_workflow(
    home: Home, panda: PandaServer, store: Store, activemq: ActiveMQ, destination: str
) -> None:
    """The same frame again, before, while and after its launch is sent; and another dataset of the same run."""
    PandaHome(home, panda)
    apply_rules(store, RULES)
    home.run()

    send(activemq, destination, [close_of(1), close_of(1)])
    await_state(store, LaunchState.FINISHED)
    send(activemq, destination, [close_of(1), close_of(2)])
    await_states(store, {LaunchState.FINISHED: 2})

    assert workflows_of(panda) == {out_ds(1): 1, out_ds(2): 1}


@pytest.mark.slow
@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
def test_two_that_share_a_database_launch_each_once(
    home: Home, panda: PandaServer, store: Store, activemq: ActiveMQ, destination: str
) -> None:
    """Both take events in, judge, send and follow; one of them is killed in the middle of it."""
    PandaHome(home, panda).write_site(settle="8s")
    apply_rules(store, RULES)
    panda.fault("put_workflow_request", "slow", seconds=1.0)
    first, _ = home.run(WORKER__LEASE="2s"), home.run(WORKER__LEASE="2s")

    for _ in range(3):
        send(activemq, destination, closes(8))
    until(lambda: len(panda.workflows()) >= 2, 30, "two workflows")
    kill_group(first)

    await_states(store, {LaunchState.FINISHED: 8}, 90)
    assert workflows_of(panda) == {out_ds(number): 1 for number in range(1, 9)}


def kill_group(process: Process) -> None:
    """End muleteer with all its threads and children that are in its group; clients, which are not, die with it."""
    os.killpg(process.pid, signal.SIGKILL)
    process.kill()


@dataclass
class Life:
    """One home with a server and a database of its own, in which one launch is made."""

    place: Path
    panda: PandaServer
    store_url: str
    store: Store
    home: Home

    @property
    def state(self) -> LaunchState | None:
        found = self.store.launches.list()
        return found[0].state if found else None

    def start(self) -> Process:
        return self.home.start("run", WORKER__LEASE="2s")

    def wait_for(self, came_true: Callable[[], bool], what: str) -> None:
        """As `until`, and far more often."""
        deadline = time.monotonic() + 60
        while not came_true():
            assert time.monotonic() < deadline, f"{what}: not within a minute"
            time.sleep(0.005)

    @contextmanager
    def held_up(self) -> Iterator[None]:
        """Nobody else can write launches down meanwhile."""
        if self.store_url.startswith("sqlite"):
            with closing(sqlite3.connect(self.store_url.removeprefix("sqlite:///"), timeout=20)) as sqlite:
                sqlite.execute("BEGIN IMMEDIATE")
                yield
        else:
            with psycopg.connect(self.store_url.replace("+psycopg", "")) as postgres:
                postgres.execute("LOCK TABLE launches IN EXCLUSIVE MODE")
                yield


#: Brings muleteer to a moment of a launch, and kills it there.
Moment = Callable[[Life], None]


def before_the_intent(life: Life) -> None:
    """Its dispatch is claimed, and nothing of the launch is written down."""
    with life.held_up():
        life.start()
        life.wait_for(lambda: bool(life.store.counts().dispatches.get("running")), "a dispatch that is claimed")
        time.sleep(0.3)
        assert life.state is None
        die(life)


def after_the_intent(life: Life) -> None:
    """It is written down, and is being looked up on the server."""
    life.panda.fault("relay_idds_command", "hang", seconds=2)
    life.start()
    life.wait_for(lambda: life.panda.calls["relay_idds_command"] > 0, "the look-up")
    assert life.state is LaunchState.PREPARED
    die(life)


def before_the_client_speaks(life: Life) -> None:
    life.start()
    life.wait_for(lambda: life.state is LaunchState.SUBMITTING, "a launch that is being sent")
    die(life)


def while_it_is_uploaded(life: Life) -> None:
    _at(life, "file_server/upload_cache_file", "hang")


def before_the_server_takes_it(life: Life) -> None:
    _at(life, "put_workflow_request", "hang")


def after_the_server_took_it(life: Life) -> None:
    _at(life, "put_workflow_request", "hang_after")


def _at(life: Life, path: str, kind: str) -> None:
    life.panda.fault(path, kind, seconds=1.5)
    life.start()
    life.wait_for(lambda: life.panda.calls[path] > 0, path)
    time.sleep(0.2)
    assert life.state is LaunchState.SUBMITTING
    die(life)


def after_the_answer(life: Life) -> None:
    """The client has ended well, and that cannot be written down."""
    life.panda.fault("put_workflow_request", "hang_after", seconds=1)
    life.start()
    life.wait_for(lambda: life.panda.handled["put_workflow_request"] > 0, "the request")
    (process,) = life.home.processes
    with life.held_up():
        life.wait_for(lambda: not psutil.Process(process.pid).children(), "the client's end")
        time.sleep(0.3)
        die(life)
    assert life.state is LaunchState.SUBMITTING


def after_it_is_written_down(life: Life) -> None:
    life.start()
    life.wait_for(lambda: life.state is LaunchState.SUBMITTED, "a launch that is submitted")
    die(life)


def die(life: Life) -> None:
    for process in life.home.processes:
        kill_group(process)


MOMENTS: dict[str, Moment] = {
    moment.__name__: moment
    for moment in (
        before_the_intent,
        after_the_intent,
        before_the_client_speaks,
        while_it_is_uploaded,
        before_the_server_takes_it,
        after_the_server_took_it,
        after_the_answer,
        after_it_is_written_down,
    )
}
#: SQLite has one lock for all tables, so that nothing can be held up between a claim and what follows it.
ON_SQLITE = [moment for moment in MOMENTS if moment != "before_the_intent"]
CASES = [
    *(("sqlite", moment) for moment in ON_SQLITE),
    *(("postgresql", moment) for moment in ("before_the_intent", "after_the_server_took_it", "after_the_answer")),
]


#: Tables are made by one thread at a time.
_MAKING = Lock()


def new_store(url: str) -> Store:
    with _MAKING:
        database = Database(url)
        schema.upgrade(database)
        database.close()
    return Store.open(url)


def die_and_recover(moment: str, place: Path, store_url: str) -> str | None:
    """Die at that moment, start again; what is wrong with what the server has then."""
    with ExitStack() as stack:
        panda = stack.enter_context(PandaServer())
        store = new_store(store_url)
        stack.callback(store.close)
        home = Home(place / "home", {"STORE__URL": store_url})
        stack.callback(home.close)
        PandaHome(home, panda).write_site(submit_timeout="10s", settle="8s")
        apply_rules(store, RULES)
        EmbeddedBroker(home.place / "broker.db").send({"event_type": "close"}, close_of(1).body)
        life = Life(home.place, panda, store_url, store, home)
        MOMENTS[moment](life)
        before = workflows_of(panda)
        panda.clear_faults()
        panda.live(0.2)
        life.start()
        await_state(store, LaunchState.FINISHED, 80)
        there = Counter(workflows_of(panda))
        wrong = home.defects()
        if there == {out_ds(1): 1} and len(store.launches.list()) == 1 and not wrong:
            return None
    return f"{moment}, {place.name}: {before} at first, then {there}; {wrong}"


@pytest.mark.slow
def test_killed_at_any_moment_it_is_launched_once(tmp_path: Path, postgres: Postgres) -> None:
    """The whole group dies with -9, and its client with it; the next start brings the launch to its end."""

    def one(case: tuple[str, str]) -> str | None:
        kind, moment = case
        place = tmp_path / f"{moment}_{kind}"
        place.mkdir()
        on_sqlite = f"sqlite:///{place / 'muleteer.db'}"
        url = on_sqlite if kind == "sqlite" else postgres.create_database(place.name)
        return die_and_recover(moment, place, url)

    with ThreadPoolExecutor(len(CASES)) as pool:
        wrong = list(pool.map(one, CASES))

    assert [each for each in wrong if each] == []
