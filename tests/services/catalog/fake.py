"""A catalog in memory, with the whole contract: as strict as a Rucio server, where one that is real is too slow."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, Literal

from orchestrator.clock import Clock, utc_now
from orchestrator.rucio.embedded import rules
from orchestrator.rucio.port import (
    CatalogError,
    DatasetClosed,
    DatasetEntry,
    DatasetState,
    DidExists,
    DidNotFound,
    FileEntry,
    InvalidDid,
    InvalidPfn,
    Replica,
    RseNotFound,
    ScopeNotFound,
)
from schemas.did import Did

Kind = Literal["DATASET", "CONTAINER"]


@dataclass
class _Collection:
    did: Did
    kind: Kind
    account: str
    created_at: datetime
    expires_at: datetime | None = None
    closed_at: datetime | None = None
    is_open: bool = True
    #: Of the last closing.
    counts: dict[str, int | None] = field(default_factory=lambda: dict.fromkeys(("bytes", "length", "events")))
    metadata: dict[str, Any] = field(default_factory=dict)
    #: DIDs of what is in it.
    content: dict[Did, None] = field(default_factory=dict)


@dataclass
class _File:
    entry: FileEntry
    #: PFNs by RSE.
    copies: dict[str, str] = field(default_factory=dict)


class FakeCatalog:
    """For several threads at once. What it announces is in `events`, oldest first, as hermes would write the bodies."""

    def __init__(
        self,
        *,
        scopes: Iterable[str] | None = None,
        rses: Mapping[str, str] | None = None,
        account: str = "root",
        clock: Clock = utc_now,
    ) -> None:
        """An empty catalog.

        Args:
            scopes: those there are; any, unless said.
            rses: those there are, each with what its PFNs begin with; the first is where files are registered unless
                it is said. One of the name LOCAL that takes any PFN, and keeps the first of a file, unless said.
        """
        self.address = "memory:"
        self._scopes = None if scopes is None else set(scopes)
        self._rses = dict(rses or {"LOCAL": ""})
        self.events: list[dict[str, Any]] = []
        self._account = account
        self._clock = clock
        self._latest: datetime | None = None
        self._dids: dict[Did, _Collection | _File] = {}
        self._lock = threading.RLock()

    def add_scope(self, name: str) -> None:
        """As whoever runs the catalog does it."""
        with self._lock:
            self._scopes = {*(self._scopes or ()), name}

    def add_dataset(
        self, did: Did, metadata: Mapping[str, Any] | None = None, lifetime: timedelta | None = None
    ) -> None:
        given = {key: value for key, value in (metadata or {}).items() if value is not None}
        rules.check_metadata(did, given)
        self._add(did, "DATASET", given, lifetime)

    def add_container(self, did: Did) -> None:
        self._add(did, "CONTAINER", {}, None)

    def _add(self, did: Did, kind: Kind, metadata: dict[str, Any], lifetime: timedelta | None) -> None:
        with self._lock:
            self._check(did)
            if did in self._dids:
                raise DidExists(f"{did} exists already: choose another name")
            moment = self._next_moment()
            expires = None if lifetime is None else moment + lifetime
            self._dids[did] = _Collection(did, kind, self._account, moment, expires, metadata=metadata)
            event = "create_dts" if kind == "DATASET" else "create_cnt"
            expired_at = None if expires is None else _written(expires)
            self._tell(event, moment, {"account": self._account, **did._asdict(), "expired_at": expired_at})

    def demand_rse(self, rse: str | None = None) -> None:
        self._place(rse)

    def register(self, files: Iterable[FileEntry], rse: str | None = None) -> int:
        with self._lock:
            return self._register(list(files), rse)

    def attach(self, did: Did, files: Iterable[FileEntry], rse: str | None = None) -> int:
        entries = list(files)
        with self._lock:
            dataset = self._collection(did, "DATASET")
            if not dataset.is_open:
                raise DatasetClosed(f"{did} is closed: reopen it before files are attached")
            self._register(entries, rse)
            new = {entry.did: None for entry in entries if entry.did not in dataset.content}
            dataset.content.update(new)
        return len(new)

    def _register(self, entries: Sequence[FileEntry], rse: str | None) -> int:
        """All is looked at before anything is changed."""
        place = self._place(rse)
        known: dict[Did, FileEntry] = {}
        for entry in entries:
            self._check_file(entry, place)
            rules.check_same(known.setdefault(entry.did, self._known(entry)), entry)
        return sum(self._copy(entry, place) for entry in entries)

    def _place(self, rse: str | None) -> str:
        place = next(iter(self._rses)) if rse is None else rse
        if place not in self._rses:
            raise RseNotFound(f"there is no RSE {place!r}: there are {', '.join(self._rses)}")
        return place

    def _check_file(self, entry: FileEntry, rse: str) -> None:
        rules.check_file(entry)
        self._check(entry.did)
        if isinstance(self._dids.get(entry.did), _Collection):
            raise InvalidDid(f"{entry.did} is no file: a file needs a name of its own")
        if not entry.pfn.startswith(self._rses[rse]):
            raise InvalidPfn(f"{entry.did}: {entry.pfn} does not lie at {rse}, which keeps files at {self._rses[rse]}")
        there = self._dids.get(entry.did)
        has = there.copies.get(rse, entry.pfn) if isinstance(there, _File) else entry.pfn
        if self._rses[rse] and has != entry.pfn:
            raise InvalidPfn(f"{entry.did} is offered at {entry.pfn}, and {rse} keeps it at {has}")

    def _known(self, entry: FileEntry) -> FileEntry:
        there = self._dids.get(entry.did)
        return there.entry if isinstance(there, _File) else entry

    def _copy(self, entry: FileEntry, rse: str) -> bool:
        """Whether the copy is new."""
        file = self._dids.setdefault(entry.did, _File(replace(entry, pfn="")))
        assert isinstance(file, _File)
        is_new = rse not in file.copies
        file.copies.setdefault(rse, entry.pfn)
        return is_new

    def enclose(self, container: Did, dids: Iterable[Did]) -> int:
        with self._lock:
            above = self._collection(container, "CONTAINER")
            children = [self._child(container, did) for did in dict.fromkeys(dids)]
            if len({child.kind for child in children}) > 1:
                raise CatalogError(f"{container}: datasets and containers cannot be put into it at once")
            new = [child for child in children if child.did not in above.content]
            for child in new:
                above.content[child.did] = None
                names = {"childscope": child.did.scope, "childname": child.did.name, "childtype": child.kind}
                self._tell(
                    "register_cnt", self._next_moment(), {"account": self._account, **container._asdict(), **names}
                )
        return len(new)

    def _child(self, container: Did, did: Did) -> _Collection:
        there = self._dids.get(did)
        if there is None:
            raise DidNotFound(f"there is no {did}: it was never made, or it was erased")
        if isinstance(there, _File):
            raise CatalogError(f"{did} is a file: attach it to a dataset, and that to {container}")
        if did == container or container in self._below(did):
            raise CatalogError(f"{container} cannot be in itself, and it is in {did} already")
        return there

    def _below(self, did: Did) -> set[Did]:
        there = self._dids.get(did)
        if not isinstance(there, _Collection):
            return set()
        return set(there.content).union(*(self._below(child) for child in there.content))

    def close(self, did: Did) -> None:
        with self._lock:
            dataset = self._collection(did, "DATASET")
            if not dataset.is_open:
                return
            moment, entry = self._next_moment(), self.dataset(did)
            dataset.is_open, dataset.closed_at = False, moment
            counts: dict[str, int | None] = {"bytes": entry.bytes, "length": entry.length, "events": entry.events}
            dataset.counts = counts
            self._tell("close", moment, {**did._asdict(), **counts})

    def reopen(self, did: Did) -> None:
        with self._lock:
            dataset = self._collection(did, "DATASET")
            if not dataset.is_open:
                dataset.is_open = True
                self._tell("open", self._next_moment(), did._asdict())

    def set_metadata(self, did: Did, key: str, value: str | float | bool | None) -> None:
        rules.check_metadata(did, {key: value})
        with self._lock:
            metadata = self._collection(did, "DATASET").metadata
            metadata.pop(key, None)
            if value is not None:
                metadata[key] = value

    def erase(self, did: Did) -> None:
        """Take a dataset out of the catalog. Announces `erase`. Raises DidNotFound."""
        with self._lock:
            self._collection(did, "DATASET")
            del self._dids[did]
            for each in self._collections("CONTAINER"):
                each.content.pop(did, None)
            self._tell("erase", self._next_moment(), {"account": self._account, **did._asdict()})

    def sweep(self) -> None:
        """Erase the datasets whose lifetime is over."""
        with self._lock:
            now = self._clock()
            for each in self._collections("DATASET"):
                if each.expires_at is not None and each.expires_at <= now:
                    self.erase(each.did)

    def dataset(self, did: Did) -> DatasetEntry:
        with self._lock:
            dataset = self._collection(did, "DATASET")
            files = self._entries(dataset)
            return DatasetEntry(
                did=did,
                state=DatasetState.OPEN if dataset.is_open else DatasetState.CLOSED,
                account=dataset.account,
                created_at=dataset.created_at,
                closed_at=dataset.closed_at,
                bytes=sum(file.bytes for file in files),
                length=len(files),
                events=sum(file.events or 0 for file in files),
            )

    def datasets(self, scope: str = "*", name: str = "*") -> Sequence[DatasetEntry]:
        with self._lock:
            dids = [each.did for each in self._collections("DATASET")]
            fit = [did for did in dids if fnmatchcase(did.scope, scope) and fnmatchcase(did.name, name)]
            return [self.dataset(did) for did in sorted(fit, key=_by_name)]

    def closed_since(self, moment: datetime, scope: str = "*") -> Iterator[DatasetEntry]:
        for entry in self.datasets(scope):
            if entry.state is DatasetState.CLOSED and entry.closed_at is not None and entry.closed_at >= moment:
                yield entry

    def files(self, did: Did) -> Sequence[FileEntry]:
        with self._lock:
            return sorted(self._entries(self._collection(did, "DATASET")), key=lambda entry: _by_name(entry.did))

    def registered(self, dids: Iterable[Did]) -> Mapping[Did, FileEntry]:
        found = {}
        with self._lock:
            for did in dids:
                there = self._dids.get(did)
                if isinstance(there, _Collection):
                    raise InvalidDid(f"{did} is no file: a file needs a name of its own")
                if there is not None:
                    found[did] = there.entry
        return found

    def children(self, container: Did) -> Sequence[Did]:
        with self._lock:
            return sorted(self._collection(container, "CONTAINER").content, key=_by_name)

    def replicas(self, dids: Iterable[Did], rse: str | None = None) -> Mapping[Did, Sequence[Replica]]:
        there = rules.fitting("*" if rse is None else rse, self._rses)
        with self._lock:
            all_ = {each for did in dids for each in {did} | self._below(did)}
            files = {did: file for did in all_ if isinstance(file := self._dids.get(did), _File)}
            return {
                did: [
                    Replica(did, place, pfn, file.entry.bytes)
                    for place, pfn in sorted(file.copies.items())
                    if place in there
                ]
                for did, file in files.items()
            }

    def metadata(self, dids: Iterable[Did]) -> Mapping[Did, Mapping[str, Any]]:
        with self._lock:
            return {did: _metadata(there) for did in dids if (there := self._dids.get(did)) is not None}

    def _check(self, did: Did) -> None:
        rules.check_did(did)
        if self._scopes is not None and did.scope not in self._scopes:
            raise ScopeNotFound(f"there is no scope {did.scope}: whoever runs the catalog makes them")

    def _collection(self, did: Did, kind: Kind) -> _Collection:
        there = self._dids.get(did)
        if not isinstance(there, _Collection) or there.kind != kind:
            raise DidNotFound(f"there is no {kind.lower()} {did}: it was never made, or it was erased")
        return there

    def _collections(self, kind: Kind) -> Sequence[_Collection]:
        return [each for each in self._dids.values() if isinstance(each, _Collection) and each.kind == kind]

    def _entries(self, dataset: _Collection) -> Sequence[FileEntry]:
        files = (self._dids[did] for did in dataset.content)
        return [file.entry for file in files if isinstance(file, _File)]

    def _next_moment(self) -> datetime:
        """Later than any before."""
        moment = self._clock()
        if self._latest is not None:
            moment = max(moment, self._latest + timedelta(microseconds=1))
        self._latest = moment
        return moment

    def _tell(self, event_type: str, moment: datetime, payload: Mapping[str, Any]) -> None:
        self.events.append({"event_type": event_type, "payload": dict(payload), "created_at": _written(moment)})


def _written(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S.%f")


def _by_name(did: Did) -> tuple[str, str]:
    return did.name, did.scope


def _metadata(there: _Collection | _File) -> dict[str, Any]:
    if isinstance(there, _File):
        return {"did_type": "FILE", **{key: getattr(there.entry, key) for key in _FILE_KEYS}}
    own = {key: getattr(there, key) for key in ("account", "is_open", "created_at", "closed_at")}
    return {**there.metadata, "did_type": there.kind, **own, "expired_at": there.expires_at, **there.counts}


_FILE_KEYS = ("bytes", "events", "adler32", "md5", "guid")
