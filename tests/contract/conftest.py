"""Fixtures of the contract tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.services.panda import PandaServer


@pytest.fixture
def panda() -> Iterator[PandaServer]:
    """A stand-in for a PanDA server, empty."""
    with PandaServer() as server:
        yield server
