"""Files on this machine's disks, and how they are deleted."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from typing import Final
from urllib.parse import unquote

#: In the URL of a file `#` and `?` belong to the name.
_FILE: Final = re.compile(r"file:(?://([^/]*)|(?!//))(/.*)", re.DOTALL | re.IGNORECASE)
_THIS_MACHINE: Final = ("", "localhost")


class CannotDelete(Exception):
    """The file stays. The text says why."""


def path_of(pfn: str) -> Path | None:
    """Where on this machine it lies; None if the PFN is neither an absolute path nor a URL of a local file."""
    host, path = _parted(pfn)
    return Path(path) if path and host.partition(":")[0].lower() in _THIS_MACHINE else None


def place_of(pfn: str) -> bytes | None:
    """The place that a path or the URL of a file means, however it is written, and through links; None of others.

    Of a URL the machine does not count: two of them may share a disk.
    """
    try:
        path = os.fsencode(_parted(pfn)[1])
        return os.path.realpath(path) if path else None
    except (OSError, ValueError):  # no disk can have it
        return None


def _parted(pfn: str) -> tuple[str, str]:
    """Host and path. Both are empty if it is no path."""
    if pfn.startswith("/"):
        return "", pfn
    found = _FILE.fullmatch(pfn)
    return ("", "") if found is None else (found[1] or "", unquote(found[2], errors="surrogateescape"))


def seen(pfn: str, size: int) -> str | None:
    """Which directory the file is in now, as `device:inode`; None if it is not there. Raises CannotDelete."""
    path = _demand_path(pfn)
    try:
        return _identity(path.parent) if _is_there(path, size) else None
    except (OSError, ValueError) as error:
        raise CannotDelete(f"{path} cannot be looked at: {error}") from error


def delete(pfn: str, size: int, seen_in: str | None) -> bool:
    """Delete a file, if it is the one that is meant. False: it is not there, and another file in its directory is.

    Args:
        seen_in: what `seen` told before it was to be deleted. Is it gone from that directory, then it is deleted.

    Raises CannotDelete: it is of another size or no regular file, the disk does not let go of it, or it cannot be told
    whether it is there.
    """
    path = _demand_path(pfn)
    try:
        if _is_there(path, size):
            path.unlink()
            return True
        if seen_in is not None and seen_in == _identity(path.parent):
            return True
    except (OSError, ValueError) as error:
        raise CannotDelete(f"{path} cannot be deleted: {error}") from error
    _demand_neighbours(path)
    return False


def _demand_path(pfn: str) -> Path:
    path = path_of(pfn)
    if path is None:
        raise CannotDelete(f"{pfn} is no path of this machine")
    return path


def _is_there(path: Path, size: int) -> bool:
    """Raises CannotDelete: something else is. OSError, ValueError."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(found.st_mode):
        raise CannotDelete(f"{path} is no regular file")
    if found.st_size != size:
        raise CannotDelete(f"{path} has {found.st_size:,} bytes, and {size:,} are registered")
    return True


def _identity(directory: Path) -> str | None:
    """It tells a mounted disk from the empty directory that is in its place before. None: it is not there."""
    try:
        found = directory.stat()
    except FileNotFoundError:
        return None
    return f"{found.st_dev}:{found.st_ino}"


def _demand_neighbours(path: Path) -> None:
    """A disk that is not mounted looks like a directory that is empty or not there. Raises CannotDelete."""
    try:
        with os.scandir(path.parent) as found:
            if next(found, None) is not None:
                return
    except OSError as error:
        raise CannotDelete(
            f"{path.parent} cannot be read, so it cannot be told whether the file is there: {error}"
        ) from error
    raise CannotDelete(
        f"{path.parent} is empty, so it cannot be told whether its disk is mounted: if it is, and the file is gone, put"
        " any other file there"
    )
