"""Failed jobs gathered from the engine, and what stands in where it says nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orchestrator.launch.failure_gathering import Gatherer
from orchestrator.panda.port import EngineUnavailable, UnknownSubmission
from orchestrator.store.store import Store
from schemas.failure import Complaint, FailedJob, FailedJobs, Source
from schemas.launch import Launch, LaunchState, StepProgress, StepState
from tests.unit.launch.playing import PlayedEngine
from tests.unit.making import NOW

STEP = StepProgress(name="reco", state=StepState.FAILED, reason="written down")
JOB = FailedJob(step="reco", job=7, complaints=(Complaint(Source.PILOT, 1212, "told"),))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{tmp_path / 'muleteer.db'}")
    yield opened
    opened.close()


def launch(id_: int, **fields: Any) -> Launch:
    values: dict[str, Any] = {
        "id": id_, "dispatch_id": None, "key": "k", "name": f"n{id_}", "workflow": "calo", "parameters": {},
        "inputs": {}, "outputs": {}, "engine": "played:1", "reference": f"ref:n{id_}", "state": LaunchState.FAILED,
        "reason": "why", "steps": (STEP,), "created_at": NOW, "updated_at": NOW,
    }  # fmt: skip
    return Launch.model_validate(values | fields)


def said(store: Store, engine: PlayedEngine, *launches: Launch) -> tuple[list[tuple[int, str]], list[str]]:
    """Launch and words of each failed job, and the remarks."""
    found = Gatherer(store.launches, engine).gather(launches)
    return [(each.launch.id, each.job.complaints[0].text) for each in found.failed], list(found.remarks)


def test_the_engine_is_asked_about_its_own_launches_alone(store: Store) -> None:
    """Of others, each engine is named once, with how many it is about; what was never sent needs none."""
    engine = PlayedEngine(failed={"n1": FailedJobs(jobs=(JOB,), remarks=("only the newest",))})
    others = [launch(number, engine="other:2") for number in (2, 3)]
    unsent = launch(4, engine="other:2", reference=None)

    found, remarks = said(store, engine, launch(1), *others, unsent)

    assert found == [(1, "told"), (2, "written down"), (3, "written down"), (4, "why")]
    assert engine.asked_why == ["n1"]
    assert [remark.partition(":")[0] for remark in remarks] == ["2 launches are on other", "launch 1"]


def test_an_engine_that_is_away_is_not_asked_by_each(store: Store) -> None:
    """Waiting for an answer takes seconds; of all there is what was written down."""
    engine = PlayedEngine(away=EngineUnavailable("nobody home"))

    found, remarks = said(store, engine, *(launch(number) for number in range(1, 101)))

    assert found == [(number, "written down") for number in range(1, 101)]
    assert len(engine.asked_why) < 50
    assert len(remarks) == 1
    assert remarks[0].endswith("nobody home")


def test_what_the_engine_does_not_know_is_said_of_that_launch(store: Store) -> None:
    """The others are told as ever."""
    engine = PlayedEngine(failed={"n2": FailedJobs(jobs=(JOB,))}, errors={"n1": UnknownSubmission("never heard of")})

    found, remarks = said(store, engine, launch(1), launch(2))

    assert found == [(1, "written down"), (2, "told")]
    assert remarks == ["launch 1: never heard of; it is told what was written down"]
