"""What is said of a dataset that is there already."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from orchestrator.rucio.metadata import as_kept
from orchestrator.rucio.port import Catalog, CatalogError
from schemas.did import Did

#: A dataset is made a moment before or after its lifetime begins.
_ROUGHLY: Final = timedelta(minutes=1)


def describe(catalog: Catalog, dataset: Did, metadata: Mapping[str, Any]) -> None:
    """Set the metadata that a dataset lacks. What it has is never changed.

    Raises CatalogError: it has another value, or cannot have this one, and then nothing was set.
    """
    if not metadata:
        return
    known = catalog.metadata([dataset]).get(dataset, {})
    if wrong := differing(dataset, metadata, known):
        raise CatalogError(f"{dataset} is there already, {wrong}: say the same, or `muleteer catalog set-metadata`")
    for key, value in metadata.items():
        if known.get(key) is None:
            catalog.set_metadata(dataset, key, value)


def differing(did: Did, metadata: Mapping[str, Any], known: Mapping[str, Any]) -> str | None:
    """What of the metadata is otherwise than it is known, in words; None if nothing is. What is not known is none.

    Raises CatalogError: the dataset cannot have such a value.
    """
    wanted = {key: as_kept(did, key, value) for key, value in metadata.items()}
    wrong = {
        key: value for key, value in wanted.items() if known.get(key) is not None and str(known[key]) != str(value)
    }
    return "; ".join(f"with {key} {known[key]}, and not {value}" for key, value in wrong.items()) or None


def lifetime_kept(catalog: Catalog, dataset: Did, lifetime: timedelta | None) -> str:
    """A remark if a dataset has not the lifetime that is asked for: that of one that is there is never changed."""
    if lifetime is None:
        return ""
    known = catalog.metadata([dataset]).get(dataset, {})
    begun, end = known.get("created_at"), known.get("expired_at")
    if begun is not None and end is not None and abs(end - begun - lifetime) < _ROUGHLY:
        return ""
    until = "for ever" if end is None else f"until {end.isoformat(timespec='seconds')}"
    return f"; it was there before, and keeps its lifetime, which is {until}"
