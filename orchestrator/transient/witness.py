"""What lies on the disks that can be seen from here, whatever the catalog says."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple
from urllib.parse import unquote

from orchestrator.rucio.client.addresses import on_disk


class Sight(StrEnum):
    """What was seen where a file should lie."""

    #: Something lies there.
    THERE = "there"
    #: Nothing lies there.
    GONE = "gone"
    #: It is not on a disk of this machine.
    ELSEWHERE = "elsewhere"
    #: It should be seen from here, and cannot be: the disk is not mounted, or refuses.
    UNSEEN = "unseen"


class Look(NamedTuple):
    """What lies where a file should lie."""

    sight: Sight
    #: Each thing that may be meant. A link that leads nowhere is there, and leads to none.
    found: Sequence[os.stat_result] = ()


class Witness:
    """Looks at the disks. Nothing is changed."""

    def __init__(self, disks: Mapping[str, Path]) -> None:
        """`disks` has, by the beginning of a PFN, the directory in which the rest of it is seen here.

        A beginning ends where a name ends: `/data` is not the beginning of `/data2/x`.
        """
        self._disks = sorted(disks.items(), key=lambda item: len(item[0]), reverse=True)

    def sees(self, pfn: str) -> Sight:
        """Whether something lies where a PFN says.

        It is gone only from where its disk is sure to be seen: below a directory that was told and is not empty, else
        from a directory that is there.
        """
        root, paths = self._place(pfn)
        if not paths:
            return Sight.ELSEWHERE
        try:
            if root is not None and _is_empty(root):
                return Sight.UNSEEN  # an empty directory is what is left of a disk that is not mounted
            if any(_lies(path) for path in paths):
                return Sight.THERE
            return Sight.GONE if root is not None or all(path.parent.is_dir() for path in paths) else Sight.UNSEEN
        except (OSError, ValueError):
            return Sight.UNSEEN

    def why_unseen(self, pfn: str) -> str:
        """What hides the place that should be seen, and what to do, in words."""
        root, paths = self._place(pfn)
        try:
            if root is not None and _is_empty(root):
                return f"{root} is empty or not there: if its disk is mounted, put any file there"
            if root is None and not all(path.parent.is_dir() for path in paths):
                parent = paths[0].parent
                return f"{parent} is not there: if its disk is mounted, make it, or tell its disk in [transient] disks"
        except (OSError, ValueError) as error:
            return str(error)
        return "it was hidden a moment ago"

    def looks(self, pfn: str) -> Look:
        """What lies where a PFN says, links followed."""
        sight, (_, paths) = self.sees(pfn), self._place(pfn)
        if sight is not Sight.THERE:
            return Look(sight)
        try:
            return Look(sight, [found for path in paths if (found := _led_to(path)) is not None])
        except (OSError, ValueError):
            return Look(Sight.UNSEEN)

    def where(self, pfn: str) -> str:
        """The path, where it can be told; else the PFN. Where it can be read in several ways, what lies there."""
        _, paths = self._place(pfn)
        try:
            return str(next((path for path in paths if _lies(path)), next(iter(paths), pfn)))
        except (OSError, ValueError):
            return str(paths[0])

    def _place(self, pfn: str) -> tuple[Path | None, list[Path]]:
        """The disk's directory, if one was told, and the paths that may be meant; none if it lies elsewhere."""
        for prefix, root in self._disks:
            rest = pfn.removeprefix(prefix)
            if pfn.startswith(prefix) and (prefix.endswith("/") or rest[:1] in ("", "/")):
                below = [PurePosixPath("/" + each) for each in _readings(pfn, rest)]
                outside = any(".." in each.parts for each in below)
                return root, [] if outside else [root / str(each).lstrip("/") for each in below]
        path = on_disk(pfn)
        return None, [] if path is None else [Path(path)]


_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")


def _readings(pfn: str, rest: str) -> Iterator[str]:
    """What the end of an address may mean as a path, the likeliest first.

    In that of a URL characters are quoted, and what comes after `?` is for the server; but not everybody quotes. What
    lies at any of these places lies there.
    """
    if not _URL.match(pfn):
        yield rest
        return
    cut = rest if pfn.startswith("file:") else rest.partition("?")[0]
    for each in dict.fromkeys((cut, rest)):
        yield unquote(each, errors="surrogateescape")
        yield each


def _is_empty(root: Path) -> bool:
    """Whether there is nothing in a directory, or no such directory. Raises OSError: it cannot be told."""
    try:
        with os.scandir(root) as entries:
            return next(entries, None) is None
    except (FileNotFoundError, NotADirectoryError):
        return True


def _lies(path: Path) -> bool:
    """Whether anything lies there. Raises OSError, ValueError: it cannot be told."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _led_to(path: Path) -> os.stat_result | None:
    """What is at the end of its links. Raises OSError, ValueError: it cannot be told."""
    try:
        return path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
