"""Files on disk, as the catalog wants to know them."""

from __future__ import annotations

import zlib
from pathlib import Path

from orchestrator.rucio.port import FileEntry
from schemas.did import Did


def describe_file(path: Path, scope: str) -> FileEntry:
    """A file on disk under its own name. Raises OSError if it cannot be read."""
    size, checksum = 0, 1
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            size += len(block)
            checksum = zlib.adler32(block, checksum)
    return FileEntry(Did(scope, path.name), pfn=str(path.absolute()), bytes=size, adler32=f"{checksum:08x}")
