"""What the store promises of matches that are not carried out, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from sqlalchemy import select

from orchestrator.core.matching import RuleSet
from orchestrator.store.dispatches import Judged
from orchestrator.store.journal import move
from orchestrator.store.launches import Intent
from orchestrator.store.store import Store
from orchestrator.store.tables import messages, near_misses, prescales
from schemas.did import Did
from schemas.dispatch import DispatchId
from schemas.message import MessageId, MessageState
from schemas.rule import Rule
from tests.contract.test_store_dispatches import at_once
from tests.unit.making import NOW, SCOPE, UNMATCHED, frame, rule


@pytest.fixture
def other(store: Store, store_url: str) -> Iterator[Store]:
    """The same store, as another process has it open."""
    opened = Store.open(store_url)
    yield opened
    opened.close()


def apply(store: Store, *rules: Rule) -> None:
    store.rules.apply(rules, prune=True, who="test", now=NOW)


def arrive(store: Store, *names: str) -> None:
    store.messages.take_in([frame(name=name) for name in names], origin="broker", now=NOW)


def many(prefix: str, count: int) -> list[str]:
    return [f"{prefix}-{number:04d}" for number in range(count)]


def judge(store: Store, limit: int = 1000) -> Judged:
    revision, versions = store.rules.in_force()
    judging = RuleSet(revision, versions, UNMATCHED)
    return store.dispatches.judge(judging, now=NOW, limit=limit)


def judge_all(store: Store, limit: int) -> None:
    while judge(store, limit).judged:
        pass


def judge_side_by_side(*stores: Store, limit: int = 7) -> None:
    """Several dispatchers on the same messages; what one passed over because another had it, it looks at again."""
    at_once(*(lambda each=each: judge_all(each, limit) for each in stores))
    judge_all(stores[0], 1000)


def messages_of(store: Store) -> list[int]:
    """The messages that have a dispatch that is not refused, oldest first."""
    found = store.dispatches.list(limit=10_000)
    return sorted(each.message_id for each in found if each.state != "refused")


def reasons(store: Store) -> Sequence[str | None]:
    return [each.reason for each in store.messages.list(newest_first=False, limit=1000)]


# The prescale.


def test_the_first_of_every_so_many_matches_is_carried_out(store: Store) -> None:
    """Counted from the first, over all batches; the others are put away with their number."""
    apply(store, rule(prescale=3))
    arrive(store, *many("DS", 8))

    judge_all(store, 3)

    assert messages_of(store) == [1, 4, 7]
    assert store.counts().messages == {"dispatched": 3, "dropped": 5}
    assert reasons(store)[1] == "matched by raw; rule raw carries out 1 of 3 matches, and this was its number 2"


def test_each_rule_counts_its_own_matches(store: Store) -> None:
    """A message that one rule passes over may be dispatched by another; what does not match does not count."""
    apply(store, rule("a", "A.*", prescale=2), rule("every"))
    arrive(store, "A-1", "B-1", "A-2", "A-3")

    judge(store)

    found = sorted((each.message_id, each.rule) for each in store.dispatches.list())
    assert found == [(1, "a"), (1, "every"), (2, "every"), (3, "every"), (4, "a"), (4, "every")]
    assert store.counts().messages == {"dispatched": 4}


def test_a_match_keeps_its_number_when_it_is_judged_again(store: Store) -> None:
    """And the count goes on where it stood when the rule is changed."""
    apply(store, rule("a", prescale=3))
    arrive(store, *many("DS", 2))
    judge(store)
    with store.database.write() as connection:
        again: Any = {"who": "test", "why": "again", "at": NOW, "judged_revision": 0}
        assert move(connection, messages, [2], MessageState.DROPPED, MessageState.PENDING, **again) == [2]
    judge(store)
    apply(store, rule("a", prescale=3, description="changed"))
    arrive(store, *many("later", 2))
    judge(store)

    assert messages_of(store) == [1, 4]
    with store.database.read() as connection:
        rows = connection.execute(select(prescales.c.message_id, prescales.c.number).order_by(prescales.c.number))
        assert [tuple(row) for row in rows] == [(1, 1), (2, 2), (3, 3), (4, 4)]


def test_dispatchers_side_by_side_share_one_count(store: Store, other: Store) -> None:
    """Of 90 matches, 30 are carried out, and each number is given once, whoever counts."""
    apply(store, rule(prescale=3))
    arrive(store, *many("DS", 90))

    judge_side_by_side(store, other)

    assert len(messages_of(store)) == 30
    with store.database.read() as connection:
        numbers = list(connection.scalars(select(prescales.c.number).order_by(prescales.c.number)))
        taken = list(connection.scalars(select(prescales.c.number).where(prescales.c.taken)))
    assert numbers == list(range(1, 91))
    assert sorted(taken) == list(range(1, 91, 3))


# Unique keys.


def test_of_matches_with_one_key_the_first_is_carried_out(store: Store) -> None:
    """The second is refused and names the first; all actions of a match share its key."""
    act = {"run": {"command": ["true"]}}
    apply(store, rule("a", r"(?P<run>\d+)-.*", act, act, unique="run-{run}"))
    arrive(store, "17-x", "17-y", "18-x")

    judge(store)

    found = [(each.id, each.message_id, each.state) for each in store.dispatches.list()[::-1]]
    assert [(message, state) for _, message, state in found] == [
        (1, "ready"),
        (1, "ready"),
        (2, "refused"),
        (2, "refused"),
        (3, "ready"),
        (3, "ready"),
    ]
    refused = store.dispatches.get(DispatchId(found[2][0]))
    assert refused.reason is not None
    assert refused.reason.endswith(f"is taken by dispatch {found[0][0]}")


def test_a_key_is_taken_once_however_many_ask_at_once(store: Store, other: Store) -> None:
    """The database decides: of 90 matches for 10 keys, judged side by side, each key has one that is carried out."""
    apply(store, rule("a", r"(?P<run>\d+)-.*", unique="run-{run}"))
    arrive(store, *(f"{number % 10}-{number}" for number in range(90)))

    judge_side_by_side(store, other)

    found = store.dispatches.list(limit=1000)
    carried_out = [each.unique_key for each in found if each.state == "ready"]
    assert (len(found), len(carried_out), len(set(carried_out))) == (90, 10, 10)


# The loop guard.


def test_a_rule_never_starts_on_what_it_had_a_part_in_making(store: Store) -> None:
    """Neither on what its own launch makes, nor on what is made of that; another rule does."""
    first = Intent("k1", "n1", None, "w", {}, {}, {f"{SCOPE}:made": "step"}, "local", [], "a", Did(SCOPE, "raw"))
    second = Intent("k2", "n2", None, "w", {}, {}, {f"{SCOPE}:made.more": "step"}, "local", [], "b", Did(SCOPE, "made"))
    for intent in (first, second):
        store.launches.intend(intent, who="test", now=NOW)
    apply(store, rule("a"), rule("b"), rule("c"))
    arrive(store, "raw", "made", "made.more")

    judge(store)

    found = sorted((each.message_id, each.rule) for each in store.dispatches.list())
    assert found == [(1, "a"), (1, "b"), (1, "c"), (2, "b"), (2, "c"), (3, "c")]
    assert "rule a had a part in making this dataset: it never starts on that" in str(reasons(store)[1])


def test_what_is_put_away_by_the_loop_guard_does_not_count_for_a_prescale(store: Store) -> None:
    """It never was a match to be carried out."""
    store.launches.intend(
        Intent("k", "n", None, "w", {}, {}, {f"{SCOPE}:made": "step"}, "local", [], "a", None), who="test", now=NOW
    )
    apply(store, rule("a", prescale=2))
    arrive(store, "made", "raw-1", "raw-2")

    judge(store)

    assert messages_of(store) == [2]
    assert store.counts().messages == {"dispatched": 1, "dropped": 2}


# Near misses.


def near(store: Store) -> list[tuple[int, str, str]]:
    columns = (near_misses.c.message_id, near_misses.c.rule, near_misses.c.clause)
    with store.database.read() as connection:
        return sorted(tuple(row) for row in connection.execute(select(*columns)))


def test_a_rule_that_one_clause_kept_from_matching_is_remembered(store: Store) -> None:
    """Of all that the rules said, only this is kept; and it is what they said last."""
    apply(store, rule("elsewhere", "DS.*", scope="other"), rule("nothing-like-it", "x"))
    arrive(store, "DS-1", "y")
    judge(store)
    before = near(store)
    apply(store, rule("elsewhere", "DS.*", scope="other", description="changed"), rule("later", "DS.*", on="open"))
    judge(store)

    assert before == [(1, "elsewhere", "scope")]
    assert (1, "elsewhere", "scope") in near(store)
    assert {message for message, _, _ in near(store)} == {1}
    assert store.messages.get(MessageId(1)).state == "pending"
