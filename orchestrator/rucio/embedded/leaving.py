"""How datasets and copies leave the embedded catalog: what Rucio's undertaker, judge-cleaner and reaper do."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from time import perf_counter
from typing import Final

from orchestrator.clock import Clock
from orchestrator.rucio.embedded import dataset_rows, disk, file_rows, holding
from orchestrator.rucio.embedded.database import Database
from orchestrator.rucio.embedded.outbox import Outbox, written
from orchestrator.rucio.port import RuleLocked
from schemas.did import Did

#: Copies that are deleted in one transaction: nobody else can change anything meanwhile.
_AT_ONCE: Final = 20
#: Such transactions of one sweep: whoever stops the service waits for it.
_ROUNDS: Final = 10
#: Datasets and containers that one sweep erases.
_ERASED: Final = 100
#: After this time a deletion that failed is tried again.
_AGAIN: Final = timedelta(minutes=10)


class Leaving:
    """Ends rules, erases datasets and deletes copies, and tells of it. Threads may share it."""

    def __init__(self, database: Database, outbox: Outbox, account: str, clock: Clock) -> None:
        self._database = database
        self._outbox = outbox
        self._account = account
        self._clock = clock

    def sweep(self) -> None:
        """Do what is due by now, if that is much: some of it. Raises CatalogUnavailable."""
        now = self._clock()
        with self._database.reading() as db:
            anything = dataset_rows.expired(db, now, 1) or holding.any_over(db, now) or file_rows.marked(db, now, 1)
        if anything:
            with self._database.changing() as db:
                for row in dataset_rows.expired(db, now, _ERASED):
                    self.erase(db, row)
                holding.end_those_over(db, now)
            for _ in range(_ROUNDS):
                if self._delete_some(now) < _AT_ONCE:
                    return

    def erase_by_hand(self, db: sqlite3.Connection, row: sqlite3.Row) -> None:
        """As `erase`, but no copy that was held is marked for it. Raises RuleLocked."""
        if (rule := holding.locked_rule(db, row["id"])) is not None:
            raise RuleLocked(
                f"{row['scope']}:{row['name']} is not erased: the replication rule {rule['id']} of {rule['account']} on"
                " it is locked; whoever locked it unlocks it first"
            )
        held = holding.held_below(db, row["id"])
        self.erase(db, row)
        file_rows.unmark(db, held)

    def erase(self, db: sqlite3.Connection, row: sqlite3.Row) -> None:
        """Take a dataset or a container out of the catalog. Its rules end, and what they alone held is marked."""
        files = holding.files_below(db, row["id"])
        did = Did(row["scope"], row["name"])
        for above in dataset_rows.containers_of(db, row["id"]):
            self._tell_detached(db, above, did, row["kind"])
        self._tell(db, "erase", {"account": self._account, **did._asdict()})
        dataset_rows.erase(db, row)
        holding.release(db, files)

    def detach(self, db: sqlite3.Connection, did: Did, dids: Iterable[Did]) -> int:
        """How many went. Raises DidNotFound."""
        row = dataset_rows.collection_row(db, did)
        take_out = self._take_file_out if row["kind"] == "DATASET" else self._take_dataset_out
        return sum(take_out(db, row, each) for each in dict.fromkeys(dids))

    def _take_file_out(self, db: sqlite3.Connection, row: sqlite3.Row, did: Did) -> bool:
        file = dataset_rows.row_of(db, "file", did)
        if file is None or not file_rows.detach(db, row["id"], file):
            return False
        holding.release(db, [file["id"]])
        self._tell_detached(db, row, did, "FILE")
        return True

    def _take_dataset_out(self, db: sqlite3.Connection, row: sqlite3.Row, did: Did) -> bool:
        child = dataset_rows.row_of(db, "dataset", did)
        if child is None or not dataset_rows.take_out(db, row["id"], child["id"]):
            return False
        holding.release(db, holding.files_below(db, child["id"]))
        self._tell_detached(db, row, did, child["kind"])
        return True

    def _delete_some(self, now: datetime) -> int:
        """How many were tried. It is written down first which were seen, so that a crash in the middle does no harm.

        They are marked still after it; and what was seen, and is not on the disk then, is deleted.
        """
        with self._database.changing() as db:
            copies = file_rows.marked(db, now, _AT_ONCE)
            for copy in copies:
                _note_seen(db, copy)
        with self._database.changing() as db:
            for copy in copies:
                if (still := file_rows.still_marked(db, copy, now)) is not None:
                    self._delete(db, still, now)
        return len(copies)

    def _delete(self, db: sqlite3.Connection, copy: sqlite3.Row, now: datetime) -> None:
        began = perf_counter()
        outcome, told = _deleted(db, copy)
        size, url = copy["bytes"], copy["pfn"]
        names = {"scope": copy["scope"], "name": copy["name"], "rse": copy["rse"]}
        payload = {**names, "file-size": size, "bytes": size, "url": url, "protocol": "file", "datatype": None, **told}
        self._tell(db, outcome, {**payload, "duration": perf_counter() - began})
        if outcome == "deletion-failed":
            file_rows.put_off(db, copy, now + _AGAIN)
        elif file_rows.remove_copy(db, copy):
            self._forget(db, copy)

    def _forget(self, db: sqlite3.Connection, file: sqlite3.Row) -> None:
        """A file whose last copy went leaves its datasets; one that is closed and empty then is erased.

        Not if a rule on it is locked.
        """
        did = Did(file["scope"], file["name"])
        for row in file_rows.datasets_of(db, file["id"]):
            file_rows.detach(db, row["id"], file)
            self._tell_detached(db, row, did, "FILE")
            if dataset_rows.mark_incomplete(db, row["id"]):
                self._tell(db, "incomplete", {"scope": row["scope"], "name": row["name"], "did_type": "DATASET"})
            if not row["is_open"] and row["length"] <= 1 and holding.locked_rule(db, row["id"]) is None:
                self.erase(db, row)
        file_rows.forget(db, file["id"])

    def _tell_detached(self, db: sqlite3.Connection, above: sqlite3.Row, did: Did, kind: str) -> None:
        parent = {"scope": above["scope"], "name": above["name"]}
        if above["kind"] == "CONTAINER":
            child = {"childscope": did.scope, "childname": did.name, "childtype": kind}
            self._tell(db, "erase_cnt", {**parent, **child})
        child = {"child_scope": did.scope, "child_name": did.name, "child_type": f"DIDType.{kind}"}
        self._tell(db, "detach", {**parent, "did_type": f"DIDType.{above['kind']}", **child})

    def _tell(self, db: sqlite3.Connection, event_type: str, payload: dict[str, object]) -> None:
        self._outbox.tell(db, event_type, self._outbox.next_moment(db), payload)


def set_lifetime(db: sqlite3.Connection, did: Did, expires_at: datetime | None) -> None:
    """Raises DidNotFound."""
    row = dataset_rows.collection_row(db, did)
    dataset_rows.expire(db, row["id"], None if expires_at is None else written(expires_at))


def mark(db: sqlite3.Connection, dids: Iterable[Did], rse: str) -> Sequence[Did]:
    """Mark copies at the RSE for deletion. Those that a rule holds are not: they are given back."""
    return [did for did in dict.fromkeys(dids) if not file_rows.mark(db, did, rse)]


def _note_seen(db: sqlite3.Connection, copy: sqlite3.Row) -> None:
    with suppress(disk.CannotDelete):  # that is said when it is to be deleted
        if (directory := disk.seen(copy["pfn"], copy["bytes"])) is not None:
            file_rows.note_seen(db, copy, directory)


def _deleted(db: sqlite3.Connection, copy: sqlite3.Row) -> tuple[str, dict[str, str]]:
    """The event that tells of it, and what it says more."""
    others = file_rows.others_there(db, copy)
    try:
        if any(other["tombstone"] is None or disk.path_of(other["pfn"]) is None for other in others):
            raise disk.CannotDelete("another file is registered at the same place")
        if others and disk.path_of(copy["pfn"]) is not None:  # the last of them deletes
            return "deletion-not-found", {"reason": "another file at the same place is to be deleted too, and takes it"}
        if disk.delete(copy["pfn"], copy["bytes"], copy["seen_in"]):
            return "deletion-done", {}
        return "deletion-not-found", {"reason": "File Not Found"}
    except disk.CannotDelete as error:
        return "deletion-failed", {"reason": str(error)}
