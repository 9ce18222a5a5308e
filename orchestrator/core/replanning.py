"""What is known of a file whose registration is asked for once more."""

from __future__ import annotations

from typing import Any, Final

from schemas.registration import FileState, RegisteredFile

_SUMS: Final = ("bytes", "adler32", "md5")

#: What is forgotten of a file that is another one now.
_FORGOTTEN: Final[dict[str, Any]] = {**dict.fromkeys(_SUMS), "modified_ns": None, "state": FileState.PLANNED}


def replanned(there: RegisteredFile, asked: RegisteredFile) -> RegisteredFile:
    """The file as it goes on: what was found out stays, unless something else is said now.

    What the catalog has already is not refused any more, whatever its name. If it is told to lie elsewhere, it may be
    another file, and is looked at again.
    """
    said = {name: value for name in _SUMS if (value := getattr(asked, name)) is not None}
    denied = any(getattr(there, name) not in (None, value) for name, value in said.items())
    moved = (there.path, there.pfn) != (asked.path, asked.pfn)
    refused = asked.state is FileState.REFUSED
    if there.state is FileState.ATTACHED and (refused or not (denied or moved)):
        return there
    known: dict[str, Any] = _FORGOTTEN if denied or moved else {"state": _again(there.state)}
    told: dict[str, Any] = {"path": asked.path, "pfn": asked.pfn, "guid": asked.guid or there.guid, "told": asked.told}
    if asked.events is not None:
        told["events"] = asked.events
    if refused:
        told["state"] = FileState.REFUSED
    return there.model_copy(update={**known, **said, **told, "reason": asked.reason})


def asked_twice(first: RegisteredFile, second: RegisteredFile) -> RegisteredFile:
    """The file, refused: one list names two places for it. Unchanged if they are the same place."""
    if (first.path, first.pfn) == (second.path, second.pfn) or first.state is FileState.REFUSED:
        return first
    why = f"it is asked for twice, as {first.pfn} and as {second.pfn}: a file has one name, and a name one file"
    return first.model_copy(update={"reason": why, "state": FileState.REFUSED})


def _again(state: FileState) -> FileState:
    return FileState.PLANNED if state is FileState.REFUSED else state
