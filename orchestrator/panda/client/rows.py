"""What PanDA and iDDS tell of tasks, requests and jobs, as plain rows.

Both send far more than is kept here. Times come without a zone and are UTC.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

#: iDDS's words for the states of requests and of transforms, which share their numbers.
_IDDS_WORDS = {
    0: "New",
    1: "Ready",
    2: "Transforming",
    3: "Finished",
    4: "SubFinished",
    5: "Failed",
    6: "Extend",
    7: "ToCancel",
    8: "Cancelling",
    9: "Cancelled",
    10: "ToSuspend",
    11: "Suspending",
    12: "Suspended",
    13: "ToResume",
    14: "Resuming",
    15: "ToExpire",
    16: "Expiring",
    17: "Expired",
}
#: The parts of PanDA that blame themselves for a job: name for people, field of the code, field of the text.
_BLAMED = (
    ("pilot", "pilotErrorCode", "pilotErrorDiag"),
    ("payload", "exeErrorCode", "exeErrorDiag"),
    ("transformation", "transExitCode", None),
    ("data", "ddmErrorCode", "ddmErrorDiag"),
    ("brokerage", "brokerageErrorCode", "brokerageErrorDiag"),
    ("dispatcher", "jobDispatcherErrorCode", "jobDispatcherErrorDiag"),
    ("server", "taskBufferErrorCode", "taskBufferErrorDiag"),
    ("supervisor", "supErrorCode", "supErrorDiag"),
)


@dataclass(frozen=True, slots=True)
class Task:
    """One task of JEDI."""

    id: int
    #: As it was named; one of prun ends with a slash.
    name: str
    #: JEDI's word: `scouting`, `exhausted`, `finished` (which is partly done), `done` (which is all of it).
    status: str
    super_status: str | None
    #: The task whose output it reads, if it has exactly one such.
    parent: int | None
    user: str | None
    n_files: int
    n_files_finished: int
    n_files_failed: int
    #: 0 to 100, where the server says it.
    percent: float | None
    #: What JEDI says about an error; may hold HTML.
    error: str | None
    created_at: datetime | None
    modified_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    site: str | None
    #: Megabytes for each core.
    ram_count: int | None
    attempt: int | None


@dataclass(frozen=True, slots=True)
class RequestRow:
    """One step of a request of iDDS; a request that has no step yet is one row without them."""

    request_id: int
    #: The workflow's name.
    name: str | None
    user: str | None
    #: The state of the whole request: `Transforming`, `SubFinished`.
    status: str
    transform_id: int | None
    #: The name that the step's task has or will have.
    transform_name: str | None
    transform_status: str | None
    #: The step's task, once it was handed in.
    workload_id: int | None
    errors: str | None


@dataclass(frozen=True, slots=True)
class JobError:
    """What one part of PanDA says went wrong."""

    #: pilot, payload, transformation, data, brokerage, dispatcher, server or supervisor.
    source: str
    code: int
    text: str


@dataclass(frozen=True, slots=True)
class Job:
    """One job of a task."""

    id: int
    status: str
    attempt: int | None
    site: str | None
    errors: tuple[JobError, ...]
    #: Where its log can be read.
    log: str | None
    modified_at: datetime | None


def task_row(row: Mapping[str, Any]) -> Task:
    """Raises ValueError, KeyError, TypeError: it is no task."""
    number = int(row["jediTaskID"])
    parent = _number(row.get("parent_tid"))
    created = moment(row.get("creationDate"))
    modified = moment(row.get("modificationTime")) or created
    if modified is None:
        raise ValueError(f"task {number} has no modificationTime")
    return Task(
        id=number,
        name=str(row["taskName"]),
        status=str(row["status"]),
        super_status=_text(row.get("superStatus")),
        parent=None if parent == number else parent,  # its own number stands for none
        user=_text(row.get("userName")),
        n_files=_number(row.get("nFiles")) or 0,
        n_files_finished=_number(row.get("nFilesFinished")) or 0,
        n_files_failed=_number(row.get("nFilesFailed")) or 0,
        percent=_share(row.get("pctFinished")),
        error=_text(row.get("errorDialog")),
        created_at=created,
        modified_at=modified,
        started_at=moment(row.get("startTime")),
        ended_at=moment(row.get("endTime")),
        site=_text(row.get("site")),
        ram_count=_number(row.get("ramCount")),
        attempt=_number(row.get("attemptNr")),
    )


def request_row(row: Mapping[str, Any]) -> RequestRow:
    """Raises ValueError, KeyError, TypeError: it is no request."""
    workload = _number(row.get("transform_workload_id")) or _number(row.get("processing_workload_id"))
    return RequestRow(
        request_id=int(row["request_id"]),
        name=_text(row.get("name")),
        user=_text(row.get("username")),
        status=_word(row.get("status")) or "New",
        transform_id=_number(row.get("transform_id")),
        transform_name=_text(row.get("transform_name")),
        transform_status=_word(row.get("transform_status")),
        workload_id=workload,
        errors=_complaint(row.get("errors")),
    )


def job_row(row: Mapping[str, Any], page: str | None) -> Job:
    """A job; `page` is the monitor's page for it, where its log is found if it has no log of its own.

    Raises ValueError, KeyError, TypeError: it is no job.
    """
    # The first part of the pilot's description is where its own output lies.
    pilot = str(row.get("pilotID") or "").split("|")[0]
    return Job(
        id=int(row["PandaID"]),
        status=str(row["jobStatus"]),
        attempt=_number(row.get("attemptNr")),
        site=_text(row.get("computingSite")),
        errors=tuple(_blamed(row)),
        log=pilot if re.match(r"https?://", pilot) else page,
        modified_at=moment(row.get("modificationTime")),
    )


def moment(value: Any) -> datetime | None:
    """A time as PanDA writes it, `{"__datetime__": "2026-11-22T01:15:45.1"}` or its text; UTC. None for none."""
    text = value.get("__datetime__") if isinstance(value, Mapping) else value
    if not isinstance(text, str) or not text or text == "NULL":
        return None
    read = datetime.fromisoformat(text)
    return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)


def _blamed(row: Mapping[str, Any]) -> list[JobError]:
    found = []
    for source, code_field, text_field in _BLAMED:
        code = _number(row.get(code_field)) or 0
        text = _text(row.get(text_field)) if text_field else None
        if code or text:
            found.append(JobError(source, code, text or f"exit code {code}"))
    return found


def _word(value: Any) -> str | None:
    """A state of iDDS: a word, its number, or `{"class": ..., "attributes": {"_value_": 2, "_name_": ...}}`."""
    if isinstance(value, Mapping):
        attributes = value.get("attributes") or {}
        value = attributes.get("_name_") or attributes.get("_value_")
    if isinstance(value, int) and not isinstance(value, bool):
        return _IDDS_WORDS.get(value, str(value))
    return _text(value)


def _complaint(value: Any) -> str | None:
    """What iDDS says went wrong: text, or a mapping with `msg` or `message`, often empty."""
    if isinstance(value, Mapping):
        value = value.get("msg") or value.get("message") or {name: text for name, text in value.items() if text}
    return str(value) if value else None


def _text(value: Any) -> str | None:
    """Text as it can be kept: JSON may hold half a character."""
    return None if value is None or value in ("", "NULL") else str(value).encode("utf-8", "backslashreplace").decode()


def _number(value: Any) -> int | None:
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"-?\d+", value) else None
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _share(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
