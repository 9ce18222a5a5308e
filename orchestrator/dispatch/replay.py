"""Replay: stored messages are sent through the rules once more, as they are or as they were."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Final

from orchestrator.clock import Clock
from orchestrator.core.clauses import UNKNOWN, Facts, run_of
from orchestrator.core.matching import Match, RuleSet, Verdict
from orchestrator.core.pacing import Spent, free_at
from orchestrator.core.runs import Runs
from orchestrator.dispatch.enricher import Ask, answers_to
from orchestrator.store.facts import Question
from orchestrator.store.foreseeing import Foreseen
from orchestrator.store.replaying import Judged
from orchestrator.store.store import Store
from schemas.message import MessageState
from schemas.replay import Replay, ReplayRequest, ReplayState
from schemas.rule import RuleVersion

#: Messages looked at in one transaction; and the catalog takes questions about no more than 1000 at once.
_BATCH: Final = 500

#: While the pace is waited for, whether to stop is looked at so often, in seconds.
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
            CatalogUnavailable, StoreUnavailable: it can be resumed.
        """
        rules = _Rules(self._store, replay.request, self._unmatched)
        while replay.state is ReplayState.RUNNING and not stopping():
            if (wait := self._until_free(replay)) > 0:
                self._pause(min(_GLANCE, wait))
                replay = self._store.replays.get(replay.id)
                continue
            found = self._store.replays.read(replay.request, replay.position, replay.until, self._batch)
            judged = self._judge(rules, self._known(rules, found, keep=True))
            last = found[-1].message.id if len(found) == self._batch else replay.until
            replay = self._store.replays.write(
                replay, judged, last=last, revision=rules.live.revision, now=self._clock()
            )
            tell(replay)
        return replay

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
        revision, versions = store.rules.in_force()
        #: The rules in force now, all of them.
        self.live = RuleSet(revision, versions, unmatched)

        @lru_cache(maxsize=16)
        def at(revision: int) -> RuleSet:
            return RuleSet(revision, replayed(store, request, revision), unmatched)

        self._at = at

    def want_metadata(self, facts: Facts) -> bool:
        """Whether a rule, or the selection of runs, asks for what only the catalog knows."""
        verdict = self._verdict(facts)
        unknown = (run_of(facts, match.captured) is UNKNOWN for match in verdict.matches)
        return verdict.wants_facts or (self._runs is not None and any(unknown))

    def judge(self, facts: Facts) -> Judged:
        verdict = self._verdict(facts)
        matches = [match for match in verdict.matches if self._in_runs(match, facts)]
        return Judged(facts.message, matches, verdict.troubles, self._settled(facts, matches))

    def _verdict(self, facts: Facts) -> Verdict:
        as_of = self._request.as_of
        if as_of == "then":
            position = bisect_right(self._moments, (facts.message.received_at, 2**63))
            as_of = self._moments[position - 1][1] if position else 0
        return self._at(as_of).judge(facts)

    def _in_runs(self, match: Match, facts: Facts) -> bool:
        if self._runs is None:
            return True
        run = run_of(facts, match.captured)
        return isinstance(run, int) and run in self._runs

    def _settled(self, facts: Facts, matches: Sequence[Match]) -> bool:
        """Whether a pending message, with these matches dispatched, has nothing more to wait for."""
        if facts.message.state is not MessageState.PENDING:
            return True
        live = self.live.judge(facts)
        started = {match.version.rule.name for match in matches}
        return not live.waits and {match.version.rule.name for match in live.matches} <= started


def replayed(store: Store, request: ReplayRequest, revision: int) -> list[RuleVersion]:
    """The versions that a replay sends messages through. Those that join datasets are left out."""
    return [
        version
        for version in store.rules.at(revision)
        if version.rule.join is None and (not request.rules or version.rule.name in request.rules)
    ]
