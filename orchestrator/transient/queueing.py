"""What waits for a close look in a survey, in which order; and what can be released beside each other."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from datetime import datetime
from itertools import count
from typing import NamedTuple

from orchestrator.core.transient.facts import Entry
from orchestrator.core.transient.policies import CompiledPolicy
from schemas.transient import Refusal, Release


class Waiting(NamedTuple):
    """A dataset that nothing speaks against yet."""

    #: When a close look last failed; None: none has since it was proved, or ever.
    failed_at: datetime | None
    due_at: datetime
    policy: CompiledPolicy
    entry: Entry


class Queue:
    """What waits for a close look: no more than so many.

    Those that were due first are first; but whatever failed a close look is behind the others, the longest ago first.
    So what cannot be proved keeps nothing from its turn, and has one itself.
    """

    def __init__(self, most: int | None) -> None:
        self.most = most
        self._numbers = count()
        #: The last is the first.
        self._heap: list[tuple[float, float, int, Waiting]] = []

    def push(self, waiting: Waiting) -> Waiting | None:
        """Returns the one that there is no room for, if there is one."""
        failed = 0.0 if waiting.failed_at is None else waiting.failed_at.timestamp()
        item = (-failed, -waiting.due_at.timestamp(), -next(self._numbers), waiting)
        if self.most is None or len(self._heap) < self.most:
            heapq.heappush(self._heap, item)
            return None
        return heapq.heappushpop(self._heap, item)[-1]

    def in_order(self) -> Iterator[Waiting]:
        """In their order, of equal ones the first that was found first."""
        for *_, waiting in sorted(self._heap, key=lambda item: item[:3], reverse=True):
            yield waiting


class Together:
    """What can be released at the same time: nothing leaves on which something else rests."""

    def __init__(self) -> None:
        self._leaving: set[str] = set()
        self._needed: dict[str, str] = {}

    def take(self, release: Release) -> Refusal | None:
        """Why it cannot be released beside those that were taken; if it can, it is taken."""
        if release.did in self._needed:
            return Refusal("proof", f"it is what is left of {self._needed[release.did]}, which may leave first")
        if release.successor in self._leaving:
            return Refusal("successor", f"{release.successor} may leave itself")
        self._leaving.add(release.did)
        self._needed.setdefault(release.successor, release.did)
        return None
