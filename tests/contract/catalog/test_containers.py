"""What every catalog promises of containers."""

from __future__ import annotations

from datetime import timedelta

import pytest

from orchestrator.rucio.port import Catalog, CatalogError, DidNotFound
from schemas.did import Did
from tests.contract.catalogs import Desk


def test_a_container_begins_empty(desk: Desk, catalog: Catalog) -> None:
    """A new container has nothing in it."""
    did = desk.did("/A/B")

    catalog.add_container(did)

    assert catalog.children(did) == []
    desk.expect("create_cnt")


def test_a_container_holds_datasets_or_containers(desk: Desk, catalog: Catalog, run: Did, box: Did) -> None:
    """They are listed by name, in it once, counted and announced when they are new; one may be in several."""
    other, above = desk.did("A-FIRST"), desk.did("ABOVE")
    catalog.add_dataset(other)
    catalog.add_container(above)

    assert catalog.enclose(box, [run]) == 1
    assert catalog.enclose(box, [run, other, other]) == 1
    assert catalog.enclose(box, [run, other]) == 0
    assert catalog.enclose(box, []) == 0
    assert catalog.enclose(above, [run]) == 1
    assert catalog.enclose(above, [box]) == 1

    assert catalog.children(box) == [other, run]
    assert catalog.children(above) == [box, run]
    desk.expect("create_dts", "create_cnt", "create_dts", "create_cnt", *["register_cnt"] * 4)


def test_what_does_not_fit_is_not_enclosed(desk: Desk, catalog: Catalog, run: Did, box: Did) -> None:
    """A file, the container itself, one that it is in, and two kinds at once are refused, and with them the call."""
    inner, apart = desk.did("INNER"), desk.did("APART")
    catalog.add_container(inner)
    catalog.enclose(box, [inner])
    catalog.add_container(apart)
    catalog.register([desk.file("a.root")])

    for container, bad in (
        (box, [run, desk.did("a.root")]),
        (box, [box]),
        (inner, [box]),
        (box, [run, apart]),
    ):
        with pytest.raises(CatalogError):
            catalog.enclose(container, bad)

    assert (catalog.children(box), catalog.children(inner)) == ([inner], [])
    desk.expect("create_dts", "create_cnt", "create_cnt", "register_cnt", "create_cnt")


def test_both_sides_have_to_be_there(desk: Desk, catalog: Catalog, run: Did, box: Did) -> None:
    """A container or a dataset that is not there raises DidNotFound, and nothing of the call is done."""
    never = desk.did("NEVER")

    for container, children in ((never, [run]), (box, [run, never])):
        with pytest.raises(DidNotFound, match="NEVER"):
            catalog.enclose(container, children)

    assert catalog.children(box) == []
    desk.expect("create_dts", "create_cnt")


def test_an_erased_dataset_is_in_no_container(desk: Desk, catalog: Catalog, box: Did) -> None:
    """It leaves its containers."""
    catalog.add_dataset(desk.did("SHORT"), lifetime=timedelta(seconds=1))
    catalog.enclose(box, [desk.did("SHORT")])

    desk.pass_time(2)
    desk.sweep()

    assert catalog.children(box) == []
