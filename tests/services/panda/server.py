"""The stand-in as a test holds it: start and stop, control, counts, and its memory in a directory."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..ports import free_port
from . import file_routes, legacy_routes, memory, rows, task_routes
from .faults import Fault, Faults
from .handler import Handler, Reply, text
from .model import FINAL, Request, Task
from .state import State
from .tokens import DAY, make_token

__all__ = ["PandaServer", "file_routes", "legacy_routes", "task_routes"]

#: What may be called over `/_control`.
CONTROL = ("advance", "fault", "clear_faults", "configure", "settle", "refine", "live", "snapshot")


class _Http(ThreadingHTTPServer):
    """Ends its open connections when it closes, so that a stopped server is away for everyone."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 512
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], handler: type[Handler]) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller who goes away in the middle is nothing to tell."""

    def server_close(self) -> None:
        super().server_close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class PandaServer:
    """One stand-in on loopback; a context manager. `stop()` and `start()` keep port and memory.

    vos: the VOs it knows. directory: where `state.json` and the cache are kept too, and read from at the start.
    """

    def __init__(
        self,
        *,
        port: int | None = None,
        vos: Sequence[str] = ("sphenix",),
        directory: Path | None = None,
        first_task_id: int = 30_000_001,
    ) -> None:
        self.port = port or free_port()
        self.vos = tuple(vos)
        self.state = State(first_task_id)
        self.stopping = threading.Event()
        #: Calls that came in and calls that took effect, by name: `task/submit`, `put_workflow_request`, `cache`.
        self.calls: Counter[str] = Counter()
        self.handled: Counter[str] = Counter()
        self._faults = Faults()
        self._counting = threading.Lock()
        self._directory = directory
        self._http: _Http | None = None
        if directory is not None:
            counts = memory.load(directory, self.state)
            self.calls.update(counts.get("calls", {}))
            self.handled.update(counts.get("handled", {}))

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Listen."""
        self.stopping.clear()
        handler = type("BoundHandler", (Handler,), {"stand_in": self})
        self._http = _Http(("127.0.0.1", self.port), handler)
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def stop(self) -> None:
        """Stop listening and end all connections. What is remembered stays."""
        self.stopping.set()
        if self._http is not None:
            self._http.shutdown()
            self._http.server_close()
            self._http = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def environment(self, token: str | None = None, *, production: bool = False, vo: str = "sphenix") -> dict[str, str]:
        """The variables with which panda-client reaches this server and nothing else."""
        return {
            "PANDA_URL": f"{self.url}/server/panda",
            "PANDA_URL_SSL": f"{self.url}/server/panda",
            "PANDACACHE_URL": f"{self.url}/server/panda",
            "PANDA_BEHIND_REAL_LB": "1",
            "PANDA_AUTH": "oidc",
            "PANDA_AUTH_VO": f"{vo}.production" if production else vo,
            "PANDA_AUTH_ID_TOKEN": token or make_token(expires=DAY),
            "PANDA_VERIFY_HOST": "off",
        }

    # --- what a test looks at

    def task(self, task: int | str) -> Task:
        """The task with this id or name."""
        with self.state.lock:
            self.state.tick()
            return self.state.find(task)

    def tasks(self, name: str | None = None) -> list[Task]:
        """All tasks, or all of this name, the oldest first."""
        with self.state.lock:
            self.state.tick()
            return list(self.state.tasks.values()) if name is None else self.state.named(name)

    def workflows(self, out_ds: str | None = None) -> list[Request]:
        """All workflows that iDDS has, or all of this outDS, the oldest first."""
        with self.state.lock:
            self.state.tick()
            return list(self.state.requests.values()) if out_ds is None else self.state.workflows(out_ds)

    def snapshot(self) -> dict[str, Any]:
        """Everything as one JSON value: counts, tasks by id, workflows by request id."""
        with self.state.lock:
            self.state.tick()
            return {
                "calls": dict(self.calls),
                "handled": dict(self.handled),
                "tasks": {str(number): asdict(task) for number, task in self.state.tasks.items()},
                "workflows": {str(number): asdict(request) for number, request in self.state.requests.items()},
                "native_workflows": self.state.native_workflows,
                "files": {name: file.size for name, file in self.state.cache.items()},
            }

    # --- what a test does

    def advance(
        self,
        task: int | str,
        status: str | None = None,
        *,
        files: int | None = None,
        finished: int | None = None,
        failed: int | None = None,
        missing: int | None = None,
        error: str | None = None,
        jobs: Sequence[dict[str, Any]] | None = None,
        **fields: Any,
    ) -> int:
        """Move a task. `fields` are columns of its details; returns its id.

        `jobs` are added to its jobs (see rows.JOB for what they have); without, `failed=N` with an `error` adds N
        failed jobs of which the pilot says that error. `done` has all its files finished unless told otherwise.
        """
        with self.state.lock:
            found = self.state.find(task)
            given = {"files": files, "finished": finished, "failed": failed, "missing": missing, "error": error}
            for name, value in given.items():
                if value is not None:
                    setattr(found, name, value)
            found.fields.update(fields)
            if jobs is None and failed and error:
                jobs = [{"jobStatus": "failed", "pilotErrorCode": 1305, "pilotErrorDiag": error}] * failed
            found.jobs += [rows.job(found, next(self.state.job_ids), job) for job in jobs or ()]
            if status is not None:
                self._move(found, status)
            self.state.touch(found)
            number = found.id
        self.save()
        return number

    def _move(self, task: Task, status: str) -> None:
        if status in ("running", *FINAL) and not task.files:
            task.files = max(task.expected_files, task.finished + task.failed)
        if status == "done" and not task.finished:
            task.finished = task.files - task.failed
        task.move(status)

    def fault(
        self,
        path: str,
        kind: str,
        *,
        nth: int = 1,
        times: int | None = 1,
        seconds: float = 0.0,
        handled: bool | None = None,
    ) -> None:
        """Make a fault, see faults.Fault and faults.KINDS. `slow` lasts until `clear_faults()`."""
        self._faults.add(Fault(path, kind, nth, None if kind == "slow" else times, seconds, handled))

    def clear_faults(self) -> None:
        """No faults any more. Calls that hang already hang on."""
        self._faults.clear()

    def configure(self, **settings: float | bool | None) -> None:
        """Change settings of state.State: refine_after, hold_workflows, command_seconds."""
        with self.state.lock:
            for name, value in settings.items():
                if name not in ("refine_after", "hold_workflows", "command_seconds"):
                    raise ValueError(f"no such setting: {name}")
                setattr(self.state, name, value)
            self.state.tick()

    def live(self, step_seconds: float | None = 1.0) -> None:
        """Let tasks move by themselves: registered, defined, ready, running, done; None stops them."""
        with self.state.lock:
            self.state.live(step_seconds)

    def settle(self) -> None:
        """JEDI refines all tasks and carries out all commands, now."""
        with self.state.lock:
            self.state.settle()

    def refine(self, task: int | str) -> None:
        """JEDI learns of one task."""
        with self.state.lock:
            self.state.refine(task)

    # --- for the handler

    def count(self, name: str) -> list[Fault]:
        """Count a call and tell the faults that hit it."""
        with self._counting:
            self.calls[name] += 1
            return self._faults.take(name)

    def count_handled(self, name: str) -> None:
        """Count a call that takes effect."""
        with self._counting:
            self.handled[name] += 1

    def controlled(self, method: str, body: bytes) -> Reply:
        """`GET /_control` is the snapshot; `POST` `{"do": name, ...arguments}` calls one of CONTROL."""
        if method == "GET":
            return 200, json.dumps(self.snapshot()).encode(), "application/json"
        order = json.loads(body)
        name = order.pop("do", None)
        if name not in CONTROL:
            return text(400, f"no such control: {name!r}; there are {', '.join(CONTROL)}")
        try:
            result = getattr(self, name)(**order)
        except (KeyError, TypeError, ValueError) as error:
            return text(400, str(error))
        return 200, json.dumps(result).encode(), "application/json"

    def save(self) -> None:
        """Write down everything, if there is a directory."""
        if self._directory is not None:
            with self.state.lock:
                memory.save(self._directory, self.state, self.snapshot())
