"""What people can do to messages and dispatches, and what they cannot, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from orchestrator.core.actor import Trace
from orchestrator.core.by_hand import DispatchVerb, Hand, MessageVerb, Tally
from orchestrator.core.clauses import CompiledRule, Facts
from orchestrator.core.dispatch import Next
from orchestrator.core.matching import RuleSet, Verdict
from orchestrator.store.by_hand import ByHand, DispatchFilter
from orchestrator.store.dispatches import Judged
from orchestrator.store.forcing import StillGoingOn
from orchestrator.store.intake import Arrival
from orchestrator.store.launches import Intent
from orchestrator.store.messages import Filter
from orchestrator.store.port import NotAllowed, NotFound
from orchestrator.store.restraints import write_products
from orchestrator.store.store import Store
from orchestrator.store.tables import guards
from schemas.did import Did
from schemas.dispatch import AttemptOutcome, DispatchId, DispatchState
from schemas.launch import LaunchState
from schemas.message import MessageId, MessageState
from schemas.rule import Rule
from tests.contract.test_store_dispatches import at_once
from tests.unit.making import NOW, SCOPE, UNMATCHED, frame, later, rule

HAND = Hand("cli:me", "because", later(60))
LOOK = Hand("cli:me", "because", later(60), dry_run=True)

RUN = r"DS-(?P<run>\d+)"


def take_in(store: Store, count: int, *, start: int = 0) -> None:
    """Some closes, `DS-0` and so on."""
    arrivals = [frame(name=f"DS-{number}") for number in range(start, start + count)]
    store.messages.take_in(arrivals, origin="broker", now=NOW)


def judge(store: Store, *rules: Rule, limit: int = 100_000) -> Judged:
    """Put these rules in force, and judge what is pending."""
    if rules:
        store.rules.apply(rules, prune=True, who="test", now=NOW)
    revision, versions = store.rules.in_force()
    judging = RuleSet(revision, versions, UNMATCHED)
    return store.dispatches.judge(judging, now=NOW, limit=limit)


def change(store: Store, verb: MessageVerb, chosen: Sequence[int] | Filter, hand: Hand = HAND, **given: Any) -> Tally:
    ids = chosen if isinstance(chosen, Filter) else [MessageId(id_) for id_ in chosen]
    return store.by_hand.messages(verb, ids, hand, **given)


def redo(
    store: Store,
    verb: DispatchVerb,
    chosen: Sequence[int] | DispatchFilter,
    hand: Hand = HAND,
    *,
    again: bool = False,
) -> Tally:
    ids = chosen if isinstance(chosen, DispatchFilter) else [DispatchId(id_) for id_ in chosen]
    return store.by_hand.dispatches(verb, ids, hand, again=again)


def give(store: Store, name: str, chosen: Sequence[int] | Filter, hand: Hand = HAND) -> Tally:
    revision, versions = store.rules.in_force()
    (version,) = [each for each in versions if each.rule.name == name]
    ids = chosen if isinstance(chosen, Filter) else [MessageId(id_) for id_ in chosen]
    return store.by_hand.give(CompiledRule(version), RuleSet(revision, versions, UNMATCHED), ids, hand)


def states(store: Store) -> list[str]:
    return [str(each.state) for each in store.messages.list(limit=1000, newest_first=False)]


def done(store: Store) -> list[str]:
    return [str(each.state) for each in reversed(store.dispatches.list(limit=1000))]


def settle(store: Store, state: DispatchState = DispatchState.DONE, outcome: str = "done", count: int = 1) -> None:
    """Carry out what is due, with this end."""
    for one in store.dispatches.claim(owner="w", limit=count, lease=timedelta(seconds=15), now=later(100)):
        next_ = Next(state, AttemptOutcome(outcome), "so")
        store.dispatches.settle(one.order.dispatch_id, one.order.attempt, next_, Trace(), owner="w", now=later(100))


def launched(store: Store, dispatch_id: int, *steps: LaunchState, key: str = "k", outputs: Sequence[str] = ()) -> None:
    """A launch of this dispatch that went these steps."""
    intent = Intent(
        key=key,
        name=f"name-{key}",
        dispatch_id=DispatchId(dispatch_id),
        workflow="w",
        parameters={},
        inputs={},
        outputs=dict.fromkeys(outputs, "step"),
        engine="embedded",
        steps=[],
    )
    launch = store.launches.intend(intent, who="launcher", now=NOW)
    for state in steps:
        launch = store.launches.advance(launch, state, who="launcher", why=None, now=NOW)


ON_ITS_WAY = (LaunchState.SUBMITTING, LaunchState.SUBMITTED)


# Messages.


def test_pending_messages_are_held_released_and_dropped(store: Store) -> None:
    """Held ones are out of the rules' reach; released they are judged by the rules of now."""
    take_in(store, 3)
    judge(store, rule("no", "nothing"))

    held = change(store, MessageVerb.HOLD, [1, 2])
    judge(store, rule("all"))
    before = states(store)
    released, dropped = change(store, MessageVerb.RELEASE, [1]), change(store, MessageVerb.DROP, [2])
    judge(store)

    assert (held.changed, released.changed, dropped.changed) == ([1, 2], [1], [2])
    assert before == ["held", "held", "dispatched"]
    assert states(store) == ["dispatched", "dropped", "dispatched"]
    assert store.messages.get(MessageId(2)).reason == "because"


@pytest.mark.parametrize(
    ("away", "back"), [(MessageVerb.HOLD, MessageVerb.RELEASE), (MessageVerb.DROP, MessageVerb.REPEND)]
)
def test_what_is_pending_again_is_judged_again(store: Store, away: MessageVerb, back: MessageVerb) -> None:
    """Though the rules are the same as when it was judged last."""
    take_in(store, 2)
    judge(store, rule("no", "nothing"))
    change(store, away, [1])

    change(store, back, [1])

    assert [judge(store).judged, judge(store).judged] == [1, 0]


def test_each_change_stands_in_the_journal_with_who_and_why(store: Store) -> None:
    """One entry for each message, and none for those that stay as they are."""
    take_in(store, 2)
    change(store, MessageVerb.HOLD, [1])

    tally = change(store, MessageVerb.HOLD, [1, 2])

    assert (tally.changed, tally.stayed) == ([2], {"held": [1]})
    for id_ in (1, 2):
        (_, entry) = store.journal.of("message", id_)
        assert (entry.who, entry.from_state, entry.to_state, entry.why, entry.at) == (
            *("cli:me", "pending", "held", "because"),
            later(60),
        )


def test_many_are_chosen_by_a_filter_and_changed_some_thousand_at_a_time(store: Store) -> None:
    """All that pass, each once; progress is told after each transaction, and what does not fit is counted by state."""
    by_fours = ByHand(store.database, at_once=4)
    take_in(store, 11)
    store.messages.take_in([frame(name="OTHER")], origin="broker", now=NOW)
    change(store, MessageVerb.DROP, [5])
    looked_at: list[int] = []

    tally = by_fours.messages(MessageVerb.HOLD, Filter(name="DS-*"), HAND, looked_at.append)

    assert tally.changed == [1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
    assert tally.stayed == {"dropped": [5]}
    assert looked_at == [4, 8, 11]
    assert store.counts().messages == {"held": 10, "dropped": 1, "pending": 1}


def test_a_filter_that_the_change_itself_empties_is_gone_through_to_the_end(store: Store) -> None:
    """`--state pending` with `hold`: no page is skipped because the page before it no longer fits."""
    by_twos = ByHand(store.database, at_once=2)
    take_in(store, 5)

    tally = by_twos.messages(MessageVerb.HOLD, Filter(states=[MessageState.PENDING]), HAND)

    assert tally.changed == [1, 2, 3, 4, 5]


def test_any_number_of_messages_can_be_named(store: Store) -> None:
    """In any order, more than a database takes as parameters of one statement; twice the same is once."""
    take_in(store, 4_500)

    tally = change(store, MessageVerb.HOLD, [*range(4_500, 0, -1), 7])

    assert tally.changed == list(range(1, 4_501))


def test_a_slip_among_the_ids_changes_nothing(store: Store) -> None:
    """A message that is not there is named, and the others stay as they are."""
    take_in(store, 2)

    with pytest.raises(NotFound, match="there is no message 9, nor 1 others of these; nothing was changed"):
        change(store, MessageVerb.HOLD, [1, 9, 10])

    assert states(store) == ["pending", "pending"]


def test_a_dry_run_says_the_same_and_changes_nothing(store: Store) -> None:
    """Neither states nor journal, nor does any bell ring."""
    take_in(store, 3)
    change(store, MessageVerb.DROP, [2])
    before, heard = store.journal.since(0), store.bells.heard("messages", "dispatches")

    looked = change(store, MessageVerb.HOLD, Filter(), LOOK)

    assert (looked.changed, looked.stayed) == ([1, 3], {"dropped": [2]})
    assert store.journal.since(0) == before
    assert store.bells.heard("messages", "dispatches") == heard
    assert looked == change(store, MessageVerb.HOLD, Filter())


def test_the_dispatcher_is_woken_by_what_is_pending_again(store: Store) -> None:
    """It need not wait for its next look at the store."""
    take_in(store, 1)
    change(store, MessageVerb.DROP, [1])
    heard = store.bells.heard("messages")

    change(store, MessageVerb.REPEND, [1])

    assert store.bells.heard("messages") == heard + 1


def test_what_was_dispatched_is_judged_again_without_repeating_what_it_started(store: Store) -> None:
    """The dispatches that are there stay; rules that want it now and did not then fire."""
    take_in(store, 1)
    judge(store, rule("old"))
    settle(store)
    store.rules.apply([rule("old"), rule("new")], prune=True, who="test", now=NOW)

    change(store, MessageVerb.REPEND, [1])
    pending = states(store)
    judge(store)

    assert (pending, states(store)) == (["pending"], ["dispatched"])
    assert [(each.rule, str(each.state)) for each in store.dispatches.list()] == [("new", "ready"), ("old", "done")]


def test_a_rule_whose_actions_were_moved_does_not_fire_again(store: Store) -> None:
    """Each rule fires once for a message, whatever has become of it since: no action is taken for another."""
    first, other = {"run": {"command": ["first"]}}, {"run": {"command": ["other"]}}
    take_in(store, 1)
    judge(store, rule("raw", ".*", first))

    store.rules.apply([rule("raw", ".*", other, first)], prune=True, who="test", now=NOW)
    change(store, MessageVerb.REPEND, [1])
    judge(store)

    assert [each.options["command"] for each in store.dispatches.list()] == [["first"]]
    assert states(store) == ["dispatched"]


def test_a_close_that_was_overtaken_does_not_come_back(store: Store) -> None:
    """It no longer describes its dataset: a later close does, and is the one to be judged again."""
    store.messages.take_in([frame(name="A"), frame(name="B")], origin="broker", now=NOW)
    judge(store, rule())
    store.messages.take_in([frame(name="A", at=later(5))], origin="broker", now=NOW)
    judge(store)

    tally = change(store, MessageVerb.REPEND, Filter())

    assert tally.changed == [2, 3]
    assert tally.stayed == {"overtaken by a later event of the same dataset": [1]}
    assert tally.details == {1: "closed again at 2026-11-22 01:13:45.292656 UTC"}
    assert states(store) == ["dispatched", "pending", "pending"]


def test_what_cannot_be_read_goes_back_to_quarantine(store: Store) -> None:
    """Put away by mistake, it can still be read again, and still says why it could not be."""
    store.messages.take_in([Arrival({}, b"\xff")], origin="broker", now=NOW)
    why = store.messages.get(MessageId(1)).reason

    change(store, MessageVerb.DROP, [1])
    dropped = states(store)
    change(store, MessageVerb.REPEND, [1])

    assert (dropped, states(store)) == (["dropped"], ["quarantined"])
    assert store.messages.get(MessageId(1)).reason == why


@pytest.mark.parametrize("verb", MessageVerb)
def test_what_was_overtaken_stays_so(store: Store, verb: MessageVerb) -> None:
    """No verb leads out of `superseded`."""
    store.messages.take_in([frame(name="A"), frame(name="A", at=later(5))], origin="broker", now=NOW)

    assert change(store, verb, [1]).stayed == {"superseded": [1]}


def test_two_people_at_once_change_each_message_once(store: Store) -> None:
    """The second finds it done: one entry in the journal for each."""
    take_in(store, 300)
    tallies: list[Tally] = []

    at_once(*[lambda: tallies.append(change(store, MessageVerb.HOLD, Filter()))] * 3)

    assert sorted(id_ for tally in tallies for id_ in tally.changed) == list(range(1, 301))
    assert sum(len(tally.stayed.get("held", [])) for tally in tallies) == 600
    assert len([entry for _, entry in store.journal.since(0, 10_000) if entry.to_state == "held"]) == 300


def test_near_misses_are_found_by_the_clause_they_failed_on(store: Store) -> None:
    """Those that one rule refused for this clause alone, as they were judged last."""
    take_in(store, 3)
    judge(store, rule("a", "DS-0", scope="other"), rule("b", "DS-1", runs={"include": [5]}), rule("c", "DS-2"))
    found = {clause: store.messages.list(Filter(failed_only_on=clause)) for clause in ("scope", "runs", "none")}
    judge(store, rule("a", "DS-0", scope="other", where={"bytes": "> 5"}))

    assert {clause: [each.name for each in those] for clause, those in found.items()} == {
        "scope": ["DS-0"],
        "runs": [],
        "none": [],
    }
    assert store.messages.count(Filter(failed_only_on="scope")) == 0


def test_counting_can_end_early(store: Store) -> None:
    """Nobody needs to know how many millions fit."""
    take_in(store, 5)

    assert [store.messages.count(most=most) for most in (3, 5, 9, None)] == [3, 5, 5, 5]


# Messages, given to a rule.


def test_messages_are_given_to_a_rule_whatever_its_clauses_say(store: Store) -> None:
    """Pending, held and dropped ones are; the dispatch points at the version in force, and says who and why."""
    take_in(store, 4)
    judge(store, rule("never", "nothing", scope="other", enabled=False), rule("all", "DS-3"))
    change(store, MessageVerb.HOLD, [2])
    change(store, MessageVerb.DROP, [3])

    tally = give(store, "never", Filter())

    assert (tally.changed, tally.stayed, tally.remarks) == ([1, 2, 3, 4], {}, {})
    assert states(store) == ["dispatched"] * 4
    mine = store.dispatches.list(rule="never")
    assert [(each.message_id, str(each.state)) for each in mine] == [(id_, "ready") for id_ in (4, 3, 2, 1)]
    assert {each.rule_version_id for each in mine} == {store.rules.in_force()[1][1].id}
    (written,) = store.journal.of("dispatch", mine[0].id)
    assert (written.who, written.why) == ("cli:me", "because")
    last = store.journal.of("message", 2)[-1]
    assert (last.from_state, last.to_state, last.why) == ("held", "dispatched", "given to rule never by hand: because")


def test_a_message_is_given_to_a_rule_once(store: Store) -> None:
    """One that has dispatches of it already is left alone, with the first of them."""
    take_in(store, 2)
    judge(store, rule("raw", "DS-0"))

    first, second = give(store, "raw", [1, 2]), give(store, "raw", [1, 2])

    assert (first.changed, first.stayed) == ([2], {"dispatched to this rule already": [1]})
    assert (first.details, second.changed) == ({1: "dispatch 1"}, [])
    assert len(store.dispatches.list()) == 2


def test_a_person_and_the_dispatcher_give_a_rule_each_message_once(store: Store) -> None:
    """Whoever comes second finds it done, while both are at work on the same messages."""
    take_in(store, 200)
    store.rules.apply([rule("raw", unique="{name}")], prune=True, who="test", now=NOW)
    tallies: list[Tally] = []

    at_once(
        lambda: [judge(store, limit=7) for _ in range(30)],
        lambda: [judge(store, limit=7) for _ in range(30)],
        *[lambda: tallies.append(give(store, "raw", Filter()))] * 2,
    )
    while judge(store).judged:
        pass

    assert sorted(each.message_id for each in store.dispatches.list(limit=1000)) == list(range(1, 201))
    assert store.counts().messages == {"dispatched": 200}


def test_what_templates_ask_for_must_be_there(store: Store) -> None:
    """A name that the pattern does not fit captures nothing: such a message is left alone, and the others are not."""
    take_in(store, 1)
    store.messages.take_in([frame(name="OTHER")], origin="broker", now=NOW)
    judge(store, rule("raw", RUN, {"run": {"command": ["{run:08d}"]}}, scope="no"))

    tally = give(store, "raw", [1, 2])

    assert tally.changed == [1]
    assert tally.stayed == {"not enough to fill the rule's templates": [2]}
    assert "there is no value 'run'" in tally.details[2]
    assert (states(store), store.dispatches.list()[0].options["command"]) == (["dispatched", "pending"], ["00000000"])


@pytest.mark.parametrize("hand", [LOOK, HAND], ids=["dry run", "done"])
def test_unique_keys_are_respected(store: Store, hand: Hand) -> None:
    """The second is refused with the first one's id, be it an earlier one or another of the same command."""
    take_in(store, 3)
    judge(store, rule("raw", "DS-0", unique="{scope}"), rule("other", "nothing", unique="x"))

    raw, other = give(store, "raw", [2], hand), give(store, "other", [1, 2, 3], hand)

    assert (raw.changed, other.changed) == ([2], [1, 2, 3])
    assert raw.remarks == {"refused: another match has their unique key": [2]}
    assert raw.details == {2: f"the key {SCOPE!r} is taken by dispatch 1"}
    assert other.remarks == {"refused: another match has their unique key": [2, 3]}
    if hand is HAND:
        assert [(each.message_id, str(each.state)) for each in store.dispatches.list(rule="other")] == [
            (3, "refused"),
            (2, "refused"),
            (1, "ready"),
        ]
        assert other.details[3] == "the key 'x' is taken by dispatch 3"


def test_a_rule_never_gets_what_it_had_a_part_in_making(store: Store) -> None:
    """Not even by hand: the loop guard holds."""
    take_in(store, 2)
    judge(store, rule("raw", "DS-1"))
    launched(store, 1)
    with store.database.write() as connection:
        write_products(connection, 1, [Did(SCOPE, "DS-0")], "raw", None)

    tally = give(store, "raw", [1])

    assert (tally.changed, list(tally.stayed.values())) == ([], [[1]])
    assert "had a part in making this dataset" in tally.details[1]


def test_a_message_that_other_rules_have_not_judged_stays_pending_for_them(store: Store) -> None:
    """What is given to one rule by hand is not taken from the others."""
    take_in(store, 2)
    judge(store, rule("mine", "nothing"))
    store.rules.apply([rule("mine", "nothing"), rule("new", "DS-0")], prune=True, who="test", now=NOW)

    tally = give(store, "mine", [1])
    before = states(store)
    judge(store)

    assert list(tally.remarks.values()) == [[1]]
    assert (before, states(store)) == (["pending", "pending"], ["dispatched", "pending"])
    assert [each.rule for each in store.dispatches.list()] == ["new", "mine"]


def test_a_message_that_waits_for_a_rule_to_be_mended_goes_on_waiting(store: Store) -> None:
    """It was judged, but not to the end."""
    take_in(store, 1)
    judge(store, rule("broken", "(?P<n>.*)", {"run": {"command": ["{n:d}"]}}), rule("mine", "nothing"))

    give(store, "mine", [1])
    before = states(store)
    judge(store, rule("broken", "(?P<n>.*)", {"run": {"command": ["{n}"]}}), rule("mine", "nothing"))

    assert (before, states(store)) == (["pending"], ["dispatched"])
    assert [each.rule for each in store.dispatches.list()] == ["broken", "mine"]


@pytest.mark.parametrize("pattern", ["nothing", "DS-.*"])
def test_a_message_that_no_other_rule_wants_need_not_be_judged_first(store: Store, pattern: str) -> None:
    """An event that would be dropped when it is judged goes where the person has sent it."""
    store.messages.take_in([frame("erase", "DS-0")], origin="broker", now=NOW)
    store.rules.apply([rule("mine", pattern, on="erase")], prune=True, who="test", now=NOW)

    tally = give(store, "mine", [1])
    judged = judge(store)

    assert (tally.changed, tally.remarks, states(store), judged.judged) == ([1], {}, ["dispatched"], 0)


JOINS = {"join": {"key": "{run}", "members": {"a": RUN, "b": r"OTHER-(?P<run>\d+)"}}}


@pytest.mark.parametrize("fields", [{"where": {"datatype": "raw"}}, JOINS], ids=["the catalog", "others"])
def test_a_message_that_another_rule_waits_for_stays_pending_for_it(store: Store, fields: dict[str, Any]) -> None:
    """Whether it waits for the catalog, or for the other datasets of a room."""
    take_in(store, 1)
    judge(store, rule("mine", "nothing"), rule("theirs", **fields))

    tally = give(store, "mine", [1])

    assert (tally.changed, states(store)) == ([1], ["pending"])
    assert list(tally.remarks) == ["pending as before: the rules in force have not judged them to the end"]


class Broken(RuleSet):
    """Rules that judge nothing."""

    def judge(self, facts: Facts) -> Verdict:
        raise ZeroDivisionError


def test_a_message_that_cannot_be_judged_can_be_given_to_a_rule(store: Store) -> None:
    """It stays pending for the rules in force, which the dispatcher could not ask."""
    take_in(store, 1)
    judge(store, rule("mine", "nothing"))
    revision, versions = store.rules.in_force()

    tally = store.by_hand.give(CompiledRule(versions[0]), Broken(revision, versions, UNMATCHED), [MessageId(1)], HAND)

    assert (tally.changed, list(tally.remarks.values()), states(store)) == ([1], [[1]], ["pending"])


def test_a_message_is_not_taken_from_rules_that_were_changed_meanwhile(store: Store) -> None:
    """What the rules said that are in force no more does not count."""
    take_in(store, 1)
    judge(store, rule("mine", "nothing"))
    revision, versions = store.rules.in_force()
    store.rules.apply([rule("mine", "nothing"), rule("new")], prune=True, who="test", now=NOW)

    store.by_hand.give(CompiledRule(versions[0]), RuleSet(revision, versions, UNMATCHED), [MessageId(1)], HAND)
    judge(store)

    assert [each.rule for each in store.dispatches.list()] == ["new", "mine"]


def test_what_is_overtaken_or_cannot_be_read_is_given_to_no_rule(store: Store) -> None:
    """The reason is said with each."""
    close = [frame(name="A"), frame(name="A", at=later(5))]
    store.messages.take_in([*close, Arrival({}, b"\xff")], origin="broker", now=NOW)
    judge(store, rule("no", "nothing"))

    tally = give(store, "no", [1, 3])

    assert (tally.changed, tally.stayed) == ([], {"superseded": [1], "quarantined": [3]})
    assert "closed again" in tally.details[1]


# Dispatches.


def test_dispatches_are_held_released_and_cancelled(store: Store) -> None:
    """What is held or cancelled is not carried out; what a worker has is left alone."""
    take_in(store, 4)
    judge(store, rule())
    (running,) = store.dispatches.claim(owner="w", limit=1, lease=timedelta(seconds=15), now=NOW)

    held = redo(store, DispatchVerb.HOLD, DispatchFilter(rule="raw"))
    released, cancelled = redo(store, DispatchVerb.RELEASE, [2]), redo(store, DispatchVerb.CANCEL, [1, 3])

    assert running.order.dispatch_id == 1
    assert (held.changed, held.stayed) == ([2, 3, 4], {"running": [1]})
    assert (released.changed, cancelled.changed, cancelled.stayed) == ([2], [3], {"running": [1]})
    assert done(store) == ["running", "ready", "cancelled", "held"]
    assert [
        each.order.dispatch_id for each in store.dispatches.claim(owner="w", limit=9, lease=timedelta(1), now=NOW)
    ] == [2]


def test_dispatches_are_chosen_by_rule_state_and_time(store: Store) -> None:
    """Everything given must hold."""
    take_in(store, 2)
    judge(store, rule("a"), rule("b"))
    settle(store, DispatchState.FAILED, "give_up", count=3)

    def chosen(**given: Any) -> list[int]:
        return redo(store, DispatchVerb.RETRY, DispatchFilter(**given), LOOK).changed

    assert chosen() == [1, 2, 3]
    assert chosen(rule="a") == [1, 3]
    assert chosen(states=[DispatchState.READY]) == []
    assert chosen(since=NOW, until=later(1)) == [1, 2, 3]
    assert (chosen(since=later(1)), chosen(until=NOW)) == ([], [])


@pytest.mark.parametrize("end", [DispatchState.DONE, DispatchState.FAILED, DispatchState.CANCELLED])
def test_what_has_ended_can_be_carried_out_once_more(store: Store, end: DispatchState) -> None:
    """As a new try of the same dispatch, with a fresh count, at once."""
    take_in(store, 1)
    judge(store, rule())
    if end is DispatchState.CANCELLED:
        redo(store, DispatchVerb.CANCEL, [1])
    else:
        settle(store, end, "done" if end is DispatchState.DONE else "give_up")

    tally = redo(store, DispatchVerb.REDISPATCH, [1])
    (claim,) = store.dispatches.claim(owner="w", limit=9, lease=timedelta(seconds=15), now=later(60))

    assert (tally.changed, tally.remarks, claim.spent, claim.order.round) == ([1], {}, 1, 0)
    assert claim.order.attempt == (1 if end is DispatchState.CANCELLED else 2)
    assert store.journal.of("dispatch", 1)[-2].from_state == end


@pytest.mark.parametrize(
    ("steps", "again", "round_", "why"),
    [
        ((*ON_ITS_WAY, LaunchState.FAILED), False, 1, None),
        ((*ON_ITS_WAY, LaunchState.KILLED), False, 1, None),
        ((*ON_ITS_WAY, LaunchState.PARTLY_FINISHED), False, 1, None),
        ((*ON_ITS_WAY, LaunchState.FINISHED), True, 1, None),
        ((*ON_ITS_WAY, LaunchState.FINISHED), False, 0, "well done already"),
        (ON_ITS_WAY, False, 0, "waiting for their launch to end"),
        (ON_ITS_WAY, True, 0, "waiting for their launch to end"),
        ((*ON_ITS_WAY, LaunchState.RUNNING), True, 0, "waiting for their launch to end"),
        # nothing was sent, or it is looked up before anything is: the same launch is carried on
        ((), False, 0, None),
        ((LaunchState.SUBMITTING, LaunchState.IN_DOUBT), True, 0, None),
    ],
)
def test_another_launch_is_made_only_when_the_one_before_has_ended(
    store: Store, steps: Sequence[LaunchState], again: bool, round_: int, why: str | None
) -> None:
    """Badly; or well, and a person says that there shall be another. Never two at the same time."""
    take_in(store, 1)
    judge(store, rule())
    settle(store)
    launched(store, 1, *steps)

    tally = redo(store, DispatchVerb.REDISPATCH, [1], again=again)

    found = store.dispatches.get(DispatchId(1))
    assert (found.round, str(found.state)) == (round_, "ready" if why is None else "done")
    assert bool(tally.remarks) == bool(round_)
    assert why is None or next(iter(tally.stayed)).startswith(why)


def test_only_the_newest_launch_of_a_dispatch_counts(store: Store) -> None:
    """Each round has one; an earlier one that failed does not begin a third while the second is on its way."""
    take_in(store, 1)
    judge(store, rule())
    settle(store)
    launched(store, 1, *ON_ITS_WAY, LaunchState.FAILED)
    redo(store, DispatchVerb.REDISPATCH, [1])
    settle(store)
    launched(store, 1, *ON_ITS_WAY, key="second")

    assert redo(store, DispatchVerb.REDISPATCH, [1]).stayed == {"waiting for their launch to end": [1]}
    assert [(each.name, str(each.state)) for each in store.by_hand.launches_left([1])] == [
        ("name-k", "failed"),
        ("name-second", "submitted"),
    ]


# Unique keys, forced.


def rivals(store: Store, count: int = 2) -> None:
    """One match with two actions that has the key, and others that were refused: dispatches 1 and 2; 3 and 4; ..."""
    take_in(store, count)
    judge(store, rule("raw", ".*", *[{"run": {"command": ["true"]}}] * 2, unique="{scope}"))


def holder(store: Store) -> tuple[int, str, int]:
    with store.database.read() as connection:
        message_id, name, dispatch_id = connection.execute(
            select(guards.c.message_id, guards.c.rule, guards.c.dispatch_id)
        ).one()
    return message_id, name, dispatch_id


def test_a_refused_match_can_take_the_key(store: Store) -> None:
    """All its actions are ready; the first keeps what it did, loses what it had yet to do, and both sides say so."""
    rivals(store)
    settle(store)

    seen = store.by_hand.taken(DispatchId(4))
    ready = store.by_hand.force(seen, HAND)

    assert (seen.key, seen.first_message_id, seen.first_rule) == (SCOPE, 1, "raw")
    assert [(id_, str(state)) for id_, state in seen.first] == [(1, "done"), (2, "ready")]
    assert (ready, done(store)) == ([3, 4], ["done", "cancelled", "ready", "ready"])
    assert holder(store) == (2, "raw", 3)
    for id_ in (1, 2):
        last = store.journal.of("dispatch", id_)[-1]
        assert (last.who, last.why) == ("cli:me", f"dispatch 3 was forced and has the key {SCOPE!r} now: because")
    last = store.journal.of("dispatch", 4)[-1]
    assert (last.from_state, last.why) == ("refused", "forced, instead of dispatch 1: because")


@pytest.mark.parametrize("verb", [DispatchVerb.RETRY, DispatchVerb.REDISPATCH])
def test_who_has_lost_the_key_is_not_carried_out_again(store: Store, verb: DispatchVerb) -> None:
    """Neither retry nor redispatch gets round the guard; but it can be forced in turn, once the other is over."""
    rivals(store)
    settle(store, DispatchState.FAILED, "give_up", count=2)
    store.by_hand.force(store.by_hand.taken(DispatchId(3)), HAND)

    tally = redo(store, verb, [1, 2])

    assert tally.changed == []
    assert tally.stayed == {"without their unique key, which another dispatch has": [1, 2]}
    assert tally.details[1] == f"the key {SCOPE!r} is taken by dispatch 3"


def test_what_was_refused_and_cancelled_can_still_be_forced(store: Store) -> None:
    """To cancel it was no decision for ever."""
    rivals(store)
    settle(store, count=2)
    redo(store, DispatchVerb.CANCEL, [3, 4])

    assert redo(store, DispatchVerb.REDISPATCH, [3]).changed == []
    assert store.by_hand.force(store.by_hand.taken(DispatchId(3)), HAND) == [3]
    assert done(store) == ["done", "done", "ready", "cancelled"]


def test_nobody_takes_the_key_while_the_first_is_at_work(store: Store) -> None:
    """Neither while a worker has its dispatch, nor while its launch goes on; nothing is changed."""
    rivals(store)
    store.dispatches.claim(owner="w", limit=1, lease=timedelta(seconds=15), now=NOW)

    with pytest.raises(StillGoingOn, match="dispatch 1 is running"):
        store.by_hand.force(store.by_hand.taken(DispatchId(3)), HAND)
    store.dispatches.settle(
        DispatchId(1), 1, Next(DispatchState.DONE, AttemptOutcome.DONE, ""), Trace(), owner="w", now=NOW
    )
    launched(store, 1, *ON_ITS_WAY)
    with pytest.raises(StillGoingOn, match=r"launch 1 \(name-k\) is submitted"):
        store.by_hand.force(store.by_hand.taken(DispatchId(3)), HAND)

    assert (holder(store), done(store)) == ((1, "raw", 1), ["done", "ready", "refused", "refused"])


def test_a_launch_that_was_never_sent_does_not_keep_the_key(store: Store) -> None:
    """It is killed before it begins: whatever was only prepared is not sent any more."""
    rivals(store)
    settle(store, DispatchState.FAILED, "give_up", count=2)
    launched(store, 1)

    store.by_hand.force(store.by_hand.taken(DispatchId(3)), HAND)

    assert [str(each.state) for each in store.launches.list()] == ["killed"]


def test_what_is_forced_after_a_launch_begins_a_round_that_no_launch_had(store: Store) -> None:
    """So that its own launch has another name; if the first has launched nothing, there is nothing to clash with."""
    rivals(store)
    settle(store, count=2)
    redo(store, DispatchVerb.REDISPATCH, [1])
    store.by_hand.force(store.by_hand.taken(DispatchId(3)), HAND)
    without = store.dispatches.get(DispatchId(3)).round
    settle(store, count=2)
    launched(store, 3, *ON_ITS_WAY, LaunchState.FAILED)

    store.by_hand.force(store.by_hand.taken(DispatchId(1)), HAND)

    assert (without, store.dispatches.get(DispatchId(1)).round) == (0, 1)


def test_what_the_first_left_behind_can_be_seen(store: Store) -> None:
    """Its launches, with their states and the datasets that they were to make."""
    rivals(store)
    settle(store, count=2)
    launched(store, 1, *ON_ITS_WAY, LaunchState.FAILED, outputs=["s:made", "s:too"])

    (left,) = store.by_hand.taken(DispatchId(3)).launches

    assert (left.dispatch_id, str(left.state), left.datasets) == (1, "failed", ("s:made", "s:too"))


def test_what_changed_since_it_was_looked_at_is_not_forced(store: Store) -> None:
    """The decision was about something else: look again."""
    rivals(store)
    settle(store)
    seen = store.by_hand.taken(DispatchId(3))
    settle(store)

    with pytest.raises(NotAllowed, match="has changed meanwhile: look again"):
        store.by_hand.force(seen, HAND)


def test_of_two_that_force_at_once_one_gets_the_key(store: Store) -> None:
    """The other is told to look again; its match stays refused."""
    rivals(store, 6)
    settle(store, count=2)
    seen = [store.by_hand.taken(DispatchId(2 * number + 1)) for number in range(1, 6)]
    ready: list[Sequence[int]] = []
    told: list[str] = []

    def force(number: int) -> None:
        try:
            ready.append(store.by_hand.force(seen[number], HAND))
        except NotAllowed as error:
            told.append(str(error))

    at_once(*(lambda number=number: force(number) for number in range(5)))

    assert (len(ready), len(told)) == (1, 4)
    assert done(store).count("ready") == 2
    assert holder(store)[2] == ready[0][0]


@pytest.mark.parametrize(
    ("id_", "said"), [(1, "dispatch 1 is ready, and no other match keeps"), (99, "no dispatch 99")]
)
def test_only_what_was_refused_can_be_forced(store: Store, id_: int, said: str) -> None:
    """Whoever has the key already is told so."""
    rivals(store)

    with pytest.raises((NotAllowed, NotFound), match=said):
        store.by_hand.taken(DispatchId(id_))


def test_an_older_launch_that_is_retried_is_in_the_way(store: Store) -> None:
    """The newest has failed, and what it repeated was retried since and runs: a third would be beside it."""
    take_in(store, 1)
    judge(store, rule())
    settle(store)
    launched(store, 1, *ON_ITS_WAY, LaunchState.FAILED, LaunchState.RUNNING)
    launched(store, 1, *ON_ITS_WAY, LaunchState.FAILED, key="second")

    assert redo(store, DispatchVerb.REDISPATCH, [1]).stayed == {"waiting for their launch to end": [1]}
