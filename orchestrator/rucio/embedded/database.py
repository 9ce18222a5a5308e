"""The file that the embedded catalog is kept in."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final, Literal

from orchestrator.rucio.embedded.tables import TablesTooNew, furnish, identity_of
from orchestrator.rucio.port import CatalogUnavailable

#: Seconds that one writer waits for another.
_PATIENCE: Final = 30.0


class Database:
    """One SQLite file, for several threads and processes at once. Whatever SQLite says is CatalogUnavailable."""

    def __init__(self, path: Path) -> None:
        """Make the file and its tables. One process at a time: SQLite does not queue for a change of journal mode.

        Raises:
            CatalogUnavailable: the file cannot be used, or a newer muleteer made it.
        """
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with flock(path.parent, os.O_RDONLY, fcntl.LOCK_EX), self._connection("rwc") as db:
                db.execute("PRAGMA journal_mode = WAL")
                furnish(db)
                #: What tells this catalog from any other.
                self.identity = identity_of(db)
        except OSError as error:
            raise CatalogUnavailable(f"the catalog {path} cannot be made: {error}") from error
        except TablesTooNew as error:
            raise CatalogUnavailable(f"the catalog {path} cannot be used: {error}") from error

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A transaction that sees one moment of the catalog."""
        with self._transaction("DEFERRED") as db:
            yield db

    @contextmanager
    def changing(self) -> Iterator[sqlite3.Connection]:
        """A transaction of the only one who writes."""
        with self._transaction("IMMEDIATE") as db:
            yield db

    @contextmanager
    def _transaction(self, kind: Literal["DEFERRED", "IMMEDIATE"]) -> Iterator[sqlite3.Connection]:
        """All of it or, if anything is raised, nothing: a connection that closes without COMMIT rolls back."""
        with self._connection("rw") as db:
            db.execute(f"BEGIN {kind}")
            if identity_of(db) != self.identity:
                raise CatalogUnavailable(
                    f"the catalog {self.path} is another one than was opened: put that one back, or start muleteer anew"
                )
            yield db
            db.execute("COMMIT")

    @contextmanager
    def _connection(self, mode: Literal["rw", "rwc"]) -> Iterator[sqlite3.Connection]:
        """A connection for one call, so that threads and processes share nothing but the file.

        With `rw` a file that has gone is not made anew: it is away, and an empty catalog would be a wrong answer.
        """
        url = f"{self.path.absolute().as_uri()}?mode={mode}"
        try:
            with closing(sqlite3.connect(url, uri=True, timeout=_PATIENCE, isolation_level=None)) as db:
                db.row_factory = sqlite3.Row
                db.execute("PRAGMA foreign_keys = ON")
                db.create_function("shell_match", 2, fnmatchcase, deterministic=True)
                yield db
        except sqlite3.Error as error:
            raise CatalogUnavailable(f"the catalog {self.path} cannot be used for now: {error}") from error


@contextmanager
def flock(path: Path, flags: int, operation: int) -> Iterator[None]:
    """A lock of the operating system. Raises BlockingIOError if it was not to wait, OSError."""
    descriptor = os.open(path, flags, 0o644)
    try:
        fcntl.flock(descriptor, operation)
        yield
    finally:
        os.close(descriptor)
