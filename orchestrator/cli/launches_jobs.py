"""What jobs tell about themselves: summed up by step, and job by job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from orchestrator.cli.session import Home, Json, Limit, opened
from orchestrator.cli.terminal import ago, out, print_json, print_table
from schemas.job import JobHeard, JobState, StepHeard
from schemas.launch import LaunchId


def jobs(
    id_: Annotated[int, typer.Argument(metavar="ID")],
    home: Home = None,
    step: Annotated[str | None, typer.Option("--step", help="Only of this step.")] = None,
    what: Annotated[JobState | None, typer.Option("--what", help="Only those that said this last.")] = None,
    limit: Limit = 1000,
    json_: Json = False,
) -> None:
    """List the jobs of a launch that tell how far they are, those that were silent for longest first."""
    with opened(home, reading=True) as muleteer:
        launch = muleteer.store.launches.get(LaunchId(id_))
        found = muleteer.store.job_reports.of(launch.id, step=step, what=what, limit=limit)
    if json_:
        print_json(found)
        return
    columns = ("step", "job", "index", "says", "done", "exit", "host", "since", "heard")
    print_table(columns, [_row(each) for each in found], empty="No job that fits has told anything.")


def _row(job: JobHeard) -> tuple[object, ...]:
    done = counted(job.done, job.of)
    return job.step, job.job, job.index, job.what, done, job.code, job.host, job.since, ago(job.at)


def counted(done: int | None, of: int | None) -> str | None:
    """For example `3/10`; None if nothing was counted."""
    if done is None and of is None:
        return None
    return f"{'?' if done is None else format(done, ',')}/{'?' if of is None else format(of, ',')}"


def print_heard(heard: Sequence[StepHeard]) -> None:
    """A table of what the jobs of a launch told; nothing if they told nothing."""
    if not heard:
        return
    out.print("\nheard from its jobs", style="bold")
    columns = ("step", "jobs", "at work", "ended badly", "done", "last heard")
    rows = [
        (
            each.step,
            each.jobs,
            each.running,
            each.failed,
            counted(each.done, each.of) if each.of else None,
            ago(each.at),
        )
        for each in heard
    ]
    print_table(columns, rows, empty="nothing")
