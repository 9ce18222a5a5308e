"""Fixtures of the contract tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from orchestrator.monitor.access import Tokens
from orchestrator.store.store import Store
from tests.contract.filling import World
from tests.contract.windows import asking
from tests.services.catalog import FakeCatalog
from tests.services.panda import PandaServer


@pytest.fixture
def panda() -> Iterator[PandaServer]:
    """A stand-in for a PanDA server, empty."""
    with PandaServer() as server:
        yield server


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(tmp_path / "tokens")


@pytest.fixture
def stranger(store: Store, tokens: Tokens, tmp_path: Path) -> Iterator[TestClient]:
    """A window on the store, and somebody without a token."""
    with asking(store, tokens, tmp_path) as client:
        yield client


@pytest.fixture
def client(stranger: TestClient, tokens: Tokens) -> TestClient:
    """Somebody with a token."""
    stranger.headers["Authorization"] = f"Bearer {tokens.add('me')}"
    return stranger


@pytest.fixture
def world(tmp_path: Path, store: Store) -> World:
    """Files, our record, and a catalog in memory which has nothing in it."""
    folder = tmp_path / "data"
    folder.mkdir()
    return World(folder, store, FakeCatalog())
