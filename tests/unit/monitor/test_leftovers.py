"""What earlier launches left behind, as the catalog knows it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.leftovers import Left
from orchestrator.monitor.leftovers import in_catalog, states_in_catalog, states_of
from orchestrator.rucio.embedded.catalog import LocalCatalog
from orchestrator.rucio.port import FileEntry
from schemas.did import Did
from schemas.dispatch import DispatchId
from schemas.launch import LaunchId, LaunchState


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[LocalCatalog]:
    """It holds an open dataset, a closed one, a file and a container."""
    catalog = LocalCatalog(tmp_path / "catalog.db", lambda headers, body: None)
    for name in ("open", "closed"):
        catalog.add_dataset(Did("test", name))
    catalog.close(Did("test", "closed"))
    catalog.register([FileEntry(Did("test", "file"), "/data/file", 1, "00000001")])
    catalog.add_container(Did("test", "container"))
    yield catalog


def left(number: int, *datasets: str) -> Left:
    return Left(LaunchId(number), DispatchId(number), f"launch-{number}", LaunchState.FAILED, datasets)


def test_many_datasets_are_one_question(catalog: LocalCatalog) -> None:
    """However many launches there were, and however often a dataset is named."""
    asked: list[list[Did]] = []

    def ask(dids: Iterable[Did]) -> Mapping[Did, Mapping[str, Any]]:
        asked.append(list(dids))
        return catalog.metadata(asked[-1])

    there = states_in_catalog(ask, [left(number, f"test:{number}", "test:closed") for number in range(500)])

    assert there == {"test:closed": "closed"}
    assert [len(each) for each in asked] == [501]


def test_only_datasets_are_left_behind_and_each_as_it_stands(catalog: LocalCatalog) -> None:
    """The same as if each was asked about by itself."""
    some = [left(1, "test:open", "test:gone"), left(2, "test:closed", "test:file", "test:container")]

    there = states_in_catalog(catalog.metadata, some)

    assert there == {"test:open": "open", "test:closed": "closed"} == states_of(in_catalog(catalog.dataset, some))


def test_where_nothing_was_to_be_made_nothing_is_asked() -> None:
    def ask(dids: Iterable[Did]) -> Mapping[Did, Mapping[str, Any]]:
        raise AssertionError(dids)

    assert states_in_catalog(ask, [left(1)]) == {}
