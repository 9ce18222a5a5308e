"""What is asked of a Rucio server: nothing here changes anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Final

from rucio.common.exception import InvalidObject

from orchestrator.rucio.client.ahead import asked_ahead, pool_of
from orchestrator.rucio.client.calls import Calls
from orchestrator.rucio.client.errors import translated
from orchestrator.rucio.client.rows import (
    chunks,
    dataset_entry,
    did_of,
    file_entry,
    metadata_of,
    number,
    plain,
    readable,
    sayable,
    wire,
)
from orchestrator.rucio.client.session import Client
from orchestrator.rucio.port import (
    CatalogError,
    DatasetEntry,
    DidNotFound,
    FileEntry,
    InvalidDid,
    Replica,
    ScopeNotFound,
)
from schemas.did import Did

_Row = Mapping[str, Any]

#: Datasets whose files are counted with one request.
_COUNTED: Final = 100
#: Datasets whose metadata is asked for with one request, while others are read.
_WALKED: Final = 500
_WILD: Final = frozenset("*?[")


class Reading:
    """Questions about DIDs. Threads may share it. Raises CatalogError, as the port says."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        #: Whether the server keeps keys that are not Rucio's own. Not every database can.
        self._people_set_keys = True

    def of_type(self, did: Did, kind: str) -> _Row:
        """The metadata of a DATASET or a CONTAINER. Raises DidNotFound, also if it is something else."""
        row = self.rows([did]).get(did)
        if row is None:
            raise DidNotFound(f"there is no {kind.lower()} {did}: it was never made, or it was erased")
        if row["did_type"] != kind:
            raise DidNotFound(f"{did} is a {str(row['did_type']).lower()}, and no {kind.lower()}")
        return row

    def collection(self, did: Did) -> _Row:
        """The metadata of a dataset or a container. Raises DidNotFound, also if it is a file."""
        row = self.rows([did]).get(did)
        if row is None or row["did_type"] == "FILE":
            what = "was never made, or it was erased" if row is None else "is a file"
            raise DidNotFound(f"there is no dataset or container {did}: it {what}")
        return row

    def rows(self, dids: Iterable[Did], plugin: str = "DID_COLUMN", *, strict: bool = False) -> dict[Did, _Row]:
        """The metadata of those that there are.

        Args:
            strict: a name that the server refuses is an error: InvalidDid, as a rule. Else it is not there.
        """
        found: dict[Did, _Row] = {}
        for chunk in chunks(did for did in dict.fromkeys(dids) if sayable(did)):
            found |= self._calls.ask(_about(chunk), partial(_bulk, dids=chunk, plugin=plugin, strict=strict))
        return found

    def dataset(self, did: Did) -> DatasetEntry:
        row = self.of_type(did, "DATASET")
        return readable(lambda: dataset_entry(row, self._counts([row]).get(did)))

    def datasets(self, scope: str, name: str) -> list[DatasetEntry]:
        names = [Did(each, found) for each in self.scopes_to_ask(scope) for found in self._names(each, name)]
        return sorted(self._entries(names), key=lambda entry: (entry.did.name, entry.did.scope))

    def walk(self, scope: str, name: str) -> Iterator[DatasetEntry]:
        """As `datasets`, in no order, with the names of one scope at a time."""
        with pool_of("walk") as pool:
            for each in self.scopes_to_ask(scope):
                dids = (Did(each, found) for found in self._names(each, name))
                yield from asked_ahead(pool, self._entries, chunks(dids, _WALKED))

    def _entries(self, dids: Iterable[Did]) -> list[DatasetEntry]:
        """Of those that there are."""
        rows = list(self.rows(dids).values())
        counts = self._counts(rows)
        return readable(lambda: [dataset_entry(row, counts.get(did_of(row))) for row in rows])

    def scopes_to_ask(self, pattern: str) -> list[str]:
        """The scopes that match. One without wildcards is not looked up."""
        if not _WILD & set(pattern):
            return [pattern] if sayable(Did(pattern, "name")) and "/" not in pattern else []
        return self.scopes(pattern)

    def scopes(self, pattern: str) -> list[str]:
        """The scopes that match, of all that the server has."""
        found = self._calls.ask("the scopes", lambda client: client.list_scopes())
        return sorted(scope for scope in found if fnmatchcase(scope, pattern))

    def demand_scopes(self, dids: Iterable[Did]) -> None:
        """Raises ScopeNotFound for the first of them whose scope there is not."""
        there = set(self.scopes("*"))
        for did in dids:
            if did.scope not in there:
                raise ScopeNotFound(f"{did}: there is no scope {did.scope}: whoever runs the catalog makes scopes")

    def _names(self, scope: str, pattern: str) -> Iterator[str]:
        """The server knows `*` alone; it takes `_` in a name with `*` for any one character, so all are looked at."""
        asked = "".join("*" if character in "?[" else character for character in pattern.partition("[")[0])
        asked += "*" if "[" in pattern else ""
        found = self._calls.ask(
            f"datasets {scope}:{pattern}", lambda client: list(client.list_dids(scope, [{"name": asked}], "dataset"))
        )
        return (name for name in found if fnmatchcase(name, pattern))

    def _counts(self, rows: Iterable[_Row]) -> dict[Did, tuple[int, int, int]]:
        """Bytes, files and events of the open ones, counted: what Rucio keeps is from when they were last closed."""
        counts: dict[Did, tuple[int, int, int]] = {}
        for chunk in chunks((did_of(row) for row in rows if row["is_open"]), _COUNTED):
            counts |= self._calls.ask(_about(chunk), partial(_counted, dids=chunk))
        return counts

    def files(self, did: Did) -> list[FileEntry]:
        self.of_type(did, "DATASET")
        rows = self._calls.ask(f"files of {did}", lambda client: list(client.list_files(did.scope, did.name)))
        # one of the two has no MD5, the other neither GUIDs nor events
        sums = {did_of(row): row["md5"] for row in self.content(did)}
        entries = readable(lambda: [file_entry({**row, "md5": sums.get(did_of(row))}) for row in rows])
        return sorted(entries, key=lambda entry: (entry.did.name, entry.did.scope))

    def content(self, did: Did) -> list[_Row]:
        """What is directly in a dataset or a container."""
        return self._calls.ask(f"content of {did}", lambda client: list(client.list_content(did.scope, did.name)))

    def registered(self, dids: Iterable[Did]) -> dict[Did, FileEntry]:
        rows = self.rows(dids, strict=True)
        for did, row in rows.items():
            if row["did_type"] != "FILE":
                raise InvalidDid(f"{did} is a {str(row['did_type']).lower()}: a file needs a name of its own")
        return readable(lambda: {did: file_entry(row) for did, row in rows.items()})

    def children(self, container: Did) -> list[Did]:
        self.of_type(container, "CONTAINER")
        return sorted(map(did_of, self.content(container)), key=lambda did: (did.name, did.scope))

    def copies_at(self, files: Iterable[Did], rse: str) -> dict[Did, Sequence[str]]:
        """The PFNs of those that have a copy at this RSE, in whatever state. All must be files that there are."""
        there: dict[Did, Sequence[str]] = {}
        for chunk in chunks(files):
            rows = self._calls.ask(f"copies at {rse}", partial(_copies, dids=chunk, rse=rse, readable=False))
            there |= {did_of(row): row["rses"].get(rse, ()) for row in rows if rse in row["states"]}
        return there

    def metadata(self, dids: Iterable[Did]) -> dict[Did, dict[str, Any]]:
        asked = list(dids)
        if self._people_set_keys:
            try:
                rows = self.rows(asked, plugin="ALL")
                return readable(lambda: {did: metadata_of(row) for did, row in rows.items()})
            except CatalogError as error:
                if "Feature not in current database" not in str(error):
                    raise
                self._people_set_keys = False
        rows = self.rows(asked)
        return readable(lambda: {did: metadata_of(row) for did, row in rows.items()})

    def replicas(self, dids: Iterable[Did], rse: str | None, readable: bool) -> dict[Did, list[Replica]]:
        """The server leaves out the files of a dataset that have no copy, so they are listed first."""
        found: dict[Did, dict[str, Replica]] = {}
        for chunk in chunks(dict.fromkeys(dids)):
            known = list(self.rows(chunk))
            if not known:
                continue
            for did in self._calls.ask(_about(known), partial(_files_of, dids=known)):
                found.setdefault(did, {})
            for row in self._calls.ask(_about(known), partial(_copies, dids=known, rse=rse, readable=readable)):
                found.setdefault(did_of(row), {}).update({copy.rse: copy for copy in _replicas(row, readable)})
        return {did: [copies[name] for name in sorted(copies)] for did, copies in found.items()}


def _files_of(client: Client, dids: Sequence[Did]) -> list[Did]:
    return [did_of(row) for row in client.bulk_list_files([wire(did) for did in dids])]


def _copies(client: Client, dids: Sequence[Did], rse: str | None, readable: bool = True) -> list[_Row]:
    asked = [wire(did) for did in dids]
    return list(client.list_replicas(asked, rse_expression=rse, all_states=not readable, resolve_archives=False))


def _replicas(row: _Row, readable: bool) -> Iterator[Replica]:
    """One of each RSE: the PFN that its most preferred protocol gives. Without one there is nothing to read it by."""
    ranked = sorted(row["pfns"].items(), key=lambda item: item[1]["priority"], reverse=True)
    without = {} if readable else dict.fromkeys(row["states"], "")
    for rse, pfn in {**without, **{how["rse"]: pfn for pfn, how in ranked}}.items():
        yield Replica(did_of(row), rse, pfn, number(row["bytes"]))


def _bulk(client: Client, dids: Sequence[Did], plugin: str, strict: bool = False) -> dict[Did, _Row]:
    """One name that a server would never take spoils the list for all the others, so it is searched for."""
    try:
        return {did_of(row): row for row in client.get_metadata_bulk([wire(did) for did in dids], plugin=plugin)}
    except InvalidObject as error:
        if len(dids) == 1:
            if strict:
                raise translated(error, str(dids[0])) from error
            return {}
    return {did: row for some in _parts(dids) for did, row in _bulk(client, some, plugin, strict).items()}


def _parts(dids: Sequence[Did]) -> tuple[Sequence[Did], Sequence[Did]]:
    """What most servers take and what they do not; halves where that says nothing."""
    good, odd = [did for did in dids if plain(did)], [did for did in dids if not plain(did)]
    half = len(dids) // 2
    return (good, odd) if good and odd else (dids[:half], dids[half:])


def _counted(client: Client, dids: Sequence[Did]) -> dict[Did, tuple[int, int, int]]:
    sums = {did: (0, 0, 0) for did in dids}
    for row in client.bulk_list_files([wire(did) for did in dids]):
        did = Did(row["parent_scope"], row["parent_name"])
        bytes_, length, events = sums[did]
        sums[did] = (bytes_ + number(row["bytes"]), length + 1, events + number(row["events"]))
    return sums


def _about(dids: Sequence[Did]) -> str:
    """For errors: which DIDs a question was about."""
    return str(dids[0]) if len(dids) == 1 else f"{dids[0]} and {len(dids) - 1} more"
