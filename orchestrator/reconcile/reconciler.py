"""Finds the closings that nobody announced: what the broker lost, the catalog still knows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

import structlog

from orchestrator.clock import Clock
from orchestrator.core.reconciling import HEADERS, Closing, Window, body_of, is_known, window
from orchestrator.rucio.port import Catalog, DatasetEntry
from orchestrator.store.intake import Arrival
from orchestrator.store.messages import Messages
from orchestrator.store.reconciliations import Reconciliations
from schemas.message import RECONCILED
from schemas.reconciliation import MissedClosing, Reconciliation

log = structlog.get_logger()

#: Closings that are compared at a time.
_BATCH: Final = 1000

_WHO: Final = "reconciler"

#: Is told of each closing that was missing.
Tell = Callable[[MissedClosing], None]


class Reconciler:
    """Compares what the catalog closed with what is stored, and stores what is missing.

    An event that comes late after all is known for the same closing, and starts nothing: see `core.settlement`.
    """

    def __init__(
        self,
        catalog: Catalog,
        messages: Messages,
        reconciliations: Reconciliations,
        *,
        scopes: Sequence[str] = ("*",),
        whole: bool = True,
        overlap: timedelta,
        patience: timedelta,
        clock: Clock,
    ) -> None:
        """`scopes` are globs: what was closed elsewhere is not looked at. `whole`: these are all that ever are."""
        self._catalog = catalog
        self._messages = messages
        self._reconciliations = reconciliations
        self._scopes = scopes
        self._whole = whole
        self._overlap = overlap
        self._patience = patience
        self._clock = clock

    def reconcile(
        self,
        *,
        since: datetime | None = None,
        dry_run: bool = False,
        who: str = _WHO,
        tell: Tell = lambda _: None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> Reconciliation:
        """Compare once, from the last mark on or from `since`.

        If it fails half-way or is told to stop, what was found is stored, and the next comparison begins where this one
        began; so it does if this one left something out: scopes, or the time between the mark and `since`.

        Raises:
            CatalogUnavailable, CatalogError, StoreUnavailable.
        """
        started = self._clock()
        mark = self._reconciliations.mark(self._catalog.address)
        span = window(mark, started, overlap=self._overlap, patience=self._patience)
        if since is not None:
            span = Window(min(since, span.until), span.until)
        left_out = not self._whole or (since is not None and mark is not None and since > mark)
        closings, missing, longest = 0, 0, None
        # with no mark there is nothing to look back to; but a catalog that is away must not look like a good one
        for batch in self._batches(span):
            missed = self._missing(batch)
            if missed and not dry_run:
                self._store(missed)
            for closing in missed:
                lag = (started - closing.closed_at).total_seconds()
                longest = lag if longest is None else max(longest, lag)
                tell(MissedClosing(did=str(closing.did), closed_at=closing.closed_at, lag=lag))
            closings += len(batch)
            missing += len(missed)
            if stopping():
                left_out = True
                break
        done = Reconciliation(
            catalog=self._catalog.address,
            since=span.since,
            until=span.until,
            mark=None if left_out else span.until,
            started_at=started,
            ended_at=self._clock(),
            closings=closings,
            missing=missing,
            longest_lag=longest,
            who=who,
        )
        return done if dry_run else self._noted(done)

    def _batches(self, span: Window) -> Iterator[list[Closing]]:
        batch: list[Closing] = []
        for scope in self._scopes:
            for entry in self._catalog.closed_since(span.since, scope):
                if entry.closed_at is not None and entry.closed_at <= span.until:
                    batch.append(_closing(entry, entry.closed_at))
                if len(batch) == _BATCH:
                    yield batch
                    batch = []
        if batch:
            yield batch

    def _missing(self, batch: Sequence[Closing]) -> list[Closing]:
        stored = self._reconciliations.lives({closing.did for closing in batch})
        return [closing for closing in batch if not is_known(closing, stored.get(closing.did, ()))]

    def _store(self, missed: Sequence[Closing]) -> None:
        arrivals = [Arrival(HEADERS, body_of(closing)) for closing in missed]
        self._messages.take_in(arrivals, origin=RECONCILED, now=self._clock())

    def _noted(self, done: Reconciliation) -> Reconciliation:
        noted = self._reconciliations.note(done)
        tell = log.warning if noted.missing else log.debug
        lag = noted.longest_lag and round(noted.longest_lag)
        tell("reconciled", closings=noted.closings, missing=noted.missing, longest_lag_seconds=lag)
        return noted


def _closing(entry: DatasetEntry, closed_at: datetime) -> Closing:
    return Closing(entry.did, closed_at, entry.bytes, entry.length, entry.events)
