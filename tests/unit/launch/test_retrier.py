"""Deciding about launches: in turn, whatever is odd about one of them, and said once while it cannot be done."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from orchestrator.core.by_hand import Hand
from orchestrator.core.failures import Table
from orchestrator.core.gates import EVERYTHING
from orchestrator.launch.commands import Commander
from orchestrator.launch.failure_table import read_table
from orchestrator.launch.retrying import Retrier
from orchestrator.panda.port import EngineRefused, EngineUnavailable, Tracked, UnknownSubmission
from orchestrator.settings import ConfigurationError
from orchestrator.store.launch_commands import Ask
from orchestrator.store.launches import Intent
from orchestrator.store.store import Store
from schemas.failure import Complaint, FailedJob, FailedJobs, Source
from schemas.failure_class import FailureClass
from schemas.launch import Command, CommandState, Launch, LaunchCommand, LaunchState, StepProgress, StepState
from schemas.retry import RetryPolicy, StepRetry
from tests.unit.launch.playing import NOW, PlayedEngine

POLICY = RetryPolicy(steps={"reco": StepRetry(attempts=2, classes=(FailureClass.SITE,), after=timedelta(0))})
JOBS = FailedJobs(jobs=(FailedJob(step="reco", complaints=(Complaint(Source.PILOT, 1098, "no room"),)),))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{tmp_path / 'muleteer.db'}")
    yield opened
    opened.close()


class Odd(PlayedEngine):
    """An engine that stumbles over some."""

    def failures(self, tracked: Tracked, step: str | None = None) -> FailedJobs:
        if tracked.name in self.broken:
            raise ZeroDivisionError(tracked.name)
        return super().failures(tracked, step)


@pytest.fixture
def engine() -> Odd:
    return Odd()


def failed(store: Store, engine: PlayedEngine, name: str, *, reference: str | None = "r") -> Launch:
    step = StepProgress(name="reco", state=StepState.FAILED)
    intent = Intent(name, name, None, "w", {}, {}, {}, engine.identity, [step], retry=POLICY)
    launch = store.launches.intend(intent, who="test", now=NOW)
    ways = (LaunchState.SUBMITTING, LaunchState.SUBMITTED, LaunchState.FAILED) if reference else (LaunchState.FAILED,)
    for state in ways:
        launch = store.launches.advance(launch, state, who="test", why=None, now=NOW, reference=reference)
    engine.failed[name] = JOBS
    return launch


def retrier(store: Store, engine: PlayedEngine, now: datetime = NOW) -> Retrier:
    def table() -> Table:
        return read_table(Path("/nowhere"))

    launches, commands, retries = store.launches, store.launch_commands, store.launch_retries
    return Retrier(launches, commands, retries, engine, table, clock=lambda: now)


def commander(store: Store, engine: PlayedEngine, now: datetime = NOW) -> Commander:
    return Commander(store.launches, store.launch_commands, engine, clock=lambda: now)


def asked(store: Store, launch: Launch) -> list[LaunchCommand]:
    return list(store.launch_commands.of(launch.id))


def said(store: Store, launch: Launch) -> str:
    return [each.why or "" for each in store.journal.of("launch", launch.id)][-1]


def test_one_that_is_odd_keeps_no_other(store: Store, engine: Odd) -> None:
    """It is left alone for a while."""
    odd, next_ = failed(store, engine, "odd"), failed(store, engine, "next")
    engine.broken.add("odd")

    with capture_logs() as logs:
        retrier(store, engine).decide()
        retrier(store, engine).decide()

    assert (len(asked(store, odd)), len(asked(store, next_))) == (0, 1)
    assert [each["event"] for each in logs].count("retry.defect") == 1
    engine.broken.clear()
    retrier(store, engine, NOW + timedelta(hours=1)).decide()
    assert len(asked(store, odd)) == 1


def test_an_engine_that_is_away_is_asked_again_later_and_that_is_said_once(store: Store, engine: Odd) -> None:
    launches = [failed(store, engine, name) for name in ("a", "b", "c")]
    engine.away = EngineUnavailable("away")
    deciding = retrier(store, engine)

    with capture_logs() as logs:
        for _ in range(3):
            deciding.decide()
    assert [each["event"] for each in logs] == ["retry.waits"]
    assert len(engine.asked_why) == 3

    engine.away = None
    retrier(store, engine, NOW + timedelta(minutes=1)).decide()
    assert [len(asked(store, launch)) for launch in launches] == [1, 1, 1]


def test_while_the_table_cannot_be_read_nothing_is_lost(store: Store, engine: Odd) -> None:
    launch = failed(store, engine, "a")

    def broken() -> Table:
        raise ConfigurationError("failures.yaml:3: there is no such field")

    deciding = Retrier(store.launches, store.launch_commands, store.launch_retries, engine, broken, clock=lambda: NOW)
    with capture_logs() as logs:
        deciding.decide()
        deciding.decide()

    assert ["failures.yaml:3" in str(each["reason"]) for each in logs] == [True]
    retrier(store, engine).decide()
    assert len(asked(store, launch)) == 1


@pytest.mark.parametrize("error", [EngineRefused("not yours"), UnknownSubmission("no such thing")])
def test_what_the_engine_does_not_tell_is_left(
    store: Store, engine: Odd, error: EngineRefused | UnknownSubmission
) -> None:
    launch = failed(store, engine, "a")
    engine.errors["a"] = error

    retrier(store, engine).decide()

    assert said(store, launch) == f"not retried by policy: the engine does not tell what failed: {error}"


def test_a_launch_that_never_reached_its_engine_is_left_unasked(store: Store, engine: Odd) -> None:
    launch = failed(store, engine, "a", reference=None)

    retrier(store, engine).decide()

    assert said(store, launch) == "not retried by policy: it never reached its engine"
    assert engine.asked_why == []


def test_a_retry_that_the_engine_refuses_is_an_attempt(store: Store, engine: Odd) -> None:
    """It is asked for as often as the policy says, and then the launch stays as it is."""
    launch = failed(store, engine, "a")
    engine.objections = [EngineRefused("not now")] * 9
    for minutes in range(0, 20, 2):
        now = NOW + timedelta(minutes=minutes)
        retrier(store, engine, now).decide()
        commander(store, engine, now).carry_out()

    assert [each.state for each in asked(store, launch)] == [CommandState.REFUSED] * 2
    assert said(store, launch).endswith("after 2 of 2 retries")


def test_while_everything_is_stopped_nothing_is_retried_and_then_it_is(store: Store, engine: Odd) -> None:
    """Not even looked at: however many have failed, and whenever it goes on."""
    launch = failed(store, engine, "a")
    store.suspensions.suspend(EVERYTHING, who="alice", why="the disk is full", now=NOW)
    late = NOW + timedelta(hours=1)

    retrier(store, engine, late).decide()
    assert (asked(store, launch), engine.asked_why) == ([], [])

    store.suspensions.resume(EVERYTHING, who="alice", why="there is room", now=late)
    retrier(store, engine, late).decide()
    assert [each.command for each in asked(store, launch)] == [Command.RETRY]


class Asked(Odd):
    """While it is asked why something has failed, a person calls the retry off."""

    store: Store

    def failures(self, tracked: Tracked, step: str | None = None) -> FailedJobs:
        self.store.launch_commands.ask(Ask(Command.KILL), [launch.id for launch in self.store.launches.list()], HAND)
        return super().failures(tracked, step)


HAND = Hand("alice", "leave it", NOW)


def test_what_is_called_off_while_it_is_decided_about_is_not_retried(store: Store) -> None:
    engine = Asked()
    engine.store = store
    launch = failed(store, engine, "a")

    retrier(store, engine).decide()
    retrier(store, engine, NOW + timedelta(hours=1)).decide()

    assert [(each.command, each.who) for each in asked(store, launch)] == [(Command.KILL, "alice")]
    assert store.launches.get(launch.id).retry_at is None


@pytest.mark.parametrize("refuses", [False, True])
def test_what_is_called_off_while_it_is_being_retried_is_killed_or_stays(
    store: Store, engine: Odd, refuses: bool
) -> None:
    """Killed if the engine takes the retry; else there is nothing to kill, and it is not retried again."""
    launch = failed(store, engine, "a")
    retrier(store, engine).decide()
    carrying_out = commander(store, engine)

    def call_off() -> None:
        engine.acting = lambda: None
        store.launch_commands.ask(Ask(Command.KILL), [launch.id], HAND)

    engine.acting = call_off
    engine.objections = [EngineRefused("not now")] if refuses else []
    carrying_out.carry_out()
    carrying_out.carry_out()
    retrier(store, engine, NOW + timedelta(hours=1)).decide()

    done = [command for _, command, _, _ in engine.commands]
    assert done == ([] if refuses else [Command.RETRY, Command.KILL])
    assert store.launches.get(launch.id).state is (LaunchState.FAILED if refuses else LaunchState.RUNNING)
    assert [each.command for each in asked(store, launch)] == [Command.RETRY, Command.KILL]
