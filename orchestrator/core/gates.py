"""Which of the dispatches that are due may be started now, in which order, and why the others may not.

A dispatch passes three gates: its rule's, its group's and the one of everything. Each may be suspended, have a cap on
what goes on, and a pace. The order is written down in docs/how-to/limits.md.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from math import inf
from typing import Final, NamedTuple

from schemas.durations import format_duration
from schemas.gate import Kind
from schemas.rule import Limits, Order

#: What has been due for longer counts as of the highest priority.
OVERDUE: Final = timedelta(hours=1)

#: With newest first, every so many starts of a rule are of its oldest dispatch.
OLDEST_EVERY: Final = 10


class Subject(NamedTuple):
    """What a gate belongs to."""

    kind: Kind
    name: str = ""

    @property
    def words(self) -> str:
        if self.kind is Kind.TRANSIENT:
            return "release of transient datasets"
        return f"{self.kind} {self.name}" if self.name else str(self.kind)


EVERYTHING: Final = Subject(Kind.EVERYTHING)

#: New releases, and the steps of those that are under way. No dispatch passes it.
TRANSIENT: Final = Subject(Kind.TRANSIENT)

#: Limits by what they are about; what is not in it has none.
LimitsOf = Mapping[Subject, Limits]


def subjects_of(rule: str, group: str | None) -> list[Subject]:
    """The gates on the way of a rule's dispatches, its own first."""
    own = Subject(Kind.RULE, rule)
    return [own, EVERYTHING] if group is None else [own, Subject(Kind.GROUP, group), EVERYTHING]


def order_of(rule: str, group: str | None, limits: LimitsOf) -> Order:
    """Newest first if the rule or its group says so."""
    said = {limits[subject].order for subject in subjects_of(rule, group) if subject in limits}
    return Order.NEWEST if Order.NEWEST in said else Order.OLDEST


class Window(NamedTuple):
    """First tries within the span of a pace."""

    used: int = 0
    #: When the first of them started.
    oldest: datetime | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A dispatch that is ready and due."""

    id: int
    rule: str
    group: str | None
    priority: int
    due_since: datetime
    #: Only first tries count for a pace.
    first: bool = True


class Closed(NamedTuple):
    """Why a dispatch may not be started now."""

    why: str
    #: When a pace lets it through; None if that depends on what ends, or on a person.
    opens_at: datetime | None = None


class Gates:
    """The gates as they stand at a moment; each start that is let through counts."""

    def __init__(
        self,
        limits: LimitsOf,
        *,
        now: datetime,
        running: Mapping[Subject, int] | None = None,
        windows: Mapping[Subject, Window] | None = None,
        suspended: Collection[Subject] = (),
    ) -> None:
        """`running` and `windows` say what goes on and what was started, for the subjects with a cap or a pace."""
        self._limits = limits
        self._now = now
        self._running = Counter(running or {})
        self._windows = dict(windows or {})
        self._suspended = suspended

    def closed(self, candidate: Candidate) -> Closed | None:
        """Why it may not be started; None if it may."""
        closed = (self.closed_by(subject, candidate.first) for subject in subjects_of(candidate.rule, candidate.group))
        return self.suspended(candidate) or next(filter(None, closed), None)

    def suspended(self, candidate: Candidate) -> Closed | None:
        """Why it may not be started, even if there is room; None if it may."""
        still = (self._still(subject) for subject in subjects_of(candidate.rule, candidate.group))
        return next(filter(None, still), None)

    def closed_by(self, subject: Subject, first: bool = True) -> Closed | None:
        """Why nothing may pass this one gate; None if it may. `first` says whether it is a first try."""
        return self._still(subject) or self._full(subject) or self._too_fast(subject, first)

    def let_through(self, candidate: Candidate) -> None:
        """Count a start."""
        for subject in subjects_of(candidate.rule, candidate.group):
            self._running[subject] += 1
            if candidate.first:
                window = self._windows.get(subject, Window())
                self._windows[subject] = Window(window.used + 1, window.oldest or self._now)

    def _still(self, subject: Subject) -> Closed | None:
        return Closed(f"{subject.words} is suspended") if subject in self._suspended else None

    def _full(self, subject: Subject) -> Closed | None:
        limits = self._limits.get(subject)
        if limits is None or limits.running is None or self._running[subject] < limits.running:
            return None
        return Closed(f"{subject.words}: {self._running[subject]} go on, and {limits.running} may")

    def _too_fast(self, subject: Subject, first: bool) -> Closed | None:
        pace = self._limits[subject].pace if first and subject in self._limits else None
        window = self._windows.get(subject, Window())
        if pace is None or window.used < pace.count:
            return None
        why = (
            f"{subject.words}: {window.used} were started within {format_duration(pace.span)}, the pace is {pace.count}"
        )
        return Closed(why, (window.oldest or self._now) + pace.span)


@dataclass(frozen=True, slots=True)
class Queue:
    """The dispatches of one rule and one priority that are due, as far as they are needed."""

    #: The oldest ones, oldest first.
    oldest: Sequence[Candidate]
    #: With newest first: the newest ones, newest first.
    newest: Sequence[Candidate] = ()
    #: With newest first: how many of the rule were started before.
    started: int = 0


@dataclass(frozen=True, slots=True)
class Choice:
    """What may be started, in its order, and why the others that were looked at may not."""

    started: list[Candidate] = field(default_factory=list)
    refused: dict[int, Closed] = field(default_factory=dict)


def choose(queues: Iterable[Queue], gates: Gates, limit: int, now: datetime) -> Choice:
    """Choose up to `limit` dispatches to be started; `gates` has counted them afterwards."""
    lines = [_Line(queue) for queue in queues if queue.oldest]
    choice = Choice()
    while lines and len(choice.started) < limit:
        line = min(lines, key=lambda each: rank(each.oldest, now))
        candidate = line.next()
        closed = gates.closed(candidate)
        if closed is None:
            gates.let_through(candidate)
            choice.started.append(candidate)
            line.started += 1
        else:
            choice.refused[candidate.id] = closed
        line.leave(candidate)
        if line.empty:
            lines.remove(line)
    return choice


def rank(oldest: Candidate, now: datetime) -> tuple[float, datetime, int]:
    """Which queue has its turn first, by its oldest dispatch: the smallest rank."""
    overdue = now - oldest.due_since > OVERDUE
    return -inf if overdue else -oldest.priority, oldest.due_since, oldest.id


class _Line:
    """A queue while it is being worked off."""

    def __init__(self, queue: Queue) -> None:
        self._oldest = list(reversed(queue.oldest))
        self._newest = list(reversed(queue.newest))
        self.started = queue.started

    @property
    def empty(self) -> bool:
        return not self._oldest

    @property
    def oldest(self) -> Candidate:
        return self._oldest[-1]

    def next(self) -> Candidate:
        tenth = (self.started + 1) % OLDEST_EVERY == 0
        return self._newest[-1] if self._newest and not tenth else self._oldest[-1]

    def leave(self, candidate: Candidate) -> None:
        for side in (self._oldest, self._newest):
            if candidate in side:
                side.remove(candidate)
