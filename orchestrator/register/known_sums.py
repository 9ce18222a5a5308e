"""Sums that somebody computed already: in a manifest, a list of md5sum, or an SQLite database."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Final, Self

from pydantic import ValidationError

from orchestrator.core.mistakes import mistakes_in
from orchestrator.core.registering import Mistold, Told, lfn_of
from orchestrator.register.manifest_reading import read_binary
from schemas.did import Did
from schemas.registration import ManifestEntry, RegisteredFile

#: What is looked for, and what is found.
_NAMES: Final = ("pfn", "lfn")
_SUMS: Final = ("bytes", "adler32", "md5")

_SQLITE: Final = b"SQLite format 3\0"

#: Mistakes that are shown.
_SHOWN: Final = 20


class KnownSumsError(Exception):
    """The sums cannot be used. The text says which, where, and what is expected."""


class KnownSumsAway(KnownSumsError):
    """They cannot be read for now: somebody writes them, or their disk is away. Trying again later may help."""


class KnownSums:
    """Looks sums up, for several threads. Open it with `open`, and close it."""

    def __init__(self, source: str, db: sqlite3.Connection, query: str) -> None:
        """`query` gives bytes, adler32 and md5 for `:pfn`, `:path`, `:did` and `:name`, those by a PFN first."""
        self.source = source
        self._db = db
        self._query = query
        self._asking = threading.Lock()

    @classmethod
    def open(cls, path: Path, table: str = "sums", columns: Mapping[str, str] | None = None) -> Self:
        """
        Args:
            table: of an SQLite database. It is asked in place if it has an index by name, and copied if it has none.
            columns: for pfn, lfn, bytes, adler32 and md5, if the file calls them otherwise.

        Raises:
            KnownSumsAway: it is not there, or cannot be read for now.
            KnownSumsError: not all of it can be understood.
        """
        try:
            with path.open("rb") as file:
                is_sqlite = file.read(len(_SQLITE)) == _SQLITE
            if is_sqlite:
                return cls(str(path), *_in_place_or_copied(path, table, columns or {}))
            return cls(str(path), _copied(_rows_of_manifest(path, columns or {})), _query("sums", {}))
        except OSError as error:
            raise KnownSumsAway(f"the known sums {path} cannot be read: {error.strerror}") from None
        except sqlite3.OperationalError as error:
            raise KnownSumsAway(f"the known sums {path} cannot be read: {error}") from None
        except sqlite3.Error as error:
            raise KnownSumsError(f"the known sums {path} cannot be read: {error}") from None

    def close(self) -> None:
        self._db.close()

    def find(self, file: RegisteredFile) -> ManifestEntry | None:
        """What is known of a file: by its path or PFN, else by its LFN.

        Raises:
            KnownSumsAway: they cannot be read for now.
            KnownSumsError: there are several answers, or what is there is no sum.
        """
        name = Did.parse(file.did).name
        wanted = {"pfn": file.pfn, "path": file.path, "did": file.did, "name": name}
        try:
            with self._asking:
                rows = self._db.execute(self._query, wanted).fetchall()
        except sqlite3.OperationalError as error:
            raise KnownSumsAway(f"the known sums {self.source} cannot be read: {error}") from None
        except sqlite3.Error as error:
            raise KnownSumsError(f"the known sums {self.source} cannot be read: {error}") from None
        by_pfn = {row[1:] for row in rows if row[0]}
        found = by_pfn or {row[1:] for row in rows}
        if len(found) > 1:
            raise KnownSumsError(f"{self.source} knows {len(found)} different sums of {file.did}: leave one of them")
        return self._entry(file, dict(zip(_SUMS, found.pop(), strict=True))) if found else None

    def _entry(self, file: RegisteredFile, sums: dict[str, Any]) -> ManifestEntry:
        try:
            return ManifestEntry(pfn=file.pfn, **sums)
        except ValidationError as error:
            mistakes = "; ".join(f"{place[-1]}: {said}" for place, said in mistakes_in(error, ManifestEntry, sums))
            raise KnownSumsError(f"{self.source} knows of {file.did} what cannot be used: {mistakes}") from None


def _rows_of_manifest(path: Path, columns: Mapping[str, str]) -> Iterator[tuple[Any, ...]]:
    mistakes: list[str] = []
    with path.open("rb") as file:
        for telling in read_binary(file, str(path), path.parent, columns=columns):
            match telling:
                case Told(entry):
                    lfn = entry.lfn or lfn_of(entry.pfn)
                    yield entry.pfn, lfn, entry.bytes, entry.adler32, entry.md5
                case Mistold():
                    mistakes.append(str(telling))
    if mistakes:
        more = [f"and {len(mistakes) - _SHOWN} more"] if len(mistakes) > _SHOWN else []
        raise KnownSumsError("\n".join(mistakes[:_SHOWN] + more))


def _copied(rows: Iterator[tuple[Any, ...]]) -> sqlite3.Connection:
    """A database of our own, which vanishes when it is closed. A million files do not weigh on the memory."""
    db = sqlite3.connect("", check_same_thread=False)
    try:
        db.execute("CREATE TABLE sums (pfn TEXT, lfn TEXT, bytes, adler32, md5)")
        db.executemany("INSERT INTO sums VALUES (?, ?, ?, ?, ?)", rows)
        for name in _NAMES:
            db.execute(f"CREATE INDEX by_{name} ON sums ({name})")
        db.commit()
    except BaseException:
        db.close()
        raise
    return db


def _in_place_or_copied(path: Path, table: str, columns: Mapping[str, str]) -> tuple[sqlite3.Connection, str]:
    db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, check_same_thread=False)
    try:
        called = _called(db, path, table, columns)
        query = _query(_quoted(table), called)
        nobody = dict.fromkeys(("pfn", "path", "did", "name"), "")
        plan = db.execute(f"EXPLAIN QUERY PLAN {query}", nobody).fetchall()
    except BaseException:
        db.close()
        raise
    if not any(str(step[-1]).startswith("SCAN") for step in plan):
        return db, query
    with closing(db):
        fields = ", ".join(_column(field, called) for field in (*_NAMES, *_SUMS))
        return _copied(db.execute(f"SELECT {fields} FROM {_quoted(table)}")), _query("sums", {})


def _called(db: sqlite3.Connection, path: Path, table: str, columns: Mapping[str, str]) -> dict[str, str | None]:
    """The column of each field, None if there is none."""
    there = {row[1] for row in db.execute(f"PRAGMA table_info({_quoted(table)})")}
    if not there:
        tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'view')")]
        raise KnownSumsError(f"{path} has no table {table!r}; it has: {', '.join(sorted(tables)) or 'none'}")
    strange = sorted(set(columns.values()) - there)
    if strange:
        raise KnownSumsError(f"{path}: {table} has no column {', '.join(strange)}; it has: {', '.join(sorted(there))}")
    called = {field: columns.get(field, field if field in there else None) for field in (*_NAMES, *_SUMS)}
    if not any(called[name] for name in _NAMES) or not (called["adler32"] or called["md5"]):
        raise KnownSumsError(
            f"{path}: {table} needs a column of names (pfn or lfn) and one of sums (adler32 or md5); set "
            f"registration.known_columns to what it calls them; it has: {', '.join(sorted(there))}"
        )
    return called


def _query(table: str, called: Mapping[str, str | None]) -> str:
    """One look by each name: together in one condition they would not be found by an index."""
    sums = ", ".join(_column(field, called) for field in _SUMS)
    looks = (("pfn", 1, ":pfn, :path"), ("lfn", 0, ":did, :name"))
    return " UNION ALL ".join(
        f"SELECT {by_pfn}, {sums} FROM {table} WHERE {_column(name, called)} IN ({values})"
        for name, by_pfn, values in looks
        if called.get(name, name)
    )


def _column(field: str, called: Mapping[str, str | None]) -> str:
    column = called.get(field, field)
    return "NULL" if column is None else _quoted(column)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
