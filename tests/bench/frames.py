"""Frames as hermes sends them, as many as one likes, and a queue full of them."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TypeVar

from orchestrator.broker.stomp import StompSettings
from orchestrator.store.intake import Arrival

T = TypeVar("T")


def close_of(number: int, kind: str = "C") -> bytes:
    """The body of a close, 170 bytes as the one in tests/data/hermes.jsonl, with a name of its own."""
    payload = {
        "scope": "group.sphenix",
        "name": f"{kind}{number:06d}",
        "bytes": 390.0,
        "length": 3,
        "events": 12.0,
    }
    second, microsecond = divmod(number, 1_000_000)
    created_at = f"2026-11-22 01:13:{second % 60:02d}.{microsecond:06d}"
    return json.dumps({"event_type": "close", "payload": payload, "created_at": created_at}).encode()


def arrivals(start: int, count: int) -> list[Arrival]:
    """Frames as ActiveMQ delivers them."""
    return [Arrival(_delivered(number), close_of(number)) for number in range(start, start + count)]


def _delivered(number: int) -> dict[str, str]:
    return {
        "content-length": "170",
        "expires": "0",
        "destination": "/queue/events",
        "ack": f"ID:vm-44421-1795309751995-4:{number}",
        "subscription": "muleteer",
        "priority": "4",
        "event_type": "close",
        "message-id": f"ID:vm-44421-1795309751995-3:9:-1:1:{number}",
        "persistent": "true",
        "timestamp": "1795310020795",
    }


def fill(queue: StompSettings, bodies: Iterable[bytes]) -> None:
    """Put bodies into a queue as hermes does, and wait until the broker has them all."""
    head = {"destination": queue.destination, "persistent": "true", "event_type": "close"}
    login = {"accept-version": "1.2", "host": "bench", "login": str(queue.user), "passcode": str(queue.passcode)}
    with socket.create_connection(queue.addresses[0]) as connection, connection.makefile("rb") as answers:
        connection.sendall(_frame("CONNECT", login))
        _expect(answers, b"CONNECTED")
        for some in batched(bodies, 100):
            sent = (_frame("SEND", {**head, "content-length": str(len(body))}, body) for body in some)
            connection.sendall(b"".join(sent))
        connection.sendall(_frame("DISCONNECT", {"receipt": "good-bye"}))
        _expect(answers, b"RECEIPT")


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    remaining = iter(items)
    while some := list(islice(remaining, size)):
        yield some


def _frame(command: str, headers: dict[str, str], body: bytes = b"") -> bytes:
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    return f"{command}\n{lines}\n".encode() + body + b"\0"


def _expect(answers: Iterator[bytes], command: bytes) -> None:
    """Read one frame that has no body."""
    first = next(line for line in answers if line.strip(b"\0\n")).rstrip()
    rest = b"".join(iter(lambda: next(answers), b"\n"))
    if first != command:
        raise RuntimeError(f"the broker answered {first!r}: {rest!r}")
