"""The server's processes, and its daemons."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Self

from rucio.client import Client

from tests.services.child import Child
from tests.services.ports import free_port

from . import files, installation
from .bootstrap import PASSWORD
from .catalog import Catalog, Login

_LEAVING = """\
from rucio.daemons.judge import cleaner
from rucio.daemons.reaper import reaper
from rucio.daemons.undertaker import undertaker
for daemon in (undertaker, cleaner, reaper):
    daemon.run(once=True)
"""


class Rucio:
    """One server on loopback over a database that `bootstrap` made, or over a copy of one.

    What it knows is in the database: it survives `stop()` and `kill()`, and `start()` brings it back on its port.
    """

    account = "root"
    password = PASSWORD

    def __init__(self, directory: Path, database: str, *, port: int | None = None) -> None:
        """Keep files in `directory`; `database` is the URL for SQLAlchemy."""
        self.directory = directory.resolve()
        self.log = self.directory / "server.log"
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._database = database
        self._cache_port = free_port() if shutil.which("memcached") else None
        self._cache: Child | None = None
        self._server: Child | None = None
        self._daemons = count(1)

    @staticmethod
    def missing() -> str | None:
        """Why no server can run on this machine, or None. Installs Rucio if it is not there yet."""
        try:
            installation.make()
        except installation.CannotInstall as refusal:
            return str(refusal)
        return Child.missing()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The process id of the server's master. Raises RuntimeError before the first `start()`."""
        return self._started.pid

    def start(self, patience: float = 60) -> None:
        """Start the server and wait until it answers.

        Raises RuntimeError with the end of its log if it does not within `patience` seconds.
        """
        if self._server is not None and self._server.running:
            raise RuntimeError(f"the server already runs as process {self._server.pid}: stop() it first")
        self.directory.mkdir(exist_ok=True)
        configuration = self._furnish("server")
        self._start_cache()
        self._server = Child(self._command(configuration), log=self.log, goodbye=signal.SIGTERM)
        deadline = time.monotonic() + patience
        while not self._answers():
            if time.monotonic() > deadline or not self._server.running:
                self._server.kill()
                raise RuntimeError(f"Rucio did not come up; {self.log} ends with:\n{_tail(self.log)}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Shut the server down in order: nobody listens on its port."""
        if self._server is not None:
            self._server.stop()

    def kill(self) -> None:
        """End the server with SIGKILL: clients see their connections close at once."""
        self._started.kill()

    def suspend(self) -> None:
        """Freeze the server: connections stay open, and there are no answers."""
        self._started.suspend()

    def resume(self) -> None:
        """Let a suspended server go on."""
        self._started.resume()

    def close(self) -> None:
        """Stop the server and its cache."""
        self.stop()
        if self._cache is not None:
            self._cache.kill()  # asked to end, it takes two seconds

    @cached_property
    def catalog(self) -> Catalog:
        """Makes scopes, accounts and RSEs."""
        return Catalog(self.client(), self.directory / "storage")

    def client(self, login: Login | None = None, timeout: float = 30) -> Client:
        """A client of rucio-clients in this process, logged in: as root unless told otherwise."""
        login = login or self._root
        return Client(
            rucio_host=self.url,
            auth_host=self.url,
            account=login.account,
            auth_type="userpass",
            creds={"username": login.account, "password": login.password},
            timeout=timeout,
        )

    def client_config(self, login: Login | None = None) -> Path:
        """A file `rucio.cfg` for clients of an account: root unless told otherwise."""
        login = login or self._root
        file = self.directory / f"client-{login.account}.cfg"
        file.write_text(
            files.CLIENT.format(
                url=self.url,
                account=login.account,
                password=login.password,
                token=self.directory / f"tokens-{login.account}" / "token",
            )
        )
        return file

    def environment(self, login: Login | None = None) -> dict[str, str]:
        """The variables with which a program that uses rucio-clients finds the server and logs in."""
        return {"RUCIO_CONFIG": str(self.client_config(login))}

    @contextmanager
    def hermes(self, port: int, destination: str, *, user: str, passcode: str, sleep_time: int = 1) -> Iterator[Child]:
        """The daemon that sends Rucio's messages to a STOMP broker on this machine, until the end of the block.

        The child may be killed, as by a power cut. Messages that were made before it came are sent, too.
        """
        broker = files.BROKER.format(port=port, destination=destination, user=user, passcode=passcode)
        configuration = self._furnish(f"hermes-{next(self._daemons)}", broker=broker)
        options = ("--sleep-time", str(sleep_time))
        command = installation.command("rucio-hermes", *options, configuration=configuration)
        daemon = Child(command, log=configuration.with_name("daemon.log"), goodbye=signal.SIGTERM)
        try:
            yield daemon
        finally:
            daemon.stop()

    def run_daemon(self, name: str, *arguments: str, patience: float = 60) -> str:
        """Let a daemon do one round (`undertaker`, `judge-cleaner`, `reaper`, ...); returns what it logged.

        Raises RuntimeError with its log if it fails, and subprocess.TimeoutExpired after `patience` seconds.
        """
        configuration = self._furnish(f"{name}-{next(self._daemons)}")
        command = installation.command(f"rucio-{name}", "--run-once", *arguments, configuration=configuration)
        return self._run(f"rucio-{name}", command, patience)

    def _run(self, name: str, command: Sequence[str | Path], patience: float) -> str:
        done = subprocess.run(
            command,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=patience,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{name} ended with exit code {done.returncode}:\n{done.stdout[-3000:]}")
        return done.stdout

    def let_leave(self) -> None:
        """One round of the daemons that erase DIDs, end rules and delete copies that are marked for it.

        In one process, which takes a third of the time; without the cache, in which the reaper would note that it need
        not look at an RSE for two minutes. Raises RuntimeError, subprocess.TimeoutExpired.
        """
        folder = self.directory / f"leaving-{next(self._daemons)}"
        configuration = files.server_files(folder, self._database, self.password, cache_port=None)
        self._run("daemons", installation.command("python", "-c", _LEAVING, configuration=configuration), patience=60)

    @property
    def _root(self) -> Login:
        return Login(self.account, self.password)

    @property
    def _started(self) -> Child:
        if self._server is None:
            raise RuntimeError("the server was never started: call start() first")
        return self._server

    def _furnish(self, folder: str, broker: str = "") -> Path:
        """Write what a process of Rucio reads at its start; returns its `rucio.cfg`."""
        return files.server_files(
            self.directory / folder, self._database, self.password, self._cache_port, broker=broker
        )

    def _command(self, configuration: Path) -> list[str | Path]:
        return installation.command(
            *("gunicorn", "--bind", f"127.0.0.1:{self.port}", "--no-control-socket"),
            # A second worker would cost 140 MB; threads wait for the database side by side just as well.
            *("--workers", "1", "--worker-class", "gthread", "--threads", "8"),
            *("--graceful-timeout", "2", "--timeout", "0", "--log-level", "warning"),
            "rucio.web.rest.main:application",
            configuration=configuration,
        )

    def _start_cache(self) -> None:
        if self._cache_port is None or (self._cache is not None and self._cache.running):
            return
        command = ["memcached", "--listen=127.0.0.1", f"--port={self._cache_port}", "--memory-limit=32", "--threads=1"]
        # Root has to say so. Whoever changes to another user is no longer told when the tests die.
        command += ["--user=root"]
        self._cache = Child(command, log=self.directory / "cache.log", goodbye=signal.SIGTERM)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/ping", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def _tail(log: Path, lines: int = 30) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
