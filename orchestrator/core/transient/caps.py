"""How much may be released within a day, by people and by policies together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from schemas.transient import Release


@dataclass(frozen=True, slots=True)
class Caps:
    """What may be released within 24 hours. None: no cap."""

    datasets_per_day: int | None = None
    #: Of all copies.
    bytes_per_day: int | None = None
    #: By RSE; those that are not named have no cap of their own.
    rse_bytes_per_day: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Spent:
    """What was released within the last 24 hours, and did not come to nothing before anything was done."""

    datasets: int = 0
    bytes: int = 0
    by_rse: Mapping[str, int] = field(default_factory=dict)


_NOTHING: Final = Spent()

#: What every release comes to, as long as it is not known better.
_ANYTHING: Final = Spent(datasets=1, bytes=1)


def beyond(caps: Caps, spent: Spent, wanted: Iterable[Release]) -> str | None:
    """Which cap these releases would pass, all of them together, in words; None if there is room."""
    return no_room(caps, spent, spent_on(wanted))


def no_room(caps: Caps, spent: Spent = _NOTHING, wanted: Spent = _ANYTHING) -> str | None:
    """Which cap something of this size would pass, in words; None if there is room.

    Args:
        spent: nothing unless it is said: whether a whole day has room.
        wanted: one dataset with one byte unless it is said: whether there is room for anything at all.
    """
    return next(_passed(caps, spent, wanted), None)


def within(caps: Caps, spent: Spent, releases: Iterable[Release]) -> tuple[list[Release], list[Release]]:
    """Those for which there is room, in their order, and the rest.

    The first for which there is none makes those after it wait, so that it comes to its turn; unless it would not fit
    into a whole day: then it waits for a person, and the others go on.
    """
    fit, rest = list[Release](), list[Release]()
    total, full = _NOTHING, False
    for release in releases:
        more = _plus(total, release)
        if not full and not any(_passed(caps, spent, more)):
            fit.append(release)
            total = more
            continue
        rest.append(release)
        full = full or not any(_passed(caps, _NOTHING, _plus(_NOTHING, release)))
    return fit, rest


def _passed(caps: Caps, spent: Spent, wanted: Spent) -> Iterator[str]:
    """Each cap that is passed, in words. Of what nothing is wanted, nothing is passed."""
    if caps.datasets_per_day is not None and wanted.datasets > max(0, caps.datasets_per_day - spent.datasets):
        yield _words("datasets", spent.datasets, wanted.datasets, caps.datasets_per_day, "datasets_per_day")
    if caps.bytes_per_day is not None and wanted.bytes > max(0, caps.bytes_per_day - spent.bytes):
        yield _words("bytes", spent.bytes, wanted.bytes, caps.bytes_per_day, "bytes_per_day")
    for rse, wanted_there in sorted(wanted.by_rse.items()):
        cap, before = caps.rse_bytes_per_day.get(rse), spent.by_rse.get(rse, 0)
        if cap is not None and wanted_there > max(0, cap - before):
            yield _words(f"bytes at {rse}", before, wanted_there, cap, f"rse_bytes_per_day, {rse}")


def _words(what: str, spent: int, wanted: int, cap: int, setting: str) -> str:
    return (
        f"{wanted:,} {what} are to be released and {spent:,} were within 24 hours: {cap:,} may be "
        f"([transient] {setting})"
    )


def _plus(spent: Spent, release: Release) -> Spent:
    by_rse = Counter(spent.by_rse)
    for copies in release.frees:
        by_rse[copies.rse] += copies.bytes
    return Spent(spent.datasets + 1, spent.bytes + release.freed, by_rse)


def spent_on(releases: Iterable[Release]) -> Spent:
    """What these releases come to."""
    total = _NOTHING
    for release in releases:
        total = _plus(total, release)
    return total
