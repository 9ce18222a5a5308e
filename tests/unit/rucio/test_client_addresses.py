"""Paths on disk as addresses, and back."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.rucio.client.addresses import on_disk, parted, quoted, tidy

#: Whatever a path may have in it; what is not UTF-8 comes as a surrogate.
PATHS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])) | st.binary().map(
    lambda raw: raw.decode(errors="surrogateescape")
)


@given(PATHS)
@example("100%20#1?.root")
def test_a_path_comes_back_from_its_address(rest: str) -> None:
    """Whatever is in it."""
    assert on_disk(f"file://localhost:0/{quoted(rest)}") == f"/{rest}"
    assert on_disk(f"/{rest}") == f"/{rest}"


@pytest.mark.parametrize("plain", ["/direct/phnx+data/a=1,b@c:d~e.root", "/data/DST_CALO-00021615-0001.root"])
def test_a_usual_path_is_written_as_it_is(plain: str) -> None:
    """Nothing is quoted that a server leaves alone: others may compare it."""
    assert quoted(plain) == plain


def test_an_address_that_somebody_wrote_is_not_cut() -> None:
    """Of a file's, `#` and `?` are in its name; what is quoted already is not quoted again; others stay."""
    assert tidy("file:///data/run #1/a?.root") == "file:///data/run%20%231/a%3F.root"
    assert tidy("file:///data/a%20b.root") == "file:///data/a%20b.root"
    assert tidy("root://x:1094//pool/a?svcClass=b") == "root://x:1094//pool/a?svcClass=b"


@pytest.mark.parametrize(
    ("pfn", "path"),
    [
        ("file:///data/a#1.root", "/data/a#1.root"),
        ("file:///data/a?x=1", "/data/a?x=1"),
        ("file://localhost/data/a%231%20b.root", "/data/a#1 b.root"),
        ("file:/data/100%.root", "/data/100%.root"),
        ("/data/a#1?%20.root", "/data/a#1?%20.root"),
        ("root://x:1094//data/a.root", None),
        ("srm://x/managerv2?SFN=/data/a", None),
        ("file://localhost", None),
        ("", None),
    ],
)
def test_what_is_on_disk_has_a_path(pfn: str, path: str | None) -> None:
    """A path, or the URL of a file; nothing else."""
    assert on_disk(pfn) == path


def test_an_address_has_three_parts() -> None:
    """Without port, doubled slashes, and what follows the path."""
    assert parted("root://x:1094//pool//a%20b?k=v") == ("root", "x", "/pool/a b")
    assert parted("file:///a#1") == ("file", "", "/a#1")
    assert parted("/data/a") is parted("srm:x") is None
