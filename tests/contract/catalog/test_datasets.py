"""What every catalog promises of datasets: made, closed, reopened, erased, listed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from orchestrator.rucio.port import Catalog, DatasetState, DidNotFound
from schemas.did import Did
from tests.contract.catalogs import Desk


def test_a_catalog_says_where_it_is(catalog: Catalog) -> None:
    """The address is for people."""
    assert catalog.address


def test_a_dataset_begins_open_and_empty(desk: Desk, catalog: Catalog) -> None:
    """A new dataset is open, has no files, and says who made it and when, in UTC."""
    did = desk.did("RUN-00021615")

    catalog.add_dataset(did)

    entry = catalog.dataset(did)
    assert (entry.did, entry.state, entry.account) == (did, DatasetState.OPEN, desk.account)
    assert (entry.bytes, entry.length, entry.events) == (0, 0, 0)
    assert entry.closed_at is None
    assert entry.created_at.utcoffset() == timedelta(0)
    assert catalog.files(did) == []
    desk.expect("create_dts")


def test_a_dataset_is_erased_when_its_lifetime_is_over(desk: Desk, catalog: Catalog) -> None:
    """Not earlier; then it is unknown, its name may be used again, and its files stay registered."""
    short, long, forever = desk.did("SHORT"), desk.did("LONG"), desk.did("FOREVER")
    catalog.add_dataset(short, {"run_number": 7}, lifetime=timedelta(seconds=1))
    catalog.add_dataset(long, lifetime=timedelta(days=1))
    catalog.add_dataset(forever)
    catalog.attach(short, [desk.file("a.root")])
    catalog.close(short)
    old = catalog.dataset(short)

    desk.pass_time(2)
    desk.sweep()

    with pytest.raises(DidNotFound, match="SHORT"):
        catalog.dataset(short)
    assert set(catalog.metadata([short, long, forever])) == {long, forever}
    assert catalog.registered([desk.did("a.root")])
    catalog.add_dataset(short)
    new = catalog.dataset(short)
    assert (new.state, new.length, new.closed_at) == (DatasetState.OPEN, 0, None)
    assert new.created_at >= old.created_at
    assert catalog.metadata([short])[short].get("run_number") is None
    desk.expect("create_dts", "create_dts", "create_dts", "close", "erase", "create_dts")


def test_closing_is_done_once(desk: Desk, catalog: Catalog, run: Did) -> None:
    """Closing closes and is announced; closing again does nothing and announces nothing."""
    catalog.close(run)
    first = catalog.dataset(run)
    catalog.close(run)

    assert first.state is DatasetState.CLOSED
    assert first.closed_at is not None
    assert first.closed_at >= first.created_at
    assert catalog.dataset(run) == first
    desk.expect("create_dts", "close")


def test_a_closed_dataset_can_be_opened_again(desk: Desk, catalog: Catalog, run: Did) -> None:
    """Opening again is announced, takes new files, and keeps the time of the last closing; an open one stays so."""
    catalog.reopen(run)
    catalog.close(run)
    closed_at = catalog.dataset(run).closed_at

    catalog.reopen(run)
    catalog.attach(run, [desk.file()])

    entry = catalog.dataset(run)
    assert (entry.state, entry.closed_at, entry.length) == (DatasetState.OPEN, closed_at, 1)
    desk.expect("create_dts", "close", "open")


def test_an_unknown_dataset_is_said_to_be_unknown(desk: Desk, catalog: Catalog) -> None:
    """Every call on a dataset that is not there raises DidNotFound and announces nothing."""
    did = desk.did("RUN-00021615")
    calls: list[Callable[[], object]] = [
        lambda: catalog.attach(did, [desk.file()]),
        lambda: catalog.close(did),
        lambda: catalog.reopen(did),
        lambda: catalog.set_metadata(did, "run_number", 1),
        lambda: catalog.dataset(did),
        lambda: catalog.files(did),
        lambda: catalog.children(did),
        lambda: catalog.enclose(did, []),
    ]

    for call in calls:
        with pytest.raises(DidNotFound, match=f"{did.scope}:RUN-00021615"):
            call()

    assert catalog.registered([desk.did("a.root")]) == {}
    desk.expect()


def test_only_a_dataset_is_a_dataset(desk: Desk, catalog: Catalog, run: Did, box: Did) -> None:
    """A file or a container is said to be unknown where a dataset is meant, and a dataset where a container is."""
    catalog.attach(run, [desk.file("a.root")])

    for other in (box, desk.did("a.root")):
        with pytest.raises(DidNotFound, match=other.name):
            catalog.dataset(other)
    for other in (run, desk.did("a.root")):
        with pytest.raises(DidNotFound, match=other.name):
            catalog.children(other)


def test_datasets_are_listed_by_pattern(desk: Desk, catalog: Catalog, run: Did, box: Did) -> None:
    """Datasets, and they alone, are listed by name where scope and name match the patterns, case-sensitively."""
    other = desk.new_scope()
    for did in (desk.did("RUN-2"), Did(other, "RUN-1"), desk.did("run-3")):
        catalog.add_dataset(did)

    def names(scope: str, name: str = "*") -> list[str]:
        return [entry.did.name for entry in catalog.datasets(scope, name)]

    assert names(desk.scope) == ["RUN-00021615", "RUN-2", "run-3"]
    assert names(desk.scope, "RUN-?") == ["RUN-2"]
    assert names(desk.scope, "RUN-[!2]*") == ["RUN-00021615"]
    assert names(f"{other[:-1]}?") == ["RUN-1"]
    assert names("t.nobody") == []
    assert {run, Did(other, "RUN-1")} <= {entry.did for entry in catalog.datasets()}
    assert catalog.datasets(desk.scope)[0] == catalog.dataset(run)


def test_closed_datasets_are_found(desk: Desk, catalog: Catalog, run: Did) -> None:
    """Those that were closed at the moment or later and are closed now, in this scope or in all."""
    closed, reopened = desk.did("CLOSED"), desk.did("REOPENED")
    for did in (closed, reopened):
        catalog.add_dataset(did)
        catalog.close(did)
    catalog.reopen(reopened)
    entry = catalog.dataset(closed)
    assert entry.closed_at is not None

    assert list(catalog.closed_since(entry.closed_at, desk.scope)) == [entry]
    assert list(catalog.closed_since(entry.closed_at - timedelta(days=1), f"{desk.scope[:-1]}?")) == [entry]
    assert entry in list(catalog.closed_since(entry.closed_at))
    assert list(catalog.closed_since(entry.closed_at + timedelta(seconds=2), desk.scope)) == []
    assert list(catalog.closed_since(entry.closed_at, "t.nobody")) == []
