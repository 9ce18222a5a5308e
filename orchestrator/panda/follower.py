"""Follows many workflows on PanDA with few questions.

One question tells which tasks have changed since the last one, of all workflows together. Only what that cannot tell
is asked for one by one, more and more seldom: whether iDDS will still hand in a step whose task never came, what became
of tasks that are followed anew, and of those of which nothing was heard for long.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from orchestrator.clock import Clock, utc_now
from orchestrator.panda import following
from orchestrator.panda.client.api import PandaApi
from orchestrator.panda.client.rows import Task
from orchestrator.panda.following import Seen, Verdict
from orchestrator.panda.packing import naming
from orchestrator.panda.port import EngineRefused, EngineUnavailable, Tracked
from orchestrator.panda.reference import Kind, reference_of
from schemas.launch import StepProgress
from schemas.site import Site

#: Rows may become visible after others that say a later time.
_OVERLAP: Final = timedelta(minutes=2)
#: How far the server's clock may be from ours.
_SKEW: Final = timedelta(hours=1)
#: So long PanDA may not know what it has just taken.
GRACE: Final = timedelta(minutes=15)
#: Of a workflow of which nothing was heard for so long, the tasks are asked for by their numbers.
_QUIET: Final = timedelta(minutes=30)
_SELDOM: Final = timedelta(minutes=30)
#: Questions about single workflows, for each minute.
_A_MINUTE: Final = 40.0


#: iDDS keeps requests for some months.
FORGOTTEN: Final = Verdict("Expired", {}, {})


@dataclass(slots=True)
class Followed:
    """What is known of one workflow."""

    name: str
    #: The steps' tasks by name, without a slash.
    tasks: Mapping[str, str]
    #: When it is asked for by itself next, if need be, and how long to wait after that.
    ask_at: datetime
    pause: timedelta
    heard_at: datetime
    seen: dict[str, Seen] = field(default_factory=dict)
    verdict: Verdict | None = None
    #: Why there is nothing of it.
    lost: str | None = None

    def take(self, step: str, seen: Seen, now: datetime) -> None:
        if self.seen.get(step) != seen:
            self.seen[step] = seen
            self.verdict = None  # it was about how things stood before
            self.heard_at = now

    def steps(self, tracked: Tracked) -> tuple[StepProgress, ...]:
        """Each step as it was told last; what was known before of those that nothing was told of."""
        return tuple(self._step(step) for step in tracked.steps)

    def unseen(self, tracked: Tracked) -> list[int]:
        """Tasks that it has and that nothing was told of since it is followed."""
        known = {step.name: step.task for step in tracked.steps if step.task is not None}
        known |= {} if self.verdict is None else self.verdict.tasks
        return [task for step, task in known.items() if step not in self.seen]

    @property
    def is_live(self) -> bool:
        return any(not seen.is_over for seen in self.seen.values())

    def _step(self, step: StepProgress) -> StepProgress:
        if step.name in self.seen:
            return self.seen[step.name].step
        why = None if self.verdict is None else self.verdict.refused.get(step.name)
        if why is not None:
            return following.not_handed_in(step, why)
        return step


class Follower:
    """Knows how far workflows have come. For one thread.

    Args:
        elapsed: seconds since some moment; they go on even if somebody sets the clock.
    """

    def __init__(
        self, site: Site, api: PandaApi, *, clock: Clock = utc_now, elapsed: Callable[[], float] = time.monotonic
    ) -> None:
        self._site = site
        self._api = api
        self._clock = clock
        self._known: dict[str, Followed] = {}
        self._elapsed = elapsed
        #: A moment by PanDA's own clock, which is reached by the time of ours that stands beside it.
        self._reached: tuple[datetime, float] | None = None
        self._asked_at = elapsed()
        self._allowed = _A_MINUTE
        self._allowed_at = clock()

    def look(self, tracked: Sequence[Tracked]) -> Mapping[str, Followed]:
        """All of them, by name, brought up to date. Raises EngineUnavailable."""
        if not tracked:
            self._known = {}
            return {}
        now = self._clock()
        known = {each.name: self._known.get(each.name) or self._follow(each, now) for each in tracked}
        asked_at = self._elapsed()
        rows = self._changed(self._since(tracked))
        self._asked_at = asked_at
        self._set_the_clock(rows)
        for row in rows:
            self._take(row, known, now)
        self._known = known
        self._ask_singly(tracked, now)
        return known

    def _follow(self, tracked: Tracked, now: datetime) -> Followed:
        """What is new will be told of soon; what is old was told of before, to somebody else."""
        first = tracked.submitted_at + 2 * self._site.poll
        return Followed(tracked.name, names_of(self._site, tracked), max(now, first), self._site.poll, now)

    def _since(self, tracked: Sequence[Tracked]) -> datetime:
        """When PanDA was asked last, by its own clock, or before that."""
        if self._reached is None:
            return min((each.submitted_at for each in tracked), default=self._clock()) - _SKEW
        moment, reached_at = self._reached
        return moment + timedelta(seconds=max(0.0, self._asked_at - reached_at)) - _OVERLAP

    def _set_the_clock(self, rows: Sequence[Task]) -> None:
        """PanDA's clock is at least where its latest row says, and has gone on since."""
        # a row from the future would hide all that happens until then
        latest = self._clock() + _SKEW
        newest = max((row.modified_at for row in rows if row.modified_at <= latest), default=None)
        if newest is None:
            return
        now = self._elapsed()
        if self._reached is None or newest > self._reached[0] + timedelta(seconds=now - self._reached[1]):
            self._reached = newest, now

    def _changed(self, since: datetime) -> Sequence[Task]:
        try:
            return self._api.tasks(since=since)
        except EngineRefused as error:
            raise EngineUnavailable(f"PanDA does not tell which tasks have changed: {error}") from error

    def _take(self, row: Task, known: Mapping[str, Followed], now: datetime) -> None:
        prefix = f"{self._site.prefix}."
        for out_ds, step in following.owners(row.name):
            followed = known.get(out_ds.removeprefix(prefix)) if out_ds.startswith(prefix) else None
            if followed is not None and followed.tasks.get(step) == row.name.removesuffix("/"):
                self._note(followed, step, row, now)
                return

    def _note(self, followed: Followed, step: str, row: Task, now: datetime) -> None:
        if following.is_news(row, followed.seen.get(step)):
            followed.take(step, following.seen_as(row, step, self._site.monitor.task), now)

    def _ask_singly(self, tracked: Sequence[Tracked], now: datetime) -> None:
        """Ask for some of those that need it, those first that have waited longest."""
        self._allowed = min(_A_MINUTE, self._allowed + _A_MINUTE * (now - self._allowed_at) / timedelta(minutes=1))
        self._allowed_at = now
        due = [each for each in tracked if self._known[each.name].ask_at <= now and self._has_to_be_asked(each, now)]
        due.sort(key=lambda each: self._known[each.name].ask_at)
        for each in due:
            if self._allowed < 1:
                return
            followed = self._known[each.name]
            with suppress(EngineRefused):
                try:
                    self._ask(each, followed, now)
                except EngineUnavailable:
                    followed.ask_at = now + followed.pause  # if it is this one alone, the next look begins with others
                    return
            followed.ask_at, followed.pause = now + followed.pause, min(2 * followed.pause, _SELDOM)

    def _has_to_be_asked(self, tracked: Tracked, now: datetime) -> bool:
        followed = self._known[tracked.name]
        if followed.unseen(tracked):
            return True
        if followed.is_live:
            return now - followed.heard_at > _QUIET
        if reference_of(tracked.reference).kind is Kind.STEPS or len(followed.seen) == len(tracked.steps):
            return False
        return followed.verdict is None or not followed.verdict.is_over

    def _ask(self, tracked: Tracked, followed: Followed, now: datetime) -> None:
        reference = reference_of(tracked.reference)
        if reference.kind is Kind.REQUEST and not followed.is_live:
            self._allowed -= 1
            names = {name: step for step, name in followed.tasks.items()}
            followed.verdict = following.verdict_of(self._api.requests(reference.number), names)
            if followed.verdict is None and followed.seen and now - tracked.submitted_at > GRACE:
                followed.verdict = FORGOTTEN
        wanted = followed.unseen(tracked)
        if followed.is_live and not wanted:
            wanted = [seen.task for seen in followed.seen.values() if not seen.is_over]
        if reference.kind is Kind.TASK and not followed.seen:
            wanted = [reference.number]
        for row in self._by_number(wanted):
            self._take(row, self._known, now)
        if not followed.seen and followed.verdict is None and now - tracked.submitted_at > GRACE:
            followed.lost = self._lost(tracked)

    def _by_number(self, numbers: Sequence[int]) -> Iterator[Task]:
        for number in numbers:
            self._allowed -= 1
            if (row := self._api.task(number)) is not None:
                yield row

    def _lost(self, tracked: Tracked) -> str | None:
        reference = reference_of(tracked.reference)
        if reference.kind is Kind.STEPS and not any(step.task for step in tracked.steps):
            return None  # its first step may not have been sent
        return f"PanDA knows nothing of {tracked.name} any more, which it had taken as {reference.words}"


def names_of(site: Site, tracked: Tracked) -> Mapping[str, str]:
    """The name of each step's task, without a slash: its steps are kept in the order in which they were sent."""
    begin = naming.out_ds(site, tracked.name)
    return {step.name: f"{begin}_{number:03d}_{step.name}" for number, step in enumerate(tracked.steps)}
