"""A turn at work that only one of several processes does, while it does it."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import Final, Self

import structlog

from orchestrator.clock import Clock
from orchestrator.store.port import StoreUnavailable
from orchestrator.store.turns import Turns

log = structlog.get_logger()

#: So long a turn lasts unless it is renewed: longer than anything that is done between two looks at it.
_LEASE: Final = timedelta(minutes=30)

#: How often it is renewed, if it is looked at as often.
_RENEW: Final = timedelta(minutes=1)


class Turn:
    """As a context: at its end the turn is over, or given up unless `done` was set."""

    def __init__(self, turns: Turns, name: str, *, owner: str, clock: Clock) -> None:
        self._turns = turns
        self._name = name
        self._owner = owner
        self._clock = clock
        self._renewed_at = clock()
        self._lost = False
        #: Whether all was done.
        self.done = False

    def begin(self, every: timedelta) -> bool:
        """Whether it is ours. Raises StoreUnavailable."""
        self._renewed_at = self._clock()
        return self._turns.begin(self._name, owner=self._owner, every=every, lease=_LEASE, now=self._renewed_at)

    def is_lost(self) -> bool:
        """Whether another one may be at it by now. To be asked now and then: it has the turn go on."""
        now = self._clock()
        if not self._lost and now - self._renewed_at >= _RENEW:
            self._renewed_at = now
            self._lost = not self._turns.renew(self._name, owner=self._owner, lease=_LEASE, now=now)
            if self._lost:
                log.warning("turn.lost", turn=self._name, next="another process does it; nothing more is done here")
        return self._lost

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        with suppress(StoreUnavailable):  # then it ends with its lease
            if self.done and not self._lost:
                self._turns.end(self._name, owner=self._owner, now=self._clock())
            else:
                self._turns.give_up(self._name, owner=self._owner, now=self._clock())
