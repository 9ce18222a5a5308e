"""Third stop: claim dispatches that are due, let their actors act, and write down what came of it."""

from __future__ import annotations

import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import structlog

from orchestrator.clock import Clock
from orchestrator.core.actor import Actor, GiveUp, Order, Outcome, Retry, Tools
from orchestrator.core.dispatch import Next, after
from orchestrator.core.gates import LimitsOf
from orchestrator.loop import Outage, Patience
from orchestrator.store.claiming import Claim
from orchestrator.store.dispatches import NO_LIMITS
from orchestrator.store.port import StoreUnavailable
from orchestrator.store.signals import DISPATCHES
from orchestrator.store.store import Store
from schemas.dispatch import DispatchId, DispatchState

log = structlog.get_logger()

#: A look at the store without having been called, in seconds.
_SAFETY_POLL = 5.0

#: What was just started has the processor to itself for so long, in seconds, unless there is more to start.
_BREATH = 0.05

#: How long an outcome is held on to when muleteer is being stopped and the store is away. After that it is lost, and
#: the dispatch is tried again when its claim has run out.
_LAST_WAIT = timedelta(seconds=10)

#: Says whether what an order is about is still true. An outcome keeps it from being begun.
Confirm = Callable[[Order], Outcome | None]


class Worker:
    """Carries out dispatches, several at a time."""

    def __init__(
        self,
        store: Store,
        actors: Mapping[str, Actor],
        tools: Tools,
        *,
        threads: int,
        lease: timedelta,
        store_outage: Outage,
        clock: Clock,
        limits: LimitsOf = NO_LIMITS,
        confirm: Confirm | None = None,
    ) -> None:
        """`limits` are those of the settings; `confirm` is asked once of each dispatch, before it is first begun."""
        self._store = store
        self._actors = actors
        self._tools = tools
        self._threads = threads
        self._lease = lease
        self._clock = clock
        self._limits = limits
        self._confirm = confirm
        #: When it was last looked for something to claim.
        self._looked_at = clock()
        #: Names this worker in claims and in the journal; no two processes ever share it.
        self.name = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:6]}"
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="worker")
        self._in_hand: set[DispatchId] = set()
        self._changed = threading.Condition()
        self._stopping = threading.Event()
        self._store_outage = store_outage

    def step(self) -> None:
        """Claim what is due and there is room for; if there is nothing, wait. Raises StoreUnavailable."""
        heard = self._store.bells.heard(DISPATCHES)
        started = self.claim_and_start()
        if self._stopping.is_set() or (started and self._store.bells.wait(DISPATCHES, since=heard, timeout=_BREATH)):
            return
        timeout = self._until_next() if self._free() else _SAFETY_POLL
        self._store.bells.wait(DISPATCHES, since=heard, timeout=timeout)

    def claim_and_start(self, only: Sequence[DispatchId] | None = None) -> int:
        """Claim due dispatches for the free threads, and start them. Returns how many. Raises StoreUnavailable."""
        self._looked_at = self._clock()
        claims = self._store.dispatches.claim(
            owner=self.name,
            limit=self._free(),
            lease=self._lease,
            now=self._looked_at,
            only=only,
            limits=self._limits,
        )
        with self._changed:
            self._in_hand.update(claim.order.dispatch_id for claim in claims)
        for claim in claims:
            self._pool.submit(self._carry_out, claim)
        return len(claims)

    def renew(self) -> None:
        """Renew the claims in hand; to be called several times within a lease. Raises StoreUnavailable."""
        with self._changed:
            ids = sorted(self._in_hand)
        if ids:
            self._store.dispatches.renew(ids, owner=self.name, until=self._clock() + self._lease)

    def idle(self, timeout: float | None) -> bool:
        """Wait until nothing is in hand; False if `timeout` seconds pass first."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._in_hand, timeout)

    def in_hand(self) -> Sequence[DispatchId]:
        """What is being carried out."""
        with self._changed:
            return sorted(self._in_hand)

    def stop(self) -> None:
        """Claim nothing more. What is in hand goes on; `Tools.stopping` tells it when to end."""
        self._stopping.set()
        self._store.bells.ring(DISPATCHES)

    def close(self, timeout: float | None = None) -> bool:
        """Wait for what is in hand; False if it is still going on after `timeout` seconds."""
        ended = self.idle(timeout)
        self._pool.shutdown(wait=ended)
        return ended

    def _free(self) -> int:
        with self._changed:
            return self._threads - len(self._in_hand)

    def _until_next(self) -> float:
        due = self._store.dispatches.next_due(self._looked_at)
        if due is None:
            return _SAFETY_POLL
        return min(_SAFETY_POLL, max(0.01, (due - self._clock()).total_seconds()))

    def _carry_out(self, claim: Claim) -> None:
        order = claim.order
        said = log.bind(dispatch=order.dispatch_id, actor=claim.actor, did=str(order.message.did), rule=order.rule)
        said.info("dispatch.started", attempt=order.attempt)
        try:
            outcome = self._act(claim)
            next_ = self._write_down(claim, outcome)
            if next_ is None:
                said.warning("dispatch.claim_lost", attempt=order.attempt, outcome=type(outcome).__name__)
                return
            tell = said.warning if next_.state is DispatchState.FAILED else said.info
            tell(f"dispatch.{next_.state}", attempt=order.attempt, reason=next_.reason)
        except StoreUnavailable as error:
            said.warning("dispatch.unsettled", error=str(error), next="its claim runs out, then it is tried again")
        except Exception:
            # the claim runs out, and the janitor sees to it
            said.exception("worker.defect")
        finally:
            with self._changed:
                self._in_hand.discard(order.dispatch_id)
                self._changed.notify_all()
            self._store.bells.ring(DISPATCHES)

    def _act(self, claim: Claim) -> Outcome:
        """No transaction is open while an actor runs."""
        actor = self._actors.get(claim.actor)
        if actor is None:
            return GiveUp(f"there is no actor {claim.actor!r} here; there are: {', '.join(sorted(self._actors))}")
        try:
            return self._not_confirmed(claim) or actor.act(claim.order, self._tools)
        except Exception as error:
            log.exception("actor.defect", dispatch=claim.order.dispatch_id, actor=claim.actor)
            return Retry(f"the actor {claim.actor} failed: {type(error).__name__}: {error}")

    def _not_confirmed(self, claim: Claim) -> Outcome | None:
        """What keeps a dispatch from being begun. What was begun is not stopped by it: its launch may be on the way."""
        if self._confirm is None or claim.let_through:
            return None
        kept = self._confirm(claim.order)
        if kept is None:
            self._store.requirements.confirm(claim.order.dispatch_id, now=self._clock())
        return kept

    def _write_down(self, claim: Claim, outcome: Outcome) -> Next | None:
        """Settle the dispatch, however long the store is away: the outcome exists nowhere else.

        Returns what follows; None if the claim was lost to somebody else meanwhile.

        Raises:
            StoreUnavailable: muleteer is being stopped, and the store has not come back in time.
        """
        patience = Patience(f"dispatch {claim.order.dispatch_id}", self._store_outage, longest=1.0)
        last = None
        try:
            while True:
                now = self._clock()
                next_ = after(outcome, attempt=claim.spent, policy=claim.retry, now=now)
                try:
                    kept = self._store.dispatches.settle(
                        claim.order.dispatch_id, claim.order.attempt, next_, outcome.trace, owner=self.name, now=now
                    )
                    return next_ if kept else None
                except StoreUnavailable as error:
                    if self._stopping.is_set():
                        last = last or now + _LAST_WAIT
                        if now >= last:
                            raise
                    time.sleep(patience.failed(error))
        finally:
            patience.leave()
