"""What can be found wrong with files before a server is asked."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.rucio.client.checking import check_copies, check_places, compare, distinct
from orchestrator.rucio.client.rses import Rse
from orchestrator.rucio.port import CatalogError, FileDiffers, FileEntry, InvalidDid, InvalidPfn
from schemas.did import Did

A = FileEntry(Did("s", "a.root"), "/data/a.root", 10, "0a1b2c3d", md5="ab" * 16)
DISK = Rse("DISK", False, (("root://x:1094/pool/", "/pool/"), ("file://localhost:0/data/", "/data/")))
DETERMINISTIC = Rse("DET", True, ())


def named(name: str) -> FileEntry:
    return replace(A, did=Did("s", name), pfn=f"/data/{name}")


def test_each_file_is_sent_once() -> None:
    """In the order in which they came."""
    b = named("b.root")

    assert distinct([b, A, b, A]) == [b, A]


@pytest.mark.parametrize("other", [{"bytes": 11}, {"adler32": "ffffffff"}, {"md5": "00" * 16}])
def test_a_file_is_one_thing(other: dict[str, Any]) -> None:
    """With other contents it is another file."""
    with pytest.raises(FileDiffers, match=r"s:a\.root comes twice, with"):
        distinct([A, replace(A, **other)])
    with pytest.raises(FileDiffers, match=r"s:a\.root is registered with"):
        compare([A], {A.did: replace(A, **other)})


def test_what_only_one_side_knows_is_not_compared() -> None:
    """A sum that is missing differs from nothing."""
    compare([A], {A.did: replace(A, md5=None, adler32=None)})
    compare([replace(A, md5=None)], {A.did: A})
    compare([A], {})


def test_both_sides_of_a_difference_are_named_and_so_many_files() -> None:
    """An error stays short, however many files differ."""
    offered = [named(f"{number}.root") for number in range(7)]

    with pytest.raises(FileDiffers) as error:
        compare(offered, {entry.did: replace(entry, bytes=11) for entry in offered})

    assert "s:0.root is registered with bytes 11, offered with 10" in str(error.value)
    assert "and 2 more" in str(error.value) and "5.root" not in str(error.value)


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        ({"bytes": -1}, CatalogError),
        ({"bytes": 1 << 63}, CatalogError),
        ({"events": 1 << 63}, CatalogError),
        ({"events": -1}, CatalogError),
        ({"adler32": None}, CatalogError),
        ({"adler32": "0A1B2C3D"}, CatalogError),
        ({"md5": "AB" * 16}, CatalogError),
        ({"guid": "5F0C1E2A-9D3B-4C4D-8E5F-60718293A4B5"}, CatalogError),
        ({"did": Did("s", "a b")}, InvalidDid),
    ],
)
def test_what_cannot_be_is_not_sent(wrong: dict[str, Any], kind: type[CatalogError]) -> None:
    """The server would take a negative size, and would compare sums in upper case as texts."""
    with pytest.raises(kind, match="s:a"):
        distinct([replace(A, **wrong)])


def test_a_path_becomes_an_address() -> None:
    """Of the protocol that has it beneath its prefix; an address stays as it is."""
    assert DISK.pfn_of(A) == "file://localhost:0/data/a.root"
    assert DISK.pfn_of(replace(A, pfn="/pool/x/a")) == "root://x:1094/pool/x/a"
    assert DISK.pfn_of(replace(A, pfn="root://y//pool/a")) == "root://y//pool/a"
    assert DETERMINISTIC.pfn_of(A) is None


def test_what_a_server_would_cut_is_quoted_or_refused() -> None:
    """An address of a file can have all in it; one of another protocol cannot have what begins its other parts."""
    assert (
        DISK.pfn_of(replace(A, pfn="/data/run #1/a?100%.root")) == "file://localhost:0/data/run%20%231/a%3F100%25.root"
    )
    assert DISK.pfn_of(replace(A, pfn="file://localhost/data/a#1")) == "file://localhost/data/a%231"
    for name in ("a#1", "a?1"):
        with pytest.raises(InvalidPfn, match=r"s:a\.root lies at /pool/a.1: no address of DISK"):
            DISK.pfn_of(replace(A, pfn=f"/pool/{name}"))


@pytest.mark.parametrize(
    ("pfn", "beneath"),
    [
        ("/data/x/a.root", "x/a.root"),
        ("file:///data/x/a.root", "x/a.root"),
        ("file://localhost//data/x//a%231.root", "x/a#1.root"),
        ("root://x//pool/x/a.root", "x/a.root"),
        ("root://x:1094/pool/x/a.root?k=v", "x/a.root"),
        ("root://y:1094/pool/x/a.root", None),
        ("root://x:1094/data/x/a.root", None),
        ("srm://x:8443/srm/managerv2?SFN=/pool/x/a.root", None),
        ("/database/a.root", None),
        ("nonsense", None),
    ],
)
def test_the_place_of_a_file_is_the_same_for_all_protocols(pfn: str, beneath: str | None) -> None:
    """What follows the prefix; nothing of what lies elsewhere."""
    assert DISK.beneath(pfn) == beneath


@pytest.mark.parametrize("pfn", ["/data/x/a.root", "/pool/x/a.root", "root://x:1094//pool/x/a.root", "srm://z/a", ""])
def test_the_same_place_by_another_protocol_is_the_same(pfn: str) -> None:
    """As is what cannot be told: SRM's places, and none at all."""
    check_copies([replace(A, pfn=pfn)], {A.did: ["file://localhost/data/x/a.root"]}, DISK)


@pytest.mark.parametrize("pfn", ["/data/y/a.root", "/elsewhere/x/a.root", "root://y:1094//pool/x/a.root"])
def test_a_second_place_is_refused_with_both(pfn: str) -> None:
    """A catalog would go on with the first, and not say so."""
    has = {A.did: ["root://proxy//whatever", "file://localhost/data/x/a.root"]}

    with pytest.raises(InvalidPfn) as error:
        check_copies([replace(A, pfn=pfn), named("new.root")], has, DISK)

    assert f"s:a.root is offered at {pfn}, and DISK keeps it at file://localhost/data/x/a.root" in str(error.value)
    check_copies([replace(A, pfn=pfn)], {A.did: ["root://proxy//whatever"]}, DISK)


@pytest.mark.parametrize("pfn", ["", "/elsewhere/a.root", "/database/a.root"])
def test_a_path_elsewhere_is_refused_with_the_places(pfn: str) -> None:
    """The error says where this RSE has files, or that a PFN is needed."""
    with pytest.raises(InvalidPfn, match="DISK"):
        DISK.pfn_of(replace(A, pfn=pfn))


def test_two_files_at_one_place_are_refused() -> None:
    """Unless the catalog decides where they are."""
    both = [A, replace(named("b.root"), pfn=A.pfn)]

    with pytest.raises(InvalidPfn, match=r"s:a\.root and s:b\.root are both said to lie at"):
        check_places(both, DISK)
    check_places(both, DETERMINISTIC)
