"""A launch's files in the archive's folders: whatever lies there already leads nothing astray."""

from __future__ import annotations

import os
from collections.abc import Container, Mapping
from pathlib import Path, PurePosixPath

from orchestrator.launch.git_page import RECORD
from orchestrator.store.launch_archive import ArchivedFile


def can_be_kept(path: str) -> bool:
    """Not outside of its folder, not in place of the record, and nothing that git takes for its own."""
    pure = PurePosixPath(path)
    odd = any(part == ".." or part.lower().startswith(".git") for part in pure.parts)
    return not pure.is_absolute() and not odd and path != RECORD


def write(
    directory: Path, path: str, left_out: Container[str], package: Mapping[str, ArchivedFile], record: bytes
) -> None:
    """Write a launch's files, and its record, into its folder. Raises OSError."""
    folder = _plain_folder(directory, path)
    for name, file in package.items():
        if name not in left_out:
            pure = PurePosixPath(name)
            put(_plain_folder(folder, str(pure.parent)) / pure.name, file.content, 0o755 if file.executable else 0o644)
    put(folder / RECORD, record, 0o644)


def put(place: Path, content: bytes, mode: int) -> None:
    """Replace a file at once: whatever is there, even a link, is not written through."""
    fresh = place.with_name(f".{place.name}.fresh")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    fresh.chmod(mode)
    fresh.replace(place)


def _plain_folder(directory: Path, path: str) -> Path:
    """The folder, made if need be; a link in its place would lead elsewhere. Raises OSError."""
    for part in PurePosixPath(path).parts:
        directory = directory / part
        if directory.is_symlink():
            directory.unlink()
        directory.mkdir(exist_ok=True)
    return directory
