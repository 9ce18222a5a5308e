"""First stop: take frames from the broker, store them, and only then acknowledge them."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import structlog

from orchestrator.broker.port import Broker, BrokerError, Frame, Subscription
from orchestrator.clock import Clock
from orchestrator.loop import Outage, Patience
from orchestrator.store.intake import Arrival, Intake
from orchestrator.store.messages import Messages
from orchestrator.store.port import StoreUnavailable

log = structlog.get_logger()

#: How long one wait for frames lasts, in seconds; `stop` ends it earlier.
_WAIT = 5.0


class Listener:
    """Brings every frame into the store, whatever happens to the broker or to the store meanwhile.

    The connection's own threads never reconnect and never store: this one supervises both, so a new subscription is
    always made whole, and at most one batch is in hand.
    """

    def __init__(self, broker: Broker, messages: Messages, *, store_outage: Outage, clock: Clock) -> None:
        self._broker = broker
        self._messages = messages
        self._clock = clock
        self._stopping = threading.Event()
        self._subscription: Subscription | None = None
        self._broker_patience = Patience("listener", Outage("broker"))
        self._defects = Patience("listener", Outage("listener"))
        self._store_patience = Patience("listener", store_outage, longest=5.0)
        #: What was taken in since the start.
        self.taken = Intake()

    def run(self) -> None:
        """Listen until stopped. What was received by then is stored and acknowledged, or left with the broker."""
        while not self._stopping.is_set():
            try:
                self._subscribe_and_drain()
            except BrokerError as error:
                self._stopping.wait(self._broker_patience.failed(error))
            except Exception:
                self._stopping.wait(self._defects.surprised())

    def stop(self) -> None:
        """Bring `run` to an orderly end. Safe from any thread, and from a signal handler."""
        self._stopping.set()
        subscription = self._subscription
        if subscription is not None:
            subscription.wake()

    def _subscribe_and_drain(self) -> None:
        subscription = self._subscription = self._broker.subscribe()
        log.info("listener.subscribed", broker=self._broker.address)
        self._broker_patience.succeeded()
        try:
            while not self._stopping.is_set():
                frames = subscription.receive(_WAIT)
                if frames and self._store(frames):
                    # the order is the guarantee: a crash between the two costs a duplicate, never a loss
                    subscription.acknowledge()
                    self._defects.succeeded()
        finally:
            self._subscription = None
            subscription.close()

    def _store(self, frames: Sequence[Frame]) -> bool:
        """Store one batch, however long the store is away. False if muleteer is stopped before it comes back."""
        arrivals = [Arrival(frame.headers, frame.body) for frame in frames]
        while True:
            try:
                taken = self._messages.take_in(arrivals, origin="broker", now=self._clock())
            except StoreUnavailable as error:
                if self._stopping.wait(self._store_patience.failed(error)):
                    return False
            else:
                self._store_patience.succeeded()
                self.taken += taken
                log.debug("listener.stored", stored=taken.stored, duplicates=taken.duplicates)
                if taken.quarantined:
                    log.warning(
                        "listener.quarantined",
                        frames=taken.quarantined,
                        next="muleteer messages list --state quarantined",
                    )
                return True
