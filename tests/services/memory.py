"""Folders in memory, where nothing waits for a disk."""

import shutil
from pathlib import Path

#: A folder that Linux keeps in memory, and how many bytes have to be free there for the files of the tests.
_MEMORY = Path("/dev/shm")
_ROOM = 2 * 1024**3


def in_memory() -> Path | None:
    """Where files of the tests may be kept in memory; None if nowhere."""
    return _MEMORY if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM else None
