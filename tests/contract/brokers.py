"""Rigs for the contract of brokers: each is one place where frames can be sent and received, empty at first."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from orchestrator.broker.embedded import EmbeddedBroker
from orchestrator.broker.port import Broker, Frame, Subscription
from orchestrator.broker.stomp import StompBroker, StompSettings
from tests.services.activemq import ActiveMQ


class ClosableBroker(Broker, Protocol):
    def close(self) -> None: ...


class Rig(Protocol):
    """Makes brokers that all lead to the same place. Whatever it made is closed when its `stack` is."""

    stack: ExitStack

    def broker(self, *, batch_frames: int = 500, batch_bytes: int = 8 * 1024 * 1024) -> ClosableBroker: ...


@dataclass
class EmbeddedRig:
    path: Path
    stack: ExitStack = field(default_factory=ExitStack)

    def broker(self, *, batch_frames: int = 500, batch_bytes: int = 8 * 1024 * 1024) -> ClosableBroker:
        broker = EmbeddedBroker(self.path, batch_frames=batch_frames, batch_bytes=batch_bytes)
        self.stack.callback(broker.close)
        return broker


@dataclass
class StompRig:
    activemq: ActiveMQ
    destination: str
    #: What differs from the plain settings, for every broker of this rig.
    settings: dict[str, Any] = field(default_factory=dict)
    stack: ExitStack = field(default_factory=ExitStack)

    def broker(self, *, batch_frames: int = 500, batch_bytes: int = 8 * 1024 * 1024, **settings: Any) -> ClosableBroker:
        plain = {
            "addresses": (("127.0.0.1", self.activemq.port),),
            "destination": self.destination,
            "user": self.activemq.user,
            "passcode": self.activemq.passcode,
            "batch_frames": batch_frames,
            "batch_bytes": batch_bytes,
        }
        broker = StompBroker(StompSettings(**{**plain, **self.settings, **settings}))
        self.stack.callback(broker.close)
        return broker

    def subscribe(self, **settings: Any) -> Subscription:
        subscription = self.broker(**settings).subscribe()
        self.stack.callback(subscription.close)
        return subscription


def take(subscription: Subscription, count: int, patience: float = 10) -> Sequence[Frame]:
    """Receive at least `count` frames without acknowledging; fewer if none comes for `patience` seconds."""
    frames: list[Frame] = []
    while len(frames) < count and (batch := subscription.receive(patience)):
        frames += batch
    return frames


def bodies(frames: Sequence[Frame]) -> Sequence[bytes]:
    return [frame.body for frame in frames]
