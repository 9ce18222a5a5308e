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


class Patience:
    """Counts failures in a row: says the first, waits longer each time, and says when it is over."""

    def __init__(self, what: str, *, longest: float = _LONGEST, chance: Callable[[], float] = random.random) -> None:
        """`what` begins the log's events: `store` gives `store.lost` and `store.back`."""
        self._what = what
        self._longest = longest
        self._chance = chance
        self._failures = 0

    @property
    def fresh(self) -> bool:
        """Whether the next failure is the first of its row."""
        return self._failures == 0

    def failed(self, error: Exception) -> float:
        """Note a failure. Returns how many seconds to wait: doubling, capped, with jitter so that many do not meet."""
        self._failures += 1
        wait = min(self._longest, _FIRST * 2.0 ** min(self._failures - 1, 16))
        if self._failures == 1:
            log.warning(f"{self._what}.lost", error=str(error), next="trying again until it is back")
        return wait * (0.5 + self._chance() / 2)

    def succeeded(self) -> None:
        """Note that it works."""
        if self._failures:
            log.info(f"{self._what}.back", failures=self._failures)
        self._failures = 0


class Loop:
    """Calls `step` again and again in a thread, until stopped.

    `step` does its own waiting. What it raises never ends the loop: the exceptions in `passing` are waited out quietly,
    anything else is a defect, logged with its traceback, and waited out too.
    """

    def __init__(
        self, name: str, step: Callable[[], Any], *, stopping: threading.Event, passing: type[Exception], what: str
    ) -> None:
        self.name = name
        self._step = step
        self._stopping = stopping
        self._passing = passing
        self._patience = Patience(what)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the loop to end; False if it has not within `timeout` seconds."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            wait_out(self._step, self._stopping, self._patience, self._passing, self.name)


def wait_out(
    step: Callable[[], Any],
    stopping: threading.Event,
    patience: Patience,
    passing: type[Exception],
    name: str,
) -> bool:
    """Try one step; after a failure, wait as long as `patience` says. True if the step succeeded."""
    try:
        step()
    except passing as error:
        stopping.wait(patience.failed(error))
        return False
    except Exception as error:
        if patience.fresh:
            log.exception("loop.defect", loop=name)
        stopping.wait(patience.failed(error))
        return False
    patience.succeeded()
    return True
