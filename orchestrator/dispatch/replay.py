"""Replay: stored messages are sent through the rules once more, as they are or as they were.

What a rule joins with others goes back to pending, and the dispatcher lets it into the rule's waiting rooms. These go
by the rule in force: a rule that joins is replayed in the words in which it is in force, and in no others.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

from orchestrator.clock import Clock
from orchestrator.core.clauses import UNKNOWN, Facts, run_of
from orchestrator.core.matching import Joining, RuleSet, Verdict
from orchestrator.core.pacing import Spent, free_at
from orchestrator.core.patterns import Pattern
from orchestrator.core.runs import Runs
from orchestrator.dispatch.enricher import Ask, answers_to
from orchestrator.store.facts import Question
from orchestrator.store.foreseeing import Foreseen
from orchestrator.store.port import StoreUnavailable
from orchestrator.store.replay_batch import Judged, Rejoining
from orchestrator.store.store import Store
from schemas.message import MessageState
from schemas.replay import LeftOut, Replay, ReplayRequest, ReplayState
from schemas.rule import RuleVersion

#: Messages looked at in one transaction; and the catalog takes questions about no more than 1000 at once.
_BATCH: Final = 500

#: All versions of all rules.
_ALL: Final = 2**31 - 1

#: For so long a store that cannot be written to is tried again.
_PATIENCE: Final = timedelta(minutes=1)

#: While the pace or the store is waited for, whether to stop is looked at so often, in seconds.
_GLANCE: Final = 0.2


class Replayer:
    """Carries replays on, or tries them."""

    def __init__(
        self,
        store: Store,
        unmatched: Mapping[str, MessageState],
        ask: Ask,
        *,
        clock: Clock,
        pause: Callable[[float], None] = time.sleep,
        batch: int = _BATCH,
    ) -> None:
        """`ask` asks the catalog for what a rule wants to know and nobody has asked yet."""
        self._store = store
        self._unmatched = unmatched
        self._ask = ask
        self._clock = clock
        self._pause = pause
        self._batch = batch

    def carry_on(self, replay: Replay, stopping: Callable[[], bool], tell: Callable[[Replay], None]) -> Replay:
        """Go on with a replay that runs, until it is done, is stopped, or `stopping` says so. `tell` hears of it.

        Raises:
            NotAllowed: another process has carried it on.
            CatalogUnavailable, StoreUnavailable (for a minute, without an end): it can be resumed.
        """
        rules: _Rules | None = None
        away_since: datetime | None = None
        while replay.state is ReplayState.RUNNING and not stopping():
            try:
                if (wait := self._until_free(replay)) > 0:
                    self._pause(min(_GLANCE, wait))
                    replay = self._store.replays.get(replay.id)
                    continue
                if rules is None or rules.live.revision != self._store.rules.revision():
                    rules = _Rules(self._store, replay.request, self._unmatched)
                replay = self._go_on(replay, rules)
                away_since = None
                tell(replay)
            except StoreUnavailable:
                # on SQLite, a dispatcher that lets in what was put back leaves little time for others
                away_since = away_since or self._clock()
                if self._clock() - away_since > _PATIENCE:
                    raise
                self._pause(_GLANCE)
        return replay

    def _go_on(self, replay: Replay, rules: _Rules) -> Replay:
        """One batch."""
        found = self._store.replays.read(replay.request, replay.position, replay.until, self._batch)
        judged = self._judge(rules, self._known(rules, found, keep=True))
        last = found[-1].message.id if len(found) == self._batch else replay.until
        return self._store.replays.write(replay, judged, last=last, revision=rules.live.revision, now=self._clock())

    def foresee(self, request: ReplayRequest, stopping: Callable[[], bool]) -> Foreseen:
        """What a replay would do. Nothing is written, and no pace is kept. Raises CatalogUnavailable."""
        rules, so_far, position = _Rules(self._store, request, self._unmatched), Foreseen(), 0
        until, _ = self._store.replays.extent(request)
        while position < until and not stopping():
            found = self._store.replays.read(request, position, until, self._batch)
            self._store.replays.foresee(request, self._judge(rules, self._known(rules, found, keep=False)), so_far)
            position = found[-1].message.id if len(found) == self._batch else until
        return so_far

    def _until_free(self, replay: Replay) -> float:
        """In how many seconds the pace allows more."""
        pace = replay.request.pace
        free = None if pace is None else free_at(pace, Spent(replay.paced, replay.paced_at))
        return 0.0 if free is None else (free - self._clock()).total_seconds()

    def _known(self, rules: _Rules, found: Sequence[Facts], *, keep: bool) -> Sequence[Facts]:
        """The messages, with the catalog's answers for those about which some rule asks, and nobody has asked."""
        questions = [
            Question(facts.message.id, facts.message.did, 0)
            for facts in found
            if facts.metadata is None and rules.want_metadata(facts)
        ]
        if not questions:
            return found
        answers = answers_to(questions, self._ask)
        if keep:
            self._store.facts.answer(answers, now=self._clock())
        return [
            facts._replace(metadata=answers[facts.message.id].document) if facts.message.id in answers else facts
            for facts in found
        ]

    def _judge(self, rules: _Rules, found: Sequence[Facts]) -> list[Judged]:
        return [rules.judge(facts) for facts in found]


class _Rules:
    """The rules of a replay: for every message those that count."""

    def __init__(self, store: Store, request: ReplayRequest, unmatched: Mapping[str, MessageState]) -> None:
        self._request = request
        self._runs = Runs.read(request.runs) if request.runs else None
        self._moments = store.replays.revision_moments() if request.as_of == "then" else []
        revision, versions = in_force = store.rules.in_force()
        #: The rules in force now, all of them.
        self.live = RuleSet(revision, versions, unmatched)

        @lru_cache(maxsize=16)
        def at(revision: int) -> RuleSet:
            return RuleSet(revision, replayed(store, request, revision, in_force[1]), unmatched)

        self._at = at

    def want_metadata(self, facts: Facts) -> bool:
        """Whether a rule, or the selection of runs, asks for what only the catalog knows."""
        verdict = self._verdict(facts)
        if verdict.wants_facts or (verdict.joins and self.live.judge(facts).wants_facts):
            return True
        if self._runs is None:
            return False
        captured = [match.captured for match in verdict.matches] + [_captured(each, facts) for each in verdict.joins]
        return any(run_of(facts, each) is UNKNOWN for each in captured)

    def judge(self, facts: Facts) -> Judged:
        verdict = self._verdict(facts)
        matches = [match for match in verdict.matches if self._in_runs(match.captured, facts)]
        joins = [each for each in verdict.joins if self._in_runs(_captured(each, facts), facts)]
        pending = facts.message.state is MessageState.PENDING
        live = self.live.judge(facts) if joins or pending else None
        started = {match.version.rule.name for match in matches}
        settled = live is None or not pending or _has_all(live, started)
        rejoining = Rejoining(joins, live) if joins and live is not None else None
        return Judged(facts.message, matches, verdict.troubles, settled, rejoining)

    def _verdict(self, facts: Facts) -> Verdict:
        as_of = self._request.as_of
        if as_of == "then":
            as_of = _revision_at(self._moments, facts.message.received_at)
        return self._at(as_of).judge(facts)

    def _in_runs(self, captured: Mapping[str, str], facts: Facts) -> bool:
        if self._runs is None:
            return True
        run = run_of(facts, captured)
        return isinstance(run, int) and run in self._runs


def _has_all(live: Verdict, started: Collection[str]) -> bool:
    """Whether a pending message, for which these rules have started, has nothing more to wait for."""
    return not live.waits and {match.version.rule.name for match in live.matches} <= {*started}


def _captured(joining: Joining, facts: Facts) -> Mapping[str, str]:
    """What the pattern of the member that a message is has captured of its name."""
    rule = joining.version.rule
    return _pattern(rule.pattern, rule.search).captures(facts.message.name or "") or {}


@lru_cache(maxsize=1024)
def _pattern(text: str, search: bool) -> Pattern:
    return Pattern(text, search=search)


def _revision_at(moments: Sequence[tuple[datetime, int]], moment: datetime) -> int:
    """The revision that was in force at a moment; 0 before the first."""
    position = bisect_right(moments, (moment, 2**63))
    return moments[position - 1][1] if position else 0


# Which rules count.


def replayed(store: Store, request: ReplayRequest, revision: int, in_force: Sequence[RuleVersion]) -> list[RuleVersion]:
    """The versions of a revision that a replay sends messages through.

    Those that join datasets only if they are in force now, word for word: waiting rooms go by what is in force.
    """
    live = _by_name(in_force)
    return [
        version
        for version in _named(request, store.rules.at(revision))
        if _usable(version, live.get(version.rule.name))
    ]


def left_out(store: Store, request: ReplayRequest) -> list[LeftOut]:
    """The rules that join datasets and that the replay is about, but not as they are in force now."""
    live = _by_name(store.rules.in_force()[1])
    found: list[LeftOut] = []
    for version in _named(request, _counting(store, request)):
        now = live.get(version.rule.name)
        if version.rule.enabled and not _usable(version, now):
            found.append(LeftOut(rule=version.rule.name, version=version.version, why=_why_not(now)))
    return sorted(found, key=lambda each: (each.rule, each.version))


def _by_name(versions: Sequence[RuleVersion]) -> Mapping[str, RuleVersion]:
    return {version.rule.name: version for version in versions}


def _named(request: ReplayRequest, versions: Sequence[RuleVersion]) -> list[RuleVersion]:
    return [version for version in versions if not request.rules or version.rule.name in request.rules]


def _usable(version: RuleVersion, now: RuleVersion | None) -> bool:
    return version.rule.join is None or (now is not None and now.rule == version.rule)


def _counting(store: Store, request: ReplayRequest) -> Sequence[RuleVersion]:
    """The versions that count for some of the messages."""
    if request.as_of != "then":
        return store.rules.at(request.as_of)
    moments = store.replays.revision_moments()
    first = 0 if request.since is None else _revision_at(moments, request.since)
    last = store.rules.revision() if request.until is None else _revision_at(moments, request.until)
    return [
        version
        for version in store.rules.history(limit=_ALL)
        if version.since_revision <= last and _until(version) > max(first, version.since_revision)
    ]


def _until(version: RuleVersion) -> int:
    return _ALL if version.until_revision is None else version.until_revision


def _why_not(now: RuleVersion | None) -> str:
    by = "waiting rooms go by the rule in force, and "
    if now is None:
        return by + "it is not in force any more"
    if not now.rule.enabled:
        return by + "it is disabled"
    if now.rule.join is None:
        return by + f"that is version {now.version}, which joins nothing"
    return by + f"that is version {now.version}"
