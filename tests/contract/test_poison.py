"""One message or rule that nobody foresaw must not hold up the others, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event, insert, text, update

from orchestrator.core.by_hand import Hand, MessageVerb
from orchestrator.dispatch.dispatcher import Dispatcher
from orchestrator.store.port import StoreUnavailable
from orchestrator.store.store import Store
from orchestrator.store.tables import facts
from schemas.message import MessageId, MessageState
from schemas.rule import Rule
from tests.contract.test_store_dispatches import messages
from tests.contract.test_store_rooms import joining
from tests.unit.making import NOW, UNMATCHED, frame, later, rule


@pytest.fixture
def other(store: Store, store_url: str) -> Iterator[Store]:
    """The same store, as another process has it open."""
    opened = Store.open(store_url)
    yield opened
    opened.close()


def dispatcher(store: Store) -> Dispatcher:
    return Dispatcher(store, UNMATCHED, clock=lambda: NOW)


def judge(store: Store, *rules: Rule) -> None:
    """Judge until nothing comes up any more."""
    store.rules.apply(rules, prune=True, who="test", now=NOW)
    judging = dispatcher(store)
    while judging.judge_batch().judged:
        pass


def poison(store: Store, id_: int) -> None:
    """What the catalog said of this message is damaged: nothing that asks for it can read it."""
    row = {"message_id": id_, "state": "known", "tries": 0, "document": "{", "wanted_at": NOW, "updated_at": NOW}
    with store.database.write() as connection:
        connection.execute(insert(facts).values(row))


def states(store: Store) -> dict[str | None, tuple[MessageState, str | None]]:
    return {each.name: (each.state, each.reason) for each in store.messages.list()}


def put_off(store: Store) -> list[str | None]:
    """The names of those that say that they cannot be judged."""
    return [name for name, (_, reason) in states(store).items() if "cannot be judged" in str(reason)]


def test_a_message_that_cannot_be_judged_is_put_off(store: Store) -> None:
    """A defect costs this one message its turn, until the rules change; it says so, and the others go on."""
    messages(store, 4)
    poison(store, 2)

    judge(store, rule("all", "DS-.*"))

    state, reason = states(store)["DS-1"]
    assert state is MessageState.PENDING
    assert "cannot be judged, which is a defect of muleteer: JSONDecodeError: Expecting" in str(reason)
    assert store.counts().messages == {"dispatched": 3, "pending": 1}
    assert dispatcher(store).judge_batch().judged == 0

    with store.database.write() as connection:
        connection.execute(update(facts).values(document="{}"))
    judge(store, rule("all", "DS-.*"), rule("more", "x"))
    assert store.counts().messages == {"dispatched": 4}


def test_with_a_message_that_cannot_be_judged_the_same_is_said_of_the_others(store: Store) -> None:
    """What was dispatched, and what people should hear of: here, that a dataset came too late."""
    late = joining("both", "ab")
    for names in (("a-7", "b-7"), ("DS-0", "a1-7", "DS-1", "DS-2")):
        store.messages.take_in([frame(name=name, at=later(len(names))) for name in names], origin="x", now=NOW)
        if len(names) == 2:
            judge(store, late, rule("all", "DS-.*"))
    poison(store, 5)

    judged = dispatcher(store).judge_batch()

    assert (judged.judged, judged.dispatched, judged.dropped, judged.last) == (4, 2, 0, 6)
    assert [store.dispatches.get(id_).message_id for id_ in judged.dispatches] == [3, 6]
    assert [f"message {4} " in alert and "came after room 1" in alert for alert in judged.alerts] == [True]
    assert put_off(store) == ["DS-1"]


def test_with_one_more_rule_everything_else_is_judged_once_more(store: Store) -> None:
    """`dispatch --rule` looks at all that is pending; what cannot be judged does not end that either."""
    messages(store, 4)
    judge(store, rule("no", "nothing"))
    poison(store, 2)
    extra = store.rules.keep_for_reference(rule("extra", "DS-.*"), who="test", now=NOW)

    Dispatcher(store, UNMATCHED, clock=lambda: NOW, extra=extra).judge_batch()

    assert sorted(each.message_id for each in store.dispatches.list(rule="extra")) == [1, 3, 4]


@contextmanager
def after_failing(store: Store, times: int, job: Callable[[], object]) -> Iterator[None]:
    """Do the job when a transaction of this store has failed for so many times, and its locks are gone."""
    failed: list[object] = []
    engine = store.database.engine

    def count(_: object) -> None:
        failed.append(None)

    def look(*_: object) -> None:
        if len(failed) == times:
            failed.append(None)
            job()

    event.listen(engine, "rollback", count)
    event.listen(engine, "checkin", look)
    yield
    event.remove(engine, "rollback", count)
    event.remove(engine, "checkin", look)
    assert len(failed) > times


def test_two_dispatchers_that_meet_one_such_message_put_off_nothing_else(store: Store, other: Store) -> None:
    """Whoever comes second finds it put off, and leaves alone what has come up in its place."""
    messages(store, 5)
    poison(store, 3)
    store.rules.apply([rule("all", "DS-.*")], prune=True, who="test", now=NOW)

    def meanwhile() -> None:
        dispatcher(other).judge_batch()
        other.messages.take_in([frame(name="DS-new")], origin="broker", now=NOW)

    with after_failing(store, 2, meanwhile):  # the whole batch, and then the message by itself
        dispatcher(store).judge_batch()

    assert put_off(store) == ["DS-2"]
    assert store.counts().messages == {"dispatched": 5, "pending": 1}


def test_only_what_is_pending_and_was_not_judged_by_these_rules_is_put_off(store: Store) -> None:
    """Others may have dropped it meanwhile, or judged it by newer rules."""
    messages(store, 2)
    judge(store, rule("no", "nothing"))
    hand = Hand("cli:me", "because", NOW)
    store.by_hand.messages(MessageVerb.DROP, [MessageId(1)], hand)
    before = states(store)

    tried = [store.dispatches.put_off(MessageId(id_), revision, "why") for id_, revision in [(1, 2), (2, 1)]]

    assert (tried, states(store)) == ([False, False], before)
    assert store.dispatches.put_off(MessageId(2), 2, "why")
    assert states(store)["DS-1"] == (MessageState.PENDING, "why")


@contextmanager
def cut_off(store: Store) -> Iterator[None]:
    """When dispatches are to be written, the server ends the connection, or the disk is full."""
    engine = store.database.engine
    done: list[Any] = []

    def cut(_: Any, cursor: Any, statement: str, *__: Any) -> None:
        if done or not statement.startswith("INSERT INTO dispatches"):
            return
        done.append(cursor.connection)
        if store.database.is_sqlite:
            cursor.connection.execute("PRAGMA max_page_count = 1")
        else:
            with store.database.write() as connection:
                pid = cursor.connection.info.backend_pid
                connection.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})

    event.listen(engine, "before_cursor_execute", cut)
    yield
    event.remove(engine, "before_cursor_execute", cut)
    assert done
    if store.database.is_sqlite:
        done[0].execute("PRAGMA max_page_count = 1000000000")


def test_a_store_that_is_away_puts_nothing_off(store: Store) -> None:
    """That is no defect of a message: all of them are judged when it is back."""
    messages(store, 100)
    store.rules.apply([rule("all", "DS-.*")], prune=True, who="test", now=NOW)
    judging = dispatcher(store)

    with cut_off(store), pytest.raises(StoreUnavailable):
        judging.judge_batch()

    assert {(each.judged_revision, each.reason) for each in store.messages.list(limit=1000)} == {(-1, None)}
    assert judging.judge_batch().dispatched == 100


@pytest.mark.parametrize(
    ("template", "name", "said"),
    [
        ("{name}", "DS-" + "x" * 400, "has 403 characters; 400 are allowed"),
        ("{account}", "DS-1", "the unique key is empty for this message"),
    ],
)
def test_a_unique_key_that_cannot_be_kept_waits_for_the_rule_to_be_mended(
    store: Store, template: str, name: str, said: str
) -> None:
    """It is said with the message, and other messages of the batch are dispatched."""
    store.messages.take_in([frame(name=name)], origin="broker", now=NOW)
    messages(store, 1)
    once = rule("once", "DS-.*", unique=template) if "name" in template else rule("once", "DS-1", unique=template)

    judge(store, once, rule("all", "DS-0"))

    assert states(store)[name][0] is MessageState.PENDING
    assert said in str(states(store)[name][1])
    assert states(store)["DS-0"][0] is MessageState.DISPATCHED
