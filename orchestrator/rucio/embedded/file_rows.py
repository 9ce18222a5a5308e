"""The rows of files and of their copies. Everything here happens in a transaction of the caller."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from orchestrator.rucio.embedded.dataset_rows import below, row_of
from orchestrator.rucio.embedded.disk import place_of
from orchestrator.rucio.embedded.outbox import read, written
from orchestrator.rucio.embedded.rules import check_same
from orchestrator.rucio.port import FileEntry, InvalidDid, Replica
from schemas.did import Did

#: Copies that are to be deleted by then, each with what is registered of its file.
_MARKED: Final = (
    "SELECT file.id, scope, name, bytes, events, replica.rse, replica.pfn, seen_in"
    " FROM replica JOIN file ON file_id = id WHERE tombstone <= ?"
)


def register(db: sqlite3.Connection, entry: FileEntry, moment: str) -> sqlite3.Row:
    """The file as it is registered, from that moment on or since the first time. Raises InvalidDid, FileDiffers."""
    demand_no_dataset(db, entry.did)
    db.execute(
        "INSERT OR IGNORE INTO file (scope, name, pfn, bytes, adler32, events, md5, guid, created_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (*entry.did, entry.pfn, entry.bytes, entry.adler32, entry.events, entry.md5, entry.guid, moment),
    )
    row = row_of(db, "file", entry.did)
    assert row is not None
    check_same(_entry(row), entry)
    return row


def demand_no_dataset(db: sqlite3.Connection, did: Did) -> None:
    """Raises InvalidDid."""
    row = row_of(db, "dataset", did)
    if row is not None:
        raise InvalidDid(f"{did} is a {row['kind'].lower()}: a file needs a name of its own")


def copy(db: sqlite3.Connection, file_id: int, rse: str, pfn: str, place: bytes | None) -> bool:
    """Whether it is new: of each file there is one copy at an RSE, the first. One that is known is marked no more."""
    db.execute("INSERT OR IGNORE INTO rse VALUES (?)", (rse,))
    query = "INSERT OR IGNORE INTO replica (file_id, rse, pfn, place) VALUES (?, ?, ?, ?)"
    if db.execute(query, (file_id, rse, pfn, place)).rowcount:
        return True
    unmark(db, [(file_id, rse)])
    return False


def attach(db: sqlite3.Connection, dataset_id: int, files: Sequence[sqlite3.Row]) -> int:
    """How many were not attached before. None of their copies is marked any more, wherever it is."""
    query = "UPDATE replica SET tombstone = NULL, seen_in = NULL WHERE file_id = ? AND tombstone IS NOT NULL"
    db.executemany(query, ((file["id"],) for file in files))
    new = [
        file
        for file in files
        if db.execute("INSERT OR IGNORE INTO attachment VALUES (?, ?)", (dataset_id, file["id"])).rowcount
    ]
    db.execute(
        "UPDATE dataset SET bytes = bytes + ?, length = length + ?, events = events + ? WHERE id = ?",
        (sum(file["bytes"] for file in new), len(new), sum(file["events"] or 0 for file in new), dataset_id),
    )
    return len(new)


def detach(db: sqlite3.Connection, dataset_id: int, file: sqlite3.Row) -> bool:
    """Whether it was in the dataset."""
    query = "DELETE FROM attachment WHERE dataset_id = ? AND file_id = ?"
    if not db.execute(query, (dataset_id, file["id"])).rowcount:
        return False
    db.execute(
        "UPDATE dataset SET bytes = bytes - ?, length = length - 1, events = events - ? WHERE id = ?",
        (file["bytes"], file["events"] or 0, dataset_id),
    )
    return True


def datasets_of(db: sqlite3.Connection, file_id: int) -> Sequence[sqlite3.Row]:
    """Those that it is in, by name."""
    return db.execute(
        "SELECT dataset.* FROM attachment JOIN dataset ON dataset_id = id WHERE file_id = ? ORDER BY name, scope",
        (file_id,),
    ).fetchall()


def mark(db: sqlite3.Connection, did: Did, rse: str) -> bool:
    """Mark a copy for deletion, if there is one. False: a rule holds it."""
    row = row_of(db, "file", did)
    if row is None:
        return True
    if db.execute("SELECT 1 FROM lock WHERE file_id = ? AND rse = ?", (row["id"], rse)).fetchone() is not None:
        return False
    query = "UPDATE replica SET tombstone = '' WHERE file_id = ? AND rse = ? AND tombstone IS NULL"
    db.execute(query, (row["id"], rse))
    return True


def unmark(db: sqlite3.Connection, copies: Iterable[tuple[int, str]]) -> None:
    """Have copies, by file and RSE, not deleted."""
    query = "UPDATE replica SET tombstone = NULL, seen_in = NULL WHERE file_id = ? AND rse = ?"
    db.executemany(query, copies)


def marked(db: sqlite3.Connection, moment: datetime, most: int) -> Sequence[sqlite3.Row]:
    """Some copies that are to be deleted by now, each with what is registered of its file."""
    return db.execute(f"{_MARKED} ORDER BY tombstone, file_id LIMIT ?", (written(moment), most)).fetchall()


def still_marked(db: sqlite3.Connection, copy: sqlite3.Row, moment: datetime) -> sqlite3.Row | None:
    """One of those that `marked` gave, as it is now; None if it is not to be deleted any more."""
    query = f"{_MARKED} AND file_id = ? AND rse = ?"
    row: sqlite3.Row | None = db.execute(query, (written(moment), copy["id"], copy["rse"])).fetchone()
    return row


def note_seen(db: sqlite3.Connection, copy: sqlite3.Row, directory: str) -> None:
    """Say that it is on its disk, in this directory, before it is deleted."""
    db.execute("UPDATE replica SET seen_in = ? WHERE file_id = ? AND rse = ?", (directory, copy["id"], copy["rse"]))


def put_off(db: sqlite3.Connection, copy: sqlite3.Row, moment: datetime) -> None:
    """Have the deletion of a copy tried again then."""
    db.execute(
        "UPDATE replica SET tombstone = ? WHERE file_id = ? AND rse = ?", (written(moment), copy["id"], copy["rse"])
    )


def others_there(db: sqlite3.Connection, copy: sqlite3.Row) -> Sequence[sqlite3.Row]:
    """Other copies that are registered at the place that the PFN of this one means now: links may have changed."""
    rows = db.execute("SELECT * FROM replica WHERE place = ?", (place_of(copy["pfn"]),))
    return [row for row in rows if (row["file_id"], row["rse"]) != (copy["id"], copy["rse"])]


def remove_copy(db: sqlite3.Connection, copy: sqlite3.Row) -> bool:
    """Whether it was the last one of its file."""
    db.execute("DELETE FROM replica WHERE file_id = ? AND rse = ?", (copy["id"], copy["rse"]))
    left = db.execute("SELECT pfn FROM replica WHERE file_id = ? ORDER BY rse", (copy["id"],)).fetchone()
    if left is not None:
        db.execute("UPDATE file SET pfn = ? WHERE id = ? AND pfn = ?", (left["pfn"], copy["id"], copy["pfn"]))
    return left is None


def forget(db: sqlite3.Connection, file_id: int) -> None:
    """A file that has no copies and is in no dataset."""
    db.execute("DELETE FROM file WHERE id = ?", (file_id,))


def files_of(db: sqlite3.Connection, dataset_id: int) -> Sequence[FileEntry]:
    rows = db.execute(
        "SELECT file.* FROM file JOIN attachment ON file.id = file_id WHERE dataset_id = ?"
        " ORDER BY file.name, file.scope",
        (dataset_id,),
    )
    return [_entry(row) for row in rows]


def registered(db: sqlite3.Connection, did: Did) -> FileEntry | None:
    """Raises InvalidDid."""
    demand_no_dataset(db, did)
    row = row_of(db, "file", did)
    return None if row is None else replace(_entry(row), pfn="")


def replicas(db: sqlite3.Connection, did: Did, readable: bool) -> Mapping[Did, Sequence[Replica]]:
    """All copies of the file, or of all files in the dataset or container, by RSE. Empty if there is no such DID.

    One that can be read is one that is not marked for deletion.
    """
    dataset = row_of(db, "dataset", did)
    if dataset is None:
        row = row_of(db, "file", did)
        return {} if row is None else {did: _replicas(db, row, readable)}
    datasets = [each["id"] for each in below(db, dataset["id"])]
    query = "SELECT file.* FROM file JOIN attachment ON id = file_id WHERE dataset_id = ?"
    rows = (row for id_ in datasets for row in db.execute(query, (id_,)))
    return {Did(row["scope"], row["name"]): _replicas(db, row, readable) for row in rows}


def _replicas(db: sqlite3.Connection, file: sqlite3.Row, readable: bool) -> Sequence[Replica]:
    did = Did(file["scope"], file["name"])
    query = "SELECT rse, pfn FROM replica WHERE file_id = ? AND (tombstone IS NULL OR NOT ?) ORDER BY rse"
    rows = db.execute(query, (file["id"], readable))
    return [Replica(did, row["rse"], row["pfn"], file["bytes"]) for row in rows]


def rses(db: sqlite3.Connection) -> Sequence[str]:
    return [row["name"] for row in db.execute("SELECT name FROM rse")]


def metadata(row: sqlite3.Row) -> dict[str, Any]:
    made_at = None if row["created_at"] is None else read(row["created_at"])
    own = {key: row[key] for key in ("bytes", "events", "adler32", "md5", "guid")}
    return {"did_type": "FILE", "created_at": made_at, **own}


def _entry(row: sqlite3.Row) -> FileEntry:
    values = {key: row[key] for key in ("pfn", "bytes", "adler32", "events", "md5", "guid")}
    return FileEntry(Did(row["scope"], row["name"]), **values)
