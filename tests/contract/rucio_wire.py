"""A wire between the door and a Rucio server, on which things go wrong when a test says so."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

#: lose: it is done, and nobody answers; cut: half of the answer comes; drop: nobody hears; an int: this status.
Fault = Literal["lose", "cut", "drop"] | int


@dataclass
class Wire:
    """Carries requests to the server, counts them, and spoils those that are planned to be spoilt."""

    port: int
    #: Where the door is to connect to.
    url: str = ""
    #: Method and path of each request, in order; a token's too.
    seen: list[tuple[str, str]] = field(default_factory=list)
    #: For the next requests whose path has this in it, what goes wrong with each.
    plans: list[tuple[str, Fault]] = field(default_factory=list)
    #: Called once before the next request with this method and path goes on.
    hooks: list[tuple[str, str, Callable[[], object]]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def plan(self, path: str, *faults: Fault) -> None:
        self.plans += [(path, fault) for fault in faults]

    def before(self, method: str, path: str, act: Callable[[], object]) -> None:
        self.hooks.append((method, path, act))

    def count(self, method: str, path: str) -> int:
        """Requests with this method that had this in their path."""
        return sum(method == each and path in asked for each, asked in self.seen)

    def meet(self, method: str, path: str) -> Fault | None:
        """Note a request. What goes wrong with it."""
        with self.lock:
            self.seen.append((method, path))
            hook = next((each for each in self.hooks if each[0] == method and each[1] in path), None)
            if hook is not None:
                self.hooks.remove(hook)
            plan = next((each for each in self.plans if each[0] in path), None)
            if plan is not None:
                self.plans.remove(plan)
        if hook is not None:
            hook[2]()
        return None if plan is None else plan[1]


class _Handler(BaseHTTPRequestHandler):
    wire: Wire

    def _carry(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.wire.meet(self.command, self.path)
        self.close_connection = True
        if fault == "drop":
            return
        if isinstance(fault, int):
            self.send_response(fault)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        there = http.client.HTTPConnection("127.0.0.1", self.wire.port, timeout=60)
        there.request(self.command, self.path, body, dict(self.headers))
        answer = there.getresponse()
        said = answer.read()
        there.close()
        if fault != "lose":
            self._answer(answer, said, cut=fault == "cut")

    do_GET = do_POST = do_PUT = do_DELETE = _carry

    def _answer(self, answer: http.client.HTTPResponse, said: bytes, cut: bool) -> None:
        self.send_response(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "content-length", "connection", "server", "date"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(said)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(said[: len(said) // 2] if cut else said)

    def log_message(self, *_: Any) -> None:
        """Nobody reads it."""


@contextmanager
def wire_to(port: int) -> Iterator[Wire]:
    """A wire to the server on this port of this machine, until the end of the block."""
    wire = Wire(port)
    handler = type("Handler", (_Handler,), {"wire": wire})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    wire.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield wire
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
