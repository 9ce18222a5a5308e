"""The tables of the embedded catalog, as SQL that SQLite reads, and how older ones become these."""

from __future__ import annotations

import sqlite3
from typing import Final

#: Where files lie unless it is said.
LOCAL: Final = "LOCAL"

_TABLES: Final = (
    # Datasets and containers: names are given once. The counts are of what is attached now; `closed_with` are those of
    # the last closing, as JSON.
    """
    CREATE TABLE IF NOT EXISTS dataset (
        id INTEGER PRIMARY KEY,
        scope TEXT NOT NULL,
        name TEXT NOT NULL,
        account TEXT NOT NULL,
        is_open INTEGER NOT NULL DEFAULT 1,
        created_at TEXT NOT NULL,
        closed_at TEXT,
        bytes INTEGER NOT NULL DEFAULT 0,
        length INTEGER NOT NULL DEFAULT 0,
        events INTEGER NOT NULL DEFAULT 0,
        kind TEXT NOT NULL DEFAULT 'DATASET',
        expired_at TEXT,
        closed_with TEXT,
        UNIQUE (scope, name)
    )
    """,
    # `pfn` is where the first copy was registered.
    """
    CREATE TABLE IF NOT EXISTS file (
        id INTEGER PRIMARY KEY,
        scope TEXT NOT NULL,
        name TEXT NOT NULL,
        pfn TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        adler32 TEXT NOT NULL,
        events INTEGER,
        md5 TEXT,
        guid TEXT,
        UNIQUE (scope, name)
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS attachment (
        dataset_id INTEGER NOT NULL REFERENCES dataset (id) ON DELETE CASCADE,
        file_id INTEGER NOT NULL REFERENCES file (id),
        PRIMARY KEY (dataset_id, file_id)
    ) WITHOUT ROWID
    """,
    """
    CREATE TABLE IF NOT EXISTS enclosure (
        container_id INTEGER NOT NULL REFERENCES dataset (id) ON DELETE CASCADE,
        child_id INTEGER NOT NULL REFERENCES dataset (id) ON DELETE CASCADE,
        PRIMARY KEY (container_id, child_id)
    ) WITHOUT ROWID
    """,
    # Made when the first file is registered there.
    "CREATE TABLE IF NOT EXISTS rse (name TEXT PRIMARY KEY) WITHOUT ROWID",
    """
    CREATE TABLE IF NOT EXISTS replica (
        file_id INTEGER NOT NULL REFERENCES file (id),
        rse TEXT NOT NULL REFERENCES rse (name),
        pfn TEXT NOT NULL,
        PRIMARY KEY (file_id, rse)
    ) WITHOUT ROWID
    """,
    # What people have set, each value as JSON.
    """
    CREATE TABLE IF NOT EXISTS metadata (
        dataset_id INTEGER NOT NULL REFERENCES dataset (id) ON DELETE CASCADE,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (dataset_id, key)
    ) WITHOUT ROWID
    """,
    # Events that nobody has been told yet. A row is written with the change that it tells of.
    """
    CREATE TABLE IF NOT EXISTS outbox (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        event_type TEXT NOT NULL,
        body TEXT NOT NULL
    )
    """,
    # One row: the moment of the latest change.
    "CREATE TABLE IF NOT EXISTS latest (one INTEGER PRIMARY KEY CHECK (one = 1), moment TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS dataset_closed ON dataset (closed_at, id) WHERE closed_at IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS dataset_expired ON dataset (expired_at) WHERE expired_at IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS enclosure_child ON enclosure (child_id)",
)

#: Kept in the file. It is 0 in a new one, and in those that the first catalogs made.
_VERSION: Final = 1

#: What the first catalogs did not have, by table.
_ADDED: Final = {
    "dataset": {"kind": "TEXT NOT NULL DEFAULT 'DATASET'", "expired_at": "TEXT", "closed_with": "TEXT"},
    "file": {"md5": "TEXT", "guid": "TEXT"},
}


def furnish(db: sqlite3.Connection) -> None:
    """Make the tables, and what an older catalog lacks of them. All in one transaction."""
    if _version(db) == _VERSION:
        return
    db.execute("BEGIN IMMEDIATE")
    for table in _tables(db) & _ADDED.keys():
        for name, kind in _ADDED[table].items():
            db.execute(f"ALTER TABLE {table} ADD COLUMN {name} {kind}")
    for statement in _TABLES:
        db.execute(statement)
    db.execute("INSERT INTO rse VALUES (?)", (LOCAL,))
    db.execute("INSERT INTO replica SELECT id, ?, pfn FROM file", (LOCAL,))
    db.execute(f"PRAGMA user_version = {_VERSION}")
    db.execute("COMMIT")


def _version(db: sqlite3.Connection) -> int:
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    return version


def _tables(db: sqlite3.Connection) -> set[str]:
    return {row["name"] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
