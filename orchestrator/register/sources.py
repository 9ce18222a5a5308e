"""Where files come from: words of a command line, folders, patterns, URLs, and manifests in files or on a pipe."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from orchestrator.core.registering import Mistold, Told
from orchestrator.register.manifest_reading import printable, read_binary
from orchestrator.register.manifests import Format
from schemas.registration import ManifestEntry

#: A folder on the disk, however it is called.
_Identity = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Sources:
    """Finds files. What cannot be found is told too, and does not end it."""

    #: Where relative names begin.
    folder: Path
    #: Also files and folders whose name begins with a dot.
    hidden: bool = False
    #: Look into folders that links point to. Links to files are told in any case.
    follow_links: bool = False

    def from_words(self, words: Iterable[str]) -> Iterator[Told | Mistold]:
        """Files, folders with all that is in them, URLs, and patterns of names (`**` for any folders)."""
        for word in words:
            path = self.folder / word
            if "://" in word:
                yield _told(word, word)
            elif path.is_symlink() or path.exists():
                yield from self._from_path(path, word)
            elif glob.has_magic(word):
                yield from self._from_pattern(path, word)
            else:
                yield Mistold(printable(word), "there is no such file")

    def from_manifest(self, name: str, format_: Format | None = None) -> Iterator[Told | Mistold]:
        """The entries of a manifest in a file. Relative PFNs begin where it lies. One without any is told."""
        path = self.folder / name
        try:
            with path.open("rb") as file:
                yield from _not_empty(read_binary(file, str(path), path.parent, format_), str(path))
        except OSError as error:
            yield Mistold(printable(str(path)), f"it cannot be read: {error.strerror}")

    def from_stream(self, stream: BinaryIO, name: str, format_: Format | None = None) -> Iterator[Told | Mistold]:
        """The entries of a manifest that comes from elsewhere, for example standard input."""
        return _not_empty(read_binary(stream, name, self.folder, format_), name)

    def _from_path(self, path: Path, word: str) -> Iterator[Told | Mistold]:
        path = _plain(path)
        if not path.is_dir():
            yield _told(str(path), word)
            return
        empty = True
        for telling in self._from_folder(path, word, ()):
            empty = False
            yield telling
        if empty:
            yield Mistold(printable(word), "there are no files in this folder")

    def _from_pattern(self, pattern: Path, word: str) -> Iterator[Told | Mistold]:
        found = sorted(glob.glob(str(pattern), recursive=True, include_hidden=self.hidden))  # noqa: PTH207  # takes hidden
        if not found:
            yield Mistold(printable(word), "no file fits this pattern")
        for path in map(Path, found):
            # what is in a folder fits `**` by itself
            if "**" not in word or not path.is_dir():
                yield from self._from_path(path, word)

    def _from_folder(self, folder: Path, word: str, above: tuple[_Identity, ...]) -> Iterator[Told | Mistold]:
        try:
            status = folder.stat()
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            yield Mistold(printable(str(folder)), f"this folder cannot be read: {error.strerror}")
            return
        here = (status.st_dev, status.st_ino)
        if here in above:
            yield Mistold(printable(str(folder)), "this link leads back to a folder above it")
            return
        for entry in found:
            if self.hidden or not entry.name.startswith("."):
                yield from self._from_entry(entry, word, (*above, here))

    def _from_entry(self, entry: os.DirEntry[str], word: str, above: tuple[_Identity, ...]) -> Iterator[Told | Mistold]:
        # what the folder says of its entries spares a call for each of them
        if entry.is_dir(follow_symlinks=False):
            yield from self._from_folder(Path(entry), word, above)
        elif not (entry.is_symlink() and Path(entry).is_dir()):
            yield _told(entry.path, word)
        elif self.follow_links:
            yield from self._from_folder(Path(entry), word, above)
        else:
            yield Mistold(
                printable(entry.path), "it is a link to a folder: name the folder, or set registration.follow_links"
            )


def _not_empty(tellings: Iterator[Told | Mistold], name: str) -> Iterator[Told | Mistold]:
    """Whoever wrote a manifest without an entry, or died before he did, meant files."""
    empty = True
    for telling in tellings:
        empty = False
        yield telling
    if empty:
        yield Mistold(printable(name), "it names no file")


def _plain(path: Path) -> Path:
    """Without `..`, which may mean something else behind a link."""
    if path.name == "..":
        return path.resolve()
    return path.parent.resolve() / path.name if ".." in path.parts else path


def _told(pfn: str, word: str) -> Told | Mistold:
    try:
        return Told(ManifestEntry(pfn=pfn), printable(word))
    except ValidationError:
        return Mistold(printable(word), f"the name of {printable(pfn)} is not UTF-8: rename it")
