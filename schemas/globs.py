"""Shell-style patterns: what is wrong with one."""

from __future__ import annotations

import re
from collections.abc import Iterator

#: Characters in brackets: the first may be `]` itself. What was taken is not given back, as in `fnmatch`.
_BRACKETS = re.compile(r"\[!?+(\]?+[^\]]*)\]")

#: What stands in brackets: ranges, and single characters.
_RANGE = re.compile(r"(.)-(.)|.", re.DOTALL)


def mistake_in_glob(glob: str) -> str | None:
    """What is wrong with it, in words: it would fit nothing, or less than it says."""
    return next(_mistakes(glob), None)


def _mistakes(glob: str) -> Iterator[str]:
    if not glob.strip():
        yield "it is empty, and would fit nothing"
    if glob.startswith("!"):
        yield f"{glob!r} begins with a `!`, which excludes nothing here: it would fit nothing"
    for inside in _BRACKETS.findall(glob):
        for first, last in _RANGE.findall(inside):
            if first > last:
                yield f"{glob!r} has a range that ends before it begins, {first}-{last}: write {last}-{first}"
    outside = _BRACKETS.sub("", glob)
    if "[" in outside:
        yield f"{glob!r} has a `[` without a `]`, and would fit nothing"
    if any(sign.isspace() for sign in outside):
        yield f"there is white space in {glob!r}, and it would fit nothing; `[ ]` is a space that is meant"
