"""Replays by command: tried, begun, killed, resumed, stopped."""

from __future__ import annotations

import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import pytest

from orchestrator.core.by_hand import Hand, MessageVerb
from orchestrator.store.messages import Filter
from orchestrator.store.store import Store
from tests.acceptance.home import Home, apply_rules, until
from tests.unit.making import NOW, frame

#: What the command says. That the store does it with each kind of database, `tests/contract` has.
on_sqlite = pytest.mark.parametrize("store_url", ["sqlite"], indirect=True)

#: So many that a replay takes long enough to be killed in its middle.
MANY = 6_000

#: Pairs of datasets that are joined.
PAIRS = 150

RULES = """
rules:
  - name: old
    pattern: 'DS-(?P<run>\\d)'
    actions: [{run: {command: ["true"]}}]
"""

NEW = """
rules:
  - name: new
    pattern: 'DS-(?P<run>\\d+)'
    unique: "{run}"
    actions: [{run: {command: ["true"]}}]
"""


@pytest.fixture
def home(new_home: Callable[[Mapping[str, str]], Home], store: Store, store_url: str) -> Home:
    """A home with a short history, and a rule that is newer than that; once with each kind of database."""
    made = new_home({"STORE__URL": store_url})
    arrive(store, range(100))
    for text in (RULES, NEW):
        apply_rules(store, text, prune=True)
    return made


def arrive(store: Store, runs: Iterable[int]) -> None:
    """A message for each of these runs."""
    store.messages.take_in([frame(name=f"DS-{run}") for run in runs], origin="broker", now=NOW)


def test_a_replay_that_is_killed_is_resumed_where_it_stood(home: Home, store: Store) -> None:
    """SIGKILL in the middle: nothing is done twice and nothing left out; every dispatch says of which replay it is."""
    arrive(store, range(100, MANY))
    process = home.start("replay", "start", "--reason", "backfill")
    deadline = time.monotonic() + 60
    while not any(each.position > 0 for each in store.replays.newest()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    (killed,) = store.replays.newest()

    resumed = home.read("replay", "resume", "1")

    assert killed.state == "running" and 0 < killed.position < MANY
    assert (resumed["state"], resumed["looked_at"], resumed["written"]) == ("done", MANY, MANY)
    found = store.dispatches.list(limit=100_000)
    assert sorted(each.message_id for each in found) == list(range(1, MANY + 1))
    assert {store.journal.of("dispatch", each.id)[0].why for each in found[::500]} == {"replay 1: backfill"}
    assert store.counts().messages == {"dispatched": MANY}


@on_sqlite
def test_a_dry_run_comes_first_and_the_guards_are_kept(home: Home, store: Store) -> None:
    """It says what would be dispatched, by run range; then so it is, and a second time nothing is left to do."""
    tried = home.read("replay", "start", "--runs", "10..19,30", "--dry-run")
    begun = home.read("replay", "start", "--runs", "10..19,30", "--reason", "ten and one")
    again = home.read("replay", "start", "--runs", "10..30", "--reason", "the rest")
    then = home.read("replay", "start", "--as-of", "1", "--reason", "as before")

    assert tried["rules"]["new"]["written"] == begun["written"] == 11
    assert tried["rules"]["new"]["examples"][0]["dataset"] == "group.sphenix:DS-10"
    assert (again["written"], again["there"]) == (10, 11)
    assert (then["matched"], then["written"]) == (10, 10)
    assert {each.rule for each in store.dispatches.list(limit=10)} == {"old"}
    assert [each["id"] for each in home.read("replay", "list")] == [3, 2, 1]
    shown = home.do("replay", "show", "1")
    assert "ten and one" in shown and "runs ['10..19', 30]" in shown


def test_a_replay_is_paced_stopped_from_elsewhere_and_by_ctrl_c(home: Home, store: Store) -> None:
    """What is written by then stays; it says how to go on."""
    first = home.start("replay", "start", "--pace", "5 per 1h", "--reason", "slowly")
    until(lambda: [each.written for each in store.replays.newest()] == [5], 30, "what the pace allows")
    home.do("replay", "stop", "1", "--reason", "enough")
    assert first.wait(20) == 1

    second = home.start("replay", "resume", "1")
    until(lambda: store.replays.newest()[0].state == "running", 20, "going on")
    assert second.stop(signal.SIGINT) == 1

    (stands,) = home.read("replay", "list")
    assert (stands["state"], stands["written"]) == ("stopped", 5)
    assert "muleteer replay resume 1 goes on" in second.output.read_text()
    journal = json.loads(home.do("replay", "show", "1", "--json"))["journal"]
    assert [each["to_state"] for each in journal] == ["running", "stopped", "running", "stopped"]
    assert [each["why"] for each in journal] == ["slowly", "enough", "resumed", "interrupted"]


@on_sqlite
def test_what_cannot_work_is_refused_before_anything_is_looked_at(home: Home, store: Store) -> None:
    """Unknown rules, revisions and runs, a rule that is not in force, no reason: said, and nothing is begun."""
    home.do("replay", "start", expect=2)
    home.do("replay", "start", "--reason", "x", "--runs", "20..10", expect=2)
    home.do("replay", "start", "--reason", "x", "--pace", "fast", expect=2)
    home.do("replay", "start", "--reason", "x", "--as-of", "yesterday", expect=2)
    home.do("replay", "start", "--reason", "x", "--rule", "never", expect=4)
    home.do("replay", "start", "--reason", "x", "--as-of", "99", expect=4)
    home.do("replay", "start", "--reason", "x", "--rule", "old", expect=3)
    home.do("replay", "resume", "1", expect=4)
    home.do("replay", "stop", "1", expect=4)

    assert (home.read("replay", "list"), store.dispatches.list()) == ([], [])


JOIN = r"""
rules:
  - name: both
    join:
      key: "{run}"
      members: {a: 'A-(?P<run>\d+)', b: 'B-(?P<run>\d+)'}
    actions: [{run: {command: ["true"]}}]
  - name: alone
    pattern: 'A-7'
    actions: [{run: {command: ["true"]}}]
"""


def put_away(store: Store, runs: Iterable[int]) -> None:
    """Two datasets of each of these runs, dropped before any rule wanted them."""
    store.messages.take_in([frame(name=f"{slot}-{run}") for run in runs for slot in "AB"], origin="broker", now=NOW)
    store.by_hand.messages(MessageVerb.DROP, Filter(name="?-*"), Hand("me", "no rule", NOW))


@on_sqlite
def test_what_rules_join_goes_through_their_rooms(home: Home, store: Store) -> None:
    """A dry run says it, a replay puts the datasets back, the dispatcher lets them in; and what is refused says why."""
    put_away(store, range(1, 10))
    apply_rules(store, JOIN, prune=True)

    tried = home.read("replay", "start", "--rule", "both", "--runs", "5..9", "--dry-run")
    begun = home.read("replay", "start", "--rule", "both", "--runs", "5..9", "--reason", "backfill")
    home.run("dispatcher")
    said = home.do("replay", "start", "--rule", "both", "--runs", "1..9", "--reason", "the rest")
    until(lambda: store.counts().dispatches.get("ready", 0) == 8, 30, "a dispatch for each pair")

    why = "rule alone in force would start on it as well"
    assert (tried["rules"]["both"]["written"], tried["rules"]["both"]["refused"]) == (9, {why: 1})
    assert (begun["written"], begun["refused"], begun["left_out"]) == (9, 1, [])
    assert "18 matches: 8 written, 9 there before, 1 refused" in said
    assert f"not put back: {why}: message" in said
    assert f"{why}: message" in home.do("replay", "show", "1")
    assert len(store.dispatches.list(rule="both", limit=100)) == 8
    assert sorted(each.state for each in store.rooms.list()) == [*["dispatched"] * 8, "open"]


@on_sqlite
def test_a_join_that_is_not_in_force_as_it_was_is_said_to_be_left_out(home: Home, store: Store) -> None:
    """In words and as JSON, with the version and why; and where nothing else was asked for, nothing is begun."""
    put_away(store, [7])
    apply_rules(store, JOIN, prune=True)
    then = str(store.rules.revision())
    apply_rules(store, JOIN.replace("B-", "C-"), prune=True)

    tried = home.read("replay", "start", "--as-of", then, "--dry-run")
    begun = home.read("replay", "start", "--as-of", "then", "--reason", "as it was")
    told = home.start("replay", "start", "--as-of", then, "--rule", "both", "--reason", "as it was")

    why = "waiting rooms go by the rule in force, and that is version 2"
    assert tried["left_out"] == begun["left_out"] == [{"rule": "both", "version": 1, "why": why}]
    assert (list(tried["rules"]), begun["written"]) == (["alone"], 0)
    assert told.wait() == 3
    assert f"left out: both in version 1: {why}" in told.log.read_text()
    assert len(home.read("replay", "list")) == 1


def test_a_replay_that_is_killed_while_the_dispatcher_is_at_work_puts_nothing_back_twice(
    home: Home, store: Store
) -> None:
    """SIGKILL in the middle, with a dispatcher that lets in what has gone back: every pair is dispatched once."""
    put_away(store, range(PAIRS))
    apply_rules(store, JOIN.partition("  - name: alone")[0], prune=True)
    home.run("dispatcher")
    process = home.start("replay", "start", "--pace", "75 per 1s", "--reason", "backfill")
    until(lambda: any(each.written for each in store.replays.newest()), 60, "some that are put back")
    process.kill()
    (killed,) = store.replays.newest()

    resumed = home.read("replay", "resume", "1")
    until(lambda: store.counts().dispatches.get("ready", 0) == PAIRS, 60, "a dispatch for each pair")

    assert killed.state == "running" and 0 < killed.written < 2 * PAIRS
    assert (resumed["written"], resumed["there"]) == (2 * PAIRS, 0)
    changes = [each for _, each in store.journal.since(0, 1_000_000)]
    back = Counter(each.subject_id for each in changes if "put back" in str(each.why))
    assert (len(back), set(back.values())) == (2 * PAIRS, {1})
    found = store.dispatches.list(rule="both", limit=100_000)
    assert len({each.captured["run"] for each in found}) == len(found) == PAIRS
