"""What every catalog promises of files: registered once, attached, compared."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.rucio.port import Catalog, CatalogError, DatasetClosed, FileDiffers, InvalidDid, InvalidPfn
from schemas.did import Did
from tests.contract.catalog.samples import GUID, MD5, known, strict
from tests.contract.catalogs import Desk


def test_files_are_attached(desk: Desk, catalog: Catalog, run: Did) -> None:
    """Attached files are listed by name as they were registered, and the dataset counts their bytes and events."""
    given = [
        desk.file("b.root", 20, events=5, md5=MD5, guid=GUID),
        desk.file("a.root", 10, events=7),
        desk.file("c.root", 0, adler32="00000001"),
    ]

    new = catalog.attach(run, given)

    assert new == 3
    assert known(catalog.files(run)) == known(sorted(given, key=lambda file: file.did.name))
    entry = catalog.dataset(run)
    assert (entry.bytes, entry.length, entry.events) == (30, 3, 12)
    desk.expect("create_dts")


def test_attaching_again_changes_nothing(desk: Desk, catalog: Catalog, run: Did) -> None:
    """Files that are attached already are passed over, so that attaching can be repeated; none is fine too."""
    catalog.attach(run, [desk.file("a.root")])

    new = catalog.attach(run, [desk.file("a.root"), desk.file("b.root"), desk.file("b.root")])

    assert new == 1
    assert catalog.dataset(run).length == 2
    assert catalog.attach(run, []) == 0


@pytest.mark.parametrize("other", [{"size": 11}, {"adler32": "ffffffff"}, {"md5": MD5[::-1]}])
def test_the_first_registration_wins(desk: Desk, catalog: Catalog, run: Did, other: dict[str, Any]) -> None:
    """A file registered before with another size or sum is refused, and nothing of the call is done."""
    first = desk.file("a.root", md5=MD5)
    catalog.attach(run, [first])
    offered = replace(desk.file("a.root", **other), pfn=desk.pfn(desk.rses[1], "a.root"))

    call = [desk.file("b.root", rse=desk.rses[1]), offered]

    with pytest.raises(FileDiffers, match=r"a\.root"):
        catalog.attach(run, call, desk.rses[1])
    with pytest.raises(FileDiffers, match=r"a\.root"):
        catalog.register(call, desk.rses[1])

    assert known(catalog.files(run)) == known([first])
    assert [copy.rse for copy in catalog.replicas([first.did])[first.did]] == [desk.rses[0]]
    assert catalog.attach(run, [first]) == 0


def test_one_call_cannot_say_two_things_of_a_file(desk: Desk, catalog: Catalog, run: Did) -> None:
    """The same file with two sizes in one call is refused, and nothing of the call is attached."""
    with pytest.raises(FileDiffers, match=r"a\.root"):
        catalog.attach(run, [desk.file("a.root", 10), desk.file("a.root", 11)])

    assert catalog.files(run) == []


def test_a_sum_that_is_not_known_is_not_compared(desk: Desk, catalog: Catalog, run: Did) -> None:
    """A file without an MD5 may be offered with one and the other way round; nothing is added to it later."""
    catalog.attach(run, [desk.file("without.root"), desk.file("with.root", md5=MD5, events=4, guid=GUID)])

    new = catalog.attach(run, [desk.file("without.root", md5=MD5, events=4, guid=GUID), desk.file("with.root")])

    assert new == 0
    assert known(catalog.files(run)) == known(
        [desk.file("with.root", md5=MD5, events=4, guid=GUID), desk.file("without.root")]
    )


def test_a_file_may_be_in_several_datasets(desk: Desk, catalog: Catalog, run: Did) -> None:
    """A file attached to a second dataset is the same file, and has one copy."""
    other = desk.did("OTHER")
    catalog.add_dataset(other)
    first = desk.file("a.root", events=9)
    catalog.attach(run, [first])

    new = catalog.attach(other, [first])

    assert new == 1
    assert known(catalog.files(other)) == known([first])
    assert catalog.dataset(other).events == 9
    assert [copy.pfn for copy in catalog.replicas([first.did])[first.did]] == [first.pfn]


@strict
def test_a_file_has_one_place_at_an_rse(desk: Desk, catalog: Catalog, run: Did) -> None:
    """Offered at a second one it is refused, and both are named: nobody would ever look there."""
    first = desk.file("a.root")
    catalog.attach(run, [first])
    moved = replace(first, pfn=desk.pfn(desk.rses[0], "elsewhere.root"))

    with pytest.raises(InvalidPfn, match=r"elsewhere\.root.*a\.root"):
        catalog.attach(run, [moved])
    with pytest.raises(InvalidPfn, match=r"elsewhere\.root.*a\.root"):
        catalog.register([moved])

    assert [copy.pfn for copy in catalog.replicas([first.did])[first.did]] == [first.pfn]


def test_nothing_is_attached_to_a_closed_dataset(desk: Desk, catalog: Catalog, run: Did) -> None:
    """Attaching to a closed dataset is refused, also when there is nothing new to attach."""
    catalog.attach(run, [desk.file("a.root")])
    catalog.close(run)

    for files in ([desk.file("b.root")], [desk.file("a.root")], []):
        with pytest.raises(DatasetClosed, match="RUN-00021615"):
            catalog.attach(run, files)

    assert catalog.dataset(run).length == 1


def test_a_dataset_cannot_be_attached_as_a_file(desk: Desk, catalog: Catalog, run: Did, box: Did) -> None:
    """The name of a dataset or a container cannot be the name of a file."""
    for taken in (run, box):
        with pytest.raises(InvalidDid, match=taken.name):
            catalog.attach(run, [desk.file("a.root"), replace(desk.file(), did=taken)])
        with pytest.raises(InvalidDid, match=taken.name):
            catalog.registered([taken])

    assert catalog.files(run) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"adler32": "0A1B2C3D"},
        {"adler32": "1"},
        {"adler32": None},
        {"md5": MD5.upper()},
        {"md5": "1"},
        {"guid": "no guid"},
        {"size": -1},
    ],
)
def test_a_file_needs_a_size_and_proper_sums(desk: Desk, catalog: Catalog, run: Did, wrong: dict[str, Any]) -> None:
    """A file without a proper size or Adler-32, or with an improper MD5 or GUID, is refused."""
    with pytest.raises(CatalogError, match=r"a\.root"):
        catalog.attach(run, [desk.file("a.root", **wrong)])

    assert catalog.files(run) == []


def test_files_are_registered_without_a_dataset(desk: Desk, catalog: Catalog) -> None:
    """They are known and have a copy; counted are copies that are new: none the second time, one at another RSE."""
    there, more = desk.file("a.root", events=4, md5=MD5, guid=GUID), desk.file("b.root")

    assert catalog.register([there]) == 1
    assert catalog.register([there, more]) == 1
    assert catalog.register([desk.file("a.root", rse=desk.rses[1])], rse=desk.rses[1]) == 1
    assert catalog.register([]) == 0

    assert list(catalog.registered([there.did, more.did]).values()) == known([there, more])
    desk.expect()


def test_what_is_registered_is_told(desk: Desk, catalog: Catalog, run: Did) -> None:
    """Files are found wherever they are attached, also nowhere; what there is not, or cannot be, is left out."""
    attached, alone = desk.file("a.root", md5=MD5), desk.file("b.root")
    catalog.attach(run, [attached])
    catalog.register([alone])
    never, odd = desk.did("never.root"), Did("a b", "\udc80\0:")

    found = catalog.registered([attached.did, never, odd, alone.did, alone.did])

    assert found == {attached.did: replace(attached, pfn=""), alone.did: replace(alone, pfn="")}
    assert catalog.registered([]) == {}


def test_more_than_a_thousand_at_once(desk: Desk, catalog: Catalog, run: Did) -> None:
    """Lists may be of any length."""
    files = [desk.file(f"{number:04}.root", 1) for number in range(1001)]
    dids = [file.did for file in files]

    assert catalog.attach(run, files) == 1001

    assert catalog.dataset(run).length == 1001
    assert [file.did for file in catalog.files(run)] == dids
    assert set(catalog.registered(dids)) == set(dids)
    assert set(catalog.metadata(dids)) == set(dids)
    assert set(catalog.replicas(dids)) == set(catalog.replicas([run])) == set(dids)
    assert catalog.attach(run, files) == 0
