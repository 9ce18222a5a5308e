"""What every catalog promises of metadata."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from orchestrator.rucio.port import KEPT_METADATA, Catalog, CatalogError
from schemas.did import Did
from tests.contract.catalog.samples import MD5
from tests.contract.catalogs import Desk


def test_a_dataset_is_made_with_its_metadata(desk: Desk, catalog: Catalog) -> None:
    """Metadata given at creation is there from the first moment, and no further event tells of it."""
    did = desk.did("RUN-00021615")

    catalog.add_dataset(did, {"run_number": 21615, "beam": "Au"})

    found = catalog.metadata([did])[did]
    assert (found["run_number"], found["beam"]) == (21615, "Au")
    desk.expect("create_dts")


@pytest.mark.parametrize("key", sorted(KEPT_METADATA))
def test_what_the_catalog_keeps_is_not_given(desk: Desk, catalog: Catalog, key: str) -> None:
    """A dataset cannot be made with metadata that the catalog keeps itself."""
    with pytest.raises(CatalogError, match=key):
        catalog.add_dataset(desk.did("RUN"), {key: 1})


def test_metadata_of_many_is_asked_for_at_once(desk: Desk, catalog: Catalog, run: Did, box: Did) -> None:
    """Rucio's keys by DID, of datasets, containers and files alike, times in UTC; what there is not is left out."""
    file = desk.file("a.root", 10, events=3, md5=MD5)
    catalog.attach(run, [file])
    catalog.close(run)
    never, odd = desk.did("NEVER"), Did("a b", "\udc80\0:")

    found = catalog.metadata([run, box, file.did, never, odd, run])

    assert set(found) == {run, box, file.did}
    entry = catalog.dataset(run)
    keys = ("account", "bytes", "length", "events", "created_at", "closed_at")
    assert {key: found[run][key] for key in keys} == {key: getattr(entry, key) for key in keys}
    assert (found[run]["did_type"], found[run]["is_open"], found[run]["expired_at"]) == ("DATASET", False, None)
    assert (found[box]["did_type"], found[box]["is_open"]) == ("CONTAINER", True)
    told = {key: found[file.did][key] for key in ("did_type", "bytes", "events", "adler32", "md5")}
    assert told == {"did_type": "FILE", "bytes": 10, "events": 3, "adler32": "0a1b2c3d", "md5": MD5}
    assert found[run]["created_at"] <= found[file.did]["created_at"] <= found[run]["closed_at"]
    assert catalog.metadata([]) == {}


def test_metadata_counts_what_was_there_at_the_last_closing(desk: Desk, catalog: Catalog, run: Did) -> None:
    """Nothing before the first, and not what came after it: that is Rucio's way."""
    catalog.attach(run, [desk.file("a.root", 10, events=3)])
    keys = ("bytes", "length", "events", "closed_at")
    assert [catalog.metadata([run])[run][key] for key in keys] == [None] * 4
    catalog.close(run)
    catalog.reopen(run)
    catalog.attach(run, [desk.file("b.root", 20)])

    found = catalog.metadata([run])[run]

    assert [found[key] for key in keys] == [10, 1, 3, catalog.dataset(run).closed_at]
    assert found["is_open"] is True


@pytest.mark.parametrize(
    ("key", "value"),
    [("run_number", 21615), ("field", 1.5), ("good", True), ("beam", "2025p000"), ("beam", "00021615")],
)
def test_people_set_metadata(desk: Desk, catalog: Catalog, run: Did, key: str, value: str | float | bool) -> None:
    """A key keeps its value as it is, until it is set anew or taken away. No event tells of it."""
    catalog.set_metadata(run, key, 1)
    catalog.set_metadata(run, key, value)

    found = catalog.metadata([run])[run][key]

    assert found == value and type(found) is type(value)
    catalog.set_metadata(run, key, None)
    assert catalog.metadata([run])[run].get(key) is None
    catalog.set_metadata(run, key, None)
    desk.expect("create_dts")


@pytest.mark.parametrize("value", ["abc", "21615b", 1.5, True, 2**31, "9" * 5000])
def test_a_run_number_is_a_number(desk: Desk, catalog: Catalog, run: Did, value: str | float | bool) -> None:
    """Anything else is refused with the key and the value, when a dataset is made and afterwards."""
    deeds: list[Callable[[], None]] = [
        lambda: catalog.set_metadata(run, "run_number", value),
        lambda: catalog.add_dataset(desk.did("OTHER"), {"run_number": value}),
    ]
    for deed in deeds:
        with pytest.raises(CatalogError, match="run_number is a whole number") as error:
            deed()
        assert repr(value)[:60] in str(error.value)

    assert catalog.metadata([run])[run].get("run_number") is None
    assert catalog.metadata([desk.did("OTHER")]) == {}


def test_a_run_number_with_zeros_before_it_is_that_number(desk: Desk, catalog: Catalog, run: Did) -> None:
    """It is captured so from a name, and rules compare it as a number."""
    catalog.set_metadata(run, "run_number", "00021615")
    catalog.add_dataset(desk.did("OTHER"), {"run_number": "00021616"})

    known = catalog.metadata([run, desk.did("OTHER")])
    assert (known[run]["run_number"], known[desk.did("OTHER")]["run_number"]) == (21615, 21616)


@pytest.mark.parametrize("key", ["", *sorted(KEPT_METADATA)])
def test_what_the_catalog_keeps_nobody_sets(catalog: Catalog, run: Did, key: str) -> None:
    """Names, counts, sums, times and owner are the catalog's own, and a key needs a name."""
    before = catalog.metadata([run])[run].get(key)

    for value in (1, "text", None):
        with pytest.raises(CatalogError, match=run.name):
            catalog.set_metadata(run, key, value)

    assert catalog.metadata([run])[run].get(key) == before
