"""What people ask of launches is carried out once, by whoever reaches the engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.core.by_hand import Hand
from orchestrator.launch.commands import Commander
from orchestrator.panda.port import EngineInDoubt, EngineRefused, EngineUnavailable, Tracked, UnknownSubmission
from orchestrator.store.launch_commands import Ask
from orchestrator.store.launches import Intent
from orchestrator.store.store import Store
from schemas.launch import Command, CommandState, Launch, LaunchCommand, LaunchState
from tests.unit.launch.playing import NOW, PlayedEngine

LATER = NOW + timedelta(minutes=11)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{tmp_path / 'muleteer.db'}")
    yield opened
    opened.close()


@pytest.fixture
def engine() -> PlayedEngine:
    return PlayedEngine()


def launched(store: Store, name: str, *way: LaunchState) -> Launch:
    launch = store.launches.intend(Intent(name, name, None, "w", {}, {}, {}, "played:1", ()), who="test", now=NOW)
    reference = f"ref:{name}" if way else None
    for state in (LaunchState.SUBMITTING, LaunchState.SUBMITTED, *way) if way else ():
        launch = store.launches.advance(launch, state, who="test", why=None, now=NOW, reference=reference)
    return launch


def ask(store: Store, command: Command, *launches: Launch, **parameters: str) -> None:
    hand = Hand("cli:me", "it went wrong", NOW)
    store.launch_commands.ask(Ask(command, None, parameters), [launch.id for launch in launches], hand)


def carry_out(store: Store, engine: PlayedEngine, now: datetime = NOW) -> None:
    Commander(store.launches, store.launch_commands, engine, clock=lambda: now).carry_out()


def asked(store: Store, launch: Launch) -> LaunchCommand:
    (command,) = store.launch_commands.of(launch.id)
    return command


def test_a_command_reaches_the_engine_once_and_its_answer_is_kept(store: Store, engine: PlayedEngine) -> None:
    """With its parameters; the next turn finds nothing to do."""
    launch = launched(store, "a", LaunchState.FAILED)
    ask(store, Command.RETRY, launch, ramCount="4000")

    carry_out(store, engine)
    carry_out(store, engine)

    assert engine.commands == [("a", Command.RETRY, None, {"ramCount": "4000"})]
    assert (asked(store, launch).state, asked(store, launch).answer) == (CommandState.TAKEN, "retry: done")


@pytest.mark.parametrize("ended", [LaunchState.FAILED, LaunchState.PARTLY_FINISHED, LaunchState.KILLED])
def test_what_is_retried_runs_again(store: Store, engine: PlayedEngine, ended: LaunchState) -> None:
    """The launch is followed as before; who had it retried stands in its journal."""
    launch = launched(store, "a", ended)
    ask(store, Command.RETRY, launch)

    carry_out(store, engine)

    now = store.launches.get(launch.id)
    assert (now.state, now.reason) == (LaunchState.RUNNING, "retried by cli:me: retry: done")
    assert [each.id for each in store.launches.active("played:1")] == [launch.id]


@pytest.mark.parametrize("error", [EngineRefused("not yours"), UnknownSubmission("no such thing"), ZeroDivisionError()])
def test_a_refusal_is_the_answer_and_keeps_no_other_command(
    store: Store, engine: PlayedEngine, error: Exception
) -> None:
    """Also what nobody foresaw is said once, and not asked again."""
    first, second = launched(store, "a", LaunchState.RUNNING), launched(store, "b", LaunchState.RUNNING)
    ask(store, Command.KILL, first, second)
    engine.objections = [error]

    carry_out(store, engine)

    states = sorted([str(asked(store, launch).state) for launch in (first, second)])
    assert states == ["refused", "taken"]
    assert len(engine.commands) == 1


def test_while_the_engine_is_away_a_command_waits(store: Store, engine: PlayedEngine) -> None:
    """And is carried out once it is back; it is not asked for at every turn."""
    launch = launched(store, "a", LaunchState.RUNNING)
    ask(store, Command.KILL, launch)
    engine.objections = [EngineUnavailable("away")]

    states = []
    for seconds in (0, 1, 6):
        carry_out(store, engine, NOW + timedelta(seconds=seconds))
        states.append(asked(store, launch).state)

    assert states == [CommandState.WANTED, CommandState.WANTED, CommandState.TAKEN]


class Choosy(PlayedEngine):
    """An engine that can do nothing for the time being, but for one."""

    def command(self, tracked: Tracked, command: Command, step: str | None, parameters: Mapping[str, str]) -> str:
        if tracked.name != "late":
            raise EngineUnavailable("not yet")
        return super().command(tracked, command, step, parameters)


def test_commands_that_have_to_wait_keep_no_others(store: Store) -> None:
    """However many there are: those that nobody has tried go first."""
    engine = Choosy()
    ask(store, Command.KILL, *[launched(store, f"a{number}", LaunchState.RUNNING) for number in range(60)])
    late = launched(store, "late", LaunchState.RUNNING)
    ask(store, Command.KILL, late)

    for seconds in (0, 10):
        carry_out(store, engine, NOW + timedelta(seconds=seconds))

    assert asked(store, late).state is CommandState.TAKEN


def test_what_ends_while_it_is_retried_is_followed_again(store: Store, engine: PlayedEngine) -> None:
    """One step had failed, the last of the others ended while the engine was asked: the retried one runs."""
    launch = launched(store, "a", LaunchState.RUNNING)
    ask(store, Command.RETRY, launch)
    running = store.launches.get(launch.id)

    def end() -> None:
        store.launches.advance(running, LaunchState.PARTLY_FINISHED, who="watcher", why=None, now=NOW)

    engine.acting = end

    carry_out(store, engine)

    assert asked(store, launch).state is CommandState.TAKEN
    assert store.launches.get(launch.id).state is LaunchState.RUNNING


def test_what_does_no_harm_twice_is_asked_again_after_a_doubt(store: Store, engine: PlayedEngine) -> None:
    """To kill what was killed changes nothing."""
    launch = launched(store, "a", LaunchState.RUNNING)
    ask(store, Command.KILL, launch)
    engine.objections = [EngineInDoubt("no answer")]

    carry_out(store, engine)
    carry_out(store, engine, NOW + timedelta(seconds=6))

    assert (asked(store, launch).state, len(engine.commands)) == (CommandState.TAKEN, 1)


def test_a_retry_in_doubt_is_not_asked_again_but_looked_at(store: Store, engine: PlayedEngine) -> None:
    """A second one would run again what has just failed again. If it was taken, following the launch tells."""
    launch = launched(store, "a", LaunchState.FAILED)
    ask(store, Command.RETRY, launch)
    engine.objections = [EngineInDoubt("no answer")]

    carry_out(store, engine)
    carry_out(store, engine)

    command = asked(store, launch)
    assert (command.state, engine.commands) == (CommandState.REFUSED, [])
    assert "nobody knows" in (command.answer or "")
    assert store.launches.get(launch.id).state is LaunchState.RUNNING


@pytest.mark.parametrize(("command", "sent"), [(Command.KILL, 1), (Command.RETRY, 0)])
def test_a_process_that_died_with_a_command_in_hand_leaves_a_doubt(
    store: Store, engine: PlayedEngine, command: Command, sent: int
) -> None:
    """Another takes it over once the claim has run out, and asks again only if that does no harm."""
    launch = launched(store, "a", LaunchState.RUNNING)
    ask(store, command, launch)
    store.launch_commands.claim("played:1", owner="dead", lease=timedelta(minutes=10), now=NOW)

    Commander(store.launches, store.launch_commands, engine, clock=lambda: NOW).carry_out()
    assert engine.commands == []
    Commander(store.launches, store.launch_commands, engine, clock=lambda: LATER).carry_out()

    assert len(engine.commands) == sent
    assert asked(store, launch).state is not CommandState.WANTED


def test_what_was_never_sent_is_killed_without_the_engine(store: Store, engine: PlayedEngine) -> None:
    """The launch says who did it."""
    launch = launched(store, "a")
    ask(store, Command.KILL, launch)

    carry_out(store, engine)

    now = store.launches.get(launch.id)
    assert (now.state, engine.commands) == (LaunchState.KILLED, [])
    assert "cli:me" in (now.reason or "")


def test_a_launch_that_has_ended_meanwhile_is_left_alone(store: Store, engine: PlayedEngine) -> None:
    """The answer says so."""
    launch = launched(store, "a", LaunchState.RUNNING)
    ask(store, Command.PAUSE, launch)
    store.launches.advance(launch, LaunchState.FINISHED, who="w", why=None, now=NOW)

    carry_out(store, engine)

    assert engine.commands == []
    assert asked(store, launch).answer == "the launch is finished: pause does not fit"
