"""What the store promises of judging, claiming and settling, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import insert

from orchestrator.core.actor import Trace
from orchestrator.core.by_hand import DispatchVerb, Hand
from orchestrator.core.dispatch import Next
from orchestrator.core.matching import RuleSet
from orchestrator.store.claiming import Claim
from orchestrator.store.dispatches import Judged
from orchestrator.store.judging import JudgingFailed
from orchestrator.store.port import NotFound
from orchestrator.store.store import Store
from orchestrator.store.tables import near_misses
from schemas.dispatch import AttemptOutcome, DispatchId, DispatchState
from schemas.message import MessageId, MessageState
from schemas.rule import Rule
from tests.unit.making import NOW, UNMATCHED, frame, later, rule

LEASE = timedelta(seconds=15)
NOTHING = Trace()
DONE = Next(DispatchState.DONE, AttemptOutcome.DONE, "well")
RETRY = Next(DispatchState.READY, AttemptOutcome.RETRY, "broke", later(10))


def messages(store: Store, count: int = 1) -> None:
    """Take in some closes, `DS-0` and so on."""
    arrivals = [frame(name=f"DS-{number}") for number in range(count)]
    store.messages.take_in(arrivals, origin="broker", now=NOW)


def judge(store: Store, *rules: Rule, limit: int = 1000, again_after: int | None = None) -> Judged:
    """Put these rules in force, and judge what is pending."""
    if rules:
        store.rules.apply(rules, prune=True, who="test", now=NOW)
    revision, versions = store.rules.in_force()
    judging = RuleSet(revision, versions, UNMATCHED)
    after = MessageId(again_after) if again_after is not None else None
    return store.dispatches.judge(judging, now=NOW, limit=limit, again_after=after)


def claim(store: Store, limit: int = 10, *, owner: str = "w1", now: datetime = NOW) -> list[Claim]:
    return store.dispatches.claim(owner=owner, limit=limit, lease=LEASE, now=now)


def settle(
    store: Store, one: Claim, next_: Next = DONE, trace: Trace = NOTHING, *, owner: str = "w1", now: datetime = NOW
) -> bool:
    return store.dispatches.settle(one.order.dispatch_id, one.order.attempt, next_, trace, owner=owner, now=now)


def states(store: Store) -> list[str]:
    return [each.state for each in reversed(store.dispatches.list(limit=1000))]


def at_once(*jobs: Callable[[], object]) -> None:
    """Run the jobs in threads of their own, and raise what one of them raised."""
    failures: list[Exception] = []

    def run(job: Callable[[], object]) -> None:
        try:
            job()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for failure in failures:
        raise failure


# Judging.


def test_all_rules_that_match_fire_each_of_their_actions_once(store: Store) -> None:
    """One dispatch for each action of each match, pointing at the version of the rule, ready to be done."""
    messages(store)
    run = {"run": {"command": ["echo", "{name}"]}, "retry": {"attempts": 5}}

    judged = judge(store, rule("a", r"(?P<what>\w+)-0", run, run), rule("b"), rule("no", "nothing"))

    assert (judged.judged, judged.dispatched, judged.dropped) == (1, 1, 0)
    found = store.dispatches.list()[::-1]
    assert [each.id for each in found] == list(judged.dispatches) == [1, 2, 3]
    assert [(each.rule, each.action, each.state, each.attempts) for each in found] == [
        ("a", 0, "ready", 0),
        ("a", 1, "ready", 0),
        ("b", 0, "ready", 0),
    ]
    assert (found[0].captured, found[0].options) == ({"what": "DS"}, {"command": ["echo", "DS-0"]})
    assert found[0].retry.attempts == 5
    assert found[0].rule_version_id in {version.id for version in store.rules.in_force()[1]}
    message = store.messages.get(MessageId(1))
    assert (message.state, message.reason) == (MessageState.DISPATCHED, "matched by a, b")


def test_what_no_rule_wants_waits_or_is_dropped_by_its_event(store: Store) -> None:
    """A close stays pending with the reason, anything else is dropped."""
    store.messages.take_in([frame(), frame("rule_ok")], origin="broker", now=NOW)

    judged = judge(store, rule("no", "nothing"))

    assert (judged.judged, judged.dispatched, judged.dropped) == (2, 0, 1)
    found = store.messages.list(newest_first=False)
    assert [each.state for each in found] == ["pending", "dropped"]
    assert {each.reason for each in found} == {"no rule matched (of 1 at revision 1)"}
    assert {each.judged_revision for each in found} == {1}


def test_a_pending_message_is_judged_again_only_when_the_rules_change(store: Store) -> None:
    """Judging costs nothing while nothing changed; a changed rule gets its chance with everything that waits."""
    messages(store, 3)

    first, second = judge(store, rule("no", "nothing")), judge(store)
    third = judge(store, rule("no", "nothing"), rule("one", "DS-1"))

    assert (first.judged, second.judged, third.judged, third.dispatched) == (3, 0, 3, 1)
    assert [each.state for each in store.messages.list(newest_first=False)] == ["pending", "dispatched", "pending"]


def test_messages_are_judged_in_batches_until_none_is_left(store: Store) -> None:
    """Each batch takes those not yet judged, oldest first."""
    messages(store, 5)
    store.rules.apply([rule("no", "nothing")], prune=False, who="test", now=NOW)

    assert [judge(store, limit=2).judged for _ in range(4)] == [2, 2, 1, 0]


def test_a_judge_may_look_at_everything_pending_once_more(store: Store) -> None:
    """`dispatch` by hand judges all that is pending, page by page, whatever judged it before."""
    messages(store, 3)
    judge(store, rule("no", "nothing"))

    pages = [judge(store, limit=2, again_after=after) for after in (0, 2, 3)]

    assert [(page.judged, page.last) for page in pages] == [(2, 2), (1, 3), (0, None)]


def test_a_rule_fires_once_for_a_message_even_if_it_is_judged_again(store: Store) -> None:
    """Two dispatchers that judge the same messages at once write each dispatch once."""
    messages(store, 40)
    store.rules.apply([rule("a"), rule("b")], prune=False, who="test", now=NOW)

    at_once(*[lambda: [judge(store, limit=7) for _ in range(8)]] * 3)
    while judge(store).judged:
        pass

    keys = [(each.message_id, each.rule) for each in store.dispatches.list(limit=1000)]
    assert len(keys) == len(set(keys)) == 80
    assert store.counts().messages == {"dispatched": 40}


def test_judging_that_fails_changes_nothing(store: Store) -> None:
    """Judging a batch is one transaction: what was written before it failed is not kept. It says of which messages."""
    messages(store, 3)
    store.rules.apply([rule(), rule("near", "DS-2", scope="other")], prune=False, who="test", now=NOW)
    before = store.journal.since(0)
    with store.database.write() as connection:  # no message has any before it was judged
        stray = {"message_id": 3, "rule": "near", "revision": 1, "clause": "scope"}
        connection.execute(insert(near_misses).values(stray))

    with pytest.raises(JudgingFailed, match="IntegrityError") as failed:
        judge(store)

    assert failed.value.ids == [1, 2, 3]
    assert store.counts().messages == {"pending": 3}
    assert store.dispatches.list() == []
    assert store.journal.since(0) == before


def test_a_message_that_cannot_fill_a_template_holds_up_nobody_else(store: Store) -> None:
    """It waits with the reason, and is dispatched once the rule is mended; the others of its batch are dispatched."""
    messages(store, 2)
    store.messages.take_in([frame(name="DS-x")], origin="broker", now=NOW)

    judge(store, rule("raw", "DS-(?P<n>.+)", {"run": {"command": ["{n:03d}"]}}))
    stuck = store.messages.get(MessageId(3))
    judge(store, rule("raw", "DS-(?P<n>.+)", {"run": {"command": ["{n}"]}}))

    assert stuck.state is MessageState.PENDING
    assert stuck.reason is not None and "n is 'x', not the number that :03d needs" in stuck.reason
    assert [each.options["command"] for each in store.dispatches.list()] == [["x"], ["001"], ["000"]]


# Claiming and settling.


def ready(store: Store, count: int = 1) -> None:
    """So many dispatches, ready."""
    messages(store, count)
    judge(store, rule())


def test_a_claim_takes_what_is_due_with_all_that_an_actor_needs(store: Store) -> None:
    """Oldest first, at most as many as asked for; the order holds the message whole and the options filled in."""
    ready(store, 3)

    claims = claim(store, 2)

    assert [each.order.dispatch_id for each in claims] == [1, 2]
    one = claims[0]
    assert (one.actor, one.spent, one.order.attempt, one.order.rule) == ("run", 1, 1, "raw")
    assert (one.order.message, one.order.options) == (store.messages.get(MessageId(1)), {"command": ["true"]})
    found = store.dispatches.get(DispatchId(1))
    assert (found.state, found.owner, found.lease_until, found.attempts) == ("running", "w1", NOW + LEASE, 1)
    (attempt,) = store.dispatches.attempts_of(DispatchId(1))
    assert (attempt.number, attempt.owner, attempt.started_at, attempt.outcome) == (1, "w1", NOW, "running")
    assert claim(store, 0) == []


def test_two_workers_never_have_the_same_dispatch(store: Store) -> None:
    """Four workers that claim at once share the list: each dispatch goes to one of them."""
    ready(store, 60)
    taken: dict[str, list[int]] = {f"w{number}": [] for number in range(4)}

    def work(owner: str) -> None:
        while claims := claim(store, 3, owner=owner):
            taken[owner] += [each.order.dispatch_id for each in claims]

    at_once(*(lambda owner=owner: work(owner) for owner in taken))

    assert sorted(id_ for ids in taken.values() for id_ in ids) == list(range(1, 61))


def test_what_is_done_is_written_down(store: Store) -> None:
    """State, reason and the trace of the try; the claim is given back."""
    ready(store)
    (one,) = claim(store)

    assert settle(store, one, DONE, Trace(0, "out", "err"), now=later(2))

    found = store.dispatches.get(DispatchId(1))
    assert (found.state, found.reason, found.owner, found.lease_until) == ("done", "well", None, None)
    (attempt,) = store.dispatches.attempts_of(DispatchId(1))
    assert (attempt.outcome, attempt.reason, attempt.exit_code) == ("done", "well", 0)
    assert (attempt.stdout, attempt.stderr, attempt.ended_at) == ("out", "err", later(2))
    assert [(each.from_state, each.to_state, each.who) for each in store.journal.of("dispatch", 1)] == [
        (None, "ready", "dispatcher"),
        ("ready", "running", "w1"),
        ("running", "done", "w1"),
    ]


def test_what_is_to_be_tried_again_waits_for_its_moment(store: Store) -> None:
    """Not a microsecond before, and then as the next attempt; the store knows when that will be."""
    ready(store)
    settle(store, claim(store)[0], RETRY)

    assert store.dispatches.next_due() == later(10)
    assert claim(store, now=later(9.999999)) == []
    (one,) = claim(store, now=later(10))
    assert (one.order.attempt, one.spent) == (2, 2)
    assert store.dispatches.next_due() is None


@pytest.mark.parametrize(
    ("state", "outcome", "spent"),
    [
        (DispatchState.READY, AttemptOutcome.RETRY, 2),
        (DispatchState.READY, AttemptOutcome.INTERRUPTED, 1),
        (DispatchState.WAITING, AttemptOutcome.WAIT, 1),
    ],
)
def test_waiting_and_interruptions_cost_no_attempt(
    store: Store, state: DispatchState, outcome: AttemptOutcome, spent: int
) -> None:
    """Every try is counted and kept; only failures count against the rule's policy."""
    ready(store)
    settle(store, claim(store)[0], Next(state, outcome, "why"))

    (again,) = claim(store)

    assert (again.order.attempt, again.spent) == (2, spent)
    assert [each.number for each in store.dispatches.attempts_of(DispatchId(1))] == [1, 2]


def test_whatever_a_program_prints_can_be_written_down(store: Store) -> None:
    """NUL and strange letters in output and reason lose no outcome: an action done is not done again."""
    ready(store)
    (one,) = claim(store)
    strange = "a\0b \x1b[31m \ufffd 😀"

    assert settle(store, one, Next(DispatchState.DONE, AttemptOutcome.DONE, strange), Trace(0, strange, strange))

    assert states(store) == ["done"]
    assert "😀" in str(store.dispatches.get(DispatchId(1)).reason)


def test_a_claim_that_was_lost_settles_nothing(store: Store) -> None:
    """Neither another worker nor an earlier try of the same worker can settle a claim."""
    ready(store)
    (stale,) = claim(store)
    store.dispatches.doubt(now=later(16))
    store.dispatches.resolve(now=later(16))
    (fresh,) = claim(store, now=later(100))

    assert not settle(store, stale)
    assert not settle(store, fresh, owner="w2")
    assert settle(store, fresh)
    assert states(store) == ["done"]


def test_a_claim_holds_while_it_is_renewed(store: Store) -> None:
    """Only the worker that has it renews it; past the lease it is in doubt, and not before."""
    ready(store)
    claim(store)

    store.dispatches.renew([DispatchId(1)], owner="w1", until=later(100))
    store.dispatches.renew([DispatchId(1)], owner="w2", until=later(999))

    assert store.dispatches.doubt(now=later(100)) == []
    assert store.dispatches.doubt(now=later(100.000001)) == [1]
    assert states(store) == ["in_doubt"]


def test_what_a_vanished_worker_had_is_tried_again(store: Store) -> None:
    """In doubt first, then by the retry policy: ready after a wait, and the try is written down as interrupted."""
    ready(store)
    claim(store)
    store.dispatches.doubt(now=later(16))

    ((id_, next_),) = store.dispatches.resolve(now=later(16))

    assert (id_, next_.state, next_.not_before) == (1, "ready", later(26))
    found = store.dispatches.get(DispatchId(1))
    assert (found.state, found.owner, found.not_before) == ("ready", None, later(26))
    assert found.reason == "worker w1 vanished in the middle of attempt 1"
    (attempt,) = store.dispatches.attempts_of(DispatchId(1))
    assert (attempt.outcome, attempt.ended_at) == ("interrupted", later(16))
    assert [each.to_state for each in store.journal.of("dispatch", 1)] == ["ready", "running", "in_doubt", "ready"]
    assert store.dispatches.resolve(now=later(17)) == []


def test_a_worker_that_vanishes_every_time_is_not_tried_for_ever(store: Store) -> None:
    """After as many attempts as the rule allows it has failed."""
    ready(store)
    for number in range(3):
        now = later(1000 * number)
        assert len(claim(store, now=now)) == 1
        store.dispatches.doubt(now=now + LEASE * 2)
        store.dispatches.resolve(now=now + LEASE * 2)

    assert states(store) == ["failed"]
    assert "all 3 attempts are used up" in str(store.dispatches.get(DispatchId(1)).reason)


def test_a_failed_dispatch_can_be_put_back_with_a_fresh_count(store: Store) -> None:
    """Only failed ones are, at once, and the journal says who did it and why."""
    ready(store, 2)
    settle(store, claim(store, 1)[0], Next(DispatchState.FAILED, AttemptOutcome.GIVE_UP, "broken"))

    hand = Hand("cli:me", "mended", later(1))
    retried = store.by_hand.dispatches(DispatchVerb.RETRY, [DispatchId(1), DispatchId(2)], hand)

    assert (retried.changed, retried.stayed) == ([1], {"ready": [2]})
    last = store.journal.of("dispatch", 1)[-1]
    assert (last.who, last.from_state, last.to_state, last.why) == ("cli:me", "failed", "ready", "mended")
    (one, _) = claim(store, now=later(1))
    assert (one.order.attempt, one.spent) == (2, 1)


def test_any_number_of_dispatches_can_be_named_at_once(store: Store) -> None:
    """After a long outage there are more than a database takes as parameters of one statement."""
    ready(store, 2)
    many = [DispatchId(id_) for id_ in range(1, 66_001)]

    claims = store.dispatches.claim(owner="w1", limit=5, lease=LEASE, now=NOW, only=many)
    assert [each.order.dispatch_id for each in claims] == [1, 2]


def test_a_worker_can_be_told_which_dispatches_to_take(store: Store) -> None:
    """`dispatch` by hand carries out its own and nothing else."""
    ready(store, 3)

    claims = store.dispatches.claim(owner="w1", limit=5, lease=LEASE, now=NOW, only=[DispatchId(2)])

    assert [each.order.dispatch_id for each in claims] == [2]
    assert states(store) == ["ready", "running", "ready"]


def test_dispatches_are_listed_by_state_rule_and_message_page_by_page(store: Store) -> None:
    """Newest first; the last id of a page begins the next."""
    messages(store, 2)
    judge(store, rule("a"), rule("b"))
    claim(store, 1)

    def ids(**given: Any) -> Sequence[int]:
        return [each.id for each in store.dispatches.list(**given)]

    assert (ids(limit=3), ids(limit=3, before=2)) == ([4, 3, 2], [1])
    assert ids(states=[DispatchState.RUNNING]) == [1]
    assert ids(states=[DispatchState.RUNNING, DispatchState.READY]) == [4, 3, 2, 1]
    assert [each.rule for each in store.dispatches.list(rule="b")] == ["b", "b"]
    assert {each.message_id for each in store.dispatches.list(message_id=MessageId(2))} == {2}
    with pytest.raises(NotFound, match="there is no dispatch 9"):
        store.dispatches.get(DispatchId(9))
    assert store.dispatches.attempts_of(DispatchId(9)) == []
