"""Sets of run numbers: `59641`, `59641..60000`, `60000..`, and lists of them."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Final

_RANGE: Final = re.compile(r"(\d*)\s*\.\.\s*(\d*)")

#: The end of a range that has none.
_OPEN: Final = 2**63


class RunsError(ValueError):
    """A set of runs that cannot be read. The text says what was found and what is allowed."""


class Runs:
    """A set of run numbers, kept as ranges in order that do not touch."""

    def __init__(self, ranges: Iterable[tuple[int, int]]) -> None:
        """`ranges` are first and last, both within; they may overlap."""
        merged: list[tuple[int, int]] = []
        for first, last in sorted(ranges):
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
            else:
                merged.append((first, last))
        self._ranges = merged
        self._firsts = [first for first, _ in merged]

    @classmethod
    def read(cls, items: Iterable[int | str]) -> Runs:
        """Read numbers and ranges. Raises RunsError."""
        return cls(read_range(item) for item in items)

    def __contains__(self, run: int) -> bool:
        position = bisect_right(self._firsts, run) - 1
        return position >= 0 and run <= self._ranges[position][1]

    def items(self) -> Sequence[int | str]:
        """The set as briefly as it can be written; what `read` takes."""
        return [first if first == last else _written(first, last) for first, last in self._ranges]

    def __str__(self) -> str:
        return ", ".join(map(str, self.items())) or "none"


def read_range(item: int | str) -> tuple[int, int]:
    """First and last run of one item. Raises RunsError."""
    text = str(item).strip()
    if text.isdecimal():
        return int(text), int(text)
    found = _RANGE.fullmatch(text)
    if found is None or not (found[1] or found[2]):
        raise RunsError(f"{text!r} is neither a run number nor a range such as 59641..60000, 59641.. or ..59641")
    first, last = int(found[1] or 0), int(found[2]) if found[2] else _OPEN
    if first > last:
        raise RunsError(f"{text!r} ends before it begins")
    return first, last


def read_run_file(text: str) -> Sequence[int | str]:
    """The numbers and ranges of a file: separated by blanks, commas or line ends; `#` begins a comment.

    Raises:
        RunsError: naming the line.
    """
    items: list[int | str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        for word in line.partition("#")[0].replace(",", " ").split():
            try:
                read_range(word)
            except RunsError as error:
                raise RunsError(f"line {number}: {error}") from None
            items.append(word)
    return Runs.read(items).items()


def overlapping(ranges: Sequence[tuple[int, int | None]]) -> tuple[int, int] | None:
    """The positions of two ranges that share a run; None if no two do. An end of None is open."""
    ordered = sorted(range(len(ranges)), key=lambda position: ranges[position][0])
    for before, after in pairwise(ordered):
        end = ranges[before][1]
        if end is None or end >= ranges[after][0]:
            return before, after
    return None


def _written(first: int, last: int) -> str:
    return f"{first or ''}..{'' if last >= _OPEN else last}"
