"""Launches are followed to their end, by whoever reaches their engine, and one odd launch keeps no other back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from orchestrator.launch.outputs import Outputs
from orchestrator.launch.watcher import Watcher
from orchestrator.panda.port import Progress, Reference, Submission, SubmissionState
from orchestrator.rucio.local import LocalCatalog, describe_file
from orchestrator.store.launches import Intent
from orchestrator.store.store import Store
from schemas.did import Did
from schemas.launch import Launch, LaunchState

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
OUT = Did("group.sphenix", "rn00021615-CALOR-DST")


class Engine:
    """An engine whose submissions stand where the test puts them."""

    name = "played"
    registers_outputs = False

    def __init__(self, identity: str = "played:1") -> None:
        self.identity = identity
        self.states: dict[str, SubmissionState] = {}
        self.files: list[Path] = []
        self.broken: set[str] = set()

    def submit(self, submission: Submission) -> Reference:
        raise NotImplementedError

    def find(self, name: str) -> Reference | None:
        return Reference(name) if name in self.states else None

    def progress(self, reference: Reference) -> Progress:
        if reference in self.broken:
            raise ZeroDivisionError(reference)
        return Progress(self.states[reference], ())

    def outputs(self, reference: Reference, step: str) -> Sequence[Path]:
        return self.files

    def kill(self, reference: Reference) -> None:
        raise NotImplementedError


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{tmp_path / 'muleteer.db'}")
    yield opened
    opened.close()


@pytest.fixture
def catalog(tmp_path: Path) -> LocalCatalog:
    return LocalCatalog(tmp_path / "catalog.db", lambda headers, body: None)


@pytest.fixture
def engine() -> Engine:
    return Engine()


def watcher(store: Store, engine: Engine, catalog: LocalCatalog, now: datetime = NOW) -> Watcher:
    return Watcher(store.launches, engine, Outputs(engine, catalog), clock=lambda: now)


def launched(
    store: Store, name: str, state: LaunchState = LaunchState.SUBMITTED, engine: str = "played:1", output: bool = False
) -> Launch:
    outputs = {str(OUT): "calorimeter"} if output else {}
    intent = Intent(name, name, None, "calorimeter", {}, {}, outputs, engine, ())
    launch = store.launches.intend(intent, who="test", now=NOW)
    launch = store.launches.advance(launch, LaunchState.SUBMITTING, who="test", why=None, now=NOW)
    if state is LaunchState.SUBMITTED:
        launch = store.launches.advance(launch, state, who="test", why=None, now=NOW, reference=name)
    return launch


def state_of(store: Store, launch: Launch) -> LaunchState:
    return store.launches.get(launch.id).state


def test_what_nobody_foresaw_about_one_launch_keeps_no_other_back(
    store: Store, engine: Engine, catalog: LocalCatalog
) -> None:
    """A launch that cannot be looked at stays as it is; those after it are followed."""
    odd, next_ = launched(store, "odd"), launched(store, "next")
    engine.broken, engine.states = {"odd"}, {"next": SubmissionState.FINISHED}

    watcher(store, engine, catalog).look()

    assert (state_of(store, odd), state_of(store, next_)) == (LaunchState.SUBMITTED, LaunchState.FINISHED)


def test_a_launch_of_another_engine_is_left_to_it(store: Store, engine: Engine, catalog: LocalCatalog) -> None:
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
    store: Store, engine: Engine, catalog: LocalCatalog, after: timedelta, there: bool, expected: LaunchState
) -> None:
    """After two minutes nobody is sending it any more: if the engine has it, it is followed."""
    launch = launched(store, "unsure", LaunchState.SUBMITTING)
    engine.states = {"unsure": SubmissionState.RUNNING} if there else {}

    watcher(store, engine, catalog, NOW + after).look()

    assert state_of(store, launch) is expected


def test_outputs_are_registered_and_their_dataset_is_closed(
    store: Store, engine: Engine, catalog: LocalCatalog, tmp_path: Path
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
    store: Store, engine: Engine, catalog: LocalCatalog, tmp_path: Path
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


def test_an_output_that_is_gone_is_said(store: Store, engine: Engine, catalog: LocalCatalog, tmp_path: Path) -> None:
    """A file that was made and cannot be read any more ends the launch partly finished, with the path."""
    launch = launched(store, "gone", output=True)
    engine.states, engine.files = {"gone": SubmissionState.FINISHED}, [tmp_path / "gone.root"]

    watcher(store, engine, catalog).look()

    assert state_of(store, launch) is LaunchState.PARTLY_FINISHED
    assert str(tmp_path / "gone.root") in (store.launches.get(launch.id).reason or "")
