"""Real services for the tests that need them, started once for each session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from orchestrator.store import schema
from orchestrator.store.engine import Database
from orchestrator.store.store import Store
from tests.services.activemq import ActiveMQ
from tests.services.postgres import Postgres

_numbers = count(1)


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


@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'muleteer.db'}"
    outside = os.environ.get("TEST_POSTGRES_URL")
    if outside:
        return _emptied(outside)
    server: Postgres = request.getfixturevalue("postgres")
    return server.create_database(f"test_{next(_numbers)}")


def _emptied(url: str) -> str:
    """A database of somebody else's server: whatever earlier tests left in it is taken out."""
    database = Database(url)
    with database.write() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
    database.close()
    return url


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    """An empty store, once of each kind."""
    database = Database(store_url)
    schema.upgrade(database)
    database.close()
    opened = Store.open(store_url)
    yield opened
    opened.close()
