"""Which of the datasets that earlier launches were to make are there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from orchestrator.core.leftovers import Left
from orchestrator.rucio.port import DatasetEntry, DatasetState, DidNotFound
from schemas.did import Did

#: What the catalog knows of a dataset. Raises CatalogError, DidNotFound among them.
AskDataset = Callable[[Did], DatasetEntry]

#: What the catalog knows of many DIDs, in few calls, without those that it does not have. Raises CatalogError.
AskMany = Callable[[Iterable[Did]], Mapping[Did, Mapping[str, Any]]]


def in_catalog(ask: AskDataset, left: Sequence[Left]) -> Mapping[str, DatasetEntry]:
    """Those of the datasets that are there, each asked for once. Raises CatalogError."""
    there: dict[str, DatasetEntry] = {}
    for did in _datasets(left):
        try:
            there[str(did)] = ask(did)
        except DidNotFound:
            continue
    return there


def states_in_catalog(ask: AskMany, left: Sequence[Left]) -> Mapping[str, str]:
    """How those of the datasets stand that are there, in few calls however many they are. Raises CatalogError."""
    wanted = _datasets(left)
    known = ask(wanted) if wanted else {}
    return {
        str(did): DatasetState.OPEN if known[did].get("is_open") else DatasetState.CLOSED
        for did in wanted
        if did in known and known[did].get("did_type") == "DATASET"
    }


def states_of(there: Mapping[str, DatasetEntry]) -> Mapping[str, str]:
    """How they stand."""
    return {did: entry.state for did, entry in there.items()}


def _datasets(left: Sequence[Left]) -> list[Did]:
    return [Did.parse(name) for name in dict.fromkeys(did for each in left for did in each.datasets)]
