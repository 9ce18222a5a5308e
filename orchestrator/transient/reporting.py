"""What leaves soon, and what should have left long ago."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from orchestrator.store.transients import Transients
from schemas.transient import Transient, TransientState

#: Datasets that are read at a time.
_AT_ONCE: Final = 1000

#: After so long a dataset that leaves should be gone: the catalog's own work takes hours on a bad day.
SLOW: Final = timedelta(days=1)


class Reporter:
    """Reads the store; the catalog is not asked."""

    def __init__(self, transients: Transients) -> None:
        self._transients = transients

    def expiring(self, until: datetime) -> Iterator[Transient]:
        """What was released and leaves before that moment, unless it is taken back."""
        for each in self._all(TransientState.RELEASED):
            if each.leaves_at is not None and each.leaves_at <= until:
                yield each

    def overdue(self, now: datetime, slow: timedelta = SLOW) -> Iterator[Transient]:
        """What has been leaving for longer: each says why. Released ones whose time was over so long ago, too.

        And those of which the catalog could not delete a copy, from the first time on.
        """
        failed = self._transients.failed()
        for each in self._all(TransientState.LEAVING, TransientState.RELEASED):
            since = each.leaves_at if each.state is TransientState.RELEASED else each.leaving_at
            if each.id in failed:
                said = f"the catalog could not delete {_copies(failed[each.id].copies)}"
                yield each.model_copy(update={"reason": f"{each.reason}; {said}" if each.reason else said})
            elif since is not None and now - since >= slow:
                yield each

    def _all(self, *states: TransientState) -> Iterator[Transient]:
        after = 0
        while page := self._transients.list(states=states, after=after, limit=_AT_ONCE):
            yield from page
            after = page[-1].id


def _copies(count: int) -> str:
    return "1 of its copies" if count == 1 else f"{count:,} of its copies"
