"""Bring a database's schema to the one this program needs, and say where it stands."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, text

from orchestrator.store.engine import Database
from orchestrator.store.port import StoreOutdated
from orchestrator.store.tables import metadata

# Alembic itself is imported only where something is to be migrated: it would cost every command a sixth of its start.
if TYPE_CHECKING:
    from alembic.config import Config

_UPGRADE_LOCK = 0x736368

_MIGRATIONS = Path(__file__).parent / "migrations"


def upgrade(database: Database) -> tuple[str | None, str]:
    """Apply what is missing, in one transaction. Returns the schema's revision before and after.

    Raises:
        StoreUnavailable: nothing was changed.
        StoreOutdated: the database was made by a newer program.
    """
    with database.write() as connection:
        if not database.is_sqlite:  # two processes that start at once upgrade one after the other
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADE_LOCK})
        before = _standing(connection)
        _refuse_newer(database, before)
        if before != head():
            from alembic import command

            command.upgrade(_config(connection), "head")
        return before, head()


def is_current(database: Database) -> bool:
    """Whether the schema is the one this program needs. Takes no lock."""
    with database.read() as connection:
        return _standing(connection) == head()


def demand_current(database: Database) -> None:
    """Raises StoreOutdated, with the command that mends it, unless the schema is the one this program needs."""
    with database.read() as connection:
        standing = _standing(connection)
    _refuse_newer(database, standing)
    if standing != head():
        raise StoreOutdated(
            f"the store {database.address} has the schema {standing or 'of an empty database'}, this program needs "
            f"{head()}: run `muleteer db upgrade`"
        )


def head() -> str:
    """The schema revision that this program needs."""
    return revisions()[-1]


@cache
def revisions() -> tuple[str, ...]:
    """Every revision, in order: the number that its file's name begins with."""
    revisions = sorted(path.name.partition("_")[0] for path in (_MIGRATIONS / "versions").glob("[0-9]*_*.py"))
    assert revisions, "the package has lost its migrations"
    return tuple(revisions)


def differences(database: Database) -> list[object]:
    """What the migrations built differently from `tables`; empty when they agree."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with database.read() as connection:
        return list(compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata))


def _standing(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def _refuse_newer(database: Database, standing: str | None) -> None:
    if standing is not None and standing not in revisions():
        raise StoreOutdated(
            f"the store {database.address} has the schema {standing}, which this program does not know: "
            "it was made by a newer version of muleteer; use that one"
        )


def _config(connection: Connection) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config
