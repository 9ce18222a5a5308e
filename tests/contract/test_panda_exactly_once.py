"""Whatever goes wrong while a workflow is handed to PanDA: after recovery PanDA has it exactly once.

Recovery is what the launcher does: after a doubt, or somebody's death, it looks until the name is found or its absence
is settled, and only then sends again.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestrator.panda.engine import PandaEngine
from orchestrator.panda.port import EngineInDoubt, EngineRefused, EngineUnavailable, Package, Reference
from tests.contract.panda_bench import close_all, engine_of, scripts, site_of
from tests.contract.panda_driver import asked
from tests.services.panda import KINDS, PandaServer

ROOT = Path(__file__).parents[2]
NAME = "tag"
OUT_DS = f"user.shrek.{NAME}"
#: Seconds that a client may take; a server that hangs takes as long, so its work comes in later than that.
PATIENCE = 4.0
SECONDS = {"hang": PATIENCE, "hang_after": PATIENCE, "slow": 0.3, "late": 0.8}
#: More than a request may come in late.
SETTLE = {"hang": 4.0, "hang_after": 4.0}


@dataclass(frozen=True)
class Way:
    """How a workflow is handed over: by which engine, how many steps it has, in how many requests."""

    kind: str
    steps: int
    requests: int

    def is_there(self, server: PandaServer) -> list[str]:
        """What the server has of it."""
        if self.kind == "panda" and self.steps > 1:
            return [f"request {request.id}" for request in server.workflows(OUT_DS)]
        return [task.name for task in server.tasks(f"{OUT_DS}_000_top")]


WAYS = {
    "pchain": Way("panda", 2, 5),
    "prun": Way("panda", 1, 3),
    "stepwise": Way("panda-stepwise", 2, 3),
}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    return WAYS[request.param]


@pytest.fixture(autouse=True)
def closing() -> Iterator[None]:
    yield
    close_all()


@contextmanager
def serving() -> Iterator[PandaServer]:
    """A server. Others look for a free port at the same moment, and may be faster."""
    for _ in range(10):
        with suppress(OSError):
            server = PandaServer().start()
            break
    try:
        yield server
    finally:
        server.stop()


def engine_for(way: Way, server: PandaServer, directory: Path, settle: float) -> PandaEngine:
    return engine_of(way.kind, site_of(server, **_times(settle)), directory)


def _times(settle: float) -> dict[str, Any]:
    return {"settle": timedelta(seconds=settle), "submit_timeout": timedelta(seconds=PATIENCE)}


def recover(engine: PandaEngine, package: Package, doubtful_since: datetime | None) -> Reference:
    """As the launcher does it. None: nothing was sent, as far as is known."""
    for _ in range(300):
        try:
            if doubtful_since is None:
                return engine.submit(NAME, package)[0]
            found = engine.find(NAME, package)
        except EngineInDoubt:
            doubtful_since = datetime.now(UTC)
            continue
        except (EngineUnavailable, EngineRefused):
            continue
        if found is not None:
            return found
        if engine.settled(doubtful_since, datetime.now(UTC)):
            doubtful_since = None
        else:
            time.sleep(0.2)
    raise AssertionError("it was not recovered")


def hand_over(way: Way, kind: str, nth: int, directory: Path) -> str | None:
    """Hand it over with a fault at the nth request; what is wrong with what the server has of it then."""
    with serving() as server:
        engine = engine_for(way, server, directory, SETTLE.get(kind, 1.5))
        wanted = asked(NAME, way.steps)
        package = engine.pack(wanted, scripts(wanted))
        server.fault("*", kind, nth=nth, seconds=SECONDS.get(kind, 0.0))
        reference = recover(engine, package, None)
        if kind in SECONDS:
            time.sleep(SECONDS[kind])
        there = way.is_there(server)
    hit = sum(server.calls.values()) >= nth
    return None if len(there) == 1 and reference and hit else f"{kind} at request {nth}: {there}, {dict(server.calls)}"


def test_without_a_fault_it_takes_so_many_requests(way: Way, tmp_path: Path) -> None:
    """So the tests below hit each of them."""
    with serving() as server:
        engine = engine_for(way, server, tmp_path, 1.0)
        wanted = asked(NAME, way.steps)
        engine.submit(NAME, engine.pack(wanted, scripts(wanted)))

        assert sum(server.calls.values()) == way.requests
        assert len(way.is_there(server)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_any_fault_at_any_request(way: Way, kind: str, tmp_path: Path) -> None:
    with ThreadPoolExecutor(way.requests) as pool:
        wrong = pool.map(lambda nth: hand_over(way, kind, nth, tmp_path / str(nth)), range(1, way.requests + 1))

        assert not [each for each in wrong if each]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["500", "lost", "cut", "late"])
def test_a_fault_each_time_until_it_is_over(way: Way, kind: str, tmp_path: Path) -> None:
    """The same answer is lost three times in a row."""
    last = "put_workflow_request" if way.kind == "panda" and way.steps > 1 else "task/submit"
    with serving() as server:
        engine = engine_for(way, server, tmp_path, SETTLE.get(kind, 1.5))
        wanted = asked(NAME, way.steps)
        server.fault(last, kind, times=3, seconds=SECONDS.get(kind, 0.0))
        recover(engine, engine.pack(wanted, scripts(wanted)), None)
        time.sleep(SECONDS.get(kind, 0.0))

        assert len(way.is_there(server)) == 1


@dataclass(frozen=True)
class Death:
    """When the process that submits is killed: before it sends, at a request that is or is not handled, or after."""

    at: int | None
    handled: bool = False
    #: Whether the client dies too, as when the machine does; otherwise it lives on alone.
    client_too: bool = False
    after: bool = False


def deaths(way: Way) -> list[Death]:
    at_requests = [
        Death(nth, handled, client_too)
        for nth in range(1, way.requests + 1)
        for handled in (False, True)
        for client_too in (False, True)
    ]
    return [Death(None), *at_requests, Death(None, after=True)]


def kill_and_recover(way: Way, death: Death, directory: Path) -> str | None:
    settle = 8.0  # a client that lives on may hand it in so much later
    with serving() as server:
        if death.at is not None:
            server.fault("*", "hang_after" if death.handled else "hang", nth=death.at, seconds=1.5)
        _die(way, death, server, directory, settle)
        died = datetime.now(UTC)
        before = way.is_there(server)
        engine = engine_for(way, server, directory, settle)
        wanted = asked(NAME, way.steps)
        recover(engine, engine.pack(wanted, scripts(wanted)), died)
        time.sleep(max(0.0, settle - (datetime.now(UTC) - died).total_seconds()))
        there = way.is_there(server)
    return None if len(there) == 1 else f"{death}: {before}, then {there}"


def _die(way: Way, death: Death, server: PandaServer, directory: Path, settle: float) -> None:
    times = {"settle": f"{settle:.0f}s", "submit_timeout": "60s"}
    command = [sys.executable, "-m", "tests.contract.panda_driver", server.url, way.kind, NAME, str(directory)]
    with subprocess.Popen(
        [*command, json.dumps(times), str(way.steps)],
        cwd=ROOT,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as driver:
        assert driver.stdin is not None
        assert driver.stdout is not None
        assert driver.stdout.readline() == "ready\n"
        if death.at is not None or death.after:
            driver.stdin.write("go\n")
            driver.stdin.flush()
        if death.after:
            assert ":" in driver.stdout.readline()
        elif death.at is not None:
            last = time.monotonic() + 30
            while sum(server.calls.values()) < death.at and time.monotonic() < last:
                time.sleep(0.01)
            time.sleep(0.1)
        children = psutil.Process(driver.pid).children() if death.client_too else []
        os.kill(driver.pid, signal.SIGKILL)
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()


@pytest.mark.slow
def test_death_at_any_moment(way: Way, tmp_path: Path) -> None:
    """Killed before it sends, at each request, before and after that takes effect, and before it is written down."""
    with ThreadPoolExecutor(9) as pool:
        wrong = pool.map(lambda each: kill_and_recover(way, each[1], tmp_path / str(each[0])), enumerate(deaths(way)))

        assert not [each for each in wrong if each]
