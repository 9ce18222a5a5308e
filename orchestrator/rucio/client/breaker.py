"""Whether a server that keeps failing is asked at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock


class Resting(Exception):
    """It is not asked for now. The text says for how long, and what was wrong."""


class Failed(Exception):
    """What a call raises for the breaker to count it: the server could not be reached, or cannot work."""


class Unsure(Exception):
    """What a call raises that is neither: the server answered, but perhaps it cannot work. Another call finds out."""


class Breaker:
    """After some failures in a row nobody asks for a while; then one call goes through, and decides.

    Threads may share it.

    Args:
        most: failures in a row until it opens.
        rest: seconds until one call is let through.
    """

    def __init__(self, most: int = 5, rest: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._rest = rest
        self._clock = clock
        self._changing = Lock()
        self._failures = 0
        self._until = 0.0
        self._trying = False
        self._said = ""

    @contextmanager
    def passing(self) -> Iterator[None]:
        """Around one call. Raises Resting if it may not be made; counts the Failed that it raises."""
        probe = self._enter()
        try:
            yield
        except Failed as failure:
            self._count(failure)
            raise
        except Unsure:
            raise
        except Exception:  # it answered, if only with a no
            self._answered()
            raise
        else:
            self._answered()
        finally:
            if probe:
                with self._changing:
                    self._trying = False

    @property
    def is_open(self) -> bool:
        """Whether it has failed so often that one call decides."""
        return self._failures >= self._most

    def _enter(self) -> bool:
        """Whether this call is the one that decides."""
        with self._changing:
            if self._failures < self._most:
                return False
            left = self._until - self._clock()
            if left > 0 or self._trying:
                raise Resting(
                    f"it failed {self._failures} times in a row, so it is not asked for {max(left, 0.0):.0f}s; "
                    f"the last time: {self._said}"
                )
            self._trying = True
            return True

    def _count(self, failure: Failed) -> None:
        with self._changing:
            self._failures += 1
            self._said = str(failure)
            self._until = self._clock() + self._rest

    def _answered(self) -> None:
        with self._changing:
            self._failures = 0
