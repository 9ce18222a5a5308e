"""Beside the third stop: find dispatches whose worker vanished, and put them back on the list."""

from __future__ import annotations

import structlog

from orchestrator.clock import Clock
from orchestrator.store.store import Store

log = structlog.get_logger()


class Janitor:
    """Cleans up after workers that died."""

    def __init__(self, store: Store, *, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def tidy(self) -> None:
        """Mark what is in doubt, then decide about it by its rule's retry policy. Raises StoreUnavailable."""
        for dispatch in self._store.dispatches.doubt(now=self._clock()):
            log.warning("dispatch.in_doubt", dispatch=dispatch)
        for dispatch, next_ in self._store.dispatches.resolve(now=self._clock()):
            log.info(f"dispatch.{next_.state}", dispatch=dispatch, reason=next_.reason)
