"""Replication rules, and the copies that they hold. Everything here happens in a transaction of the caller.

A copy is held by a row of `lock` for each rule. When the last of them goes, the copy gets a tombstone; when one comes,
the copy loses it. Triggers see to both.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final
from uuid import uuid4

from orchestrator.rucio.embedded.dataset_rows import row_of
from orchestrator.rucio.embedded.outbox import read, written
from orchestrator.rucio.port import DidNotFound, ReplicationRule, RuleLocked
from schemas.did import Did

#: The rules on a file, on the datasets that it is in, and on containers above them.
_REACHING: Final = """
    SELECT id FROM rule WHERE file_id = :file OR dataset_id IN (
        WITH RECURSIVE above (id) AS (
            SELECT dataset_id FROM attachment WHERE file_id = :file
            UNION SELECT container_id FROM enclosure JOIN above ON child_id = above.id)
        SELECT id FROM above)
"""

_FILES_BELOW: Final = """
    WITH RECURSIVE below (id) AS (
        VALUES (?) UNION SELECT child_id FROM enclosure JOIN below ON container_id = below.id)
    SELECT DISTINCT file_id FROM attachment JOIN below ON dataset_id = below.id
"""


def rules_on(db: sqlite3.Connection, did: Did) -> Sequence[ReplicationRule] | None:
    """By age. None if there is no such DID."""
    target = _target(db, did)
    if target is None:
        return None
    column, id_ = target
    rows = db.execute(f"SELECT * FROM rule WHERE {column} = ? ORDER BY rowid", (id_,))
    return [_rule(row, did) for row in rows]


def add(db: sqlite3.Connection, did: Did, account: str, rse: str, expires_at: datetime | None) -> None:
    """A rule of the account; if it has one at the RSE, that ends then. Raises DidNotFound, RuleLocked."""
    target = _target(db, did)
    if target is None:
        raise DidNotFound(f"there is no {did}: it was never made, or it was erased")
    column, id_ = target
    known = db.execute(f"SELECT id FROM rule WHERE {column} = ? AND account = ? AND rse = ?", (id_, account, rse))
    row = known.fetchone()
    if row is not None:
        end(db, row["id"], expires_at)
        return
    db.execute(
        f"INSERT INTO rule (id, {column}, account, rse, expires_at) VALUES (?, ?, ?, ?, ?)",
        (uuid4().hex, id_, account, rse, _written(expires_at)),
    )
    hold(db, files_below(db, id_) if column == "dataset_id" else [id_])


def end(db: sqlite3.Connection, rule_id: str, expires_at: datetime | None) -> bool:
    """Say when a rule ends. Whether there is one. Raises RuleLocked."""
    row = db.execute("SELECT locked FROM rule WHERE id = ?", (rule_id,)).fetchone()
    if row is None:
        return False
    if row["locked"]:
        raise RuleLocked(f"the replication rule {rule_id} is locked: whoever locked it unlocks it")
    db.execute("UPDATE rule SET expires_at = ? WHERE id = ?", (_written(expires_at), rule_id))
    return True


def lock(db: sqlite3.Connection, rule_id: str, locked: bool) -> bool:
    """Whether there is such a rule."""
    return db.execute("UPDATE rule SET locked = ? WHERE id = ?", (locked, rule_id)).rowcount > 0


def any_over(db: sqlite3.Connection, moment: datetime) -> bool:
    """Whether a rule is to end."""
    query = "SELECT 1 FROM rule WHERE expires_at <= ? AND NOT locked LIMIT 1"
    return db.execute(query, (written(moment),)).fetchone() is not None


def end_those_over(db: sqlite3.Connection, moment: datetime) -> None:
    db.execute("DELETE FROM rule WHERE expires_at <= ? AND NOT locked", (written(moment),))


def locked_rule(db: sqlite3.Connection, dataset_id: int) -> sqlite3.Row | None:
    """One on this dataset or container."""
    query = "SELECT * FROM rule WHERE dataset_id = ? AND locked"
    row: sqlite3.Row | None = db.execute(query, (dataset_id,)).fetchone()
    return row


def held_below(db: sqlite3.Connection, dataset_id: int) -> list[tuple[int, str]]:
    """The copies of `files_below`, by file and RSE, that any rule holds."""
    query = f"SELECT DISTINCT file_id, rse FROM lock WHERE file_id IN ({_FILES_BELOW})"
    return [(row["file_id"], row["rse"]) for row in db.execute(query, (dataset_id,))]


def files_below(db: sqlite3.Connection, dataset_id: int) -> list[int]:
    """Ids of the files in a dataset, or in all that is in a container. None are told where there are no rules."""
    return [row["file_id"] for row in db.execute(_FILES_BELOW, (dataset_id,))] if _any(db) else []


def hold(db: sqlite3.Connection, file_ids: Iterable[int]) -> None:
    """Have their copies held by all rules that reach them: a rule, a file or a copy is new there."""
    if _any(db):
        db.executemany(
            "INSERT OR IGNORE INTO lock SELECT rule.id, replica.file_id, replica.rse FROM rule JOIN replica USING (rse)"
            f" WHERE replica.file_id = :file AND rule.id IN ({_REACHING})",
            ({"file": id_} for id_ in file_ids),
        )


def release(db: sqlite3.Connection, file_ids: Iterable[int]) -> None:
    """Let go of their copies where a rule does not reach them any more: they have left something."""
    db.executemany(
        f"DELETE FROM lock WHERE file_id = :file AND rule_id NOT IN ({_REACHING})", ({"file": id_} for id_ in file_ids)
    )


def _any(db: sqlite3.Connection) -> bool:
    return db.execute("SELECT 1 FROM rule LIMIT 1").fetchone() is not None


def _target(db: sqlite3.Connection, did: Did) -> tuple[str, int] | None:
    """The column of `rule` for it, and what stands there."""
    if (dataset := row_of(db, "dataset", did)) is not None:
        return "dataset_id", dataset["id"]
    file = row_of(db, "file", did)
    return None if file is None else ("file_id", file["id"])


def _rule(row: sqlite3.Row, did: Did) -> ReplicationRule:
    expires_at = None if row["expires_at"] is None else read(row["expires_at"])
    return ReplicationRule(row["id"], did, row["account"], row["rse"], 1, bool(row["locked"]), expires_at)


def _written(moment: datetime | None) -> str | None:
    return None if moment is None else written(moment)
