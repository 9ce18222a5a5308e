"""Why launches failed: their failed jobs summed up by what went wrong, with what to do about it."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from orchestrator.cli.by_hand import Ids
from orchestrator.cli.filters import in_utc
from orchestrator.cli.launches_filters import RuleName, Runs, States, Text, WorkflowName, filter_of
from orchestrator.cli.session import Home, Json, command, opened
from orchestrator.cli.terminal import cell, err, out, plain, print_json
from orchestrator.core.failure_groups import By, summed_up
from orchestrator.launch.failure_gathering import Gathered, Gatherer
from orchestrator.launch.failure_table import read_table
from orchestrator.store.launch_listing import ALL_LAUNCHES, LaunchFilter
from orchestrator.store.launches import Launches
from orchestrator.wiring import Muleteer
from schemas.failure import FailedJob, FailureClass, FailureGroup, Source
from schemas.launch import Launch, LaunchId, LaunchState

Since = Annotated[
    datetime | None, typer.Option("--since", help="Only what failed at or after this time, UTC.", metavar="TIME")
]
Apart = Annotated[By, typer.Option("--by", help="What is told apart, beside what went wrong.")]
Most = Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most so many launches, the newest.")]

#: States of launches that are looked at unless others are named.
_BAD: Final = (LaunchState.FAILED, LaunchState.PARTLY_FINISHED)

#: Launches that are read at once.
_PAGE: Final = 500

#: Ids and sites that are named one by one.
_NAMED: Final = 8

#: Letters of what a job complains of.
_SAID: Final = 300

#: Colours only underline what the words say already.
_STYLES: Final = {
    FailureClass.PAYLOAD: "red",
    FailureClass.MEMORY: "magenta",
    FailureClass.TIME: "magenta",
    FailureClass.SITE: "yellow",
    FailureClass.STORAGE: "yellow",
    FailureClass.TRANSIENT: "cyan",
    FailureClass.OURS: "red",
    FailureClass.UNKNOWN: "bold",
}


def failures(
    ids: Ids = None,
    home: Home = None,
    state: States = None,
    workflow: WorkflowName = None,
    run: Runs = None,
    rule: RuleName = None,
    name: Text = None,
    since: Since = None,
    by: Apart = By.STEP,
    limit: Most = 100,
    json_: Json = False,
) -> None:
    """Say why jobs failed: what went wrong, how often, where, an example with its log, and what to do about it.

    Without ids, the launches that failed or finished only partly.
    """
    after = in_utc(since)
    with opened(home, reading=True) as muleteer:
        wanted = filter_of(muleteer, state, workflow, run, rule, name, stalled=False)
        if ids and wanted != ALL_LAUNCHES:
            raise typer.BadParameter("name the launches by id, or give filters such as --state and --workflow")
        table = read_table(muleteer.home)
        launches = muleteer.store.launches
        chosen = [launches.get(LaunchId(id_)) for id_ in ids] if ids else _failed(launches, wanted, after, limit)
        gathered = _gathered(muleteer, chosen)
    failed = [each for each in gathered.failed if after is None or each.job.at is None or each.job.at >= after]
    groups = summed_up(failed, table, by)
    remarks = [*gathered.remarks, *_cut(chosen, ids, limit)]
    if json_:
        print_json(_as_json(chosen, groups, remarks))
        return
    _print(chosen, groups, home)
    for remark in remarks:
        err.print(f"note: {remark}", style="yellow" if err.is_terminal else None)


def _failed(launches: Launches, wanted: LaunchFilter, after: datetime | None, limit: int) -> list[Launch]:
    """Those that failed, newest first; what has not changed since then cannot have failed since."""
    found: list[Launch] = []
    before: int | None = None
    states = () if wanted.states else _BAD
    while len(found) < limit:
        page = launches.list(wanted, states=states, limit=_PAGE, before=before)
        found += [each for each in page if after is None or each.updated_at >= after]
        if len(page) < _PAGE:
            break
        before = page[-1].id
    return found[:limit]


def _gathered(muleteer: Muleteer, chosen: Sequence[Launch]) -> Gathered:
    if not chosen:
        return Gathered((), ())
    return Gatherer(muleteer.store.launches, muleteer.engine).gather(chosen)


def _cut(chosen: Sequence[Launch], ids: Sequence[int] | None, limit: int) -> Iterator[str]:
    if not ids and len(chosen) == limit:
        yield f"only the newest {limit} launches were looked at, there may be more: say so with --limit"


def _as_json(chosen: Sequence[Launch], groups: Sequence[FailureGroup], remarks: Sequence[str]) -> dict[str, Any]:
    return {
        "launches": [each.id for each in chosen],
        "jobs": sum(group.jobs for group in groups),
        "classes": dict(_classes(groups)),
        "groups": [plain(group.model_dump(mode="json", by_alias=True)) for group in groups],
        "remarks": list(remarks),
    }


def _classes(groups: Sequence[FailureGroup]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for group in groups:
        counts[group.class_.value] += group.jobs
    return counts


def _print(chosen: Sequence[Launch], groups: Sequence[FailureGroup], home: Path | None) -> None:
    if not chosen:
        out.print("No launch fits.")
        return
    of = f"of {len(chosen)} launches" if len(chosen) > 1 else f"of launch {chosen[0].id}"
    if not groups:
        out.print(f"No job {of} failed.")
        return
    counts = ", ".join(f"{count:,} {name}" for name, count in _classes(groups).most_common())
    out.print(f"{_jobs(sum(group.jobs for group in groups))} {of} failed: {counts}")
    for group in groups:
        _print_group(group, home)


def _print_group(group: FailureGroup, home: Path | None) -> None:
    parts = [
        _coded(group.source, group.code),
        _jobs(group.jobs),
        _listed("step", "steps", group.steps),
        _listed("site", "sites", [_counted(site, count, group.jobs) for site, count in group.sites.items()]),
        _listed("launch", "launches", [str(id_) for id_ in group.launches]),
    ]
    out.print()
    out.print(f"{group.class_}: {'; '.join(part for part in parts if part)}", style=_STYLES[group.class_])
    out.print(f"  means    {group.means}")
    out.print(f"  example  {_example(group.example, group)}")
    if group.example.log is not None:
        out.print(f"  log      {group.example.log}")
    if group.first is not None and group.last is not None:
        out.print(f"  when     {_when(group.first, group.last)}")
    out.print(f"  do       {group.action}")
    if group.command:
        where = ("--home", str(home)) if home is not None else ()
        out.print(f"           {shlex.join((command(), *group.command, *where))}", style="bold")


def _example(job: FailedJob, group: FailureGroup) -> str:
    what = f"task {job.task}" if job.task is not None else f"step {job.step}" if job.step is not None else ""
    where = [
        f"launch {group.example_launch}",
        what if job.job is None else f"job {job.job}",
        f"at {job.site}" if job.site is not None else "",
        f"attempt {job.attempt}" if job.attempt is not None else "",
    ]
    said = "; ".join(
        ": ".join(part for part in (_coded(each.source, each.code), _short(each.text)) if part)
        for each in job.complaints
    )
    return f"{', '.join(part for part in where if part)}: {said}"


def _coded(source: Source, code: int | None) -> str:
    """Who says it, and the code; a step or a launch as a whole is named anyway."""
    if code is not None:
        return f"{source} {code}"
    return "" if source in (Source.STEP, Source.LAUNCH) else source.value


def _short(text: str) -> str:
    """On one line; of what is long, the end, where a log says what went wrong."""
    words = " ".join(text.split())
    return words if len(words) <= _SAID else f"...{words[-_SAID:]}"


def _when(first: datetime, last: datetime) -> str:
    shown = cell(last).plain
    return shown if first == last else f"{cell(first).plain} to {shown}"


def _jobs(count: int) -> str:
    return f"{count:,} job" if count == 1 else f"{count:,} jobs"


def _counted(site: str, count: int, jobs: int) -> str:
    return site if count == jobs else f"{site} ({count:,})"


def _listed(one: str, many: str, names: Sequence[str]) -> str:
    if not names:
        return ""
    if len(names) == 1:
        return f"{one} {names[0]}"
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return f"{len(names):,} {many}: {', '.join(names[:_NAMED])}{more}"
