"""What the store promises of caps, paces, order, suspensions and the circuit breaker, on both databases alike."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import MutableMapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NoReturn

import pytest
import structlog

from orchestrator.core.actor import Trace
from orchestrator.core.dispatch import Next
from orchestrator.core.gates import EVERYTHING, LimitsOf, Subject
from orchestrator.core.matching import RuleSet
from orchestrator.store.claiming import Claim
from orchestrator.store.dispatches import NO_LIMITS
from orchestrator.store.gates import take_turn
from orchestrator.store.launches import Intent
from orchestrator.store.port import NotFound
from orchestrator.store.signals import DISPATCHES
from orchestrator.store.store import Store
from schemas.dispatch import AttemptOutcome, DispatchId, DispatchState
from schemas.gate import Kind
from schemas.launch import Launch, LaunchState
from schemas.rule import Limits, Rule
from tests.contract.test_store_dispatches import at_once
from tests.unit.making import NOW, UNMATCHED, frame, later, rule

LEASE = timedelta(hours=9)
DONE = Next(DispatchState.DONE, AttemptOutcome.DONE, "well")
FAILED = Next(DispatchState.FAILED, AttemptOutcome.GIVE_UP, "broken")
WAIT = Next(DispatchState.WAITING, AttemptOutcome.WAIT, "not yet", later(5))
RETRY = Next(DispatchState.READY, AttemptOutcome.RETRY, "again", later(5))
GROUP = Subject(Kind.GROUP, "g")


def of(name: str) -> Subject:
    return Subject(Kind.RULE, name)


def pace(words: str) -> Limits:
    return Limits.model_validate({"pace": words})


def apply(store: Store, *rules: Rule) -> None:
    store.rules.apply(rules, prune=True, who="test", now=NOW)


def arrive(store: Store, *names: str, now: datetime = NOW) -> list[int]:
    """Take in the closes of these datasets and judge them. Returns the dispatches."""
    store.messages.take_in([frame(name=name) for name in names], origin="broker", now=now)
    revision, versions = store.rules.in_force()
    judging = RuleSet(revision, versions, UNMATCHED)
    return [*store.dispatches.judge(judging, now=now, limit=100_000).dispatches]


def many(prefix: str, count: int) -> list[str]:
    return [f"{prefix}-{number}" for number in range(count)]


def claim(
    store: Store,
    limit: int = 100,
    *,
    now: datetime = NOW,
    only: Sequence[int] | None = None,
    limits: LimitsOf = NO_LIMITS,
    owner: str = "w1",
) -> list[Claim]:
    named = None if only is None else [DispatchId(id_) for id_ in only]
    return store.dispatches.claim(owner=owner, limit=limit, lease=LEASE, now=now, only=named, limits=limits)


def ids(claims: Sequence[Claim]) -> list[int]:
    return [each.order.dispatch_id for each in claims]


def settle(store: Store, one: Claim, next_: Next = DONE, *, now: datetime = NOW, owner: str = "w1") -> None:
    order = one.order
    assert store.dispatches.settle(order.dispatch_id, order.attempt, next_, Trace(), owner=owner, now=now)


def launch(store: Store, one: Claim, state: LaunchState = LaunchState.SUBMITTED) -> Launch:
    """A launch of this dispatch that has come so far."""
    id_ = one.order.dispatch_id
    intent = Intent(f"key-{id_}", f"name-{id_}", id_, "w", {}, {}, {}, "local", [])
    made = store.launches.intend(intent, who="test", now=NOW)
    for following in (LaunchState.SUBMITTING, state):
        if made.state is not state:
            made = store.launches.advance(made, following, who="test", why=None, now=NOW)
    return made


def end(store: Store, made: Launch, state: LaunchState) -> None:
    store.launches.advance(made, state, who="test", why="so it went", now=NOW)


# Caps.


def test_a_cap_holds_until_something_ends(store: Store) -> None:
    """Two of four may go on: running or waiting for a moment, they count; done, they make room."""
    apply(store, rule("a", "a.*", limits={"running": 2}), rule("b", "b.*"))
    arrive(store, *many("a", 4), "b")

    first = claim(store)
    settle(store, first[0], WAIT)

    assert ids(first) == [1, 2, 5]
    assert claim(store) == []
    settle(store, first[1])
    assert ids(claim(store)) == [3]
    assert claim(store) == []


def test_what_waits_for_its_moment_needs_no_more_room(store: Store) -> None:
    """It goes on already: a cap of one does not keep it from being looked at again, nor does a suspension."""
    apply(store, rule("a", limits={"running": 1}))
    arrive(store, *many("a", 2))
    settle(store, claim(store)[0], WAIT)
    store.suspensions.suspend(EVERYTHING, who="me", why="test", now=NOW)

    assert claim(store, now=later(4.9)) == []
    (again,) = claim(store, now=later(5))
    assert (again.order.dispatch_id, again.order.attempt) == (1, 2)


def test_a_launch_counts_as_long_as_it_goes_on(store: Store) -> None:
    """Its dispatch is done once it is submitted; together they count once, and the end of the launch makes room."""
    apply(store, rule("a", limits={"running": 1}))
    arrive(store, *many("a", 3))
    (one,) = claim(store)
    made = launch(store, one)
    status = store.dispatches.standings(now=NOW)
    settle(store, one)

    assert [each.running for each in status if each.kind is Kind.RULE] == [1]
    assert claim(store) == []
    heard = store.bells.heard(DISPATCHES)
    end(store, made, LaunchState.FINISHED)
    assert store.bells.heard(DISPATCHES) == heard + 1
    assert ids(claim(store)) == [2]


def test_a_launch_that_was_never_sent_takes_no_room(store: Store) -> None:
    """The engine refused it: it stays prepared for a person to mend, and the rule goes on."""
    apply(store, rule("a", limits={"running": 1}))
    arrive(store, *many("a", 2))
    (one,) = claim(store)
    launch(store, one, LaunchState.PREPARED)
    settle(store, one, FAILED)

    assert ids(claim(store)) == [2]


def test_only_its_own_dispatch_can_settle_a_launch_in_doubt(store: Store) -> None:
    """The launch takes the only room; so its dispatch is tried again, and no other."""
    apply(store, rule("a", limits={"running": 1}))
    arrive(store, *many("a", 3))
    (one,) = claim(store)
    launch(store, one, LaunchState.IN_DOUBT)
    settle(store, one, RETRY)

    assert claim(store) == []
    assert claim(store, only=[1, 2, 3]) == []
    assert ids(claim(store, now=later(5))) == [1]
    assert claim(store, now=later(5)) == []


def test_caps_of_a_group_and_of_everything(store: Store) -> None:
    """Rules of one group share its cap; everything shares that of the settings."""
    limits = {GROUP: Limits(running=3), EVERYTHING: Limits(running=4)}
    apply(store, rule("a", "a.*", group="g", limits={"running": 2}), rule("b", "b.*", group="g"), rule("c", "c.*"))
    arrive(store, *many("a", 3), *many("b", 3), *many("c", 3))

    claims = claim(store, limits=limits)

    assert [each.order.rule for each in claims] == ["a", "a", "b", "c"]
    assert claim(store, limits=limits) == []
    assert len(claim(store, limits={**limits, EVERYTHING: Limits(running=6)})) == 2


def test_the_limits_that_count_are_those_of_now(store: Store) -> None:
    """A changed rule's new cap and group count at once, also for what was matched before; a removed rule has none."""
    apply(store, rule("a", limits={"running": 1}))
    arrive(store, *many("a", 9))
    counts = [len(claim(store))]
    apply(store, rule("a", limits={"running": 3}))
    counts.append(len(claim(store)))
    apply(store, rule("a", group="g"))
    counts.append(len(claim(store, limits={GROUP: Limits(running=4)})))
    apply(store)
    counts.append(len(claim(store)))

    assert counts == [1, 2, 1, 5]


def test_workers_at_once_never_exceed_a_cap(store: Store) -> None:
    """Six workers claim and settle as fast as they can: never more than three go on, and everything is done once."""
    apply(store, rule("a", "a.*", limits={"running": 3}), rule("b", "b.*"))
    arrive(store, *many("a", 40), *many("b", 20))
    lock, seen = threading.Lock(), list[int]()
    #: How many of the capped rule are in hand: never more than the store says.
    going_on, counted = 0, list[int]()

    def count(change: int) -> None:
        nonlocal going_on
        with lock:
            going_on += change
            counted.append(going_on)

    def work(owner: str) -> None:
        while len(seen) < 60:
            claims = claim(store, 2, owner=owner)
            seen.extend(ids(claims))
            count(sum(one.order.rule == "a" for one in claims))
            for one in claims:
                if one.order.rule == "a":
                    time.sleep(0.02)  # so that others look while it goes on
                    count(-1)
                settle(store, one, owner=owner)

    at_once(*(lambda owner=f"w{number}": work(owner) for number in range(6)))

    assert sorted(seen) == list(range(1, 61))
    assert 1 < max(counted) <= 3


def test_a_claim_behind_gates_waits_until_no_other_goes_on(store: Store) -> None:
    """What another worker has claimed and not committed must count; so it is waited for."""
    apply(store, rule("a", limits={"running": 3}))
    arrive(store, "a")
    claimed: list[Claim] = []
    waiting = threading.Thread(target=lambda: claimed.extend(claim(store)))

    with store.database.write() as connection:
        take_turn(connection, alone=False)
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive()
    waiting.join()

    assert ids(claimed) == [1]


@pytest.mark.parametrize("store_url", ["postgresql"], indirect=True)
def test_claims_without_gates_go_side_by_side_but_not_beside_others(store: Store) -> None:
    """Nobody waits where there is nothing to count; whoever counts, or stops something, is waited for."""
    apply(store, rule("a"))
    arrive(store, "a-1", "a-2")
    with store.database.write() as connection:
        take_turn(connection, alone=False)
        assert ids(claim(store, 1)) == [1]
    waiting = threading.Thread(target=lambda: claim(store, 1))

    with store.database.write() as connection:
        take_turn(connection, alone=True)
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive()
    waiting.join()


# Paces.


def test_a_pace_counts_first_tries_within_its_span(store: Store) -> None:
    """Two in ten minutes; the moment when the next may start is known, and a second try is not held up."""
    apply(store, rule("a", limits={"pace": "2 per 10m"}))
    arrive(store, *many("a", 5))
    first = claim(store, 1)
    settle(store, first[0], RETRY)
    second = claim(store, now=later(60))

    assert ids(second) == [1, 2]
    assert claim(store, now=later(599.9)) == []
    assert store.dispatches.next_due(later(599.9)) == later(600)
    assert ids(claim(store, now=later(600))) == [3]
    assert claim(store, now=later(601)) == []
    assert store.dispatches.next_due(later(601)) == later(660)


def test_paces_of_a_group_and_of_everything(store: Store) -> None:
    """All that was started counts, whichever rule it was of."""
    limits = {GROUP: pace("2 per 1h"), EVERYTHING: pace("3 per 1m")}
    apply(store, rule("a", "a.*", group="g"), rule("b", "b.*", group="g"), rule("c", "c.*"))
    arrive(store, "a", "b", "a-2", *many("c", 3))

    started = [
        [each.order.rule for each in claim(store, limits=limits, now=later(at))] for at in (0, 59, 60, 3599, 3600)
    ]

    assert started == [["a", "b", "c"], [], ["c", "c"], [], ["a"]]


# Order.


def test_the_higher_priority_is_started_first(store: Store) -> None:
    """Whatever came first; and what has been due for more than an hour before that."""
    apply(store, rule("low", "l.*"), rule("high", "h.*", priority=5))
    arrive(store, *many("l", 2), *many("h", 2))
    assert ids(claim(store, 1)) == [3]
    arrive(store, "h-9", now=later(3601))

    assert ids(claim(store, 2, now=later(3601))) == [1, 2]
    assert ids(claim(store, 2, now=later(3601))) == [4, 5]


def test_newest_first_starts_the_oldest_every_tenth_time(store: Store) -> None:
    """Counted in the store: it does not matter which worker starts them, or when."""
    apply(store, rule("a", limits={"order": "newest"}))
    arrive(store, *many("a", 30))

    order = [ids(claim(store, 1, owner=f"w{number % 2}"))[0] for number in range(12)]

    assert order == [30, 29, 28, 27, 26, 25, 24, 23, 22, 1, 21, 20]


def test_what_is_ready_and_what_waits_do_not_starve_each_other(store: Store) -> None:
    """With one free thread and plenty of both, each has its turn."""
    apply(store, rule("a"))
    arrive(store, *many("a", 8))
    for one in claim(store, 4):
        settle(store, one, WAIT)

    order = [claim(store, 1, now=later(5))[0].order.attempt for _ in range(8)]

    assert sorted(order[:4]) == sorted(order[4:]) == [1, 1, 2, 2]


def test_a_long_queue_behind_a_closed_gate_hides_nothing(store: Store) -> None:
    """Thousands of a capped rule stand before one of another."""
    apply(store, rule("a", "a.*", limits={"running": 1}), rule("b", "b.*"))
    arrive(store, *many("a", 3000), "b")

    assert ids(claim(store, 4)) == [1, 3001]
    assert claim(store, 4) == []


# Suspensions.


def test_what_is_suspended_accumulates_and_goes_on_when_it_is_resumed(store: Store) -> None:
    """Its matches get their dispatches; they are not claimed. What is in flight is settled as ever."""
    apply(store, rule("a", "a.*", group="g"), rule("b", "b.*"))
    arrive(store, "a-1", "b-1")
    before = claim(store)
    suspension, new = store.suspensions.suspend(of("a"), who="me", why="disk full", now=later(1))
    settle(store, before[0])
    arrive(store, *many("a-later", 2), "b-2")

    assert new
    assert (suspension.kind, suspension.name, suspension.who, suspension.reason) == ("rule", "a", "me", "disk full")
    assert [each.order.rule for each in claim(store)] == ["b"]
    assert store.suspensions.all() == [suspension]
    heard = store.bells.heard(DISPATCHES)
    store.suspensions.resume(of("a"), who="you", why="emptied", now=later(2))
    assert store.bells.heard(DISPATCHES) > heard
    assert [each.order.rule for each in claim(store)] == ["a", "a"]
    newest = store.rules.in_force()[1][0].id
    assert [(each.who, each.to_state, each.why) for each in store.journal.of("suspension", newest)] == [
        ("me", "suspended", "rule a: disk full"),
        ("you", "resumed", "rule a: emptied"),
    ]


@pytest.mark.parametrize(("subject", "left"), [(EVERYTHING, []), (GROUP, ["b"]), (of("b"), ["a"])])
def test_everything_a_group_or_a_rule_can_be_suspended(store: Store, subject: Subject, left: list[str]) -> None:
    """And `dispatch once` carries out all the same what it is told to."""
    apply(store, rule("a", "a.*", group="g"), rule("b", "b.*"))
    arrive(store, "a", "b")
    store.suspensions.suspend(subject, who="me", why="test", now=NOW)

    assert [each.order.rule for each in claim(store)] == left
    assert len(claim(store, only=[1, 2])) == 2 - len(left)


def test_a_suspension_is_kept_as_the_first_one_made_it(store: Store) -> None:
    """A second one changes nothing; what is not suspended cannot be resumed; a name that nothing has is refused."""
    apply(store, rule("a", group="g"))
    first, _ = store.suspensions.suspend(GROUP, who="me", why="first", now=NOW)

    assert store.suspensions.suspend(GROUP, who="you", why="second", now=later(1)) == (first, False)
    with pytest.raises(NotFound, match="rule a is not suspended"):
        store.suspensions.resume(of("a"), who="me", why="", now=NOW)
    with pytest.raises(NotFound, match="there is no rule 'b'"):
        store.suspensions.suspend(of("b"), who="me", why="", now=NOW)
    with pytest.raises(NotFound, match=r"there is no group 'h'; there are: g"):
        store.suspensions.suspend(Subject(Kind.GROUP, "h"), who="me", why="", now=NOW)
    assert store.suspensions.all() == [first]


def test_once_keeps_caps_and_paces(store: Store) -> None:
    """Telling a worker what to take lifts suspensions, not limits."""
    apply(store, rule("a", "a.*", limits={"running": 2}), rule("b", "b.*", limits={"pace": "1 per 1h"}))
    found = arrive(store, *many("a", 4), *many("b", 3))

    assert [each.order.rule for each in claim(store, only=found)] == ["a", "a", "b"]
    assert claim(store, only=found) == []


# The circuit breaker.


def fail(store: Store, count: int = 1, next_: Next = FAILED, *, now: datetime = NOW) -> None:
    for one in claim(store, count, now=now):
        settle(store, one, next_, now=now)


def test_failures_in_a_row_suspend_a_rule_until_a_person_resumes_it(store: Store) -> None:
    """A success between them begins a new count; so does resuming. The reason names the last failure."""
    apply(store, rule("a", limits={"failures": 3}), rule("b", "nothing"))
    arrive(store, *many("a", 12))

    fail(store, 2)
    fail(store, 1, DONE)
    fail(store, 2)
    assert store.suspensions.all() == []
    fail(store, 1)

    (suspension,) = store.suspensions.all()
    assert (suspension.kind, suspension.name, suspension.who) == ("rule", "a", "circuit breaker")
    assert suspension.reason == "3 failures in a row, and 3 are allowed; the last was dispatch 6: broken"
    assert claim(store) == []
    store.suspensions.resume(of("a"), who="me", why="mended", now=NOW)
    fail(store, 2)
    assert store.suspensions.all() == []
    fail(store, 1)
    assert len(store.suspensions.all()) == 1


@pytest.mark.parametrize("way", ["settled", "resolved", "launch"])
def test_that_a_rule_is_suspended_is_logged_when_others_see_it(store: Store, store_url: str, way: str) -> None:
    """Not before it is committed: what is undone after all was never said."""
    apply(store, rule("a", "a.*", {"run": {"command": ["x"]}, "retry": {"attempts": 1}}, limits={"failures": 1}))
    arrive(store, "a-1")
    (one,) = claim(store)
    made = launch(store, one)
    other = Store.open(store_url)
    seen: list[tuple[str, str, list[str]]] = []

    def look(_: object, __: str, line: MutableMapping[str, Any]) -> NoReturn:
        seen.append((line["event"], line["rule"], [each.name for each in other.suspensions.all()]))
        raise structlog.DropEvent

    before = structlog.get_config()["processors"]
    structlog.configure(processors=[look])
    if way == "settled":
        settle(store, one, FAILED)
    elif way == "resolved":
        store.dispatches.doubt(now=later(5) + LEASE)
        store.dispatches.resolve(now=later(5) + LEASE)
    else:
        end(store, made, LaunchState.FAILED)
    structlog.configure(processors=before)
    other.close()

    assert seen == [("rule.suspended", "a", ["a"])]


def test_a_try_that_will_be_repeated_is_no_failure(store: Store) -> None:
    """Only what has failed for good counts; what a vanished worker used up does."""
    apply(store, rule("a", "a.*", {"run": {"command": ["x"]}, "retry": {"attempts": 1}}, limits={"failures": 1}))
    arrive(store, "a-1")
    fail(store, 1, RETRY)
    assert store.suspensions.all() == []

    claim(store, now=later(5))
    store.dispatches.doubt(now=later(5) + 2 * LEASE)
    store.dispatches.resolve(now=later(5) + 2 * LEASE)

    assert [each.name for each in store.suspensions.all()] == ["a"]


def test_launches_that_fail_count_for_their_rule(store: Store) -> None:
    """That they could be submitted ends no streak; that one finished does."""
    apply(store, rule("a", limits={"failures": 2}))
    arrive(store, *many("a", 9))

    for state in (LaunchState.FAILED, LaunchState.FINISHED, LaunchState.KILLED, LaunchState.FAILED):
        assert store.suspensions.all() == []
        (one,) = claim(store, 1)
        made = launch(store, one)
        settle(store, one)
        end(store, made, state)
        end(store, made, state)  # somebody else was first: it does not count twice

    (suspension,) = store.suspensions.all()
    assert "the last was launch 4 is failed: so it went" in suspension.reason


def test_a_rule_without_that_limit_is_never_suspended_by_itself(store: Store) -> None:
    """Nor one that was taken out."""
    apply(store, rule("a"))
    arrive(store, *many("a", 9))
    fail(store, 5)
    apply(store)
    fail(store, 4)

    assert store.suspensions.all() == []


# What a person is shown.


def test_the_standings_say_what_is_used_and_why_nothing_is_started(store: Store) -> None:
    """Of everything, of each group, and of each rule with its group."""
    apply(
        store,
        rule("a", "a.*", group="g", limits={"running": 1, "failures": 5}),
        rule("b", "b.*", limits={"pace": "2 per 10m", "order": "newest"}),
        rule("c", "c.*"),
    )
    arrive(store, *many("a", 4), *many("b", 5))
    started = claim(store, limits={EVERYTHING: Limits(running=9)})
    settle(store, next(one for one in started if one.order.rule == "a"), FAILED)
    claim(store, 1, only=[2])

    shown = store.dispatches.standings(now=later(1), limits={EVERYTHING: Limits(running=9)})
    found = {(each.kind, each.name): each for each in shown}

    everything, group = found[Kind.EVERYTHING, ""], found[Kind.GROUP, "g"]
    a, b, c = (found[Kind.RULE, name] for name in "abc")
    assert (everything.running, everything.cap, everything.ready) == (3, 9, 5)
    assert (group.running, group.cap, group.ready) == (1, None, 2)
    assert (a.group, a.running, a.cap, a.ready, a.failures, a.failures_allowed) == ("g", 1, 1, 2, 1, 5)
    assert a.why_not == "rule a: 1 go on, and 1 may"
    assert (b.started, str(b.order), b.ready, b.opens_at) == (2, "newest", 3, later(600))
    assert b.why_not == "rule b: 2 were started within 10m, the pace is 2"
    assert (c.ready, c.why_not) == (0, None)


# Against a model.

_LIMITS: Sequence[dict[str, object]] = (
    {},
    {"running": 0},
    {"running": 1},
    {"running": 3},
    {"pace": "2 per 60s"},
    {"order": "newest"},
)


class Model:
    """Rules `a` and `b` of group g, and `c`; whatever is asked is counted one by one."""

    def __init__(self) -> None:
        self.limits: dict[str, dict[str, object]] = {name: {} for name in "abc"}
        self.shared: LimitsOf = NO_LIMITS
        self.stopped: set[str] = set()
        self.ready: dict[int, str] = {}
        self.running: dict[int, Claim] = {}
        #: Rule and moment of each start.
        self.starts: list[tuple[str, datetime]] = []

    def rules(self) -> list[Rule]:
        return [
            rule(name, f"{name}.*", group=None if name == "c" else "g", limits=limits)
            for name, limits in self.limits.items()
        ]

    def may_start(self, name: str, now: datetime) -> bool:
        going = [one.order.rule for one in self.running.values()]
        cap, shared = self.limits[name].get("running"), self.shared.get(GROUP)
        full = isinstance(cap, int) and going.count(name) >= cap
        group = name != "c" and shared is not None and going.count("a") + going.count("b") >= (shared.running or 0)
        recent = [at for each, at in self.starts if each == name and now - at < timedelta(seconds=60)]
        fast = "pace" in self.limits[name] and len(recent) >= 2
        return not (name in self.stopped or full or group or fast)


@pytest.mark.parametrize("seed", range(4))
def test_at_random_no_limit_is_exceeded_and_nothing_idles(store: Store, seed: int) -> None:
    """Arrivals, ends, new limits, suspensions and time at random, against a model that counts one by one."""
    chance, model, now = random.Random(seed), Model(), NOW
    apply(store, *model.rules())
    for step in range(40):
        now += timedelta(seconds=chance.randint(0, 20))
        name = chance.choice("abc")
        match chance.randrange(6):
            case 0 | 1 | 2:
                for id_ in arrive(store, *many(f"{name}-{step}", chance.randint(1, 5)), now=now):
                    model.ready[id_] = name
            case 3:
                model.limits[name] = chance.choice(_LIMITS)
                apply(store, *model.rules())
            case 4 if name in model.stopped:
                store.suspensions.resume(of(name), who="me", why="", now=now)
                model.stopped.remove(name)
            case 4:
                store.suspensions.suspend(of(name), who="me", why="", now=now)
                model.stopped.add(name)
        for id_ in chance.sample(sorted(model.running), chance.randint(0, len(model.running))):
            settle(store, model.running.pop(id_), now=now)
        model.shared = chance.choice([NO_LIMITS, {GROUP: Limits(running=2)}])

        for one in claim(store, now=now, limits=model.shared):
            started = model.ready.pop(one.order.dispatch_id)
            assert model.may_start(started, now)
            model.running[one.order.dispatch_id] = one
            model.starts.append((started, now))

        assert [id_ for id_, each in model.ready.items() if model.may_start(each, now)] == []
