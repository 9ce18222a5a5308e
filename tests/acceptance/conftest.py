"""Homes and destinations of their own for the acceptance tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path

import pytest

from orchestrator.store.store import Store
from tests.acceptance.home import Home, broker_settings, missing
from tests.services.activemq import ActiveMQ

_numbers = count(1)


@pytest.fixture
def destination() -> str:
    """A queue that no other test uses."""
    return f"/queue/acceptance.{os.getpid()}.{next(_numbers)}"


@pytest.fixture
def new_home(tmp_path: Path) -> Iterator[Callable[[Mapping[str, str]], Home]]:
    """Makes homes with settings. At the end whatever runs in them is ended, and none may have logged a defect."""
    if (why := missing()) is not None:
        if os.environ.get("REQUIRE_SERVICES"):
            pytest.fail(why)
        pytest.skip(why)
    homes: list[Home] = []

    def make(settings: Mapping[str, str]) -> Home:
        homes.append(Home(tmp_path / f"home-{len(homes) + 1}", settings))
        return homes[-1]

    yield make
    for home in homes:
        home.close()
    assert [defect for home in homes for defect in home.defects()] == []


@pytest.fixture
def home(
    new_home: Callable[[Mapping[str, str]], Home], store: Store, store_url: str, activemq: ActiveMQ, destination: str
) -> Home:
    """A home at the shared broker, with a queue of its own; once with each kind of database."""
    return new_home({"STORE__URL": store_url, **broker_settings(activemq, destination)})
