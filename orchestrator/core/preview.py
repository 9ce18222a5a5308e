"""What an edited set of rules would have done with the whole history, beside what the set in force does with it.

Of the rules, those that differ are asked about every message; the others only where it matters. A rule matches where
`RuleSet.judge` finds a match or a place in a waiting room; templates are filled in only where they might fail, or make
a key. What people did by hand, caps and pace are left out: they say when something starts, not whether.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from orchestrator.core.asking import (
    AFTER,
    BEFORE,
    Asking,
    Candidate,
    Outcome,
    Row,
    RuleChange,
    candidates_of,
    interest_in,
)
from orchestrator.core.past import Page
from orchestrator.core.seen import Rooms, Seen
from schemas.did import Did
from schemas.rule import Rule, RuleVersion, RuleVersionId

#: Tells who has some unique keys: message, rule and dispatch, by key.
Holders = Callable[[Collection[str]], Mapping[str, tuple[int, str, int]]]

#: A unique key, the message of this history that had it first, and who has it in the store.
_Taken = tuple[str, int | None, tuple[int, str, int] | None]

_LAUNCH: Final = "launch"


def edited(live: Sequence[RuleVersion], rules: Sequence[Rule], *, prune: bool) -> list[RuleVersion]:
    """The set that applying the rules would make, by name. New versions have ids below 0."""
    given = {rule.name: rule for rule in rules}
    stood = {version.rule.name: version for version in live}
    names = sorted(given if prune else {*given, *stood})
    made = []
    for number, name in enumerate(names, start=1):
        old, new = stood.get(name), given.get(name)
        if old is not None and new in (None, old.rule):
            made.append(old)
        elif new is not None:
            since = 1 + max((version.since_revision for version in live), default=0)
            made.append(
                RuleVersion(
                    id=RuleVersionId(-number),
                    version=1 if old is None else old.version + 1,
                    since_revision=since,
                    until_revision=None,
                    rule=new,
                )
            )
    return made


class Example(NamedTuple):
    """A message that shows what a count is about."""

    message_id: int
    event: str
    did: Did
    #: The rules that match, as far as they differ.
    before: Sequence[str]
    after: Sequence[str]
    #: What else is to be said.
    note: str = ""


class Tally:
    """A count, with its newest examples."""

    def __init__(self, examples: int) -> None:
        self.count = 0
        self._newest: deque[tuple[Row, Sequence[str], Sequence[str], _Taken | None]] = deque(maxlen=examples)

    def add(self, row: Row, before: Sequence[str], after: Sequence[str], taken: _Taken | None = None) -> None:
        """`taken` is put into words for what is kept in the end."""
        self.count += 1
        self._newest.append((row, before, after, taken))

    @property
    def examples(self) -> list[Example]:
        return [
            Example(row[0], row[1], Did(row[2] or "", row[3] or ""), before, after, _said(taken))
            for row, before, after, taken in self._newest
        ]


class Preview:
    """Two sets of rules, compared on a history that is shown to them page by page, oldest first."""

    def __init__(self, before: Sequence[RuleVersion], after: Sequence[RuleVersion], *, examples: int = 5) -> None:
        """Raises PatternError, ConditionError or RunsError."""
        sets = tuple({version.rule.name: version for version in versions} for versions in (before, after))
        differing = [name for name in sorted({*sets[0], *sets[1]}) if _rule(sets[0], name) != _rule(sets[1], name)]
        self._changes = [RuleChange(name, _what(sets[0], sets[1], name)) for name in differing]
        candidates = [
            each
            for change in self._changes
            for side in (BEFORE, AFTER)
            if change.name in sets[side]
            for each in candidates_of(side, sets[side][change.name], change)
        ]
        unchanged = [version for name, version in sets[AFTER].items() if name not in differing]
        others = [each for version in unchanged for each in candidates_of(AFTER, version, None)]
        self._asking, self._others = Asking(candidates), Asking(others)
        #: The part of history that it has to be shown.
        self.interest = interest_in(candidates, others)
        #: Whether starts are launches; without any, they are actions of every kind.
        self.launches = any(_LAUNCH in each.actors for each in candidates)
        for each in candidates:
            each.weight = each.actors.count(_LAUNCH) if self.launches else len(each.actors)
        self.newly, self.no_longer, self.otherwise = Tally(examples), Tally(examples), Tally(examples)
        #: Of the matches after, those whose unique key is taken.
        self.refused = Tally(examples)
        self._hours: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
        self._seen = (Seen(), Seen())
        self._counts: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
        self._rooms = (Rooms(), Rooms())

    def look(self, page: Page, holders: Holders) -> None:
        """Ask about one page of history."""
        wanted: list[tuple[Row, Candidate, str | None]] = []
        for row in page.rows:
            outcome = self._asking.ask(row, page)
            if outcome is None:
                continue
            outcome.count += 1
            if outcome.differs:
                self._compare(row, outcome, page)
            if outcome.restrained:
                wanted += [(row, candidate, candidate.key) for candidate in outcome.matching]
            else:
                outcome.hours[_hour(row[4])] += 1
        self._start(wanted, holders)

    @property
    def rules(self) -> Sequence[RuleChange]:
        """The rules that differ, by name, with what was counted so far."""
        return self._totals()[0]

    @property
    def hours(self) -> Mapping[str, tuple[int, int]]:
        """Starts by hour of the event (`2026-11-22 01`, UTC), before and after; hours without any are left out."""
        before, after = self._totals()[1]
        return {hour: (before[hour], after[hour]) for hour in sorted({*(+before), *(+after)})}

    def load(self, side: int) -> tuple[int, str, float]:
        """The most starts in an hour, when that was, and the mean over the hours from the first to the last start."""
        counts = self._totals()[1][side]
        if not +counts:
            return 0, "", 0.0
        (peak_hour, peak), *_ = counts.most_common(1)
        first, last = (datetime.fromisoformat(f"{hour}:00+00:00") for hour in (min(+counts), max(+counts)))
        return peak, f"{peak_hour}:00", counts.total() / ((last - first).total_seconds() / 3600 + 1)

    def _totals(self) -> tuple[Sequence[RuleChange], tuple[Counter[str], Counter[str]]]:
        changes = {change.name: change.copy() for change in self._changes}
        hours = (self._hours[BEFORE].copy(), self._hours[AFTER].copy())
        for outcome in self._asking.outcomes:
            for name in {*outcome.before, *outcome.after}:
                changes[name].gained += outcome.count * (name not in outcome.before)
                changes[name].lost += outcome.count * (name not in outcome.after)
            for candidate in outcome.matching:
                changes[candidate.name].matched[candidate.side] += outcome.count
                started = outcome.hours.total() * candidate.weight
                changes[candidate.name].started[candidate.side] += started
                for hour, count in outcome.hours.items():
                    hours[candidate.side][hour] += count * candidate.weight
        return list(changes.values()), hours

    def _compare(self, row: Row, outcome: Outcome, page: Page) -> None:
        if (outcome.before and outcome.after) or self._others.ask(row, page) is not None:
            tally = self.otherwise
        else:
            tally = self.newly if outcome.after else self.no_longer
        tally.add(row, outcome.before, outcome.after)

    def _start(self, wanted: Sequence[tuple[Row, Candidate, str | None]], holders: Holders) -> None:
        """What of the matches would be carried out: each in its turn, after the prescale and the unique keys."""
        keys = {key for _, candidate, key in wanted if key is not None and candidate.join is None}
        taken = holders(keys) if keys else {}
        for row, candidate, key in wanted:
            side, change, who = candidate.side, candidate.change, row[0]
            assert change is not None, "only rules that differ are counted"
            if candidate.join is not None:
                slot = candidate.slot or 0
                if not self._rooms[side].complete(candidate.name, candidate.join, slot, key or ""):
                    continue
                key = None
            if candidate.prescale > 1:
                self._counts[side][candidate.name] += 1
                if (self._counts[side][candidate.name] - 1) % candidate.prescale:
                    change.prescaled[side] += 1
                    continue
            if key is not None:
                first, holder = self._seen[side].first(key, who), taken.get(key)
                if first is not None if holder is None else holder[:2] != (who, candidate.name):
                    change.refused[side] += 1
                    if side == AFTER:
                        self.refused.add(row, [], [candidate.name], (key, first, holder))
                    continue
            change.started[side] += candidate.weight
            self._hours[side][_hour(row[4])] += candidate.weight


def _said(taken: _Taken | None) -> str:
    """Who has the key, in words."""
    if taken is None:
        return ""
    key, first, holder = taken
    return f"the key {key!r} is taken by " + (f"message {first}" if holder is None else f"dispatch {holder[2]}")


def _rule(versions: Mapping[str, RuleVersion], name: str) -> Rule | None:
    return versions[name].rule if name in versions else None


def _what(before: Mapping[str, RuleVersion], after: Mapping[str, RuleVersion], name: str) -> str:
    if name not in before:
        return "added"
    return "changed" if name in after else "removed"


def _hour(created: Any) -> str:
    """`2026-11-22 01`; as text the moment begins with it."""
    return created[:13] if isinstance(created, str) else created.isoformat(" ", "hours")[:13]
