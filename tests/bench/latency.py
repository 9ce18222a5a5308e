"""How long a message takes through an idle muleteer, from the sender to the start of what a rule asks for.

The action is `date`, so the end is the moment that a new process looks at the clock. Everything is in one process, with
SQLite. The steps between are from the store's own records, each taken when its transaction begins.
"""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median, quantiles

from orchestrator.broker.stomp import StompSettings
from orchestrator.clock import utc_now
from orchestrator.service import Service
from orchestrator.store.store import Store
from orchestrator.wiring import Muleteer
from schemas.dispatch import Dispatch
from schemas.rule import Action, Rule
from tests.bench.bench import Bench, apart, settings_for
from tests.bench.figures import Figure, Skipped
from tests.bench.frames import close_of

#: Milliseconds from one point to the next.
Steps = Mapping[str, float]

COMMAND = ["date", "+%s%N"]

#: Seconds to wait for the last message.
PATIENCE = 60.0


def measure(bench: Bench) -> Iterator[Figure]:
    messages = 10 if bench.quick else 100
    brokers: dict[str, StompSettings | None] = {"embedded broker": None}
    try:
        brokers["ActiveMQ"] = bench.new_queue()
    except Skipped as reason:
        yield Figure("latency", "ActiveMQ", f"skipped: {reason}")
    for name, queue in brokers.items():
        journeys, alone = apart(travel, bench.new_directory(), bench.new_sqlite(), queue, messages)
        totals = [sum(journey.values()) for journey in journeys]
        middle, slow = median(totals), quantiles(totals, n=20)[-1]
        steps = ", ".join(f"{step} {median(each[step] for each in journeys):.1f}" for step in journeys[0])
        yield Figure("latency", f"{name}, median", f"{middle:.1f} ms", "< 20 ms", f"{middle / 20:.2f}")
        yield Figure("latency", f"{name}, 95 of 100 are faster than", f"{slow:.1f} ms")
        yield Figure("latency", f"{name}, steps of it", steps)
        yield Figure("latency", f"{name}, starting `date` without muleteer", f"{median(alone):.1f} ms")


def travel(
    home: Path, store_url: str, queue: StompSettings | None, messages: int
) -> tuple[Sequence[Steps], Sequence[float]]:
    """Send messages one by one, with pauses, and follow each. Second, what it takes to start the program alone."""
    muleteer = Muleteer(home, settings_for(store_url, queue))
    action = Action(actor="run", options={"command": COMMAND})
    rule = Rule(name="now", actions=(action,))
    muleteer.store.rules.apply([rule], prune=False, who="bench", now=utc_now())
    chance = random.Random(7)
    sent: dict[str, float] = {}
    alone: list[float] = []
    with Service(muleteer).running():
        time.sleep(2)
        for number in range(messages):
            name = f"C{number:06d}"
            sent[name] = time.time() * 1000
            muleteer.broker.send({"event_type": "close"}, close_of(number))
            time.sleep(chance.uniform(0.1, 0.3))
            alone.append(_start_alone())
            time.sleep(chance.uniform(0.05, 0.15))
        journeys = [_journey(muleteer.store, each, sent) for each in _done(muleteer.store, messages)]
    muleteer.close()
    return journeys, alone


def _start_alone() -> float:
    begun = time.time() * 1000
    return int(subprocess.run(COMMAND, capture_output=True, check=True).stdout) / 1e6 - begun


def _done(store: Store, count: int) -> Sequence[Dispatch]:
    deadline = time.monotonic() + PATIENCE
    while store.counts().dispatches.get("done", 0) < count:
        if time.monotonic() > deadline:
            raise RuntimeError(f"after {PATIENCE:g} s there are {store.counts().dispatches}, not {count} done")
        time.sleep(0.1)
    return store.dispatches.list(limit=count)


def _journey(store: Store, dispatch: Dispatch, sent: Mapping[str, float]) -> Steps:
    message = store.messages.get(dispatch.message_id)
    attempt = store.dispatches.attempts_of(dispatch.id)[-1]
    moments = {
        "received": message.received_at.timestamp() * 1000,
        "stored and judged": dispatch.created_at.timestamp() * 1000,
        "claimed": attempt.started_at.timestamp() * 1000,
        "started": int(attempt.stdout or 0) / 1e6,
    }
    steps: dict[str, float] = {}
    before = sent[message.name or ""]
    for step, moment in moments.items():
        steps[step], before = moment - before, moment
    return steps
