"""Bells: tell a waiting loop that something was committed.

A bell is a hint and never the truth: whoever it wakes looks into the store. A lost ring costs one safety poll.
"""

from __future__ import annotations

import threading
from collections import Counter

MESSAGES = "messages"
RULES = "rules"
DISPATCHES = "dispatches"
FACTS = "facts"


class Bells:
    """Counters that can be waited for."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._rings: Counter[str] = Counter()

    def ring(self, *names: str) -> None:
        with self._changed:
            self._rings.update(names)
            self._changed.notify_all()

    def heard(self, *names: str) -> int:
        """How often these bells have rung in all. Ask before looking into the store, then `wait` from there."""
        with self._changed:
            return sum(self._rings[name] for name in names)

    def wait(self, *names: str, since: int, timeout: float) -> bool:
        """Wait until one of the bells has rung since `heard` gave `since`; False if `timeout` seconds passed first."""
        with self._changed:
            return self._changed.wait_for(lambda: sum(self._rings[name] for name in names) != since, timeout)
