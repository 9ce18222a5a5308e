"""Why jobs failed on PanDA: the errors of a workflow's failed jobs, or of its tasks if no job says anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from orchestrator.core.failures import failures_of_steps
from orchestrator.panda.client.api import PandaApi
from orchestrator.panda.client.rows import Job, Task
from orchestrator.panda.following import seen_as
from orchestrator.panda.port import EngineRefused, Tracked
from schemas.failure import Complaint, FailedJob, FailedJobs, Source
from schemas.launch import StepProgress
from schemas.site import Site

#: Failed jobs of one task that are told of, the newest.
MOST: Final = 2000

_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


def failures(
    api: PandaApi, site: Site, tracked: Tracked, tasks: Mapping[str, Task], step: str | None = None
) -> FailedJobs:
    """The failed jobs of a workflow, by steps and then newest first; `tasks` by step, as they are now.

    A task all of whose files were processed in the end is not asked for those that failed on the way.

    Raises EngineUnavailable.
    """
    jobs: list[FailedJob] = []
    remarks: list[str] = []
    for progress in tracked.steps:
        if step is not None and progress.name != step:
            continue
        task = tasks.get(progress.name)
        if task is None:
            jobs += failures_of_steps([progress])
        elif task.status != "done" or task.n_files_failed or not task.n_files_finished:
            found, remark = _of_task(api, site, progress, task)
            jobs += found
            remarks += remark
    return FailedJobs(jobs=tuple(jobs), remarks=tuple(remarks))


def _of_task(api: PandaApi, site: Site, step: StepProgress, task: Task) -> tuple[Sequence[FailedJob], Sequence[str]]:
    try:
        rows = sorted(api.jobs(task.id, unsuccessful_only=True), key=lambda row: row.modified_at or _LONG_AGO)
    except EngineRefused as error:
        return _as_a_whole(site, step, task), [f"the jobs of task {task.id} (step {step.name}) are not told: {error}"]
    jobs = [_failed(row, step.name, task) for row in reversed(rows[-MOST:])]
    cut = f"of the failed jobs of task {task.id} (step {step.name}) only the newest {MOST:,} are counted"
    return jobs or _as_a_whole(site, step, task), [cut] if len(rows) > MOST else []


def _as_a_whole(site: Site, step: StepProgress, task: Task) -> list[FailedJob]:
    """What is said of the task itself; nothing for as long as it goes well."""
    return [
        each.model_copy(update={"site": task.site, "attempt": task.attempt, "memory": task.ram_count})
        for each in failures_of_steps([seen_as(task, step.name, site.monitor.task).step])
    ]


def _failed(row: Job, step: str, task: Task) -> FailedJob:
    return FailedJob(
        step=step,
        task=task.id,
        job=row.id,
        site=row.site,
        attempt=row.attempt,
        complaints=tuple(_complaints(row)),
        log=row.log,
        at=row.modified_at,
        memory=task.ram_count,
    )


def _complaints(row: Job) -> Iterator[Complaint]:
    for error in row.errors:
        yield Complaint(Source(error.source), error.code or None, error.text)
    if not row.errors:
        yield Complaint(Source.SERVER, None, f"the job is {row.status}, and nobody says why")
