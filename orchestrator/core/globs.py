"""Shell-style patterns of paths: `*` stays within a folder, `**` does not, and a folder stands for all within it."""

from __future__ import annotations

import re
from functools import lru_cache


def matches(path: str, pattern: str) -> bool:
    """Whether a pattern matches a path (both relative, with `/`), or a folder that the path lies in."""
    return _compiled(pattern).match(path) is not None


@lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    text = "".join("(?:[^/]+/)*" if part == "**" else f"{_component(part)}/" for part in parts[:-1])
    last = parts[-1] if parts else "**"
    return re.compile(text + ("[^/]+" if last == "**" else _component(last)) + r"(?:/.*)?\Z", re.DOTALL)


def _component(part: str) -> str:
    """One component, or what is within it; `*`, `?` and `[abc]` match anything but a slash."""
    return "".join(_WILD.get(piece) or _bracket(piece) or re.escape(piece) for piece in _PIECES.findall(part))


def _bracket(piece: str) -> str | None:
    if len(piece) == 1:
        return None
    signs = piece[1:-1].replace("\\", r"\\").replace("[", r"\[").replace("^", r"\^")
    return f"[^/{signs[1:]}]" if signs[0] == "!" else f"[{signs}]"


_PIECES = re.compile(r"\[!?[^\]]+\]|.", re.DOTALL)
_WILD = {"*": "[^/]*", "?": "[^/]"}
