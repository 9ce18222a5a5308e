"""Which files of a dataset have gone into none of its successor: files go together by what their names share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from orchestrator.core.mistakes import Mistake
from orchestrator.core.patterns import Pattern, PatternError
from schemas.transient import Mapping

#: So many files are named.
NAMED: Final = 3


def unmapped(maps: Mapping, files: Iterable[str], successor_files: Iterable[str]) -> tuple[int, list[str]]:
    """How many files have no counterpart, and the first of them, by their names.

    A file whose name its pattern does not match has none. The successor's files are gone through first; what is kept
    of them is one key for each combination of groups.

    Raises:
        PatternError: a pattern cannot be read; `mistakes_in` says so before.
    """
    files_pattern, onto = Pattern(maps.files), Pattern(maps.onto)
    groups = tuple(files_pattern.groups)
    there = {key for name in successor_files if (key := _key(onto, groups, name)) is not None}
    count, first = 0, list[str]()
    for name in files:
        key = _key(files_pattern, groups, name)
        if key is None or key not in there:
            count += 1
            if len(first) < NAMED:
                first.append(name)
    return count, first


def _key(pattern: Pattern, groups: tuple[str, ...], name: str) -> tuple[str, ...] | None:
    """What the groups captured; None if the name does not match, or if all of them are empty: that tells nothing."""
    captured = pattern.captures(name)
    if captured is None:
        return None
    key = tuple(captured[group] for group in groups)
    return key if any(key) else None


def mistakes_in(maps: Mapping) -> Iterator[Mistake]:
    """What is wrong with two patterns that go together: the field, and the mistake in words."""
    read: dict[str, set[str]] = {}
    for field in ("files", "onto"):
        try:
            read[field] = set(Pattern(getattr(maps, field)).groups)
        except PatternError as error:
            yield (field,), str(error)
    if len(read) < 2:
        return
    for field, other in (("files", "onto"), ("onto", "files")):
        lacking = sorted(read[other] - read[field])
        if lacking:
            yield (field,), f"it has no group {', '.join(lacking)}, and `{other}` has: both need the same named groups"
    if not read["files"] and not read["onto"]:
        yield ("files",), r"it has no named group: write (?P<segment>\d+) where the two names are equal, in both"
