"""The tables of the embedded catalog, as SQL that SQLite reads."""

from __future__ import annotations

TABLES = (
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
        UNIQUE (scope, name)
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS file (
        id INTEGER PRIMARY KEY,
        scope TEXT NOT NULL,
        name TEXT NOT NULL,
        pfn TEXT NOT NULL,
        bytes INTEGER NOT NULL,
        adler32 TEXT NOT NULL,
        events INTEGER,
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
)
