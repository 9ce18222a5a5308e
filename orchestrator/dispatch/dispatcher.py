"""Second stop: match pending messages against the rules, and write one dispatch for each action of each match."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import structlog

from orchestrator.clock import Clock
from orchestrator.core.matching import RuleSet
from orchestrator.store.dispatches import Judged
from orchestrator.store.judging import JudgingFailed
from orchestrator.store.signals import MESSAGES, RULES
from orchestrator.store.store import Store
from schemas.message import MessageId, MessageState
from schemas.rule import RuleVersion

log = structlog.get_logger()

#: Messages judged in one transaction.
_BATCH = 200

#: A look at the store without having been called, in seconds: a bell may be lost, a message may not.
_SAFETY_POLL = 5.0


class Judging:
    """Has the store judge, one batch after the other, and puts off what cannot be judged."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def batch(self, rules: RuleSet, again_after: MessageId | None = None) -> Judged:
        """A batch at once; if that fails for a reason that nobody foresaw, each by itself.

        Those not yet judged by these rules come up; with `again_after`, every pending one after that id does.

        Raises StoreUnavailable.
        """
        try:
            return self._judge(rules, again_after, _BATCH)
        except JudgingFailed:
            log.exception("dispatcher.defect", next="judging one by one, and putting off whatever cannot be judged")
            return self._each(rules, again_after)

    def _each(self, rules: RuleSet, again_after: MessageId | None) -> Judged:
        """One message must never hold up the others."""
        judged = Judged()
        while judged.judged < _BATCH:
            one = self._one(rules, again_after)
            judged += one
            if one.judged == 0:
                break
            if again_after is not None:
                again_after = one.last
        return judged

    def _one(self, rules: RuleSet, again_after: MessageId | None) -> Judged:
        """What cannot be judged stays pending and says why."""
        try:
            return self._judge(rules, again_after, 1)
        except JudgingFailed as failure:
            (id_,) = failure.ids
            why = f"cannot be judged, which is a defect of muleteer: {failure}"
            if self._store.dispatches.put_off(id_, rules.revision, why):
                log.warning("message.put_off", message=id_, reason=why)
            return Judged(judged=1, last=id_)

    def _judge(self, rules: RuleSet, again_after: MessageId | None, limit: int) -> Judged:
        return self._store.dispatches.judge(rules, now=self._clock(), limit=limit, again_after=again_after)


class Dispatcher:
    """Judges messages as they come, and those still pending whenever the rules change."""

    def __init__(
        self, store: Store, unmatched: Mapping[str, MessageState], *, clock: Clock, extra: RuleVersion | None = None
    ) -> None:
        """`extra` is one more rule, for this dispatcher alone."""
        self._store = store
        self._judging = Judging(store, clock)
        self._unmatched = unmatched
        self._clock = clock
        self._extra = () if extra is None else (extra,)
        self._rules = RuleSet(-1, (), unmatched)
        #: With an extra rule, everything pending is judged once more: the last message that was.
        self._seen = MessageId(0)
        self._stopping = threading.Event()

    def step(self) -> None:
        """Judge what there is, then wait until something is committed. Raises StoreUnavailable."""
        heard = self._store.bells.heard(MESSAGES, RULES)
        judged = self.judge_batch().judged
        # After less than a whole batch nothing is left but what a bell has rung for since; an extra rule looks twice.
        over = judged == 0 if self._extra else judged < _BATCH
        if over and not self._stopping.is_set():
            self._store.bells.wait(MESSAGES, RULES, since=heard, timeout=self._patience())

    def _patience(self) -> float:
        """How long to wait without being called: until the next deadline of a waiting room, if that is soon."""
        now = self._clock()
        due = self._store.rooms.next_look(now)
        return _SAFETY_POLL if due is None else min(_SAFETY_POLL, (due - now).total_seconds())

    def stop(self) -> None:
        self._stopping.set()
        self._store.bells.ring(MESSAGES)

    def judge_batch(self) -> Judged:
        """Judge one batch of messages that were not judged by the rules in force. Raises StoreUnavailable."""
        rules = self._rules_in_force()
        # without a rule there is nothing to judge by: everything waits, nothing is put away
        if rules.size == 0:
            return Judged()
        judged = self._judging.batch(rules)
        if self._extra and judged.judged == 0:
            # another dispatcher may have judged a message already, without the extra rule
            judged += self._judging.batch(rules, self._seen)
            self._seen = judged.last or self._seen
        for alert in judged.alerts:
            log.warning("room.alert", said=alert, next="muleteer rooms list; muleteer rooms show ID")
        if judged.judged:
            log.debug("dispatcher.judged", messages=judged.judged, dispatched=judged.dispatched)
        return judged

    def _rules_in_force(self) -> RuleSet:
        if self._store.rules.revision() != self._rules.revision:
            revision, versions = self._store.rules.in_force()
            self._rules = RuleSet(revision, [*versions, *self._extra], self._unmatched)
            log.info("dispatcher.rules", revision=revision, rules=self._rules.size)
        return self._rules
