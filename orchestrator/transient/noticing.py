"""Hears of what others did to transient datasets, and looks in the catalog what is true of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final, NamedTuple

import structlog

from orchestrator.clock import Clock
from orchestrator.rucio.port import Catalog, CatalogError, CatalogUnavailable
from orchestrator.store.transients import Transients
from orchestrator.transient.asking import Asker
from orchestrator.transient.proving import Prover
from orchestrator.transient.regime import CutOff, Regime, Regimes
from schemas.transient import Refusal, Refused, Transient, TransientId, TransientState

log = structlog.get_logger()

_WHO: Final = "noticer"

#: Datasets that are taken at a time.
_AT_ONCE: Final = 1000

#: Of so many that are known it is believed that few vanish at once.
_MANY: Final = 20

#: Nobody has released it.
_FREE: Final = frozenset({TransientState.HELD, TransientState.RELEASABLE})

#: Where a dataset stands that may vanish without our doing.
_OURS: Final = _FREE | {TransientState.RELEASED}


class Swept(NamedTuple):
    """What became of datasets that a survey did not see."""

    vanished: int = 0
    #: Those that could leave before.
    held: int = 0
    #: Why nothing is said of them, in words: so many are missing.
    doubt: str | None = None


class Noticer:
    """Events come late, twice or never: they say only where to look."""

    def __init__(
        self,
        catalog: Catalog,
        transients: Transients,
        regimes: Regimes,
        *,
        asker: Asker,
        prover: Prover,
        clock: Clock,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._catalog = catalog
        self._transients = transients
        self._regimes = regimes
        self._asker = asker
        self._prover = prover
        self._clock = clock
        self._stopping = stopping
        #: The last message that was read. What came before we began, the survey sees.
        self._after: int | None = None

    def step(self) -> int:
        """Follow what was told since the last step. Returns how many events that were.

        What the catalog cannot answer about one dataset keeps no other: the next survey looks at it.

        Raises CatalogUnavailable: all is followed with the next step; StoreUnavailable.
        """
        if self._after is None:
            self._after = self._transients.newest_message()
        hearing = self._transients.told(self._after)
        if hearing.told:
            regime = self._regimes.now()
            for id_ in dict.fromkeys(each.transient_id for each in hearing.told):
                self._follow(self._transients.get(id_), regime)
        self._after = hearing.until
        return len(hearing.told)

    def sweep(
        self,
        seen_since: datetime,
        regime: Regime,
        *,
        meant: int = 0,
        stopping: Callable[[], bool] = lambda: False,
    ) -> Swept:
        """After a survey: what became of the datasets that it did not see.

        Those that the catalog has no more have vanished; others are held, and it is said why no policy lets them leave.
        Of those that were seen in another catalog this one tells nothing: they are held.

        If most of them are missing at once it is more likely the catalog that is wrong: then nothing is done. That is
        counted first, so what has vanished was looked for twice.

        Args:
            seen_since: when the survey began.
            regime: what it went by.
            meant: a person has said that so many have indeed vanished.

        Raises CatalogError, StoreUnavailable; CutOff: `stopping` said so.
        """
        known = missing = 0
        for ours, gone, _ in self._pages(seen_since, stopping):
            known, missing = known + len(ours), missing + len(gone)
        if (doubt := _doubt(known, missing, meant)) is not None:
            return Swept(doubt=doubt)
        vanished = held = 0
        for ours, gone, there in self._pages(seen_since, stopping):
            vanished += self._vanish(gone)
            others = [each for each in ours if each.seen_at < seen_since and each.state in _FREE]
            held += self._hold_others(others)
            held += self._hold_stale([each for each in there if each.state in _FREE], regime)
        return Swept(vanished, held)

    def _pages(
        self, seen_since: datetime, stopping: Callable[[], bool]
    ) -> Iterator[tuple[Sequence[Transient], Sequence[Transient], Sequence[Transient]]]:
        """All that nobody has begun to let leave; of what the survey did not see, what is missing and what is there."""
        after = TransientId(0)
        while page := self._transients.not_gone(after, _AT_ONCE):
            after = page[-1].id
            ours = [each for each in page if each.state in _OURS]
            unseen = [each for each in ours if each.seen_at < seen_since and self._asker.elsewhere(each) is None]
            yield ours, *self._parted(unseen, lambda: stopping() or self._stopping())

    def _hold_stale(self, transients: Sequence[Transient], regime: Regime) -> int:
        """Those that no policy lets leave any more. Returns how many could leave before."""
        self._hold([_held(each, regime) for each in transients])
        return _could_leave(transients)

    def _hold_others(self, transients: Sequence[Transient]) -> int:
        """Those that were seen in another catalog, which stays noted of them. Returns how many could leave before."""
        others = [(each, why) for each in transients if (why := self._asker.elsewhere(each)) is not None]
        refused = [_refused(each, Refusal("unknown", why)) for each, why in others]
        self._transients.seen([], refused, who=_WHO, now=self._clock())
        return _could_leave(each for each, _ in others)

    def _hold(self, refused: Sequence[Refused]) -> None:
        self._transients.seen([], refused, who=_WHO, now=self._clock(), catalog=self._asker.identity)

    def _parted(
        self, transients: Sequence[Transient], stopping: Callable[[], bool]
    ) -> tuple[list[Transient], list[Transient]]:
        """Those that the catalog has no more in this life of theirs, and those that it has. Raises CutOff."""
        known = self._catalog.metadata([each.did for each in transients]) if transients else {}
        missing, there = list[Transient](), list[Transient]()
        for each in transients:
            if stopping():
                raise CutOff
            alive = known.get(each.did, {}).get("created_at") == each.born_at
            # an answer that leaves something out is not enough
            alive = alive or ((entry := self._asker.entry(each.did)) is not None and entry.born_at == each.born_at)
            (there if alive else missing).append(each)
        return missing, there

    def _follow(self, transient: Transient, regime: Regime) -> None:
        try:
            self._look_at(transient, regime)
        except CatalogUnavailable:
            raise
        except CatalogError as error:
            reason = " ".join(str(error).split())
            did, next_ = str(transient.did), "the survey looks at it"
            log.warning("transient.not_followed", transient=transient.id, did=did, reason=reason, next=next_)

    def _look_at(self, transient: Transient, regime: Regime) -> None:
        if transient.state not in _OURS:
            return
        self._asker.demand_here(transient)
        entry = self._asker.entry(transient.did)
        if entry is None or entry.born_at != transient.born_at:
            self._vanish([transient])
        elif transient.state is TransientState.RELEASABLE:
            policy = regime.get(transient.policy)
            verdict = _held(transient, regime) if policy is None else self._prover.prove(policy, entry, regime)
            if isinstance(verdict, Refused):
                self._hold([verdict])

    def _vanish(self, transients: Iterable[Transient]) -> int:
        lives = [(each.did, each.born_at) for each in transients]
        if not lives:
            return 0
        why = "the catalog has it no more, and it was not muleteer that let it go"
        gone = self._transients.vanished(lives, who=_WHO, why=why, now=self._clock())
        for each in gone:
            log.info("transient.vanished", transient=each.id, did=str(each.did))
        return len(gone)


def _doubt(known: int, missing: int, meant: int) -> str | None:
    """Why it is not believed that so many have vanished, in words."""
    if known < _MANY or 2 * missing <= known or missing <= meant:
        return None
    return (
        f"the catalog has {missing:,} of {known:,} datasets no more: is it the right one, and all of it? Nothing is "
        f"said of them, and nothing is released by itself; if others did let them go, muleteer transient survey "
        f"--vanished {missing}"
    )


def _could_leave(transients: Iterable[Transient]) -> int:
    return sum(each.state is TransientState.RELEASABLE for each in transients)


def _held(transient: Transient, regime: Regime) -> Refused:
    """A dataset that no policy lets leave any more. Raises CatalogError."""
    return _refused(transient, Refusal("policy", _why_not(transient.policy, regime)))


def _refused(transient: Transient, refusal: Refusal) -> Refused:
    return Refused(
        did=str(transient.did),
        born_at=transient.born_at,
        policy=transient.policy,
        version=transient.policy_version,
        run=transient.run,
        bytes=transient.bytes,
        files=transient.files,
        successor=transient.successor,
        refusals=(refusal,),
        due_at=transient.due_at,
    )


def _why_not(name: str, regime: Regime) -> str:
    """What has become of the policy that let it leave. Raises CatalogError."""
    if name in regime.broken:
        return f"policy {name} releases nothing: {regime.broken[name].refused}"
    policy = regime.get(name)
    if policy is None:
        return f"policy {name} is not in force any more"
    whole = regime.refused(policy)
    return f"policy {name} does not match it any more" if whole is None else f"policy {name} releases nothing: {whole}"
