"""A file that is asked for once more."""

from __future__ import annotations

from orchestrator.core.replanning import replanned
from schemas.registration import FileState, RegisteredFile

MD5, OTHER = "a" * 32, "b" * 32


def file(state: FileState = FileState.PLANNED, **fields: object) -> RegisteredFile:
    given = {"did": "s:a.root", "path": "/a.root", "pfn": "/a.root", "state": state, **fields}
    return RegisteredFile.model_validate(given)


def test_what_the_newest_list_tells_of_a_file_is_what_it_has_to_be_like() -> None:
    """A list without sums frees the file of those that an earlier manifest told; what was found out stays."""
    there = file(FileState.SUMMED, bytes=7, adler32="0" * 8, md5=MD5, modified_ns=1, told="md5")

    free, bound = replanned(there, file()), replanned(there, file(md5=MD5, told="md5"))
    other = replanned(there, file(md5=OTHER, told="md5"))

    assert free == there.model_copy(update={"told": None})
    assert bound == there
    assert (other.md5, other.told, other.adler32, other.modified_ns) == (OTHER, "md5", None, None)
