"""From hand to hand: frames on their way from the thread that reads a connection to the one that stores them."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from orchestrator.broker.port import BrokerLost, Frame


class HandOver:
    """A queue that knows batches, an end, and when it is full. One thread puts, one takes, any may `wake` or `end`."""

    def __init__(self, *, batch_frames: int, batch_bytes: int, full_bytes: int) -> None:
        """A batch holds at most `batch_frames` frames and `batch_bytes` bytes of bodies, but at least one frame.

        With more than `full_bytes` bytes of bodies waiting there is no room.
        """
        self._batch_frames = batch_frames
        self._batch_bytes = batch_bytes
        self._full_bytes = full_bytes
        self._frames: deque[Frame] = deque()
        self._bytes = 0
        self._woken = False
        self._ended: str | None = None
        self._changed = threading.Condition()

    def put(self, frames: Sequence[Frame]) -> None:
        """Add frames, even if there is no room. After the end they are dropped: nobody could acknowledge them."""
        with self._changed:
            if self._ended is None:
                self._frames.extend(frames)
                self._bytes += sum(len(frame.body) for frame in frames)
                self._changed.notify_all()

    def wait_for_room(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds until there is room, or the end has come. False: neither."""
        with self._changed:
            return self._changed.wait_for(self._has_room, timeout)

    def take(self, timeout: float) -> Sequence[Frame]:
        """Wait up to `timeout` seconds for frames, and take a batch. Empty: the time is over, or somebody woke us.

        Raises:
            BrokerLost: the end has come. What still waited is gone, for the broker will send it again.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._frames or self._woken or self._ended, timeout)
            self._woken = False
            if self._ended is not None:
                raise BrokerLost(self._ended)
            batch = self._batch()
            self._changed.notify_all()
            return batch

    def wake(self) -> None:
        """End the wait of `take`: the one that goes on, or else the next one."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def end(self, why: str) -> None:
        """Nothing comes any more. The first reason is the one that counts."""
        with self._changed:
            if self._ended is None:
                self._ended = why
                self._frames.clear()
                self._bytes = 0
                self._changed.notify_all()

    def _has_room(self) -> bool:
        return self._bytes <= self._full_bytes or self._ended is not None

    def _batch(self) -> Sequence[Frame]:
        batch: list[Frame] = []
        size = 0
        while self._frames and len(batch) < self._batch_frames:
            following = size + len(self._frames[0].body)
            if batch and following > self._batch_bytes:
                break
            batch.append(self._frames.popleft())
            size = following
        self._bytes -= size
        return batch
