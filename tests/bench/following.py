"""What it costs to follow 10,000 tasks on PanDA: a share of one core, and requests for each minute.

The process that is measured has the worker's part of muleteer, all of it. It asks a stand-in for PanDA, which is in
another process, as often as it would ask the real one. Counting begins when all was looked at once, and half an hour
has passed by its clock: that is when it begins to ask for silent workflows one by one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import bindparam, update

from orchestrator.service import Role, Service
from orchestrator.settings import load
from orchestrator.store.engine import Database
from orchestrator.store.launches import Intent
from orchestrator.store.tables import launches
from orchestrator.wiring import Muleteer, store_url
from schemas.launch import FileCounts, LaunchState, StepProgress, StepState
from tests.bench.bench import Bench, apart
from tests.bench.figures import Figure
from tests.bench.launching import new_home
from tests.services.panda import PandaServer, Request, Task, Work

STEPS = ("first", "second", "third")

#: The workflows were submitted so long ago, and their tasks changed last at some time since then.
LONG_AGO = timedelta(hours=3)

#: The part of the tasks that changes in a minute, once they do.
CHANGING = 0.05

#: Seconds that the first look at all may take.
PATIENCE = 300.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What a span of time took, in a minute."""

    share: float
    requests: float


def measure(bench: Bench) -> Iterator[Figure]:
    workflows, seconds = (100, 6.0) if bench.quick else (3_333, 60.0)
    home = bench.new_directory()
    with PandaServer() as panda:
        fill(panda, workflows)
        site = new_home(home, panda) / "sites" / "standin.yaml"
        site.write_text(f"{site.read_text()}poll: {seconds / 2:.0f}s\n")  # 30 s, as it comes
        changes = threading.Thread(target=_change, args=(panda, home, seconds), daemon=True)
        changes.start()
        first, costs = apart(follow, home, workflows, seconds)
        changes.join()
    tasks = f"{workflows * len(STEPS):,} tasks"
    yield Figure("following", f"{tasks}, the first look after a start", f"{first:.1f} s of a core")
    for what, cost in zip(("nothing changes", f"{CHANGING:.0%} change in a minute"), costs, strict=True):
        still = what == "nothing changes"
        share, requests = 100 * cost.share, cost.requests
        yield Figure(
            "following", f"{tasks}, {what}", f"{share:.2f}% of a core", "< 2%" if still else "", f"{share / 2:.2f}"
        )
        yield Figure(
            "following",
            f"{tasks}, {what}",
            f"{requests:.0f} a minute",
            "< 100" if still else "",
            f"{requests / 100:.2f}",
        )


def fill(panda: PandaServer, workflows: int) -> None:
    """Workflows of three tasks each that run."""
    begun = datetime.now(UTC).replace(tzinfo=None) - LONG_AGO
    owner = "Shrek Producer"
    state = panda.state
    for number in range(1, workflows + 1):
        then = (begun + LONG_AGO * number / workflows).isoformat(timespec="microseconds")
        works = []
        for node, step in enumerate(STEPS):
            name = f"user.shrek.{_name(number)}_{node:03d}_{step}"
            params = {
                "taskName": name,
                "userName": owner,
                "vo": "sphenix",
                "prodSourceLabel": "user",
                "jobParameters": [],
            }
            id_ = next(state.task_ids)
            state.remember(
                Task(id_, name, owner, params, id_, 0.0, "running", None, then, then, then, files=10, finished=5)
            )
            works.append(Work(node, name, params, [], None, next(state.transform_ids), id_))
        request = next(state.request_ids)
        state.remember_request(Request(request, _name(number), owner, f"user.shrek.{_name(number)}", works))


def _name(number: int) -> str:
    return f"rn{number:08d}-CALOR"


def follow(home: Path, workflows: int, seconds: float) -> tuple[float, Sequence[Cost]]:
    """Seconds of a core for the first look, then what it costs while nothing changes and while some do."""
    _write_launches(home, workflows)
    clock = _Clock()
    muleteer = Muleteer(home, load(home), clock=clock)
    try:
        begun = time.process_time()
        muleteer.watcher().look()
        first = time.process_time() - begun
        clock.ahead = timedelta(minutes=31)
        with Service(muleteer, (Role.WORKER,)).running():
            still = _cost(muleteer, seconds)
            (home / "changing").touch()
            return first, (still, _cost(muleteer, seconds))
    finally:
        muleteer.close()


class _Clock:
    """The time, and some more."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


def _cost(muleteer: Muleteer, seconds: float) -> Cost:
    time.sleep(1)  # what begins with the service, or has just ended, is not counted
    spent, requests, begun = time.process_time(), muleteer.panda.requests_made, time.monotonic()
    time.sleep(seconds)
    minutes = (time.monotonic() - begun) / 60
    return Cost((time.process_time() - spent) / (60 * minutes), (muleteer.panda.requests_made - requests) / minutes)


def _write_launches(home: Path, workflows: int) -> None:
    muleteer = Muleteer(home, load(home))
    then = datetime.now(UTC) - LONG_AGO
    written = []
    for number in range(1, workflows + 1):
        steps = [
            StepProgress(
                name=step,
                state=StepState.RUNNING,
                task=30_000_001 + (number - 1) * len(STEPS) + node,
                task_status="running",
                files=FileCounts(total=10, finished=5),
            )
            for node, step in enumerate(STEPS)
        ]
        intent = Intent(
            key=_name(number), name=_name(number), dispatch_id=None, workflow="calo", parameters={}, inputs={},
            outputs={}, engine=muleteer.engine.identity, steps=steps, run=number,
        )  # fmt: skip
        launch = muleteer.store.launches.intend(intent, who="bench", now=then)
        written.append({"this": launch.id, "request": f"request:{number}"})
    muleteer.close()
    database = Database(store_url(muleteer.settings, home))
    running = {"state": LaunchState.RUNNING.value, "submitted_at": then, "moved_at": then}
    query = update(launches).where(launches.c.id == bindparam("this")).values(reference=bindparam("request"), **running)
    with database.write() as connection:
        connection.execute(query, written)
    database.close()


def _change(panda: PandaServer, home: Path, seconds: float) -> None:
    """Once it is asked for, let some tasks go on by a file, evenly over the time; all of them different ones."""
    deadline = time.monotonic() + PATIENCE + 2 * seconds
    while not (home / "changing").exists():
        if time.monotonic() > deadline:
            return
        time.sleep(0.1)
    tasks = list(panda.state.tasks)
    count = int(len(tasks) * CHANGING * seconds / 60)
    for task in tasks[:: max(1, len(tasks) // max(1, count))]:
        panda.advance(task, "running", finished=6)
        time.sleep(seconds / max(1, count))
