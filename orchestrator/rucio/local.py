"""The embedded catalog: Rucio's rules on one SQLite file, and its hermes in one method.

Source of the rules and of the shapes: Rucio 41.5.1, measured.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import sqlite3
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

import structlog

from orchestrator.clock import Clock, utc_now
from orchestrator.rucio.local_tables import TABLES
from orchestrator.rucio.port import (
    KEPT_METADATA,
    CatalogError,
    CatalogUnavailable,
    DatasetClosed,
    DatasetEntry,
    DatasetState,
    DidExists,
    DidNotFound,
    FileDiffers,
    FileEntry,
    InvalidDid,
)
from schemas.did import Did

log = structlog.get_logger(__name__)

#: Gives a frame to the broker: headers and body. Returns once the broker has it; raises otherwise.
Announce = Callable[[Mapping[str, str], bytes], None]

_SCOPE = re.compile(r"[A-Za-z0-9_.\-]{1,25}")
_NAME = re.compile(r"[/A-Za-z0-9][/A-Za-z0-9.\-_]{0,249}")
_ADLER32 = re.compile(r"[0-9a-f]{8}")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,254}")
_MOMENT = "%Y-%m-%d %H:%M:%S.%f"
#: Seconds that one writer waits for another.
_PATIENCE = 30.0


def describe_file(path: Path, scope: str) -> FileEntry:
    """A file on disk as the catalog wants to know it, under its own name. Raises OSError if it cannot be read."""
    size, checksum = 0, 1
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            size += len(block)
            checksum = zlib.adler32(block, checksum)
    return FileEntry(Did(scope, path.name), pfn=str(path.absolute()), bytes=size, adler32=f"{checksum:08x}")


class LocalCatalog:
    """Datasets and files on one SQLite file, for several threads and processes at once.

    A change and the event that tells of it are one transaction; the event is announced after the commit. An
    announcement that fails stays in the outbox, the change stands, and the next `flush` announces it: the same
    bytes again, possibly twice, as Rucio's own hermes does.
    """

    def __init__(self, path: Path, announce: Announce, account: str = "root", clock: Clock = utc_now) -> None:
        """Open the catalog, making it if it is not there, and announce what an earlier one could not.

        Args:
            account: who is said to have made each change.

        Raises:
            CatalogUnavailable: the file cannot be used.
        """
        self.address = f"sqlite:{path}"
        self._path = path
        self._announcing = path.with_name(f"{path.name}.announcing")
        self._announce = announce
        self._account = account
        self._clock = clock
        self._failing = False
        self._furnish()
        self.flush()

    def add_dataset(self, did: Did) -> None:
        _check_name(did)
        with self._transaction("IMMEDIATE") as db:
            if _row(db, "dataset", did) or _row(db, "file", did):
                raise DidExists(f"{did} exists already: choose another name, or erase it first")
            moment = self._tell(db, "create_dts", {"account": self._account, **did._asdict(), "expired_at": None})
            db.execute(
                "INSERT INTO dataset (scope, name, account, created_at) VALUES (?, ?, ?, ?)",
                (*did, self._account, moment),
            )
        self.flush()

    def attach(self, did: Did, files: Iterable[FileEntry]) -> int:
        entries = list(files)
        for entry in entries:
            _check_file(entry)
        with self._transaction("IMMEDIATE") as db:
            dataset = _dataset(db, did)
            if not dataset["is_open"]:
                raise DatasetClosed(f"{did} is closed: reopen it before files are attached")
            registered = [_register(db, entry) for entry in entries]
            new = [file for file in registered if _attach(db, dataset["id"], file["id"])]
            db.execute(
                "UPDATE dataset SET bytes = bytes + ?, length = length + ?, events = events + ? WHERE id = ?",
                (
                    sum(file["bytes"] for file in new),
                    len(new),
                    sum(file["events"] or 0 for file in new),
                    dataset["id"],
                ),
            )
        return len(new)

    def close(self, did: Did) -> None:
        with self._transaction("IMMEDIATE") as db:
            dataset = _dataset(db, did)
            if dataset["is_open"]:
                counts = {count: dataset[count] for count in ("bytes", "length", "events")}
                moment = self._tell(db, "close", {**did._asdict(), **counts})
                db.execute("UPDATE dataset SET is_open = 0, closed_at = ? WHERE id = ?", (moment, dataset["id"]))
        self.flush()

    def reopen(self, did: Did) -> None:
        with self._transaction("IMMEDIATE") as db:
            dataset = _dataset(db, did)
            if not dataset["is_open"]:
                self._tell(db, "open", did._asdict())
                db.execute("UPDATE dataset SET is_open = 1 WHERE id = ?", (dataset["id"],))
        self.flush()

    def erase(self, did: Did) -> None:
        with self._transaction("IMMEDIATE") as db:
            dataset = _dataset(db, did)
            self._tell(db, "erase", {"account": self._account, **did._asdict()})
            db.execute("DELETE FROM dataset WHERE id = ?", (dataset["id"],))
        self.flush()

    def dataset(self, did: Did) -> DatasetEntry:
        with self._transaction("DEFERRED") as db:
            return _dataset_entry(_dataset(db, did))

    def datasets(self, scope: str = "*", name: str = "*") -> Sequence[DatasetEntry]:
        with self._transaction("DEFERRED") as db:
            rows = db.execute(
                "SELECT * FROM dataset WHERE shell_match(scope, ?) AND shell_match(name, ?) ORDER BY name, scope",
                (scope, name),
            )
            return [_dataset_entry(row) for row in rows]

    def files(self, did: Did) -> Sequence[FileEntry]:
        with self._transaction("DEFERRED") as db:
            rows = db.execute(
                "SELECT file.* FROM file JOIN attachment ON file.id = attachment.file_id"
                " WHERE attachment.dataset_id = ? ORDER BY file.name, file.scope",
                (_dataset(db, did)["id"],),
            )
            return [_file_entry(row) for row in rows]

    def metadata(self, dids: Iterable[Did]) -> Mapping[Did, Mapping[str, Any]]:
        with self._transaction("DEFERRED") as db:
            known = {did: _metadata(db, did) for did in dict.fromkeys(dids) if _may_exist(did)}
        return {did: document for did, document in known.items() if document is not None}

    def set_metadata(self, did: Did, key: str, value: str | float | bool | None) -> None:
        """Set a key of a dataset's metadata; None takes it away. No event tells of it, as with Rucio.

        Raises:
            CatalogError: the catalog keeps this key itself, or the key cannot be one.
            DidNotFound, CatalogUnavailable.
        """
        if key in KEPT_METADATA:
            raise CatalogError(f"{did}: {key} is kept by the catalog and cannot be set")
        if not _KEY.fullmatch(key):
            raise CatalogError(f"{did}: {key!r} is no key: letters, digits, `_`, `.` and `-`, and no digit first")
        with self._transaction("IMMEDIATE") as db:
            id_ = _dataset(db, did)["id"]
            if value is None:
                db.execute("DELETE FROM metadata WHERE dataset_id = ? AND key = ?", (id_, key))
            else:
                db.execute("INSERT OR REPLACE INTO metadata VALUES (?, ?, ?)", (id_, key, json.dumps(value)))

    def flush(self) -> None:
        """Announce what is in the outbox, oldest first. Never raises: what cannot be announced stays there.

        One thread of one process announces at a time. Who finds another at it leaves, since the other looks into
        the outbox once more after it has let go.
        """
        try:
            while self._outbox():
                with _flock(self._announcing, os.O_RDWR | os.O_CREAT, fcntl.LOCK_EX | fcntl.LOCK_NB):
                    if not self._announce_outbox():
                        return
        except BlockingIOError:  # another is at it
            return
        except (CatalogUnavailable, OSError) as error:
            self._report(error)

    def _announce_outbox(self) -> bool:
        """Whether all of it could be announced."""
        for row in self._outbox():
            headers = {"event_type": row["event_type"], "persistent": "true"}
            try:
                self._announce(headers, row["body"].encode())
            except Exception as error:  # the broker's door has words of its own, and none may undo the change
                self._report(error)
                return False
            # Only now: a crash before this line announces the same bytes again, and none are lost.
            with self._transaction("IMMEDIATE") as db:
                db.execute("DELETE FROM outbox WHERE id = ?", (row["id"],))
        self._failing = False
        return True

    def _report(self, error: Exception) -> None:
        """Log the first failure of a row of them."""
        if not self._failing:
            log.warning("announcement.failed", catalog=self.address, error=str(error), kept=True)
        self._failing = True

    def _outbox(self) -> list[sqlite3.Row]:
        with self._transaction("DEFERRED") as db:
            return db.execute("SELECT * FROM outbox ORDER BY id").fetchall()

    def _tell(self, db: sqlite3.Connection, event_type: str, payload: Mapping[str, Any]) -> str:
        """Put an event into the outbox, in the transaction of the change. Gives its moment, later than any before."""
        moment = self._clock().astimezone(UTC)
        row = db.execute("SELECT moment FROM latest").fetchone()
        if row is not None:
            moment = max(moment, _moment(row["moment"]) + timedelta(microseconds=1))
        text = moment.strftime(_MOMENT)
        db.execute("INSERT OR REPLACE INTO latest (one, moment) VALUES (1, ?)", (text,))
        body = json.dumps({"event_type": event_type, "payload": payload, "created_at": text})
        db.execute("INSERT INTO outbox (event_type, body) VALUES (?, ?)", (event_type, body))
        return text

    def _furnish(self) -> None:
        """Make the file and its tables. One process at a time: SQLite does not queue for a change of journal mode."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with _flock(self._path.parent, os.O_RDONLY, fcntl.LOCK_EX), self._connection("rwc") as db:
                db.execute("PRAGMA journal_mode = WAL")
                for table in TABLES:
                    db.execute(table)
        except OSError as error:
            raise CatalogUnavailable(f"the catalog {self._path} cannot be made: {error}") from error

    @contextmanager
    def _transaction(self, kind: Literal["DEFERRED", "IMMEDIATE"]) -> Iterator[sqlite3.Connection]:
        """All of it or, if anything is raised, nothing: a connection that closes without COMMIT rolls back."""
        with self._connection() as db:
            db.execute(f"BEGIN {kind}")
            yield db
            db.execute("COMMIT")

    @contextmanager
    def _connection(self, mode: Literal["rw", "rwc"] = "rw") -> Iterator[sqlite3.Connection]:
        """A connection for one call, so that threads and processes share nothing but the file.

        With `rw` a file that has gone is not made anew: it is away, and an empty catalog would be a wrong answer.
        """
        url = f"{self._path.absolute().as_uri()}?mode={mode}"
        try:
            with closing(sqlite3.connect(url, uri=True, timeout=_PATIENCE, isolation_level=None)) as db:
                db.row_factory = sqlite3.Row
                db.execute("PRAGMA foreign_keys = ON")
                db.create_function("shell_match", 2, fnmatchcase, deterministic=True)
                yield db
        except sqlite3.Error as error:
            raise CatalogUnavailable(f"the catalog {self._path} cannot be used for now: {error}") from error


@contextmanager
def _flock(path: Path, flags: int, operation: int) -> Iterator[None]:
    descriptor = os.open(path, flags, 0o644)
    try:
        fcntl.flock(descriptor, operation)
        yield
    finally:
        os.close(descriptor)


def _may_exist(did: Did) -> bool:
    """What came in a message may be anything; some of it SQLite would not even look for."""
    return bool(_SCOPE.fullmatch(did.scope) and _NAME.fullmatch(did.name))


def _check_name(did: Did) -> None:
    if not _SCOPE.fullmatch(did.scope):
        raise InvalidDid(f"{did}: a scope is 1 to 25 letters, digits, `.`, `_` and `-`")
    if not _NAME.fullmatch(did.name):
        raise InvalidDid(
            f"{did}: a name is 1 to 250 letters, digits, `/`, `.`, `_` and `-`, and begins with one of the first three"
        )


def _check_file(entry: FileEntry) -> None:
    _check_name(entry.did)
    if not _ADLER32.fullmatch(entry.adler32):
        raise CatalogError(f"{entry.did}: adler32 {entry.adler32!r} is not eight lower-case hexadecimal digits")
    if entry.bytes < 0:
        raise CatalogError(f"{entry.did}: a size of {entry.bytes} bytes cannot be")


def _row(db: sqlite3.Connection, table: Literal["dataset", "file"], did: Did) -> sqlite3.Row | None:
    row: sqlite3.Row | None = db.execute(f"SELECT * FROM {table} WHERE scope = ? AND name = ?", tuple(did)).fetchone()
    return row


def _dataset(db: sqlite3.Connection, did: Did) -> sqlite3.Row:
    row = _row(db, "dataset", did)
    if row is None:
        raise DidNotFound(f"there is no dataset {did}: it was never made, or it was erased")
    return row


def _register(db: sqlite3.Connection, entry: FileEntry) -> sqlite3.Row:
    """The file as it is registered, from now on or since the first time."""
    if _row(db, "dataset", entry.did):
        raise InvalidDid(f"{entry.did} is a dataset: a file needs a name of its own")
    db.execute(
        "INSERT OR IGNORE INTO file (scope, name, pfn, bytes, adler32, events) VALUES (?, ?, ?, ?, ?, ?)",
        (*entry.did, entry.pfn, entry.bytes, entry.adler32, entry.events),
    )
    file = _row(db, "file", entry.did)
    assert file is not None
    if (file["bytes"], file["adler32"]) != (entry.bytes, entry.adler32):
        raise FileDiffers(
            f"{entry.did} is registered with {file['bytes']} bytes and adler32 {file['adler32']}; the one offered has"
            f" {entry.bytes} bytes and {entry.adler32}: it needs a name of its own"
        )
    return file


def _attach(db: sqlite3.Connection, dataset_id: int, file_id: int) -> bool:
    """Whether it was not attached before."""
    done = db.execute("INSERT OR IGNORE INTO attachment VALUES (?, ?)", (dataset_id, file_id))
    return done.rowcount > 0


def _dataset_entry(row: sqlite3.Row) -> DatasetEntry:
    return DatasetEntry(
        did=Did(row["scope"], row["name"]),
        state=DatasetState.OPEN if row["is_open"] else DatasetState.CLOSED,
        account=row["account"],
        created_at=_moment(row["created_at"]),
        closed_at=_moment(row["closed_at"]) if row["closed_at"] else None,
        bytes=row["bytes"],
        length=row["length"],
        events=row["events"],
    )


def _metadata(db: sqlite3.Connection, did: Did) -> dict[str, Any] | None:
    """What is known of a dataset or a file; None if there is neither."""
    file = _row(db, "file", did)
    if file is not None:
        return {"did_type": "FILE", **{key: file[key] for key in ("bytes", "events", "adler32")}}
    dataset = _row(db, "dataset", did)
    if dataset is None:
        return None
    entry = _dataset_entry(dataset)
    set_ = db.execute("SELECT key, value FROM metadata WHERE dataset_id = ?", (dataset["id"],))
    return {
        **{row["key"]: json.loads(row["value"]) for row in set_},
        **{key: getattr(entry, key) for key in ("account", "bytes", "length", "events", "created_at", "closed_at")},
        "did_type": "DATASET",
        "is_open": entry.state is DatasetState.OPEN,
    }


def _file_entry(row: sqlite3.Row) -> FileEntry:
    return FileEntry(Did(row["scope"], row["name"]), row["pfn"], row["bytes"], row["adler32"], row["events"])


def _moment(text: str) -> datetime:
    return datetime.strptime(text, _MOMENT).replace(tzinfo=UTC)
