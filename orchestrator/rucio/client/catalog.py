"""The catalog on a Rucio server."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Literal

from rucio.common.exception import (
    DataIdentifierNotFound,
    KeyNotFound,
    UnsupportedOperation,
)

from orchestrator.clock import Clock, utc_now
from orchestrator.rucio.client.above import Above
from orchestrator.rucio.client.access import Access
from orchestrator.rucio.client.calls import Calls
from orchestrator.rucio.client.closing import Closing
from orchestrator.rucio.client.filling import Filling, needed
from orchestrator.rucio.client.holding import Holding
from orchestrator.rucio.client.reading import Reading
from orchestrator.rucio.client.rows import check_name, chunks, did_of, moment, seconds, wire
from orchestrator.rucio.client.rses import Rses
from orchestrator.rucio.client.session import Client
from orchestrator.rucio.metadata import as_kept
from orchestrator.rucio.port import (
    KEPT_METADATA,
    CatalogError,
    DatasetEntry,
    DidExists,
    DidNotFound,
    FileEntry,
    Replica,
    ReplicationRule,
)
from schemas.did import Did

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_\-]{0,254}")
#: Seconds by which two clocks may be apart that both tell whole seconds.
_ROUGHLY = 2.0


class RucioCatalog:
    """A `Catalog` on a Rucio server. Threads may share it.

    Args:
        rse: where files are registered unless it is said.
        calls: how calls are carried out, if not in the usual way.
    """

    def __init__(
        self, access: Access, *, rse: str | None = None, clock: Clock = utc_now, calls: Calls | None = None
    ) -> None:
        self.address = f"{access.host} as {access.account}"
        self.identity = access.identity
        self.account = access.account
        self._access = access
        self._rse = rse
        self._calls = calls or Calls(access)
        self._rses = Rses(self._calls)
        self._reading = Reading(self._calls)
        self._above = Above(self._calls, self._reading)
        self._filling = Filling(self._calls, self._reading, self._rses)
        self._closing = Closing(self._calls, self._reading, clock)
        self._holding = Holding(self._calls, self._reading, self._rses, access.account)

    def close_connections(self) -> None:
        self._calls.close()

    def handshake(self) -> str:
        """Who the server says that we are, and where files would be registered. Raises CatalogError."""
        version = self._calls.ask("ping", lambda client: client.ping())["version"]
        account = (self._calls.ask("whoami", lambda client: client.whoami()) or {}).get("account")
        said = f"{self._access.host} (Rucio {version}) knows us as {account}, by {self._access.auth_type}"
        if self._rse is None:
            return f"{said}; no catalog.rse is set, so whoever registers files names one"
        rse = self._rses.get(self._rse)
        kind = "by itself (deterministic)" if rse.deterministic else "where we say"
        return f"{said}; files are registered at {rse.name}, which keeps them {kind}: {rse.places()}"

    def add_dataset(
        self, did: Did, metadata: Mapping[str, Any] | None = None, lifetime: timedelta | None = None
    ) -> None:
        """After a try that was not answered, what is there counts as ours if our account made it since then, by the
        server's clock, and it is as it would be: open, empty, with this metadata. Else DidExists.
        """
        for key in metadata or {}:
            _check_key(did, key)
        if lifetime is not None and lifetime <= timedelta():
            raise CatalogError(f"{did}: a lifetime of {lifetime} is over before the dataset is there")
        given = {key: as_kept(did, key, value) for key, value in (metadata or {}).items() if value is not None}
        self._create(did, "DATASET", given, seconds(lifetime))

    def add_container(self, did: Did) -> None:
        self._create(did, "CONTAINER", {}, None)

    def _create(
        self, did: Did, kind: Literal["DATASET", "CONTAINER"], metadata: Mapping[str, Any], lifetime: int | None
    ) -> None:
        check_name(did)
        self._calls.create(
            f"{kind.lower()} {did}",
            lambda client: client.add_did(did.scope, did.name, kind, meta=metadata, lifetime=lifetime),
            partial(self._is_ours, did=did, kind=kind, metadata=metadata),
        )

    def _is_ours(self, client: Client, seconds: float, did: Did, kind: str, metadata: Mapping[str, Any]) -> bool:
        found = client.get_metadata(did.scope, did.name, plugin="ALL" if metadata else "DID_COLUMN")
        age = client.age(moment(found["created_at"]))
        return (
            (found["did_type"], found["account"], found["is_open"]) == (kind, self._access.account, True)
            and age is not None
            and age <= seconds + _ROUGHLY
            and all(found.get(key) == value for key, value in metadata.items())
            and next(iter(client.list_content(did.scope, did.name)), None) is None
        )

    def demand_rse(self, rse: str | None = None) -> None:
        self._rses.get(needed(rse or self._rse))

    def demand_name(self, did: Did) -> None:
        check_name(did)
        if self._reading.rows([did], strict=True):
            raise DidExists(f"{did} is there already: choose another name")
        self._reading.demand_scopes([did])

    def demand_places(self, places: Mapping[Did, str], rse: str | None = None) -> None:
        self._filling.demand_places(places, needed(rse or self._rse))

    def register(self, files: Iterable[FileEntry], rse: str | None = None) -> int:
        return self._filling.register(files, needed(rse or self._rse))

    def attach(self, did: Did, files: Iterable[FileEntry], rse: str | None = None) -> int:
        return self._filling.attach(did, files, rse or self._rse)

    def enclose(self, container: Did, dids: Iterable[Did]) -> int:
        self._reading.of_type(container, "CONTAINER")
        asked = list(dict.fromkeys(dids))
        rows = self._reading.rows(asked)
        for did in asked:
            if did not in rows:
                raise DidNotFound(f"there is no dataset or container {did}: it was never made, or it was erased")
            if did == container or rows[did]["did_type"] == "FILE":
                what = "the container itself" if did == container else "a file"
                raise CatalogError(f"{did} is {what}: into {container} go datasets and other containers")
        if len({rows[did]["did_type"] for did in asked}) > 1:
            raise CatalogError(f"datasets and containers cannot go into {container} together: enclose them one by one")
        there = set(map(did_of, self._reading.content(container)))
        new = [did for did in asked if did not in there]
        for chunk in chunks(new):
            attachment = {**wire(container), "dids": [wire(did) for did in chunk]}
            self._calls.ask(f"{chunk[0]} into {container}", partial(_attach, attachment=attachment))
        return len(new)

    def close(self, did: Did) -> None:
        self._set_open(did, False)

    def reopen(self, did: Did) -> None:
        self._set_open(did, True)

    def _set_open(self, did: Did, wanted: bool) -> None:
        """The server takes it for an error that a dataset is already as it should be."""
        if self._reading.of_type(did, "DATASET")["is_open"] is wanted:
            return

        def call(client: Client) -> None:
            try:
                client.set_status(did.scope, did.name, open=wanted)
            except UnsupportedOperation:  # somebody was quicker, or a try of ours that was not answered
                if client.get_did(did.scope, did.name)["open"] is not wanted:
                    raise

        self._calls.ask(f"dataset {did}", call)

    def set_metadata(self, did: Did, key: str, value: str | float | bool | None) -> None:
        _check_key(did, key)
        kept = as_kept(did, key, value)
        columns = self._reading.of_type(did, "DATASET")

        def call(client: Client) -> None:
            if kept is not None or key in columns or key == "lifetime":
                client.set_metadata(did.scope, did.name, key, kept)
                return
            # the latter of a dataset that has no such keys at all
            with suppress(KeyNotFound, DataIdentifierNotFound):
                client.delete_metadata(did.scope, did.name, key)

        self._calls.ask(f"{key} of {did}", call)

    def dataset(self, did: Did) -> DatasetEntry:
        return self._reading.dataset(did)

    def scopes(self, pattern: str = "*") -> Sequence[str]:
        return self._reading.scopes(pattern)

    def datasets(self, scope: str = "*", name: str = "*") -> Sequence[DatasetEntry]:
        return self._reading.datasets(scope, name)

    def walk(self, scope: str = "*", name: str = "*") -> Iterator[DatasetEntry]:
        return self._reading.walk(scope, name)

    def closed_since(self, moment: datetime, scope: str = "*") -> Iterator[DatasetEntry]:
        return self._closing.since(moment, scope)

    def files(self, did: Did) -> Sequence[FileEntry]:
        return self._reading.files(did)

    def registered(self, dids: Iterable[Did]) -> Mapping[Did, FileEntry]:
        return self._reading.registered(dids)

    def children(self, container: Did) -> Sequence[Did]:
        return self._reading.children(container)

    def parents(self, dids: Iterable[Did]) -> Mapping[Did, Sequence[Did]]:
        return self._above.parents(dids)

    def rules(self, dids: Iterable[Did]) -> Mapping[Did, Sequence[ReplicationRule]]:
        return self._holding.rules(dids)

    def set_lifetime(self, did: Did, lifetime: timedelta | None) -> None:
        self._reading.collection(did)
        call = partial(_set_lifetime, did=did, lifetime=seconds(lifetime))
        self._calls.ask(f"lifetime of {did}", call)

    def add_rule(self, did: Did, rse: str, lifetime: timedelta | None = None) -> None:
        self._holding.add_rule(did, rse, lifetime)

    def set_rule_lifetime(self, rule_id: str, lifetime: timedelta | None) -> None:
        self._holding.set_rule_lifetime(rule_id, lifetime)

    def set_tombstones(self, files: Iterable[Did], rse: str) -> Sequence[Did]:
        return self._holding.set_tombstones(files, rse)

    def detach(self, did: Did, dids: Iterable[Did]) -> int:
        self._reading.collection(did)
        there = set(map(did_of, self._reading.content(did)))
        going = [each for each in dict.fromkeys(dids) if each in there]
        for chunk in chunks(going):
            self._calls.ask(f"{chunk[0]} out of {did}", partial(_detach, did=did, dids=chunk))
        return len(going)

    def replicas(
        self, dids: Iterable[Did], rse: str | None = None, *, readable: bool = True
    ) -> Mapping[Did, Sequence[Replica]]:
        return self._reading.replicas(dids, rse, readable)

    def metadata(self, dids: Iterable[Did]) -> Mapping[Did, Mapping[str, Any]]:
        return self._reading.metadata(dids)


def _check_key(did: Did, key: str) -> None:
    if key in KEPT_METADATA:
        raise CatalogError(f"{did}: {key} is kept by the catalog and cannot be set")
    if not _KEY.fullmatch(key):
        raise CatalogError(f"{did}: {key!r} is no key: letters, digits, `_` and `-`, and no digit first")


def _attach(client: Client, attachment: Mapping[str, Any]) -> None:
    client.attach_dids_to_dids([attachment], ignore_duplicate=True)


def _set_lifetime(client: Client, did: Did, lifetime: int | None) -> None:
    client.set_metadata(did.scope, did.name, "lifetime", lifetime)


def _detach(client: Client, did: Did, dids: Sequence[Did]) -> None:
    """The server takes none of them out if one is out already: by somebody else, or by a try that was not answered."""
    while dids:
        try:
            client.detach_dids(did.scope, did.name, [wire(each) for each in dids])
            return
        except DataIdentifierNotFound:
            there = set(map(did_of, client.list_content(did.scope, did.name)))
            left = [each for each in dids if each in there]
            if len(left) == len(dids):
                raise
            dids = left
