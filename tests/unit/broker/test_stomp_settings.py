"""What the settings of the door to ActiveMQ promise."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.broker.stomp import StompBroker, StompSettings

ADDRESSES = (("mq1", 61613), ("mq2", 61614))


def test_passcode_is_not_shown() -> None:
    """Whoever prints the settings, or the broker's address, does not print the passcode."""
    settings = StompSettings(addresses=ADDRESSES, destination="/queue/events", user="u", passcode="guess-work")

    assert "guess-work" not in repr(settings)
    assert "guess-work" not in StompBroker(settings).address


@pytest.mark.parametrize(("tls", "scheme"), [(False, "stomp"), (True, "stomp+ssl")])
def test_address(tls: bool, scheme: str) -> None:
    """A broker's address names every host, and the destination."""
    broker = StompBroker(StompSettings(addresses=ADDRESSES, destination="/queue/events", tls=tls))

    assert broker.address == f"{scheme}://mq1:61613,mq2:61614/queue/events"


def test_no_address() -> None:
    """Settings without an address are refused."""
    with pytest.raises(ValueError, match="give at least one"):
        StompSettings(addresses=(), destination="/queue/events")


@pytest.mark.parametrize("half", [{"client_id": "muleteer"}, {"subscription_name": "events"}])
def test_half_durable(half: dict[str, Any]) -> None:
    """A client_id without a subscription_name, or the other way round, is refused: it would not be durable."""
    with pytest.raises(ValueError, match="give both or none"):
        StompSettings(addresses=ADDRESSES, destination="/topic/events", **half)
