"""A catalog that fails when it is told to."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar

from orchestrator.rucio.port import Catalog, CatalogUnavailable, DatasetEntry, FileEntry, Replica
from schemas.did import Did

T = TypeVar("T")


class When(StrEnum):
    """What of a call was done when it fails."""

    BEFORE = "before"
    #: Of a call with a list, the first half of the list; of `closed_since`, one dataset was given; else nothing.
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

    def datasets(self, scope: str = "*", name: str = "*") -> Sequence[DatasetEntry]:
        return self._call("datasets", lambda: self._catalog.datasets(scope, name))

    def closed_since(self, moment: datetime, scope: str = "*") -> Iterator[DatasetEntry]:
        """The fault comes while it is read: before the first, after the first, or instead of the end."""
        when = self._begin("closed_since")
        if when is When.BEFORE:
            raise self._error()
        for entry in self._catalog.closed_since(moment, scope):
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

    def replicas(self, dids: Iterable[Did], rse: str | None = None) -> Mapping[Did, Sequence[Replica]]:
        return self._call("replicas", lambda: self._catalog.replicas(dids, rse))

    def metadata(self, dids: Iterable[Did]) -> Mapping[Did, Mapping[str, Any]]:
        return self._call("metadata", lambda: self._catalog.metadata(dids))


def _halved(items: Iterable[T]) -> tuple[Sequence[T], Sequence[T]]:
    """All of them, and the first half."""
    all_ = list(items)
    return all_, all_[: len(all_) // 2]
