"""A digest of files: the same files give the same one, and others do not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.transient.content import Contents, FileFacts, content_of
from schemas.did import Did

FILES = [FileFacts(Did("s", f"f{number}"), 100 + number, "00000001", None) for number in range(5)]


@given(st.permutations(FILES))
def test_the_order_does_not_matter(files: list[FileFacts]) -> None:
    """A catalog gives them in whatever order it likes."""
    assert content_of(files) == content_of(FILES)


@pytest.mark.parametrize(
    "other",
    [
        FILES[:-1],
        [],
        [*FILES, FILES[0]],
        [*FILES[1:], FILES[0]._replace(bytes=7)],
        [*FILES[1:], FILES[0]._replace(did=Did("s", "g0"))],
        [*FILES[1:], FILES[0]._replace(did=Did("t", "f0"))],
        [*FILES[1:], FILES[0]._replace(adler32="00000002")],
        [*FILES[1:], FILES[0]._replace(adler32=None, md5="00000001")],
        [*FILES[1:], FILES[0]._replace(md5="00000001")],
        [FILES[1]._replace(bytes=FILES[0].bytes), FILES[0]._replace(bytes=FILES[1].bytes), *FILES[2:]],
    ],
)
def test_any_other_file_gives_another_digest(other: list[FileFacts]) -> None:
    """A name, a size or a sum, one file more or fewer, or the same one twice."""
    assert content_of(other) != content_of(FILES)


def test_files_are_counted_as_they_come() -> None:
    """How many, and their bytes."""
    contents = Contents()
    for file in FILES:
        contents.take(file)

    assert (contents.files, contents.bytes) == (5, 510)
    assert contents.digest == content_of(iter(FILES))
    assert len(contents.digest) == 64


def test_another_md5_gives_another_digest() -> None:
    """Of two files that are alike in all else."""
    one, other = (FILES[0]._replace(md5=digit * 32) for digit in "ab")

    assert content_of([one]) != content_of([other])
