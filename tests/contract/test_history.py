"""What the store promises of its history, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

from datetime import timedelta
from random import Random
from typing import Any

import pytest

from orchestrator.core.asking import AFTER, BEFORE
from orchestrator.core.clauses import CompiledRule
from orchestrator.core.matching import RuleSet
from orchestrator.core.past import Interest, interest_of
from orchestrator.core.preview import Preview, edited
from orchestrator.store.facts import Answer
from orchestrator.store.history import MessageHistory
from orchestrator.store.intake import Arrival
from orchestrator.store.port import NotFound
from orchestrator.store.store import Store
from schemas.message import MessageId
from tests.unit.core.histories import edited_rules, random_rules
from tests.unit.making import NOW, UNMATCHED, frame, later, rule, version

LATE = later(3600)


def arrive(store: Store, *arrivals: Arrival) -> None:
    for number, arrival in enumerate(arrivals):
        store.messages.take_in([arrival], origin="broker", now=NOW + timedelta(hours=number))


def names(store: Store, interest: Interest | None = None, **given: Any) -> list[str | None]:
    pages = store.history.pages(interest, **given)
    return [page.facts(row).message.name for page in pages for row in page.rows]


def test_history_is_everything_that_could_be_read_oldest_first(store: Store) -> None:
    """Every message of every event and state, with all that rules may ask for; a broken frame is left out."""
    arrive(
        store,
        frame(name="A", bytes=5.0, length=3, events=7.0, account="prod", did_type="DATASET"),
        Arrival({}, b"broken"),
        frame("open", "B"),
        frame("rule_ok", "A"),
    )

    (page,) = store.history.pages()

    facts = [page.facts(row) for row in page.rows]
    assert [(each.message.id, each.message.event_type, each.message.did) for each in facts] == [
        (1, "close", ("group.sphenix", "A")),
        (3, "open", ("group.sphenix", "B")),
        (4, "rule_ok", ("group.sphenix", "A")),
    ]
    first = facts[0].message
    assert (first.created_at, first.received_at, first.origin, first.generation) == (NOW, NOW, "broker", 1)
    assert (first.account, first.bytes, first.length, first.events) == ("prod", 5, 3, 7)
    assert (facts[0].payload["did_type"], facts[0].metadata) == ("DATASET", None)


def test_a_message_of_the_past_is_the_message(store: Store) -> None:
    """Rules find the same in it: whatever they may ask of the one, the other answers alike."""
    arrive(store, frame(name="A", bytes=5.0), frame("create_dts", "B", account="me"))

    for page in store.history.pages():
        for row in page.rows:
            past, whole = page.facts(row), store.history.facts_of(MessageId(row[0]))
            fields: tuple[str, ...] = type(past.message)._fields  # type: ignore[attr-defined]  # made by namedtuple()
            for name in (*fields, "created_at", "received_at", "did"):
                if name not in ("created", "received"):
                    assert getattr(past.message, name) == getattr(whole.message, name)
            assert dict(past.payload) == whole.payload


def test_a_part_of_history_can_be_read(store: Store) -> None:
    """By when it arrived, and by what some rules could want: never less than they would match."""
    arrive(
        store, frame(name="RAW-1"), frame(name="DST-1"), frame("open", "RAW-1"), frame(name="RAW-é"), frame(name="raw")
    )

    def wanted(*patterns: str) -> Interest:
        return interest_of([CompiledRule(version(rule("r", pattern))) for pattern in patterns], frozenset())

    assert names(store, wanted("RAW-.*")) == ["RAW-1", "RAW-é"]
    assert names(store, wanted("RAW-.*", "DST-.*")) == ["RAW-1", "DST-1", "RAW-é"]
    assert "raw" in names(store, wanted("(?i)raw"))
    assert names(store, wanted()) == []
    assert names(store, since=later(3600), until=later(3 * 3600)) == ["DST-1", "RAW-1"]


def test_what_was_not_read_cannot_be_asked_for(store: Store) -> None:
    """A field that no rule wants is not there: that is an error, and never taken for nothing."""
    arrive(store, frame(bytes=5.0))

    (page,) = store.history.pages(interest_of([CompiledRule(version(rule()))], frozenset()))

    with pytest.raises(AttributeError, match="bytes"):
        page.facts(page.rows[0]).message.bytes  # noqa: B018  # asking is what fails


def test_history_is_read_in_pages(store: Store) -> None:
    """However long it is, a page at a time, each message once."""
    history = MessageHistory(store.database, page=7)
    store.messages.take_in([frame(name=f"DS-{number}") for number in range(20)], origin="broker", now=NOW)

    pages = list(history.pages())

    assert [len(page.rows) for page in pages] == [7, 7, 6]
    assert [page.facts(row).message.name for page in pages for row in page.rows] == [
        f"DS-{number}" for number in range(20)
    ]


def test_what_is_known_comes_with_the_message(store: Store) -> None:
    """What the catalog answered, and the flags of runs: in pages as for one message."""
    arrive(store, frame(name="A"), frame(name="B"))
    asks = rule("asks", where={"project": "pp"})
    store.rules.apply([asks], prune=False, who="test", now=NOW)
    judging = RuleSet(1, store.rules.in_force()[1], UNMATCHED)
    store.dispatches.judge(judging, now=NOW, limit=10)
    store.facts.answer({MessageId(1): Answer({"project": "pp"})}, now=NOW)
    store.run_flags.set([5], "QA", who="me", reason="r", now=NOW)

    (page,) = store.history.pages()

    facts = [page.facts(row) for row in page.rows]
    assert [None if each.metadata is None else dict(each.metadata) for each in facts] == [{"project": "pp"}, None]
    assert facts[0].run_flags == store.history.facts_of(MessageId(1)).run_flags == {5: ["QA"]}
    assert store.history.facts_of(MessageId(1)).metadata == {"project": "pp"}
    with pytest.raises(NotFound, match="there is no message 9"):
        store.history.facts_of(MessageId(9))


@pytest.mark.parametrize("seed", range(5))
def test_a_preview_of_the_store_is_what_the_judge_would_say(store: Store, seed: int) -> None:
    """The part of history that the database gives is enough: nothing that either set wants is left out."""
    random = Random(seed)
    old = random_rules(random, 8)
    kinds = ("RAW-1", "RAW-21", "DST-2", "CALO-7x", "raw-12", "é-3", "RAW-5é")
    arrivals = [
        frame(
            random.choice(["close", "open"]),
            f"{random.choice(kinds)}{number}",
            scope=random.choice(["data26", "group.a"]),
        )
        for number in range(60)
    ]
    store.messages.take_in(arrivals, origin="broker", now=NOW)
    store.rules.apply(old, prune=True, who="test", now=NOW)
    before = store.rules.in_force()[1]
    after = edited(before, edited_rules(random, old), prune=True)

    preview = Preview(before, after)
    for page in store.history.pages(preview.interest):
        preview.look(page, store.history.holders)

    sets = RuleSet(1, before, UNMATCHED), RuleSet(2, after, UNMATCHED)
    counts: dict[str, list[int]] = {change.name: [0, 0] for change in preview.rules}
    for message in store.messages.list(limit=100):
        for side in (BEFORE, AFTER):
            verdict = sets[side].judge(store.history.facts_of(message.id))
            for name in (*(each.version.rule.name for each in verdict.matches), *(each.rule for each in verdict.joins)):
                if name in counts:
                    counts[name][side] += 1
    assert {change.name: change.matched for change in preview.rules} == counts


def test_who_has_a_key_and_what_was_counted(store: Store) -> None:
    """Who took each unique key, what the prescale counted of a message, and versions by their ids."""
    arrive(store, frame(name="A"), frame(name="B"))
    rules = [rule("keyed", unique="one"), rule("some", prescale=2)]
    store.rules.apply(rules, prune=False, who="test", now=NOW)
    versions = store.rules.in_force()[1]
    store.dispatches.judge(RuleSet(1, versions, UNMATCHED), now=NOW, limit=10)
    store.rules.apply([], prune=True, who="test", now=NOW)

    assert {key: each[:2] for key, each in store.history.holders(["one", "none"]).items()} == {"one": (1, "keyed")}
    assert [store.history.counted(MessageId(id_)) for id_ in (1, 2)] == [[("some", 1, True)], [("some", 2, False)]]
    assert [each.rule.name for each in store.history.versions({versions[1].id})] == ["some"]
    assert store.history.makers(store.messages.get(MessageId(1))) == []
