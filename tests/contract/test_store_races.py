"""What the store promises when others change something in the midst of a transaction, on PostgreSQL.

SQLite has one writer: there, nobody else is in the midst of anything.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import event

from orchestrator.core.clauses import Facts
from orchestrator.core.matching import RuleSet, Verdict
from orchestrator.store.dispatches import Judged
from orchestrator.store.facts import Answer
from orchestrator.store.port import NotAllowed
from orchestrator.store.store import Store
from schemas.message import MessageId
from schemas.room import RoomId
from schemas.rule import Rule, RuleVersion
from tests.contract.test_replay import replay
from tests.unit.making import NOW, UNMATCHED, frame, later, rule

pytestmark = pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)

ONE, TWO = MessageId(1), MessageId(2)

#: Wants raw data as the catalog says it is; the event alone does not tell.
ASKS = rule("asks", where={"datatype": "raw"})

#: Wants runs of which somebody said QA. The first is told the run by the name, the second by the catalog.
NAMED = rule("named", r"\w+-(?P<run>\d+)", where={"run_flags": "QA"})
TOLD = rule("told", "DS", where={"run_flags": "QA"})


@pytest.fixture
def other(store: Store, store_url: str) -> Iterator[Store]:
    """The same store, as another process has it open."""
    opened = Store.open(store_url)
    yield opened
    opened.close()


class Meanwhile:
    """A job that another process does once, begun in the midst of something."""

    def __init__(self, job: Callable[[], object]) -> None:
        self._job = job
        self._thread = threading.Thread(target=self._run)
        self._failure: Exception | None = None
        self.begun = False

    def _run(self) -> None:
        try:
            self._job()
        except Exception as error:
            self._failure = error

    def begin(self) -> None:
        """Begin it, and give it time to come to its end or to where it has to wait."""
        if not self.begun:
            self.begun = True
            self._thread.start()
            self._thread.join(0.7)

    def end(self) -> None:
        """Wait for its end; what it raised is raised."""
        assert self.begun
        self._thread.join()
        if self._failure is not None:
            raise self._failure


class Interrupted(RuleSet):
    """Rules that judge as others do, while something else is begun."""

    def __init__(self, revision: int, versions: Sequence[RuleVersion], job: Meanwhile) -> None:
        super().__init__(revision, versions, UNMATCHED)
        self._job = job

    def judge(self, facts: Facts) -> Verdict:
        verdict = super().judge(facts)
        self._job.begin()
        return verdict


@contextmanager
def after_statement(store: Store, beginning: str, job: Callable[[], object]) -> Iterator[None]:
    """Do the job right after the first statement of this store with this beginning."""
    meanwhile = Meanwhile(job)

    def look(_: Any, __: Any, statement: str, *___: Any) -> None:
        if statement.startswith(beginning):
            meanwhile.begin()

    event.listen(store.database.engine, "after_cursor_execute", look)
    yield
    event.remove(store.database.engine, "after_cursor_execute", look)
    meanwhile.end()


def apply(store: Store, *rules: Rule) -> None:
    store.rules.apply(rules, prune=True, who="test", now=NOW)


def arrive(store: Store, *names: str) -> None:
    store.messages.take_in([frame(name=name) for name in names], origin="broker", now=NOW)


def judge(
    store: Store, *, meanwhile: Callable[[], object] | None = None, limit: int = 100, now: datetime = NOW
) -> Judged:
    """Judge what comes up; `meanwhile` is done when the first message was judged, and nothing was written."""
    revision, versions = store.rules.in_force()
    if meanwhile is None:
        return store.dispatches.judge(RuleSet(revision, versions, UNMATCHED), now=now, limit=limit)
    job = Meanwhile(meanwhile)
    judged = store.dispatches.judge(Interrupted(revision, versions, job), now=now, limit=limit)
    job.end()
    return judged


def flag(store: Store, run: int) -> None:
    store.run_flags.set([run], "QA", who="me", reason="complete", now=NOW)


def answer(store: Store, id_: MessageId, document: Mapping[str, Any]) -> None:
    store.facts.answer({id_: Answer(document)}, now=later(1))


def fired(store: Store) -> Sequence[int]:
    return sorted(each.message_id for each in store.dispatches.list())


# The catalog.


def waiting_to_be_judged_again(store: Store) -> None:
    """A message that waits for the catalog, and comes up again for another reason."""
    apply(store, ASKS)
    arrive(store, "DS-59641")
    judge(store)
    flag(store, 59641)


def test_an_answer_that_comes_while_a_message_is_judged_again_is_heard(store: Store, other: Store) -> None:
    """The message comes up once more with the answer, though it was about to be judged anyway."""
    waiting_to_be_judged_again(store)

    judge(store, meanwhile=lambda: answer(other, ONE, {"datatype": "raw"}))
    judge(store)

    assert fired(store) == [ONE]


def test_an_answer_that_nobody_asked_for_may_come_while_a_message_is_judged_first(store: Store, other: Store) -> None:
    """A replay asks by itself. It and the dispatcher do not wait for each other, and the answer is heard."""
    apply(store, ASKS)
    arrive(store, "DS-1")

    judge(store, meanwhile=lambda: answer(other, ONE, {"datatype": "raw"}))
    judge(store)

    assert fired(store) == [ONE]


def test_what_is_forgotten_while_a_message_is_judged_is_asked_again(store: Store, other: Store) -> None:
    """The dispatcher has just seen that the question was put, and does not put it; then somebody forgets it."""
    waiting_to_be_judged_again(store)

    with after_statement(
        store,
        "SELECT facts.message_id \nFROM facts",
        lambda: other.facts.forget([ONE], who="me", why="changed", now=later(1)),
    ):
        judge(store)
    judge(store)

    assert [each.message_id for each in store.facts.take(now=later(2), until=later(60), limit=10)] == [ONE]


# What people say of runs.


def test_a_flag_counts_for_what_arrives_while_it_is_set(store: Store, other: Store) -> None:
    """A message of the run that comes after the others were put back is not judged by the flags as they were."""
    apply(store, NAMED)
    arrive(store, "RAW-59641")
    judge(store)

    def come() -> None:
        arrive(store, "SIM-59641")
        judge(store)

    with after_statement(other, "UPDATE messages SET judged_revision", come):
        flag(other, 59641)
    judge(store)

    assert fired(store) == [ONE, TWO]


@pytest.mark.parametrize("before", [False, True], ids=["first", "again"])
def test_a_flag_counts_for_what_is_being_judged(store: Store, other: Store, before: bool) -> None:
    """Whether or not the message was judged before."""
    apply(store, NAMED)
    arrive(store, "RAW-59641")
    if before:
        judge(store)
        apply(store, NAMED, ASKS)

    judge(store, meanwhile=lambda: flag(other, 59641))
    assert fired(store) == []
    judge(store)

    assert fired(store) == [ONE]


def test_a_flag_counts_for_what_is_found_to_be_of_the_run_while_it_is_set(store: Store, other: Store) -> None:
    """The catalog says of which run a message is, after those that are known to be of it were put back."""
    apply(store, TOLD, NAMED)
    arrive(store, "DS", "RAW-59641")
    judge(store)

    def come() -> None:
        answer(store, ONE, {"run_number": 59641})
        judge(store)

    with after_statement(other, "UPDATE messages SET judged_revision", come):
        flag(other, 59641)
    judge(store)

    assert fired(store) == [ONE, TWO]


# Waiting rooms.


#: A dispatcher counts the matches of a rule with a prescale.
COUNTED = "SELECT pg_advisory_xact_lock(hashtext"


def joining(name: str, slots: str, *, prescale: int = 1, **join: Any) -> Rule:
    """A rule that joins datasets `XA-7`, `XB-7` if it is named X."""
    members = {slot.lower(): rf"{name}{slot}-(?P<run>\d+)" for slot in slots}
    document = {"name": name, "prescale": prescale, "join": {"key": "{run}", "members": members, **join}}
    return Rule.model_validate(document | {"actions": [{"run": {"command": ["true"]}}]})


def test_two_that_come_late_at_once_find_each_others_round(store: Store, other: Store) -> None:
    """One opens it while the other waits for the room before it: the other goes on with what is there then."""
    apply(store, joining("X", "ABCD", need=2, late="dispatch"))
    arrive(store, "XA-1", "XB-1")
    judge(store)
    arrive(store, "XC-1", "XD-1")

    with after_statement(store, "INSERT INTO rooms", lambda: judge(other)):
        judge(store, limit=1)

    assert [(each.round, each.state) for each in reversed(store.rooms.list())] == [
        (1, "dispatched"),
        (2, "dispatched"),
        (3, "dispatched"),
    ]
    assert [each.state for each in store.messages.list()] == ["dispatched"] * 4


def test_joins_with_prescales_that_are_complete_in_opposite_order_do_not_wait_for_each_other(
    store: Store, other: Store
) -> None:
    """Two dispatchers with two rooms each; each comes to its first before either comes to its second."""
    apply(store, joining("X", "AB", prescale=2), joining("Y", "AB", prescale=2))
    arrive(store, "XA-1", "XB-1", "YA-1", "YB-1", "YA-2", "YB-2", "XA-2", "XB-2")

    with after_statement(store, COUNTED, lambda: judge(other, limit=4)):
        judge(store, limit=4)

    # of the two rooms of each rule, the first in the order in which they were counted
    assert len(fired(store)) == 2
    assert sorted(each.state for each in store.rooms.list()) == ["dispatched", "dispatched", "dropped", "dropped"]


@pytest.fixture
def nearly_complete(store: Store) -> None:
    """A room whose rule has a prescale and a deadline; its last member has come, and is not judged yet."""
    apply(store, joining("X", "ABC", prescale=2, deadline="1m", at_deadline="dispatch"))
    arrive(store, "XA-1", "XB-1")
    judge(store)
    arrive(store, "XC-1")


@pytest.mark.usefixtures("nearly_complete")
def test_a_room_with_a_prescale_may_be_due_while_its_last_member_comes(store: Store, other: Store) -> None:
    """Whoever settles it does not have the room and wait for the count, while the other has it the other way round."""
    with after_statement(store, COUNTED, lambda: judge(other, now=later(120))):
        judge(store)

    assert [each.state for each in store.rooms.list()] == ["dispatched"]
    assert fired(store) == [ONE]


@pytest.mark.usefixtures("nearly_complete")
def test_a_room_with_a_prescale_may_be_decided_on_while_its_last_member_comes(store: Store, other: Store) -> None:
    """A person who waives a member waits, and is told that it is dispatched."""
    refused: list[str] = []

    def waive() -> None:
        try:
            other.rooms.waive(RoomId(1), "c", who="me", why="broken", now=NOW)
        except NotAllowed as error:
            refused.append(str(error))

    with after_statement(store, COUNTED, waive):
        judge(store)

    assert refused == ["room 1 is dispatched; only a room that waits can be changed"]
    assert fired(store) == [ONE]


def test_a_replay_may_have_what_gets_a_seat_in_another_round(store: Store, other: Store) -> None:
    """The replay has a dispatched member and waits for the late one; the dispatcher has that, and seats both."""
    late = joining("X", "ABC", need=2, late="dispatch")
    apply(store, late)
    arrive(store, "XA-1", "XB-1")
    judge(store)
    apply(store, late, rule("new", "X[AC]-1"))
    arrive(store, "XC-1")

    judge(store, meanwhile=lambda: replay(other))

    assert [(each.round, each.state) for each in reversed(store.rooms.list())] == [(1, "dispatched"), (2, "dispatched")]
    assert sorted(each.message_id for each in store.dispatches.list(rule="new")) == [1, 3]
