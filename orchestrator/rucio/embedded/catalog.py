"""The embedded catalog."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from orchestrator.clock import Clock, utc_now
from orchestrator.rucio.embedded import dataset_rows, file_rows, holding, leaving, rules
from orchestrator.rucio.embedded.database import Database
from orchestrator.rucio.embedded.dataset_rows import Kind
from orchestrator.rucio.embedded.disk import place_of
from orchestrator.rucio.embedded.leaving import Leaving
from orchestrator.rucio.embedded.outbox import Announce, Outbox, read, written
from orchestrator.rucio.embedded.tables import LOCAL
from orchestrator.rucio.port import (
    CatalogError,
    CatalogUnavailable,
    DatasetClosed,
    DatasetEntry,
    FileEntry,
    Replica,
    ReplicationRule,
)
from schemas.did import Did


class LocalCatalog:
    """Datasets and files on one SQLite file, for several threads and processes at once.

    Scopes and RSEs are there when they are first used. A change and the event that tells of it are one transaction;
    the event is announced after the commit, or by a later `flush`.
    """

    def __init__(self, path: Path, announce: Announce, account: str = "root", clock: Clock = utc_now) -> None:
        """Open the catalog, making it if it is not there, and announce what an earlier one could not.

        Args:
            account: who is said to have made each change, and whose rules are ours.

        Raises:
            CatalogUnavailable: the file cannot be used.
        """
        self.address = f"sqlite:{path}"
        self._database = Database(path)
        self._outbox = Outbox(self._database, announce, clock)
        self._leaving = Leaving(self._database, self._outbox, account, clock)
        self.identity = self._database.identity
        self.account = account
        self._clock = clock
        self.flush()

    def add_dataset(
        self, did: Did, metadata: Mapping[str, Any] | None = None, lifetime: timedelta | None = None
    ) -> None:
        self._create(did, "DATASET", rules.checked_metadata(did, metadata or {}), lifetime)

    def add_container(self, did: Did) -> None:
        self._create(did, "CONTAINER", {}, None)

    def _create(self, did: Did, kind: Kind, metadata: Mapping[str, Any], lifetime: timedelta | None) -> None:
        rules.check_did(did)
        with self._database.changing() as db:
            moment = self._outbox.next_moment(db)
            expired_at = None if lifetime is None else written(read(moment) + lifetime)
            id_ = dataset_rows.create(db, did, kind, self.account, moment, expired_at)
            for key, value in metadata.items():
                dataset_rows.set_metadata(db, id_, key, value)
            event_type = "create_dts" if kind == "DATASET" else "create_cnt"
            payload = {"account": self.account, **did._asdict(), "expired_at": expired_at}
            self._outbox.tell(db, event_type, moment, payload)
        self.flush()

    def demand_rse(self, rse: str | None = None) -> None:
        rules.check_rse(LOCAL if rse is None else rse)

    def demand_name(self, did: Did) -> None:
        rules.check_did(did)
        with self._database.reading() as db:
            dataset_rows.demand_free(db, did)

    def demand_places(self, places: Mapping[Did, str], rse: str | None = None) -> None:
        self.demand_rse(rse)
        with self._database.reading() as db:
            for did, pfn in places.items():
                rules.check_place(did, pfn)
                file_rows.demand_no_dataset(db, did)

    def register(self, files: Iterable[FileEntry], rse: str | None = None) -> int:
        entries = _checked(files, rse)
        with self._database.changing() as db:
            registered = _register(db, entries, rse, self._outbox.next_moment(db))
            holding.hold(db, [row["id"] for row, is_new in registered if is_new])
            return sum(is_new for _, is_new in registered)

    def attach(self, did: Did, files: Iterable[FileEntry], rse: str | None = None) -> int:
        entries = _checked(files, rse)
        with self._database.changing() as db:
            dataset = dataset_rows.dataset_row(db, did)
            if not dataset["is_open"]:
                raise DatasetClosed(f"{did} is closed: reopen it before files are attached")
            rows = [row for row, _ in _register(db, entries, rse, self._outbox.next_moment(db))]
            new = file_rows.attach(db, dataset["id"], rows)
            holding.hold(db, [row["id"] for row in rows])
            return new

    def enclose(self, container: Did, dids: Iterable[Did]) -> int:
        with self._database.changing() as db:
            new = dataset_rows.enclose(db, container, dids)
            for child, kind in new:
                names = {"childscope": child.scope, "childname": child.name, "childtype": kind}
                payload = {"account": self.account, **container._asdict(), **names}
                self._outbox.tell(db, "register_cnt", self._outbox.next_moment(db), payload)
                holding.hold(db, holding.files_below(db, dataset_rows.collection_row(db, child)["id"]))
        self.flush()
        return len(new)

    def close(self, did: Did) -> None:
        with self._database.changing() as db:
            dataset = dataset_rows.dataset_row(db, did)
            if dataset["is_open"]:
                moment = self._outbox.next_moment(db)
                self._outbox.tell(db, "close", moment, {**did._asdict(), **dataset_rows.counts(dataset)})
                dataset_rows.close(db, dataset, moment)
        self.flush()

    def reopen(self, did: Did) -> None:
        with self._database.changing() as db:
            dataset = dataset_rows.dataset_row(db, did)
            if not dataset["is_open"]:
                self._outbox.tell(db, "open", self._outbox.next_moment(db), did._asdict())
                dataset_rows.reopen(db, dataset)
        self.flush()

    def erase(self, did: Did) -> None:
        """Take a dataset or a container out of the catalog; its name may be used again. Announces `erase`.

        What is in it stays, and so do all copies: its rules end, and no copy that they held is marked for deletion.

        Raises DidNotFound, RuleLocked.
        """
        with self._database.changing() as db:
            self._leaving.erase_by_hand(db, dataset_rows.collection_row(db, did))
        self.flush()

    def sweep(self) -> None:
        """Do what Rucio's daemons do, and announce all that waits. To be called now and then.

        Datasets and containers whose lifetime is over are erased, unless a rule on them is locked, and rules end whose
        lifetime is over. Copies that are marked, or that no rule holds any more, are deleted, on the disk too; a file
        that cannot be deleted stays, `deletion-failed` tells of it, and it is tried again after ten minutes. A file
        whose last copy went is no more: it leaves its datasets, and one of them that is closed and empty is erased.

        It takes a moment at most: of what is due some is done, and the next call goes on.

        Never raises: while the catalog is away that is left to the next call.
        """
        with suppress(CatalogUnavailable):  # `flush` meets it too, and says it once
            self._leaving.sweep()
        self.flush()

    def flush(self) -> None:
        """Announce what could not be announced before, oldest first. Never raises: what still cannot be, waits on."""
        self._outbox.flush()

    def set_metadata(self, did: Did, key: str, value: str | float | bool | None) -> None:
        kept = rules.checked_metadata(did, {key: value})[key]
        with self._database.changing() as db:
            dataset_rows.set_metadata(db, dataset_rows.dataset_row(db, did)["id"], key, kept)

    def dataset(self, did: Did) -> DatasetEntry:
        with self._database.reading() as db:
            return dataset_rows.dataset_entry(dataset_rows.dataset_row(db, did))

    def scopes(self, pattern: str = "*") -> Sequence[str]:
        with self._database.reading() as db:
            return dataset_rows.scopes(db, pattern)

    def datasets(self, scope: str = "*", name: str = "*") -> Sequence[DatasetEntry]:
        with self._database.reading() as db:
            return [dataset_rows.dataset_entry(row) for row in dataset_rows.matching(db, "DATASET", scope, name)]

    def walk(self, scope: str = "*", name: str = "*") -> Iterator[DatasetEntry]:
        after = -1
        while True:
            with self._database.reading() as db:
                rows = dataset_rows.matching_after(db, after, scope, name)
            yield from map(dataset_rows.dataset_entry, rows)
            if not rows:
                return
            after = rows[-1]["id"]

    def closed_since(self, moment: datetime, scope: str = "*") -> Iterator[DatasetEntry]:
        after = (written(moment), -1)
        while True:
            with self._database.reading() as db:
                rows = dataset_rows.closed_after(db, after, scope)
            yield from map(dataset_rows.dataset_entry, rows)
            if not rows:
                return
            after = (rows[-1]["closed_at"], rows[-1]["id"])

    def files(self, did: Did) -> Sequence[FileEntry]:
        with self._database.reading() as db:
            return file_rows.files_of(db, dataset_rows.dataset_row(db, did)["id"])

    def registered(self, dids: Iterable[Did]) -> Mapping[Did, FileEntry]:
        with self._database.reading() as db:
            found = {did: file_rows.registered(db, did) for did in dids if rules.may_exist(did)}
        return {did: entry for did, entry in found.items() if entry is not None}

    def containers(self, scope: str = "*", name: str = "*") -> Sequence[Did]:
        """The containers whose scope and name match the shell-style patterns, by name."""
        with self._database.reading() as db:
            return [Did(row["scope"], row["name"]) for row in dataset_rows.matching(db, "CONTAINER", scope, name)]

    def children(self, container: Did) -> Sequence[Did]:
        with self._database.reading() as db:
            return dataset_rows.children(db, container)

    def parents(self, dids: Iterable[Did]) -> Mapping[Did, Sequence[Did]]:
        with self._database.reading() as db:
            found = {did: _parents(db, did) for did in dids if rules.may_exist(did)}
        return {did: above for did, above in found.items() if above is not None}

    def rules(self, dids: Iterable[Did]) -> Mapping[Did, Sequence[ReplicationRule]]:
        with self._database.reading() as db:
            found = {did: holding.rules_on(db, did) for did in dids if rules.may_exist(did)}
        return {did: on_it for did, on_it in found.items() if on_it is not None}

    def set_lifetime(self, did: Did, lifetime: timedelta | None) -> None:
        with self._database.changing() as db:
            leaving.set_lifetime(db, did, self._after(lifetime))

    def add_rule(self, did: Did, rse: str, lifetime: timedelta | None = None) -> None:
        rules.check_rse(rse)
        with self._database.changing() as db:
            holding.add(db, did, self.account, rse, self._after(lifetime))

    def set_rule_lifetime(self, rule_id: str, lifetime: timedelta | None) -> None:
        with self._database.changing() as db:
            if not holding.end(db, rule_id, self._after(lifetime)) and lifetime is None:
                raise CatalogError(f"there is no replication rule {rule_id}: it has ended")

    def lock_rule(self, rule_id: str, locked: bool = True) -> None:
        """Lock a replication rule, or unlock it, as whoever runs a catalog does. Raises CatalogError: there is none."""
        with self._database.changing() as db:
            if not holding.lock(db, rule_id, locked):
                raise CatalogError(f"there is no replication rule {rule_id}: it has ended")

    def set_tombstones(self, files: Iterable[Did], rse: str) -> Sequence[Did]:
        rules.check_rse(rse)
        asked = [did for did in files if rules.may_exist(did)]
        with self._database.changing() as db:
            return leaving.mark(db, asked, rse)

    def detach(self, did: Did, dids: Iterable[Did]) -> int:
        asked = [each for each in dids if rules.may_exist(each)]
        with self._database.changing() as db:
            gone = self._leaving.detach(db, did, asked)
        self.flush()
        return gone

    def _after(self, lifetime: timedelta | None) -> datetime | None:
        return None if lifetime is None else self._clock() + lifetime

    def replicas(
        self, dids: Iterable[Did], rse: str | None = None, *, readable: bool = True
    ) -> Mapping[Did, Sequence[Replica]]:
        with self._database.reading() as db:
            there = rules.fitting("*" if rse is None else rse, file_rows.rses(db))
            found: dict[Did, Sequence[Replica]] = {}
            for did in filter(rules.may_exist, dids):
                found.update(file_rows.replicas(db, did, readable))
        return {did: [copy for copy in copies if copy.rse in there] for did, copies in found.items()}

    def metadata(self, dids: Iterable[Did]) -> Mapping[Did, Mapping[str, Any]]:
        with self._database.reading() as db:
            known = {did: _metadata(db, did) for did in dids if rules.may_exist(did)}
        return {did: document for did, document in known.items() if document is not None}


def _checked(files: Iterable[FileEntry], rse: str | None) -> Sequence[tuple[FileEntry, bytes | None]]:
    """Each file, and its place on a disk: it is looked up here, since a disk may take its time."""
    entries = list(files)
    for entry in entries:
        rules.check_file(entry)
    if rse is not None:
        rules.check_rse(rse)
    return [(entry, place_of(entry.pfn)) for entry in entries]


def _register(
    db: sqlite3.Connection, entries: Iterable[tuple[FileEntry, bytes | None]], rse: str | None, moment: str
) -> Sequence[tuple[sqlite3.Row, bool]]:
    """Each file as it is registered, and whether the copy is new."""
    registered = []
    for entry, place in entries:
        file = file_rows.register(db, entry, moment)
        registered.append((file, file_rows.copy(db, file["id"], rse or LOCAL, entry.pfn, place)))
    return registered


def _parents(db: sqlite3.Connection, did: Did) -> Sequence[Did] | None:
    """None if there is no such DID."""
    if (dataset := dataset_rows.row_of(db, "dataset", did)) is not None:
        above = dataset_rows.containers_of(db, dataset["id"])
    elif (file := dataset_rows.row_of(db, "file", did)) is not None:
        above = file_rows.datasets_of(db, file["id"])
    else:
        return None
    return [Did(row["scope"], row["name"]) for row in above]


def _metadata(db: sqlite3.Connection, did: Did) -> dict[str, Any] | None:
    """What is known of a dataset, a container or a file; None if there is none of them."""
    dataset = dataset_rows.row_of(db, "dataset", did)
    if dataset is not None:
        return dataset_rows.metadata(db, dataset)
    file = dataset_rows.row_of(db, "file", did)
    return None if file is None else file_rows.metadata(file)
