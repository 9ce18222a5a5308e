"""Addresses of files: how a path on disk is written as one, and read from one."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote

#: What need not be quoted in the path of a URL, though `quote` would.
_SAFE: Final = "/+=,:@~!$&'()*;"
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://([^/]*)(/.*)", re.DOTALL)
_FILE = re.compile(r"file:(?://[^/]*|(?!//))(/.*)", re.DOTALL)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*:")


def quoted(path: str) -> str:
    """A path as it stands in a URL: a server would cut it at `#` and at `?`."""
    return quote(path, safe=_SAFE, errors="surrogateescape")


def tidy(url: str) -> str:
    """A URL that somebody wrote: in one of a file `#`, `?` and blanks belong to the name, so they are quoted."""
    return quote(url, safe=_SAFE + "%", errors="surrogateescape") if url.startswith("file:") else url


def on_disk(pfn: str) -> str | None:
    """The path of a file on this machine; None if the PFN says that it is elsewhere."""
    if (found := _FILE.fullmatch(pfn)) is not None:
        return _unquoted(found[1])
    return None if not pfn or _SCHEME.match(pfn) else pfn


def parted(url: str) -> tuple[str, str, str] | None:
    """Scheme, host without its port, and path, with single slashes and nothing quoted; None if it is no URL."""
    found = _URL.fullmatch(tidy(url))
    if found is None:
        return None
    scheme, host, path = found.groups()
    return scheme, host.partition(":")[0], re.sub("/+", "/", _unquoted(path.partition("?")[0]))


def _unquoted(path: str) -> str:
    return unquote(path, errors="surrogateescape")
