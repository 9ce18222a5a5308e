"""Which files a dataset has, as one short text that two looks can be compared by."""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import Final, NamedTuple

from schemas.did import Did

_BITS: Final = 256


class FileFacts(NamedTuple):
    """What tells a file from another one."""

    did: Did
    bytes: int
    adler32: str | None
    md5: str | None


class Contents:
    """Counts files as they come, in any order, and sums them up. Memory stays flat."""

    def __init__(self) -> None:
        self.files = 0
        self.bytes = 0
        self._sum = 0

    def take(self, file: FileFacts) -> None:
        # no two different files give the same words: no name has a line end in it
        words = f"{file.did}\n{file.bytes}\n{file.adler32 or ''}\n{file.md5 or ''}"
        # a sum does not depend on the order, and a file that is there twice does not cancel itself out
        self._sum = (self._sum + int.from_bytes(sha256(words.encode()).digest())) % (1 << _BITS)
        self.files += 1
        self.bytes += file.bytes

    @property
    def digest(self) -> str:
        """Over names, sizes and sums: 64 hexadecimal digits."""
        return sha256(f"{self.files}\n{self.bytes}\n{self._sum}".encode()).hexdigest()


def content_of(files: Iterable[FileFacts]) -> str:
    """The digest of so many files, in whatever order they come."""
    contents = Contents()
    for file in files:
        contents.take(file)
    return contents.digest
