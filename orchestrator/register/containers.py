"""Containers above a dataset: made where there are none, and each put into the one above it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise

from orchestrator.rucio.port import Catalog, DidExists
from schemas.did import Did


def way_down(text: str, scope: str) -> Sequence[Did]:
    """The containers of a way, outermost first: `A/B/C`, or `scope:A/B/C` for another scope than the dataset's.

    Raises:
        ValueError: there is no name in it, or one that is empty.
    """
    before, colon, names = text.rpartition(":")
    parts = names.strip("/").split("/")
    if not all(parts) or (colon and not before):
        raise ValueError(f"{text!r} is no way of containers: write A/B/C, or scope:A/B/C, the outermost first")
    return [Did(before or scope, name) for name in parts]


def make(catalog: Catalog, ways: Sequence[Sequence[Did]]) -> None:
    """Make those containers that there are not. Doing it twice changes nothing. Raises CatalogError."""
    for container in dict.fromkeys(did for way in ways for did in way):
        with suppress(DidExists):
            catalog.add_container(container)


def put_into(catalog: Catalog, dataset: Did, ways: Sequence[Sequence[Did]]) -> None:
    """Put the dataset under each of the ways. Doing it twice changes nothing. Raises CatalogError."""
    for above, below in dict.fromkeys(pair for way in ways for pair in pairwise([*way, dataset])):
        catalog.enclose(above, [below])
