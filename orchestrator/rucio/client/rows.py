"""What a Rucio server answers, as the catalog's own words. Nothing here speaks to anybody."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final, TypeVar
from uuid import UUID

from orchestrator.rucio.port import (
    KEPT_METADATA,
    CatalogUnavailable,
    DatasetEntry,
    DatasetState,
    FileEntry,
    InvalidDid,
    ReplicationRule,
)
from schemas.did import Did

_Thing = TypeVar("_Thing")

#: The most that a server takes in one list.
MOST: Final = 1000

_MONTHS: Final = ("", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
#: Keys that are told also where there is nothing to tell.
_ALWAYS: Final = KEPT_METADATA | {"expired_at"}
#: Characters that the client would not send as they are: it puts names into the path of a URL.
_UNSAYABLE = re.compile(r"[\s\x00-\x1f\x7f\ud800-\udfff]")
#: What a server takes that has no rules of its own.
_SCOPE = re.compile(r"[A-Za-z0-9_.\-]{1,25}")
_NAME = re.compile(r"[/A-Za-z0-9][/A-Za-z0-9.\-_]{0,249}")


def chunks(things: Iterable[_Thing], most: int = MOST) -> Iterator[list[_Thing]]:
    """All of it in order, so many at a time."""
    rest = iter(things)
    while chunk := list(islice(rest, most)):
        yield chunk


def wire(did: Did) -> dict[str, Any]:
    return {"scope": did.scope, "name": did.name}


def did_of(row: Mapping[str, Any]) -> Did:
    return Did(row["scope"], row["name"])


def sayable(did: Did) -> bool:
    """Whether it can be asked about at all. What came in a message may be anything."""
    return all(0 < len(word) <= 500 and not _UNSAYABLE.search(word) and word not in (".", "..") for word in did)


def plain(did: Did) -> bool:
    """Whether every Rucio server takes it for a name."""
    return bool(_SCOPE.fullmatch(did.scope) and _NAME.fullmatch(did.name))


def check_name(did: Did) -> None:
    """Raises InvalidDid for what the client would not send as it is. All other rules are the server's."""
    if not sayable(did):
        raise InvalidDid(f"{str(did)!r}: a name has no blanks and no control characters, and is not empty")


def moment(text: str | None) -> datetime | None:
    """A time as Rucio writes it, which is UTC to the second: `Sun, 22 Nov 2026 12:12:03 UTC`."""
    if text is None:
        return None
    try:
        _, day, month, year, clock, zone = text.split()
        hour, minute, second = clock.split(":")
        if zone == "UTC":
            return datetime(int(year), _MONTHS.index(month), int(day), int(hour), int(minute), int(second), tzinfo=UTC)
    except ValueError:
        pass
    found = datetime.fromisoformat(text)
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def number(value: float | None) -> int:
    """A count; PostgreSQL's sums come as 57.0, and what was never counted as null."""
    return int(value or 0)


def guid(text: str | None) -> str | None:
    """Lower case with dashes; Rucio gives it without, and sometimes in upper case."""
    return str(UUID(text)) if text else None


def file_entry(row: Mapping[str, Any], pfn: str = "") -> FileEntry:
    """A file, of its metadata or of a dataset's content."""
    return FileEntry(
        did_of(row),
        pfn,
        number(row["bytes"]),
        _lower(row["adler32"]),
        None if row.get("events") is None else number(row["events"]),
        _lower(row.get("md5")),
        guid(row.get("guid")),
    )


def dataset_entry(row: Mapping[str, Any], counts: tuple[int, int, int] | None = None) -> DatasetEntry:
    """A dataset, of its metadata.

    Args:
        counts: bytes, files, events as they are now. Rucio keeps them of closed datasets, and old ones of open ones.
    """
    bytes_, length, events = counts or (number(row["bytes"]), number(row["length"]), number(row["events"]))
    created_at = moment(row["created_at"])
    assert created_at is not None
    return DatasetEntry(
        did=did_of(row),
        state=DatasetState.OPEN if row["is_open"] else DatasetState.CLOSED,
        account=row["account"],
        created_at=created_at,
        closed_at=moment(row["closed_at"]),
        bytes=bytes_,
        length=length,
        events=events,
        expires_at=moment(row["expired_at"]),
        used_at=moment(row.get("accessed_at")),
    )


def rule_of(row: Mapping[str, Any]) -> ReplicationRule:
    """A replication rule, as it is listed."""
    return ReplicationRule(
        id=row["id"],
        did=did_of(row),
        account=row["account"],
        rse_expression=row["rse_expression"],
        copies=int(row["copies"]),
        locked=bool(row["locked"]),
        expires_at=moment(row["expires_at"]),
    )


def seconds(lifetime: timedelta | None) -> int | None:
    """A lifetime as the server takes it: what has not quite passed has not passed."""
    return None if lifetime is None else max(math.ceil(lifetime.total_seconds()), 0)


def metadata_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """Rucio's keys and those that people have set: without those that nobody has, with times in UTC."""
    return {
        key: moment(value) if key.endswith("_at") and isinstance(value, str) else value
        for key, value in row.items()
        if (value is not None or key in _ALWAYS) and key not in ("scope", "name")
    }


def readable(reader: Callable[[], _Thing]) -> _Thing:
    """What was read. Raises CatalogUnavailable if the answer has another form than Rucio's."""
    try:
        return reader()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CatalogUnavailable(f"Rucio's answer cannot be read ({error!r}): is this a Rucio server?") from error


def _lower(text: str | None) -> str | None:
    return text.lower() if text else None
