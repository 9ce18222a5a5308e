"""A catalog that fails when it is told to."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar

from orchestrator.rucio.port import Catalog, CatalogUnavailable, DatasetEntry, FileEntry, Replica, ReplicationRule
from schemas.did import Did

T = TypeVar("T")


class When(StrEnum):
    """What of a call was done when it fails."""

    BEFORE = "before"
    #: Of a call with a list, the first half of the list; of `closed_since` and `walk`, one dataset was given; else
    #: nothing.
    MIDWAY = "midway"
    AFTER = "after"


def _away() -> BaseException:
    return CatalogUnavailable("the catalog is away: this is a test")


class Faulty:
    """Passes every call on, and counts it. Some fail: the n-th of all from 1, or the n-th of that name.

        Faulty(catalog, {3: When.AFTER, ("attach", 2): When.BEFORE})

    `error` makes what is raised, also a BaseException to play a process that is killed. `hook` is called with name and
    number before each call: it may change the world in between, or raise.
    """

    def __init__(
        self,
        catalog: Catalog,
        faults: Mapping[int | tuple[str, int], When] | None = None,
        *,
        error: Callable[[], BaseException] = _away,
        hook: Callable[[str, int], None] | None = None,
    ) -> None:
        self.address = catalog.address
        self.identity = catalog.identity
        self.account = catalog.account
        #: May be changed at any time; so may `hook`.
        self.faults = dict(faults or {})
        self.hook = hook
        #: Calls by name, those that failed too.
        self.calls: Counter[str] = Counter()
        self._catalog = catalog
        self._error = error
        self._lock = threading.Lock()

    @property
    def total(self) -> int:
        """All calls until now."""
        return self.calls.total()

    def _begin(self, name: str) -> When | None:
        with self._lock:
            self.calls[name] += 1
            number, of_name = self.total, self.calls[name]
        if self.hook is not None:
            self.hook(name, number)
        return self.faults.get(number) or self.faults.get((name, of_name))

    def _call(self, name: str, do: Callable[[], T], half: Callable[[], object] = lambda: None) -> T:
        when = self._begin(name)
        if when is None:
            return do()
        {When.BEFORE: lambda: None, When.MIDWAY: half, When.AFTER: do}[when]()
        raise self._error()

    def add_dataset(
        self, did: Did, metadata: Mapping[str, Any] | None = None, lifetime: timedelta | None = None
    ) -> None:
        self._call("add_dataset", lambda: self._catalog.add_dataset(did, metadata, lifetime))

    def add_container(self, did: Did) -> None:
        self._call("add_container", lambda: self._catalog.add_container(did))

    def demand_rse(self, rse: str | None = None) -> None:
        self._call("demand_rse", lambda: self._catalog.demand_rse(rse))

    def demand_name(self, did: Did) -> None:
        self._call("demand_name", lambda: self._catalog.demand_name(did))

    def demand_places(self, places: Mapping[Did, str], rse: str | None = None) -> None:
        self._call("demand_places", lambda: self._catalog.demand_places(places, rse))

    def register(self, files: Iterable[FileEntry], rse: str | None = None) -> int:
        all_, some = _halved(files)
        return self._call(
            "register", lambda: self._catalog.register(all_, rse), lambda: self._catalog.register(some, rse)
        )

    def attach(self, did: Did, files: Iterable[FileEntry], rse: str | None = None) -> int:
        all_, some = _halved(files)
        return self._call(
            "attach", lambda: self._catalog.attach(did, all_, rse), lambda: self._catalog.attach(did, some, rse)
        )

    def enclose(self, container: Did, dids: Iterable[Did]) -> int:
        all_, some = _halved(dids)
        return self._call(
            "enclose", lambda: self._catalog.enclose(container, all_), lambda: self._catalog.enclose(container, some)
        )

    def close(self, did: Did) -> None:
        self._call("close", lambda: self._catalog.close(did))

    def reopen(self, did: Did) -> None:
        self._call("reopen", lambda: self._catalog.reopen(did))

    def set_metadata(self, did: Did, key: str, value: str | float | bool | None) -> None:
        self._call("set_metadata", lambda: self._catalog.set_metadata(did, key, value))

    def dataset(self, did: Did) -> DatasetEntry:
        return self._call("dataset", lambda: self._catalog.dataset(did))

    def scopes(self, pattern: str = "*") -> Sequence[str]:
        return self._call("scopes", lambda: self._catalog.scopes(pattern))

    def datasets(self, scope: str = "*", name: str = "*") -> Sequence[DatasetEntry]:
        return self._call("datasets", lambda: self._catalog.datasets(scope, name))

    def walk(self, scope: str = "*", name: str = "*") -> Iterator[DatasetEntry]:
        return self._reading("walk", lambda: self._catalog.walk(scope, name))

    def closed_since(self, moment: datetime, scope: str = "*") -> Iterator[DatasetEntry]:
        return self._reading("closed_since", lambda: self._catalog.closed_since(moment, scope))

    def _reading(self, name: str, read: Callable[[], Iterator[DatasetEntry]]) -> Iterator[DatasetEntry]:
        """The fault comes while it is read: before the first, after the first, or instead of the end."""
        when = self._begin(name)
        if when is When.BEFORE:
            raise self._error()
        for entry in read():
            yield entry
            if when is When.MIDWAY:
                raise self._error()
        if when is not None:
            raise self._error()

    def files(self, did: Did) -> Sequence[FileEntry]:
        return self._call("files", lambda: self._catalog.files(did))

    def registered(self, dids: Iterable[Did]) -> Mapping[Did, FileEntry]:
        return self._call("registered", lambda: self._catalog.registered(dids))

    def children(self, container: Did) -> Sequence[Did]:
        return self._call("children", lambda: self._catalog.children(container))

    def parents(self, dids: Iterable[Did]) -> Mapping[Did, Sequence[Did]]:
        return self._call("parents", lambda: self._catalog.parents(dids))

    def rules(self, dids: Iterable[Did]) -> Mapping[Did, Sequence[ReplicationRule]]:
        return self._call("rules", lambda: self._catalog.rules(dids))

    def set_lifetime(self, did: Did, lifetime: timedelta | None) -> None:
        self._call("set_lifetime", lambda: self._catalog.set_lifetime(did, lifetime))

    def add_rule(self, did: Did, rse: str, lifetime: timedelta | None = None) -> None:
        self._call("add_rule", lambda: self._catalog.add_rule(did, rse, lifetime))

    def set_rule_lifetime(self, rule_id: str, lifetime: timedelta | None) -> None:
        self._call("set_rule_lifetime", lambda: self._catalog.set_rule_lifetime(rule_id, lifetime))

    def set_tombstones(self, files: Iterable[Did], rse: str) -> Sequence[Did]:
        all_, some = _halved(files)
        return self._call(
            "set_tombstones",
            lambda: self._catalog.set_tombstones(all_, rse),
            lambda: self._catalog.set_tombstones(some, rse),
        )

    def detach(self, did: Did, dids: Iterable[Did]) -> int:
        all_, some = _halved(dids)
        return self._call("detach", lambda: self._catalog.detach(did, all_), lambda: self._catalog.detach(did, some))

    def replicas(
        self, dids: Iterable[Did], rse: str | None = None, *, readable: bool = True
    ) -> Mapping[Did, Sequence[Replica]]:
        return self._call("replicas", lambda: self._catalog.replicas(dids, rse, readable=readable))

    def metadata(self, dids: Iterable[Did]) -> Mapping[Did, Mapping[str, Any]]:
        return self._call("metadata", lambda: self._catalog.metadata(dids))


def _halved(items: Iterable[T]) -> tuple[Sequence[T], Sequence[T]]:
    """All of them, and the first half."""
    all_ = list(items)
    return all_, all_[: len(all_) // 2]
