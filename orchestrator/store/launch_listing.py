"""Which launches are meant, and what many of them come to: filters, and sums by detector run."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pydantic import BaseModel, ConfigDict
from sqlalchemy import ColumnElement, Connection, func, or_, select

from orchestrator.core.progress import percentage
from orchestrator.core.states import LAUNCH, LAUNCH_ENDED
from orchestrator.store.tables import dispatches, launches
from schemas.dispatch import DispatchId
from schemas.launch import FileCounts, LaunchState

#: Named one by one, so that the index on states serves: those that ended are many.
GOING_ON: Final = sorted(LAUNCH.keys() - LAUNCH_ENDED)

#: What the database can hold; a range without an end goes further.
_LARGEST_RUN: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class LaunchFilter:
    """Which launches are meant. What is not said counts for all."""

    states: Sequence[LaunchState] = ()
    workflow: str | None = None
    #: Ranges of detector runs, first and last, both within.
    runs: Sequence[tuple[int, int]] = ()
    rule: str | None = None
    #: Only those that go on, and of which the engine has told nothing new since then.
    stalled_since: datetime | None = None
    #: What the name holds, letter by letter.
    text: str | None = None
    dispatch_id: DispatchId | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """As the database asks them."""
        asked: list[ColumnElement[bool]] = []
        if self.states:
            asked.append(launches.c.state.in_(self.states))
        if self.workflow is not None:
            asked.append(launches.c.workflow == self.workflow)
        if self.runs:
            ranges = [(min(first, _LARGEST_RUN), min(last, _LARGEST_RUN)) for first, last in self.runs]
            asked.append(or_(*(launches.c.run.between(first, last) for first, last in ranges)))
        if self.rule is not None:
            theirs = select(dispatches.c.id).where(dispatches.c.rule == self.rule)
            asked.append(launches.c.dispatch_id.in_(theirs))
        if self.stalled_since is not None:
            moved = func.coalesce(launches.c.moved_at, launches.c.updated_at, type_=launches.c.moved_at.type)
            asked += [launches.c.state.in_(GOING_ON), moved < self.stalled_since]
        if self.text is not None:
            asked.append(launches.c.name.contains(self.text, autoescape=True))
        if self.dispatch_id is not None:
            asked.append(launches.c.dispatch_id == self.dispatch_id)
        return asked


#: Every launch there is.
ALL_LAUNCHES: Final = LaunchFilter()


class RunSummary(BaseModel):
    """What the launches for one run of the detector come to."""

    model_config = ConfigDict(frozen=True)

    run: int
    #: Launches by state.
    launches: dict[LaunchState, int]
    steps: int
    steps_finished: int
    steps_failed: int
    #: Input files of the steps' tasks, as far as the engine counts them.
    files: FileCounts
    #: How far it is, 0 to 100: by steps, and within a step by its files.
    percent: float
    #: When the engine last reported anything new of any of them.
    moved_at: datetime | None


_SUMS: Final = (
    "step_count",
    "steps_finished",
    "steps_failed",
    "steps_done",
    "files",
    "files_finished",
    "files_failed",
)


def summed_up(connection: Connection, wanted: LaunchFilter, limit: int, before: int | None) -> list[RunSummary]:
    """The newest runs that the filter leaves, each with the sums of its launches."""
    asked = [*wanted.conditions(), launches.c.run.is_not(None)]
    page = select(launches.c.run).where(*asked).group_by(launches.c.run).order_by(launches.c.run.desc()).limit(limit)
    if before is not None:
        page = page.where(launches.c.run < before)
    columns = [
        launches.c.run,
        launches.c.state,
        func.count().label("launches"),
        func.max(launches.c.moved_at).label("moved_at"),
        *(func.sum(launches.c[name]).label(name) for name in _SUMS),
    ]
    query = (
        select(*columns)
        .where(*asked, launches.c.run.in_(page.scalar_subquery()))
        .group_by(launches.c.run, launches.c.state)
    )
    rows: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in connection.execute(query).mappings():
        rows[row["run"]].append(dict(row))
    return [_summary(run, rows[run]) for run in sorted(rows, reverse=True)]


def _summary(run: int, rows: Sequence[dict[str, Any]]) -> RunSummary:
    sums = {name: sum(row[name] for row in rows) for name in _SUMS}
    counts = {name: int(value) for name, value in sums.items()}
    steps = counts["step_count"]
    moments = [row["moved_at"] for row in rows if row["moved_at"] is not None]
    return RunSummary(
        run=run,
        launches={LaunchState(row["state"]): row["launches"] for row in rows},
        steps=steps,
        steps_finished=counts["steps_finished"],
        steps_failed=counts["steps_failed"],
        files=FileCounts(total=counts["files"], finished=counts["files_finished"], failed=counts["files_failed"]),
        percent=percentage(sums["steps_done"], steps),
        moved_at=max(moments, default=None),
    )
