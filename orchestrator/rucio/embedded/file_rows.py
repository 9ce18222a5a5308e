"""The rows of files and of their copies. Everything here happens in a transaction of the caller."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from orchestrator.rucio.embedded.dataset_rows import below, row_of
from orchestrator.rucio.embedded.rules import check_same
from orchestrator.rucio.port import FileEntry, InvalidDid, Replica
from schemas.did import Did


def register(db: sqlite3.Connection, entry: FileEntry) -> sqlite3.Row:
    """The file as it is registered, from now on or since the first time. Raises InvalidDid, FileDiffers."""
    demand_no_dataset(db, entry.did)
    db.execute(
        "INSERT OR IGNORE INTO file (scope, name, pfn, bytes, adler32, events, md5, guid)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (*entry.did, entry.pfn, entry.bytes, entry.adler32, entry.events, entry.md5, entry.guid),
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


def copy(db: sqlite3.Connection, file_id: int, rse: str, pfn: str) -> bool:
    """Whether it is new: of each file there is one copy at an RSE, the first."""
    db.execute("INSERT OR IGNORE INTO rse VALUES (?)", (rse,))
    return db.execute("INSERT OR IGNORE INTO replica VALUES (?, ?, ?)", (file_id, rse, pfn)).rowcount > 0


def attach(db: sqlite3.Connection, dataset_id: int, files: Iterable[sqlite3.Row]) -> int:
    """How many were not attached before."""
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


def replicas(db: sqlite3.Connection, did: Did) -> Mapping[Did, Sequence[Replica]]:
    """All copies of the file, or of all files in the dataset or container, by RSE. Empty if there is no such DID."""
    dataset = row_of(db, "dataset", did)
    if dataset is None:
        row = row_of(db, "file", did)
        return {} if row is None else {did: _replicas(db, row)}
    datasets = [each["id"] for each in below(db, dataset["id"])]
    query = "SELECT file.* FROM file JOIN attachment ON id = file_id WHERE dataset_id = ?"
    rows = (row for id_ in datasets for row in db.execute(query, (id_,)))
    return {Did(row["scope"], row["name"]): _replicas(db, row) for row in rows}


def _replicas(db: sqlite3.Connection, file: sqlite3.Row) -> Sequence[Replica]:
    did = Did(file["scope"], file["name"])
    rows = db.execute("SELECT rse, pfn FROM replica WHERE file_id = ? ORDER BY rse", (file["id"],))
    return [Replica(did, row["rse"], row["pfn"], file["bytes"]) for row in rows]


def rses(db: sqlite3.Connection) -> Sequence[str]:
    return [row["name"] for row in db.execute("SELECT name FROM rse")]


def metadata(row: sqlite3.Row) -> dict[str, Any]:
    return {"did_type": "FILE", **{key: row[key] for key in ("bytes", "events", "adler32", "md5", "guid")}}


def _entry(row: sqlite3.Row) -> FileEntry:
    values = {key: row[key] for key in ("pfn", "bytes", "adler32", "events", "md5", "guid")}
    return FileEntry(Did(row["scope"], row["name"]), **values)
