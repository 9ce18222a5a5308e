"""Patterns of rules: RE2, so that no pattern can stall the dispatcher, whatever the name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import re2

_OPTIONS = re2.Options()
_OPTIONS.log_errors = False

#: Memory that the automaton of one whole set may take, in bytes; above it the patterns are tried one by one.
_SET_MEMORY = 256 * 1024 * 1024

#: How many bytes of a name's beginning are looked at to tell where a pattern's names lie.
_BOUND = 64


class PatternError(ValueError):
    """RE2 refuses the pattern. The text says why and what can be written instead."""


class Pattern:
    """One pattern, matched against a whole name, or with `search` anywhere in it."""

    def __init__(self, text: str, *, search: bool = False) -> None:
        """Raises PatternError."""
        self.text = text
        self._search = search
        try:
            # as bytes: for texts the library counts characters up to each group, which costs more than the match
            self._compiled = re2.compile(text.encode(), _OPTIONS)
        except re2.error as error:
            raise PatternError(_explain(text, error)) from None
        self._find = self._compiled.search if search else self._compiled.fullmatch
        self._groups = [(group.decode(), number) for group, number in self._compiled.groupindex.items()]
        #: The named groups, in order.
        self.groups: Sequence[str] = [group for group, _ in self._groups]

    @property
    def whole(self) -> str:
        """A pattern that matches whole names alone, and the same ones."""
        return f"(?s:.*)(?:{self.text})(?s:.*)" if self._search else self.text

    def captures(self, name: str) -> dict[str, str] | None:
        """What the named groups captured, an empty text for a group that took no part; None if it does not match."""
        match = self._find(name.encode())
        if match is None:
            return None
        return {group: (match.group(number) or b"").decode(errors="replace") for group, number in self._groups}

    def matches(self, name: str) -> bool:
        return self._find(name.encode()) is not None

    def bounds(self) -> tuple[str, str] | None:
        """Two texts between which, byte by byte, every name that it matches lies; None if nothing can be said."""
        if self._search:
            return None
        try:
            low, high = self._compiled.possiblematchrange(_BOUND)
        except re2.error:
            return None
        above = _after(high) if len(_plain(high)) < len(high) else _plain(high)
        return None if above is None else (_plain(low), above)


class PatternSet:
    """Many patterns, matched against a whole name in one pass."""

    def __init__(self, patterns: Sequence[Pattern]) -> None:
        self._patterns = patterns
        self._set = _compile(patterns) if len(patterns) > 1 else None

    def matching(self, name: str) -> Iterator[tuple[int, Mapping[str, str]]]:
        """The position of each pattern that matches, in order, with what its groups captured."""
        found = self._found(name)
        for position in range(len(self._patterns)) if found is None else found:
            pattern = self._patterns[position]
            # where nothing is captured, the set has said it all
            captured = {} if found is not None and not pattern.groups else pattern.captures(name)
            if captured is not None:
                yield position, captured

    def positions(self, name: str) -> Sequence[int]:
        """The position of each pattern that matches, in order."""
        found = self._found(name)
        if found is not None:
            return found
        return [position for position, pattern in enumerate(self._patterns) if pattern.matches(name)]

    def _found(self, name: str) -> Sequence[int] | None:
        """The same by the set; None if the patterns have to be tried one by one."""
        found = self._set.Match(name) if self._set is not None else None
        # RE2 gives nothing both when nothing matches and when it ran out of memory; the sentinel tells the two apart
        if found is None or len(self._patterns) not in found:
            return None
        # the sentinel is the last
        return sorted(found)[:-1]


def _plain(bound: bytes) -> str:
    """As much of a bound as every database orders and takes: ASCII without NUL."""
    return re.match(rb"[\x01-\x7e]*", bound)[0].decode()  # type: ignore[index]  # it matches at least nothing


def _after(bound: bytes) -> str | None:
    """What comes after everything that begins like the bound; None if nothing can be said."""
    plain = _plain(bound)
    return plain[:-1] + chr(ord(plain[-1]) + 1) if plain else None


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
