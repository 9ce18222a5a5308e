"""How far launches and their steps are, and whether one stands still."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from orchestrator.core.states import LAUNCH_ENDED
from schemas.launch import Launch, StepProgress, StepState


def done(step: StepProgress) -> float:
    """How much of a step is done, 0 to 1: by its files if the engine counts them."""
    counted = step.files is not None and step.files.total > 0
    if step.state is StepState.FINISHED and not (counted and step.files is not None and step.files.failed):
        return 1.0
    return min(1.0, step.files.finished / step.files.total) if counted and step.files is not None else 0.0


def percentage(done: float, steps: int) -> float:
    """How far it is, 0 to 100, rounded down to a tenth. `done` are steps; one that is half through counts half."""
    return int(1000 * min(done, steps) / steps) / 10 if steps else 0.0


def percent(steps: Sequence[StepProgress]) -> float:
    """How far steps are, 0 to 100."""
    return percentage(sum(map(done, steps)), len(steps))


def is_stalled(launch: Launch, after: timedelta, now: datetime) -> bool:
    """Whether it goes on, and nothing new was heard of it for that long."""
    return launch.state not in LAUNCH_ENDED and now - (launch.moved_at or launch.updated_at) > after
