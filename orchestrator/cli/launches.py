"""Launches: listed, and summed up by run of the detector."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated

import typer

from orchestrator.cli import (
    launches_acting,
    launches_archive,
    launches_failures,
    launches_files,
    launches_jobs,
    launches_show,
    launches_watching,
)
from orchestrator.cli.launches_filters import (
    RuleName,
    Runs,
    Stalled,
    States,
    Text,
    WorkflowName,
    files_in_words,
    files_of,
    filter_of,
    headline,
    is_stalled,
    stalled_after,
)
from orchestrator.cli.session import Before, Home, Json, Limit, opened
from orchestrator.cli.terminal import out, plain, print_json, print_table
from orchestrator.clock import utc_now
from orchestrator.core.progress import percent
from orchestrator.store.launch_listing import RunSummary
from schemas.launch import Launch, LaunchId, LaunchState, StepState

app = typer.Typer(no_args_is_help=True, help="Workflows that were started.")
launches_acting.add_to(app)
app.command("show")(launches_show.show)
app.command("files")(launches_files.files)
app.command("jobs")(launches_jobs.jobs)
app.command("archive")(launches_archive.archive)
app.command("failures")(launches_failures.failures)
app.command("watch")(launches_watching.watch)


@app.command("list")
def list_(
    home: Home = None,
    state: States = None,
    workflow: WorkflowName = None,
    run: Runs = None,
    rule: RuleName = None,
    name: Text = None,
    stalled: Stalled = False,
    limit: Limit = 50,
    before: Before = None,
    json_: Json = False,
) -> None:
    """List launches, newest first."""
    with opened(home, reading=True) as muleteer:
        wanted = filter_of(muleteer, state, workflow, run, rule, name, stalled=stalled)
        found = muleteer.store.launches.list(wanted, limit=limit, before=before)
        after = stalled_after(muleteer)
    if json_:
        print_json(
            [{**plain(each), "percent": percent(each.steps), "stalled": is_stalled(each, after)} for each in found]
        )
        return
    columns = ("id", "state", "name", "run", "steps", "done", "files", "updated")
    print_table(columns, [_row(each) for each in found], empty="No launch fits.")
    _print_reasons(found, after)


def _row(launch: Launch) -> tuple[object, ...]:
    finished = sum(step.state is StepState.FINISHED for step in launch.steps)
    return (
        launch.id,
        launch.state,
        launch.name,
        launch.run,
        f"{finished}/{len(launch.steps)}",
        f"{percent(launch.steps):g}%",
        files_of(launch),
        _age(utc_now() - launch.updated_at),
    )


def _age(span: timedelta) -> str:
    """How long ago in its largest unit, so that a line has room for it."""
    seconds = max(0, int(span.total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit} ago"
    return f"{seconds}s ago"


def _print_reasons(launches: Sequence[Launch], after: timedelta) -> None:
    """Why launches are where they are, below the table: many often have one reason."""
    why: dict[str, list[LaunchId]] = {}
    for each in launches:
        reason = _why(each, after)
        if reason is not None:
            why.setdefault(reason, []).append(each.id)
    if why:
        out.print()
    for reason, ids in why.items():
        out.print(f"{', '.join(map(str, ids))}: {reason}")
    if any(each.state is LaunchState.PREPARED and each.dispatch_id is None for each in launches):
        out.print("What was prepared by hand is sent when you say so: `muleteer workflow launch --go-on ID`")


def _why(launch: Launch, after: timedelta) -> str | None:
    if is_stalled(launch, after):
        return f"stalled: nothing new since {launch.moved_at or launch.updated_at:%Y-%m-%d %H:%M} UTC"
    return None if launch.state is LaunchState.FINISHED else headline(launch.reason)


@app.command("runs")
def runs(
    home: Home = None,
    state: States = None,
    workflow: WorkflowName = None,
    run: Runs = None,
    rule: RuleName = None,
    limit: Limit = 50,
    before: Annotated[
        int | None, typer.Option("--before", help="Only smaller runs: the page after the one that ended there.")
    ] = None,
    json_: Json = False,
) -> None:
    """Sum launches up by run of the detector, newest runs first."""
    with opened(home, reading=True) as muleteer:
        wanted = filter_of(muleteer, state, workflow, run, rule, None, stalled=False)
        found = muleteer.store.launches.by_run(wanted, limit=limit, before=before)
    if json_:
        print_json(found)
        return
    columns = ("run", "launches", "steps", "done", "files", "last news")
    print_table(columns, [_summary_row(each) for each in found], empty="No launch is about a run of the detector.")


def _summary_row(summary: RunSummary) -> tuple[object, ...]:
    order = list(LaunchState)
    states = sorted(summary.launches.items(), key=lambda item: order.index(item[0]))
    failed = f", {summary.steps_failed} failed" if summary.steps_failed else ""
    return (
        summary.run,
        ", ".join(f"{count} {state}" for state, count in states),
        f"{summary.steps_finished}/{summary.steps}{failed}",
        f"{summary.percent:g}%",
        files_in_words(summary.files.total, summary.files.finished, summary.files.failed),
        summary.moved_at,
    )
