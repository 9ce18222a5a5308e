"""A STOMP client that is not muleteer's own, so that broken frames can be sent too."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

from tests.services.activemq import ActiveMQ

#: What hermes sent, as a subscriber saw it.
RECORDED = Path(__file__).parent.parent / "data" / "hermes.jsonl"

_BIRTH = datetime(2026, 11, 22, tzinfo=UTC)
#: Headers that the broker gives a frame; a sender has no say in them.
_BROKERS_OWN = ("ack", "content-length", "destination", "message-id", "subscription", "timestamp", "expires")


@dataclass(frozen=True, slots=True)
class Sent:
    """A frame to be sent."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def close_of(number: int, *, scope: str = "test", event: str = "close") -> Sent:
    """The close of a dataset of its own for each number."""
    moment = _BIRTH + timedelta(microseconds=number)
    document = {
        "event_type": event,
        "payload": {"scope": scope, "name": f"DST-{number:08d}", "bytes": 57.0, "length": 3, "events": None},
        "created_at": f"{moment:%Y-%m-%d %H:%M:%S.%f}",
    }
    return Sent(json.dumps(document).encode(), {"event_type": event})


def closes(count: int, first: int = 1) -> list[Sent]:
    return [close_of(number) for number in range(first, first + count)]


def recorded() -> list[Sent]:
    """The real frames, with those headers that hermes set."""
    lines = [json.loads(line) for line in RECORDED.read_text().splitlines()]
    return [Sent(line["body"].encode(), _hermes_own(line["headers"])) for line in lines]


def _hermes_own(headers: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in headers.items() if key not in _BROKERS_OWN}


class Sender:
    """One connection that sends persistent frames. The broker's answers are waited for in `confirm`."""

    def __init__(self, broker: ActiveMQ, destination: str) -> None:
        """Raises OSError."""
        self._destination = destination
        self._receipts = 0
        self._received = b""
        self._connection = socket.create_connection(("127.0.0.1", broker.port), timeout=15)
        login = {"accept-version": "1.2", "host": "here", "login": broker.user, "passcode": broker.passcode}
        self._write("CONNECT", login, b"")
        self._read_frame(b"CONNECTED")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def send(self, frame: Sent, **headers: str) -> None:
        """Send a frame without waiting. Raises OSError."""
        given = {"destination": self._destination, "persistent": "true", **frame.headers, **headers}
        self._write("SEND", {**given, "content-length": str(len(frame.body))}, frame.body)

    def send_all(self, frames: Sequence[Sent]) -> None:
        """Send frames and wait until the broker has them on its disk. Raises OSError."""
        for frame in frames[:-1]:
            self.send(frame)
        for frame in frames[-1:]:
            self._receipts += 1
            self.send(frame, receipt=str(self._receipts))
            self._read_frame(b"RECEIPT")

    def _write(self, command: str, headers: Mapping[str, str], body: bytes) -> None:
        lines = "".join(f"{key}:{value}\n" for key, value in headers.items())
        self._connection.sendall(f"{command}\n{lines}\n".encode() + body + b"\0")

    def _read_frame(self, wanted: bytes) -> None:
        while b"\0" not in self._received:
            more = self._connection.recv(65536)
            if not more:
                raise ConnectionError("the broker closed the connection")
            self._received += more
        frame, _, self._received = self._received.partition(b"\0")
        if not frame.lstrip().startswith(wanted):
            raise ConnectionError(f"the broker said {frame[:200]!r}")


def send(broker: ActiveMQ, destination: str, frames: Sequence[Sent]) -> None:
    """Send frames to a broker that is up."""
    with Sender(broker, destination) as sender:
        sender.send_all(frames)


class Stream:
    """Sends frames at a steady pace, in a thread; a frame that was not confirmed is sent again, as hermes does."""

    def __init__(self, broker: ActiveMQ, destination: str, frames: Iterable[Sent], *, each_second: float) -> None:
        self._broker = broker
        self._destination = destination
        self._frames = list(frames)
        self._pace = each_second
        self._leaving = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        #: How many the broker has confirmed.
        self.confirmed = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._leaving.set()
        self._thread.join(30)

    def finish(self, patience: float = 60) -> None:
        """Wait until the broker has confirmed every frame."""
        self._thread.join(patience)
        assert self.confirmed == len(self._frames), f"only {self.confirmed} of {len(self._frames)} could be sent"

    def _run(self) -> None:
        while self.confirmed < len(self._frames) and not self._leaving.is_set():
            with suppress(OSError), Sender(self._broker, self._destination) as sender:
                self._send_the_rest(sender)
            self._leaving.wait(0.2)

    def _send_the_rest(self, sender: Sender) -> None:
        began, before = time.monotonic(), self.confirmed
        while self.confirmed < len(self._frames) and not self._leaving.is_set():
            due = before + max(1, int((time.monotonic() - began) * self._pace))
            batch = self._frames[self.confirmed : due]
            sender.send_all(batch)
            self.confirmed += len(batch)
            self._leaving.wait(0.05)
