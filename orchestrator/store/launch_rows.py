"""Rows of launches: the steps with their counts, as they are written and as they are read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, update

from orchestrator.core.progress import done
from orchestrator.store.tables import Row, launches
from schemas.launch import Launch, StepProgress, StepState

#: What is kept of a launch and not shown with it.
COUNTED: Final = (
    "steps",
    "step_count",
    "steps_finished",
    "steps_failed",
    "steps_done",
    "files",
    "files_finished",
    "files_failed",
)

NOTE = (
    update(launches)
    .where(launches.c.id == bindparam("this"), launches.c.state == bindparam("standing"))
    .values({name: bindparam(f"new_{name}") for name in (*COUNTED, "updated_at", "moved_at")})
)


def noted(launch: Launch, steps: Sequence[StepProgress], now: datetime) -> Row:
    values = steps_row(steps) | {"updated_at": now, "moved_at": now}
    return {"this": launch.id, "standing": launch.state, **{f"new_{name}": value for name, value in values.items()}}


def steps_row(steps: Sequence[StepProgress]) -> Row:
    """The steps as they are kept, with their counts."""
    states = [step.state for step in steps]
    files = [step.files for step in steps if step.files is not None]
    return {
        "steps": json.dumps([step.model_dump(mode="json", exclude_none=True) for step in steps]),
        "step_count": len(steps),
        "steps_finished": states.count(StepState.FINISHED),
        "steps_failed": states.count(StepState.FAILED),
        "steps_done": sum(map(done, steps)),
        "files": sum(each.total for each in files),
        "files_finished": sum(each.finished for each in files),
        "files_failed": sum(each.failed for each in files),
    }


def launch_of(row: Row) -> Launch:
    shown = {key: value for key, value in row.items() if key not in COUNTED}
    for key in ("parameters", "inputs", "outputs", "steps"):
        shown[key] = json.loads(row[key])
    shown["retry"] = None if row["retry"] is None else json.loads(row["retry"])
    return Launch.model_validate(shown)
