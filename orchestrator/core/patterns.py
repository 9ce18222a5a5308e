"""Patterns of rules: RE2, so that no pattern can stall the dispatcher, whatever the name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import re2

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False

#: Memory that the automaton of one whole set may take, in bytes; above it the patterns are tried one by one.
_SET_MEMORY = 256 * 1024 * 1024


class PatternError(ValueError):
    """RE2 refuses the pattern. The text says why and what can be written instead."""


class Pattern:
    """One pattern, matched against a whole name, or with `search` anywhere in it."""

    def __init__(self, text: str, *, search: bool = False) -> None:
        """Raises PatternError."""
        self.text = text
        self._search = search
        try:
            self._compiled = re2.compile(text, _OPTIONS)
        except re2.error as error:
            raise PatternError(_explain(text, error)) from None

    @property
    def whole(self) -> str:
        """A pattern that matches whole names alone, and the same ones."""
        return f"(?s:.*)(?:{self.text})(?s:.*)" if self._search else self.text

    @property
    def groups(self) -> Sequence[str]:
        """The named groups, in order."""
        return list(self._compiled.groupindex)

    def captures(self, name: str) -> dict[str, str] | None:
        """What the named groups captured, an empty text for a group that took no part; None if it does not match."""
        match = self._compiled.search(name) if self._search else self._compiled.fullmatch(name)
        if match is None:
            return None
        return {group: value or "" for group, value in match.groupdict().items()}


class PatternSet:
    """Many patterns, matched against a whole name in one pass."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self._patterns = patterns
        self._set = _compile(patterns) if len(patterns) > 1 else None

    def matching(self, name: str) -> Iterator[tuple[int, Mapping[str, str]]]:
        """The position of each pattern that matches, in order, with what its groups captured."""
        for position in self._candidates(name):
            captured = self._patterns[position].captures(name)
            if captured is not None:
                yield position, captured

    def _candidates(self, name: str) -> Sequence[int]:
        found = self._set.Match(name) if self._set is not None else None
        # RE2 gives nothing both when nothing matches and when it ran out of memory; the sentinel tells the two apart
        if found is None or len(self._patterns) not in found:
            return range(len(self._patterns))
        return sorted(position for position in found if position < len(self._patterns))


def _compile(patterns: Sequence[Pattern]) -> Any:
    """All patterns as one automaton, and last a sentinel that matches every name; None if it grows too large."""
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.max_mem = _SET_MEMORY
    compiled = re2.Set.FullMatchSet(options)
    try:
        for pattern in patterns:
            compiled.Add(pattern.whole)
        compiled.Add("(?s).*")
        compiled.Compile()
    except re2.error:
        return None
    return compiled


def _explain(text: str, error: Exception) -> str:
    detail = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
    if any(look in text for look in ("(?=", "(?!", "(?<=", "(?<!")):
        detail += "; look-ahead and look-behind are not available, since they can take for ever: write two rules"
    elif "invalid escape" in detail and any(f"\\{digit}" in text for digit in range(1, 10)):
        detail += "; back-references are not available, since they can take for ever"
    return f"pattern {text!r}: {detail}"


def unquote(text: str) -> str:
    """Read a pattern as the production notes write it on a command line: `r"..."`, `r'...'` or bare."""
    word = text.strip()
    for quote in ("'", '"'):
        for prefix in (f"r{quote}", quote):
            if word.startswith(prefix) and word.endswith(quote) and len(word) > len(prefix):
                return word[len(prefix) : -1]
    return word
