"""Which launches a command is about: the options that listing, summing up and acting share."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Annotated

import typer

from orchestrator.cli.session import Exit, fail
from orchestrator.clock import utc_now
from orchestrator.core import progress
from orchestrator.core.runs import RunsError, read_range
from orchestrator.settings import ConfigurationError
from orchestrator.store.launch_listing import LaunchFilter
from orchestrator.wiring import Muleteer
from schemas.launch import Launch, LaunchState
from schemas.site import Site

States = Annotated[list[LaunchState] | None, typer.Option("--state", help="Only these states; may be repeated.")]
WorkflowName = Annotated[str | None, typer.Option("--workflow", help="Only of this workflow.")]
RuleName = Annotated[str | None, typer.Option("--rule", help="Only those that this rule asked for.")]
Runs = Annotated[
    list[str] | None,
    typer.Option("--run", help="Only for this run of the detector, or a range: 59641..59650; may be repeated."),
]
Text = Annotated[str | None, typer.Option("--name", help="Only those whose name holds this.")]
Stalled = Annotated[
    bool, typer.Option("--stalled", help="Only those that go on and of which nothing new was heard for long.")
]


def filter_of(
    muleteer: Muleteer,
    states: Sequence[LaunchState] | None,
    workflow: str | None,
    runs: Sequence[str] | None,
    rule: str | None,
    text: str | None,
    *,
    stalled: bool,
) -> LaunchFilter:
    """The filter that the options describe."""
    try:
        ranges = [read_range(run) for run in runs or ()]
    except RunsError as error:
        fail(Exit.USAGE, str(error))
    since = utc_now() - stalled_after(muleteer) if stalled else None
    return LaunchFilter(tuple(states or ()), workflow, tuple(ranges), rule, since, text)


def site_of(muleteer: Muleteer) -> Site | None:
    """The site's profile, if it can be read: to look at launches nobody needs it."""
    with suppress(ConfigurationError):
        return muleteer.site
    return None


def at_site(muleteer: Muleteer) -> str:
    """For example ` at bnl (testbed)`, so that nobody takes one for the other; nothing on the embedded engine."""
    site = site_of(muleteer)
    return "" if site is None else f" at {site.name} ({site.instance})"


def stalled_after(muleteer: Muleteer) -> timedelta:
    """After how long without news a launch is stalled."""
    return muleteer.stalled_after


def is_stalled(launch: Launch, after: timedelta) -> bool:
    """Whether it goes on, and nothing new was heard of it for long."""
    return progress.is_stalled(launch, after, utc_now())


def headline(reason: str | None) -> str | None:
    """The first line of a reason, without the end of the log that some have after it."""
    return None if reason is None else reason.partition("\n")[0].removesuffix("; its log ends with:")


def files_in_words(total: int, finished: int, failed: int) -> str | None:
    """For example `120/300, 2 failed`; None if no files are counted."""
    if not total:
        return None
    return f"{finished:,}/{total:,}" + (f", {failed:,} failed" if failed else "")


def files_of(launch: Launch) -> str | None:
    """The input files of all steps' tasks, in words."""
    counts = [step.files for step in launch.steps if step.files is not None]
    return files_in_words(
        sum(each.total for each in counts), sum(each.finished for each in counts), sum(each.failed for each in counts)
    )
