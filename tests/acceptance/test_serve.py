"""`muleteer serve`, as installed: asked over HTTP while muleteer runs."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from orchestrator.store.store import Store
from schemas.launch import LaunchState
from tests.acceptance.home import Home, until
from tests.contract.test_store_by_hand import ON_ITS_WAY, launched
from tests.services.ports import free_port
from tests.unit.making import NOW, frame


class Window:
    """A client with a token."""

    def __init__(self, port: int, token: str | None) -> None:
        self._base = f"http://127.0.0.1:{port}"
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})

    def ask(self, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data, dict(self._headers))
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
        except OSError:
            return 0, None


def test_a_rule_that_is_sent_over_http_starts_what_waits(tmp_path: Path) -> None:
    """From the request to the action: no restart, the person's name in the journal, no secret in the log."""
    home = Home(tmp_path)
    token = home.do("token", "add", "shift").strip()
    port = free_port()
    serving = home.start("serve", "--port", str(port))
    try:
        home.run()
        window = Window(port, token)
        until(lambda: window.ask("/healthz")[0] == 200, 20, "the window opens")
        assert Window(port, None).ask("/api/v1/status")[0] == 401
        store = Store.open(f"sqlite:///{home.place / 'muleteer.db'}")
        store.messages.take_in([frame(name="RAW-1")], origin="broker", now=NOW)
        store.close()
        rule = {"name": "raw", "pattern": "RAW-.*", "actions": [{"run": {"command": ["true"]}}]}

        status, answer = window.ask("/api/v1/rules", {"rules": [rule], "reason": "beam is back"})

        assert (status, answer["added"]) == (200, ["raw"])
        until(lambda: window.ask("/api/v1/status")[1]["dispatches"] == {"done": 1}, 20, "the rule's action is done")
        history = home.read("rules", "history")
        assert "rest:shift" in json.dumps(history) and "beam is back" in json.dumps(history)
        assert serving.stop() == 0
        assert token not in serving.log.read_text() + serving.output.read_text()
    finally:
        home.close()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_other_machines_are_not_served(tmp_path: Path, host: str) -> None:
    """Tokens would travel in the clear."""
    home = Home(tmp_path)

    home.do("serve", "--host", host, expect=2)


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    """With what to do about it."""
    home = Home(tmp_path)
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()

        home.do("serve", "--port", str(other.getsockname()[1]), expect=5)


def test_messages_dispatches_and_launches_are_acted_on_over_http(tmp_path: Path) -> None:
    """What a person gives to a rule is carried out; to carry it out once more, the catalog is asked what is left."""
    home = Home(tmp_path)
    token = home.do("token", "add", "shift").strip()
    port = free_port()
    home.start("serve", "--port", str(port))
    try:
        home.run()
        window = Window(port, token)
        until(lambda: window.ask("/healthz")[0] == 200, 20, "the window opens")
        store = Store.open(f"sqlite:///{home.place / 'muleteer.db'}")
        store.messages.take_in([frame(name="RAW-1")], origin="broker", now=NOW)
        actions = [{"run": {"command": ["true"]}}]
        spare = {"name": "spare", "pattern": "none", "enabled": False, "actions": actions}
        window.ask("/api/v1/rules", {"rules": [spare], "reason": "by hand alone"})

        given = window.ask("/api/v1/messages/dispatch", {"ids": [1], "rule": "spare", "reason": "it was missed"})
        until(lambda: window.ask("/api/v1/status")[1]["dispatches"] == {"done": 1}, 20, "the rule's action is done")
        launched(store, 1, *ON_ITS_WAY, LaunchState.FAILED, outputs=["test:made"])
        store.close()
        retried = window.ask(
            "/api/v1/launches/commands", {"ids": [1], "command": "retry", "reason": "the site is back"}
        )
        again = window.ask("/api/v1/dispatches/redispatch", {"ids": [1], "reason": "the software was mended"})

        assert (given[0], given[1]["changed"]) == (200, [1])
        assert (retried[0], retried[1]["changed"]) == (200, [1])
        asked = home.read("launches", "show", "1")["commands"]
        assert [(each["command"], each["who"], each["why"]) for each in asked] == [
            ("retry", "rest:shift", "the site is back")
        ]
        assert (again[0], again[1]["changed"]) == (200, [1])
        assert again[1]["left_behind"][0]["datasets"] == [{"did": "test:made", "state": None}]
    finally:
        home.close()
