"""Names, tried on a few patterns again and again: those that cannot match are left out, the others made quick to try.

RE2 decides what a pattern means. To call it takes longer than to match, and the `re` of Python is called ten times as
quickly. So a pattern that both read alike, and whose ways through a name are few, is given to `re`.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from orchestrator.core.patterns import Pattern, PatternSet

#: One character of a name, as both engines read it.
_ATOM: Final = (
    r"(?:[A-Za-z0-9_/,:;=@%&~ -]|\\[-.+*?|()\[\]{}^$/]|\\[dw]|\.|"
    r"\[\^?(?:[A-Za-z0-9_]-[A-Za-z0-9_]|[A-Za-z0-9_.]|\\[-.dw])+-?\])"
)

#: What may be repeated (`long`), what is one of two (`either`), and what is just there.
_PIECE: Final = re.compile(
    rf"(?P<long>{_ATOM}(?:[*+]|\{{\d+,\d*\}}))|(?P<either>{_ATOM}\?|\)\?|\|)|"
    rf"{_ATOM}(?:\{{\d+\}})?|\((?:\?P<[A-Za-z_]\w*>|\?:)?|\)|[$^]",
    re.ASCII,
)

#: The ways through a name that are tried at most, in thousandths of a second or so.
_MOST_WAYS: Final = 1_000_000

_ANY_CASE: Final = "(?i)"

#: Rucio's names are shorter.
_LONGEST_NAME: Final = 1000

#: So many patterns are tried one by one; more of them are quicker as a set.
_FEW: Final = 4


class Finder:
    """One pattern, tried on many names: the same answers as its `Pattern` gives."""

    def __init__(self, pattern: Pattern, *, search: bool, captures: bool) -> None:
        """`captures` says whether somebody will ask what the groups captured."""
        self._pattern, self._keeps = pattern, captures
        self._find, self._longest = _in_re(pattern.text, search=search)
        self._name, self._captured = "", pattern.captures("")

    def fits(self, name: str) -> bool:
        if self._keeps:
            self._name, self._captured = name, self._look(name)
            return self._captured is not None
        # both read ASCII alike
        if len(name) <= self._longest and name.isascii():
            return self._find(name) is not None
        return self._pattern.matches(name)

    def captures(self, name: str) -> Mapping[str, str] | None:
        """What the named groups captured, an empty text for a group that took no part; None if it does not match."""
        if name != self._name:
            self._name, self._captured = name, self._look(name)
        return self._captured

    def _look(self, name: str) -> dict[str, str] | None:
        if len(name) <= self._longest and name.isascii():
            found = self._find(name)
            return None if found is None else found.groupdict("")
        return self._pattern.captures(name)


def _in_re(text: str, *, search: bool) -> tuple[Callable[[str], Any], int]:
    """The pattern in `re`, and the longest name that may be given to it: -1 if RE2 might read the pattern otherwise."""
    flags = re.ASCII | (re.IGNORECASE if text.startswith(_ANY_CASE) else 0)
    text = text.removeprefix(_ANY_CASE)
    pieces = list(_PIECE.finditer(text))
    if sum(len(piece[0]) for piece in pieces) != len(text):
        return _refuse, -1
    # the `$` of `re` would pass over a line's end
    try:
        compiled = re.compile("".join(r"\Z" if piece[0] == "$" else piece[0] for piece in pieces), flags)
    except re.error:  # two groups of one name, for example
        return _refuse, -1
    long = search + sum(piece["long"] is not None for piece in pieces)
    ways = _MOST_WAYS >> sum(piece["either"] is not None for piece in pieces)
    return compiled.search if search else compiled.fullmatch, min(_LONGEST_NAME, round(ways ** (1 / max(1, long))))


def _refuse(name: str) -> Any:
    raise AssertionError(f"{name!r} is longer than any name that may be given to `re`")


class Names:
    """Which of some patterns match a name."""

    def __init__(self, patterns: Sequence[Pattern], finders: Sequence[Finder]) -> None:
        self._patterns = patterns
        self._set: PatternSet | None = None
        bounds = [pattern.bounds() for pattern in patterns]
        self._cuts = sorted({bound for both in bounds if both is not None for bound in both})
        #: Of the names between two cuts: what may match; None for more than a few.
        self._few = [
            None if len(some) > _FEW else [((position,), finders[position].fits) for position in some]
            for some in _between(self._cuts, bounds)
        ]

    def find(self, name: str) -> tuple[int, ...]:
        """The position of each pattern that matches, in order."""
        few = self._few[bisect_right(self._cuts, name)]
        if few is None:
            return tuple(self._by_set(name))
        found: tuple[int, ...] = ()
        for position, fits in few:
            if fits(name):
                found = found + position
        return found

    def _by_set(self, name: str) -> Sequence[int]:
        if self._set is None:
            self._set = PatternSet(self._patterns)
        return self._set.positions(name)


def _between(cuts: Sequence[str], bounds: Sequence[tuple[str, str] | None]) -> Sequence[Sequence[int]]:
    """For the names before the first cut, from each cut to the next, and from the last: which bounds hold any."""
    found: list[list[int]] = [[] for _ in range(len(cuts) + 1)]
    for position, both in enumerate(bounds):
        first, last = (0, len(cuts)) if both is None else (bisect_right(cuts, bound) for bound in both)
        for some in found[first : last + 1]:
            if len(some) <= _FEW:
                some.append(position)
    return found
