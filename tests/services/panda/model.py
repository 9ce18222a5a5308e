"""What the stand-in remembers: tasks, workflow requests with their works, and files of the cache."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Params = dict[str, Any]

#: States that a task leaves only by a retry, a reload or a reactivation.
FINAL = frozenset({"done", "finished", "failed", "broken", "aborted"})
#: Final states with output, which open the gates of steps that wait for them.
PROCESSED = frozenset({"done", "finished"})

SUPER = {
    "registered": "registered",
    "defined": "registered",
    "assigning": "registered",
    "ready": "ready",
    "pending": "ready",
    "scouting": "submitting",
    "scouted": "submitting",
}


def now() -> str:
    """Now in UTC, as a time without a zone in ISO format with microseconds, which sorts as a text."""
    return datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")


@dataclass
class Task:
    """One task. `status` is None while only DEFT knows it; JEDI then "refines" it to `defined`.

    `due` is when the clock looks at it next, in seconds since 1970. `fields` override columns of its details.
    """

    id: int
    name: str
    owner: str
    params: Params
    parent: int
    due: float
    status: str | None = None
    old_status: str | None = None
    created: str = field(default_factory=now)
    modified: str = field(default_factory=now)
    started: str | None = None
    ended: str | None = None
    error: str | None = None
    files: int = 0
    finished: int = 0
    failed: int = 0
    missing: int = 0
    attempt: int = 0
    jobs: list[Params] = field(default_factory=list)
    commands: list[Params] = field(default_factory=list)
    command: str | None = None
    fields: Params = field(default_factory=dict)

    def move(self, status: str) -> None:
        """Take another state, with the times that come with it."""
        if status == self.status:
            return
        self.old_status, self.status, self.modified = self.status, status, now()
        if status in FINAL:
            self.ended = self.modified
        else:
            self.ended = None
            self.started = self.started or self.modified

    @property
    def super_status(self) -> str:
        status = self.status or "registered"
        return status if status in FINAL else SUPER.get(status, "running")

    @property
    def expected_files(self) -> int:
        """How many inputs its parameters announce; 1 when they say nothing."""
        if "nFiles" in self.params:
            return int(self.params["nFiles"])
        if self.params.get("noInput") and "nEvents" in self.params:
            return max(1, int(self.params["nEvents"]) // int(self.params.get("nEventsPerJob", 1)))
        return 1


@dataclass
class Work:
    """One step of a workflow, which becomes a task as soon as `gate` opens.

    A gate is None, or a list: `["started", node]`, `["processed", node]`, `["failed", node]`, `["and", gate ...]`,
    `["or", gate ...]`.
    """

    node: int
    name: str
    params: Params
    parents: list[int]
    gate: list[Any] | None
    transform_id: int = 0
    task_id: int | None = None
    error: str | None = None


@dataclass
class Request:
    """One workflow that iDDS was asked for."""

    id: int
    name: str
    owner: str
    out_ds: str
    works: list[Work]
    created: str = field(default_factory=now)
    updated: str = field(default_factory=now)
    aborted: bool = False


@dataclass
class File:
    """One file of the cache."""

    name: str
    owner: str
    size: int
    checksum: int
    content: bytes = b""
