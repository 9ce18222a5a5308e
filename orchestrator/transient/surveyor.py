"""Goes through the catalog, and says of each dataset that a policy matches whether it may leave."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

import structlog

from orchestrator.clock import Clock
from orchestrator.core.transient.facts import Entry, Facts, Unknown
from orchestrator.core.transient.judging import due_at, judged
from orchestrator.core.transient.policies import CompiledPolicy
from orchestrator.core.transient.protection import Guard
from orchestrator.core.transient.releases import is_over
from orchestrator.store.port import StoreUnavailable
from orchestrator.store.transients import Transients
from orchestrator.transient.asking import Asker, asked
from orchestrator.transient.proving import Prover, defect, refused_because
from orchestrator.transient.queueing import Queue, Together, Waiting
from orchestrator.transient.regime import CutOff, Regime
from schemas.did import Did
from schemas.transient import PolicySummary, Refusal, Refused, Release, Transient

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
    #: Settings that bound nothing, in words.
    strange: Sequence[str] = ()

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
            most: so many are looked at closely: those that were due first, behind them what failed a close look before,
                longest ago first. The others are refused with `beyond`.
            record: who looks, if the store is to remember what was found.
            stopping: then what was found until then stands; of a catalog that was not counted to its end, nothing.
            take: is given each verdict as it is found.

        Raises:
            CatalogError: the catalog cannot be gone through; what was found until then may be noted.
            StoreUnavailable; NotUnderstood: what must stay.
        """
        survey = Survey(self._clock(), dict(regime.broken))
        chosen = [each for each in regime.policies if only is None or each.name in only]
        try:
            survey.summaries |= {each.name: regime.summary(each) for each in chosen}
        except CutOff:
            return survey
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
        queue = Queue(most)
        for policy, entries in self._pages(regime, wanted, stopping, tell):
            yield from self._cheap(regime, policy, entries, queue)
        together = Together()
        for each in queue.in_order():
            if stopping():
                return
            survey.proofs += 1
            verdict = self._prover.prove(each.policy, each.entry, regime)
            tell("proved", survey.proofs)
            if isinstance(verdict, Release) and (stands := together.take(verdict)) is not None:
                verdict = refused_because(each.policy, each.entry, stands, due_at=each.due_at)
            yield verdict.model_copy(update={"closely": True}) if isinstance(verdict, Refused) else verdict

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
        self, regime: Regime, policy: CompiledPolicy, entries: Sequence[Entry], queue: Queue
    ) -> Iterator[Refused]:
        """What is refused by what can be asked of many at once; what is not goes into the queue, or is beyond it."""
        lives, guard = self._lives(entries), regime.guard([entry.did for entry in entries])
        for facts in self._facts(regime, policy, entries):
            if isinstance(facts, Refused):
                yield facts
                continue
            life = lives.get(facts.entry.did)
            if life is not None and (over := is_over(life)) is not None:
                yield refused_because(policy, facts.entry, Refusal("released", over))
                continue
            waiting = self._judged(policy, facts, guard, life.failed_at if life is not None else None)
            if isinstance(waiting, Refused):
                yield waiting
            elif (late := queue.push(waiting)) is not None:
                text = f"not looked at closely: {queue.most:,} others came before it"
                yield refused_because(late.policy, late.entry, Refusal("beyond", text), due_at=late.due_at)

    def _facts(self, regime: Regime, policy: CompiledPolicy, entries: Sequence[Entry]) -> Iterator[Facts | Refused]:
        """Asked together; if that cannot be done, one by one: what is odd about one keeps no other."""
        matching = {entry.did: {each.name for each in regime.matching(entry.did)} for entry in entries}
        newest = asked(lambda: regime.counted(policy).newest) if policy.policy.keep.last_runs else ()
        try:
            yield from self._asker.facts(policy, entries, policies=matching, newest_runs=newest)
        except StoreUnavailable:
            raise
        except Exception as error:
            if len(entries) == 1:
                yield defect(policy, entries[0], error)
                return
            for entry in entries:
                yield from self._facts(regime, policy, [entry])

    def _judged(
        self, policy: CompiledPolicy, facts: Facts, guard: Guard, failed_at: datetime | None
    ) -> Waiting | Refused:
        """By what can be told without a close look."""
        try:
            verdict, due = judged(policy, facts, guard, self._clock()), due_at(policy, facts)
        except Exception as error:
            return defect(policy, facts.entry, error)
        if isinstance(verdict, Refused):
            return verdict
        assert not isinstance(due, Unknown)  # else it would have been refused
        return Waiting(failed_at, due, policy, facts.entry)

    def _lives(self, entries: Sequence[Entry]) -> Mapping[Did, Transient]:
        """What is known of these, in the life that they are in."""
        lives = self._transients.lives([entry.did for entry in entries])
        known = ((entry, life) for entry in entries for life in lives.get(entry.did, ()))
        return {entry.did: life for entry, life in known if life.born_at == entry.born_at}

    def _note(self, batch: Sequence[Release | Refused], record: str | None) -> None:
        if record is None or not batch:
            return
        proved = [each for each in batch if isinstance(each, Release)]
        others = [each for each in batch if isinstance(each, Refused)]
        self._transients.seen(proved, others, who=record, now=self._clock(), catalog=self._asker.identity)
