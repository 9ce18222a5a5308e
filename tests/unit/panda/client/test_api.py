"""What the API makes of answers that a healthy server seldom gives. They come over HTTP from a scripted server."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from structlog.testing import capture_logs

from orchestrator.panda.client.api import PandaApi
from orchestrator.panda.client.token import Token
from orchestrator.panda.port import EngineInDoubt, EngineRefused, EngineUnavailable, UnknownSubmission
from schemas.site import Site
from tests.services.panda import make_token

TOKEN = make_token()
START = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Scripted:
    """Answers every request with what `answer` makes of its path, its query and its body."""

    def __init__(self) -> None:
        self.answer: Callable[[dict[str, str], Any], object] = lambda query, body: None
        self.seen: list[tuple[str, dict[str, str], Any]] = []
        self.headers: list[dict[str, str]] = []
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                query = {name: values[0] for name, values in parse_qs(parts.query).items()}
                raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                body = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw) if raw else None
                script.seen.append((parts.path, query, body))
                script.headers.append(dict(self.headers))
                content = json.dumps(script.answer(query, body)).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_GET

            def log_message(self, format: str, *words: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/some/path"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Scripted]:
    server = Scripted()
    yield server
    server.stop()


@pytest.fixture
def api(server: Scripted) -> Iterator[PandaApi]:
    given = {"name": "s", "url": server.url, "url_ssl": server.url, "vo": "sphenix", "prefix": "user.shrek"}
    api = PandaApi(
        Site.model_validate({**given, "production_role": True}),
        Token(None, {"PANDA_AUTH_ID_TOKEN": TOKEN}),
        pause=lambda seconds: None,
    )
    yield api
    api.close()


def _yes(data: object, message: str = "") -> dict[str, object]:
    return {"success": True, "message": message, "data": data}


def _no(message: str, data: object = None) -> dict[str, object]:
    return {"success": False, "message": message, "data": data}


def _row(number: int, name: str = "") -> dict[str, object]:
    modified = (START + timedelta(seconds=number % 3)).replace(tzinfo=None).isoformat()
    return {
        "jediTaskID": number,
        "taskName": name or f"user.shrek.{number}",
        "status": "running",
        "modificationTime": {"__datetime__": modified},
    }


def test_we_say_who_we_are_with_every_call(server: Scripted, api: PandaApi) -> None:
    server.answer = lambda query, body: _yes(None)

    api.alive()

    assert server.seen[0][0] == "/api/v1/system/is_alive"
    assert server.headers[0]["Authorization"] == f"Bearer {TOKEN}"
    assert server.headers[0]["Origin"] == "sphenix.production"


def test_every_task_is_found_though_the_server_cuts_off_anywhere(server: Scripted, api: PandaApi) -> None:
    """It gives any so many, in no order, and tries a pattern only on those."""
    rows = [_row(number) for number in range(1, 1301)]

    def answer(query: dict[str, str], body: object) -> object:
        cut = rows[::-1][: int(query["n_tasks"])]
        if "taskName" in json.loads(query.get("filters", "{}")):
            cut = [row for row in cut if row["taskName"] == "user.shrek.7"]
        return _yes(cut)

    server.answer = answer

    assert len(api.tasks(since=START)) == 1300
    assert [query["n_tasks"] for _, query, _ in server.seen] == ["500", "4000"]
    assert {query["since"] for _, query, _ in server.seen} == {"2026-11-22 12:00:00"}
    assert [task.id for task in api.tasks(name_regex=r"^user\.shrek\.7$")] == [7]
    assert len(server.seen) == 3, "a pattern is not asked for page by page"


def test_a_pattern_without_signs_of_one_is_still_a_pattern(server: Scripted, api: PandaApi) -> None:
    """The server takes it for a whole name otherwise."""
    server.answer = lambda query, body: _yes([_row(7, "user.shrek.tag_000_top")])

    assert len(api.tasks(name_regex="shrek.tag")) == 1
    assert json.loads(server.seen[0][1]["filters"]) == {"taskName": "(shrek.tag)"}
    assert api.tasks(name="user.shrek.tag") == ()
    assert json.loads(server.seen[1][1]["filters"]) == {"taskName": "user.shrek.tag"}


@pytest.mark.parametrize(
    "answer",
    [
        _no("Failed to retrieve task IDs"),
        {"data": []},
        [True, []],
        _yes("not a list"),
        _yes([{"jediTaskID": "x"}]),
        "text",
    ],
)
def test_no_answer_is_taken_for_no_tasks(server: Scripted, api: PandaApi, answer: object) -> None:
    """Else a task that is there would be taken for one that never was, and be sent a second time."""
    server.answer = lambda query, body: answer

    with pytest.raises(EngineUnavailable):
        api.tasks(name="user.shrek.tag")


def test_one_task_that_cannot_be_read_hides_no_other(server: Scripted, api: PandaApi) -> None:
    """Not from those who follow; who looks a name up must not take it for free."""
    server.answer = lambda query, body: _yes([_row(1), _row(2) | {"modificationTime": "yesterday"}, _row(3)])

    with capture_logs() as logs:
        told = [[task.id for task in api.tasks(since=START - timedelta(days=1))] for _ in range(2)]

    assert told == [[1, 3], [1, 3]]
    assert [(entry["event"], entry["task"]) for entry in logs] == [("task.unreadable", "2")]
    with pytest.raises(EngineUnavailable, match="cannot be read"):
        api.tasks(name="user.shrek.2")


@pytest.mark.parametrize(
    "answer",
    [
        [True, [False, "Rest exception: connection timed out"]],
        [True, {"status": 1, "error": "no database", "data": None}],
        [True, "nothing"],
        {"success": True},
        [False, "an exception occurred"],
    ],
)
def test_no_answer_of_idds_is_taken_for_no_requests(server: Scripted, api: PandaApi, answer: object) -> None:
    server.answer = lambda query, body: answer

    with pytest.raises(EngineUnavailable):
        api.requests()


def test_idds_is_asked_in_the_one_form_that_is_read(server: Scripted, api: PandaApi) -> None:
    server.answer = lambda query, body: [True, {"status": 0, "error": None, "data": []}]

    assert api.requests(3) == ()

    path, _, body = server.seen[0]
    assert path == "/server/panda/relay_idds_command"
    assert body["command_name"] == "get_requests"
    assert json.loads(body["kwargs"]) == {"with_detail": True, "request_id": 3}
    assert (body["manager"], body["json_outputs"]) == (True, True)


def test_what_idds_does_not_do_is_refused_with_its_words(server: Scripted, api: PandaApi) -> None:
    server.answer = lambda query, body: [False, "abort is not a command of iDDS ClientManager"]
    with pytest.raises(EngineRefused, match="is not a command"):
        api.abort(3)
    server.answer = lambda query, body: [True, [[-1, {"message": "No match requests", "status": -1}]]]
    with pytest.raises(UnknownSubmission, match="does not know request 3: No match requests"):
        api.abort(3)
    server.answer = lambda query, body: [True, [False, "Rest exception"]]
    with pytest.raises(EngineInDoubt, match="may have been done"):
        api.abort(3)


@pytest.mark.parametrize("code", [1, 2, 4, False])
def test_success_with_a_code_that_means_no_is_no(server: Scripted, api: PandaApi, code: object) -> None:
    server.answer = lambda query, body: _yes(code, "Command rejected: not in this state")

    with pytest.raises(EngineRefused, match="says no to retry of task 3: Command rejected"):
        api.retry(3)


@pytest.mark.parametrize("code", [0, 3, None, True])
def test_success_with_a_code_that_means_yes_is_yes(server: Scripted, api: PandaApi, code: object) -> None:
    server.answer = lambda query, body: _yes(code, "it is registered")

    assert api.retry(3, {"ramCount": "4000", "site": "BNL"}) == "it is registered"
    assert server.seen[0][2] == {"task_id": 3, "new_parameters": {"ramCount": 4000, "site": "BNL"}}


def test_an_answer_with_a_token_in_it_is_not_repeated(server: Scripted, api: PandaApi) -> None:
    server.answer = lambda query, body: f"who is {TOKEN}?"

    with pytest.raises(EngineUnavailable) as trouble:
        api.alive()
    assert TOKEN not in str(trouble.value)
