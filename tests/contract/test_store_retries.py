"""What the store promises of retries by policy: what is due is found, and each decision is written once."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.core.by_hand import Hand, Tally
from orchestrator.core.gates import EVERYTHING, Subject
from orchestrator.core.matching import RuleSet
from orchestrator.core.retrying import Wanted
from orchestrator.store.launch_commands import Ask
from orchestrator.store.launches import Intent
from orchestrator.store.store import Store
from schemas.dispatch import DispatchId
from schemas.failure_class import FailureClass
from schemas.gate import Kind
from schemas.launch import Command, CommandState, Launch, LaunchState, StepProgress, StepState
from schemas.retry import RetryPolicy, StepRetry
from tests.unit.making import NOW, UNMATCHED, frame, later, rule

ENGINE = "panda:bnl"
AFTER = timedelta(minutes=5)
DUE = NOW + AFTER
AGAIN = DUE + timedelta(minutes=1)
POLICY = RetryPolicy(
    steps={
        "combine": StepRetry(attempts=2, classes=(FailureClass.SITE,), after=AFTER),
        "reco": StepRetry(attempts=0, after=timedelta(0)),
    }
)
WANTED = (Wanted("combine", {"ramCount": "3000"}, "2 jobs failed (2 memory)"), Wanted("reco", {}, "it goes along"))


def made(
    store: Store,
    name: str,
    state: LaunchState = LaunchState.FAILED,
    *,
    policy: RetryPolicy | None = POLICY,
    engine: str = ENGINE,
    now: datetime = NOW,
    key: str | None = None,
    dispatch: DispatchId | None = None,
) -> Launch:
    steps = [StepProgress(name=step, state=StepState.WAITING) for step in ("combine", "reco")]
    intent = Intent(key or f"store/{name}", name, dispatch, "calo", {}, {}, {}, engine, steps, retry=policy)
    launch = store.launches.intend(intent, who="test", now=now)
    for target in dict.fromkeys((LaunchState.SUBMITTING, LaunchState.SUBMITTED, state)):
        launch = store.launches.advance(launch, target, who="test", why=None, now=now, reference="request:7")
    return launch


def due(store: Store, now: datetime = DUE) -> list[str]:
    return [each.name for each in store.launch_retries.due(ENGINE, now=now)]


def put_in_force(store: Store, group: str | None, *, enabled: bool = True) -> RuleSet:
    """The rule `raw`, in this group."""
    revision = store.rules.apply([rule(group=group, enabled=enabled)], prune=True, who="test", now=NOW).revision
    return RuleSet(revision, store.rules.in_force()[1], UNMATCHED)


def dispatched(store: Store, group: str | None = None) -> DispatchId:
    """A dispatch of the rule `raw`."""
    store.messages.take_in([frame(name="DS")], origin="broker", now=NOW)
    (id_,) = store.dispatches.judge(put_in_force(store, group), now=NOW, limit=9).dispatches
    return DispatchId(id_)


def stop(store: Store, subject: Subject) -> None:
    store.suspensions.suspend(subject, who="cli:alice", why="the disk is full", now=NOW)


def start(store: Store, subject: Subject) -> None:
    store.suspensions.resume(subject, who="cli:alice", why="mended", now=NOW)


def kill(store: Store, *launches: Launch, step: str | None = None, dry_run: bool = False) -> Tally:
    hand = Hand("cli:alice", "leave it", DUE, dry_run)
    return store.launch_commands.ask(Ask(Command.KILL, step), [launch.id for launch in launches], hand)


def claim(store: Store) -> list[tuple[Command, str]]:
    """Who carries commands out takes what there is: each command, and who asked for it."""
    found = store.launch_commands.claim(ENGINE, owner="commander", lease=AFTER, now=DUE)
    return [(errand.command.command, errand.command.who) for errand in found]


def said(store: Store, launch: Launch) -> list[str]:
    return [each.why or "" for each in store.journal.of("launch", launch.id) if each.who == "policy"]


def test_a_policy_is_kept_with_its_launch(store: Store) -> None:
    assert store.launches.get(made(store, "a").id).retry == POLICY
    assert store.launches.get(made(store, "b", policy=None).id).retry is None


def test_what_has_failed_is_due_once_the_policy_lets_it(store: Store) -> None:
    """The soonest of the steps that are retried at all; of this engine alone, those that wait longest first."""
    made(store, "second", LaunchState.PARTLY_FINISHED, now=later(1))
    made(store, "first")
    made(store, "elsewhere", engine="panda:mit")
    for state in (LaunchState.RUNNING, LaunchState.FINISHED, LaunchState.KILLED):
        made(store, state, state)
    made(store, "without", policy=None)

    assert due(store, DUE - timedelta(seconds=1)) == []
    assert due(store, DUE + timedelta(seconds=1)) == ["first", "second"]


def test_what_runs_again_is_not_due_until_it_ends_again(store: Store) -> None:
    launch = made(store, "a")

    launch = store.launches.advance(launch, LaunchState.RUNNING, who="test", why=None, now=NOW)
    assert (launch.retry_at, due(store)) == (None, [])

    launch = store.launches.advance(launch, LaunchState.FAILED, who="test", why=None, now=DUE)
    assert (launch.retry_at, due(store)) == (DUE + AFTER, [])


def test_what_is_asked_is_written_with_who_why_and_parameters(store: Store) -> None:
    """And looked at again later: the engine may refuse it."""
    launch = made(store, "a")

    assert store.launch_retries.ask(launch, WANTED, look_again_at=AGAIN, now=DUE) is None

    asked = store.launch_commands.of(launch.id)
    assert [(each.command, each.step, each.parameters) for each in asked] == [
        (Command.RETRY, "combine", {"ramCount": "3000"}),
        (Command.RETRY, "reco", {}),
    ]
    assert {(each.who, each.state, each.asked_at) for each in asked} == {("policy", CommandState.WANTED, DUE)}
    assert said(store, launch)[0] == "retry was asked for step combine with ramCount = 3000: 2 jobs failed (2 memory)"
    assert (due(store), due(store, AGAIN)) == ([], ["a"])


def test_of_two_who_decide_one_does(store: Store) -> None:
    """Whatever they decided."""
    first = second = made(store, "a")
    store.launch_retries.ask(first, WANTED, look_again_at=AGAIN, now=DUE)

    assert store.launch_retries.ask(second, WANTED, look_again_at=AGAIN, now=DUE) is not None
    assert not store.launch_retries.leave(second, "no reason", now=DUE)
    assert not store.launch_retries.postpone(second, AGAIN)
    assert len(store.launch_commands.of(first.id)) == 2


def test_what_somebody_has_brought_back_meanwhile_is_not_asked_for(store: Store) -> None:
    seen = made(store, "a")
    store.launches.advance(seen, LaunchState.RUNNING, who="test", why=None, now=NOW)

    assert store.launch_retries.ask(seen, WANTED, look_again_at=AGAIN, now=DUE) is not None
    assert store.launch_commands.of(seen.id) == []


def test_a_retry_that_a_person_has_asked_for_is_enough(store: Store) -> None:
    launch = made(store, "a")
    store.launch_commands.ask(Ask(Command.RETRY), [launch.id], Hand("cli:me", "again", NOW))

    assert store.launch_retries.ask(launch, WANTED, look_again_at=AGAIN, now=DUE) == "somebody has asked for a retry"
    assert [each.who for each in store.launch_commands.of(launch.id)] == ["cli:me"]
    assert due(store, AGAIN) == ["a"]


def test_why_it_is_left_is_said_once(store: Store) -> None:
    launch = made(store, "a")

    assert store.launch_retries.leave(launch, "combine: 3 jobs failed of class payload", now=DUE)

    assert said(store, launch) == ["not retried by policy: combine: 3 jobs failed of class payload"]
    assert (due(store, AGAIN), store.launches.get(launch.id).retry_at) == ([], None)
    assert store.launches.get(launch.id).state is LaunchState.FAILED


def test_nothing_is_asked_beside_a_rival(store: Store) -> None:
    """Both would write the same; the journal names it."""
    launch = made(store, "a")
    rival = made(store, "a-r1", LaunchState.RUNNING, key=f"{launch.key}/round-1")

    why = store.launch_retries.ask(launch, WANTED, look_again_at=AGAIN, now=DUE)

    assert why is not None
    assert f"launch {rival.id} (a-r1) is running" in why
    assert store.launch_commands.of(launch.id) == []
    assert said(store, launch) == [f"not retried by policy: {why}"]
    assert due(store, AGAIN) == []


@pytest.mark.parametrize("state", [LaunchState.FAILED, LaunchState.PARTLY_FINISHED])
def test_what_is_put_off_is_due_later(store: Store, state: LaunchState) -> None:
    launch = made(store, "a", state)

    assert store.launch_retries.postpone(launch, AGAIN)

    assert (due(store), due(store, AGAIN)) == ([], ["a"])


def test_what_is_due_is_found_by_the_index(tmp_path: Path) -> None:
    """However many launches have ended. PostgreSQL has the same index, and looks at tables that are as large."""
    store = Store.open(f"sqlite:///{tmp_path / 'muleteer.db'}")
    query = "EXPLAIN QUERY PLAN SELECT * FROM launches WHERE retry_at <= '2027' AND engine = 'e' ORDER BY retry_at"

    with store.database.read() as connection:
        plan = " ".join(str(row) for row in connection.exec_driver_sql(query))
    store.close()

    assert "ix_launches_retry" in plan, plan


# While something stands still.

RAW, RECO = Subject(Kind.RULE, "raw"), Subject(Kind.GROUP, "reco")


@pytest.mark.parametrize("subject", [RAW, RECO, EVERYTHING])
def test_what_is_suspended_is_not_due_until_it_goes_on(store: Store, subject: Subject) -> None:
    """Whether its rule, its rule's group or everything stands still; then it is at once."""
    launch = made(store, "a", dispatch=dispatched(store, "reco"))
    stop(store, subject)

    held = store.launch_retries.held_up_by(launch)
    assert (due(store, AGAIN), held is not None and (held.kind, held.who)) == ([], (subject.kind, "cli:alice"))

    start(store, subject)
    assert (due(store, AGAIN), store.launch_retries.held_up_by(launch)) == (["a"], None)
    assert store.launches.get(launch.id).retry_at == launch.retry_at


def test_a_launch_by_hand_is_held_up_by_everything_alone(store: Store) -> None:
    """And one of another rule by neither: those that may are due, however many may not."""
    of_rule = dispatched(store, "reco")
    for number in range(5):
        made(store, f"held-{number}", dispatch=of_rule)
    made(store, "by-hand", now=later(1))
    stop(store, RAW)
    stop(store, RECO)

    assert [each.name for each in store.launch_retries.due(ENGINE, now=later(3600), limit=2)] == ["by-hand"]

    stop(store, EVERYTHING)
    assert due(store, later(3600)) == []


def test_the_group_that_counts_is_the_rules_group_of_now(store: Store) -> None:
    """Of a rule that is not in force any more, the one that it had then."""
    made(store, "a", dispatch=dispatched(store, "reco"))
    stop(store, RECO)

    put_in_force(store, "other")
    assert due(store) == ["a"]

    store.rules.apply([rule("spare")], prune=True, who="test", now=NOW)
    assert due(store) == []


def test_what_is_suspended_while_it_is_decided_about_is_not_asked_for(store: Store) -> None:
    """Nor is it lost."""
    launch = made(store, "a", dispatch=dispatched(store))
    stop(store, RAW)

    why = store.launch_retries.ask(launch, WANTED, look_again_at=AGAIN, now=DUE)

    assert why == "rule raw is suspended"
    assert store.launch_commands.of(launch.id) == []
    start(store, RAW)
    assert due(store) == ["a"]


# Called off.


@pytest.mark.parametrize("state", [LaunchState.FAILED, LaunchState.PARTLY_FINISHED])
def test_to_kill_what_has_failed_calls_its_coming_retry_off(store: Store, state: LaunchState) -> None:
    """With who and why. Whoever decides at that moment comes too late; a dry run changes nothing."""
    launch = made(store, "a", state)

    dry = kill(store, launch, dry_run=True)
    before = (store.launches.get(launch.id), store.launch_commands.of(launch.id))
    tally = kill(store, launch)

    assert before == (launch, [])
    assert dry == tally == Tally(changed=[launch.id], remarks={"over already: the coming retry is called off": [1]})
    assert store.launch_retries.ask(launch, WANTED, look_again_at=AGAIN, now=DUE) is not None
    assert not store.launch_retries.postpone(launch, AGAIN)
    (asked,) = store.launch_commands.of(launch.id)
    assert (asked.command, asked.who, asked.why, asked.state) == (
        Command.KILL,
        "cli:alice",
        "leave it",
        CommandState.TAKEN,
    )
    last = store.journal.of("launch", launch.id)[-1]
    assert (last.who, last.to_state, last.why) == ("cli:alice", state, "the coming retry is called off: leave it")
    assert (store.launches.get(launch.id).state, due(store, AGAIN), claim(store)) == (state, [], [])


def test_what_the_policy_has_asked_for_is_called_off_before_it_is_carried_out(store: Store) -> None:
    """It is refused, and says why."""
    launch = made(store, "a")
    store.launch_retries.ask(launch, WANTED, look_again_at=AGAIN, now=DUE)

    tally = kill(store, launch)

    assert (tally.changed, claim(store), due(store, AGAIN)) == ([launch.id], [], [])
    asked = [(each.command, each.state, each.answer) for each in store.launch_commands.of(launch.id)]
    assert asked == [
        (Command.RETRY, CommandState.REFUSED, "called off by cli:alice: leave it"),
        (Command.RETRY, CommandState.REFUSED, "called off by cli:alice: leave it"),
        (Command.KILL, CommandState.TAKEN, "the coming retry is called off"),
    ]
    assert store.journal.of("command", 1)[-1].who == "cli:alice"


def test_a_retry_that_is_being_carried_out_is_killed_after_it(store: Store) -> None:
    """Nobody knows yet whether the engine takes it. Either way nothing more is decided."""
    launch = made(store, "a")
    store.launch_retries.ask(launch, WANTED[:1], look_again_at=AGAIN, now=DUE)
    assert claim(store) == [(Command.RETRY, "policy")]

    tally = kill(store, launch)
    waits = claim(store)
    store.launch_commands.settle(1, CommandState.TAKEN, "done", who="commander", now=DUE)

    assert (tally.changed, tally.remarks) == ([launch.id], {})
    assert tally.details == {launch.id: "it is being retried at this moment, and killed after that"}
    assert (waits, claim(store)) == ([], [(Command.KILL, "cli:alice")])
    assert due(store, AGAIN) == []


def test_with_no_retry_to_come_there_is_nothing_to_kill(store: Store) -> None:
    """Nor is one step of a coming retry called off by itself."""
    without, one_step, decided = made(store, "a", policy=None), made(store, "b"), made(store, "c")
    store.launch_retries.leave(decided, "nothing helps", now=DUE)

    assert kill(store, without, decided) == Tally(stayed={"failed": [without.id, decided.id]})
    assert kill(store, one_step, step="combine") == Tally(stayed={"failed": [one_step.id]})
    assert due(store) == ["b"]


def test_what_a_person_has_retried_after_that_is_under_its_policy_again(store: Store) -> None:
    launch = made(store, "a")
    kill(store, launch)
    store.launch_commands.ask(Ask(Command.RETRY), [launch.id], Hand("cli:bob", "after all", DUE))
    assert claim(store) == [(Command.RETRY, "cli:bob")]

    launch = store.launches.advance(store.launches.get(launch.id), LaunchState.RUNNING, who="test", why=None, now=DUE)
    store.launches.advance(launch, LaunchState.FAILED, who="test", why=None, now=DUE)

    assert due(store, DUE + AFTER) == ["a"]


def test_whoever_is_first_nothing_is_retried_once_it_is_called_off(store: Store) -> None:
    """One decides, one carries out, one calls off, all at once: what was not begun by then never begins."""
    many = [made(store, f"a-{number}") for number in range(12)]
    begun: set[int] = set()
    together = threading.Barrier(3)

    def decide() -> None:
        together.wait()
        for launch in many:
            store.launch_retries.ask(launch, WANTED[:1], look_again_at=AGAIN, now=DUE)

    def carry_out() -> None:
        together.wait()
        for _ in range(12):
            for errand in store.launch_commands.claim(ENGINE, owner="commander", lease=AFTER, now=DUE, limit=2):
                if errand.command.command is Command.RETRY:
                    begun.add(errand.command.launch_id)

    def call_off() -> None:
        together.wait()
        for launch in many:
            kill(store, launch)

    threads = [threading.Thread(target=each) for each in (decide, carry_out, call_off)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert due(store, AGAIN) == []
    for launch in many:
        commands = store.launch_commands.of(launch.id)
        wanted = {each.command for each in commands if each.state is CommandState.WANTED}
        assert Command.KILL in {each.command for each in commands}, commands
        assert wanted == ({Command.RETRY, Command.KILL} if Command.RETRY in wanted else wanted & {Command.KILL})
        assert (Command.RETRY in wanted) <= (launch.id in begun), commands


def test_a_retry_of_a_whole_launch_is_kept_with_the_steps_that_it_is_for(store: Store) -> None:
    launch = made(store, "a")
    wanted = (Wanted(None, {}, "both failed", ("combine", "reco")),)

    store.launch_retries.ask(launch, wanted, look_again_at=AGAIN, now=DUE)
    store.launch_commands.ask(
        Ask(Command.KILL, "reco"), [made(store, "b", LaunchState.RUNNING).id], Hand("me", "", NOW)
    )

    assert [each.attempt_of for each in store.launch_commands.of(launch.id)] == [("combine", "reco")]
    assert [each.attempt_of for each in store.launch_commands.of(store.launches.list()[0].id)] == [()]
