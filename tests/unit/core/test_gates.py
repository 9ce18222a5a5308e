"""Which dispatches may be started, in which order, and why the others may not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.gates import (
    EVERYTHING,
    OLDEST_EVERY,
    TRANSIENT,
    Candidate,
    Choice,
    Gates,
    LimitsOf,
    Queue,
    Subject,
    Window,
    choose,
    order_of,
)
from schemas.gate import Kind
from schemas.rule import Limits, Order, Pace
from tests.unit.making import NOW, later

RULE, GROUP = Subject(Kind.RULE, "a"), Subject(Kind.GROUP, "g")


def candidate(id_: int, rule: str = "a", group: str | None = None, *, priority: int = 0, age: float = 0) -> Candidate:
    return Candidate(id_, rule, group, priority, later(-age))


def chosen(gates: Gates, *queues: Sequence[Candidate], limit: int = 10) -> list[int]:
    return [each.id for each in choose([Queue(queue) for queue in queues], gates, limit, NOW).started]


def pace(words: str) -> Limits:
    return Limits.model_validate({"pace": words})


def test_what_a_gate_belongs_to_in_words() -> None:
    """As it stands in sentences: `rule a is suspended`."""
    assert [each.words for each in (RULE, GROUP, EVERYTHING, TRANSIENT)] == [
        "rule a",
        "group g",
        "everything",
        "release of transient datasets",
    ]


def test_releases_of_datasets_hold_no_dispatch_back() -> None:
    """Whoever stops them stops nothing else."""
    gates = Gates({}, now=NOW, suspended={TRANSIENT})

    assert chosen(gates, [candidate(1)]) == [1]


# The gates.


def test_without_limits_everything_goes_through_up_to_what_was_asked_for() -> None:
    """Oldest first over all rules."""
    a, b = [candidate(1, age=9), candidate(3, age=7)], [candidate(2, "b", age=8), candidate(4, "b", age=6)]

    assert chosen(Gates({}, now=NOW), a, b) == [1, 2, 3, 4]
    assert chosen(Gates({}, now=NOW), a, b, limit=3) == [1, 2, 3]
    assert chosen(Gates({}, now=NOW)) == []


def test_a_cap_counts_what_goes_on_and_what_is_started_now() -> None:
    """One of three goes on, so two may start; the others are told why not, and another rule is not in their queue."""
    gates = Gates({RULE: Limits(running=3)}, now=NOW, running={RULE: 1})
    mine = [candidate(id_, age=9) for id_ in (1, 2, 3, 4)]

    choice = choose([Queue(mine), Queue([candidate(9, "b")])], gates, 10, NOW)

    assert [each.id for each in choice.started] == [1, 2, 9]
    assert {id_: closed.why for id_, closed in choice.refused.items()} == dict.fromkeys(
        (3, 4), "rule a: 3 go on, and 3 may"
    )


def test_each_of_the_three_gates_can_be_the_narrow_one() -> None:
    """A rule's dispatch passes its own gate, its group's and the one of everything."""
    mine = [candidate(id_, group="g") for id_ in range(8)]
    wide, narrow = Limits(running=5), Limits(running=2)

    for subject in (RULE, GROUP, EVERYTHING):
        limits = {RULE: wide, GROUP: wide, EVERYTHING: wide, subject: narrow}
        assert chosen(Gates(limits, now=NOW), mine) == [0, 1]


def test_a_cap_of_nothing_starts_nothing() -> None:
    """`running: 0` holds a rule back without suspending it."""
    assert chosen(Gates({RULE: Limits(running=0)}, now=NOW), [candidate(1)], [candidate(2, "b")]) == [2]


def test_a_pace_counts_first_tries_and_says_when_it_opens() -> None:
    """Two of three were started within the span; what was tried before is not held up by it."""
    gates = Gates({RULE: pace("3 per 10m")}, now=NOW, windows={RULE: Window(2, later(-60))})
    again = Candidate(3, "a", None, 0, later(-1), first=False)

    choice = choose([Queue([candidate(1, age=9), candidate(2, age=8), again])], gates, 10, NOW)

    assert [each.id for each in choice.started] == [1, 3]
    closed = choice.refused[2]
    assert (closed.why, closed.opens_at) == ("rule a: 3 were started within 10m, the pace is 3", later(540))


def test_what_is_suspended_is_not_started() -> None:
    """A rule, a group, or everything."""
    queues = ([candidate(1, "a", "g")], [candidate(2, "b", "g")], [candidate(3, "c")])

    assert chosen(Gates({}, now=NOW, suspended={RULE}), *queues) == [2, 3]
    assert chosen(Gates({}, now=NOW, suspended={GROUP}), *queues) == [3]
    assert chosen(Gates({}, now=NOW, suspended={EVERYTHING}), *queues) == []
    refused = choose([Queue(queues[0])], Gates({}, now=NOW, suspended={GROUP}), 1, NOW).refused
    assert refused[1].why == "group g is suspended"


# The order.


def test_the_higher_priority_goes_first_until_another_is_overdue() -> None:
    """After an hour a dispatch counts as of the highest priority."""
    high, low = [candidate(1, priority=10, age=10)], [candidate(2, "b", age=3600)]
    overdue = [candidate(2, "b", age=3600.1)]

    assert chosen(Gates({}, now=NOW), high, low) == [1, 2]
    assert chosen(Gates({}, now=NOW), high, overdue) == [2, 1]


def test_newest_first_starts_the_oldest_every_tenth_time() -> None:
    """Nine of the newest, then the one that has been due longest; the count goes on from the starts before."""
    due = [candidate(id_, age=100 - id_) for id_ in range(30)]

    def order(started: int) -> list[int]:
        queue = Queue(due[:12], due[::-1][:12], started)
        return [each.id for each in choose([queue], Gates({}, now=NOW), 12, NOW).started]

    assert order(0) == [29, 28, 27, 26, 25, 24, 23, 22, 21, 0, 20, 19]
    assert order(9)[:2] == [0, 29]


def test_a_rule_starts_its_newest_first_if_it_or_its_group_says_so() -> None:
    """What says nothing starts its oldest first."""
    newest = Limits(order=Order.NEWEST)

    assert order_of("a", "g", {}) is Order.OLDEST
    assert order_of("a", "g", {RULE: newest}) is Order.NEWEST
    assert order_of("a", "g", {GROUP: newest, RULE: Limits(running=1)}) is Order.NEWEST
    assert order_of("a", None, {GROUP: newest}) is Order.OLDEST


# A model of time: arrivals, starts and ends, minute by minute.

MINUTE = timedelta(minutes=1)


@dataclass
class Job:
    id: int
    rule: str
    arrived: datetime
    ends: datetime | None = None
    started: datetime | None = None


@dataclass(frozen=True)
class World:
    """Rules `a` (of priority 5), `b` (newest first) and `c`; a and b are of group g."""

    limits: LimitsOf
    capacity: int

    def group(self, rule: str) -> str | None:
        return None if rule == "c" else "g"

    def subjects(self, rule: str) -> list[Subject]:
        return [each for each in (Subject(Kind.RULE, rule), GROUP, EVERYTHING) if each != GROUP or self.group(rule)]

    def gates(self, jobs: Sequence[Job], now: datetime) -> Gates:
        running: Counter[Subject] = Counter()
        windows: dict[Subject, Window] = {}
        for subject in (*(Subject(Kind.RULE, rule) for rule in "abc"), GROUP, EVERYTHING):
            mine = [job for job in jobs if job.started is not None and subject in self.subjects(job.rule)]
            running[subject] = sum(job.ends is not None and job.ends > now for job in mine)
            limits = self.limits.get(subject)
            if limits is not None and limits.pace is not None:
                recent = [job.started for job in mine if job.started and job.started > now - limits.pace.span]
                windows[subject] = Window(len(recent), min(recent, default=None))
        return Gates(self.limits, now=now, running=running, windows=windows)

    def minute(self, jobs: Sequence[Job], starts: Counter[str], now: datetime, lasting: int) -> Choice:
        """Start what may be started at this minute."""
        queues = []
        for rule in "abc":
            due = [
                Candidate(job.id, rule, self.group(rule), 5 if rule == "a" else 0, job.arrived)
                for job in jobs
                if job.rule == rule and job.started is None
            ]
            queues.append(Queue(due, due[::-1] if rule == "b" else (), starts[rule]))
        going_on = sum(job.started is not None and job.ends is not None and job.ends > now for job in jobs)
        choice = choose(queues, self.gates(jobs, now), self.capacity - going_on, now)
        for each in choice.started:
            job = jobs[each.id]
            job.started, job.ends = now, now + lasting * MINUTE
            starts[job.rule] += 1
        return choice


def caps() -> st.SearchStrategy[Limits]:
    paces = st.builds(
        lambda count, minutes: Pace(count=count, span=minutes * MINUTE), st.integers(1, 4), st.integers(1, 9)
    )
    return st.builds(Limits, running=st.none() | st.integers(0, 4), pace=st.none() | paces)


def broken(world: World, jobs: Sequence[Job], now: datetime) -> list[str]:
    """The limits that do not hold at this moment, counted job by job."""
    wrong = []
    for subject, limits in world.limits.items():
        mine = [job for job in jobs if job.started is not None and subject in world.subjects(job.rule)]
        if limits.running is not None:
            count = sum(job.ends is not None and job.ends > now for job in mine)
            wrong += [f"{subject}: {count} go on"] if count > limits.running else []
        if limits.pace is not None:
            count = sum(job.started is not None and now - job.started < limits.pace.span for job in mine)
            wrong += [f"{subject}: {count} started"] if count > limits.pace.count else []
    return wrong


@settings(max_examples=150, deadline=None)
@given(
    limits=st.dictionaries(st.sampled_from([RULE, Subject(Kind.RULE, "b"), GROUP, EVERYTHING]), caps()),
    capacity=st.integers(1, 6),
    minutes=st.lists(st.tuples(st.text("abc", max_size=4), st.integers(1, 5)), max_size=60),
)
def test_whatever_happens_limits_hold_and_nothing_idles_that_might_start(
    limits: LimitsOf, capacity: int, minutes: Sequence[tuple[str, int]]
) -> None:
    """Against a model that counts job by job: no cap and no pace is ever exceeded, and what was refused had to be."""
    world, jobs, starts = World(limits, capacity), list[Job](), Counter[str]()
    for number, (arrivals, lasting) in enumerate(minutes):
        now = NOW + number * MINUTE
        jobs += [Job(len(jobs) + offset, rule, now) for offset, rule in enumerate(arrivals)]

        world.minute(jobs, starts, now, lasting)

        assert broken(world, jobs, now) == []
        going_on = sum(job.ends is not None and job.ends > now for job in jobs)
        assert going_on <= capacity
        if going_on < capacity:
            for job in [each for each in jobs if each.started is None]:
                job.started, job.ends = now, now + MINUTE
                assert broken(world, jobs, now) != [], f"{job} might have started"
                job.started = job.ends = None


@settings(max_examples=15, deadline=None)
@given(
    arrivals=st.lists(st.text("abc", min_size=1, max_size=4), min_size=20, max_size=40),
    limits=st.sampled_from([{}, {GROUP: Limits(running=1)}, {RULE: pace("2 per 5m")}]),
)
def test_nothing_waits_for_ever(arrivals: Sequence[str], limits: LimitsOf) -> None:
    """Far more arrives than can be done, for ever, and one rule has priority: each dispatch has its turn all the same.

    The bound: once it is overdue, it waits for those older than it, with up to ten starts for each of them.
    """
    world, jobs, starts = World(limits, 2), list[Job](), Counter[str]()
    watched = sum(map(len, arrivals))
    bound = 60 + 5 * OLDEST_EVERY * watched
    now = NOW
    for number in range(len(arrivals) + bound):
        now = NOW + number * MINUTE
        fresh = arrivals[number] if number < len(arrivals) else "ab"
        jobs += [Job(len(jobs) + offset, rule, now) for offset, rule in enumerate(fresh)]
        world.minute(jobs, starts, now, 1)
        if number >= len(arrivals) and all(job.started for job in jobs[:watched]):
            return

    raise AssertionError([job for job in jobs[:watched] if job.started is None])
