"""What a wire promises, between two ends of one socket."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from orchestrator.broker.wire import Wire, open_wire
from tests.services.ports import free_port

Ends = tuple[Wire, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    near, far = socket.socketpair()
    wire = Wire(near, patience=0.3)
    yield wire, far
    wire.close()
    far.close()


def test_read(ends: Ends) -> None:
    """A reader gets what there is, up to what it asked for, and nothing once the other side has gone."""
    wire, far = ends
    far.sendall(b"abcdef")
    far.close()

    assert [wire.read(4), wire.read(4), wire.read(4)] == [b"abcd", b"ef", b""]


def test_hang_up_ends_a_wait(ends: Ends) -> None:
    """A reader that waits comes back at once when somebody hangs up."""
    wire, _ = ends
    timer = threading.Timer(0.1, wire.hang_up)
    timer.start()

    assert wire.read(4) == b""
    timer.join()


def test_after_hanging_up_nothing_is_read(ends: Ends) -> None:
    """Bytes that arrived before we hung up are not read any more."""
    wire, far = ends
    far.sendall(b"late")
    wire.hang_up()

    assert wire.read(4) == b""


def test_write_has_a_limit(ends: Ends) -> None:
    """When the other side takes nothing, a writer gives up in time instead of waiting for ever."""
    wire, _ = ends
    began = time.monotonic()

    with pytest.raises(TimeoutError, match=r"took nothing for 0\.3 s"):
        wire.write(b"x" * 50_000_000)
    assert time.monotonic() - began < 2


def test_a_slow_other_side_is_no_failure(ends: Ends) -> None:
    """As long as the other side takes something now and then, everything is written."""
    wire, far = ends
    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(wire.write, b"x" * 3_000_000)
        received = 0
        while received < 3_000_000:
            received += len(far.recv(500_000))
            time.sleep(0.02)

    assert written.result() is None


def test_writers_do_not_mix(ends: Ends) -> None:
    """What several threads write arrives one after the other, each piece whole."""
    wire, far = ends
    pieces = [bytes([65 + number]) * 300_000 for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for piece in pieces:
            pool.submit(wire.write, piece)
        received = b""
        while len(received) < 1_200_000:
            received += far.recv(65536)

    assert sorted(received[start : start + 300_000] for start in range(0, 1_200_000, 300_000)) == pieces


def test_nobody_there() -> None:
    """Where nobody listens, the operating system's error comes out."""
    with pytest.raises(ConnectionRefusedError):
        open_wire(("127.0.0.1", free_port()), None, patience=1)


def test_handshake_has_a_limit() -> None:
    """A host that takes the connection and then says nothing to a TLS client costs `patience` seconds, no more."""
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(TimeoutError):
        open_wire(server.getsockname(), ssl.create_default_context(), patience=0.3)
