"""What jobs tell about themselves: the last of each job. It changes no launch's state."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, and_, case, func, select
from sqlalchemy.dialects.postgresql import insert as insert_postgresql
from sqlalchemy.dialects.sqlite import insert as insert_sqlite

from orchestrator.store.engine import Database
from orchestrator.store.port import NotAllowed, NotFound
from orchestrator.store.tables import job_reports, launches
from schemas.job import JobHeard, JobReport, JobState, StepHeard
from schemas.launch import LaunchId

#: Jobs of one launch that are kept. Those that report beyond are refused, those that are known may go on.
MOST_JOBS: Final = 20_000

_FINISHED: Final = JobState.FINISHED.value


class JobReports:
    """What was heard of the jobs of launches."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def note(self, report: JobReport, *, now: datetime, most: int = MOST_JOBS) -> None:
        """Keep what a job says, in place of what it said before. What it leaves out stays.

        Whoever has finished stays so, unless he says that he has started again: reports may overtake each other.

        Raises:
            NotFound: there is no launch of that name, or it has no such step.
            NotAllowed: jobs enough of the launch have reported.
        """
        with self._database.write() as connection:
            launch_id = _launch(connection, report)
            if not _is_known(connection, launch_id, report) and _jobs(connection, launch_id) >= most:
                raise NotAllowed(f"{most:,} jobs of {report.launch} have reported, and no more are kept")
            connection.execute(_kept(connection, launch_id, report, now))

    def of(
        self, id_: LaunchId, *, step: str | None = None, what: JobState | None = None, limit: int = 1000
    ) -> Sequence[JobHeard]:
        """The jobs of a launch that were heard of, those of which nothing was heard for longest first."""
        query = select(job_reports).where(job_reports.c.launch_id == id_)
        query = query if step is None else query.where(job_reports.c.step == step)
        query = query if what is None else query.where(job_reports.c.what == what)
        query = query.order_by(job_reports.c.at, job_reports.c.step, job_reports.c.job).limit(limit)
        with self._database.read() as connection:
            return [_heard(dict(row)) for row in connection.execute(query).mappings()]

    def by_step(self, id_: LaunchId) -> Sequence[StepHeard]:
        """What they come to, for each step of which any was heard."""
        these = job_reports.c
        query = (
            select(
                these.step,
                func.count().label("jobs"),
                _count(these.what != _FINISHED).label("running"),
                _count(and_(these.what == _FINISHED, these.exit_code != 0)).label("failed"),
                func.coalesce(func.sum(these.done), 0).label("done"),
                func.coalesce(func.sum(these.total), 0).label("of"),
                func.max(these.at).label("at"),
            )
            .where(these.launch_id == id_)
            .group_by(these.step)
            .order_by(these.step)
        )
        with self._database.read() as connection:
            return [StepHeard.model_validate(dict(row)) for row in connection.execute(query).mappings()]


def _launch(connection: Connection, report: JobReport) -> int:
    """The launch that it is about. Raises NotFound."""
    found = connection.execute(select(launches.c.id, launches.c.steps).where(launches.c.name == report.launch)).first()
    if found is None:
        raise NotFound(f"there is no launch {report.launch!r}")
    id_, steps = found
    if report.step not in (step["name"] for step in json.loads(steps)):
        raise NotFound(f"the launch {report.launch!r} has no step {report.step!r}")
    return int(id_)


def _is_known(connection: Connection, launch_id: int, report: JobReport) -> bool:
    these = job_reports.c
    same = (these.launch_id == launch_id, these.step == report.step, these.job == report.job)
    return connection.execute(select(these.job).where(*same)).first() is not None


def _jobs(connection: Connection, launch_id: int) -> int:
    return connection.scalars(select(func.count()).where(job_reports.c.launch_id == launch_id)).one()


def _kept(connection: Connection, launch_id: int, report: JobReport, now: datetime) -> Any:
    kind = insert_sqlite if connection.dialect.name == "sqlite" else insert_postgresql
    row = kind(job_reports).values(
        launch_id=launch_id,
        step=report.step,
        job=report.job,
        number=report.index,
        what=report.what,
        done=report.done,
        total=report.of,
        exit_code=report.code,
        host=report.host,
        since=now,
        at=now,
    )
    old, new = job_reports.c, row.excluded
    overtaken = and_(old.what == _FINISHED, new.what == JobState.RUNNING.value)
    again = new.what == JobState.STARTED.value
    values: dict[str, Any] = {
        name: func.coalesce(new[name], old[name], type_=old[name].type) for name in ("number", "host")
    }
    for name in ("done", "total", "exit_code"):
        values[name] = case((again, new[name]), else_=func.coalesce(new[name], old[name]))
    values["what"] = case((overtaken, old.what), else_=new.what)
    values["since"] = case((again, new.since), else_=old.since)
    return row.on_conflict_do_update(index_elements=["launch_id", "step", "job"], set_={**values, "at": new.at})


def _count(condition: Any) -> Any:
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)


def _heard(row: dict[str, Any]) -> JobHeard:
    names = {"number": "index", "total": "of", "exit_code": "code"}
    del row["launch_id"]
    return JobHeard.model_validate({names.get(name, name): value for name, value in row.items()})
