"""What muleteer needs of a message broker: a subscription that hands out frames and takes acknowledgements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol


class BrokerError(Exception):
    """The broker cannot be used. The text says which broker, what happened, and what to do next."""


class BrokerLost(BrokerError):
    """The broker is out of reach for now: connect again later, nothing that was not acknowledged is lost."""


class BrokerRefused(BrokerError):
    """The broker said no: user, passcode, destination or client-id. Trying again helps once somebody mends it."""


class Frame(NamedTuple):
    """One message as the broker delivered it."""

    headers: Mapping[str, str]
    #: As received, byte for byte.
    body: bytes


class Subscription(Protocol):
    """One connection, subscribed. Used by one thread; `wake` may be called from any."""

    def receive(self, timeout: float) -> Sequence[Frame]:
        """Wait up to `timeout` seconds for at least one frame, then hand out what is there, in order of arrival.

        A batch is bounded in count and in bytes (a single larger frame comes alone). Nothing is acknowledged.
        An empty batch means that the time is over, or that somebody called `wake`.

        Raises:
            BrokerLost: the connection broke. Frames that were not acknowledged will come again.
        """

    def acknowledge(self) -> None:
        """Acknowledge every frame handed out so far. Call it only once they are stored.

        Raises:
            BrokerLost: the connection broke; the frames will come again, as duplicates.
        """

    def wake(self) -> None:
        """End a waiting `receive` at once. Safe from any thread."""

    def close(self) -> None:
        """Leave the broker in an orderly way. Never raises; frames not acknowledged stay with the broker."""


class Broker(Protocol):
    """A broker that can be subscribed to, and to which frames can be sent."""

    #: For logs and for people, without secrets: `stomp://mq:61613/queue/events`.
    address: str

    def subscribe(self) -> Subscription:
        """Connect and subscribe; one address after the other is tried once.

        Raises:
            BrokerLost: no address answered.
            BrokerRefused: a broker answered and refused.
        """

    def check(self) -> None:
        """Connect and say good-bye, without subscribing. Raises BrokerLost, BrokerRefused as `subscribe` does."""

    def send(self, headers: Mapping[str, str], body: bytes) -> None:
        """Put one persistent frame on the destination; returns once the broker has it.

        Raises:
            BrokerLost, BrokerRefused: as for `subscribe`; the frame may or may not have arrived.
        """
