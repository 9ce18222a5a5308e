"""Hears of what others did to transient datasets, and looks in the catalog what is true of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Final

import structlog

from orchestrator.clock import Clock
from orchestrator.rucio.port import Catalog, CatalogError, CatalogUnavailable
from orchestrator.store.transients import Transients
from orchestrator.transient.asking import Asker
from orchestrator.transient.proving import Prover
from orchestrator.transient.regime import Regime, Regimes
from schemas.transient import Refusal, Refused, Transient, TransientId, TransientState

log = structlog.get_logger()

_WHO: Final = "noticer"

#: Datasets that are taken at a time.
_AT_ONCE: Final = 1000

#: Nobody has released it.
_FREE: Final = frozenset({TransientState.HELD, TransientState.RELEASABLE})

#: Where a dataset stands that may vanish without our doing.
_OURS: Final = _FREE | {TransientState.RELEASED}


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

    def sweep(self, seen_since: datetime, regime: Regime) -> tuple[int, int]:
        """After a survey: what became of the datasets that it did not see.

        Those that the catalog has no more have vanished; others are held, and it is said why no policy lets them leave.

        Args:
            seen_since: when the survey began.
            regime: what it went by.

        Returns:
            How many vanished, and how many could leave before and are held.

        Raises CatalogError, StoreUnavailable.
        """
        after, vanished, held = TransientId(0), 0, 0
        while (page := self._transients.not_gone(after, _AT_ONCE)) and not self._stopping():
            after = page[-1].id
            unseen = [each for each in page if each.state in _OURS and each.seen_at < seen_since]
            missing, there = self._parted(unseen)
            vanished += self._vanish(missing)
            stale = [each for each in there if each.state in _FREE]
            self._transients.seen([], [_held(each, regime) for each in stale], who=_WHO, now=self._clock())
            held += sum(each.state is TransientState.RELEASABLE for each in stale)
        return vanished, held

    def _parted(self, transients: Sequence[Transient]) -> tuple[list[Transient], list[Transient]]:
        """Those that the catalog has no more in this life of theirs, and those that it has."""
        known = self._catalog.metadata([each.did for each in transients]) if transients else {}
        missing, there = list[Transient](), list[Transient]()
        for each in transients:
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
        entry = self._asker.entry(transient.did)
        if entry is None or entry.born_at != transient.born_at:
            self._vanish([transient])
        elif transient.state is TransientState.RELEASABLE:
            policy = regime.get(transient.policy)
            verdict = _held(transient, regime) if policy is None else self._prover.prove(policy, entry, regime)
            if isinstance(verdict, Refused):
                self._transients.seen([], [verdict], who=_WHO, now=self._clock())

    def _vanish(self, transients: Iterable[Transient]) -> int:
        lives = [(each.did, each.born_at) for each in transients]
        if not lives:
            return 0
        why = "the catalog has it no more, and it was not muleteer that let it go"
        gone = self._transients.vanished(lives, who=_WHO, why=why, now=self._clock())
        for each in gone:
            log.info("transient.vanished", transient=each.id, did=str(each.did))
        return len(gone)


def _held(transient: Transient, regime: Regime) -> Refused:
    """A dataset that no policy lets leave any more. Raises CatalogError."""
    return Refused(
        did=str(transient.did),
        born_at=transient.born_at,
        policy=transient.policy,
        version=transient.policy_version,
        run=transient.run,
        bytes=transient.bytes,
        files=transient.files,
        successor=transient.successor,
        refusals=(Refusal("policy", _why_not(transient.policy, regime)),),
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
