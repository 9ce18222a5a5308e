"""What is accepted as a name, a file, a key of metadata or an RSE."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Set
from typing import Any, Final

from orchestrator.rucio.metadata import as_kept
from orchestrator.rucio.port import (
    KEPT_METADATA,
    CatalogError,
    FileDiffers,
    FileEntry,
    InvalidDid,
    InvalidPfn,
    RseNotFound,
)
from schemas.did import Did

_SCOPE: Final = re.compile(r"[A-Za-z0-9_.\-]{1,25}")
_NAME: Final = re.compile(r"[/A-Za-z0-9][/A-Za-z0-9.\-_]{0,249}")
_ADLER32: Final = re.compile(r"[0-9a-f]{8}")
_MD5: Final = re.compile(r"[0-9a-f]{32}")
_GUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,254}")
_RSE: Final = re.compile(r"(?=.{1,255}\Z)[A-Z0-9]+([_\-][A-Z0-9]+)*")

#: What of a registered file is compared with what is offered, where both are known.
_COMPARED: Final = ("bytes", "adler32", "md5")


def may_exist(did: Did) -> bool:
    """What came in a message may be anything; some of it SQLite would not even look for."""
    return bool(_SCOPE.fullmatch(did.scope) and _NAME.fullmatch(did.name))


def check_did(did: Did) -> None:
    """Raises InvalidDid."""
    if not _SCOPE.fullmatch(did.scope):
        raise InvalidDid(f"{did}: a scope is 1 to 25 letters, digits, `.`, `_` and `-`")
    if not _NAME.fullmatch(did.name):
        raise InvalidDid(
            f"{did}: a name is 1 to 250 letters, digits, `/`, `.`, `_` and `-`, and begins with one of the first three"
        )


def check_place(did: Did, pfn: str) -> None:
    """Raises InvalidDid, InvalidPfn."""
    check_did(did)
    if not pfn:
        raise InvalidPfn(f"{did}: it is not said where the file lies")


def check_file(entry: FileEntry) -> None:
    """Raises InvalidDid, InvalidPfn, CatalogError."""
    check_place(entry.did, entry.pfn)
    if entry.adler32 is None or not _ADLER32.fullmatch(entry.adler32):
        raise CatalogError(f"{entry.did}: adler32 {entry.adler32!r} is not eight lower-case hexadecimal digits")
    if entry.md5 is not None and not _MD5.fullmatch(entry.md5):
        raise CatalogError(f"{entry.did}: md5 {entry.md5!r} is not 32 lower-case hexadecimal digits")
    if entry.guid is not None and not _GUID.fullmatch(entry.guid):
        raise CatalogError(f"{entry.did}: guid {entry.guid!r} is not 32 lower-case hexadecimal digits, with dashes")
    if entry.bytes < 0:
        raise CatalogError(f"{entry.did}: a size of {entry.bytes} bytes cannot be")


def check_same(known: FileEntry, offered: FileEntry) -> None:
    """First registration wins; a sum that one side does not know is not compared. Raises FileDiffers."""
    pairs = {what: (getattr(known, what), getattr(offered, what)) for what in _COMPARED}
    differ = {what: pair for what, pair in pairs.items() if None not in pair and pair[0] != pair[1]}
    if differ:
        words = "; ".join(f"{what} {there}, the one offered has {here}" for what, (there, here) in differ.items())
        raise FileDiffers(f"{known.did} is registered with {words}: it needs a name of its own")


def checked_metadata(did: Did, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata as it is kept.

    Raises CatalogError: the catalog keeps the key itself, the key cannot be one, or it cannot have that value.
    """
    for key, value in metadata.items():
        if key in KEPT_METADATA:
            raise CatalogError(f"{did}: {key} is kept by the catalog and cannot be set")
        if not _KEY.fullmatch(key):
            raise CatalogError(f"{did}: {key!r} is no key: letters, digits, `_`, `.` and `-`, and no digit first")
        if value is not None and not isinstance(value, str | int | float | bool):
            raise CatalogError(f"{did}: {key} = {value!r} is no text, number or truth")
    return {key: as_kept(did, key, value) for key, value in metadata.items()}


def check_rse(name: str) -> None:
    """Raises RseNotFound."""
    if not _RSE.fullmatch(name):
        raise RseNotFound(
            f"there can be no RSE {name!r}: its name is capitals and digits, with `-` or `_` between them"
        )


def fitting(expression: str, rses: Iterable[str]) -> Set[str]:
    """The RSEs that fit an expression: a name, `*` for all, or several with `|` between them. Raises RseNotFound."""
    there = set(rses)
    found: set[str] = set()
    for word in expression.split("|"):
        if word != "*" and not _RSE.fullmatch(word):
            raise RseNotFound(f"{expression!r} is no RSE expression here: write a name, A|B, or * for all")
        found |= there if word == "*" else there & {word}
    if not found:
        raise RseNotFound(f"no RSE fits {expression!r}: there are {', '.join(sorted(there)) or 'none'}")
    return found
