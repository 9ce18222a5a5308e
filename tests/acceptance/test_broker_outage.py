"""The broker goes away and comes back: nothing is lost, and nobody has to do anything."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import pytest

from orchestrator.store.store import Store
from tests.acceptance.home import Home, broker_settings, until
from tests.acceptance.sender import Stream, closes, send
from tests.services.activemq import ActiveMQ

Maker = Callable[[Mapping[str, str]], Home]


@pytest.mark.slow
def test_a_broker_that_is_killed_and_started_again_loses_nothing(
    new_home: Maker, store: Store, store_url: str, own_activemq: ActiveMQ, destination: str
) -> None:
    """Two kills in the middle of a stream: every frame is stored once; each outage is said once, and its end."""
    home = new_home({"STORE__URL": store_url, **broker_settings(own_activemq, destination)})
    process = home.run("listener")
    process.await_said("listener.subscribed")
    with Stream(own_activemq, destination, closes(3_000), each_second=500) as stream:
        for times in (1, 2):
            heard = store.messages.count()
            until(lambda heard=heard: store.messages.count() > heard + 200, 30, "frames on their way")  # type: ignore[misc]  # mypy cannot infer a default of a lambda
            own_activemq.kill()
            time.sleep(1)
            own_activemq.start()
            process.await_said("broker.back", times)
        stream.finish()

        until(lambda: store.messages.count() >= 3_000, 30, "every frame stored")

    assert process.stop() == 0
    assert store.messages.count() == 3_000
    assert (len(process.said("broker.lost")), len(process.said("broker.back"))) == (2, 2)


@pytest.mark.slow
def test_a_broker_that_falls_silent_is_noticed_and_taken_up_again(
    new_home: Maker, store: Store, store_url: str, own_activemq: ActiveMQ, destination: str
) -> None:
    """Frozen for longer than its heart-beats: the connection is given up, and made anew once the broker answers."""
    settings = {"STORE__URL": store_url, "BROKER__HEARTBEAT": "1s"}
    home = new_home({**settings, **broker_settings(own_activemq, destination)})
    process = home.run("listener")
    process.await_said("listener.subscribed")
    send(own_activemq, destination, closes(500))
    until(lambda: store.messages.count() == 500, 10, "the first frames")
    with Stream(own_activemq, destination, closes(1_000, first=501), each_second=500) as stream:
        own_activemq.suspend()
        process.await_said("broker.lost", patience=10)
        time.sleep(3)
        own_activemq.resume()
        process.await_said("broker.back")
        stream.finish()

        until(lambda: store.messages.count() >= 1_500, 30, "every frame stored")

    assert process.stop() == 0
    assert store.messages.count() == 1_500
    assert (len(process.said("broker.lost")), len(process.said("broker.back"))) == (1, 1)
