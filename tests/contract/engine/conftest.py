"""Fixtures of the tests of engines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.panda.embedded.engine import LocalEngine
from schemas.did import Did
from tests.contract.engine.bench import Bench, processes_of


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the embedded engine keeps its submissions."""
    return tmp_path / "engine"


@pytest.fixture
def local(tmp_path: Path, directory: Path) -> Iterator[Bench]:
    """A bench with the embedded engine."""
    folder, notes, datasets = tmp_path / "workflow", tmp_path / "notes", dict[Did, list[Path]]()
    folder.mkdir()
    notes.mkdir()
    yield Bench(LocalEngine(directory, datasets.__getitem__), folder, datasets, notes)
    for process in processes_of(directory):
        process.kill()


@pytest.fixture(params=["embedded"])
def bench(request: pytest.FixtureRequest) -> Bench:
    """A bench with each engine in turn."""
    made: Bench = request.getfixturevalue({"embedded": "local"}[request.param])
    return made
