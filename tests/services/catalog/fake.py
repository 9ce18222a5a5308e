"""A catalog in memory, with the whole contract: as strict as a Rucio server, where one that is real is too slow."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any, Literal
from uuid import uuid4

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
    NotPermitted,
    Replica,
    ReplicationRule,
    RseNotFound,
    RuleLocked,
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
    is_incomplete: bool = False
    #: Of the last closing.
    counts: dict[str, int | None] = field(default_factory=lambda: dict.fromkeys(("bytes", "length", "events")))
    metadata: dict[str, Any] = field(default_factory=dict)
    #: DIDs of what is in it.
    content: dict[Did, None] = field(default_factory=dict)


@dataclass
class _File:
    entry: FileEntry
    created_at: datetime
    #: PFNs by RSE.
    copies: dict[str, str] = field(default_factory=dict)
    #: RSEs whose copy is to be deleted.
    tombstones: set[str] = field(default_factory=set)
    #: RSEs whose copy cannot be read now.
    away: set[str] = field(default_factory=set)


class FakeCatalog:
    """For several threads at once. What it announces is in `events`, oldest first, as hermes would write the bodies.

    What a Rucio server leaves to its daemons is done by `undertake`, `end_rules` and `reap`, or by `sweep` alone.
    """

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
        self.identity = uuid4().hex
        self._scopes = None if scopes is None else set(scopes)
        self._rses = dict(rses or {"LOCAL": ""})
        self.events: list[dict[str, Any]] = []
        self.account = account
        #: Names of calls that this account may not make.
        self.forbidden: set[str] = set()
        #: Deletes the file at a PFN when the reaper comes. Unless said nothing does: as where errors are swallowed.
        self.delete: Callable[[str], object] = lambda pfn: None
        self._replication_rules: dict[str, ReplicationRule] = {}
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
        self._add(did, "DATASET", rules.checked_metadata(did, given), lifetime)

    def add_container(self, did: Did) -> None:
        self._add(did, "CONTAINER", {}, None)

    def _add(self, did: Did, kind: Kind, metadata: dict[str, Any], lifetime: timedelta | None) -> None:
        with self._lock:
            self.demand_name(did)
            moment = self._next_moment()
            expires = None if lifetime is None else moment + lifetime
            self._dids[did] = _Collection(did, kind, self.account, moment, expires, metadata=metadata)
            event = "create_dts" if kind == "DATASET" else "create_cnt"
            expired_at = None if expires is None else _written(expires)
            self._tell(event, moment, {"account": self.account, **did._asdict(), "expired_at": expired_at})

    def demand_rse(self, rse: str | None = None) -> None:
        self._place(rse)

    def demand_name(self, did: Did) -> None:
        self._check(did)
        if did in self._dids:
            raise DidExists(f"{did} exists already: choose another name")

    def demand_places(self, places: Mapping[Did, str], rse: str | None = None) -> None:
        place = self._place(rse)
        with self._lock:
            for did, pfn in places.items():
                self._check_place(did, pfn, place)

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
        self._check_place(entry.did, entry.pfn, rse)

    def _check_place(self, did: Did, pfn: str, rse: str) -> None:
        rules.check_place(did, pfn)
        self._check(did)
        there = self._dids.get(did)
        if isinstance(there, _Collection):
            raise InvalidDid(f"{did} is no file: a file needs a name of its own")
        if not pfn.startswith(self._rses[rse]):
            raise InvalidPfn(f"{did}: {pfn} does not lie at {rse}, which keeps files at {self._rses[rse]}")
        has = there.copies.get(rse, pfn) if there is not None else pfn
        if self._rses[rse] and has != pfn:
            raise InvalidPfn(f"{did} is offered at {pfn}, and {rse} keeps it at {has}")

    def _known(self, entry: FileEntry) -> FileEntry:
        there = self._dids.get(entry.did)
        return there.entry if isinstance(there, _File) else entry

    def _copy(self, entry: FileEntry, rse: str) -> bool:
        """Whether the copy is new."""
        file = self._dids.setdefault(entry.did, _File(replace(entry, pfn=""), self._next_moment()))
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
                    "register_cnt", self._next_moment(), {"account": self.account, **container._asdict(), **names}
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
        kept = rules.checked_metadata(did, {key: value})[key]
        with self._lock:
            metadata = self._collection(did, "DATASET").metadata
            metadata.pop(key, None)
            if kept is not None:
                metadata[key] = kept

    def erase(self, did: Did) -> None:
        """Take a dataset out of the catalog. Announces `erase`. Raises DidNotFound."""
        with self._lock:
            self._collection(did, "DATASET")
            with self._letting_go():
                self._drop_rules(did)
                del self._dids[did]
                for each in self._collections("CONTAINER"):
                    each.content.pop(did, None)
            self._tell("erase", self._next_moment(), {"account": self.account, **did._asdict()})

    def sweep(self) -> None:
        """Have everything leave that is to leave, as one round of all of Rucio's daemons."""
        self.undertake()
        self.end_rules()
        self.reap()

    def undertake(self) -> None:
        """Erase what has outlived its lifetime, and end the rules on it; but not while one of them is locked.

        What is in a container leaves it, and is erased, and said to be, once more in the next round: as with Rucio.
        """
        with self._lock:
            now = self._clock()
            for each in [*self._collections("DATASET"), *self._collections("CONTAINER")]:
                locked = any(rule.locked for rule in self._rules_on(each.did))
                if each.expires_at is not None and each.expires_at <= now and not locked:
                    self._undertake(each.did)

    def _undertake(self, did: Did) -> None:
        self._tell("erase", self._next_moment(), {"account": "root", **did._asdict()})
        with self._letting_go():
            for rule in self._rules_on(did):
                del self._replication_rules[rule.id]
            above = self._above(did)
            for parent in above:
                self._take_out(parent, did)
            if not above:
                del self._dids[did]

    def end_rules(self) -> None:
        """End the rules whose lifetime is over. Copies that none holds any more are to be deleted."""
        with self._lock, self._letting_go():
            now = self._clock()
            for rule in list(self._replication_rules.values()):
                if rule.expires_at is not None and rule.expires_at <= now and not rule.locked:
                    del self._replication_rules[rule.id]

    def reap(self) -> None:
        """Delete the copies that are marked. A file whose last copy went leaves its datasets, and is no more."""
        with self._lock:
            held = self._held()
            for did, file in [(did, there) for did, there in self._dids.items() if isinstance(there, _File)]:
                for rse in sorted(file.tombstones):
                    if (did, rse) not in held and self._deleted(file, rse):
                        file.tombstones.remove(rse)
                        file.away.discard(rse)
                        del file.copies[rse]
                        if not file.copies:
                            self._forget(did)

    def _deleted(self, file: _File, rse: str) -> bool:
        outcome, told = "deletion-done", {}
        try:
            self.delete(file.copies[rse])
        except FileNotFoundError:
            outcome, told = "deletion-not-found", {"reason": "File Not Found"}
        except OSError as error:
            outcome, told = "deletion-failed", {"reason": str(error)}
            file.away.add(rse)  # it is about to be deleted as long as that fails
        size, url = file.entry.bytes, file.copies[rse]
        payload = {**file.entry.did._asdict(), "rse": rse, "file-size": size, "bytes": size, "url": url}
        more = {"protocol": "file", "datatype": None, **told, "duration": 0.001}
        self._tell(outcome, self._next_moment(), {**payload, **more})
        return outcome != "deletion-failed"

    def _forget(self, did: Did) -> None:
        """Of a file without copies."""
        above = self._above(did)
        for parent in above:
            self._take_out(parent, did)
        for parent in above:
            if not parent.is_incomplete:
                parent.is_incomplete = True
                self._tell("incomplete", self._next_moment(), {**parent.did._asdict(), "did_type": "DATASET"})
        for parent in above:
            self._leave_containers(parent.did)
            if not parent.is_open and not parent.content:
                self._drop_rules(parent.did)
                del self._dids[parent.did]
                self._tell("erase", self._next_moment(), {**parent.did._asdict(), "account": "root"})
        self._drop_rules(did)
        del self._dids[did]

    def _leave_containers(self, did: Did) -> None:
        """A Rucio server takes also a dataset that is not empty out of its containers, and those out of theirs."""
        for box in self._above(did):
            self._take_out(box, did)
            self._leave_containers(box.did)

    def _drop_rules(self, did: Did) -> None:
        for rule in self._rules_on(did):
            del self._replication_rules[rule.id]

    def _take_out(self, parent: _Collection, did: Did) -> None:
        del parent.content[did]
        child = self._kind(did)
        if parent.kind == "CONTAINER":
            names = {"childscope": did.scope, "childname": did.name, "childtype": child}
            self._tell("erase_cnt", self._next_moment(), {**parent.did._asdict(), **names})
        names = {"child_scope": did.scope, "child_name": did.name, "child_type": f"DIDType.{child}"}
        self._tell(
            "detach", self._next_moment(), {**parent.did._asdict(), "did_type": f"DIDType.{parent.kind}", **names}
        )

    def add_foreign_rule(
        self, account: str, did: Did, rse: str, lifetime: timedelta | None = None, *, locked: bool = False
    ) -> str:
        """A replication rule as somebody else makes it. Returns its id."""
        with self._lock:
            return self._add_rule(account, did, rse, lifetime, locked)

    def lock_rule(self, rule_id: str, locked: bool = True) -> None:
        """Lock a replication rule, or unlock it, as an administrator does."""
        with self._lock:
            self._replication_rules[rule_id] = replace(self._replication_rules[rule_id], locked=locked)

    def declare(self, did: Did, rse: str, *, readable: bool) -> None:
        """Say whether the copy of a file can be read, as whoever runs the RSE does."""
        with self._lock:
            file = self._dids[did]
            assert isinstance(file, _File) and rse in file.copies
            (file.away.discard if readable else file.away.add)(rse)

    def add_rule(self, did: Did, rse: str, lifetime: timedelta | None = None) -> None:
        with self._lock:
            self._demand_permission("add_rule")
            self._place(rse)
            self._demand(did)
            ours = [each for each in self._rules_on(did) if (each.account, each.rse_expression) == (self.account, rse)]
            if ours:
                self._set_rule_lifetime(ours[0], lifetime)
            else:
                self._add_rule(self.account, did, rse, lifetime, False)

    def _add_rule(self, account: str, did: Did, rse: str, lifetime: timedelta | None, locked: bool) -> str:
        self._demand(did)
        rule = ReplicationRule(uuid4().hex, did, account, rse, 1, locked, self._after(lifetime))
        self._replication_rules[rule.id] = rule
        for held, place in self._held():
            there = self._dids[held]
            assert isinstance(there, _File)
            there.tombstones.discard(place)
        return rule.id

    def set_rule_lifetime(self, rule_id: str, lifetime: timedelta | None) -> None:
        with self._lock:
            self._demand_permission("set_rule_lifetime")
            rule = self._replication_rules.get(rule_id)
            if rule is not None:
                self._set_rule_lifetime(rule, lifetime)
            elif lifetime is None:
                raise CatalogError(f"there is no replication rule {rule_id}: it has ended")

    def _set_rule_lifetime(self, rule: ReplicationRule, lifetime: timedelta | None) -> None:
        if rule.locked:
            raise RuleLocked(f"rule {rule.id} on {rule.did} is locked: whoever locked it unlocks it")
        self._replication_rules[rule.id] = replace(rule, expires_at=self._after(lifetime))

    def set_lifetime(self, did: Did, lifetime: timedelta | None) -> None:
        with self._lock:
            self._demand_permission("set_lifetime")
            there = self._dids.get(did)
            if not isinstance(there, _Collection):
                raise DidNotFound(f"there is no dataset or container {did}: it was never made, or it was erased")
            there.expires_at = self._after(lifetime)

    def set_tombstones(self, files: Iterable[Did], rse: str) -> Sequence[Did]:
        with self._lock:
            self._demand_permission("set_tombstones")
            self._place(rse)
            held = self._held()
            asked = list(dict.fromkeys(files))
            for did in asked:
                there = self._dids.get(did)
                if isinstance(there, _File) and rse in there.copies and (did, rse) not in held:
                    there.tombstones.add(rse)
        return [did for did in asked if (did, rse) in held]

    def detach(self, did: Did, dids: Iterable[Did]) -> int:
        with self._lock, self._letting_go():
            self._demand_permission("detach")
            there = self._dids.get(did)
            if not isinstance(there, _Collection):
                raise DidNotFound(f"there is no dataset or container {did}: it was never made, or it was erased")
            going = [each for each in dict.fromkeys(dids) if each in there.content]
            for each in going:
                self._take_out(there, each)
        return len(going)

    def parents(self, dids: Iterable[Did]) -> Mapping[Did, Sequence[Did]]:
        with self._lock:
            return {
                did: sorted((each.did for each in self._above(did)), key=_by_name) for did in dids if did in self._dids
            }

    def rules(self, dids: Iterable[Did]) -> Mapping[Did, Sequence[ReplicationRule]]:
        with self._lock:
            return {did: self._rules_on(did) for did in dids if did in self._dids}

    def _demand_permission(self, call: str) -> None:
        if call in self.forbidden:
            raise NotPermitted(f"{self.account} may not do this ({call}): whoever runs the catalog gives permissions")

    def _demand(self, did: Did) -> None:
        if did not in self._dids:
            raise DidNotFound(f"there is no {did}: it was never made, or it was erased")

    def _after(self, lifetime: timedelta | None) -> datetime | None:
        return None if lifetime is None else self._clock() + lifetime

    def _rules_on(self, did: Did) -> Sequence[ReplicationRule]:
        return [rule for rule in self._replication_rules.values() if rule.did == did]

    def _above(self, did: Did) -> Sequence[_Collection]:
        return [each for each in self._dids.values() if isinstance(each, _Collection) and did in each.content]

    def _kind(self, did: Did) -> str:
        there = self._dids[did]
        return there.kind if isinstance(there, _Collection) else "FILE"

    def _held(self) -> set[tuple[Did, str]]:
        """Copies that a replication rule holds: by file and RSE."""
        return {
            (did, rule.rse_expression)
            for rule in self._replication_rules.values()
            for did in {rule.did} | self._below(rule.did)
            if isinstance(there := self._dids.get(did), _File) and rule.rse_expression in there.copies
        }

    @contextmanager
    def _letting_go(self) -> Iterator[None]:
        """What a rule held before, and none holds after, is to be deleted."""
        before = self._held()
        yield
        for did, rse in before - self._held():
            if isinstance(there := self._dids.get(did), _File):
                there.tombstones.add(rse)

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
                expires_at=dataset.expires_at,
            )

    def scopes(self, pattern: str = "*") -> Sequence[str]:
        with self._lock:
            there = {did.scope for did in self._dids} if self._scopes is None else self._scopes
            return sorted(scope for scope in there if fnmatchcase(scope, pattern))

    def datasets(self, scope: str = "*", name: str = "*") -> Sequence[DatasetEntry]:
        with self._lock:
            dids = [each.did for each in self._collections("DATASET")]
            fit = [did for did in dids if fnmatchcase(did.scope, scope) and fnmatchcase(did.name, name)]
            return [self.dataset(did) for did in sorted(fit, key=_by_name)]

    def walk(self, scope: str = "*", name: str = "*") -> Iterator[DatasetEntry]:
        for entry in self.datasets(scope, name):
            with suppress(DidNotFound):
                yield self.dataset(entry.did)

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

    def replicas(
        self, dids: Iterable[Did], rse: str | None = None, *, readable: bool = True
    ) -> Mapping[Did, Sequence[Replica]]:
        there = rules.fitting("*" if rse is None else rse, self._rses)
        with self._lock:
            all_ = {each for did in dids for each in {did} | self._below(did)}
            files = {did: file for did in all_ if isinstance(file := self._dids.get(did), _File)}
            return {
                did: [
                    Replica(did, place, pfn, file.entry.bytes)
                    for place, pfn in sorted(file.copies.items())
                    if place in there and not (readable and place in file.away)
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
        own = {key: getattr(there.entry, key) for key in _FILE_KEYS}
        return {"did_type": "FILE", "created_at": there.created_at, **own}
    own = {key: getattr(there, key) for key in ("account", "is_open", "created_at", "closed_at")}
    return {**there.metadata, "did_type": there.kind, **own, "expired_at": there.expires_at, **there.counts}


_FILE_KEYS = ("bytes", "events", "adler32", "md5", "guid")
