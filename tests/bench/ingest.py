"""How fast a full queue of a real ActiveMQ comes into the store, beside a client that does nothing with the frames.

Both acknowledge many frames at once. The difference is what it costs to read, to identify, to place and to commit
every message. Both share one interpreter lock with the thread that parses STOMP, so what counts is the processor time
for each frame.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import stomp

from orchestrator.broker.stomp import StompSettings
from orchestrator.service import Role, Service
from orchestrator.wiring import Muleteer
from tests.bench.bench import Bench, apart, settings_for
from tests.bench.figures import Figure, Skipped
from tests.bench.frames import close_of, fill

ROUNDS = 3
#: Frames for each acknowledgement of the bare client. ActiveMQ reads a backlog from its disk in pages of 200, and often
#: hands out no second page before something of the first was acknowledged: a client that waits for 500 would wait for
#: half a minute. Ours acknowledges what there is.
BATCH = 200


class Drained(NamedTuple):
    """What one drain of a full queue took."""

    #: Frames per second.
    rate: float
    #: Microseconds of processor time for each frame, of all threads of the client.
    effort: float


def measure(bench: Bench) -> Iterator[Figure]:
    frames = 2_000 if bench.quick else 20_000
    ways: dict[str, Callable[[StompSettings], Drained]] = {
        "stomp.py alone": lambda queue: apart(receive, queue, frames),
        "SQLite": lambda queue: apart(listen, queue, bench.new_sqlite(), frames),
    }
    try:
        _ = bench.postgres
        ways["PostgreSQL"] = lambda queue: apart(listen, queue, bench.new_postgresql(), frames)
    except Skipped as reason:
        yield Figure("ingest", "PostgreSQL", f"skipped: {reason}")
    for what, arrive in (("from a full queue", _first), ("while it is sent", _meanwhile)):
        drains: dict[str, list[Drained]] = {name: [] for name in ways}
        for _ in range(ROUNDS):
            for name, drain in ways.items():
                drains[name].append(arrive(bench.new_queue(), frames, drain))
        yield from _figures(what, drains)


def _first(queue: StompSettings, frames: int, drain: Callable[[StompSettings], Drained]) -> Drained:
    """A backlog: every frame is with the broker before the client comes."""
    fill(queue, map(close_of, range(frames)))
    return drain(queue)


def _meanwhile(queue: StompSettings, frames: int, drain: Callable[[StompSettings], Drained]) -> Drained:
    """A burst: the frames are sent as fast as the broker takes them, by a process of its own."""
    sender = multiprocessing.get_context("spawn").Process(target=_fill, args=(queue, frames))
    sender.start()
    drained = drain(queue)
    sender.join()
    return drained


def _fill(queue: StompSettings, frames: int) -> None:
    fill(queue, map(close_of, range(frames)))


def _figures(what: str, drains: dict[str, list[Drained]]) -> Iterator[Figure]:
    bare = _median(drains["stomp.py alone"])
    yield Figure(
        "ingest", f"{what}: stomp.py alone ({bare.effort:.0f} us of processor each)", f"{bare.rate:,.0f} frames/s"
    )
    for name, target in (("SQLite", 0.8), ("PostgreSQL", 0.6)):
        if name in drains:
            ours = _median(drains[name])
            said = f"{what}: stored in {name} ({ours.effort:.0f} us)"
            target_ = f"{target:g} of stomp.py alone"
            yield Figure("ingest", said, f"{ours.rate:,.0f} frames/s", target_, f"{ours.rate / bare.rate:.2f}")


def _median(drains: Sequence[Drained]) -> Drained:
    return Drained(median(each.rate for each in drains), median(each.effort for each in drains))


def receive(queue: StompSettings, frames: int) -> Drained:
    """A bare client of stomp.py's, as its documentation shows it."""
    connection = stomp.Connection(list(queue.addresses))
    receiver = _Receiver(connection, frames)
    connection.set_listener("", receiver)
    watch = _Watch()
    connection.connect(queue.user, queue.passcode, wait=True)
    connection.subscribe(queue.destination, id="bench", ack="client")
    receiver.done.wait()
    drained = watch.read(frames)
    connection.disconnect()
    return drained


class _Watch:
    def __init__(self) -> None:
        self._begun, self._worked = time.perf_counter(), time.process_time()

    def read(self, frames: int) -> Drained:
        taken, worked = time.perf_counter() - self._begun, time.process_time() - self._worked
        return Drained(frames / taken, worked / frames * 1e6)


class _Receiver(stomp.ConnectionListener):  # type: ignore[misc]  # stomp.py has no type hints
    def __init__(self, connection: Any, frames: int) -> None:
        self.done = threading.Event()
        self._connection = connection
        self._frames = frames
        self._received = 0

    def on_message(self, frame: Any) -> None:
        self._received += 1
        if self._received % BATCH == 0 or self._received == self._frames:
            self._connection.ack(frame.headers["message-id"], frame.headers["subscription"])
        if self._received == self._frames:
            self.done.set()


def listen(queue: StompSettings, store_url: str, frames: int) -> Drained:
    """muleteer as it is, with the role of a listener alone."""
    muleteer = Muleteer(Path.cwd(), settings_for(store_url, queue))
    service = Service(muleteer, [Role.LISTENER])
    _ = muleteer.store
    watch = _Watch()
    with service.running():
        while service.taken.stored + service.taken.duplicates < frames:
            time.sleep(0.005)
        drained = watch.read(frames)
    stored = muleteer.store.messages.count()
    muleteer.close()
    if stored != frames:
        raise RuntimeError(f"{frames} frames were sent, and {stored} messages are stored")
    return drained
