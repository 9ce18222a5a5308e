"""What the door to ActiveMQ promises about heart-beats, against a broker of a few lines that keeps the time."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from orchestrator.broker.stomp import StompBroker, StompSettings

#: Seconds between heart-beats, as both sides promise.
INTERVAL = 0.2


class ClockBroker:
    """Lets one client in, answers what wants an answer, notes when bytes came, and may do something after SUBSCRIBE."""

    def __init__(self, act: Callable[[socket.socket], None]) -> None:
        self._act = act
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._server.getsockname()
        #: When bytes came, in seconds of the monotonic clock.
        self.heard: list[float] = []
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._thread.join()
        self._server.close()

    def _serve(self) -> None:
        client, _ = self._server.accept()
        with client:
            while data := client.recv(65536):
                self.heard.append(time.monotonic())
                if data.startswith(b"STOMP"):
                    beat = int(INTERVAL * 1000)
                    client.sendall(f"CONNECTED\nversion:1.2\nheart-beat:{beat},{beat}\n\n\0".encode())
                if receipt := re.search(rb"receipt:(.+)\n", data):
                    client.sendall(b"RECEIPT\nreceipt-id:" + receipt[1] + b"\n\n\0")
                if data.startswith(b"SUBSCRIBE"):
                    self._act(client)


@pytest.fixture
def start() -> Iterator[Callable[[Callable[[socket.socket], None]], ClockBroker]]:
    started: list[ClockBroker] = []

    def start(act: Callable[[socket.socket], None]) -> ClockBroker:
        started.append(ClockBroker(act))
        return started[-1]

    yield start
    for broker in started:
        broker.close()


def settings(broker: ClockBroker, scale: float) -> StompSettings:
    beat = int(INTERVAL * 1000)
    return StompSettings(
        addresses=(broker.address,), destination="/queue/events", heartbeat=beat, heartbeat_scale=scale
    )


def test_beats_come_early(start: Callable[[Callable[[socket.socket], None]], ClockBroker]) -> None:
    """Heart-beats come well before their time: ActiveMQ ends the connection when one is a moment late."""
    broker = start(lambda client: None)
    subscription = StompBroker(settings(broker, scale=100)).subscribe()  # for this broker itself never beats
    subscription.receive(1.5)
    subscription.close()
    gaps = [later - earlier for earlier, later in zip(broker.heard, broker.heard[1:], strict=False)]

    assert len(gaps) > 10
    assert max(gaps) < INTERVAL * 0.9


def test_a_slow_frame_is_a_sign_of_life(start: Callable[[Callable[[socket.socket], None]], ClockBroker]) -> None:
    """While a large frame trickles in, the broker is alive, although no heart-beat and no whole frame comes."""
    pieces = 15

    def trickle(client: socket.socket) -> None:
        client.sendall(f"MESSAGE\nmessage-id:1\nack:1\ncontent-length:{pieces}\n\n".encode())
        for _ in range(pieces):
            time.sleep(0.1)
            client.sendall(b"x")
        client.sendall(b"\0")

    subscription = StompBroker(settings(start(trickle), scale=2.5)).subscribe()
    frames = subscription.receive(30)
    subscription.close()

    assert [frame.body for frame in frames] == [b"x" * pieces]
