"""Ways to subscribe, set through the environment of the installed command."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count
from pathlib import Path

import pytest

from orchestrator.store.store import Store
from tests.acceptance.home import Home, broker_settings
from tests.acceptance.sender import close_of, closes, send
from tests.services.activemq import ActiveMQ
from tests.services.ports import free_port

_numbers = count(1)


@pytest.fixture
def sqlite(tmp_path: Path) -> Store:
    """An empty store; how frames get to it has nothing to do with the kind of database."""
    return Store.open(f"sqlite:///{tmp_path / 'muleteer.db'}")


@pytest.fixture
def subscriber(
    new_home: Callable[[Mapping[str, str]], Home], sqlite: Store, activemq: ActiveMQ, destination: str
) -> Home:
    """A home at the shared broker with the store `sqlite`."""
    return new_home({"STORE__URL": str(sqlite.database.url), **broker_settings(activemq, destination)})


def test_a_durable_subscription_gets_what_came_while_nobody_listened(
    subscriber: Home, sqlite: Store, activemq: ActiveMQ
) -> None:
    """With client_id and subscription_name the broker keeps a topic's frames for us."""
    topic = f"/topic/acceptance.durable.{next(_numbers)}"
    durable = {
        "BROKER__DESTINATION": topic,
        "BROKER__CLIENT_ID": "acceptance",
        "BROKER__SUBSCRIPTION_NAME": "acceptance",
    }
    subscriber.listen(lambda: True, **durable)
    send(activemq, topic, closes(5))

    told = subscriber.listen(lambda: sqlite.messages.count() == 5, **durable)

    assert told.startswith("5 messages stored")


def test_the_consumer_queue_of_a_virtual_topic_gets_what_is_published(
    subscriber: Home, sqlite: Store, activemq: ActiveMQ
) -> None:
    """Other consumers of the topic have queues of their own; this one keeps frames while nobody listens."""
    queue = {"BROKER__DESTINATION": "/queue/Consumer.muleteer.VirtualTopic.acceptance"}
    subscriber.listen(lambda: True, **queue)
    send(activemq, "/topic/VirtualTopic.acceptance", closes(5))

    told = subscriber.listen(lambda: sqlite.messages.count() == 5, **queue)

    assert told.startswith("5 messages stored")


def test_a_selector_leaves_other_events_at_the_broker(
    subscriber: Home, sqlite: Store, activemq: ActiveMQ, destination: str
) -> None:
    """`event_type = 'close'` is decided by the broker, on the frame's header."""
    send(activemq, destination, [close_of(1, event="open"), close_of(2), close_of(3, event="rule_ok"), close_of(4)])

    told = subscriber.listen(lambda: sqlite.messages.count() == 2, BROKER__SELECTOR="event_type = 'close'")

    assert told.startswith("2 messages stored")
    assert {message.event_type for message in sqlite.messages.list()} == {"close"}
    assert subscriber.listen(lambda: sqlite.messages.count() == 4).startswith("2 messages stored")


def test_tls_with_the_passcode_in_a_file(subscriber: Home, sqlite: Store, activemq: ActiveMQ, destination: str) -> None:
    """The secret is in no variable and on no command line; the broker's certificate is checked."""
    del subscriber.settings["BROKER__PASSCODE"]
    (subscriber.place / "passcode").write_text(activemq.passcode + "\n")
    send(activemq, destination, closes(3))

    told = subscriber.listen(
        lambda: sqlite.messages.count() == 3,
        BROKER__ADDRESSES=f'["localhost:{activemq.tls_port}"]',
        BROKER__TLS="true",
        BROKER__CA_FILE=str(activemq.ca_file),
        BROKER__PASSCODE_FILE="passcode",
    )

    assert told.startswith("3 messages stored")


def test_a_dead_first_address_is_passed_over(
    subscriber: Home, sqlite: Store, activemq: ActiveMQ, destination: str
) -> None:
    """Of the brokers in the list, the first that answers is used."""
    send(activemq, destination, closes(3))

    told = subscriber.listen(
        lambda: sqlite.messages.count() == 3,
        BROKER__ADDRESSES=f'["127.0.0.1:{free_port()}", "127.0.0.1:{activemq.port}"]',
    )

    assert told.startswith("3 messages stored")
    assert subscriber.processes[-1].said("broker.lost") == []
