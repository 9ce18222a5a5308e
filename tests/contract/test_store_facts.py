"""What the catalog knows finds its way to the messages that wait for it, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog

from orchestrator.clock import utc_now
from orchestrator.core.matching import RuleSet
from orchestrator.dispatch.enricher import NO_DATASET, NO_SUCH_DATASET, Enricher, answers_to
from orchestrator.loop import Outage
from orchestrator.rucio.port import CatalogUnavailable, InvalidDid
from orchestrator.store.facts import Answer, Question
from orchestrator.store.intake import Arrival
from orchestrator.store.signals import MESSAGES
from orchestrator.store.store import Store
from schemas.did import Did
from schemas.message import MessageId, MessageState
from tests.unit.making import NOW, SCOPE, UNMATCHED, frame, later, rule

ONE, TWO = MessageId(1), MessageId(2)

#: Wants raw data as the catalog says it is; the event alone does not tell.
ASKS = rule("asks", where={"datatype": "raw"})
ASKS_NOT = rule("asks-not")


def messages(store: Store, *names: str) -> None:
    store.messages.take_in([frame(name=name) for name in names], origin="broker", now=NOW)


def judge(store: Store, *rules: Any, now: datetime = NOW) -> int:
    """Put these rules in force, and judge what is pending; how many messages came up."""
    if rules:
        store.rules.apply(rules, prune=True, who="test", now=NOW)
    revision, versions = store.rules.in_force()
    judging = RuleSet(revision, versions, UNMATCHED)
    return store.dispatches.judge(judging, now=now, limit=1000).judged


def take(store: Store, now: datetime = NOW, limit: int = 100) -> Sequence[Question]:
    return store.facts.take(now=now, until=later(60) if now == NOW else later(600), limit=limit)


def fired(store: Store) -> list[tuple[int, str]]:
    return [(each.message_id, each.rule) for each in reversed(store.dispatches.list(limit=1000))]


# The store's side.


def test_a_rule_that_asks_waits_visibly_and_the_others_do_not(store: Store) -> None:
    """The message stays pending, says which rule waits for what, and what other rules want of it starts at once."""
    messages(store, "DS-1")

    judge(store, ASKS, ASKS_NOT)

    assert fired(store) == [(1, "asks-not")]
    message = store.messages.get(ONE)
    assert message.state is MessageState.PENDING
    assert message.reason == "matched by asks-not; rule asks waits for the catalog"
    assert (store.facts.waiting().messages, store.facts.waiting().since) == (1, NOW)
    assert [(each.message_id, each.did, each.tries) for each in take(store)] == [(1, Did(SCOPE, "DS-1"), 0)]


def test_with_the_answer_the_message_is_judged_again(store: Store) -> None:
    """Whoever asked gets what the catalog said; whoever had fired does not fire again; a dispatcher is called."""
    messages(store, "DS-1", "DS-2")
    judge(store, ASKS, ASKS_NOT)
    heard = store.bells.heard(MESSAGES)

    store.facts.answer({ONE: Answer({"datatype": "raw"}), TWO: Answer({"datatype": "sim"})}, now=later(1))

    assert store.bells.heard(MESSAGES) > heard
    assert judge(store) == 2
    assert sorted(fired(store)) == [(1, "asks"), (1, "asks-not"), (2, "asks-not")]
    assert store.messages.get(ONE).state is MessageState.DISPATCHED
    assert store.facts.waiting().messages == 0
    assert take(store, later(1)) == []


def test_a_dataset_that_the_catalog_does_not_have_is_an_answer(store: Store) -> None:
    """No condition on it holds, nothing is asked again, and the message says why."""
    messages(store, "DS-1")
    judge(store, ASKS)

    store.facts.answer({ONE: Answer({}, NO_SUCH_DATASET)}, now=NOW)
    judge(store)

    assert store.messages.get(ONE).reason == "no rule matched (of 1 at revision 1); the catalog has no such dataset"
    fact = store.facts.of(ONE)
    assert fact is not None and (fact.document, fact.reason) == ({}, NO_SUCH_DATASET)
    assert judge(store) == 0


def test_what_one_enricher_took_no_other_gets_for_a_while(store: Store) -> None:
    """Two share the work; what one did not answer in time comes up again."""
    messages(store, "DS-1", "DS-2", "DS-3")
    judge(store, ASKS)

    first, second = take(store, limit=2), take(store)

    assert ([each.message_id for each in first], [each.message_id for each in second]) == ([1, 2], [3])
    assert take(store) == [] and take(store, later(59.9)) == []
    assert store.facts.next_due() == later(60)
    assert [each.message_id for each in take(store, later(60))] == [1, 2, 3]


def test_what_was_put_off_comes_up_again(store: Store) -> None:
    """It counts how often the catalog was asked in vain, and says what was wrong."""
    messages(store, "DS-1")
    judge(store, ASKS)
    take(store)

    store.facts.postpone([ONE], why="refused\0", until=later(5), now=NOW)

    assert take(store, later(4)) == [] and store.facts.next_due() == later(5)
    assert [each.tries for each in take(store, later(5))] == [1]
    fact = store.facts.of(ONE)
    assert fact is not None and (fact.state, fact.reason, fact.tries) == ("wanted", "refused\\0", 1)


def test_nobody_asks_for_what_nobody_waits_for(store: Store) -> None:
    """A close that a later opening has overtaken waits no more."""
    messages(store, "DS-1")
    judge(store, ASKS)
    store.messages.take_in([frame("open", "DS-1", at=later(1))], origin="broker", now=later(1))

    assert take(store) == []
    assert store.facts.next_due() is None
    assert (store.facts.waiting().messages, store.facts.waiting().since) == (0, None)


def test_a_dataset_that_is_closed_again_is_asked_about_anew(store: Store) -> None:
    """Each message asks for itself: what the catalog said of an earlier life is not taken for the new one."""
    messages(store, "DS-1")
    judge(store, ASKS)
    store.facts.answer({ONE: Answer({"datatype": "sim"})}, now=NOW)
    again = [frame("open", "DS-1", at=later(1)), frame("close", "DS-1", at=later(2))]
    store.messages.take_in(again, origin="broker", now=later(2))

    judge(store)

    assert [each.message_id for each in take(store)] == [3]


def test_a_person_can_have_it_asked_again(store: Store) -> None:
    """What is known is forgotten, a pending message judged again, and the journal says who wanted that and why."""
    messages(store, "DS-1", "DS-2")
    judge(store, ASKS)
    store.facts.answer({ONE: Answer({"datatype": "raw"}), TWO: Answer({"datatype": "sim"})}, now=NOW)
    judge(store)

    asked = store.facts.forget([TWO, ONE, MessageId(9)], who="cli:me", why="mended", now=later(1))

    assert asked == [1, 2]
    assert judge(store) == 1
    assert [each.message_id for each in take(store)] == [2]
    for id_ in (1, 2):
        (entry,) = store.journal.of("facts", id_)
        assert (entry.who, entry.from_state, entry.to_state, entry.why) == ("cli:me", "known", "forgotten", "mended")


def test_any_number_of_messages_may_wait(store: Store) -> None:
    """After a long outage there are more than fit into one statement of either database."""
    messages(store, *(f"DS-{number}" for number in range(1_500)))
    for _ in range(2):
        judge(store, ASKS)

    questions = take(store, limit=100_000)
    store.facts.postpone([each.message_id for each in questions], why="away", until=NOW, now=NOW)
    store.facts.answer({each.message_id: Answer({"datatype": "raw"}) for each in questions}, now=NOW)

    assert len(questions) == 1_500
    assert store.facts.waiting().messages == 0


# The enricher.


class Catalog:
    """Answers questions, and can be away."""

    def __init__(self, known: Mapping[Did, Mapping[str, Any]] | None = None) -> None:
        self.known = dict(known or {})
        self.away = False
        #: The questions that came.
        self.asked: list[set[Did]] = []

    def ask(self, dids: Collection[Did]) -> Mapping[Did, Mapping[str, Any]]:
        self.asked.append(set(dids))
        if self.away:
            raise CatalogUnavailable("the catalog is away")
        if any(" " in did.name for did in dids):
            raise InvalidDid("no blanks, please")
        return {did: self.known[did] for did in dids if did in self.known}


@contextmanager
def enriching(store: Store, catalog: Catalog, count: int = 1) -> Iterator[None]:
    """So many enrichers, at work."""
    outage = Outage("catalog")
    enrichers = [Enricher(store, catalog.ask, outage=outage, clock=utc_now) for _ in range(count)]
    stopping = threading.Event()

    def work(enricher: Enricher) -> None:
        while not stopping.is_set():
            enricher.step()

    threads = [threading.Thread(target=work, args=(each,)) for each in enrichers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for enricher in enrichers:
            enricher.stop()
        for thread in threads:
            thread.join()


def until_none_waits(store: Store) -> None:
    deadline = time.monotonic() + 20
    while store.facts.waiting().messages:
        assert time.monotonic() < deadline, "some still wait for the catalog"
        time.sleep(0.02)


RAW = {"datatype": "raw", "closed_at": datetime(2026, 11, 22, 1, 2, 3, 4, tzinfo=UTC)}


def test_the_enricher_asks_for_many_at_once_and_brings_the_answers(store: Store) -> None:
    """One call for all that wait; what is wanted later is heard of at once, without a look in between."""
    catalog = Catalog({Did(SCOPE, f"DS-{number}"): RAW for number in range(20)})
    messages(store, *(f"DS-{number}" for number in range(20)))
    judge(store, ASKS)

    with enriching(store, catalog):
        until_none_waits(store)
        began = time.monotonic()
        messages(store, "DS-x")
        judge(store)
        until_none_waits(store)
        assert time.monotonic() - began < 3

    assert [len(asked) for asked in catalog.asked] == [20, 1]
    judge(store)
    assert len(fired(store)) == 20
    fact = store.facts.of(ONE)
    assert fact is not None and fact.document == {"datatype": "raw", "closed_at": "2026-11-22T01:02:03.000004+00:00"}


def test_while_the_catalog_is_away_it_is_tried_again_and_one_line_says_so(store: Store) -> None:
    """Nothing is lost or given up; when it is back, so are the answers."""
    catalog = Catalog({Did(SCOPE, "DS-1"): RAW})
    catalog.away = True
    messages(store, "DS-1")
    judge(store, ASKS)

    with structlog.testing.capture_logs() as lines, enriching(store, catalog):
        while len(catalog.asked) < 3:
            time.sleep(0.01)
        waiting = store.facts.of(ONE)
        catalog.away = False
        until_none_waits(store)

    assert waiting is not None and waiting.tries >= 1 and waiting.reason == "the catalog is away"
    said = [line["event"] for line in lines if line["log_level"] != "debug"]
    assert said == ["catalog.lost", "catalog.back"]


def test_several_enrichers_do_no_harm(store: Store) -> None:
    """Three at once: every message gets its answer, and each is asked about once."""
    catalog = Catalog({Did(SCOPE, f"DS-{number}"): RAW for number in range(40)})
    judge(store, ASKS)

    with enriching(store, catalog, 3):
        for start in range(0, 40, 4):
            messages(store, *(f"DS-{number}" for number in range(start, start + 4)))
            judge(store)
        until_none_waits(store)

    judge(store)
    assert sorted(fired(store)) == [(id_, "asks") for id_ in range(1, 41)]
    assert sum(len(asked) for asked in catalog.asked) == 40


PING = b'{"event_type": "ping", "payload": {}, "created_at": "2026-11-22 01:13:40.292656"}'


def test_an_event_about_no_dataset_waits_for_nobody(store: Store) -> None:
    """A rule that asks the catalog gets the answer that there is nothing."""
    store.messages.take_in([Arrival({}, PING)], origin="broker", now=NOW)
    judge(store, rule("asks", on="ping", where={"datatype": "raw"}))
    assert store.facts.waiting().messages == 1

    with enriching(store, Catalog()):
        until_none_waits(store)

    fact = store.facts.of(ONE)
    assert fact is not None and (fact.document, fact.reason) == ({}, NO_DATASET)


def test_a_question_that_the_catalog_refuses_does_not_hold_up_the_others() -> None:
    """It is answered with nothing, in the catalog's own words."""
    names = ["a", "b", "not this", "c", "d"]
    questions = [Question(MessageId(id_), Did("s", name), 0) for id_, name in enumerate(names)]
    catalog = Catalog({Did("s", name): {"x": name} for name in "abd"})

    answers = answers_to(questions, catalog.ask)

    assert {id_: answer.document.get("x") for id_, answer in answers.items()} == dict(
        enumerate(["a", "b", None, None, "d"])
    )
    assert answers[TWO].reason == "the catalog refuses the question: no blanks, please"
    assert answers[MessageId(3)].reason == NO_SUCH_DATASET
    catalog.away = True
    with pytest.raises(CatalogUnavailable):
        answers_to(questions, catalog.ask)
