"""The tables of the embedded catalog, as SQL that SQLite reads, and how older ones become these."""

from __future__ import annotations

import sqlite3
from typing import Final
from uuid import uuid4

from orchestrator.rucio.embedded.disk import place_of

#: Where files lie unless it is said.
LOCAL: Final = "LOCAL"

_TABLES: Final = (
    # Datasets and containers: names are given once. The counts are of what is attached now; `closed_with` are those of
    # the last closing, as JSON. `is_incomplete`: copies of files in it were deleted, and files with them.
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
        is_incomplete INTEGER NOT NULL DEFAULT 0,
        UNIQUE (scope, name)
    )
    """,
    # `pfn` is where the first copy was registered. `created_at`: NULL of one that was made before that was kept.
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
        created_at TEXT,
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
    # `tombstone`: from when on it is to be deleted, or that is to be tried again. An empty text is before all moments.
    # `place`: what its PFN means on a disk, however it is written. `seen_in`: the directory in which it was seen before
    # it was to be deleted.
    """
    CREATE TABLE IF NOT EXISTS replica (
        file_id INTEGER NOT NULL REFERENCES file (id),
        rse TEXT NOT NULL REFERENCES rse (name),
        pfn TEXT NOT NULL,
        tombstone TEXT,
        place BLOB,
        seen_in TEXT,
        PRIMARY KEY (file_id, rse)
    ) WITHOUT ROWID
    """,
    # Replication rules: each on one dataset or container, or on one file.
    """
    CREATE TABLE IF NOT EXISTS rule (
        id TEXT PRIMARY KEY,
        dataset_id INTEGER REFERENCES dataset (id) ON DELETE CASCADE,
        file_id INTEGER REFERENCES file (id) ON DELETE CASCADE,
        account TEXT NOT NULL,
        rse TEXT NOT NULL,
        locked INTEGER NOT NULL DEFAULT 0,
        expires_at TEXT,
        CHECK ((dataset_id IS NULL) <> (file_id IS NULL)),
        UNIQUE (dataset_id, account, rse),
        UNIQUE (file_id, account, rse)
    )
    """,
    # Copies, each with a rule that holds it.
    """
    CREATE TABLE IF NOT EXISTS lock (
        rule_id TEXT NOT NULL REFERENCES rule (id) ON DELETE CASCADE,
        file_id INTEGER NOT NULL,
        rse TEXT NOT NULL,
        PRIMARY KEY (file_id, rse, rule_id),
        FOREIGN KEY (file_id, rse) REFERENCES replica (file_id, rse) ON DELETE CASCADE
    ) WITHOUT ROWID
    """,
    """
    CREATE TRIGGER IF NOT EXISTS copy_held AFTER INSERT ON lock BEGIN
        UPDATE replica SET tombstone = NULL, seen_in = NULL WHERE file_id = NEW.file_id AND rse = NEW.rse;
    END
    """,
    """
    CREATE TRIGGER IF NOT EXISTS copy_let_go AFTER DELETE ON lock
    WHEN NOT EXISTS (SELECT 1 FROM lock WHERE file_id = OLD.file_id AND rse = OLD.rse) BEGIN
        UPDATE replica SET tombstone = '' WHERE file_id = OLD.file_id AND rse = OLD.rse;
    END
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
    # One row: what tells this catalog from any other, for as long as it is there.
    "CREATE TABLE IF NOT EXISTS identity (one INTEGER PRIMARY KEY CHECK (one = 1), id TEXT NOT NULL)",
    # One row: the moment of the latest change.
    "CREATE TABLE IF NOT EXISTS latest (one INTEGER PRIMARY KEY CHECK (one = 1), moment TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS dataset_closed ON dataset (closed_at, id) WHERE closed_at IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS dataset_expired ON dataset (expired_at) WHERE expired_at IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS enclosure_child ON enclosure (child_id)",
    "CREATE INDEX IF NOT EXISTS attachment_file ON attachment (file_id)",
    "CREATE INDEX IF NOT EXISTS replica_place ON replica (place) WHERE place IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS replica_marked ON replica (tombstone, file_id) WHERE tombstone IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS rule_expires ON rule (expires_at) WHERE expires_at IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS lock_rule ON lock (rule_id)",
)

#: Kept in the file. It is 0 in a new one, and in those that the first catalogs made.
_VERSION: Final = 4

#: What older catalogs may lack, by table.
_LACKING: Final = {
    "dataset": {
        "kind": "TEXT NOT NULL DEFAULT 'DATASET'",
        "expired_at": "TEXT",
        "closed_with": "TEXT",
        "is_incomplete": "INTEGER NOT NULL DEFAULT 0",
    },
    "file": {"md5": "TEXT", "guid": "TEXT", "created_at": "TEXT"},
    "replica": {"tombstone": "TEXT", "place": "BLOB", "seen_in": "TEXT"},
}

#: What is no more as older catalogs have it.
_OLD: Final = ("INDEX replica_pfn", "INDEX replica_tombstone", "TRIGGER copy_held")


class TablesTooNew(Exception):
    """A newer muleteer made them. The text says what to do."""


def furnish(db: sqlite3.Connection) -> None:
    """Make the tables, and what an older catalog lacks of them. All in one transaction.

    Raises TablesTooNew.
    """
    version = _version(db)
    if version > _VERSION:
        raise TablesTooNew(
            f"its tables are of version {version}, and this muleteer knows those up to {_VERSION}: a newer one made it."
            " Upgrade muleteer here too"
        )
    if version == _VERSION:
        return
    db.execute("BEGIN IMMEDIATE")
    _add_columns(db)
    for old in _OLD:
        db.execute(f"DROP {old.replace(' ', ' IF EXISTS ')}")
    for statement in _TABLES:
        db.execute(statement)
    if version == 0:
        db.execute("INSERT INTO rse VALUES (?)", (LOCAL,))
        db.execute("INSERT INTO replica (file_id, rse, pfn) SELECT id, ?, pfn FROM file", (LOCAL,))
    db.execute("INSERT OR IGNORE INTO identity (one, id) VALUES (1, ?)", (uuid4().hex,))
    db.create_function("place_of", 1, place_of)
    db.execute("UPDATE replica SET place = place_of(pfn) WHERE place IS NULL")
    db.execute(f"PRAGMA user_version = {_VERSION}")
    db.execute("COMMIT")


def identity_of(db: sqlite3.Connection) -> str:
    """What tells this catalog from any other, once it is furnished."""
    row = db.execute("SELECT id FROM identity").fetchone()
    return str(row["id"])


def _add_columns(db: sqlite3.Connection) -> None:
    """Whatever version it says: an older program that opens a catalog may lower it."""
    for table in _tables(db) & _LACKING.keys():
        there = {row["name"] for row in db.execute(f"PRAGMA table_info({table})")}
        for name, kind in _LACKING[table].items():
            if name not in there:
                db.execute(f"ALTER TABLE {table} ADD COLUMN {name} {kind}")


def _version(db: sqlite3.Connection) -> int:
    version: int = db.execute("PRAGMA user_version").fetchone()[0]
    return version


def _tables(db: sqlite3.Connection) -> set[str]:
    return {row["name"] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
