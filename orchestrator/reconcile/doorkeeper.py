"""Looks at what dispatches require of the catalog, and lets those through for which it holds."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from typing import Final

import structlog

from orchestrator.clock import Clock
from orchestrator.core.actor import GiveUp, NotYet
from orchestrator.reconcile.gate import AWAY, Gate
from orchestrator.rucio.port import CatalogError, CatalogUnavailable
from orchestrator.settings import ConfigurationError
from orchestrator.store.port import StoreUnavailable
from orchestrator.store.requirements import HeldBack
from orchestrator.store.store import Store
from schemas.did import Did

log = structlog.get_logger()

_WHO: Final = "doorkeeper"

#: Dispatches taken at a time, and for how long nobody else looks at them: each look may take minutes.
_BATCH: Final = 20
_TURN: Final = timedelta(minutes=15)

#: How often it is looked whether something is due, in seconds. Nobody calls: on a busy day the bell of the dispatches
#: rings for each of them, and nearly none requires anything.
_POLL: Final = 1.0

#: Unforeseen failures, of which it is known that they were logged.
_SAID: Final = 100


class Doorkeeper:
    """Asks the catalog about dispatches before any worker gets them. No transaction is open meanwhile."""

    def __init__(self, store: Store, gate: Callable[[], Gate], *, confirm: bool = False, clock: Clock) -> None:
        """`gate` opens the catalog, with the first question; with `confirm`, closings must still be true, too."""
        self._store = store
        self._gate = gate
        self._confirm = confirm
        self._clock = clock
        self._stopping = threading.Event()
        self._said: deque[str] = deque(maxlen=_SAID)
        self._blind = False

    def step(self) -> None:
        """Look at what is due; if nothing is, wait a moment. Raises StoreUnavailable."""
        if not self.look():
            self._stopping.wait(_POLL)

    def look(self) -> int:
        """Look at some of what is due. Returns how many that were. Raises StoreUnavailable."""
        now = self._clock()
        taken = self._store.requirements.take(now=now, until=now + _TURN, limit=_BATCH)
        away: str | None = None
        for held in taken:
            if away is None and not self._stopping.is_set():
                away = self._one(held)
            else:  # it would fare no better, or somebody wants us to end
                self._put_off(held, held.reason or away or "not looked at yet", AWAY if away else timedelta())
        self._blind |= away is not None
        return 0 if away else len(taken)

    def look_at_all(self) -> bool:
        """Look at all that is due now, and wait for nothing more. Returns whether that could be done.

        Raises StoreUnavailable.
        """
        self._blind = False
        while self.look():
            pass
        return not self._blind

    def stop(self) -> None:
        self._stopping.set()

    def _one(self, held: HeldBack) -> str | None:
        """Look at one. What nobody foresaw keeps no other. Returns why the catalog cannot be asked, if it cannot."""
        try:
            return self._look_at(held)
        except StoreUnavailable:
            raise
        except Exception as error:
            if (why := _explained(error)) not in self._said:
                log.exception("doorkeeper.defect", dispatch=held.order.dispatch_id, reason=why, next=f"again in {AWAY}")
                self._said.append(why)
            self._put_off(held, why, AWAY)
            self._blind = True
            return None

    def _look_at(self, held: HeldBack) -> str | None:
        """Look at one. Returns why the catalog cannot be asked, if it cannot."""
        required = held.required
        did = held.order.message.did if required.dataset is None else _parsed(required.dataset)
        if did is None:
            what = "the message is about no dataset" if required.dataset is None else f"{required.dataset!r} is no DID"
            self._fail(held, f"nothing can be required: {what}")
            return None
        try:
            wrong = self._gate().wrong(did, required)
        except CatalogUnavailable as error:
            self._put_off(held, why := f"required: the catalog cannot be asked: {error}", AWAY)
            return why
        except CatalogError as error:
            wrong = f"the catalog refuses the question: {error}"
        if wrong is None:
            return self._let_through(held)
        if required.within is not None and self._clock() - held.since >= required.within:
            self._fail(held, f"required in vain: {wrong}")
        else:
            self._put_off(held, f"required: {wrong}", required.every)
        return None

    def _let_through(self, held: HeldBack) -> str | None:
        """Returns why the catalog cannot be asked, if it cannot."""
        match self._gate().confirm(held.order) if self._confirm else None:
            case GiveUp(reason):
                self._fail(held, reason)
            case NotYet(reason):
                self._put_off(held, reason, AWAY)
                return reason
            case _:
                self._store.requirements.let_through(held.order.dispatch_id, who=_WHO, now=self._clock())
        return None

    def _put_off(self, held: HeldBack, reason: str, span: timedelta) -> None:
        now = self._clock()
        self._store.requirements.put_off(held, reason, now + span, who=_WHO, now=now)

    def _fail(self, held: HeldBack, reason: str) -> None:
        order = held.order
        self._store.requirements.fail(order.dispatch_id, reason, who=_WHO, now=self._clock())
        log.warning("dispatch.failed", dispatch=order.dispatch_id, rule=order.rule, reason=reason)


def _explained(error: Exception) -> str:
    """In a line."""
    said = " ".join(str(error).split())
    if isinstance(error, ConfigurationError):
        return f"required: the catalog cannot be asked: {said}"
    return f"required: it cannot be looked at, see the log of muleteer: {type(error).__name__}: {said}"


def _parsed(text: str) -> Did | None:
    try:
        return Did.parse(text)
    except ValueError:
        return None
