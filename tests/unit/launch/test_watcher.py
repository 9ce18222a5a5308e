"""Launches are followed to their end, by whoever reaches their engine, and one odd launch keeps no other back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from orchestrator.core.by_hand import Hand
from orchestrator.core.registering import Policy
from orchestrator.launch.commands import Commander
from orchestrator.launch.outputs import Outputs
from orchestrator.launch.watcher import Watcher
from orchestrator.panda.port import (
    EngineError,
    EngineUnavailable,
    Progress,
    SubmissionState,
    Tracked,
    UnknownSubmission,
)
from orchestrator.register.filler import Filler
from orchestrator.register.reading import Reader
from orchestrator.register.registrar import Registrar
from orchestrator.register.sources import Sources
from orchestrator.register.summing import Summing
from orchestrator.rucio.embedded.catalog import LocalCatalog
from orchestrator.rucio.embedded.describing import describe_file
from orchestrator.rucio.port import Catalog
from orchestrator.store.launch_commands import Ask
from orchestrator.store.launches import Intent
from orchestrator.store.store import Store
from schemas.did import Did
from schemas.launch import Command, FileCounts, Launch, LaunchState, StepProgress, StepState
from tests.services.catalog import Faulty, When
from tests.unit.launch.playing import NOW, PlayedEngine, receipt

OUT = Did("group.sphenix", "rn00021615-CALOR-DST")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{tmp_path / 'muleteer.db'}")
    yield opened
    opened.close()


@pytest.fixture
def catalog(tmp_path: Path) -> LocalCatalog:
    return LocalCatalog(tmp_path / "catalog.db", lambda headers, body: None)


@pytest.fixture
def engine() -> PlayedEngine:
    return PlayedEngine()


def outputs_of(store: Store, engine: PlayedEngine, catalog: Catalog) -> Outputs:
    @contextmanager
    def opening(stopping: Callable[[], bool]) -> Iterator[Filler]:
        yield Filler(store.registrations, catalog, Summing(Reader(), min_bytes=0).all, clock=lambda: NOW)

    return Outputs(engine, Registrar(opening, Sources(Path("/")), Policy((), min_bytes=0)))


def watcher(store: Store, engine: PlayedEngine, catalog: LocalCatalog, now: datetime = NOW) -> Watcher:
    return Watcher(store.launches, store.launch_commands, engine, outputs_of(store, engine, catalog), clock=lambda: now)


def intended(store: Store, name: str, engine: str = "played:1", outputs: Mapping[str, str] | None = None) -> Launch:
    intent = Intent(name, name, None, "calorimeter", {}, {}, outputs or {}, engine, ())
    return store.launches.intend(intent, who="test", now=NOW)


def launched(
    store: Store, name: str, state: LaunchState = LaunchState.SUBMITTED, engine: str = "played:1", output: bool = False
) -> Launch:
    launch = intended(store, name, engine, {str(OUT): "calorimeter"} if output else {})
    launch = store.launches.advance(launch, LaunchState.SUBMITTING, who="test", why=None, now=NOW)
    if state is LaunchState.SUBMITTED:
        launch = store.launches.advance(launch, state, who="test", why=None, now=NOW, reference=name)
    return launch


def state_of(store: Store, launch: Launch) -> LaunchState:
    return store.launches.get(launch.id).state


def test_what_nobody_foresaw_about_one_launch_keeps_no_other_back(
    store: Store, engine: PlayedEngine, catalog: LocalCatalog
) -> None:
    """A launch that cannot be looked at stays as it is; those after it are followed."""
    odd, next_ = launched(store, "odd"), launched(store, "next")
    engine.broken, engine.states = {"odd"}, {"next": SubmissionState.FINISHED}

    watcher(store, engine, catalog).look()

    assert (state_of(store, odd), state_of(store, next_)) == (LaunchState.SUBMITTED, LaunchState.FINISHED)


def test_a_launch_of_another_engine_is_left_to_it(store: Store, engine: PlayedEngine, catalog: LocalCatalog) -> None:
    """Several homes may share a store; each follows what its own engine has."""
    theirs = launched(store, "theirs", engine="played:2")

    watcher(store, engine, catalog).look()

    assert state_of(store, theirs) is LaunchState.SUBMITTED


@pytest.mark.parametrize(
    ("after", "there", "expected"),
    [
        (timedelta(minutes=3), True, LaunchState.SUBMITTED),
        (timedelta(minutes=3), False, LaunchState.SUBMITTING),
        (timedelta(minutes=1), True, LaunchState.SUBMITTING),
    ],
)
def test_a_launch_whose_sender_is_gone_is_found_on_the_engine(
    store: Store, engine: PlayedEngine, catalog: LocalCatalog, after: timedelta, there: bool, expected: LaunchState
) -> None:
    """After two minutes nobody is sending it any more: if the engine has it, it is followed."""
    launch = launched(store, "unsure", LaunchState.SUBMITTING)
    engine.states = {"unsure": SubmissionState.RUNNING} if there else {}

    watcher(store, engine, catalog, NOW + after).look()

    assert state_of(store, launch) is expected


def test_a_doubt_that_nobody_settles_ends(store: Store, engine: PlayedEngine, catalog: LocalCatalog) -> None:
    """A person's launch has no dispatch that looks: after the engine's time it can be sent again, or killed."""
    launch = launched(store, "by-hand", LaunchState.SUBMITTING)
    engine.settle = timedelta(minutes=10)
    states = []
    for minutes in (29, 31, 40, 42):
        watcher(store, engine, catalog, NOW + timedelta(minutes=minutes)).look()
        states.append(str(state_of(store, launch)))

    assert states == ["submitting", "in_doubt", "in_doubt", "prepared"]
    assert [entry.who for entry in store.journal.of("launch", launch.id)][-2:] == ["watcher", "watcher"]


def test_outputs_are_registered_and_their_dataset_is_closed(
    store: Store, engine: PlayedEngine, catalog: LocalCatalog, tmp_path: Path
) -> None:
    """A finished launch leaves a closed dataset with its files; looking once more changes nothing."""
    launch = launched(store, "good", output=True)
    made = tmp_path / "made.root"
    made.write_text("events")
    engine.states, engine.files = {"good": SubmissionState.FINISHED}, [made]

    watcher(store, engine, catalog).look()
    watcher(store, engine, catalog).look()

    assert state_of(store, launch) is LaunchState.FINISHED
    assert [file.did.name for file in catalog.files(OUT)] == ["made.root"]


def test_a_dataset_closed_with_other_files_is_not_taken_for_ours(
    store: Store, engine: PlayedEngine, catalog: LocalCatalog, tmp_path: Path
) -> None:
    """When the output dataset is closed and holds what somebody else made, the launch says so."""
    old, new = tmp_path / "old.root", tmp_path / "new.root"
    old.write_text("old")
    new.write_text("new")
    catalog.add_dataset(OUT)
    catalog.attach(OUT, [describe_file(old, OUT.scope)])
    catalog.close(OUT)
    launch = launched(store, "second", output=True)
    engine.states, engine.files = {"second": SubmissionState.FINISHED}, [new]

    watcher(store, engine, catalog).look()

    ended = store.launches.get(launch.id)
    assert ended.state is LaunchState.PARTLY_FINISHED
    assert "holds other files" in (ended.reason or "")


def test_a_catalog_that_is_away_is_asked_once_a_minute(
    store: Store, engine: PlayedEngine, catalog: LocalCatalog, tmp_path: Path
) -> None:
    """However often it is looked; outputs are handed over once it is back."""
    made = tmp_path / "made.root"
    made.write_text("events")
    launch = launched(store, "good", output=True)
    engine.states, engine.files = {"good": SubmissionState.FINISHED}, [made]
    away = Faulty(catalog, {("add_dataset", number): When.BEFORE for number in (1, 2)})
    times = [NOW]
    following = Watcher(
        store.launches, store.launch_commands, engine, outputs_of(store, engine, away), clock=lambda: times[-1]
    )

    for seconds in (0, 1, 30, 59, 61, 62, 100):
        times.append(NOW + timedelta(seconds=seconds))
        following.look()
    assert (away.calls["add_dataset"], state_of(store, launch)) == (2, LaunchState.SUBMITTED)
    times.append(NOW + timedelta(seconds=122))
    following.look()

    assert state_of(store, launch) is LaunchState.FINISHED


def test_an_output_that_is_gone_is_said(
    store: Store, engine: PlayedEngine, catalog: LocalCatalog, tmp_path: Path
) -> None:
    """A file that was made and cannot be read any more ends the launch partly finished, with the path."""
    launch = launched(store, "gone", output=True)
    engine.states, engine.files = {"gone": SubmissionState.FINISHED}, [tmp_path / "gone.root"]

    watcher(store, engine, catalog).look()

    assert state_of(store, launch) is LaunchState.PARTLY_FINISHED
    assert str(tmp_path / "gone.root") in (store.launches.get(launch.id).reason or "")


# Many at once.


def progress(state: SubmissionState, *steps: StepState, files: FileCounts | None = None) -> Progress:
    return Progress(state, tuple(StepProgress(name=f"s{at}", state=step, files=files) for at, step in enumerate(steps)))


def test_all_launches_are_asked_about_with_one_question(
    store: Store, engine: PlayedEngine, catalog: LocalCatalog
) -> None:
    """Each is told what is new of it; of what nothing is new nothing is written."""
    a, b, c = (launched(store, name) for name in "abc")
    half = progress(SubmissionState.RUNNING, StepState.RUNNING, files=FileCounts(total=10, finished=5))
    engine.progress = {"a": half, "b": progress(SubmissionState.FAILED, StepState.FAILED)}

    watcher(store, engine, catalog, NOW + timedelta(minutes=1)).look()
    watcher(store, engine, catalog, NOW + timedelta(minutes=2)).look()

    assert engine.looks == [["a", "b", "c"], ["a", "c"]]
    assert [state_of(store, each) for each in (a, b, c)] == ["running", "failed", "submitted"]
    assert [store.launches.get(each.id).moved_at for each in (a, c)] == [NOW + timedelta(minutes=1), NOW]
    assert len(store.journal.of("launch", a.id)) == 4


def test_one_over_which_the_engine_stumbles_is_found_among_many(
    store: Store, engine: PlayedEngine, catalog: LocalCatalog
) -> None:
    """The others are followed in the same turn."""
    all_ = [launched(store, f"n{number}") for number in range(9)]
    engine.broken = {"n4"}
    engine.states = {f"n{number}": SubmissionState.FAILED for number in range(9)}

    watcher(store, engine, catalog).look()

    assert [each.name for each in all_ if state_of(store, each) is not LaunchState.FAILED] == ["n4"]


def test_while_the_engine_is_away_every_launch_stays(store: Store, engine: PlayedEngine, catalog: LocalCatalog) -> None:
    """Nothing is known, so nothing is written."""
    launch = launched(store, "a")
    engine.away = EngineUnavailable("away")

    watcher(store, engine, catalog).look()

    assert store.launches.get(launch.id) == launch


def test_an_engine_that_has_lost_a_launch_ends_it(store: Store, engine: PlayedEngine, catalog: LocalCatalog) -> None:
    """With the engine's words; the engine knows how long to wait before it says so."""
    launch = launched(store, "a")
    engine.errors = {"a": UnknownSubmission("nobody knows it")}

    watcher(store, engine, catalog).look()

    assert (state_of(store, launch), store.launches.get(launch.id).reason) == (LaunchState.FAILED, "nobody knows it")


def test_what_was_sent_to_start_further_steps_is_kept(
    store: Store, engine: PlayedEngine, catalog: LocalCatalog
) -> None:
    """For engines that start the steps one by one."""
    launch = launched(store, "a")
    engine.progress = {"a": Progress(SubmissionState.RUNNING, (), receipts=(receipt("task 7"), receipt("task 8")))}

    watcher(store, engine, catalog).look()

    assert [each.verdict for each in store.launches.tries(launch.id)] == ["task 7", "task 8"]


def test_the_end_of_before_is_not_taken_for_the_end_of_a_retry(
    store: Store, engine: PlayedEngine, catalog: LocalCatalog
) -> None:
    """The engine may need a while to show that a retry runs; what is new counts at once, and the old after a while."""
    failed = progress(SubmissionState.FAILED, StepState.FAILED, StepState.WAITING)
    engine.progress = {"a": failed, "b": failed}
    a, b = launched(store, "a"), launched(store, "b")
    watcher(store, engine, catalog).look()
    store.launch_commands.ask(Ask(Command.RETRY), [a.id, b.id], Hand("cli:me", "why", NOW))
    Commander(store.launches, store.launch_commands, engine, clock=lambda: NOW).carry_out()
    engine.progress["b"] = progress(SubmissionState.FAILED, StepState.FINISHED, StepState.FAILED)

    watcher(store, engine, catalog, NOW + timedelta(minutes=14)).look()
    soon = [state_of(store, each) for each in (a, b)]
    watcher(store, engine, catalog, NOW + timedelta(minutes=16)).look()

    assert soon == [LaunchState.RUNNING, LaunchState.FAILED]
    assert state_of(store, a) is LaunchState.FAILED


def test_a_retry_that_was_seen_at_work_ends_at_once(store: Store, engine: PlayedEngine, catalog: LocalCatalog) -> None:
    """However far its steps were when it was looked at last: the end of before does not come after it runs again."""
    engine.progress = {"a": progress(SubmissionState.FAILED, StepState.FAILED, StepState.WAITING)}
    a = launched(store, "a")
    looking = watcher(store, engine, catalog, NOW + timedelta(seconds=1))
    looking.look()
    for end in (SubmissionState.FAILED, SubmissionState.FAILED):
        store.launch_commands.ask(Ask(Command.RETRY), [a.id], Hand("cli:me", "why", NOW))
        Commander(store.launches, store.launch_commands, engine, clock=lambda: NOW).carry_out()
        looking.look()
        assert state_of(store, a) is LaunchState.RUNNING
        engine.progress["a"] = progress(SubmissionState.RUNNING, StepState.FAILED, StepState.WAITING)
        looking.look()
        engine.progress["a"] = progress(end, StepState.FAILED, StepState.WAITING)
        looking.look()
        assert state_of(store, a) is LaunchState(end)


def test_what_is_to_be_retried_does_not_end(store: Store, engine: PlayedEngine, catalog: LocalCatalog) -> None:
    """What is seen may be the end of before: whoever retries it would lose sight of it."""
    engine.progress = {"a": progress(SubmissionState.RUNNING, StepState.FAILED, StepState.RUNNING)}
    a = launched(store, "a")
    watcher(store, engine, catalog).look()
    store.launch_commands.ask(Ask(Command.RETRY), [a.id], Hand("cli:me", "why", NOW))
    engine.progress["a"] = progress(SubmissionState.PARTLY_FINISHED, StepState.FAILED, StepState.FINISHED)

    watcher(store, engine, catalog).look()

    now = store.launches.get(a.id)
    assert (now.state, [step.state for step in now.steps]) == (
        LaunchState.RUNNING,
        [StepState.FAILED, StepState.FINISHED],
    )


def test_an_engine_sees_what_holds_for_a_launch(store: Store, engine: PlayedEngine, catalog: LocalCatalog) -> None:
    """While it looks, as it is at that moment: a kill may come while it is at work."""
    a = launched(store, "a")
    seen: list[bool] = []

    class Looking(PlayedEngine):
        def look(self, tracked: Sequence[Tracked]) -> Mapping[str, Progress | EngineError]:
            seen.append(tracked[0].hold().killed)
            store.launch_commands.ask(Ask(Command.KILL), [a.id], Hand("cli:me", "why", NOW))
            seen.append(tracked[0].hold().killed)
            return {}

    watcher(store, Looking(), catalog).look()

    assert seen == [False, True]


def test_an_engine_that_is_away_is_told_once(store: Store, engine: PlayedEngine, catalog: LocalCatalog) -> None:
    """And that it is back."""
    launched(store, "a")
    watching = Watcher(
        store.launches, store.launch_commands, engine, outputs_of(store, engine, catalog), clock=lambda: NOW
    )

    with capture_logs() as said:
        for away in (EngineUnavailable("a"), EngineUnavailable("b"), None, None):
            engine.away = away
            watching.look()

    told = [(each["event"], each["log_level"]) for each in said if each["event"].startswith("engine.")]
    assert told == [("engine.away", "warning"), ("engine.back", "info")]


def test_a_launch_that_nobody_sends_is_said_to_be_stalled(
    store: Store, engine: PlayedEngine, catalog: LocalCatalog
) -> None:
    """One in doubt for ever, and one that was only written down, are found by nobody else."""
    unsure, prepared = launched(store, "unsure", LaunchState.SUBMITTING), intended(store, "prepared")

    with capture_logs() as said:
        watcher(store, engine, catalog, NOW + timedelta(hours=7)).look()

    assert [each["launch"] for each in said if each["event"] == "launch.stalled"] == [unsure.id, prepared.id]


def test_a_stalled_launch_is_said_once_until_it_moves(
    store: Store, engine: PlayedEngine, catalog: LocalCatalog
) -> None:
    """After six hours without news."""
    launched(store, "a")
    now = NOW
    outputs = outputs_of(store, engine, catalog)
    watching = Watcher(store.launches, store.launch_commands, engine, outputs, clock=lambda: now)

    with capture_logs() as said:
        for hours in (5, 7, 8):
            now = NOW + timedelta(hours=hours)
            watching.look()
        engine.progress = {"a": progress(SubmissionState.RUNNING, StepState.RUNNING)}
        watching.look()  # it moves
        for hours in (9, 15):
            now = NOW + timedelta(hours=hours)
            watching.look()

    assert [each["launch"] for each in said if each["event"] == "launch.stalled"] == [1, 1]


def test_a_doubtful_launch_is_looked_up_now_and_then_only(
    store: Store, engine: PlayedEngine, catalog: LocalCatalog
) -> None:
    """Its dispatch does that too, and each look costs the engine something."""
    launched(store, "unsure", LaunchState.SUBMITTING)
    now = NOW
    watching = Watcher(
        store.launches, store.launch_commands, engine, outputs_of(store, engine, catalog), clock=lambda: now
    )
    for seconds in range(0, 600, 10):
        now = NOW + timedelta(seconds=seconds)
        watching.look()

    assert 3 <= len(engine.found) <= 5
