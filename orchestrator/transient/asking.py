"""What the catalog and the store know of many datasets, asked in few calls. What cannot be asked is unknown."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from orchestrator.core.transient.facts import Entry, Facts, SuccessorFacts, Unknown
from orchestrator.core.transient.policies import CompiledPolicy
from orchestrator.rucio.port import Catalog, CatalogError, DatasetEntry, DatasetState, DidNotFound
from orchestrator.store.transient_readers import TransientReaders
from orchestrator.store.transients import Transients
from schemas.did import Did
from schemas.transient import Transient, TransientState

T = TypeVar("T")


def asked(question: Callable[[], T]) -> T | Unknown:
    """The catalog's answer, or why there is none."""
    try:
        return question()
    except CatalogError as error:
        return Unknown(" ".join(str(error).split()))


def entry_of(found: DatasetEntry) -> Entry:
    """A dataset, as the decisions take it."""
    return Entry(
        found.did,
        found.state is DatasetState.CLOSED,
        found.created_at,
        found.closed_at,
        found.bytes,
        found.length,
        found.expires_at,
        found.used_at,
    )


class OtherCatalog(CatalogError):
    """This is another catalog than the one in which a dataset was seen: it tells nothing of it."""


class Asker:
    """Collects facts. The store must be there: StoreUnavailable goes out."""

    def __init__(self, catalog: Catalog, readers: TransientReaders, transients: Transients) -> None:
        self._catalog = catalog
        self._readers = readers
        self._transients = transients

    @property
    def identity(self) -> str:
        """What tells the catalog from any other."""
        return self._catalog.identity

    def elsewhere(self, transient: Transient) -> str | None:
        """Why the catalog tells nothing of it, in words: it was seen in another one. None if it was seen in this one.

        What was noted before that was kept counts as seen here.
        """
        here = self._catalog.identity
        if transient.catalog is None or transient.catalog == here:
            return None
        return (
            f"{self._catalog.address} is another catalog ({here}) than the one in which it was seen "
            f"({transient.catalog}), so nothing is done and nothing is said of it: is a disk not mounted, and does "
            "[catalog] lead to the right one? If it is the same Rucio server at another address, say so with "
            f"[catalog] identity = '{transient.catalog}'"
        )

    def demand_here(self, transient: Transient) -> None:
        """Raises OtherCatalog."""
        if (why := self.elsewhere(transient)) is not None:
            raise OtherCatalog(why)

    def entry(self, did: Did) -> Entry | None:
        """What the catalog says now; None if there is no such dataset. Raises CatalogError."""
        try:
            return entry_of(self._catalog.dataset(did))
        except DidNotFound:
            return None

    def facts(
        self,
        policy: CompiledPolicy,
        entries: Sequence[Entry],
        *,
        policies: Mapping[Did, Collection[str]],
        newest_runs: Collection[int] | Unknown,
        closely: bool = False,
    ) -> list[Facts]:
        """The facts of datasets that the policy matches, in their order.

        Args:
            policies: the names of all policies that match each.
            closely: successors are asked for one by one, so that what is in them is counted as it is now.
        """
        dids = [entry.did for entry in entries]
        values = {did: policy.values(did) or {} for did in dids}
        named = {did: policy.successor(values[did]) for did in dids}
        names = {did: name for did, name in named.items() if isinstance(name, Did)}
        successors = self._successors(list(dict.fromkeys(names.values())), closely)
        metadata = self._metadata(dids) if policy.asks_metadata else dict[Did, Mapping[str, Any] | Unknown]()
        in_use, last_use = self._readers.in_use(dids), self._readers.last_use(dids)
        makers, rests = self._readers.makers(dids), self._transients.resting_on(dids)
        lives = self._transients.lives(dids)
        return [
            Facts(
                entry=entry,
                values=values[entry.did],
                metadata=metadata.get(entry.did, {}),
                in_use=in_use.get(entry.did),
                makers=makers.get(entry.did, ()),
                last_use=last_use.get(entry.did),
                rests=rests.get(entry.did, ()),
                extended_until=_extended(entry, lives.get(entry.did, ())),
                policies=policies[entry.did],
                newest_runs=newest_runs,
                successor=successors[names[entry.did]] if entry.did in names else None,
            )
            for entry in entries
        ]

    def _metadata(self, dids: Sequence[Did]) -> dict[Did, Mapping[str, Any] | Unknown]:
        found = asked(lambda: self._catalog.metadata(dids))
        if isinstance(found, Unknown):
            return dict.fromkeys(dids, found)
        return {did: found.get(did, Unknown("the catalog does not have it any more")) for did in dids}

    def _successors(self, dids: Sequence[Did], closely: bool) -> Mapping[Did, SuccessorFacts]:
        entries = {did: asked(partial(self.entry, did)) for did in dids} if closely else self._entries(dids)
        makers, lives = self._readers.makers(dids), self._transients.lives(dids)
        return {
            did: SuccessorFacts(did, entries[did], _state(entries[did], lives.get(did, ())), makers.get(did, ()))
            for did in dids
        }

    def _entries(self, dids: Sequence[Did]) -> dict[Did, Entry | Unknown | None]:
        """By their metadata, which comes in few calls. Files are those of the last closing."""
        found = asked(lambda: self._catalog.metadata(dids)) if dids else {}
        if isinstance(found, Unknown):
            return dict.fromkeys(dids, found)
        return {did: _by_metadata(did, found[did]) if did in found else None for did in dids}


def _by_metadata(did: Did, known: Mapping[str, Any]) -> Entry | Unknown | None:
    """None if it is no dataset."""
    if known.get("did_type") != "DATASET":
        return None
    born_at, closed_at = known.get("created_at"), known.get("closed_at")
    if not isinstance(born_at, datetime):
        return Unknown("the catalog does not tell when it was made")
    return Entry(
        did,
        known.get("is_open") is False,
        born_at,
        closed_at if isinstance(closed_at, datetime) else None,
        int(known.get("bytes") or 0),
        int(known.get("length") or 0),
        known.get("expired_at"),
        known.get("accessed_at"),
    )


def _extended(entry: Entry, lives: Iterable[Transient]) -> datetime | None:
    found = (each.extended_until for each in lives if each.born_at == entry.born_at)
    return max((until for until in found if until is not None), default=None)


def _state(entry: Entry | Unknown | None, lives: Iterable[Transient]) -> TransientState | Unknown | None:
    """Where this life of it stands. One that was said to have vanished and is there is as if nobody had said so."""
    if isinstance(entry, Unknown) or entry is None:
        return entry
    return next((each.state for each in lives if each.born_at == entry.born_at and not each.vanished), None)
