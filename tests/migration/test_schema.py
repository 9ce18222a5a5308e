"""The schema: how a database comes to it, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, text

from orchestrator.core.transient.caps import Spent
from orchestrator.core.transient.protection import Guard
from orchestrator.store import schema
from orchestrator.store.engine import Database
from orchestrator.store.port import StoreOutdated
from orchestrator.store.store import Store
from orchestrator.store.tables import metadata
from schemas.did import Did
from schemas.launch import LaunchId
from tests.unit.making import NOW, frame


@pytest.fixture
def database(store_url: str) -> Iterator[Database]:
    """An empty database, once of each kind."""
    opened = Database(store_url)
    yield opened
    opened.close()


def tables(database: Database) -> set[str]:
    return set(inspect(database.engine).get_table_names())


def pretend(database: Database, revision: str) -> None:
    """Let the database say that its schema is of this revision."""
    with database.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})


def upgraded_to(database: Database, revision: str) -> None:
    """The database as an earlier version of the program left it."""
    with database.write() as connection:
        command.upgrade(schema._config(connection), revision)


def test_an_empty_database_is_brought_to_what_the_program_needs(database: Database) -> None:
    """The migrations build what the tables say: every table, column, index and constraint."""
    before, after = schema.upgrade(database)

    assert (before, after) == (None, schema.head())
    assert schema.differences(database) == []
    assert tables(database) == {*metadata.tables, "alembic_version"}


def test_every_index_and_constraint_is_there(database: Database) -> None:
    """Comparing schemas overlooks indexes that are partial: by name, none is missing and none is too many."""
    schema.upgrade(database)
    inspector = inspect(database.engine)

    for name, table in metadata.tables.items():
        indexes = {each["name"] for each in inspector.get_indexes(name) if not each.get("duplicates_constraint")}
        unique = {each["name"] for each in inspector.get_unique_constraints(name)}
        foreign = {each["name"] for each in inspector.get_foreign_keys(name)}
        assert indexes == {index.name for index in table.indexes}, name
        wanted = {str(each.name) for each in table.constraints if each.name}
        assert unique | foreign <= wanted and len(wanted - unique - foreign) == 1, name  # one is the primary key


def test_the_files_of_the_migrations_say_their_order() -> None:
    """The newest revision is known without Alembic, by the number that its file's name begins with."""
    config = Config()
    config.set_main_option("script_location", str(Path(schema.__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")

    scripts = ScriptDirectory.from_config(config)

    assert [script.revision for script in scripts.walk_revisions()] == list(reversed(schema.revisions()))
    assert schema.head() == scripts.get_current_head()


def test_a_difference_between_migrations_and_tables_is_found(database: Database) -> None:
    """The comparison sees a column that a migration forgot."""
    schema.upgrade(database)
    with database.write() as connection:
        connection.execute(text("ALTER TABLE launches DROP COLUMN reason"))

    assert "reason" in str(schema.differences(database))


def test_upgrading_again_changes_nothing(database: Database) -> None:
    """A database that is up to date stays as it is, with all that is in it."""
    schema.upgrade(database)
    with database.write() as connection:
        connection.execute(text("CREATE TABLE untouched (id integer)"))

    assert schema.upgrade(database) == (schema.head(), schema.head())
    assert "untouched" in tables(database)


def test_processes_that_start_at_once_upgrade_one_after_the_other(store_url: str) -> None:
    """The first does it, the others find it done."""
    results: list[tuple[str | None, str] | Exception] = []

    def upgrade() -> None:
        own = Database(store_url)
        try:
            results.append(schema.upgrade(own))
        except Exception as error:
            results.append(error)
        finally:
            own.close()

    threads = [threading.Thread(target=upgrade) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(results, key=str) == [(schema.head(), schema.head())] * 2 + [(None, schema.head())]


def test_the_schema_of_a_newer_program_is_refused(database: Database, store_url: str) -> None:
    """Neither opened nor changed: the error says which program to use."""
    schema.upgrade(database)
    pretend(database, "9999")

    for refuse in (lambda: schema.upgrade(database), lambda: Store.open(store_url)):
        with pytest.raises(StoreOutdated, match=r"has the schema 9999.*made by a newer version of muleteer"):
            refuse()
    with database.read() as connection:
        assert connection.scalars(text("SELECT version_num FROM alembic_version")).one() == "9999"


@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
def test_postgresql_is_upgraded_by_a_person(database: Database, store_url: str) -> None:
    """A store that is not up to date is not opened: the error names the command, and nothing is changed."""
    with pytest.raises(StoreOutdated, match=r"of an empty database.*run `muleteer db upgrade`"):
        Store.open(store_url)

    assert tables(database) == set()
    schema.upgrade(database)
    Store.open(store_url).close()


@pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)
def test_sqlite_is_upgraded_by_opening_it(store_url: str) -> None:
    """The embedded store needs no command, and keeps what is in it."""
    first = Store.open(store_url)
    first.messages.take_in([frame()], origin="broker", now=NOW)
    first.close()

    again = Store.open(store_url)

    assert again.counts().messages == {"pending": 1}
    again.close()


def test_launches_of_an_earlier_version_are_counted(database: Database, store_url: str) -> None:
    """They have no package and no tries; their run and their steps are in the sums all the same."""
    upgraded_to(database, "0002")
    steps = '[{"name": "a", "state": "finished"}, {"name": "b", "state": "failed"}]'
    columns = "key, name, workflow, parameters, inputs, outputs, engine, state, steps, created_at, updated_at"
    values = ":name, :name, 'w', :parameters, '{}', '{}', 'embedded', 'failed', :steps, :at, :at"
    rows = [
        {"name": f"n{number}", "parameters": parameters, "steps": steps, "at": "2026-11-22 01:00:00.000000+00:00"}
        for number, parameters in enumerate(['{"run": "00021615"}', '{"run": "x"}', "{}"])
    ]
    with database.write() as connection:
        connection.execute(text(f"INSERT INTO launches ({columns}) VALUES ({values})"), rows)

    schema.upgrade(database)

    store = Store.open(store_url)
    (summary,) = store.launches.by_run()
    assert (summary.run, summary.steps, summary.steps_finished, summary.steps_failed) == (21615, 2, 1, 1)
    assert [(each.name, each.run) for each in store.launches.list()] == [("n2", None), ("n1", None), ("n0", 21615)]
    assert (store.launches.package(LaunchId(1)), store.launches.tries(LaunchId(1))) == ({}, [])
    store.close()


def test_what_launches_of_an_earlier_version_read_is_known(database: Database, store_url: str) -> None:
    """None of their inputs is taken for unused; what is no dataset is passed over."""
    upgraded_to(database, "0008")
    columns = "key, name, workflow, parameters, inputs, outputs, engine, state, steps, created_at, updated_at"
    values = ":name, :name, 'w', '{}', :inputs, '{}', 'embedded', 'running', '[]', :at, :at"
    inputs = ['{"a": "sphenix:A", "b": "sphenix:B", "again": "sphenix:A"}', '{"a": "sphenix:A"}', '{"x": "word"}', "{}"]
    rows = [
        {"name": f"n{number}", "inputs": each, "at": "2026-11-22 01:00:00.000000+00:00"}
        for number, each in enumerate(inputs)
    ]
    with database.write() as connection:
        connection.execute(text(f"INSERT INTO launches ({columns}) VALUES ({values})"), rows)

    schema.upgrade(database)

    store = Store.open(store_url)
    a, b = Did("sphenix", "A"), Did("sphenix", "B")
    assert set(store.transient_readers.in_use([a, b])) == {a, b}
    with store.database.read() as connection:
        read = connection.execute(text("SELECT launch_id, scope, name FROM readings ORDER BY launch_id, name")).all()
    assert read == [(1, "sphenix", "A"), (1, "sphenix", "B"), (2, "sphenix", "A")]
    store.close()


def test_what_was_released_and_kept_before_counts_still(database: Database, store_url: str) -> None:
    """For the caps, in reports, and for what is to stay; what others took away before it left was not spent."""
    upgraded_to(database, "0009")
    at, often, never = "2026-11-22 01:00:00.000000+00:00", 1, None
    lives = [
        ("released", never, never, 0),
        ("released", never, at, often),
        ("leaving", at, never, 0),
        ("gone", at, at, often),
        ("gone", never, at, 0),
        ("held", never, at, often),
        ("held", never, never, 0),
    ]
    names = ("state", "leaving_at", "gone_at", "freed_files")
    rows = [{"name": f"n{each}", "at": at, **dict(zip(names, life, strict=True))} for each, life in enumerate(lives)]
    kept = [{"which": which, "at": at} for which in ("a:plain", "a:b*", "a:[*]", f"a:{'x' * 4000}")]
    with database.write() as connection:
        connection.execute(text(_TRANSIENTS), rows)
        connection.execute(
            text("INSERT INTO transient_keeps (which, who, why, at) VALUES (:which, 'me', 'x', :at)"), kept
        )

    schema.upgrade(database)

    store = Store.open(store_url)
    assert store.transients.released_since(datetime(2026, 11, 21, tzinfo=UTC)) == Spent(7, 70, {"BNL": 70})
    assert store.transients.freed(datetime(2026, 11, 21, tzinfo=UTC), "who") == [("me", 3, 3, 15)]
    for which in ("plain", "bcd", "*", "x" * 4000):
        did = Did("a", which)
        assert len(list(Guard(keeps=store.transient_keeps.on([did], NOW)).kept(did, NOW))) == 1
    assert len(store.transient_keeps.on([Did("a", "plain")], NOW)) == 4
    assert len(store.transient_keeps.on([Did("b", "plain")], NOW)) == 3
    store.close()


_TRANSIENTS = """
    INSERT INTO transients (scope, name, born_at, policy, policy_version, state, refusals, files, bytes, released_at,
        released_by, frees, leaving_at, gone_at, freed_files, freed_bytes, seen_at, updated_at)
    VALUES ('a', :name, :at, 'hits', 1, :state, '[]', 1, 10, :at, 'me', '{"BNL": 10}', :leaving_at, :gone_at,
        :freed_files, 5 * :freed_files, :at, :at)
"""
