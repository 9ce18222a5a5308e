"""Loops that do not die: each runs in a thread of its own, and what is out of reach for now is waited for."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import structlog

log = structlog.get_logger()

#: The first and the longest wait after a failure, in seconds.
_FIRST, _LONGEST = 0.2, 30.0


class Outage:
    """Something that several loops need, and find missing at about the same time: said once, not by each."""

    def __init__(self, what: str) -> None:
        """`what` begins the log's events: `store` gives `store.lost` and `store.back`."""
        self._what = what
        self._waiting: set[str] = set()
        self._changing = threading.Lock()

    def begins(self, who: str, error: Exception) -> None:
        """`who` cannot go on."""
        with self._changing:
            first = not self._waiting
            self._waiting.add(who)
        if first:
            log.warning(f"{self._what}.lost", error=str(error), next="trying again until it is back")

    def ends(self, who: str) -> None:
        """`who` goes on. It is over when nobody waits any more."""
        with self._changing:
            last = self._waiting == {who}
            self._waiting.discard(who)
        if last:
            log.info(f"{self._what}.back")


class Patience:
    """Counts the failures of one loop in a row, and says how long to wait after each."""

    def __init__(
        self, who: str, outage: Outage, *, longest: float = _LONGEST, chance: Callable[[], float] = random.random
    ) -> None:
        self._who = who
        self._outage = outage
        self._longest = longest
        self._chance = chance
        self._failures = 0
        self._announced = False
        self._surprised = False

    def failed(self, error: Exception) -> float:
        """Note that it is out of reach. Returns how many seconds to wait: doubling, capped, with jitter."""
        if not self._announced:
            self._outage.begins(self._who, error)
            self._announced = True
        return self._next_wait()

    def surprised(self) -> float:
        """Note an exception that nobody foresaw, from its handler: a defect, logged with its traceback, once in a row.

        Returns how many seconds to wait.
        """
        if not self._surprised:
            log.exception("loop.defect", loop=self._who)
            self._surprised = True
        return self._next_wait()

    def succeeded(self) -> None:
        """Note that it works."""
        self.leave()
        self._surprised = False
        self._failures = 0

    def leave(self) -> None:
        """Wait no more, whether it works or not."""
        if self._announced:
            self._outage.ends(self._who)
            self._announced = False

    def _next_wait(self) -> float:
        self._failures += 1
        wait = min(self._longest, _FIRST * 2.0 ** min(self._failures - 1, 16))
        return wait * (0.5 + self._chance() / 2)


class Loop:
    """Calls `step` again and again in a thread, until stopped.

    `step` does its own waiting. What it raises never ends the loop: the exceptions in `passing` are waited out quietly,
    anything else is a defect, logged with its traceback, and waited out too.
    """

    def __init__(
        self,
        name: str,
        step: Callable[[], Any],
        *,
        stopping: threading.Event,
        passing: type[Exception],
        patience: Patience,
    ) -> None:
        self.name = name
        self._step = step
        self._stopping = stopping
        self._passing = passing
        self._patience = patience
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the loop to end; False if it has not within `timeout` seconds."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            wait_out(self._step, self._stopping, self._patience, self._passing)


def wait_out(step: Callable[[], Any], stopping: threading.Event, patience: Patience, passing: type[Exception]) -> None:
    """Try one step; after a failure, wait as long as `patience` says."""
    try:
        step()
    except passing as error:
        stopping.wait(patience.failed(error))
    except Exception:
        stopping.wait(patience.surprised())
    else:
        patience.succeeded()
