"""Beside the second stop: ask the catalog what rules want to know, and have the messages judged again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import structlog

from orchestrator.clock import Clock
from orchestrator.loop import Outage, Patience
from orchestrator.rucio.port import CatalogError, CatalogUnavailable
from orchestrator.store.facts import Answer, Question
from orchestrator.store.signals import FACTS
from orchestrator.store.store import Store
from schemas.did import Did
from schemas.message import MessageId

log = structlog.get_logger()

#: Questions asked with one call. Rucio takes lists of up to 1000.
_BATCH: Final = 500

#: For so long nobody else asks the same; an enricher that died is not waited for any longer.
_TURN: Final = timedelta(seconds=60)

#: A look at the store without having been called, in seconds.
_SAFETY_POLL: Final = 5.0

#: Gives the metadata of many DIDs; what the catalog does not have is left out. Raises CatalogError.
Ask = Callable[[Collection[Did]], Mapping[Did, Mapping[str, Any]]]

NO_DATASET: Final = "the event is about no dataset"
NO_SUCH_DATASET: Final = "the catalog has no such dataset: it was never made, or it was erased"


class Enricher:
    """Brings the catalog's answers to messages that wait for them; while the catalog is away it tries for ever."""

    def __init__(self, store: Store, ask: Ask, *, outage: Outage, clock: Clock) -> None:
        self._store = store
        self._ask = ask
        self._clock = clock
        self._patience = Patience("enricher", outage)
        self._stopping = threading.Event()

    def step(self) -> None:
        """Ask what is due, then wait until something is. Raises StoreUnavailable."""
        heard = self._store.bells.heard(FACTS)
        if self.ask_batch() < _BATCH and not self._stopping.is_set():
            self._store.bells.wait(FACTS, since=heard, timeout=self._until_next())

    def ask_all(self) -> bool:
        """Ask what is due now, and wait for nothing more. Whether there was anything. Raises StoreUnavailable."""
        asked = self.ask_batch()
        while asked and self.ask_batch():
            pass
        return asked > 0

    def ask_batch(self) -> int:
        """Ask some of what is due. Returns how many questions that were. Raises StoreUnavailable."""
        questions = self._store.facts.take(now=self._clock(), until=self._clock() + _TURN, limit=_BATCH)
        if questions:
            self._carry(questions)
        return len(questions)

    def stop(self) -> None:
        self._stopping.set()
        self._store.bells.ring(FACTS)

    def _carry(self, questions: Sequence[Question]) -> None:
        """No transaction is open while the catalog is asked."""
        try:
            answers = answers_to(questions, self._ask)
        except CatalogUnavailable as error:
            self._wait_for_the_catalog(questions, error)
            return
        self._patience.succeeded()
        self._store.facts.answer(answers, now=self._clock())
        log.debug("enricher.answered", messages=len(answers))

    def _wait_for_the_catalog(self, questions: Sequence[Question], error: CatalogUnavailable) -> None:
        """What could not be asked comes up again, and everything else waits as long: it would fare no better."""
        wait = self._patience.failed(error)
        now, ids = self._clock(), [each.message_id for each in questions]
        self._store.facts.postpone(ids, why=str(error), until=now + timedelta(seconds=wait), now=now)
        self._stopping.wait(wait)

    def _until_next(self) -> float:
        due = self._store.facts.next_due()
        if due is None:
            return _SAFETY_POLL
        return min(_SAFETY_POLL, max(0.01, (due - self._clock()).total_seconds()))


def answers_to(questions: Sequence[Question], ask: Ask) -> dict[MessageId, Answer]:
    """What the catalog says, by message. A question that it refuses is answered with nothing, and why.

    Raises:
        CatalogUnavailable: nothing is known.
    """
    try:
        known = ask({each.did for each in questions if each.did is not None})
    except CatalogUnavailable:
        raise
    except CatalogError as error:
        if len(questions) == 1:
            return {questions[0].message_id: Answer({}, f"the catalog refuses the question: {error}")}
        # one that it does not like must not keep the others from being answered
        half = len(questions) // 2
        return answers_to(questions[:half], ask) | answers_to(questions[half:], ask)
    return {each.message_id: _answer_to(each, known) for each in questions}


def _answer_to(question: Question, known: Mapping[Did, Mapping[str, Any]]) -> Answer:
    if question.did is None:
        return Answer({}, NO_DATASET)
    return Answer(known[question.did]) if question.did in known else Answer({}, NO_SUCH_DATASET)
