"""A broker in the box: a durable queue in one SQLite file, so that a laptop needs no broker on a network.

It keeps what is sent until it is acknowledged, over crashes and power cuts, and any number of processes may use the
file at once (`muleteer run` receives while another command sends). It is not a broker for production: no network, no
topics, no selectors, no users, no dead letters, no expiry; and two subscriptions do not share the frames, each gets
them all until one acknowledges them. The file must be on a local disk, as for every SQLite database in WAL mode.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal
from weakref import WeakValueDictionary

from orchestrator.broker.port import BrokerLost, BrokerRefused, Frame
from orchestrator.clock import Clock, utc_now

#: The destination that every frame names.
DESTINATION = "/queue/events"
#: Seconds between two looks for frames that other processes sent.
GLANCE = 0.1
#: Seconds to wait for another process that is writing.
PATIENCE = 10.0

# AUTOINCREMENT: an id must never come again, or an acknowledgement could delete a frame nobody has seen.
SCHEMA = """
CREATE TABLE IF NOT EXISTS frame (id INTEGER PRIMARY KEY AUTOINCREMENT, headers TEXT NOT NULL, body BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS handed_out (one INTEGER PRIMARY KEY CHECK (one = 1), up_to INTEGER NOT NULL);
INSERT OR IGNORE INTO handed_out VALUES (1, 0);
"""


class EmbeddedBroker:
    """The queue in the file `path`, which is made when it is first used. Any thread may use it."""

    def __init__(
        self,
        path: Path,
        *,
        batch_frames: int = 500,
        batch_bytes: int = 8 * 1024 * 1024,
        clock: Clock = utc_now,
        new_id: Callable[[], str] = lambda: f"ID:{uuid.uuid4()}",
    ) -> None:
        self.address = f"embedded:{path}"
        self._path = path
        self._batch_frames = batch_frames
        self._batch_bytes = batch_bytes
        self._clock = clock
        self._new_id = new_id
        self._bell = _bell(path)
        self._connection: sqlite3.Connection | None = None
        self._sending = threading.Lock()

    def subscribe(self) -> _EmbeddedSubscription:
        """See `Broker.subscribe`. Begins with the oldest frame that nobody has acknowledged."""
        with _spoken(self.address):
            # NORMAL: a power cut may undo what a subscription writes, which only brings frames again.
            connection = _connect(self._path, synchronous="NORMAL")
        return _EmbeddedSubscription(
            connection, self.address, self._bell, batch_frames=self._batch_frames, batch_bytes=self._batch_bytes
        )

    def check(self) -> None:
        """See `Broker.check`."""
        self.subscribe().close()

    def send(self, headers: Mapping[str, str], body: bytes) -> None:
        """See `Broker.send`. Once it returns the frame is on the disk."""
        full = {
            **headers,
            "content-length": str(len(body)),
            "destination": DESTINATION,
            "expires": "0",
            "message-id": self._new_id(),
            "persistent": "true",
            "priority": "4",
            "timestamp": str(int(self._clock().timestamp() * 1000)),
        }
        with self._sending, _spoken(self.address):
            if self._connection is None:
                self._connection = _connect(self._path, synchronous="FULL")
            self._connection.execute("INSERT INTO frame (headers, body) VALUES (?, ?)", (json.dumps(full), body))
        self._bell.ring()

    def close(self) -> None:
        """Close the file for `send`, which opens it again when needed. Never raises."""
        with self._sending, suppress(sqlite3.Error):
            if self._connection is not None:
                self._connection.close()
            self._connection = None


class _EmbeddedSubscription:
    """See `Subscription`."""

    def __init__(
        self, connection: sqlite3.Connection, address: str, bell: _Bell, *, batch_frames: int, batch_bytes: int
    ) -> None:
        self._connection = connection
        self._address = address
        self._bell = bell
        self._batch_frames = batch_frames
        self._batch_bytes = batch_bytes
        #: Id of the last frame handed out here, and of the last one acknowledged.
        self._last = 0
        self._acknowledged = 0
        self._woken = False
        with _spoken(address):
            #: Up to here, frames have been handed out before, if only to somebody who crashed.
            (self._seen,) = connection.execute("SELECT up_to FROM handed_out").fetchone()

    def receive(self, timeout: float) -> Sequence[Frame]:
        deadline = time.monotonic() + timeout
        with _spoken(self._address):
            while True:
                rung = self._bell.count
                if batch := self._batch():
                    return batch
                left = deadline - time.monotonic()
                if self._woken or left <= 0:
                    self._woken = False
                    return []
                self._bell.wait(rung, min(left, GLANCE))

    def acknowledge(self) -> None:
        if self._last == self._acknowledged:
            return
        with _spoken(self._address):
            # Every frame up to this one was handed out here: SQLite has one writer at a time, so ids become visible
            # in their order.
            self._connection.execute("DELETE FROM frame WHERE id <= ?", (self._last,))
        self._acknowledged = self._last

    def wake(self) -> None:
        self._woken = True
        self._bell.ring()

    def close(self) -> None:
        with suppress(sqlite3.Error):
            self._connection.close()

    def _batch(self) -> Sequence[Frame]:
        batch: list[Frame] = []
        size, last = 0, self._last
        rows = self._connection.execute(
            "SELECT id, headers, body FROM frame WHERE id > ? ORDER BY id LIMIT ?", (last, self._batch_frames)
        )
        for row, headers, body in rows:
            size += len(body)
            if batch and size > self._batch_bytes:
                break
            again = {"redelivered": "true"} if row <= self._seen else {}
            batch.append(Frame({**json.loads(headers), **again}, body))
            last = row
        rows.close()
        if batch:
            self._connection.execute("UPDATE handed_out SET up_to = ?1 WHERE up_to < ?1", (last,))
        # Last of all: what an error kept from the caller must not be acknowledged with the next batch.
        self._last = last
        return batch


class _Bell:
    """Rings for everybody in this process who waits at the same file."""

    def __init__(self) -> None:
        self.count = 0
        self._rung = threading.Condition()

    def ring(self) -> None:
        with self._rung:
            self.count += 1
            self._rung.notify_all()

    def wait(self, count: int, timeout: float) -> None:
        """Wait until it has rung since `count` was read, or for `timeout` seconds."""
        with self._rung:
            self._rung.wait_for(lambda: self.count != count, timeout)


_bells: WeakValueDictionary[Path, _Bell] = WeakValueDictionary()
_bells_lock = threading.Lock()


def _bell(path: Path) -> _Bell:
    with _bells_lock:
        return _bells.setdefault(path.resolve(), _Bell())


def _connect(path: Path, *, synchronous: Literal["NORMAL", "FULL"]) -> sqlite3.Connection:
    # Autocommit: every statement here is a whole transaction. One thread at a time uses a connection, but not always
    # the same one.
    connection = sqlite3.connect(path, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.executescript(SCHEMA)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


@contextmanager
def _spoken(address: str) -> Iterator[None]:
    """SQLite's errors in the words of the port."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise BrokerLost(f"{address}: {error}. Check that the directory exists, is writable and has room") from error
    except sqlite3.Error as error:
        raise BrokerRefused(f"{address}: {error}. Is this file a queue of muleteer's, and is it whole?") from error
