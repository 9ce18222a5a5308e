"""Whether things get slower while the store grows, beside a store that writes one whole JSON file for every message.

That is how the original donkey keeps its messages (pickleDB's `add` and `dump`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from sqlalchemy import update

from orchestrator.clock import utc_now
from orchestrator.dispatch.dispatcher import Dispatcher
from orchestrator.store.store import Store
from orchestrator.store.tables import messages
from orchestrator.wiring import Muleteer
from schemas.rule import Action, Rule
from tests.bench.bench import Bench, settings_for
from tests.bench.figures import Figure
from tests.bench.frames import arrivals, close_of

#: Frames in one transaction while the store is filled.
BULK = 5_000
BATCH = 500


def measure(bench: Bench) -> Iterator[Figure]:
    muleteer = Muleteer(bench.new_directory(), settings_for(bench.new_sqlite()))
    store = muleteer.store
    rule = Rule(name="nothing", pattern="nothing at all", actions=(Action(actor="run", options={"command": ["true"]}),))
    revision = store.rules.apply([rule], prune=False, who="bench", now=utc_now()).revision
    dispatcher = muleteer.dispatcher()
    first: dict[str, float] = {}
    for size in (1_000, 100_000) if bench.quick else (1_000, 100_000, 1_000_000):
        _fill(store, size, revision)
        for what, cost in _costs(store, dispatcher, size).items():
            first.setdefault(what, cost)
            ratio = f"{cost / first[what]:.2f} of 1,000"
            target = "flat" if size > 1_000 else ""
            yield Figure("growth", f"{what}, {size:,} messages", f"{cost:.3f} ms", target, ratio)
    for size in (500, 4_000):
        cost = _whole_file(bench.new_directory() / "donkey.json", size)
        ratio = f"{cost / first['take in one frame']:.1f} of ours"
        yield Figure("growth", f"whole file for each message, {size:,} messages", f"{cost:.3f} ms", "", ratio)
    muleteer.close()


def _fill(store: Store, size: int, revision: int) -> None:
    """Bring the store to this size. Everything in it was judged, and waits for another rule."""
    for start in range(store.messages.count(), size, BULK):
        store.messages.take_in(arrivals(start, min(BULK, size - start)), origin="broker", now=utc_now())
    _judged(store, revision)


def _judged(store: Store, revision: int) -> None:
    with store.database.write() as connection:
        behind = messages.c.judged_revision != revision
        connection.execute(update(messages).where(behind).values(judged_revision=revision))


def _costs(store: Store, dispatcher: Dispatcher, size: int) -> dict[str, float]:
    """Milliseconds, by what is done."""
    looks = {
        "the dispatcher's look when there is nothing": _time(dispatcher.judge_batch, 21),
        "first page of `messages list`": _time(store.messages.list, 21),
    }
    new = iter(range(2_000_000 + size, 3_000_000 + 2 * size, BATCH))  # numbers that nobody else uses
    one = _time(lambda: store.messages.take_in(arrivals(next(new), 1), origin="broker", now=utc_now()), 21)
    many = _time(lambda: store.messages.take_in(arrivals(next(new), BATCH), origin="broker", now=utc_now()), 5)
    return {"take in one frame": one, f"take in one frame of a batch of {BATCH}": many / BATCH, **looks}


def _time(work: Callable[[], object], rounds: int) -> float:
    """Milliseconds of one call, the median."""
    taken = []
    for _ in range(rounds):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return median(taken) * 1000


def _whole_file(path: Path, size: int) -> float:
    """Milliseconds to add one message to `size` others and write all of them."""
    kept = {"messages": [close_of(number).decode() for number in range(size)]}

    def add() -> None:
        kept["messages"].append(close_of(len(kept["messages"])).decode())
        with path.open("w") as file:
            json.dump(kept, file)

    return _time(add, 11)
