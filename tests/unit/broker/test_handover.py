"""What the hand-over between the reading and the storing thread promises."""

from __future__ import annotations

import threading
import time

import pytest

from orchestrator.broker.handover import HandOver
from orchestrator.broker.port import BrokerLost, Frame


def frame(body: bytes) -> Frame:
    return Frame({}, body)


def hand_over(*, batch_frames: int = 3, batch_bytes: int = 100, full_bytes: int = 1000) -> HandOver:
    return HandOver(batch_frames=batch_frames, batch_bytes=batch_bytes, full_bytes=full_bytes)


def test_batches() -> None:
    """Frames leave in the order in which they came, in batches bounded in frames and in bytes."""
    frames = hand_over()
    sent = [frame(b"a"), frame(b"b"), frame(b"c"), frame(b"d"), frame(b"x" * 98), frame(b"y" * 500), frame(b"z")]
    frames.put(sent)
    batches = [list(frames.take(0)) for _ in range(4)]

    assert batches == [sent[0:3], sent[3:5], sent[5:6], sent[6:7]]


def test_full() -> None:
    """With more bytes waiting than it may hold there is no room, until some are taken."""
    frames = hand_over(full_bytes=100)
    frames.put([frame(b"x" * 60), frame(b"x" * 60)])

    assert not frames.wait_for_room(0.01)
    assert len(frames.take(0)) == 1
    assert frames.wait_for_room(0)


def test_taking_makes_room_at_once() -> None:
    """Who waits for room goes on as soon as a batch is taken."""
    frames = hand_over(full_bytes=100)
    frames.put([frame(b"x" * 101)])
    timer = threading.Timer(0.1, frames.take, (0,))
    timer.start()
    began = time.monotonic()

    assert frames.wait_for_room(30)
    assert time.monotonic() - began < 1
    timer.join()


def test_the_end_makes_room() -> None:
    """At the end nobody waits for room any more, and what still comes is dropped: memory stays bounded."""
    frames = hand_over(full_bytes=100)
    frames.put([frame(b"x" * 101)])
    timer = threading.Timer(0.1, frames.end, ("over",))
    timer.start()

    assert frames.wait_for_room(30)
    frames.put([frame(b"x" * 101)])
    assert frames.wait_for_room(0)
    timer.join()


def test_the_end() -> None:
    """After the end frames that still waited are not handed out, and the first reason is given, every time."""
    frames = hand_over()
    frames.put([frame(b"x")])
    frames.end("the wire was cut")
    frames.end("we left")

    for _ in range(2):
        with pytest.raises(BrokerLost, match="the wire was cut"):
            frames.take(30)


def test_wake_with_frames() -> None:
    """Somebody who is woken gets the frames that are there; the wake is used up."""
    frames = hand_over()
    frames.put([frame(b"x")])
    frames.wake()

    assert frames.take(30) == [frame(b"x")]
    assert frames.take(0) == []
