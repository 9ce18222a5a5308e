"""Releases as a plan holds them: what has changed since it was made, and which of them rest on each other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from schemas.transient import CopiesAt, Refusal, Release, Transient, TransientState

#: What must be as it was when a person saw it, and how it is called.
_COMPARED: Final = {
    "did": "name",
    "born_at": "creation",
    "closed_at": "closing",
    "policy": "policy",
    "version": "the policy's version",
    "files": "files",
    "bytes": "bytes",
    "content": "the files' digest",
    "erases": "whether the dataset leaves with its copies",
    "keeps": "where copies stay",
    "successor": "successor",
    "successor_born_at": "the successor's creation",
    "successor_closed_at": "the successor's closing",
    "successor_content": "the digest of the successor's files",
}


def changes(planned: Release, found: Release) -> list[str]:
    """What is not as it was planned, in words; empty if a person would see the same thing again."""
    said = [
        f"{words}: {getattr(planned, field)} was planned, now it is {getattr(found, field)}"
        for field, words in _COMPARED.items()
        if getattr(planned, field) != getattr(found, field)
    ]
    before, after = _by_rse(planned.frees), _by_rse(found.frees)
    if before != after:
        said.append(f"what leaves: {_shown(planned.frees)} was planned, now it is {_shown(found.frees)}")
    return said


def is_over(life: Transient) -> str | None:
    """Why a life of a dataset that the catalog has is not released once more, in words; None: it may be.

    A dataset whose copies were to leave without it is there still when they have left.
    """
    if life.state in (TransientState.RELEASED, TransientState.LEAVING):
        return f"it is {life.state} already"
    if life.state is TransientState.GONE and not life.vanished:
        return "what was to leave of it has left already; copies that came back are for a person to delete"
    return None


def apart(releases: Iterable[Release]) -> tuple[list[Release], list[tuple[Release, Refusal]]]:
    """Those that can be released together, in their order, and those that cannot beside one before them.

    A dataset that leaves must not be what another one rests on.
    """
    kept, refused = list[Release](), list[tuple[Release, Refusal]]()
    leaving, needed = set[str](), dict[str, str]()
    for release in releases:
        if release.did in leaving:
            refused.append((release, Refusal("ambiguous", "it is to be released twice")))
        elif release.did in needed:
            refused.append((release, Refusal("proof", f"it is what is left of {needed[release.did]}, which leaves")))
        elif release.successor in leaving:
            refused.append((release, Refusal("successor", f"{release.successor} is to leave as well")))
        else:
            kept.append(release)
            leaving.add(release.did)
            needed.setdefault(release.successor, release.did)
    return kept, refused


def _by_rse(frees: Iterable[CopiesAt]) -> dict[str, tuple[int, int]]:
    return {each.rse: (each.files, each.bytes) for each in frees}


def _shown(frees: Iterable[CopiesAt]) -> str:
    return ", ".join(_words(frees)) or "nothing"


def _words(frees: Iterable[CopiesAt]) -> Iterator[str]:
    for each in sorted(frees, key=lambda copies: copies.rse):
        yield f"{each.files:,} files at {each.rse} ({each.bytes:,} bytes)"
