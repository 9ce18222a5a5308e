"""What the benchmarks share: how large they are, a directory, the services, and a process for each measurement."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import cached_property, partial
from itertools import count
from pathlib import Path
from typing import ParamSpec, TypeVar

from pydantic import SecretStr

from orchestrator import logs
from orchestrator.broker.stomp import StompSettings
from orchestrator.settings import BrokerSettings, Settings, StoreSettings
from orchestrator.store import schema
from orchestrator.store.engine import Database
from tests.bench.figures import Skipped
from tests.services.activemq import ActiveMQ
from tests.services.postgres import Postgres

P = ParamSpec("P")
T = TypeVar("T")


class Bench:
    """One run of benchmarks. The services are started when the first benchmark asks for them."""

    def __init__(self, directory: Path, *, quick: bool, closing: ExitStack) -> None:
        """`closing` stops the services in the end."""
        self.directory = directory
        self.quick = quick
        self._closing = closing
        self._numbers = count(1)

    @cached_property
    def activemq(self) -> ActiveMQ:
        """Raises Skipped."""
        _demand(ActiveMQ.missing())
        broker = ActiveMQ(self.new_directory())
        self._closing.callback(broker.stop)
        broker.start()
        return broker

    @cached_property
    def postgres(self) -> Postgres:
        """Raises Skipped."""
        _demand(Postgres.missing())
        server = Postgres()
        self._closing.callback(server.remove)
        server.start()
        return server

    def new_directory(self) -> Path:
        path = self.directory / str(next(self._numbers))
        path.mkdir()
        return path

    def new_sqlite(self) -> str:
        """The URL of a database that is not there yet."""
        return f"sqlite:///{self.new_directory() / 'muleteer.db'}"

    def new_postgresql(self) -> str:
        """The URL of a new database with our tables. Raises Skipped."""
        database = Database(self.postgres.create_database(f"bench_{next(self._numbers)}"))
        schema.upgrade(database)
        database.close()
        return database.url.render_as_string(hide_password=False)

    def new_queue(self) -> StompSettings:
        """A queue nobody used before. Raises Skipped."""
        return StompSettings(
            addresses=(("127.0.0.1", self.activemq.port),),
            destination=f"/queue/bench.{next(self._numbers)}",
            user=ActiveMQ.user,
            passcode=ActiveMQ.passcode,
        )


def settings_for(store_url: str, queue: StompSettings | None = None) -> Settings:
    """muleteer's settings with this store and this queue (None: the broker in the box), all else as it comes."""
    broker = BrokerSettings()
    if queue is not None:
        broker = BrokerSettings(
            kind="stomp",
            addresses=tuple(f"{host}:{port}" for host, port in queue.addresses),
            destination=queue.destination,
            user=queue.user,
            passcode=SecretStr(queue.passcode or ""),
        )
    return Settings(store=StoreSettings(url=SecretStr(store_url)), broker=broker)


def apart(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call it in a process of its own, so that no measurement inherits threads, caches or memory of another."""
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, initializer=partial(logs.configure, level="error")) as pool:
        return pool.submit(function, *args, **kwargs).result()


def _demand(missing: str | None) -> None:
    if missing is not None:
        raise Skipped(missing)
