"""What actors may do with transient datasets. The catalog is opened with the first question."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final

from orchestrator.clock import Clock
from orchestrator.core.actor import Done, GiveUp, Outcome, Retry, Wait
from orchestrator.rucio.port import CatalogError, CatalogUnavailable
from orchestrator.store.port import NotAllowed, NotFound
from orchestrator.store.store import Store
from orchestrator.transient.releaser import Releaser
from schemas.did import Did

#: How long to wait for the catalog, and for room within the caps or the end of a stop.
_AWAY: Final = timedelta(seconds=30)
_FULL: Final = timedelta(minutes=15)


class InTransit:
    """Says what becomes of transient datasets, for actors."""

    def __init__(self, store: Store, releaser: Callable[[], Releaser], clock: Clock) -> None:
        self._store = store
        self._releaser = releaser
        self._clock = clock

    def keep(self, which: str, span: timedelta | None, *, who: str, why: str) -> Outcome:
        now = self._clock()
        until = None if span is None else now + span
        for keep in self._store.transient_keeps.saying(which, now):
            long_enough = keep.until is None or (until is not None and keep.until >= until)
            if keep.who == who and long_enough:
                return Done(f"{which} is kept already: {keep.why}")
        try:
            self._store.transient_keeps.keep(which, who=who, why=why, now=now, until=until)
        except NotAllowed as error:
            return GiveUp(str(error))
        return Done(f"{which} stays")

    def release(self, did: Did, *, who: str, why: str) -> Outcome:
        try:
            return self._releaser().release_one(did, who=who, why=why)
        except CatalogUnavailable as error:
            return Wait(f"the catalog cannot be asked: {error}", _AWAY)
        except CatalogError as error:
            return Retry(f"the catalog refuses the question: {error}")
        except NotAllowed as error:
            return Wait(str(error), _FULL)

    def extend(self, did: Did, span: timedelta, *, who: str, why: str) -> Outcome:
        now = self._clock()
        try:
            extended = self._store.transients.extend(did, now + span, who=who, why=why, now=now)
        except (NotFound, NotAllowed) as error:
            return GiveUp(str(error))
        stays = extended.extended_until
        return Done(f"{did} stays until {stays:%Y-%m-%d %H:%M} UTC{'' if stays == now + span else ' already'}")
