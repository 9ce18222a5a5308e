"""What a replay promises of rules that join datasets, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event, select, text

from orchestrator.core.by_hand import Hand, MessageVerb
from orchestrator.core.clauses import CompiledRule
from orchestrator.core.matching import RuleSet
from orchestrator.dispatch.dispatcher import Dispatcher
from orchestrator.dispatch.replay import left_out
from orchestrator.store.port import StoreUnavailable
from orchestrator.store.restraints import write_products
from orchestrator.store.store import Store
from orchestrator.store.tables import launches, room_members, rooms
from schemas.did import Did
from schemas.message import MessageId, MessageState
from schemas.replay import Replay, ReplayState
from schemas.room import RoomId
from schemas.rule import Rule
from tests.contract.test_replay import (
    Clock,
    begin,
    foresee,
    replay,
    replayer,
    request,
    stop_after,
    tally,
)
from tests.contract.test_store_races import after_statement
from tests.contract.test_store_rooms import joining, one, room, started
from tests.unit.making import NOW, SCOPE, frame, later, rule

#: Whatever no rule wants is put away.
PUT_AWAY: Mapping[str, MessageState] = {"*": MessageState.DROPPED}

#: Joins a-7 and b-7.
BOTH = joining(slots="ab")


def arrive(store: Store, *names: str, event: str = "close", at: float = 0, now: datetime = NOW) -> None:
    store.messages.take_in([frame(event, name, at=later(at)) for name in names], origin="broker", now=now)


def apply(store: Store, *rules: Rule, now: datetime = NOW) -> int:
    return store.rules.apply([*rules, rule("nobody", "nothing")], prune=True, who="test", now=now).revision


def dispatch(store: Store, *, now: datetime | None = None) -> None:
    """Let a dispatcher judge all there is."""
    dispatcher = Dispatcher(store, PUT_AWAY, clock=lambda: now or later(2000))
    while dispatcher.judge_batch().judged:
        pass


def history(store: Store, *names: str, under: Sequence[Rule] = ()) -> None:
    """Messages that came, and were judged by these rules."""
    apply(store, *under)
    arrive(store, *names)
    dispatch(store, now=NOW)


def states(store: Store) -> list[str]:
    """Where each message stands, oldest first."""
    return [str(each.state) for each in store.messages.list(limit=1000, newest_first=False)]


def put_back(store: Store) -> list[int]:
    """The messages that replays have put back, each as often as it was."""
    changes = [each for _, each in store.journal.since(0, 10_000)]
    return [each.subject_id for each in changes if each.subject == "message" and "put back" in str(each.why)]


def refusals(store: Store, of: Replay) -> list[str]:
    return [str(each.why) for each in store.journal.of("replay", of.id) if each.to_state == "refused"]


# What goes back.


def test_what_was_put_away_before_the_rule_existed_meets_in_its_waiting_room(store: Store) -> None:
    """Both datasets go back to pending, the dispatcher lets them in, and there is one dispatch with both."""
    history(store, "a-7", "b-7", "c-7", "a-8")
    apply(store, BOTH)
    dispatch(store)
    before = states(store)

    done = replay(store)
    between = states(store)
    dispatch(store)

    assert (before, between) == (["dropped"] * 4, ["pending", "pending", "dropped", "pending"])
    assert (done.state, tally(done)) == (ReplayState.DONE, (4, 3, 3, 0, 0))
    assert started(store) == ["7 1 a-7,b-7 "]
    assert states(store) == ["dispatched", "dispatched", "dropped", "pending"]
    assert one(store, "a-8").reason == "waits in room 2 of rule both for 8; missing when it came: b"
    moves = [(each.from_state, each.to_state, each.who, each.why) for each in store.journal.of("message", 1)][2:]
    assert moves == [
        ("dropped", "pending", "cli:me", "put back for both in replay 1: backfill"),
        ("pending", "dispatched", "dispatcher", "dispatched with room 1 of rule both for 7"),
    ]


def test_what_was_dispatched_to_another_rule_or_held_goes_back_as_well(store: Store) -> None:
    """What the other rule has started stays, and is not started again; afterwards the message is dispatched."""
    alone = rule("alone", "a-.*")
    history(store, "a-7", under=[alone])
    arrive(store, "b-7")
    store.by_hand.messages(MessageVerb.HOLD, [MessageId(2)], Hand("me", "odd", NOW))
    apply(store, alone, BOTH)

    done = replay(store, rules=["both"])
    dispatch(store)

    assert tally(done) == (2, 2, 2, 0, 0)
    assert (started(store), len(store.dispatches.list(rule="alone"))) == (["7 1 a-7,b-7 "], 1)
    assert states(store) == ["dispatched", "dispatched"]


def test_another_rule_of_the_replay_starts_at_once_and_its_message_waits_for_the_room(store: Store) -> None:
    """The dispatch is the replay's; the message is not dispatched before its room is."""
    history(store, "a-7")
    apply(store, rule("alone", "a-.*"), BOTH)

    done = replay(store)
    dispatch(store)
    waiting = states(store)
    arrive(store, "b-7")
    dispatch(store)

    (first,) = store.dispatches.list(rule="alone")
    assert tally(done) == (1, 2, 2, 0, 0)
    assert store.journal.of("dispatch", first.id)[0].why == "replay 1: backfill"
    assert (waiting, states(store)) == (["pending"], ["dispatched", "dispatched"])
    assert started(store) == ["7 1 a-7,b-7 "]


def test_only_the_runs_that_were_chosen_go_back(store: Store) -> None:
    """By the group `run` of the member's pattern."""
    history(store, *(f"{slot}-{run}" for run in range(6, 10) for slot in "ab"))
    apply(store, BOTH)

    done = replay(store, runs=["7..8"])
    dispatch(store)

    assert tally(done) == (8, 4, 4, 0, 0)
    assert started(store) == ["7 1 a-7,b-7 ", "8 1 a-8,b-8 "]
    assert Counter(states(store)) == {"dropped": 4, "dispatched": 4}


def test_the_runs_may_be_known_to_the_catalog_alone(store: Store) -> None:
    """It is asked once, and the dispatcher has the answer too."""
    members = {slot: rf"{slot}-(?P<n>\d+)" for slot in "ab"}
    document = rule("both").document() | {"join": {"key": "{n}", "members": members}, "where": {"datatype": "raw"}}
    history(store, "a-7", "b-7", "a-8")
    apply(store, Rule.model_validate(document))
    numbers = {"a-7": 7, "b-7": 7, "a-8": 8}

    done = replay(
        store,
        lambda dids: {did: {"run_number": numbers[did.name], "datatype": "raw"} for did in dids},
        runs=[7],
    )
    dispatch(store)

    assert (tally(done), put_back(store)) == ((3, 2, 2, 0, 0), [1, 2])
    assert len(store.dispatches.list(rule="both")) == 1


def test_a_room_that_is_closed_takes_what_is_put_back_as_it_takes_what_arrives(store: Store) -> None:
    """What the rule never saw comes late, and its `late` says what becomes of it."""
    two = joining(need=2, late="dispatch")
    history(store, "c-7")
    apply(store, two)
    arrive(store, "a-7", "b-7")
    dispatch(store)

    done = replay(store)
    dispatch(store)

    assert tally(done) == (3, 3, 1, 2, 0)
    assert started(store) == ["7 1 a-7,b-7 c", "7 2 a-7,b-7,c-7 "]


def test_a_deadline_counts_from_when_the_dispatcher_opens_the_room(store: Store) -> None:
    """However old the messages are; a room that is open already keeps its own."""
    history(store, "a-7", "a-8")
    timed = joining(slots="ab", deadline="1h", at_deadline="drop")
    apply(store, timed)
    arrive(store, "b-8")
    dispatch(store, now=later(1000))
    dispatch(store, now=later(1000 + 3599))

    replay(store, name="a-7")
    dispatch(store, now=later(9000))
    dispatch(store, now=later(9000 + 3599))
    waiting = room(store, 2).state
    dispatch(store, now=later(9000 + 3601))

    assert (room(store, 1).deadline, room(store, 2).deadline) == (later(1000 + 3600), later(9000 + 3600))
    assert (waiting, room(store, 2).state) == ("open", "dropped")
    assert [str(each.state) for each in (one(store, "a-7"), one(store, "a-8"))] == ["dropped", "dropped"]


# What is there.


@pytest.mark.parametrize(
    ("join", "names", "then"),
    [
        ({}, ["a-7"], []),  # waits
        ({}, ["a-7", "b-7"], []),  # dispatched
        ({"need": 1, "late": "alert"}, ["a-7", "b-7"], []),  # the second came late, and is held
        ({"need": 1, "late": "ignore"}, ["a-7", "b-7"], []),  # the second came late, and is dropped
        ({"deadline": "1h", "at_deadline": "drop"}, ["a-7"], []),  # dropped with its room
        ({}, ["a-7"], ["a-7"]),  # left: a later close has taken its seat
    ],
)
def test_what_had_a_seat_is_there(
    store: Store, join: dict[str, Any], names: Sequence[str], then: Sequence[str]
) -> None:
    """Whatever became of it: the rule had it, and nothing is changed."""
    history(store, *names, under=[joining(slots="ab", **join)])
    arrive(store, *then, at=5)
    dispatch(store, now=later(2 * 3600))
    before = (states(store), len(store.journal.since(0, 10_000)), started(store))

    found = foresee(store, superseded=True)
    done = replay(store, superseded=True)
    dispatch(store, now=later(3 * 3600))

    count = len(names) + len(then)
    assert tally(done) == (count, count, 0, count, 0)
    assert (found.rules["both"].written, found.rules["both"].there) == (0, count)
    assert (states(store), len(store.journal.since(0, 10_000)) - 2, started(store)) == before


def test_what_a_person_gave_to_the_rule_is_there(store: Store) -> None:
    """It has its dispatch, though it was in no room."""
    history(store, "a-7")
    apply(store, BOTH)
    revision, versions = store.rules.in_force()
    plain = CompiledRule(next(each for each in versions if each.rule.name == "both"))
    given = rule("both", actions=[{"run": {"command": ["true"]}}])
    version = plain.version.model_copy(update={"rule": given})
    hand = Hand("me", "by hand", NOW)
    store.by_hand.give(CompiledRule(version), RuleSet(revision, versions, PUT_AWAY), [MessageId(1)], hand)

    done = replay(store)

    assert (tally(done), put_back(store)) == ((1, 1, 0, 1, 0), [])


def test_what_is_pending_is_judged_anyway(store: Store) -> None:
    """Nothing is put back that has not gone; so a second replay, before or after the dispatcher, does nothing."""
    history(store, "a-7", "b-7")
    apply(store, BOTH)

    tallies = [tally(replay(store)), tally(replay(store))]
    dispatch(store)
    tallies.append(tally(replay(store)))
    dispatch(store)

    assert tallies == [(2, 2, 2, 0, 0), (2, 2, 0, 2, 0), (2, 2, 0, 2, 0)]
    assert (put_back(store), started(store)) == ([1, 2], ["7 1 a-7,b-7 "])


# What is refused.


@pytest.mark.parametrize(
    ("other", "why"),
    [
        (rule("other", "a-.*"), "rule other in force would start on it as well"),
        (rule("other", "a-.*", prescale=2), "rule other in force would start on it as well"),
        (rule("other", "a-.*", unique="x"), "rule other in force would start on it as well"),
        (joining("other", "ac"), "rule other would have it in a waiting room as well"),
        (
            rule("other", "(?P<n>a)-.*", {"run": {"command": ["{n:03d}"]}}),
            "a rule in force cannot be asked about it, or cannot be filled in (messages explain says which)",
        ),
        (rule("other", "a-.*", where={"datatype": "raw"}), "rule other in force would start on it as well"),
    ],
)
def test_what_another_rule_would_start_on_stays_where_it_is(store: Store, other: Rule, why: str) -> None:
    """It is refused, and the journal of the replay says once which rule; if the replay names that too, it goes back."""
    history(store, *(f"{slot}-{run}" for run in range(6) for slot in "ab"))
    apply(store, BOTH, other)

    def ask(dids: Any) -> Mapping[Did, Mapping[str, Any]]:
        return {did: {"datatype": "raw"} for did in dids}

    found = foresee(store, ask, rules=["both"]).rules["both"]
    done = replay(store, ask, rules=["both"])
    dispatch(store)

    assert (found.written, found.refused) == (6, {why: 6})
    assert tally(done) == (12, 12, 6, 0, 6)
    assert refusals(store, done) == [f"{why}: message 1, for example"]
    assert Counter(states(store)) == {"dropped": 6, "pending": 6}
    assert store.dispatches.list() == []


def test_what_a_rule_of_the_replay_starts_on_is_no_obstacle(store: Store) -> None:
    """Not even if its key is taken or its prescale passes over it; but a rule whose runs were not chosen is one."""
    history(store, *(f"{slot}-{run}" for run in range(6) for slot in "ab"))
    others = [
        rule("half", r"a-\d", prescale=2),
        rule("key", r"a-\d", unique="x"),
        rule("elsewhere", r"a-(?P<run>5)", {"run": {"command": ["x"]}}),
        rule("no-run", "b-5"),
    ]
    apply(store, BOTH, *others)

    found = foresee(store, nothing_run, runs=["..5"])
    done = replay(store, nothing_run, runs=["..5"])
    dispatch(store)

    both = found.rules["both"]
    assert (both.written, both.refused) == (11, {"rule no-run in force would start on it as well": 1})
    assert done.written == sum(each.written for each in found.rules.values())
    assert done.refused == sum(each.refused.total() for each in found.rules.values())
    assert sorted(started(store)) == [f"{run} 1 a-{run},b-{run} " for run in range(5)]
    assert store.dispatches.list(rule="no-run") == []
    assert Counter(str(each.state) for each in store.dispatches.list(rule="key")) == {"ready": 1, "refused": 5}


def nothing_run(dids: Any) -> Mapping[Did, Mapping[str, Any]]:
    """The catalog knows the run of none of them but what stands in the name."""
    return {did: {"run_number": int(did.name[2:])} if did.name.startswith("a") else {} for did in dids}


def test_another_rule_that_had_the_message_or_never_gets_it_is_no_obstacle(store: Store) -> None:
    """Dispatched before, passed over by a prescale, made by the rule itself, or dispatched with a room: nothing new."""
    others = [rule("alone", "a-.*"), rule("half", "[ab]-.*", prescale=3), joining("ac", "ac"), rule("maker", ".*")]
    made(store, 1, "maker", "a-7", "b-7", "c-7")
    history(store, "a-7", "b-7", "c-7", under=others)
    before = [(each.id, each.rule) for each in store.dispatches.list()]
    apply(store, BOTH, *others)

    done = replay(store, rules=["both"])
    dispatch(store)

    assert tally(done) == (3, 2, 2, 0, 0)
    assert [(each.id, each.rule) for each in store.dispatches.list() if each.rule != "both"] == before
    assert sorted(rule for _, rule in before) == ["ac", "alone", "half"]
    assert started(store) == ["7 1 a-7,b-7 "]
    assert states(store) == ["dispatched", "dispatched", "dispatched"]


def test_what_another_room_let_go_is_not_given_to_it_again(store: Store) -> None:
    """A person has dropped or held it there, or it came late: to judge it again would be to let it in again."""
    other = joining("other", "ac")
    history(store, "a-6", "a-7", "a-8", "c-8", under=[joining("other", "ac", need=1)])
    apply(store, other)
    arrive(store, "a-9")
    dispatch(store)
    hand = Hand("me", "odd", NOW)
    store.rooms.dispatch(RoomId(room_of(store, "9")), who="me", why="enough", now=NOW)
    arrive(store, "a-10", "a-11")
    dispatch(store)
    store.by_hand.messages(MessageVerb.DROP, [one(store, "a-10").id], hand)
    store.by_hand.messages(MessageVerb.HOLD, [one(store, "a-11").id, one(store, "c-8").id], hand)
    apply(store, other, joining("new", "abc", need=2))

    done = replay(store, rules=["new"])
    dispatch(store)

    went = {one(store, name).id for name in ("a-6", "a-7", "a-8", "a-9")}
    assert {*put_back(store)} == went
    assert (done.written, done.refused) == (4, 3)
    assert refusals(store, done) == [
        f"rule other would have it in a waiting room as well: message {one(store, 'c-8').id}, for example"
    ]
    assert [str(one(store, name).state) for name in ("a-10", "a-11")] == ["dropped", "held"]
    assert len(store.dispatches.list(rule="other")) == 4


def test_what_waited_in_a_room_that_nobody_settles_is_not_given_to_it_again(store: Store) -> None:
    """A person holds it, its seat is still there, and the rule of the room is disabled: it would wait for ever."""
    history(store, "a-7", "b-7", under=[joining("other", "ac")])
    store.by_hand.messages(MessageVerb.HOLD, [MessageId(1)], Hand("me", "odd", NOW))
    apply(store, BOTH, joining("other", "ac", fields={"enabled": False}))

    done = replay(store)

    assert (tally(done), put_back(store)) == ((2, 2, 1, 0, 1), [2])
    assert refusals(store, done) == ["rule other would have it in a waiting room as well: message 1, for example"]


def test_what_the_rules_in_force_have_judged_already_is_judged_again(store: Store) -> None:
    """They did not want it then; what people say of runs may have changed since, and the rules have not."""
    history(store, "a-7", "b-7", under=[joining(slots="ab", fields={"where": {"run_flags": "good"}})])
    store.run_flags.set([7], "good", who="me", reason="seen", now=NOW)
    dispatch(store)
    before = states(store)

    replay(store)
    dispatch(store)

    assert (before, started(store)) == (["dropped", "dropped"], ["7 1 a-7,b-7 "])


def room_of(store: Store, key: str) -> int:
    return next(each.id for each in store.rooms.list(limit=100) if each.key == key)


def made(store: Store, id_: int, by: str, *names: str) -> None:
    """A launch for a rule has made these datasets."""
    with store.database.write() as connection:
        empty = {"parameters": "{}", "inputs": "{}", "outputs": "{}", "steps": "[]"}
        row = {"key": f"k{id_}", "name": "n", "workflow": "w", "engine": "e", "state": "finished", **empty}
        connection.execute(launches.insert().values(id=id_, created_at=NOW, updated_at=NOW, **row))
        write_products(connection, id_, [Did(SCOPE, name) for name in names], by, None)


def test_what_the_rule_made_itself_is_refused_and_stays_where_it_is(store: Store) -> None:
    """It would never be let in; another rule that joins it gets it all the same."""
    made(store, 1, "both", "a-7")
    history(store, "a-7", "b-7")
    apply(store, BOTH, joining("bothb", "ab"))

    done = replay(store)
    dispatch(store)

    assert tally(done) == (2, 4, 3, 0, 1)
    assert refusals(store, done) == ["the rule had a part in making the dataset: message 1, for example"]
    assert (started(store), started(store, "bothb")) == ([], ["7 1 a-7,b-7 "])


def test_what_a_newer_dataset_has_replaced_in_a_room_that_went_is_refused(store: Store) -> None:
    """It would be put away again at once, in every replay; for another rule it goes back all the same."""
    history(store, "a1-7")
    apply(store, BOTH)
    arrive(store, "a2-7", "b-7", "c-7", at=5)
    dispatch(store)
    apply(store, BOTH, joining("ac", "ac"))

    found = foresee(store)
    done = replay(store)
    dispatch(store)

    why = "the room was dispatched with a newer dataset for the same member"
    assert found.rules["both"].refused == {why: 1}
    assert (tally(done), refusals(store, done)) == ((4, 6, 3, 2, 1), [f"{why}: message 1, for example"])
    assert (started(store), started(store, "ac")) == (["7 1 a2-7,b-7 "], ["7 1 a2-7,c-7 "])


def test_what_a_later_event_has_overtaken_is_refused(store: Store) -> None:
    """Though it was dispatched by then, so that it is not superseded; nor does --superseded help."""
    history(store, "a-7", under=[rule("alone", "a-.*")])
    arrive(store, "a-8")
    arrive(store, "a-7", "a-8", at=5, event="open")
    apply(store, rule("alone", "a-.*"), BOTH)

    without = replay(store, rules=["both"])
    done = replay(store, rules=["both"], superseded=True)

    assert [tally(each)[1:] for each in (without, done)] == [(1, 0, 0, 1), (2, 0, 0, 2)]
    assert refusals(store, done) == ["a later event of the dataset has overtaken it: message 1, for example"]
    assert put_back(store) == []


def test_a_dry_run_says_the_same_numbers_rule_by_rule(store: Store) -> None:
    """There, refused for every reason, and written, across batches; and it writes nothing."""
    made(store, 1, "both", "a-1")
    history(store, *(f"{slot}-{run}" for run in range(8) for slot in "abc"), under=[rule("old", "[ac]-[02]")])
    apply(store, rule("old", "[ac]-[02]"), joining("bc", "bc"))
    arrive(store, "b-20", "c-20", "a-20")
    dispatch(store)
    arrive(store, "a-2", at=9, event="open")
    apply(
        store,
        rule("old", "[ac]-[02]"),
        rule("new", "b-3"),
        rule("third", "[abc]-.*", prescale=3),
        rule("once", "c-.*", unique="once"),
        joining("bc", "bc"),
        joining("both", "ab"),
    )
    arrive(store, "a-21")
    given: dict[str, Any] = {"rules": ["both", "bc", "third", "once"]}
    before = (states(store), len(store.journal.since(0, 10_000)), store.dispatches.list(limit=1000))

    found = foresee(store, **given)

    assert (states(store), len(store.journal.since(0, 10_000)), store.dispatches.list(limit=1000)) == before
    done = replay(store, **given)
    numbers = {name: (each.written, each.there, each.refused.total()) for name, each in found.rules.items()}
    assert numbers["both"] == (15, 1, 3)
    assert found.rules["both"].refused == {
        "the rule had a part in making the dataset": 1,
        "a later event of the dataset has overtaken it": 1,
        "rule new in force would start on it as well": 1,
    }
    assert [sum(column) for column in zip(*numbers.values(), strict=True)] == [done.written, done.there, done.refused]
    went = Counter(put_back(store))
    assert set(went.values()) == {1}
    assert {each.written for each in foresee(store, **given).rules.values()} == {0}


# Which version.


def test_an_older_revision_counts_where_the_rule_is_still_the_same(store: Store) -> None:
    """Word for word: one that was taken out and put in again is the same, one with another key is not."""
    history(store, "a-7", "b-7")
    then = apply(store, BOTH)
    apply(store, rule("alone", "nothing"))
    apply(store, BOTH, rule("alone", "nothing"))

    none_left_out = left_out(store, request(store, as_of=then))
    done = replay(store, as_of=then)
    dispatch(store)

    assert (none_left_out, tally(done)) == ([], (2, 2, 2, 0, 0))
    assert started(store) == ["7 1 a-7,b-7 "]


@pytest.mark.parametrize(
    ("now", "why"),
    [
        ([joining(slots="abc")], "that is version 2"),
        ([joining(slots="ab", fields={"enabled": False})], "it is disabled"),
        ([rule("both", "nothing")], "that is version 2, which joins nothing"),
        ([], "it is not in force any more"),
    ],
)
def test_a_join_that_is_not_in_force_as_it_was_is_left_out_and_that_is_said(
    store: Store, now: Sequence[Rule], why: str
) -> None:
    """With the version and the reason; what else there was is replayed."""
    history(store, "a-7", "b-7")
    then = apply(store, BOTH, rule("alone", "a-.*"))
    apply(store, *now)

    told = left_out(store, request(store, as_of=then))
    done = replay(store, as_of=then)

    by = "waiting rooms go by the rule in force, and "
    assert [(each.rule, each.version, each.why) for each in told] == [("both", 1, by + why)]
    assert left_out(store, request(store, as_of=then, rules=["alone"])) == []
    assert (tally(done), put_back(store)) == ((2, 1, 1, 0, 0), [])


def test_as_of_then_a_join_counts_for_the_messages_that_came_under_the_version_in_force(store: Store) -> None:
    """For those that came under an older one it is left out; which versions that concerns depends on the time asked."""
    other = joining(slots="ac")
    for moment, rules in ((10, [other]), (20, [BOTH]), (30, [rule("none", "nothing")]), (40, [BOTH])):
        apply(store, *rules, now=later(moment))
    for number, moment in enumerate((5, 15, 25, 35, 45)):
        arrive(store, f"a-{number}", f"b-{number}", now=later(moment))
    hand = Hand("me", "all away", NOW)
    store.by_hand.messages(MessageVerb.DROP, [MessageId(id_) for id_ in range(1, 11)], hand)

    told = left_out(store, request(store, as_of="then"))
    later_told = left_out(store, request(store, as_of="then", since=later(20)))
    done = replay(store, as_of="then")
    dispatch(store)

    assert [(each.rule, each.version) for each in told] == [("both", 1)]
    assert later_told == []
    assert tally(done) == (10, 4, 4, 0, 0)
    assert sorted(started(store)) == ["2 1 a-2,b-2 ", "4 1 a-4,b-4 "]


# Paced, stopped, killed, and meanwhile.


def test_what_is_put_back_is_paced(store: Store) -> None:
    """In no minute more than two go back, however often it is stopped; in the end all are there."""
    history(store, *(f"{slot}-{run}" for run in range(4) for slot in "ab"))
    apply(store, BOTH)
    clock = Clock()
    begun = begin(store, pace="2 per 1m")

    while begun.state is ReplayState.RUNNING:
        begun = replayer(store, clock=clock).carry_on(begun, stop_after(5), lambda _: None)
        dispatch(store, now=clock())
    moments = [each.at for _, each in store.journal.since(0, 10_000) if "put back" in str(each.why)]

    assert (tally(begun), len(moments)) == ((8, 8, 8, 0, 0), 8)
    assert max(sum(at - timedelta(minutes=1) < each <= at for each in moments) for at in moments) == 2
    assert moments[-1] - moments[0] < timedelta(minutes=4)
    assert len(started(store)) == 4


@contextmanager
def failing_at(store: Store, beginning: str) -> Iterator[None]:
    """The first statement with this beginning ends the process, as far as the database can tell."""

    def look(_: Any, __: Any, statement: str, *___: Any) -> None:
        if statement.startswith(beginning):
            raise RuntimeError("killed")

    event.listen(store.database.engine, "before_cursor_execute", look)
    try:
        with pytest.raises(RuntimeError, match="killed"):
            yield
    finally:
        event.remove(store.database.engine, "before_cursor_execute", look)


def test_what_ends_in_the_middle_of_a_batch_has_put_nothing_back(store: Store) -> None:
    """What is put back and how far the replay is are one transaction: it goes on from there, nothing comes twice."""
    history(store, *(f"{slot}-{run}" for run in range(3) for slot in "ab"))
    apply(store, BOTH)
    begun = begin(store)
    stands = replayer(store, batch=2).carry_on(begun, stop_after(1), lambda _: None)
    dispatch(store)

    with failing_at(store, "UPDATE replays SET position"):
        replayer(store, batch=2).carry_on(stands, lambda: False, lambda _: None)
    killed, gone = store.replays.get(begun.id), put_back(store)
    resumed = store.replays.resume(begun.id, who="cli:me", why="back", now=later(950))
    done = replayer(store, batch=2).carry_on(resumed, lambda: False, lambda _: None)
    dispatch(store)

    assert (killed.position, killed.written, gone) == (2, 2, [1, 2])
    assert tally(done) == (6, 6, 6, 0, 0)
    assert (put_back(store), len(started(store))) == ([1, 2, 3, 4, 5, 6], 3)


class Meanwhile(Clock):
    """A clock that is looked at when a batch is judged, and is about to be written: then something else is done."""

    def __init__(self, job: Callable[[], object]) -> None:
        super().__init__()
        self._jobs = [job]

    def __call__(self) -> datetime:
        while self._jobs:
            self._jobs.pop()()
        return super().__call__()


@pytest.mark.parametrize("dispatched", [False, True])
def test_what_another_replay_has_put_back_meanwhile_is_not_put_back_again(store: Store, dispatched: bool) -> None:
    """It was read before, and is written after: as it stands by then, it is there."""
    history(store, "a-7", "b-7")
    apply(store, BOTH, rule("alone", "a-7"))
    begun = begin(store)

    def meanwhile() -> None:
        replay(store)
        if dispatched:
            dispatch(store)

    done = replayer(store, clock=Meanwhile(meanwhile)).carry_on(begun, lambda: False, lambda _: None)
    before = states(store)
    dispatch(store)

    assert tally(done) == (2, 3, 0, 3, 0)
    assert before == (["dispatched"] * 2 if dispatched else ["pending"] * 2)
    assert (put_back(store), started(store)) == ([1, 2], ["7 1 a-7,b-7 "])


def test_what_has_become_pending_meanwhile_stays_so_until_the_dispatcher_has_judged_it(store: Store) -> None:
    """A replay of another rule that has read it as dropped writes its dispatch, and takes nothing from the room."""
    history(store, "a-7", "b-7")
    then = apply(store, rule("alone", "a-7"))
    apply(store, BOTH)
    begun = begin(store, as_of=then)

    clock = Meanwhile(lambda: replay(store, rules=["both"]))
    done = replayer(store, clock=clock).carry_on(begun, lambda: False, lambda _: None)
    before = states(store)
    dispatch(store)

    assert (tally(done), before) == ((2, 1, 1, 0, 0), ["pending", "pending"])
    assert started(store) == ["7 1 a-7,b-7 "]


def test_rules_that_are_changed_meanwhile_count_from_then_on(store: Store) -> None:
    """What was judged by the others is judged anew before anything is written: nothing slips in between."""
    history(store, "a-7", "b-7", "a-8", "b-8")
    apply(store, BOTH)
    first = begin(store, name="*-7")
    clock = Meanwhile(lambda: apply(store, BOTH, rule("alone", "a-.*")))
    one_more = replayer(store, clock=clock).carry_on(first, lambda: False, lambda _: None)
    second = begin(store, name="*-8", rules=["both"])
    clock = Meanwhile(lambda: apply(store, joining(slots="abc")))
    changed = replayer(store, clock=clock).carry_on(second, lambda: False, lambda _: None)

    assert (tally(one_more), refusals(store, one_more)) == (
        (2, 2, 1, 0, 1),
        ["rule alone in force would start on it as well: message 1, for example"],
    )
    assert tally(changed) == (2, 0, 0, 0, 0)
    assert put_back(store) == [2]


@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
def test_an_event_that_arrives_while_a_message_is_put_back_overtakes_it(store: Store, store_url: str) -> None:
    """What was dispatched is not superseded by it, what is pending is: it comes before or after, not in between."""
    history(store, "a-7", under=[rule("alone", "a-.*")])
    apply(store, rule("alone", "a-.*"), BOTH)
    other = Store.open(store_url)

    with after_statement(store, "UPDATE messages SET state", lambda: arrive(other, "a-7", event="open", at=9)):
        replay(store, rules=["both"])
    dispatch(store)
    other.close()

    assert (put_back(store), states(store)) == ([1], ["superseded", "dropped"])
    assert store.rooms.list() == []


@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
def test_a_store_that_is_away_for_a_moment_is_tried_again(store: Store, store_url: str) -> None:
    """What was half done is undone, and done once when the store is back; one that stays away is given up."""
    history(store, "a-7", "b-7")
    apply(store, BOTH)
    other = Store.open(store_url)

    def cut() -> None:
        with other.database.read() as connection:
            others = "pid != pg_backend_pid() AND datname = current_database()"
            connection.execute(text(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others}"))

    with after_statement(store, "UPDATE messages SET state", cut):
        done = replay(store)
    apply(store, BOTH, rule("alone", "a-7"))
    begun, clock = begin(store, rules=["alone"]), Clock()
    began = clock.now
    with other.database.write() as connection:
        name = connection.execute(text("SELECT current_database()")).scalar_one()
        connection.execute(text(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'))
    cut()
    with pytest.raises(StoreUnavailable, match="read-only"):
        replayer(store, clock=clock).carry_on(begun, lambda: False, lambda _: None)
    other.close()

    assert (tally(done), put_back(store)) == ((2, 2, 2, 0, 0), [1, 2])
    assert timedelta(minutes=1) < clock.now - began < timedelta(minutes=2)


# Whatever the rules and the history.

POOL: Sequence[Callable[[random.Random], Rule]] = [
    lambda dice: rule("alone", dice.choice(["a-.*", "[ab]-[01]", ".*"])),
    lambda dice: rule("half", ".*", prescale=dice.choice([1, 2, 3])),
    lambda dice: rule("once", r"\w-(?P<n>.)", {"run": {"command": ["x"]}}, unique="{n}"),
    lambda dice: rule("broken", r"b-(?P<n>.)", {"run": {"command": [dice.choice(["{n:d}", "{n:c}"])]}}),
    lambda dice: joining("ab", "ab", late=dice.choice(["alert", "dispatch", "ignore"])),
    lambda dice: joining("bc", "bc", need=dice.choice([1, 2]), late=dice.choice(["alert", "dispatch"])),
    lambda dice: joining("abc", "abc", need=dice.choice([2, 3]), fields={"prescale": dice.choice([1, 2])}),
]


def play(store: Store, dice: random.Random) -> list[str]:
    """A random history, all of it judged; the names of the rules in force."""
    hand = Hand("me", "so", NOW)
    for number in range(12):
        apply(store, *(make(dice) for make in dice.sample(POOL, dice.randint(0, 5))))
        for _ in range(dice.randint(1, 5)):
            kind = "open" if dice.random() < 0.15 else "close"
            arrive(
                store, f"{dice.choice('abc')}{dice.choice(['', '', '1'])}-{dice.randint(0, 3)}", event=kind, at=number
            )
        if dice.random() < 0.8:
            dispatch(store)
        verb = dice.choice([*MessageVerb])
        store.by_hand.messages(verb, dice.sample([each.id for each in store.messages.list(limit=1000)], 1), hand)
    dispatch(store)
    return [version.rule.name for version in store.rules.in_force()[1]]


def of_others(store: Store, named: Collection[str]) -> tuple[set[Any], set[Any], set[Any]]:
    """The dispatches of rules that are not named, their rooms, and who has, or had, which seat in these."""
    with store.database.read() as connection:
        seats = connection.execute(select(rooms.c.rule, rooms.c.id, room_members.c.message_id).join(rooms)).all()
        every = connection.execute(select(rooms.c.rule, rooms.c.id, rooms.c.state)).all()
    fired = [(each.rule, each.id, each.message_id) for each in store.dispatches.list(limit=10_000)]
    dispatched, room_states, seated = (
        {tuple(one) for one in all_ if one[0] not in named} for all_ in (fired, every, seats)
    )
    return dispatched, room_states, seated


@pytest.mark.parametrize("seed", range(6))
def test_nothing_comes_of_a_replay_but_what_it_names(store: Store, seed: int) -> None:
    """Whatever came, under whatever rules, and whatever people did: rules that it does not name start on nothing, and
    have nothing and nobody in their rooms that they had not. A dry run has said the same numbers. A second one, and the
    dispatcher after it, start nothing more.
    """
    dice = random.Random(seed)
    in_force = play(store, dice)
    named = dice.sample(in_force, dice.randint(1, len(in_force)))
    given: dict[str, Any] = {"rules": named, "superseded": dice.random() < 0.3}
    before = of_others(store, named)

    found = foresee(store, **given)
    done = replay(store, **given)
    dispatch(store)
    after, ended = of_others(store, named), len(store.dispatches.list(limit=10_000))
    replay(store, **given)
    dispatch(store)

    assert after == before
    each = [(one.written, one.there, one.refused.total()) for one in found.rules.values()] or [(0, 0, 0)]
    written, there, refused = (sum(column) for column in zip(*each, strict=True))
    assert (written, there, refused + found.troubles) == (done.written, done.there, done.refused)
    assert (len(store.dispatches.list(limit=10_000)), of_others(store, named)) == (ended, before)
