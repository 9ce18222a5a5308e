"""What every catalog promises, each sentence of `orchestrator/rucio/port.py`: those that promise it."""

from __future__ import annotations

import pytest

from orchestrator.rucio.port import Catalog
from schemas.did import Did
from tests.contract.catalogs import CATALOGS, Desk


@pytest.fixture(params=list(CATALOGS))
def desk(request: pytest.FixtureRequest) -> Desk:
    """Each catalog in turn."""
    return CATALOGS[request.param](request)


@pytest.fixture
def catalog(desk: Desk) -> Catalog:
    return desk.catalog


@pytest.fixture
def run(desk: Desk) -> Did:
    """A dataset, open and empty."""
    did = desk.did("RUN-00021615")
    desk.catalog.add_dataset(did)
    return did


@pytest.fixture
def box(desk: Desk) -> Did:
    """A container, empty."""
    did = desk.did("BOX")
    desk.catalog.add_container(did)
    return did
