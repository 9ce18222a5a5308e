"""HTTP of the stand-in: what a request means, which function it reaches, and how its answer is spoiled by faults."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import threading
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from .calls import LEGACY, V1, Call, Upload, perform
from .faults import DELAYS, Fault
from .tokens import RefusedToken, identify

if TYPE_CHECKING:
    from .server import PandaServer

JSON = "application/json"
PAGE = "<html><head><title>Sign in</title></head><body><h1>Please sign in</h1></body></html>"

#: Status, body and type of its content.
Reply = tuple[int, bytes, str]


def text(status: int, words: str) -> Reply:
    return status, words.encode(), "text/plain"


class Handler(BaseHTTPRequestHandler):
    """One connection, kept alive."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # an answer goes out in one piece
    stand_in: PandaServer

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: Any) -> None:
        """The tests read `calls`, not a log."""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path).path
        if path == "/_control":
            self._send(self.stand_in.controlled(self.command, body))
            return
        name = _name(path)
        faults = self.stand_in.count(name)
        if any(fault.kind == "late" for fault in faults):
            wait = max(fault.seconds for fault in faults)
            threading.Thread(target=self._handle_late, args=(name, body, wait), daemon=True).start()
            self._drop()
            return
        self._wait(faults, ("hang", "slow"))
        if self.stand_in.stopping.is_set():
            self._drop()
            return
        spoiling = next((fault for fault in reversed(faults) if fault.kind not in DELAYS), None)
        reply = None if spoiling is not None and not spoiling.handled else self._handled(name, body)
        self._wait(faults, ("hang_after",))
        if spoiling is not None and spoiling.kind in ("drop", "lost"):
            self._drop()
            return
        self._send(_spoiled(spoiling, reply))

    def _handle_late(self, name: str, body: bytes, seconds: float) -> None:
        if not self.stand_in.stopping.wait(seconds):
            self._handled(name, body)

    def _wait(self, faults: list[Fault], kinds: tuple[str, ...]) -> None:
        seconds = sum(fault.seconds for fault in faults if fault.kind in kinds)
        if seconds:
            self.stand_in.stopping.wait(seconds)

    def _drop(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _send(self, reply: Reply) -> None:
        status, body, kind = reply
        with contextlib.suppress(ConnectionError):
            self.send_response(status, "INTERNAL SERVER ERROR" if status == 500 else HTTPStatus(status).phrase)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()

    def _handled(self, name: str, body: bytes) -> Reply:
        """Let the call take effect, whatever becomes of its answer."""
        self.stand_in.count_handled(name)
        try:
            return self._reply(name, body)
        except Exception as error:  # the real server too turns whatever happens into a 500 with its text
            return text(500, str(error))
        finally:
            self.stand_in.save()

    def _reply(self, name: str, body: bytes) -> Reply:
        if name == "cache":
            return self._file(urlsplit(self.path).path.removeprefix("/cache/"))
        if name not in V1 and name not in LEGACY:
            return text(403, f"ERROR : method {_forbidden(self.path)} is forbidden")
        try:
            caller = identify(self.headers.get("Authorization"), self.headers.get("Origin"), self.stand_in.vos)
        except RefusedToken as error:
            return text(403, f"ERROR : Token authentication failed. {error}")
        call = Call(self.stand_in.state, caller, self.command, self._environ(), self.stand_in.url)
        try:
            arguments = self._arguments(body, is_legacy=name in LEGACY)
        except json.JSONDecodeError as error:
            return text(500, f"ERROR : received invalid JSON : {error}")
        if name in LEGACY:
            return text(200, LEGACY[name](call, **arguments))
        with self.stand_in.state.lock:
            self.stand_in.state.tick()
            envelope = perform(V1[name], call, arguments)
            self.stand_in.state.tick()
            spoken = json.dumps(envelope) if self._speaks_json() else str(envelope)
        return text(200, spoken)

    def _speaks_json(self) -> bool:
        return JSON in (self.headers.get("Content-Type"), self.headers.get("Accept"))

    def _environ(self) -> dict[str, str]:
        told = {f"HTTP_{key.upper().replace('-', '_')}": value for key, value in self.headers.items()}
        told.pop("HTTP_AUTHORIZATION", None)
        return told | {"REQUEST_METHOD": self.command, "QUERY_STRING": urlsplit(self.path).query}

    def _file(self, name: str) -> Reply:
        file = self.stand_in.state.cache.get(name)
        return text(404, "not found") if file is None else (200, file.content, "application/gzip")

    def _arguments(self, body: bytes, is_legacy: bool) -> dict[str, Any]:
        kind = self.headers.get("Content-Type")
        if kind == JSON and is_legacy:  # always taken for gzip, whatever the header says
            values: dict[str, Any] = json.loads(gzip.decompress(body))
            return {key: str(value) if isinstance(value, bool) else value for key, value in values.items()}
        if kind == JSON and self.command == "POST":
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            sent: dict[str, Any] = json.loads(body)
            return sent
        if self.command == "GET":
            return _flat(parse_qs(urlsplit(self.path).query, keep_blank_values=True))
        return _form(kind, body)


def _form(kind: str | None, body: bytes) -> dict[str, Any]:
    """The fields of a form. Without a Content-Type there are none, as with the real server."""
    if kind == "application/x-www-form-urlencoded":
        return _flat(parse_qs(body.decode(), keep_blank_values=True))
    if not kind or not kind.startswith("multipart/form-data"):
        return {}
    message = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + body)
    return {str(part.get_param("name", header="content-disposition")): _field(part) for part in message.iter_parts()}


def _field(part: Message) -> Any:
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    name = part.get_filename()
    return content.decode() if name is None else Upload(name, content)


def _flat(values: dict[str, list[str]]) -> dict[str, Any]:
    return {key: items[0] if len(items) == 1 else items for key, items in values.items()}


def _name(path: str) -> str:
    """How a path is counted: `task/submit`, `put_workflow_request`, `cache`, or the path itself."""
    parts = path.split("/")
    if parts[1:3] in (["api", "v1"], ["api", "latest"]) and len(parts) == 5:
        return f"{parts[3]}/{parts[4]}"
    if parts[1:3] == ["server", "panda"] and len(parts) == 4:
        return parts[3]
    return "cache" if parts[1] == "cache" else path


def _forbidden(path: str) -> str:
    """The method that a refusal names; nothing for a path that names none."""
    name = _name(urlsplit(path).path)
    return "" if name.startswith("/") else name.rpartition("/")[2]


def _spoiled(fault: Fault | None, reply: Reply | None) -> Reply:
    """The answer after a fault."""
    if fault is None or fault.kind in DELAYS:
        assert reply is not None
        return reply
    if fault.kind == "html":
        return 200, PAGE.encode(), "text/html"
    if fault.kind == "empty":
        return 200, b"", "text/plain"
    if fault.kind == "cut":
        assert reply is not None
        return reply[0], reply[1][: len(reply[1]) // 2], reply[2]
    return text(int(fault.kind), HTTPStatus(int(fault.kind)).phrase)
