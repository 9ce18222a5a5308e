"""Faults that the stand-in makes on demand: on which path, at which call, of which kind."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from fnmatch import fnmatchcase

#: What each kind does, and whether the call has been handled when the caller learns of the fault.
KINDS = {
    "500": False,  # these four: that status with a line of text
    "503": False,
    "403": False,
    "404": False,
    "html": False,  # status 200 with a page of HTML, as a proxy or a log-in page sends it
    "cut": True,  # the JSON of the answer ends in the middle
    "empty": True,  # status 200 without a body
    "drop": False,  # the connection closes before the call is handled
    "lost": True,  # the connection closes after it was handled: the answer is lost
    "hang": True,  # handled after `seconds`, then answered
    "hang_after": True,  # handled at once, answered after `seconds`
    "slow": True,  # as `hang`, at every call unless `times` says otherwise
    "late": True,  # the connection closes at once, the call is handled `seconds` later
}
#: Kinds that can be told whether the call is handled.
EITHER = frozenset({"500", "503", "403", "404", "html", "empty"})
DELAYS = frozenset({"hang", "hang_after", "slow"})


@dataclass
class Fault:
    """One fault to come. `path` is a pattern of names as they are counted (`task/submit`, `task/*`, `*`).

    It hits the `nth` call from now that `path` matches and `times` calls in all (None: every one from there on).
    `handled` says for error answers whether the call takes effect all the same.
    """

    path: str
    kind: str
    nth: int = 1
    times: int | None = 1
    seconds: float = 0.0
    handled: bool | None = None
    seen: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"no such kind of fault: {self.kind!r}; there are {', '.join(KINDS)}")
        if self.handled is None:
            self.handled = KINDS[self.kind]
        elif self.kind not in EITHER:
            raise ValueError(
                f"whether a call is handled is part of {self.kind}; {', '.join(sorted(EITHER))} can do both"
            )

    def hits(self) -> bool:
        """Count one more matching call and tell whether it is hit."""
        self.seen += 1
        return self.seen >= self.nth and (self.times is None or self.seen < self.nth + self.times)


class Faults:
    """The faults to come, asked once for each call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> None:
        with self._lock:
            self._faults.append(fault)

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()

    def take(self, path: str) -> list[Fault]:
        """The faults that hit this call."""
        with self._lock:
            return [fault for fault in self._faults if fnmatchcase(path, fault.path) and fault.hits()]
