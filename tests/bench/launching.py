"""How much time muleteer adds to a launch on PanDA, and how long a hundred at once take.

The unmodified panda-client speaks to a stand-in for the server, which is in another process than what is measured.
Beside it stands a bare loop over `pchain` that sends the same packages, with as many at the same time.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from orchestrator.clock import utc_now
from orchestrator.launch.receipts import sent_of
from orchestrator.panda.packing import package
from orchestrator.service import Service
from orchestrator.settings import load
from orchestrator.store.launch_listing import LaunchFilter
from orchestrator.wiring import Muleteer
from schemas.launch import LaunchState
from schemas.rule import Action, Rule
from tests.bench.bench import Bench, apart
from tests.bench.figures import Figure
from tests.services.panda import PandaServer, client
from tests.services.panda.home import add_site, add_workflow

#: Submissions at the same time.
PARALLEL = 16

#: Seconds that the server takes for each workflow, when a hundred come at once.
SERVER_TAKES = 3.0

#: Seconds to wait for the last launch.
PATIENCE = 300.0


def measure(bench: Bench) -> Iterator[Figure]:
    single, many = (5, 8) if bench.quick else (50, 100)
    with PandaServer() as panda:
        overheads = apart(one_by_one, new_home(bench.new_directory(), panda), single)
    middle, slow = median(overheads), quantiles(overheads, n=20)[-1]
    what = f"from the claim to the start of the client, {single} launches"
    yield Figure("launching", f"{what}, median", f"{middle:.1f} ms", "< 50 ms", f"{middle / 50:.2f}")
    yield Figure("launching", f"{what}, 95 of 100 are faster than", f"{slow:.1f} ms")
    with PandaServer() as panda:
        panda.fault("put_workflow_request", "slow", seconds=SERVER_TAKES)
        home = new_home(bench.new_directory(), panda)
        ours = apart(at_once, home, many)
        bare = apart(bare_loop, home, bench.new_directory(), panda.environment(), many)
    what = f"{many} launches at once, {PARALLEL} at a time, the server takes {SERVER_TAKES:g} s for each"
    target = "" if bench.quick else "< 60 s"
    yield Figure("launching", f"{what}: until all are submitted", f"{ours:.1f} s", target, f"{ours / bare:.2f}")
    yield Figure("launching", f"{what}: bare loop over pchain", f"{bare:.1f} s", "", "1")


def new_home(home: Path, panda: PandaServer, kind: str = "panda") -> Path:
    """A home with a workflow of two steps, whose engine is this PanDA."""
    add_workflow(home)
    add_site(home, panda, parallel=f"{PARALLEL}")
    settings = f'[engine]\nkind = "{kind}"\nsite = "standin"\n\n[worker]\nthreads = {PARALLEL}\n'
    (home / "muleteer.toml").write_text(settings)
    return home


def close_of(number: int) -> bytes:
    payload = {"scope": "bench", "name": f"DST-{number:08d}", "bytes": 57.0, "length": 3, "events": None}
    return json.dumps({"event_type": "close", "payload": payload, "created_at": "2026-11-22 01:00:00.000000"}).encode()


def one_by_one(home: Path, count: int) -> Sequence[float]:
    """Milliseconds from the moment that a dispatch is claimed to that at which its client is started."""
    started: dict[str, datetime] = {}
    sys.addaudithook(lambda event, details: _note_start(started, event, details))
    overheads = []
    with _running(home) as muleteer:
        for number in range(1, count + 1):
            _send(muleteer, number)
            _await_submitted(muleteer, number)
            (launch,) = muleteer.store.launches.list(limit=1)
            assert launch.dispatch_id is not None
            claimed = muleteer.store.dispatches.attempts_of(launch.dispatch_id)[0].started_at
            overheads.append((started[f"user.shrek.{launch.name}"] - claimed).total_seconds() * 1000)
    return overheads


def _note_start(started: dict[str, datetime], event: str, details: tuple[Any, ...]) -> None:
    """Python tells of each process just before it starts it."""
    if event == "subprocess.Popen" and "--outDS" in (words := list(details[1])):
        started[words[words.index("--outDS") + 1]] = datetime.now(UTC)


def at_once(home: Path, count: int) -> float:
    """Seconds until all are submitted."""
    with _running(home) as muleteer:
        begun = time.perf_counter()
        for number in range(1, count + 1):
            _send(muleteer, number)
        _await_submitted(muleteer, count)
        return time.perf_counter() - begun


def bare_loop(home: Path, place: Path, environment: Mapping[str, str], count: int) -> float:
    """Seconds for the same packages, by pchain alone; what it sends is written into directories beforehand."""
    muleteer = Muleteer(home, load(home))
    work: list[tuple[Path, Sequence[str]]] = []
    for launch in muleteer.store.launches.list(limit=count):
        sent = sent_of(muleteer.store.launches, launch.id)
        directory = place / launch.name
        directory.mkdir()
        package.write(sent, directory)
        arguments = package.chain_arguments(sent)
        work.append((directory, [f"{word}-BARE" if word.endswith(launch.name) else word for word in arguments]))
    muleteer.close()

    def send(one: tuple[Path, Sequence[str]]) -> None:
        directory, arguments = one
        done = client.run("PchainScript", *arguments, cwd=directory, environment=environment)
        if "request_id=" not in done.stdout + done.stderr:
            raise RuntimeError(f"{directory.name} was not taken: {done.stdout}{done.stderr}")

    begun = time.perf_counter()
    with ThreadPoolExecutor(PARALLEL) as pool:
        list(pool.map(send, work))
    return time.perf_counter() - begun


@contextmanager
def _running(home: Path) -> Iterator[Muleteer]:
    """All of muleteer, with a rule that launches the workflow for every dataset."""
    muleteer = Muleteer(home, load(home))
    options = {"workflow": "calo", "parameters": {"run": "{run}"}}
    rule = Rule(name="calo", pattern=r"DST-(?P<run>\d+)", actions=(Action(actor="launch", options=options),))
    muleteer.store.rules.apply([rule], prune=False, who="bench", now=utc_now())
    try:
        with Service(muleteer).running():
            yield muleteer
    finally:
        muleteer.close()


def _send(muleteer: Muleteer, number: int) -> None:
    muleteer.broker.send({"event_type": "close"}, close_of(number))


def _await_submitted(muleteer: Muleteer, count: int) -> None:
    going_on = LaunchFilter(states=(LaunchState.SUBMITTED, LaunchState.RUNNING))
    deadline = time.monotonic() + PATIENCE
    while len(found := muleteer.store.launches.list(going_on, limit=1000)) < count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{len(found)} of {count} are submitted after {PATIENCE:g} s")
        time.sleep(0.05)
