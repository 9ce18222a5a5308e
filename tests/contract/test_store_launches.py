"""What the store promises of launches: what was sent is kept, many are followed and summed up, people ask of them."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import func, select, update

from orchestrator.core.by_hand import Hand
from orchestrator.core.commanding import Hold
from orchestrator.store.launch_archive import PackageTooLarge
from orchestrator.store.launch_commands import Ask
from orchestrator.store.launch_listing import LaunchFilter
from orchestrator.store.launches import Intent, NameTaken, Noted
from orchestrator.store.port import StoreError
from orchestrator.store.store import Store
from orchestrator.store.tables import blobs
from schemas.launch import (
    Command,
    CommandState,
    FileCounts,
    Launch,
    LaunchId,
    LaunchState,
    StepProgress,
    StepState,
    SubmissionRecord,
)
from tests.unit.making import NOW, later

LEASE = timedelta(minutes=10)
HAND = Hand("cli:me", "it went wrong", NOW)


@dataclass(frozen=True)
class File:
    """One file of a package."""

    content: bytes
    executable: bool = False


PACKAGE = {"run.sh": File(b"#!/bin/sh\n", True), "data/map.bin": File(bytes(range(256)) * 100), "empty": File(b"")}


def intent(name: str, *, key: str | None = None, workflow: str = "calo", run: int | None = None) -> Intent:
    steps = [StepProgress(name=step, state=StepState.WAITING) for step in ("combine", "reco")]
    return Intent(key or f"store/{name}", name, None, workflow, {}, {}, {}, "panda:bnl", steps, run=run)


def made(
    store: Store, name: str, state: LaunchState = LaunchState.PREPARED, *, now: datetime = NOW, run: int | None = None
) -> Launch:
    """A launch that has come so far."""
    way = {
        LaunchState.PREPARED: [],
        LaunchState.SUBMITTING: [LaunchState.SUBMITTING],
        LaunchState.IN_DOUBT: [LaunchState.SUBMITTING, LaunchState.IN_DOUBT],
        LaunchState.SUBMITTED: [LaunchState.SUBMITTING, LaunchState.SUBMITTED],
    }.get(state, [LaunchState.SUBMITTING, LaunchState.SUBMITTED, state])
    launch = store.launches.intend(intent(name, run=run), who="test", now=now)
    for step in way:
        launch = store.launches.advance(launch, step, who="test", why=None, now=now, reference="request:7")
    return launch


def steps(*states: StepState, files: FileCounts | None = None) -> Sequence[StepProgress]:
    return [StepProgress(name=f"s{number}", state=state, files=files) for number, state in enumerate(states)]


# What was sent.


def test_what_was_sent_is_given_back_byte_for_byte(store: Store) -> None:
    """Every file with its content and whether it can be run; the list names sizes and digests."""
    launch = store.launches.intend(intent("a"), PACKAGE, who="test", now=NOW)

    assert {path: File(file.content, file.executable) for path, file in store.launches.package(launch.id).items()} == (
        PACKAGE
    )
    assert [(file.path, file.size, file.executable) for file in store.launches.files(launch.id)] == [
        ("data/map.bin", 25600, False),
        ("empty", 0, False),
        ("run.sh", 10, True),
    ]


def test_what_many_launches_share_is_kept_once(store: Store) -> None:
    """Two launches with the same scripts have one copy of each; one launch never changes what another has."""
    first = store.launches.intend(intent("a"), PACKAGE, who="test", now=NOW)
    store.launches.intend(intent("b"), {**PACKAGE, "run.sh": File(b"other", True)}, who="test", now=NOW)

    with store.database.read() as connection:
        assert connection.scalars(select(func.count()).select_from(blobs)).one() == 4
    assert store.launches.package(first.id)["run.sh"].content == b"#!/bin/sh\n"


def test_a_launch_and_its_package_are_written_together_or_not_at_all(store: Store) -> None:
    """A second who asks for the same key finds the first's package, never a mixture."""
    first = store.launches.intend(intent("a"), PACKAGE, who="test", now=NOW)
    second = store.launches.intend(intent("a"), {"other": File(b"x")}, who="test", now=NOW)

    assert second.id == first.id
    assert set(store.launches.package(first.id)) == set(PACKAGE)


def test_many_who_bring_the_same_contents_at_once_do_not_stand_in_each_others_way(store: Store) -> None:
    """Each launch has its package; no one waits for another in a circle."""
    package = {f"f{number}": File(f"content {number}".encode()) for number in range(50)}
    backwards = dict(reversed(package.items()))
    failures: list[Exception] = []

    def intend(number: int) -> None:
        try:
            chosen = package if number % 2 else backwards
            store.launches.intend(intent(f"n{number}"), chosen, who="test", now=NOW)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=intend, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert all(len(store.launches.files(each.id)) == 50 for each in store.launches.list())


def test_a_package_over_the_limit_is_refused_in_words_and_nothing_is_written(store: Store) -> None:
    """The error names the sizes, the largest file and what to do."""
    with pytest.raises(PackageTooLarge, match=r"25,610 bytes in 3 files, and 10,000 are allowed.*data/map\.bin"):
        store.launches.intend(intent("a"), PACKAGE, who="test", now=NOW, largest=10_000)

    assert store.launches.list() == []


@pytest.mark.parametrize("damaged", [b"\0", zlib.compress(b"#!/bin/sh\nrm")], ids=["unreadable", "another content"])
def test_a_content_that_was_damaged_is_never_given_out(store: Store, damaged: bytes) -> None:
    """The digest is checked whenever a package is read."""
    launch = store.launches.intend(intent("a"), PACKAGE, who="test", now=NOW)
    with store.database.write() as connection:
        connection.execute(update(blobs).where(blobs.c.size == 10).values(content=damaged))

    with pytest.raises(StoreError, match=r"run\.sh is damaged"):
        store.launches.package(launch.id)


def test_an_engine_may_have_a_long_name(store: Store) -> None:
    """Its server's address is a part of it."""
    engine = "panda-stepwise:" + "x" * 250

    launch = store.launches.intend(replace(intent("a"), engine=engine), who="test", now=NOW)

    assert launch.engine == engine


def test_a_name_that_another_key_has_is_refused(store: Store) -> None:
    """The error brings the launch that has it."""
    first = store.launches.intend(intent("a"), who="test", now=NOW)

    with pytest.raises(NameTaken) as refused:
        store.launches.intend(intent("a", key="other"), PACKAGE, who="test", now=NOW)

    assert refused.value.launch == first


def test_a_package_can_be_kept_later_but_is_never_replaced(store: Store) -> None:
    """For launches that were written down by a version that kept none."""
    launch = store.launches.intend(intent("a"), who="test", now=NOW)
    assert store.launches.package(launch.id) == {}

    store.launches.archive(launch, PACKAGE)
    store.launches.archive(launch, {"other": File(b"x")})

    assert set(store.launches.package(launch.id)) == set(PACKAGE)


# Tries.


def test_every_try_is_kept_with_what_came_of_it(store: Store) -> None:
    """Numbered from 1, whatever was printed; another launch's tries are its own."""
    launch, other = made(store, "a"), made(store, "b")
    tried = SubmissionRecord(
        launch_id=launch.id,
        number=99,
        step="reco",
        command=("pchain", "--cwl", "a b"),
        client="panda-client 2.2.0",
        started_at=NOW,
        ended_at=later(3),
        exit_code=1,
        output="nul \0 here",
        answer='{"status": false}',
        verdict="refused",
    )

    first = store.launches.note_try(tried)
    store.launches.note_try(tried.model_copy(update={"exit_code": 0}))
    store.launches.note_try(tried.model_copy(update={"launch_id": other.id}))

    assert first.number == 1
    kept = store.launches.tries(launch.id)
    assert [(each.number, each.exit_code) for each in kept] == [(1, 1), (2, 0)]
    assert kept[0] == tried.model_copy(update={"number": 1, "output": "nul \\0 here"})
    assert [each.number for each in store.launches.tries(other.id)] == [1]


def test_tries_noted_at_once_have_numbers_of_their_own(store: Store) -> None:
    """None is lost."""
    launch = made(store, "a")
    tried = SubmissionRecord(launch_id=launch.id, number=1, started_at=NOW)
    threads = [threading.Thread(target=store.launches.note_try, args=(tried,)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [each.number for each in store.launches.tries(launch.id)] == [1, 2, 3, 4, 5, 6]


def test_whether_anybody_began_to_send_it_is_known_for_ever(store: Store) -> None:
    """Also after it went back to prepared."""
    never, once = made(store, "a"), made(store, "b", LaunchState.SUBMITTING)
    store.launches.advance(once, LaunchState.PREPARED, who="test", why="away", now=NOW)

    assert (store.launches.was_sending(never.id), store.launches.was_sending(once.id)) == (False, True)


# Following.


def test_the_progress_of_many_is_noted_at_once(store: Store) -> None:
    """Those of which something runs are running; one that somebody else moved meanwhile is left alone."""
    a, b, c = (made(store, name, LaunchState.SUBMITTED) for name in "abc")
    store.launches.advance(c, LaunchState.KILLED, who="x", why=None, now=later(1))
    half = steps(StepState.FINISHED, StepState.RUNNING, files=FileCounts(total=10, finished=5, failed=1))

    store.launches.note_progress([Noted(each, half, each is not b) for each in (c, a, b)], who="watcher", now=later(9))

    found = [store.launches.get(each.id) for each in (a, b, c)]
    assert [each.state for each in found] == ["running", "submitted", "killed"]
    assert [list(each.steps) == half for each in found] == [True, True, False]
    assert [each.moved_at for each in found] == [later(9), later(9), later(1)]
    assert [each.submitted_at for each in found] == [NOW] * 3
    (entry,) = [each for each in store.journal.of("launch", a.id) if each.who == "watcher"]
    assert (entry.from_state, entry.to_state) == ("submitted", "running")


def test_those_that_go_on_are_read_again_only_as_far_as_they_changed(store: Store) -> None:
    """Of one engine, oldest first, and always as they are now."""
    a, b = made(store, "a", LaunchState.SUBMITTED), made(store, "b", LaunchState.SUBMITTED)
    before = store.launches.active("panda:bnl")
    store.launches.note_progress([Noted(b, steps(StepState.RUNNING), True)], who="w", now=later(1))

    after = store.launches.active("panda:bnl")

    assert [each.id for each in before] == [each.id for each in after] == [a.id, b.id]
    assert after[0] is before[0]
    assert (after[1].state, after[1].steps) == (LaunchState.RUNNING, tuple(steps(StepState.RUNNING)))
    assert store.launches.active("panda:other") == []


def test_a_reason_is_remarked_once(store: Store) -> None:
    """The launch stays where it is, and the journal says why; the same again changes nothing."""
    launch = made(store, "a")
    store.launches.remark(launch, "away", who="launcher", now=later(1))
    now = store.launches.get(launch.id)
    store.launches.remark(now, "away", who="launcher", now=later(2))

    assert (now.state, now.reason) == (LaunchState.PREPARED, "away")
    assert [(each.to_state, each.why) for each in store.journal.of("launch", launch.id)] == [
        ("prepared", "a"),
        ("prepared", "away"),
    ]


# Lists and sums.


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (LaunchFilter(states=[LaunchState.FAILED]), ["rn3-CALO"]),
        (LaunchFilter(workflow="calo"), ["rn3-CALO", "rn2-CALO", "rn1-CALO"]),
        (LaunchFilter(workflow="other"), ["rn4_OTHER"]),
        (LaunchFilter(runs=[(2, 3)]), ["rn3-CALO", "rn2-CALO"]),
        (LaunchFilter(runs=[(1, 1), (3, 3)]), ["rn3-CALO", "rn1-CALO"]),
        (LaunchFilter(stalled_since=later(50)), ["rn2-CALO", "rn1-CALO"]),
        (LaunchFilter(text="n4_O"), ["rn4_OTHER"]),
        (LaunchFilter(text="n%C"), []),
        (LaunchFilter(rule="nobody"), []),
    ],
)
def test_launches_are_listed_by_what_is_asked(store: Store, wanted: LaunchFilter, expected: list[str]) -> None:
    """State, workflow, runs, text in the name, rule, and those of which nothing was heard since."""
    made(store, "rn1-CALO", run=1)
    made(store, "rn2-CALO", LaunchState.RUNNING, run=2)
    made(store, "rn3-CALO", LaunchState.FAILED, run=3)
    store.launches.intend(intent("rn4_OTHER", workflow="other"), who="test", now=later(100))

    assert [each.name for each in store.launches.list(wanted)] == expected


def test_launches_are_summed_up_by_run(store: Store) -> None:
    """States, steps and files of each run, newest first, page by page; what is about no run is in no sum."""
    a = made(store, "a", LaunchState.SUBMITTED, run=21615)
    files = FileCounts(total=10, finished=5, failed=1)
    half = steps(StepState.FINISHED, StepState.RUNNING, files=files)
    store.launches.note_progress([Noted(a, half, True)], who="w", now=later(5))
    made(store, "b", LaunchState.FAILED, run=21615)
    made(store, "c", run=21616)
    made(store, "d")

    newest, older = store.launches.by_run()

    assert (newest.run, newest.launches, newest.percent, newest.moved_at) == (
        21616,
        {LaunchState.PREPARED: 1},
        0,
        None,
    )
    assert (older.run, older.launches) == (21615, {LaunchState.RUNNING: 1, LaunchState.FAILED: 1})
    assert (older.steps, older.steps_finished, older.steps_failed) == (4, 1, 0)
    assert older.files == FileCounts(total=20, finished=10, failed=2)
    assert older.percent == 25.0  # half of one step, since some of its files failed, and half of another, of four
    assert older.moved_at == later(5)
    assert [each.run for each in store.launches.by_run(limit=1)] == [21616]
    assert [each.run for each in store.launches.by_run(before=21616)] == [21615]
    failed = store.launches.by_run(LaunchFilter(states=[LaunchState.FAILED]))
    assert [(each.run, each.launches) for each in failed] == [(21615, {LaunchState.FAILED: 1})]


# What people ask.


def test_what_is_asked_is_written_down_for_those_that_it_fits(store: Store) -> None:
    """The others stay, with the reason; asked twice, the second says so; both journals know who and why."""
    going, failed = made(store, "a", LaunchState.RUNNING), made(store, "b", LaunchState.FAILED)
    ids = [going.id, failed.id, LaunchId(99)]

    tally = store.launch_commands.ask(Ask(Command.KILL), ids, HAND)
    again = store.launch_commands.ask(Ask(Command.KILL), [going.id], HAND)

    assert (tally.changed, tally.stayed) == ([going.id], {"failed": [failed.id], "unknown": [99]})
    assert (again.changed, again.stayed) == ([], {"asked for that already": [going.id]})
    (asked,) = store.launch_commands.of(going.id)
    assert (asked.command, asked.who, asked.why, asked.state) == (Command.KILL, "cli:me", "it went wrong", "wanted")
    entry = store.journal.of("launch", going.id)[-1]
    assert (entry.who, entry.to_state, entry.why) == ("cli:me", "running", "kill was asked for: it went wrong")
    assert [each.to_state for each in store.journal.of("command", asked.id)] == ["wanted"]


def test_a_dry_run_asks_nothing(store: Store) -> None:
    """It only says what would be asked."""
    launch = made(store, "a", LaunchState.RUNNING)
    dry = Hand("cli:me", "why", NOW, dry_run=True)

    assert store.launch_commands.ask(Ask(Command.KILL), [launch.id], dry).changed == [launch.id]
    assert store.launch_commands.of(launch.id) == []


def test_many_are_asked_by_filter(store: Store) -> None:
    """A retry with its parameters, of one step, over more than one page."""
    for number in range(3):
        made(store, f"n{number}", LaunchState.FAILED, run=number)
    ask = Ask(Command.RETRY, "reco", {"ramCount": "4000"})

    tally = store.launch_commands.ask(ask, LaunchFilter(runs=[(1, 9)]), HAND)

    assert tally.changed == [2, 3]
    (asked,) = store.launch_commands.of(LaunchId(3))
    assert (asked.step, asked.parameters) == ("reco", {"ramCount": "4000"})


def test_a_reason_may_hold_what_no_database_keeps(store: Store) -> None:
    """A server's words may be anything; the launch must not stay as it is for them."""
    launch = made(store, "a", LaunchState.SUBMITTING)

    back = store.launches.advance(launch, LaunchState.PREPARED, who="w", why="no \0 or \ud800", now=NOW)

    assert (back.state, back.reason) == (LaunchState.PREPARED, "no \\0 or \\ud800")


def test_a_kill_holds_from_the_moment_when_it_is_asked(store: Store) -> None:
    """Of that launch alone: whoever begins its steps, wherever he is, sees it there."""
    launch, other = made(store, "a", LaunchState.RUNNING), made(store, "b", LaunchState.RUNNING)

    store.launch_commands.ask(Ask(Command.KILL), [launch.id], HAND)

    assert store.launch_commands.hold(launch.id) == Hold(killed=True)
    assert store.launch_commands.hold(other.id) == Hold()


def test_a_retry_beside_a_launch_for_the_same_is_refused(store: Store) -> None:
    """A repeat would write what the first one writes, and the other way round; who means it says so."""
    first, repeat = made(store, "store/calo/a", LaunchState.FAILED), made(store, "store/calo/a/round-1")
    other = made(store, "store/calo/a2", LaunchState.FAILED)
    for step in (LaunchState.SUBMITTING, LaunchState.SUBMITTED):
        repeat = store.launches.advance(repeat, step, who="test", why=None, now=NOW, reference="request:8")
    both = [first.id, other.id]

    tally = store.launch_commands.ask(Ask(Command.RETRY), both, HAND)
    forced = store.launch_commands.ask(Ask(Command.RETRY, force=True), [first.id], HAND)

    assert tally.changed == [other.id]
    assert tally.stayed == {"beside another launch for the same, which is at work": [first.id]}
    assert f"launch {repeat.id} (store/calo/a/round-1) is submitted" in tally.details[first.id]
    assert forced.changed == [first.id]
    store.launches.advance(repeat, LaunchState.FAILED, who="test", why=None, now=NOW)
    first = store.launches.advance(first, LaunchState.RUNNING, who="test", why=None, now=NOW)
    assert store.launch_commands.ask(Ask(Command.RETRY), [repeat.id], HAND).changed == []


def claim(store: Store, owner: str = "w1", now: datetime = NOW) -> list[tuple[int, bool]]:
    errands = store.launch_commands.claim("panda:bnl", owner=owner, lease=LEASE, now=now)
    return [(errand.command.launch_id, errand.doubtful) for errand in errands]


def test_a_command_is_carried_out_by_one_alone(store: Store) -> None:
    """Until its claim has run out, and then whoever takes it over knows that it is doubtful."""
    launch = made(store, "a", LaunchState.RUNNING)
    store.launch_commands.ask(Ask(Command.KILL), [launch.id], HAND)

    assert claim(store) == [(launch.id, False)]
    assert claim(store, "w2", later(599)) == []
    assert claim(store, "w2", later(601)) == [(launch.id, True)]


def test_two_who_claim_at_once_share_the_work(store: Store) -> None:
    """No command goes to both."""
    for number in range(20):
        made(store, f"n{number}", LaunchState.RUNNING)
    store.launch_commands.ask(Ask(Command.KILL), LaunchFilter(workflow="calo"), HAND)
    got: list[tuple[int, bool]] = []
    threads = [threading.Thread(target=lambda name=f"w{n}": got.extend(claim(store, name))) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(got) == [(number, False) for number in range(1, 21)]


def test_a_command_waits_while_its_launch_is_being_sent(store: Store) -> None:
    """Nobody knows yet what there is to be killed. Another engine's commands are left to it."""
    launch = made(store, "a", LaunchState.IN_DOUBT)
    store.launch_commands.ask(Ask(Command.KILL), [launch.id], HAND)

    assert claim(store) == []
    store.launches.advance(launch, LaunchState.SUBMITTED, who="w", why=None, now=NOW, reference="request:7")
    assert store.launch_commands.claim("panda:other", owner="w", lease=LEASE, now=NOW) == []
    assert claim(store) == [(launch.id, False)]


def test_commands_to_one_launch_are_carried_out_in_their_order(store: Store) -> None:
    """Whoever pauses and then resumes wants it to go on; the second waits until the first is settled."""
    launch, other = made(store, "a", LaunchState.RUNNING), made(store, "b", LaunchState.RUNNING)
    store.launch_commands.ask(Ask(Command.PAUSE), [launch.id], HAND)
    store.launch_commands.ask(Ask(Command.RESUME), [launch.id, other.id], HAND)

    assert claim(store) == [(launch.id, False), (other.id, False)]
    store.launch_commands.release(1, owner="w1", lease=LEASE, not_before=later(5))
    assert claim(store, "w2", later(1)) == []
    assert claim(store, "w2", later(6)) == [(launch.id, False)]
    store.launch_commands.settle(1, CommandState.TAKEN, "paused", who="w2", now=later(7))
    assert claim(store, "w2", later(8)) == [(launch.id, False)]
    assert [each.command for each in store.launch_commands.of(launch.id) if each.state is CommandState.WANTED] == [
        Command.RESUME
    ]


def test_a_command_is_settled_once_and_may_be_given_back_before(store: Store) -> None:
    """Given back, it is nobody's doubt; settled, it is never claimed again."""
    launch = made(store, "a", LaunchState.FAILED)
    store.launch_commands.ask(Ask(Command.RETRY), [launch.id], HAND)
    claim(store)
    store.launch_commands.release(1, owner="w2", lease=LEASE, not_before=NOW)  # not his
    assert claim(store) == []
    store.launch_commands.release(1, owner="w1", lease=LEASE, not_before=later(5))
    assert claim(store, now=later(4)) == []
    assert claim(store, now=later(6)) == [(launch.id, False)]
    assert store.launch_commands.retried_since(later(1)) == {launch.id: None}

    store.launch_commands.settle(1, CommandState.TAKEN, "retried", who="w1", now=later(2))
    store.launch_commands.settle(1, CommandState.REFUSED, "late", who="w2", now=later(3))

    (asked,) = store.launch_commands.of(launch.id)
    assert (asked.state, asked.answer, asked.settled_at) == (CommandState.TAKEN, "retried", later(2))
    assert claim(store, now=later(10_000)) == []
    assert store.launch_commands.retried_since(later(2)) == {launch.id: later(2)}
    assert store.launch_commands.retried_since(later(3)) == {}
