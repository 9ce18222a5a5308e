"""Shell-style patterns: what is wrong with one."""

from __future__ import annotations

import re

#: Characters in brackets: the first may be `]` itself.
_BRACKETS = re.compile(r"\[!?\]?[^\]]*\]")


def mistake_in_glob(glob: str) -> str | None:
    """What is wrong with it, in words. An open bracket would stand for itself, so nothing would fit."""
    if not glob.strip():
        return "it is empty, and would fit nothing"
    if "[" in _BRACKETS.sub("", glob):
        return f"{glob!r} has a `[` without a `]`, and would fit nothing"
    return None
