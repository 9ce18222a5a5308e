"""A private PostgreSQL cluster: the database muleteer keeps its promises in when SQLite is not enough."""

import atexit
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from functools import cached_property
from pathlib import Path

import psycopg
from psycopg import sql

from .child import Child
from .memory import in_memory
from .ports import free_port


class Postgres:
    """One cluster on loopback. What was committed survives `stop()` and `kill()`.

    A new `start()` brings it back on the same port.
    """

    user = "muleteer"
    password = "saddlebag"

    def __init__(self, directory: Path | None = None, *, fsync: bool = True) -> None:
        """Keep the cluster in `directory`, or in one of its own that goes away when the interpreter ends.

        Without `fsync` a power cut may destroy it. It may then be in memory, if there is room, which is quicker.
        As root the cluster runs as the account `postgres` (PostgreSQL refuses root). Every parent of
        `directory` must then be open to that account, which pytest's `tmp_path` is not.
        """
        if directory is None:
            directory = Path(tempfile.mkdtemp(prefix="muleteer-postgres-", dir=None if fsync else in_memory()))
            atexit.register(self.remove)
        self.directory = directory.resolve()
        self.log = self.directory / "postgres.log"
        self.port = free_port()
        self._data = self.directory / "data"
        self._fsync = fsync
        self._account = "postgres" if os.geteuid() == 0 else None
        self._child: Child | None = None

    @staticmethod
    def missing() -> str | None:
        """Why no cluster can run on this machine, or None."""
        for program in ("initdb", "postgres"):
            if _find(program) is None:
                return f"{program} is neither on PATH nor in /usr/lib/postgresql: apt-get install postgresql"
        return Child.missing()

    @property
    def pid(self) -> int:
        """The postmaster's process id. Raises RuntimeError before the first `start()`."""
        return self._started.pid

    def url(self, database: str) -> str:
        """Where `database` is, for SQLAlchemy."""
        return f"postgresql+psycopg://{self.user}:{self.password}@127.0.0.1:{self.port}/{database}"

    def start(self, patience: float = 60) -> None:
        """Start the cluster, made new if there is none yet, and wait until it accepts queries.

        Raises RuntimeError with the end of the server's log if it does not within `patience` seconds.
        """
        if self._child is not None and self._child.running:
            raise RuntimeError(f"the cluster already runs as process {self._child.pid}: stop() it first")
        if not self._data.exists():
            self._make_cluster()
        self._child = Child(self._command(), log=self.log, goodbye=signal.SIGINT, user=self._account)
        deadline = time.monotonic() + patience
        while not self._answers():
            if time.monotonic() > deadline or not self._child.running:
                self._child.kill()
                raise RuntimeError(f"PostgreSQL did not come up; {self.log} ends with:\n{self._log_tail()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Shut the cluster down in order, without waiting for clients to leave."""
        if self._child is not None:
            self._child.stop()

    def kill(self) -> None:
        """End every process of the cluster with SIGKILL; `start()` then recovers from the write-ahead log."""
        self._started.kill()

    def suspend(self) -> None:
        """Freeze the whole cluster: connections stay open, queries get no answer."""
        self._started.suspend()

    def resume(self) -> None:
        """Let a suspended cluster go on."""
        self._started.resume()

    def remove(self) -> None:
        """Stop the cluster and delete its directory."""
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def create_database(self, name: str, template: str | None = None) -> str:
        """Make an empty database, or a copy of one that nobody is connected to; returns its URL."""
        statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} {}")
        self._administer(statement.format(sql.Identifier(name), sql.Identifier(template or "template1"), self._copying))
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Delete a database if it is there, and cut whoever is still connected to it."""
        self._administer(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    @cached_property
    def _copying(self) -> sql.SQL:
        """How a database is copied: file by file, where that need not wait for the disk, which takes half as long."""
        if self._fsync:
            return sql.SQL("")
        with self._connect() as connection:  # before version 15 there is no other way, and no word for it
            return sql.SQL("STRATEGY file_copy" if connection.info.server_version >= 150_000 else "")

    @property
    def _started(self) -> Child:
        if self._child is None:
            raise RuntimeError("the cluster was never started: call start() first")
        return self._child

    def _make_cluster(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        secret = self.directory / "password"
        secret.write_text(self.password)
        if self._account is not None:
            shutil.chown(self.directory, self._account)
            shutil.chown(secret, self._account)
        command: list[str | Path] = [
            *(_program("initdb"), "--pgdata", self._data, "--username", self.user, "--pwfile", secret),
            *("--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync"),
        ]
        made = subprocess.run(command, cwd="/", user=self._account, capture_output=True, text=True)
        if made.returncode != 0:
            raise RuntimeError(f"initdb could not make a cluster in {self._data}:\n{made.stderr}")

    def _command(self) -> list[str | Path]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": "on" if self._fsync else "off",
            "shared_buffers": "32MB",
        }
        if not self._fsync:
            settings["max_wal_size"] = "256MB"  # it may be in memory
        options = (word for name, value in settings.items() for word in ("-c", f"{name}={value}"))
        return [_program("postgres"), "-D", self._data, *options]

    def _answers(self) -> bool:
        try:
            self._administer(sql.SQL("SELECT 1"))
        except psycopg.OperationalError:
            return False
        return True

    def _administer(self, statement: sql.SQL | sql.Composed) -> None:
        with self._connect() as connection:
            connection.execute(statement)

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=self.user,
            password=self.password,
            dbname="postgres",
            connect_timeout=5,
            autocommit=True,
        )

    def _log_tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def _program(name: str) -> Path:
    found = _find(name)
    if found is None:
        raise RuntimeError(f"cannot run PostgreSQL here: {Postgres.missing()}")
    return found


def _find(name: str) -> Path | None:
    """One of PostgreSQL's programs: from PATH, else of the newest version Debian has installed."""
    if on_path := shutil.which(name):
        return Path(on_path)
    installed = Path("/usr/lib/postgresql").glob(f"*/bin/{name}")
    return max(installed, key=_version, default=None)


def _version(program: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", program.parent.parent.name))
