"""Goes through the catalog, and says of each dataset that a policy matches whether it may leave."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import Final, NamedTuple

import structlog

from orchestrator.clock import Clock
from orchestrator.core.transient.facts import Entry, Unknown
from orchestrator.core.transient.judging import due_at, judged
from orchestrator.core.transient.policies import CompiledPolicy
from orchestrator.store.transient_releasing import GOING
from orchestrator.store.transients import Transients
from orchestrator.transient.asking import Asker, asked
from orchestrator.transient.proving import Prover, refused_because
from orchestrator.transient.regime import Regime
from schemas.did import Did
from schemas.transient import PolicySummary, Refusal, Refused, Release, TransientState

log = structlog.get_logger()

#: Datasets whose facts are asked with few calls, and that are noted in one transaction.
_AT_ONCE: Final = 1000

#: Is told how far it is: what is counted, and how many.
Tell = Callable[[str, int], None]

#: Is given each verdict as it is found.
Take = Callable[[Release | Refused], None]


@dataclass
class Survey:
    """What one look came to. Complete once all verdicts were taken."""

    began_at: datetime
    #: By policy.
    summaries: dict[str, PolicySummary] = field(default_factory=dict)
    #: By check.
    refused: Counter[str] = field(default_factory=Counter)
    releases: list[Release] = field(default_factory=list)
    #: Datasets that were proved, or were tried to be.
    proofs: int = 0

    def note(self, verdict: Release | Refused) -> None:
        if isinstance(verdict, Refused):
            self.refused.update({each.check for each in verdict.refusals})
            return
        self.releases.append(verdict)
        summary = self.summaries[verdict.policy]
        more = {"releases": summary.releases + 1, "bytes": summary.bytes + verdict.freed}
        self.summaries[verdict.policy] = summary.model_copy(update=more)


class Surveyor:
    """Looks twice: names are counted first, then what matches is judged, some at a time. Memory stays flat."""

    def __init__(self, asker: Asker, prover: Prover, transients: Transients, *, clock: Clock) -> None:
        self._asker = asker
        self._prover = prover
        self._transients = transients
        self._clock = clock

    def survey(
        self,
        regime: Regime,
        *,
        only: Sequence[str] | None = None,
        most: int | None = None,
        record: str | None = None,
        stopping: Callable[[], bool] = lambda: False,
        tell: Tell = lambda what, count: None,
        take: Take = lambda verdict: None,
    ) -> Survey:
        """Judge every dataset that a policy matches.

        Args:
            only: names of policies whose datasets are judged; all unless it is said.
            most: so many are looked at closely, those that were due first; the others are refused with `beyond`.
            record: who looks, if the store is to remember what was found.
            take: is given each verdict as it is found.

        Raises:
            CatalogError: the catalog cannot be gone through; what was found until then may be noted.
            StoreUnavailable; NotUnderstood: what must stay.
        """
        survey = Survey(self._clock(), dict(regime.broken))
        chosen = [each for each in regime.policies if only is None or each.name in only]
        survey.summaries |= {each.name: regime.summary(each) for each in chosen}
        wanted = {each.name: each for each in chosen if survey.summaries[each.name].refused is None}
        batch: list[Release | Refused] = []
        for verdict in self._verdicts(regime, wanted, survey, most, stopping, tell):
            survey.note(verdict)
            take(verdict)
            batch.append(verdict)
            if len(batch) == _AT_ONCE:
                self._note(batch, record)
                batch = []
        self._note(batch, record)
        return survey

    def _verdicts(
        self,
        regime: Regime,
        wanted: dict[str, CompiledPolicy],
        survey: Survey,
        most: int | None,
        stopping: Callable[[], bool],
        tell: Tell,
    ) -> Iterator[Release | Refused]:
        """Cheap refusals first, as they are found; then the rest, by when they were due."""
        queue = _Queue(most)
        for policy, entries in self._pages(regime, wanted, stopping, tell):
            yield from self._cheap(regime, policy, entries, queue)
        together = _Together()
        for each in queue.in_order():
            if stopping():
                return
            survey.proofs += 1
            verdict = self._prover.prove(each.policy, each.entry, regime)
            tell("proved", survey.proofs)
            if isinstance(verdict, Release) and (stands := together.take(verdict)) is not None:
                verdict = refused_because(each.policy, each.entry, stands, due_at=each.due_at)
            yield verdict

    def _pages(
        self, regime: Regime, wanted: dict[str, CompiledPolicy], stopping: Callable[[], bool], tell: Tell
    ) -> Iterator[tuple[CompiledPolicy, Sequence[Entry]]]:
        """What the policies match, some at a time; what several match comes with the first of them."""
        waiting: dict[str, list[Entry]] = {name: [] for name in wanted}
        for number, (entry, policies) in enumerate(regime.walk(), start=1):
            if stopping():
                return
            if number % _AT_ONCE == 0:
                tell("looked at", number)
            fits = (each for each in policies if each.name in wanted and each.values(entry.did) is not None)
            if (policy := next(fits, None)) is not None:
                waiting[policy.name].append(entry)
                if len(waiting[policy.name]) == _AT_ONCE:
                    yield policy, waiting[policy.name]
                    waiting[policy.name] = []
        yield from ((wanted[name], entries) for name, entries in waiting.items() if entries)

    def _cheap(
        self, regime: Regime, policy: CompiledPolicy, entries: Sequence[Entry], queue: _Queue
    ) -> Iterator[Refused]:
        """What is refused by what can be asked of many at once; what is not goes into the queue, or is beyond it."""
        matching = {entry.did: {each.name for each in regime.matching(entry.did)} for entry in entries}
        newest = asked(lambda: regime.counted(policy).newest) if policy.policy.keep.last_runs else ()
        now, guard = self._clock(), regime.guard
        going = self._going(entries)
        for facts in self._asker.facts(policy, entries, policies=matching, newest_runs=newest):
            if facts.entry.did in going:
                yield refused_because(policy, facts.entry, Refusal("released", going[facts.entry.did]))
                continue
            verdict = judged(policy, facts, guard, now)
            if isinstance(verdict, Refused):
                yield verdict
                continue
            due = due_at(policy, facts)
            assert not isinstance(due, Unknown)  # else it would have been refused
            if (late := queue.push(_Waiting(due, policy, facts.entry))) is not None:
                text = f"not looked at closely: {queue.most:,} others were due before it"
                yield refused_because(late.policy, late.entry, Refusal("beyond", text), due_at=late.due_at)

    def _going(self, entries: Sequence[Entry]) -> Mapping[Did, str]:
        """Those that are on their way or have left already, in words: nobody releases them once more.

        A dataset whose copies were to leave without it is there still when they have left.
        """
        lives = self._transients.lives([entry.did for entry in entries])
        return {
            entry.did: _ON_ITS_WAY[life.state]
            for entry in entries
            for life in lives.get(entry.did, ())
            if life.born_at == entry.born_at and life.state in _ON_ITS_WAY
        }

    def _note(self, batch: Sequence[Release | Refused], record: str | None) -> None:
        if record is None or not batch:
            return
        proved = [each for each in batch if isinstance(each, Release)]
        others = [each for each in batch if isinstance(each, Refused)]
        self._transients.seen(proved, others, who=record, now=self._clock())


#: What is said of those that are released once, and not again.
_ON_ITS_WAY: Final = {state: f"it is {state} already" for state in GOING} | {
    TransientState.GONE: "what was to leave of it has left already; copies that came back are for a person to delete"
}


class _Waiting(NamedTuple):
    """A dataset that nothing speaks against yet."""

    due_at: datetime
    policy: CompiledPolicy
    entry: Entry


class _Queue:
    """What waits for a close look: no more than so many, those that were due first."""

    def __init__(self, most: int | None) -> None:
        self.most = most
        self._numbers = count()
        #: The latest is the first.
        self._heap: list[tuple[float, int, _Waiting]] = []

    def push(self, waiting: _Waiting) -> _Waiting | None:
        """Returns the one that there is no room for, if there is one."""
        item = (-waiting.due_at.timestamp(), -next(self._numbers), waiting)
        if self.most is None or len(self._heap) < self.most:
            heapq.heappush(self._heap, item)
            return None
        return heapq.heappushpop(self._heap, item)[2]

    def in_order(self) -> Iterator[_Waiting]:
        """By when they were due, the first that was found first."""
        for _, _, waiting in sorted(self._heap, key=lambda item: item[:2], reverse=True):
            yield waiting


class _Together:
    """What can be released at the same time: nothing leaves on which something else rests."""

    def __init__(self) -> None:
        self._leaving: set[str] = set()
        self._needed: dict[str, str] = {}

    def take(self, release: Release) -> Refusal | None:
        """Why it cannot be released beside those that were taken; if it can, it is taken."""
        if release.did in self._needed:
            return Refusal("proof", f"it is what is left of {self._needed[release.did]}, which may leave first")
        if release.successor in self._leaving:
            return Refusal("successor", f"{release.successor} may leave itself")
        self._leaving.add(release.did)
        self._needed.setdefault(release.successor, release.did)
        return None
