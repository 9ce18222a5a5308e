"""Beside the third stop: find dispatches whose worker vanished, and put them back on the list."""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog

from orchestrator.clock import Clock
from orchestrator.store.store import Store

log = structlog.get_logger()


class Janitor:
    """Cleans up after workers that died.

    A worker that is silent may only have been unable to reach the store, as the janitor itself. After a gap in its own
    rounds it therefore gives every worker a whole lease to renew its claims before it believes that one is dead.
    """

    def __init__(self, store: Store, *, lease: timedelta, clock: Clock) -> None:
        self._store = store
        self._lease = lease
        self._clock = clock
        #: When the last round that came to its end began; at first, when there could have been one.
        self._last = clock()
        #: Silence before this moment proves nothing.
        self._believing_from: datetime | None = None

    def tidy(self) -> None:
        """Mark what is in doubt, then decide about it by its rule's retry policy; to be called four times in a lease.

        Raises:
            StoreUnavailable: the next call does it.
        """
        self._store.await_turn()  # whoever cannot write cannot renew, though he could still read
        now = self._clock()
        if now - self._last > self._lease / 2:
            self._believing_from = now + self._lease
        if self._believing_from is None or now >= self._believing_from:
            for dispatch in self._store.dispatches.doubt(now=now):
                log.warning("dispatch.in_doubt", dispatch=dispatch)
        for dispatch, next_ in self._store.dispatches.resolve(now=now):
            log.info(f"dispatch.{next_.state}", dispatch=dispatch, reason=next_.reason)
        self._last = now
