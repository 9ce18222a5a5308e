"""What the catalog has of files, beside what our own record says of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from orchestrator.rucio.port import FileEntry
from schemas.did import Did
from schemas.registration import FileState, RegisteredFile

_COMPARED: Final = ("bytes", "adler32", "md5")

#: So many are named of many.
_NAMED: Final = 3


def did_of(file: RegisteredFile) -> Did:
    scope, _, name = file.did.partition(":")
    return Did(scope, name)


def difference(file: RegisteredFile, entry: FileEntry) -> str | None:
    """How a file differs from what the catalog has under its name, in words.

    What either of the two does not know is no difference.
    """
    both = {name: (getattr(entry, name), getattr(file, name)) for name in _COMPARED}
    wrong = {name: pair for name, pair in both.items() if None not in pair and pair[0] != pair[1]}
    if not wrong:
        return None
    said = ", ".join(f"{name} {theirs} there and {ours} here" for name, (theirs, ours) in wrong.items())
    return f"the catalog has another file of this name ({said}), and keeps it: this one needs a name of its own"


@dataclass(slots=True)
class Differences:
    """How a dataset differs from what was to be in it, by the DIDs of files."""

    missing: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    #: Each with how.
    differing: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.missing or self.foreign or self.differing)

    def __str__(self) -> str:
        said = []
        if self.missing:
            said.append(f"{counted(len(self.missing))} not in it: {some(self.missing)}")
        if self.foreign:
            said.append(f"{counted(len(self.foreign))} in it that nobody asked for: {some(self.foreign)}")
        if self.differing:
            named = [f"{did}: {how}" for did, how in self.differing.items()]
            said.append(f"{counted(len(self.differing))} not the same: {some(named)}")
        return "; ".join(said)


def compared(
    content: Mapping[Did, FileEntry], pages: Iterable[Sequence[RegisteredFile]], *, exactly: bool
) -> Differences:
    """What a dataset holds, beside all files of a registration but those that were refused.

    Args:
        exactly: what nobody asked for counts as well.
    """
    found = Differences()
    foreign = set(content) if exactly else set()
    for file in (file for page in pages for file in page):
        did = did_of(file)
        foreign.discard(did)
        if file.state is FileState.REFUSED:
            continue
        entry = content.get(did)
        if entry is None:
            found.missing.append(file.did)
        elif (how := difference(file, entry)) is not None:
            found.differing[file.did] = how
    found.foreign = sorted(map(str, foreign))
    return found


def counted(number: int) -> str:
    return "1 file is" if number == 1 else f"{number} files are"


def some(names: Sequence[str], of: int | None = None) -> str:
    """The first of many, and how many more there are of them."""
    rest = (of or len(names)) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest} more" if rest > 0 else "")
