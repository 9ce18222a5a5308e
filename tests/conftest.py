"""Real services for the tests that need them, started once for each session, or for each process of a parallel one."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from orchestrator.store import schema
from orchestrator.store.engine import Database
from orchestrator.store.store import Store
from tests.services.activemq import ActiveMQ
from tests.services.memory import in_memory
from tests.services.postgres import Postgres
from tests.services.rucio import Rucio, bootstrap

_numbers = count(1)


def pytest_configure(config: pytest.Config) -> None:
    """Processes side by side would empty the one database of TEST_POSTGRES_URL for each other.

    Folders of tests are in memory if there is room: nobody pulls the plug, so no commit need wait for the disk.
    """
    if os.environ.get("TEST_POSTGRES_URL") and config.getoption("numprocesses", None):
        raise pytest.UsageError("TEST_POSTGRES_URL names one database, which one process can use at a time: add -n 0")
    if (memory := in_memory()) is not None:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(memory))


@pytest.hookimpl(optionalhook=True)  # also without pytest-xdist
def pytest_xdist_auto_num_workers() -> int:
    """Three processes for every two cores: many tests wait most of the time, for a clock or a service."""
    return max(2, len(os.sched_getaffinity(0)) * 3 // 2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is slow comes first, so that at the end no process waits for the last test of another."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish() -> None:
    """What all the tests are made of stays until the end: the garbage collector need not go through it each time."""
    gc.collect()
    gc.freeze()


def _demand(missing: str | None) -> None:
    """A missing service is a visible skip, and in CI a failure."""
    if missing is None:
        return
    if os.environ.get("REQUIRE_SERVICES"):
        pytest.fail(f"a service that must be here is not: {missing}")
    pytest.skip(missing)


@pytest.fixture(scope="session")
def activemq(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ActiveMQ]:
    """A real ActiveMQ Classic on loopback. Tests use destinations of their own."""
    _demand(ActiveMQ.missing())
    broker = ActiveMQ(tmp_path_factory.mktemp("activemq"))
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def own_activemq(tmp_path: Path) -> Iterator[ActiveMQ]:
    """A real ActiveMQ Classic for one test alone, which may stop, kill and start it."""
    _demand(ActiveMQ.missing())
    broker = ActiveMQ(tmp_path / "activemq")
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL on loopback. Tests make databases of their own."""
    _demand(Postgres.missing())
    server = Postgres(fsync=False)  # nobody kills this one, so it need not wait for the disk
    server.start()
    yield server
    server.remove()


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A real PostgreSQL for one test alone, which may stop, kill and start it."""
    _demand(Postgres.missing())
    server = Postgres()
    server.start()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def rucio_template(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a database as a Rucio server needs it. It is copied, never opened."""
    _demand(Rucio.missing())
    bootstrap(postgres.create_database("rucio_template"), tmp_path_factory.mktemp("rucio-template"))
    return "rucio_template"


@pytest.fixture(scope="session")
def rucio(postgres: Postgres, rucio_template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rucio]:
    """A real Rucio on loopback. Tests use scopes, accounts and RSEs of their own."""
    with Rucio(tmp_path_factory.mktemp("rucio"), postgres.create_database("rucio", rucio_template)) as server:
        yield server


@pytest.fixture
def own_rucio(postgres: Postgres, rucio_template: str, tmp_path: Path) -> Iterator[Rucio]:
    """A real Rucio for one test alone, which may stop, kill and start it."""
    name = f"rucio_{next(_numbers)}"
    with Rucio(tmp_path / "rucio", postgres.create_database(name, rucio_template)) as server:
        yield server
    postgres.drop_database(name)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with the schema that the program needs. It is copied, never opened."""
    file = tmp_path_factory.mktemp("template") / "muleteer.db"
    _upgrade(f"sqlite:///{file}")
    return file


@pytest.fixture(scope="session")
def postgres_template(postgres: Postgres) -> str:
    """The name of a database with the schema that the program needs. It is copied, never opened."""
    _upgrade(postgres.create_database("template"))
    return "template"


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database, once of each kind. For a test that has `store` too, the schema is in it."""
    ready = "store" in request.fixturenames
    if request.param == "sqlite":
        file = tmp_path / "muleteer.db"
        if ready:
            shutil.copyfile(request.getfixturevalue("sqlite_template"), file)
        yield f"sqlite:///{file}"
    elif outside := os.environ.get("TEST_POSTGRES_URL"):
        _empty(outside)
        if ready:
            _upgrade(outside)
        yield outside
    else:
        server: Postgres = request.getfixturevalue("postgres")
        template: str | None = request.getfixturevalue("postgres_template") if ready else None
        name = f"test_{next(_numbers)}"
        yield server.create_database(name, template)
        server.drop_database(name)


def _empty(url: str) -> None:
    """Take whatever earlier tests left out of a database of somebody else's server."""
    database = Database(url)
    with database.write() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
    database.close()


def _upgrade(url: str) -> None:
    database = Database(url)
    schema.upgrade(database)
    database.close()


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """A store with nothing in it, once of each kind."""
    opened = Store.open(store_url)
    yield opened
    opened.close()
