"""What a replay promises, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest

from orchestrator.core.matching import RuleSet
from orchestrator.dispatch.replay import Replayer
from orchestrator.rucio.port import CatalogUnavailable
from orchestrator.store.foreseeing import Foreseen
from orchestrator.store.intake import Arrival
from orchestrator.store.journal import move
from orchestrator.store.port import NotAllowed, NotFound
from orchestrator.store.replay_batch import Judged
from orchestrator.store.restraints import write_products
from orchestrator.store.store import Store
from orchestrator.store.tables import launches, messages
from schemas.did import Did
from schemas.message import MessageId, MessageState
from schemas.replay import Replay, ReplayId, ReplayRequest, ReplayState
from schemas.rule import Rule
from tests.unit.making import NOW, SCOPE, UNMATCHED, frame, later, rule

RUN = r"DS-(?P<run>\d+)"


class Clock:
    """A time that passes only while somebody waits."""

    def __init__(self) -> None:
        self.now = later(1000)

    def __call__(self) -> datetime:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=max(seconds, 0.01))


def nothing_known(dids: Collection[Did]) -> Mapping[Did, Mapping[str, Any]]:
    raise AssertionError(f"the catalog was asked about {dids}")


def messages_of(store: Store, *runs: int, now: datetime = NOW) -> None:
    store.messages.take_in([frame(name=f"DS-{run}") for run in runs], origin="broker", now=now)


def apply(store: Store, *rules: Rule, now: datetime = NOW) -> int:
    return store.rules.apply(rules, prune=True, who="test", now=now).revision


def judge(store: Store, *rules: Rule) -> None:
    """Put these rules in force, and judge everything."""
    revision = apply(store, *rules) if rules else store.rules.revision()
    judging = RuleSet(revision, store.rules.in_force()[1], UNMATCHED)
    while store.dispatches.judge(judging, now=NOW, limit=1000).judged:
        pass


def request(store: Store, **given: Any) -> ReplayRequest:
    return ReplayRequest.model_validate({"as_of": store.rules.revision(), **given})


def replayer(store: Store, ask: Any = nothing_known, batch: int = 3, clock: Clock | None = None) -> Replayer:
    clock = clock or Clock()
    return Replayer(store, UNMATCHED, ask, clock=clock, pause=clock.wait, batch=batch)


def begin(store: Store, **given: Any) -> Replay:
    return store.replays.begin(request(store, **given), who="cli:me", reason="backfill", now=later(900))


def replay(store: Store, ask: Any = nothing_known, **given: Any) -> Replay:
    """Begin a replay, and carry it to its end."""
    return replayer(store, ask).carry_on(begin(store, **given), lambda: False, lambda _: None)


def fired(store: Store) -> list[tuple[int, str, str]]:
    found = [(each.message_id, each.rule, str(each.state)) for each in store.dispatches.list(limit=10_000)]
    return sorted(found)


def tally(of: Replay) -> tuple[int, int, int, int, int]:
    return (of.looked_at, of.matched, of.written, of.there, of.refused)


# What is written.


def test_a_new_rule_is_carried_out_for_what_came_before_it(store: Store) -> None:
    """Whatever became of the messages; each that gets a dispatch is dispatched, and all of it says why."""
    messages_of(store, 1, 2)
    store.messages.take_in([frame("open", "X"), Arrival({}, b"{")], origin="broker", now=NOW)
    judge(store, rule("old", "DS-1"))
    apply(store, rule("old", "DS-1"), rule("new", ".*", on=["close", "open"]))

    done = replay(store)

    assert done.state is ReplayState.DONE
    assert tally(done) == (3, 4, 3, 1, 0)
    assert fired(store) == [(1, "new", "ready"), (1, "old", "ready"), (2, "new", "ready"), (3, "new", "ready")]
    states = [each.state for each in store.messages.list(newest_first=False)]
    assert states == ["dispatched", "dispatched", "dispatched", "quarantined"]
    assert store.messages.get(MessageId(3)).reason == "matched by new in replay 1: backfill"
    newest = store.dispatches.list(limit=1)[0]
    (entry,) = store.journal.of("dispatch", newest.id)
    assert (entry.who, entry.why) == ("cli:me", "replay 1: backfill")
    assert store.journal.of("message", 3)[-1].who == "cli:me"
    assert [(each.to_state, each.who, each.why) for each in store.journal.of("replay", 1)] == [
        ("running", "cli:me", "backfill"),
        ("done", "cli:me", "all looked at"),
    ]


def test_a_second_replay_of_the_same_does_nothing(store: Store) -> None:
    """What a message has started is not started again, and is counted."""
    messages_of(store, *range(10))
    apply(store, rule("a"), rule("b"))
    replay(store)
    before = fired(store)

    again = replay(store)

    assert tally(again) == (10, 20, 0, 20, 0)
    assert fired(store) == before and len(before) == 20


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ({"rules": ["all"]}, [0, 1, 2, 3, 4, 5]),
        ({"runs": ["2..3", 5]}, [2, 3, 5]),
        ({"name": "DS-?", "runs": ["4.."]}, [4, 5]),
        ({"name": "DS-3"}, [3]),
        ({"scope": "elsewhere"}, []),
        ({"event": "open"}, []),
        ({"since": later(3)}, [3, 4, 5]),
        ({"since": later(1), "until": later(3)}, [1, 2]),
    ],
)
def test_a_replay_is_about_a_part_of_history(store: Store, given: dict[str, Any], written: list[int]) -> None:
    """By rule, run, time of arrival, name, scope and event; a rule without a run is in no range of runs."""
    for number in range(6):
        messages_of(store, number, now=later(number))
    apply(store, rule("all", RUN), rule("other", "nothing"), rule("no-run", "DS-9.*"))

    done = replay(store, **given)

    assert sorted(each.message_id - 1 for each in store.dispatches.list()) == written
    assert done.looked_at == done.total
    assert done.state is ReplayState.DONE


def test_what_was_overtaken_is_left_out_unless_it_is_asked_for(store: Store) -> None:
    """A close whose dataset was opened again would start work on what is there no more."""
    store.messages.take_in([frame(), frame("open", at=later(1)), frame(at=later(2))], origin="broker", now=NOW)
    apply(store, rule())

    replay(store)
    without = fired(store)
    replay(store, superseded=True)

    assert without == [(3, "raw", "ready")]
    assert fired(store) == [(1, "raw", "ready"), (3, "raw", "ready")]
    assert store.messages.get(MessageId(1)).state is MessageState.SUPERSEDED


def test_a_message_that_other_rules_wait_to_judge_stays_pending(store: Store) -> None:
    """What it gets from the replay takes nothing from it: rules in force that are not replayed have their turn."""
    messages_of(store, 1)
    apply(store, rule("a"), rule("b"))

    replay(store, rules=["a"])
    meanwhile = store.messages.get(MessageId(1)).state
    judge(store)

    assert meanwhile is MessageState.PENDING
    assert fired(store) == [(1, "a", "ready"), (1, "b", "ready")]
    assert store.messages.get(MessageId(1)).state is MessageState.DISPATCHED


def test_what_cannot_be_filled_in_is_counted_as_refused(store: Store) -> None:
    """It holds up nobody else."""
    messages_of(store, 1)
    store.messages.take_in([frame(name="DS-x")], origin="broker", now=NOW)
    apply(store, rule("raw", "DS-(?P<n>.+)", {"run": {"command": ["{n:03d}"]}}))

    assert tally(replay(store)) == (2, 2, 1, 0, 1)


# As the rules were.


def test_a_replay_may_go_by_the_rules_of_a_revision(store: Store) -> None:
    """The dispatches point at that version, whatever is in force now."""
    messages_of(store, 1)
    apply(store, rule("a", actions=[{"run": {"command": ["old"]}}]))
    apply(store, rule("a", actions=[{"run": {"command": ["new"]}}]))
    apply(store, rule("b", "nothing"))

    replay(store, as_of=1)

    (one,) = store.dispatches.list()
    assert (one.rule, one.options) == ("a", {"command": ["old"]})
    assert one.rule_version_id == store.rules.at(1)[0].id
    assert store.messages.get(MessageId(1)).state is MessageState.DISPATCHED


def test_a_replay_may_go_by_the_rules_that_were_in_force_when_each_message_came(store: Store) -> None:
    """Before the first rule there was none; a rule counts from the moment of its revision, and no longer to its end."""
    for number, moment in enumerate([0, 15, 20, 25, 35], start=1):
        messages_of(store, number, now=later(moment))
    apply(store, rule("a"), now=later(10))
    apply(store, rule("a"), rule("b"), now=later(20))
    apply(store, rule("c", "nothing"), now=later(30))

    done = replay(store, as_of="then")

    assert [each[:2] for each in fired(store)] == [(2, "a"), (3, "a"), (3, "b"), (4, "a"), (4, "b")]
    assert tally(done) == (5, 5, 5, 0, 0)


def test_revisions_older_than_their_table_are_known_from_the_journal(store: Store) -> None:
    """A store that was made by an older program knows when its rules came and went; a rule used by hand is none."""
    apply(store, rule("a"), now=later(10))
    store.rules.keep_for_reference(rule("by-hand"), who="me", now=later(15))
    apply(store, rule("a"), rule("b"), now=later(20))
    apply(store, rule("b"), now=later(30))
    with store.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM revisions WHERE number < 4")

    assert store.replays.revision_moments() == [(later(10), 1), (later(20), 2), (later(30), 3)]


# Guards.


def test_unique_keys_are_kept(store: Store) -> None:
    """What another match has taken is refused, and says by whom."""
    messages_of(store, 1, 2, 3)
    apply(store, rule("a", unique="one"))

    done = replay(store)

    assert fired(store) == [(1, "a", "ready"), (2, "a", "refused"), (3, "a", "refused")]
    assert tally(done) == (3, 3, 1, 0, 2)
    assert store.messages.get(MessageId(2)).state is MessageState.PENDING


def test_unique_keys_may_be_lifted_on_purpose(store: Store) -> None:
    """The dispatches have no key, the one that has it keeps it, and the journal says that it was lifted."""
    messages_of(store, 1, 2)
    judge(store, rule("a", "DS-1", unique="one"))
    apply(store, rule("a", unique="one"))

    replay(store, lift_unique=True)

    assert fired(store) == [(1, "a", "ready"), (2, "a", "ready")]
    newest = store.dispatches.list(limit=1)[0]
    assert newest.unique_key is None
    assert store.journal.of("dispatch", newest.id)[0].why == "replay 1: backfill (without its unique key)"
    judge(store, rule("a", "DS-.*", unique="one"))
    messages_of(store, 3)
    judge(store)
    assert (3, "a", "refused") in fired(store)


def produced_by(store: Store, name: str, rule_name: str) -> None:
    with store.database.write() as connection:
        empty = {"parameters": "{}", "inputs": "{}", "outputs": "{}", "steps": "[]"}
        row = {"key": "k", "name": "n", "workflow": "w", "engine": "e", "state": "finished", **empty}
        connection.execute(launches.insert().values(id=1, created_at=NOW, updated_at=NOW, **row))
        write_products(connection, 1, [Did(SCOPE, name)], rule_name, None)


def test_the_loop_guard_and_the_prescale_count_as_always(store: Store) -> None:
    """What a rule had a part in making is not for it; of four matches a prescale of 2 lets two through."""
    messages_of(store, 0, 1, 2, 3, 4)
    produced_by(store, "DS-0", "half")
    apply(store, rule("half", prescale=2))

    done = replay(store)

    assert [each[0] for each in fired(store)] == [2, 4]
    assert tally(done) == (5, 5, 2, 0, 3)


# The catalog.


def test_a_rule_that_asks_the_catalog_gets_its_answers(store: Store) -> None:
    """Those about which nobody has asked are asked about in bulk, and the answers kept."""
    messages_of(store, 1, 2, 3)
    apply(store, rule("raw", where={"datatype": "raw"}))
    asked: list[int] = []

    def ask(dids: Collection[Did]) -> Mapping[Did, Mapping[str, Any]]:
        asked.append(len(dids))
        return {Did(SCOPE, "DS-2"): {"datatype": "raw"}}

    replay(store, ask)

    assert [each[0] for each in fired(store)] == [2]
    assert asked == [3]
    fact = store.facts.of(MessageId(2))
    assert fact is not None and fact.document == {"datatype": "raw"}
    replay(store)


def test_a_range_of_runs_may_need_the_catalog(store: Store) -> None:
    """Where no name tells the run, the catalog's run_number does."""
    messages_of(store, 1, 2)
    apply(store, rule("raw"))

    replay(store, lambda dids: {did: {"run_number": 100 + int(did.name[-1])} for did in dids}, runs=["102.."])

    assert [each[0] for each in fired(store)] == [2]


def test_while_the_catalog_is_away_nothing_is_lost(store: Store) -> None:
    """The replay ends there, and goes on from there."""
    messages_of(store, *range(9))
    apply(store, rule("all", "DS-[0-5]"), rule("raw", "DS-[6-8]", where={"datatype": "raw"}))
    begun = begin(store)

    def away(dids: Collection[Did]) -> Mapping[Did, Mapping[str, Any]]:
        raise CatalogUnavailable("away")

    with pytest.raises(CatalogUnavailable):
        replayer(store, away).carry_on(begun, lambda: False, lambda _: None)
    stands = store.replays.get(begun.id)
    back = replayer(store, lambda dids: {did: {"datatype": "raw"} for did in dids})
    done = back.carry_on(stands, lambda: False, lambda _: None)

    assert (stands.position, stands.written) == (6, 6)
    assert tally(done) == (9, 9, 9, 0, 0)


# Stopped and resumed.


def stop_after(batches: int) -> Callable[[], bool]:
    left = iter(range(batches))
    return lambda: next(left, None) is None


def test_a_replay_that_was_stopped_goes_on_where_it_stood(store: Store) -> None:
    """The position is kept with what was written, so nothing is done twice and nothing left out."""
    messages_of(store, *range(10))
    apply(store, rule())
    begun = begin(store)

    replayer(store).carry_on(begun, stop_after(2), lambda _: None)
    store.replays.stop(begun.id, who="cli:me", why="lunch", now=later(950))
    stands = store.replays.get(begun.id)
    messages_of(store, 11)
    resumed = store.replays.resume(begun.id, who="cli:you", why="back", now=later(960))
    done = replayer(store).carry_on(resumed, lambda: False, lambda _: None)

    assert (stands.state, stands.position, stands.written) == (ReplayState.STOPPED, 6, 6)
    assert (done.state, tally(done)) == (ReplayState.DONE, (10, 10, 10, 0, 0))
    assert [each[0] for each in fired(store)] == list(range(1, 11))
    assert [each.to_state for each in store.journal.of("replay", 1)] == ["running", "stopped", "running", "done"]


def test_what_fails_in_the_middle_of_a_batch_leaves_nothing_of_it(store: Store) -> None:
    """Dispatches and position are one transaction."""
    messages_of(store, *range(6))
    apply(store, rule("raw", "DS-(?P<n>.)", {"run": {"command": ["{n}"]}}))
    begun = begin(store)
    facts = store.replays.read(begun.request, 0, begun.until, 3)
    judging = RuleSet(1, store.rules.in_force()[1], UNMATCHED)
    judged = [Judged(each.message, judging.judge(each).matches * 2, (), True) for each in facts]

    with pytest.raises(Exception, match=r"(?i)unique"):
        store.replays.write(begun, judged, last=3, revision=1, now=NOW)

    assert (store.replays.get(begun.id), fired(store)) == (begun, [])
    assert store.messages.get(MessageId(1)).state is MessageState.PENDING


def test_of_two_processes_that_carry_on_one_replay_the_slower_ends(store: Store) -> None:
    """Nothing is counted twice: whoever does not find the replay where he left it writes nothing."""
    messages_of(store, *range(9))
    apply(store, rule())
    begun = begin(store)
    replayer(store).carry_on(begun, stop_after(1), lambda _: None)

    with pytest.raises(NotAllowed, match="replay 1 is carried on by another process"):
        replayer(store).carry_on(begun, lambda: False, lambda _: None)
    store.replays.stop(begun.id, who="cli:me", why="enough", now=NOW)
    with pytest.raises(NotAllowed, match="replay 1 is stopped"):
        replayer(store).carry_on(begun, lambda: False, lambda _: None)

    assert tally(store.replays.get(begun.id)) == (3, 3, 3, 0, 0)


def test_only_what_runs_is_stopped_and_what_is_done_is_done(store: Store) -> None:
    """A replay that nobody knows is said to be unknown."""
    messages_of(store, 1)
    apply(store, rule())
    done = replay(store)

    with pytest.raises(NotAllowed, match="replay 1 is done"):
        store.replays.stop(done.id, who="me", why="x", now=NOW)
    with pytest.raises(NotAllowed, match="replay 1 is done"):
        store.replays.resume(done.id, who="me", why="x", now=NOW)
    for call in (store.replays.stop, store.replays.resume):
        with pytest.raises(NotFound, match="there is no replay 9"):
            call(ReplayId(9), who="me", why="x", now=NOW)
    assert [each.id for each in store.replays.newest()] == [1]


def test_a_message_that_was_put_away_meanwhile_is_passed_over(store: Store) -> None:
    """What is quarantined between being read and being written gets no dispatch."""
    messages_of(store, 1, 2)
    apply(store, rule())
    begun = begin(store)
    facts = store.replays.read(begun.request, 0, begun.until, 9)
    judging = RuleSet(1, store.rules.in_force()[1], UNMATCHED)
    judged = [Judged(each.message, judging.judge(each).matches, (), True) for each in facts]
    with store.database.write() as connection:
        values: dict[str, Any] = {"who": "cli:me", "why": "odd", "at": NOW, "reason": "odd"}
        move(connection, messages, [1], MessageState.PENDING, MessageState.SUPERSEDED, **values)

    done = store.replays.write(begun, judged, last=begun.until, revision=1, now=NOW)

    assert done.state is ReplayState.DONE
    assert [each[0] for each in fired(store)] == [2]


# Pace.


def test_a_pace_is_kept_and_survives_a_restart(store: Store) -> None:
    """Four in a minute, actions counted one by one, however often it is stopped; in the end all are there."""
    messages_of(store, *range(9))
    apply(store, rule("two", ".*", *[{"run": {"command": ["true"]}}] * 2))
    clock = Clock()
    begun = begin(store, pace="4 per 1m")

    while begun.state is ReplayState.RUNNING:
        begun = replayer(store, clock=clock).carry_on(begun, stop_after(5), lambda _: None)
    starts = sorted(each.created_at for each in store.dispatches.list(limit=100))

    assert tally(begun) == (9, 9, 9, 0, 0)
    assert len(starts) == 18
    span = timedelta(minutes=1)
    assert max(sum(start - span < each <= start for each in starts) for start in starts) == 4
    assert starts[-1] - starts[0] < 5 * span


# Dry runs.


def foresee(store: Store, ask: Any = nothing_known, **given: Any) -> Foreseen:
    return replayer(store, ask).foresee(request(store, **given), lambda: False)


def test_a_dry_run_says_what_a_replay_does(store: Store) -> None:
    """Rule by rule the same numbers, across batches, with examples; and it writes nothing at all."""
    messages_of(store, *range(10))
    produced_by(store, "DS-9", "every")
    judge(store, rule("there", "DS-[01]"), rule("key", "DS-2", unique="k2"))
    apply(
        store,
        rule("there"),
        rule("half", prescale=3),
        rule("every"),
        rule("key", r"DS-(?P<n>\d)", unique="k{n}"),
        rule("once", unique="once"),
        rule("broken", r"(?P<n>DS-\d)", {"run": {"command": ["{n:d}"]}}),
    )
    before, journal = fired(store), len(store.journal.since(0, 10_000))

    found = foresee(store)

    assert (fired(store), len(store.journal.since(0, 10_000)), store.replays.newest()) == (before, journal, [])
    done = replay(store)
    rules = found.rules
    assert (found.looked_at, found.troubles) == (10, 10)
    assert "not the number that :d needs" in found.trouble_examples[0]
    assert {name: (each.written, each.there, each.refused.total()) for name, each in rules.items()} == {
        "there": (8, 2, 0),
        "half": (4, 0, 6),
        "every": (9, 0, 1),
        "key": (9, 1, 0),
        "once": (1, 0, 9),
    }
    assert done.written == sum(each.written for each in rules.values())
    assert done.there == sum(each.there for each in rules.values())
    assert done.refused == sum(each.refused.total() for each in rules.values()) + 10
    assert [each.name for each in rules["there"].examples] == [f"DS-{number}" for number in range(2, 7)]
    assert list(rules["once"].refused) == ["another match has the unique key"]
    again = foresee(store)
    assert {each.written for each in again.rules.values()} == {0}


def test_a_dry_run_asks_the_catalog_and_keeps_nothing(store: Store) -> None:
    """What would match is known; what the catalog said is not written down."""
    messages_of(store, 1)
    apply(store, rule("raw", where={"datatype": "raw"}))

    found = foresee(store, lambda dids: {did: {"datatype": "raw"} for did in dids})

    assert found.rules["raw"].written == 1
    assert store.facts.of(MessageId(1)) is None
