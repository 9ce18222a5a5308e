"""Files are registered with a Rucio server, and attached.

The server compares nothing when a file is registered, and only size and sums when it is attached; so what it has is
looked at before anything is done.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

from rucio.common.exception import DatabaseException, Duplicate

from orchestrator.rucio.client.calls import Calls, is_servers_error
from orchestrator.rucio.client.checking import Known, check_copies, check_places, check_prefixes, compare, distinct
from orchestrator.rucio.client.reading import Reading
from orchestrator.rucio.client.rows import check_name, chunks, did_of, wire
from orchestrator.rucio.client.rses import Rse, Rses
from orchestrator.rucio.client.session import Client
from orchestrator.rucio.port import (
    CatalogError,
    CatalogUnavailable,
    DatasetClosed,
    FileDiffers,
    FileEntry,
    InvalidPfn,
    RseNotFound,
    ScopeNotFound,
)
from schemas.did import Did

#: So long a file that the server took says that it can take files, in seconds.
_FRESH: Final = 60.0

#: As it is sent.
_File = Mapping[str, Any]


class Filling:
    """Registers and attaches. Threads may share it. Raises CatalogError, as the port says."""

    def __init__(self, calls: Calls, reading: Reading, rses: Rses, clock: Callable[[], float] = time.monotonic) -> None:
        self._calls = calls
        self._reading = reading
        self._rses = rses
        self._clock = clock
        #: By RSE: the file that the server took last, and when.
        self._taken: dict[str, tuple[float, _File]] = {}

    def register(self, files: Iterable[FileEntry], rse: str) -> int:
        """How many copies are new."""
        entries = distinct(files)
        if not entries:
            return 0
        place, known, there = self._looked_at(entries, rse)
        new = [entry for entry in entries if entry.did not in there]
        for chunk in chunks(new):
            self._add(chunk, place, known)
            # somebody else may have been first in the meantime, and the server would not have said so
            compare(chunk, self._reading.registered(entry.did for entry in chunk if entry.did not in known))
        return len(new)

    def attach(self, did: Did, files: Iterable[FileEntry], rse: str | None) -> int:
        """How many were newly attached."""
        entries = distinct(files)
        if not self._reading.of_type(did, "DATASET")["is_open"]:
            raise DatasetClosed(f"{did} is closed: reopen it before files are attached")
        if not entries:
            return 0
        place, known, there = self._looked_at(entries, needed(rse))
        attached = set(map(did_of, self._reading.content(did))) if known else set()
        for chunk in chunks(entries):
            self._add([entry for entry in chunk if entry.did not in there], place, known)
            self._attach(did, [entry for entry in chunk if entry.did not in attached], known)
        return sum(entry.did not in attached for entry in entries)

    def _looked_at(self, entries: Sequence[FileEntry], rse: str) -> tuple[Rse, Known, set[Did]]:
        """Where the files go, which of them are registered, and which have a copy there already.

        Raises what can be found without changing anything.
        """
        place = self._rses.get(rse)
        known = self._reading.registered(entry.did for entry in entries)
        compare(entries, known)
        return place, known, self._check_places(entries, place, known)

    def _check_places(self, entries: Sequence[FileEntry], place: Rse, known: Known) -> set[Did]:
        """Which of the files have a copy there already: the server is slow to take them again. Raises InvalidPfn."""
        check_places(entries, place)
        copies = self._reading.copies_at(known, place.name)
        new = [entry for entry in entries if place.deterministic and entry.pfn and entry.did not in copies]
        check_copies(entries, {**copies, **self._rses.computed(place, [entry.did for entry in new])}, place)
        return set(copies)

    def demand_places(self, places: Mapping[Did, str], rse: str) -> None:
        """Raises what can be found of names and places without changing anything."""
        entries = [FileEntry(did, pfn, 0, None) for did, pfn in places.items()]
        for entry in entries:
            check_name(entry.did)
        place = self._rses.get(rse)
        check_places(entries, place)  # asks for nothing, and is wrong most often
        check_prefixes(entries, place)
        known = self._reading.registered(places)
        self._check_places(entries, place, known)
        new = [entry.did for entry in entries if entry.did not in known]
        self._reading.demand_scopes(new)
        for did in {did.scope: did for did in new}.values():
            self._demand_permission(did, place)

    def _demand_permission(self, did: Did, place: Rse) -> None:
        """Raises NotPermitted: we may not register files of this scope at the RSE.

        A file without a PFN can be registered at no RSE that does not know by itself where files lie: the server says
        so, but only to those who may register. Of an RSE that does know, only trying would tell.
        """
        if not place.deterministic:
            with suppress(InvalidPfn):
                self._calls.ask(
                    str(did), partial(_add_replicas, rse=place.name, files=[_new(FileEntry(did, "", 0, None), None)])
                )

    def _add(self, entries: Sequence[FileEntry], place: Rse, known: Known) -> None:
        """Register. Of a file that is registered the server takes the copy, and ignores all else."""
        if not entries:
            return
        files = [_new(known.get(entry.did, entry), place.pfn_of(entry)) for entry in entries]
        try:
            self._send(_about(entries), place, files)
        except InvalidPfn as error:
            raise InvalidPfn(f"{error}; {place.places()}") from error
        except CatalogError as error:
            self._find_scopes(entries, error)
            if is_servers_error(error):
                self._demand_working(place, files, error)
            raise

    def _send(self, what: str, place: Rse, files: Sequence[_File]) -> None:
        self._calls.ask(what, partial(_add_replicas, rse=place.name, files=files))
        self._taken[place.name] = (self._clock(), files[-1])

    def _demand_working(self, place: Rse, files: Sequence[_File], error: CatalogError) -> None:
        """Raises CatalogUnavailable if it is not about some of the files: the server can take none at all."""
        for file in self._samples(place, files):
            try:
                self._send(f"{file['scope']}:{file['name']}", place, [file])
                return
            except CatalogError as other:
                if not is_servers_error(other):
                    raise
        raise CatalogUnavailable(
            f"{error}; it takes no files at {place.name}, so this can be tried again: the server's log says what it is"
        ) from error

    def _samples(self, place: Rse, files: Sequence[_File]) -> Sequence[_File]:
        """One that the server took a moment ago, and would take again; else some of the files."""
        at, taken = self._taken.get(place.name, (-math.inf, {}))
        if self._clock() - at < _FRESH:
            return [taken]
        return [files[0], files[-1]] if len(files) > 1 else []

    def _find_scopes(self, entries: Sequence[FileEntry], error: CatalogError) -> None:
        """The server calls a missing scope an unknown error of its database."""
        if isinstance(getattr(error.__cause__, "__cause__", None), DatabaseException):
            try:
                self._reading.demand_scopes(entry.did for entry in entries)
            except ScopeNotFound as missing:
                raise missing from error

    def _attach(self, did: Did, entries: Sequence[FileEntry], known: Known) -> None:
        """Attach. The server compares size and sums, and takes a sum that it does not know for another one."""
        try:
            self._attach_as(did, entries, known)
        except FileDiffers:
            # registered by somebody else since we looked: with other contents, or with fewer sums
            known = self._reading.registered(entry.did for entry in entries)
            compare(entries, known)
            self._attach_as(did, entries, known)

    def _attach_as(self, did: Did, entries: Sequence[FileEntry], known: Known) -> None:
        if not entries:
            return
        attachment = {**wire(did), "dids": [_sums(entry, known.get(entry.did)) for entry in entries]}
        self._calls.ask(f"{_about(entries)} into {did}", partial(_attach_dids, attachment=attachment))


def needed(rse: str | None) -> str:
    """Raises RseNotFound."""
    if not rse:
        raise RseNotFound("it is not said at which RSE the files lie: set catalog.rse in muleteer.toml, or name one")
    return rse


def _new(entry: FileEntry, pfn: str | None) -> _File:
    """A file for `add_replicas`."""
    given = {"adler32": entry.adler32, "md5": entry.md5, "pfn": pfn, "meta": _meta(entry)}
    return {**wire(entry.did), "bytes": entry.bytes, **{key: value for key, value in given.items() if value}}


def _meta(entry: FileEntry) -> dict[str, Any]:
    given = {"guid": entry.guid, "events": entry.events}
    return {key: value for key, value in given.items() if value is not None}


def _sums(entry: FileEntry, has: FileEntry | None) -> dict[str, Any]:
    """A file for attaching, with what is compared: not a sum that the catalog does not know."""
    sums = {"adler32": entry.adler32, "md5": entry.md5}
    compared = {key: sum_ for key, sum_ in sums.items() if sum_ and (has is None or getattr(has, key) is not None)}
    return {**wire(entry.did), "bytes": entry.bytes, **compared}


def _add_replicas(client: Client, rse: str, files: Sequence[Mapping[str, Any]]) -> None:
    try:
        client.add_replicas(rse, files)
    except Duplicate:  # somebody else registered one of them at this moment
        client.add_replicas(rse, files)


def _attach_dids(client: Client, attachment: Mapping[str, Any]) -> None:
    client.attach_dids_to_dids([attachment], ignore_duplicate=True)


def _about(entries: Sequence[FileEntry]) -> str:
    first = str(entries[0].did)
    return first if len(entries) == 1 else f"{first} and {len(entries) - 1} more files"
