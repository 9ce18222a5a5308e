"""The rows of datasets and containers. Everything here happens in a transaction of the caller."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, Literal

from orchestrator.rucio.embedded.outbox import read, written
from orchestrator.rucio.port import CatalogError, DatasetEntry, DatasetState, DidExists, DidNotFound
from schemas.did import Did

Kind = Literal["DATASET", "CONTAINER"]

#: Datasets that `closed_after` and `matching_after` give at once.
_PAGE: Final = 1000

_COUNTS: Final = ("bytes", "length", "events")


def row_of(db: sqlite3.Connection, table: Literal["dataset", "file"], did: Did) -> sqlite3.Row | None:
    row: sqlite3.Row | None = db.execute(f"SELECT * FROM {table} WHERE scope = ? AND name = ?", tuple(did)).fetchone()
    return row


def dataset_row(db: sqlite3.Connection, did: Did) -> sqlite3.Row:
    """Raises DidNotFound."""
    return _row_of_kind(db, did, "DATASET")


def collection_row(db: sqlite3.Connection, did: Did) -> sqlite3.Row:
    """Of a dataset or a container. Raises DidNotFound."""
    row = row_of(db, "dataset", did)
    if row is None:
        raise DidNotFound(f"there is no dataset or container {did}: it was never made, or it was erased")
    return row


def _row_of_kind(db: sqlite3.Connection, did: Did, kind: Kind) -> sqlite3.Row:
    row = row_of(db, "dataset", did)
    if row is None or row["kind"] != kind:
        raise DidNotFound(f"there is no {kind.lower()} {did}: it was never made, or it was erased")
    return row


def create(
    db: sqlite3.Connection, did: Did, kind: Kind, account: str, moment: str, expired_at: str | None = None
) -> int:
    """Gives its id. Raises DidExists."""
    demand_free(db, did)
    made = db.execute(
        "INSERT INTO dataset (scope, name, account, created_at, kind, expired_at) VALUES (?, ?, ?, ?, ?, ?)",
        (*did, account, moment, kind, expired_at),
    )
    assert made.lastrowid is not None
    return made.lastrowid


def demand_free(db: sqlite3.Connection, did: Did) -> None:
    """Raises DidExists."""
    if row_of(db, "dataset", did) or row_of(db, "file", did):
        raise DidExists(f"{did} exists already: choose another name, or erase it first")


def set_metadata(db: sqlite3.Connection, id_: int, key: str, value: object) -> None:
    """None takes it away."""
    if value is None:
        db.execute("DELETE FROM metadata WHERE dataset_id = ? AND key = ?", (id_, key))
    else:
        db.execute("INSERT OR REPLACE INTO metadata VALUES (?, ?, ?)", (id_, key, json.dumps(value)))


def close(db: sqlite3.Connection, row: sqlite3.Row, moment: str) -> None:
    db.execute(
        "UPDATE dataset SET is_open = 0, closed_at = ?, closed_with = ? WHERE id = ?",
        (moment, json.dumps(counts(row)), row["id"]),
    )


def reopen(db: sqlite3.Connection, row: sqlite3.Row) -> None:
    """It keeps the moment and the counts of its last closing, as with Rucio."""
    db.execute("UPDATE dataset SET is_open = 1 WHERE id = ?", (row["id"],))


def erase(db: sqlite3.Connection, row: sqlite3.Row) -> None:
    """It leaves the containers that it is in, and what is in it stays."""
    db.execute("DELETE FROM dataset WHERE id = ?", (row["id"],))


def expire(db: sqlite3.Connection, id_: int, moment: str | None) -> None:
    """Say when it is erased."""
    db.execute("UPDATE dataset SET expired_at = ? WHERE id = ?", (moment, id_))


def mark_incomplete(db: sqlite3.Connection, id_: int) -> bool:
    """Whether it was not so before."""
    return db.execute("UPDATE dataset SET is_incomplete = 1 WHERE id = ? AND NOT is_incomplete", (id_,)).rowcount > 0


def take_out(db: sqlite3.Connection, container_id: int, child_id: int) -> bool:
    """Whether it was in the container."""
    query = "DELETE FROM enclosure WHERE container_id = ? AND child_id = ?"
    return db.execute(query, (container_id, child_id)).rowcount > 0


def containers_of(db: sqlite3.Connection, id_: int) -> Sequence[sqlite3.Row]:
    """Those that it is directly in, by name."""
    return db.execute(
        "SELECT dataset.* FROM enclosure JOIN dataset ON container_id = id WHERE child_id = ? ORDER BY name, scope",
        (id_,),
    ).fetchall()


def enclose(db: sqlite3.Connection, container: Did, dids: Iterable[Did]) -> Sequence[tuple[Did, Kind]]:
    """Those that are new in it. Raises DidNotFound, CatalogError."""
    above = _row_of_kind(db, container, "CONTAINER")
    children = {did: _child(db, above, container, did) for did in dids}
    if len({child["kind"] for child in children.values()}) > 1:
        raise CatalogError(f"{container}: datasets and containers are put into it by a call for each kind")
    new = []
    for did, child in children.items():
        done = db.execute("INSERT OR IGNORE INTO enclosure VALUES (?, ?)", (above["id"], child["id"]))
        if done.rowcount:
            new.append((did, child["kind"]))
    return new


def _child(db: sqlite3.Connection, above: sqlite3.Row, container: Did, did: Did) -> sqlite3.Row:
    """What can be put into the container."""
    if row_of(db, "file", did):
        raise CatalogError(f"{did} is a file: attach it to a dataset, and put that into {container}")
    row = collection_row(db, did)
    if above["id"] in {each["id"] for each in below(db, row["id"])}:
        raise CatalogError(f"{did} cannot be put into {container}: that is in it already, or is the same")
    return row


def below(db: sqlite3.Connection, id_: int) -> Sequence[sqlite3.Row]:
    """Itself, and all that is in it, at any depth."""
    return db.execute(
        "WITH RECURSIVE below (id) AS (VALUES (?) UNION"
        " SELECT child_id FROM enclosure JOIN below ON container_id = below.id)"
        " SELECT dataset.* FROM below JOIN dataset USING (id)",
        (id_,),
    ).fetchall()


def children(db: sqlite3.Connection, container: Did) -> Sequence[Did]:
    rows = db.execute(
        "SELECT scope, name FROM enclosure JOIN dataset ON child_id = id WHERE container_id = ? ORDER BY name, scope",
        (_row_of_kind(db, container, "CONTAINER")["id"],),
    )
    return [Did(row["scope"], row["name"]) for row in rows]


def scopes(db: sqlite3.Connection, pattern: str) -> Sequence[str]:
    """The scopes in which there is anything."""
    used = "SELECT scope FROM dataset UNION SELECT scope FROM file"
    rows = db.execute(f"SELECT scope FROM ({used}) WHERE shell_match(scope, ?) ORDER BY scope", (pattern,))
    return [row["scope"] for row in rows]


def matching(db: sqlite3.Connection, kind: Kind, scope: str, name: str) -> Sequence[sqlite3.Row]:
    return db.execute(
        "SELECT * FROM dataset WHERE kind = ? AND shell_match(scope, ?) AND shell_match(name, ?) ORDER BY name, scope",
        (kind, scope, name),
    ).fetchall()


def matching_after(db: sqlite3.Connection, after: int, scope: str, name: str) -> Sequence[sqlite3.Row]:
    """Some of the datasets that match and whose id is larger, by id."""
    return db.execute(
        "SELECT * FROM dataset WHERE id > ? AND kind = 'DATASET' AND shell_match(scope, ?) AND shell_match(name, ?)"
        " ORDER BY id LIMIT ?",
        (after, scope, name, _PAGE),
    ).fetchall()


def closed_after(db: sqlite3.Connection, after: tuple[str, int], scope: str) -> Sequence[sqlite3.Row]:
    """Some closed datasets that come after this `closed_at` and id, in that order."""
    return db.execute(
        "SELECT * FROM dataset WHERE (closed_at, id) > (?, ?) AND NOT is_open AND shell_match(scope, ?)"
        " ORDER BY closed_at, id LIMIT ?",
        (*after, scope, _PAGE),
    ).fetchall()


def expired(db: sqlite3.Connection, moment: datetime, most: int) -> Sequence[sqlite3.Row]:
    """Some datasets and containers whose lifetime is over, but not those with a locked rule on them."""
    return db.execute(
        "SELECT * FROM dataset WHERE expired_at <= ?"
        " AND NOT EXISTS (SELECT 1 FROM rule WHERE dataset_id = dataset.id AND locked) LIMIT ?",
        (written(moment), most),
    ).fetchall()


def counts(row: sqlite3.Row) -> Mapping[str, int]:
    """What is attached now."""
    return {count: row[count] for count in _COUNTS}


def dataset_entry(row: sqlite3.Row) -> DatasetEntry:
    return DatasetEntry(
        did=Did(row["scope"], row["name"]),
        state=DatasetState.OPEN if row["is_open"] else DatasetState.CLOSED,
        account=row["account"],
        created_at=read(row["created_at"]),
        closed_at=_moment(row["closed_at"]),
        bytes=row["bytes"],
        length=row["length"],
        events=row["events"],
        expires_at=_moment(row["expired_at"]),
    )


def metadata(db: sqlite3.Connection, row: sqlite3.Row) -> dict[str, Any]:
    """Of a dataset or a container. Its counts are those of the last closing, and none before, as with Rucio."""
    set_ = db.execute("SELECT key, value FROM metadata WHERE dataset_id = ?", (row["id"],))
    return {
        **{each["key"]: json.loads(each["value"]) for each in set_},
        "did_type": row["kind"],
        "account": row["account"],
        "is_open": bool(row["is_open"]),
        **{key: _moment(row[key]) for key in ("created_at", "closed_at", "expired_at")},
        **_counts_at_closing(row),
    }


def _counts_at_closing(row: sqlite3.Row) -> Mapping[str, int | None]:
    if row["closed_with"] is not None:
        known: dict[str, int] = json.loads(row["closed_with"])
        return known
    # A catalog that was made before this was kept: nothing is known of a closing but that it was.
    return counts(row) if row["closed_at"] is not None else dict.fromkeys(_COUNTS)


def _moment(text: str | None) -> datetime | None:
    return None if text is None else read(text)
