"""How far launches are, and whether they stand still."""

from __future__ import annotations

from datetime import timedelta

import pytest

from orchestrator.core.progress import is_stalled, percent
from orchestrator.core.states import LAUNCH_ENDED
from schemas.launch import FileCounts, Launch, LaunchId, LaunchState, StepProgress, StepState
from tests.unit.making import NOW, later

HOURS = timedelta(hours=6)


def step(state: StepState, files: FileCounts | None = None) -> StepProgress:
    return StepProgress(name="reco", state=state, files=files)


def launch(state: LaunchState, moved: float | None) -> Launch:
    """One of which the engine told something new so many seconds from now."""
    return Launch(
        id=LaunchId(1),
        dispatch_id=None,
        key="k",
        name="n",
        workflow="w",
        parameters={},
        inputs={},
        outputs={},
        engine="embedded",
        reference=None,
        state=state,
        reason=None,
        steps=(),
        created_at=NOW,
        updated_at=NOW,
        moved_at=None if moved is None else later(moved),
    )


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([], 0.0),
        ([step(StepState.WAITING)], 0.0),
        ([step(StepState.FINISHED)], 100.0),
        ([step(StepState.FINISHED), step(StepState.FAILED)], 50.0),
        ([step(StepState.RUNNING, FileCounts(total=3, finished=1))], 33.3),
        ([step(StepState.FINISHED, FileCounts(total=10, finished=8, failed=2))], 80.0),
        ([step(StepState.FINISHED, FileCounts(total=10, finished=9))], 100.0),
        ([step(StepState.RUNNING, FileCounts(total=0)), step(StepState.FINISHED)], 50.0),
    ],
)
def test_steps_count_by_their_files_if_these_are_counted(steps: list[StepProgress], expected: float) -> None:
    """One that is finished is done, unless some of its files failed; rounded down, so that 100 means all."""
    assert percent(steps) == expected


@pytest.mark.parametrize("state", LaunchState)
def test_only_what_goes_on_stalls(state: LaunchState) -> None:
    """After so long without news; without any, since it last changed."""
    now = NOW + HOURS + timedelta(seconds=1)

    assert is_stalled(launch(state, 0), HOURS, now) is (state not in LAUNCH_ENDED)
    assert is_stalled(launch(state, None), HOURS, now) is (state not in LAUNCH_ENDED)
    assert not is_stalled(launch(state, 1), HOURS, now)
