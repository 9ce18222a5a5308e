"""Files that somebody told of become files to be registered: under which name, read where, and which are refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from posixpath import basename, normpath
from typing import Final
from urllib.parse import unquote

from schemas.did import Did
from schemas.registration import FileState, ManifestEntry, RegisteredFile, Rewrite

#: Rucio's own, of its generic schema.
_SCOPE: Final = re.compile(r"[A-Za-z0-9_.-]+")
_FIRST_OF_NAME: Final = re.compile(r"[A-Za-z0-9/]")
_NOT_IN_NAME: Final = re.compile(r"[^A-Za-z0-9/._-]")
_LONGEST_SCOPE, _LONGEST_NAME = 25, 250

#: What a manifest may tell of a file's content.
_SUMS: Final = ("bytes", "adler32", "md5")

_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Policy:
    """What is registered, and under which names."""

    #: Shell-style patterns of names, LFN or PFN, that are never registered.
    refuse: tuple[str, ...] = ("*.partial",)
    #: Smaller files are refused.
    min_bytes: int = 1
    #: The first whose prefix fits counts.
    rewrite: tuple[Rewrite, ...] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """A file that somebody told of."""

    entry: ManifestEntry
    #: Where: `file:line`, a folder, or the word of a command line.
    place: str


@dataclass(frozen=True, slots=True)
class Mistold:
    """What was told and is no file that can be registered."""

    place: str
    reason: str
    #: It was told twice, and alike: nothing is missing without it.
    harmless: bool = False

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


def plan(
    tellings: Iterable[Told | Mistold],
    scope: str,
    policy: Policy,
    new_guid: Callable[[], str],
    rse: str | None = None,
) -> Iterator[RegisteredFile | Mistold]:
    """Each file once, planned or refused with the reason; what was told twice is mistold.

    Args:
        scope: of the files for which nobody told another.
        new_guid: called for each file for which nobody told one. A GUID is kept with the file from here on.
        rse: where the files are to be registered; one that is told to lie elsewhere is refused.
    """
    repeats = _Repeats()
    for telling in tellings:
        if isinstance(telling, Mistold):
            yield telling
            continue
        file = planned(telling, scope, policy, new_guid, rse)
        yield repeats.find(file, telling.place) or file


def planned(
    told: Told, scope: str, policy: Policy, new_guid: Callable[[], str], rse: str | None = None
) -> RegisteredFile:
    """One file by itself, as `plan` has it."""
    entry = told.entry
    pfn, path = places(entry.pfn, policy.rewrite)
    did = _did(entry.lfn, pfn, scope)
    reason = (
        _pfn_mistake(entry.pfn)
        or name_mistake(did)
        or _unwanted(did, pfn, policy.refuse)
        or (None if entry.bytes is None else size_mistake(entry.bytes, policy.min_bytes))
        or _elsewhere(entry.rse, rse)
    )
    return RegisteredFile(
        did=str(did),
        path=path,
        pfn=pfn,
        state=FileState.PLANNED if reason is None else FileState.REFUSED,
        bytes=entry.bytes,
        adler32=entry.adler32,
        md5=entry.md5,
        guid=entry.guid or new_guid(),
        events=entry.events,
        told=" ".join(name for name in _SUMS if getattr(entry, name) is not None) or None,
        reason=None if reason is None else f"{reason} (told by {told.place})",
    )


def places(told: str, rewrite: Sequence[Rewrite]) -> tuple[str, str | None]:
    """The PFN to be registered, and the path where the file is read here; None if it is not on a disk that we see."""
    told = _tidy(told)
    pfn, path = told, _path(told)
    for rule in rewrite:
        rest = told.removeprefix(rule.prefix)
        if told.startswith(rule.prefix) and (rule.prefix.endswith("/") or rest[:1] in ("", "/")):
            pfn = pfn if rule.pfn is None else _joined(rule.pfn, rest)
            path = path if rule.path is None else _joined(rule.path, rest)
            break
    return pfn, path


def _tidy(told: str) -> str:
    """A path without doubled slashes and such, so that it is found to be told twice; `..` may lead through a link."""
    if not told.startswith("/") or ".." in told.split("/"):
        return told
    return "/" + normpath(told).lstrip("/")


def _path(told: str) -> str | None:
    if told.startswith("/"):
        return told
    return unquote(told.removeprefix("file://")) if told.startswith("file:///") else None


def _joined(beginning: str, rest: str) -> str:
    """Of the slashes of a URL, as in `root://host//`, none is lost."""
    if rest and not rest.startswith("/") and not beginning.endswith("/"):
        return f"{beginning}/{rest}"
    return (beginning.removesuffix("/") if rest.startswith("/") else beginning) + rest


def lfn_of(pfn: str) -> str:
    """The last part of a PFN; of a URL without what follows a question mark."""
    return basename(pfn.partition("?")[0] if _URL.match(pfn) else pfn)


def _did(lfn: str | None, pfn: str, scope: str) -> Did:
    if lfn and ":" in lfn:
        told_scope, _, name = lfn.partition(":")
        return Did(told_scope, name)
    return Did(scope, lfn or lfn_of(pfn))


def name_mistake(did: Did) -> str | None:
    """What Rucio will not take of a DID, and why, in words; None if it takes it."""
    scope, name = did
    if not _SCOPE.fullmatch(scope) or len(scope) > _LONGEST_SCOPE:
        return (
            f"the scope {scope!r} is none for Rucio: it wants 1 to {_LONGEST_SCOPE} letters, digits, dots, dashes "
            "and underscores"
        )
    if not name:
        return "it has no name: its PFN ends with a slash; give it an LFN"
    if len(name) > _LONGEST_NAME:
        return f"its name has {len(name)} characters, and Rucio takes {_LONGEST_NAME}: give it another LFN"
    wrong = _NOT_IN_NAME.search(name)
    if wrong is None and _FIRST_OF_NAME.match(name):
        return None
    said = f"begins with {name[0]!r}" if wrong is None else f"has {wrong[0]!r} in it"
    return (
        f"its name {name!r} {said}: Rucio takes letters, digits, dots, dashes, underscores and slashes, the first a "
        "letter, digit or slash; give it another LFN"
    )


def _pfn_mistake(told: str) -> str | None:
    if not told.startswith("/") and not _URL.match(told):
        return f"its PFN {told!r} is neither an absolute path nor a URL"
    if _CONTROL.search(told):
        return f"its PFN {told!r} has a control character in it: rename the file"
    if told.startswith("/") and ".." in told.split("/"):
        return f"its PFN {told!r} has .. in it: write the path without"
    return None


def _unwanted(did: Did, pfn: str, refuse: Sequence[str]) -> str | None:
    names = (did.name, lfn_of(pfn), pfn)
    found = next((pattern for pattern in refuse if any(fnmatchcase(name, pattern) for name in names)), None)
    return None if found is None else f"its name fits {found}, and such files are not registered"


def size_mistake(size: int, least: int) -> str | None:
    """Why a file of this many bytes is refused, in words; None if it is not."""
    if size >= least:
        return None
    return f"it has {size} bytes, and files of fewer than {least} are refused" if size else "it is empty"


def _elsewhere(told: str | None, wanted: str | None) -> str | None:
    if told is None or wanted is None or told == wanted:
        return None
    return f"it is told to lie at {told}, and it is to be registered at {wanted}"


class _Repeats:
    """Finds LFNs and PFNs that were there before."""

    def __init__(self) -> None:
        #: Where it was told first, and what of it: a hash, for there may be a million files.
        self._dids: dict[str, tuple[str, int]] = {}
        self._pfns: dict[str, str] = {}

    def find(self, file: RegisteredFile, place: str) -> Mistold | None:
        """What is wrong with a file that is told now; None if it is new. A file that is refused is remembered too."""
        told = hash((file.pfn, file.bytes, file.adler32, file.md5, file.events))
        if (before := self._dids.get(file.did)) is not None:
            alike = before[1] == told
            said = "alike" if alike else f"and not alike (here {file.pfn}): one name is one file"
            return Mistold(place, f"{file.did} was told before, by {before[0]}, {said}", harmless=alike)
        if (first := self._pfns.get(file.pfn)) is not None:
            return Mistold(
                place, f"{file.pfn} was told before, with the name {first}: {file.did} would be the same file"
            )
        self._dids[file.did] = place, told
        self._pfns[file.pfn] = file.did
        return None
