"""What can be found wrong with files before anything is changed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from orchestrator.rucio.client.rows import check_name
from orchestrator.rucio.client.rses import Rse
from orchestrator.rucio.port import CatalogError, FileDiffers, FileEntry, InvalidPfn
from schemas.did import Did

_ADLER32 = re.compile(r"[0-9a-f]{8}")
_MD5 = re.compile(r"[0-9a-f]{32}")
_GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: The server's numbers are smaller.
_TOO_LARGE: Final = 1 << 63
#: Files that differ, or lie nowhere, that an error names.
_NAMED: Final = 5

Known = Mapping[Did, FileEntry]


def distinct(files: Iterable[FileEntry]) -> list[FileEntry]:
    """Each file once, in order; the server fails on one that comes twice.

    Raises:
        FileDiffers: one comes twice, with different contents.
        InvalidDid, CatalogError: a name, a size or a sum cannot be one.
    """
    found: dict[Did, FileEntry] = {}
    for entry in files:
        entry = normal(entry)
        if (difference := _difference(found.setdefault(entry.did, entry), entry)) is not None:
            raise FileDiffers(f"{entry.did} comes twice, {difference}: only one can have this name")
    return list(found.values())


def normal(entry: FileEntry) -> FileEntry:
    """As it is sent. Raises InvalidDid, CatalogError."""
    check_name(entry.did)
    if not 0 <= entry.bytes < _TOO_LARGE:
        raise CatalogError(f"{entry.did}: a size of {entry.bytes} bytes cannot be")
    if entry.events is not None and not 0 <= entry.events < _TOO_LARGE:
        raise CatalogError(f"{entry.did}: {entry.events} events cannot be")
    if entry.adler32 is None or not _ADLER32.fullmatch(entry.adler32):
        raise CatalogError(f"{entry.did}: adler32 {entry.adler32!r} is not eight lower-case hexadecimal digits")
    if entry.md5 is not None and not _MD5.fullmatch(entry.md5):
        raise CatalogError(f"{entry.did}: md5 {entry.md5!r} is not 32 lower-case hexadecimal digits")
    if entry.guid is not None and not _GUID.fullmatch(entry.guid):
        raise CatalogError(f"{entry.did}: guid {entry.guid!r} is not of lower-case hexadecimal digits with dashes")
    return entry


def check_places(entries: Iterable[FileEntry], place: Rse) -> None:
    """Raises InvalidPfn for a file that is nowhere, or where another one is, which the server would not mind."""
    owners: dict[str, Did] = {}
    for entry in entries:
        pfn = place.pfn_of(entry)
        if pfn is not None and (owner := owners.setdefault(pfn, entry.did)) != entry.did:
            raise InvalidPfn(f"{owner} and {entry.did} are both said to lie at {pfn}: one of them does not")


def check_prefixes(entries: Iterable[FileEntry], place: Rse) -> None:
    """Raises InvalidPfn for a URL of a protocol of the RSE beneath none of its prefixes: the server would say so."""
    for entry in entries:
        scheme = entry.pfn.partition("://")[0]
        known = any(url.startswith(f"{scheme}://") for url, _ in place.prefixes)
        if known and not place.deterministic and place.beneath(entry.pfn) is None:
            raise InvalidPfn(f"{entry.did} lies at {entry.pfn}; {place.places()}")


def check_copies(entries: Iterable[FileEntry], has: Mapping[Did, Sequence[str]], place: Rse) -> None:
    """Raises InvalidPfn, which names both, if a file is offered at another place than where the RSE has it.

    Args:
        has: PFNs of the file there, one for each protocol that the server tells.
    """
    wrong = []
    for entry in entries:
        there = {where: pfn for pfn in has.get(entry.did, ()) if (where := place.beneath(pfn)) is not None}
        # what cannot be told is not: where a server tells addresses of some proxy, or SRM hides the path
        told = entry.pfn and there and not entry.pfn.startswith("srm:")
        if told and place.beneath(entry.pfn) not in there:
            first = next(iter(there.values()))
            wrong.append(f"{entry.did} is offered at {entry.pfn}, and {place.name} keeps it at {first}")
    if wrong:
        raise InvalidPfn(f"{_some(wrong)}: it has one place at an RSE: move it there, or name another RSE")


def compare(entries: Iterable[FileEntry], known: Known) -> None:
    """Raises FileDiffers, which names both sides, if a file is registered with other contents."""
    wrong = []
    for entry in entries:
        if (has := known.get(entry.did)) is not None and (difference := _difference(has, entry)) is not None:
            wrong.append(f"{entry.did} is registered {difference}")
    if wrong:
        raise FileDiffers(f"{_some(wrong)}: the first registration stays, it needs another name")


def _some(wrong: Sequence[str]) -> str:
    return "; ".join(wrong[:_NAMED]) + (f" and {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else "")


def _difference(has: FileEntry, offered: FileEntry) -> str | None:
    """`with bytes 10, offered with 11`; None if they agree in all that both know."""
    for what in ("bytes", "adler32", "md5"):
        one, other = getattr(has, what), getattr(offered, what)
        if one is not None and other is not None and one != other:
            return f"with {what} {one}, offered with {other}"
    return None
