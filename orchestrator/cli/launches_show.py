"""One launch, with all that is known of it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated

import typer

from orchestrator.cli.launches_filters import (
    files_in_words,
    files_of,
    headline,
    is_stalled,
    site_of,
    stalled_after,
)
from orchestrator.cli.launches_jobs import print_heard
from orchestrator.cli.session import Home, Json, opened
from orchestrator.cli.terminal import out, plain, print_fields, print_history, print_json, print_table
from orchestrator.core.gates import Subject
from orchestrator.core.progress import percent
from orchestrator.core.retry_policy import policy_in_words
from orchestrator.core.retry_steps import CALLED_OFF, WHO
from orchestrator.core.retrying import RETRIED_FROM
from orchestrator.core.states import LAUNCH_ENDED
from schemas.gate import Suspension
from schemas.launch import Launch, LaunchCommand, LaunchFile, LaunchId, LaunchState, SubmissionRecord
from schemas.site import Site
from schemas.views import JournalEntry


def show(
    id_: Annotated[int, typer.Argument(metavar="ID")],
    home: Home = None,
    files: Annotated[bool, typer.Option("--files", help="What was sent, file by file.")] = False,
    tries: Annotated[
        bool, typer.Option("--tries", help="Every try at handing it over: what was run, what came back.")
    ] = False,
    json_: Json = False,
) -> None:
    """Show a launch: what went in, its steps, what came out, what was asked of it, every change."""
    with opened(home, reading=True) as muleteer:
        store = muleteer.store
        found = store.launches.get(LaunchId(id_))
        changes = store.journal.of("launch", id_)
        asked = store.launch_commands.of(found.id)
        sent = store.launches.files(found.id) if files else None
        tried = store.launches.tries(found.id) if tries else None
        links = _links(found, site_of(muleteer))
        after = stalled_after(muleteer)
        heard = store.job_reports.by_step(found.id)
        held = store.launch_retries.held_up_by(found) if found.retry_at is not None else None
    if json_:
        more = {
            "percent": percent(found.steps),
            "links": links,
            "stalled": is_stalled(found, after),
            "retry_held_up_by": held,
            "commands": asked,
            "heard": heard,
        }
        parts = {key: value for key, value in (("files", sent), ("tries", tried)) if value is not None}
        print_json({**plain(found), **plain({**more, **parts}), "journal": plain(changes)})
        return
    _print_launch(found, links, after, _retried(found, changes, held))
    _print_steps(found, links)
    print_heard(heard)
    _print_asked(asked)
    if sent is not None:
        _print_files(sent)
    if tried is not None:
        _print_tries(tried)
    print_history(changes)


def _links(launch: Launch, site: Site | None) -> dict[str, str]:
    """Pages for people: of the request, and of each step's task."""
    links: dict[str, str] = {}
    if site is None:
        return links
    kind, _, number = (launch.reference or "").partition(":")
    if kind == "request" and site.monitor.request is not None:
        links["request"] = site.monitor.request.replace("{id}", number)
    for step in launch.steps:
        if step.task is not None and site.monitor.task is not None:
            links[step.name] = site.monitor.task.replace("{id}", str(step.task))
    return links


def _print_launch(found: Launch, links: dict[str, str], after: timedelta, retried: str | None) -> None:
    fields: dict[str, object] = {
        "launch": found.id,
        "state": found.state,
        "reason": headline(found.reason),
        "name": found.name,
        "key": found.key,
        "workflow": found.workflow,
        "run": found.run,
        "parameters": ", ".join(f"{name}={value}" for name, value in found.parameters.items()) or None,
        "inputs": ", ".join(found.inputs.values()) or None,
        "outputs": ", ".join(found.outputs) or None,
        "engine": f"{found.engine} {found.reference or ''}",
        "definition": found.definition,
        "dispatch": found.dispatch_id,
        "done": f"{percent(found.steps):g}%",
        "files": files_of(found),
        "retry": None if found.retry is None else policy_in_words(found.retry),
        "retried": retried,
    }
    if "request" in links:
        fields["page"] = links["request"]
    if found.state not in LAUNCH_ENDED and found.moved_at is not None:
        fields["last news"] = f"{found.moved_at:%Y-%m-%d %H:%M:%S} UTC" + (
            " (stalled)" if is_stalled(found, after) else ""
        )
    if found.state is LaunchState.PREPARED and found.dispatch_id is None:
        again, stop = f"muleteer workflow launch --go-on {found.id}", f"muleteer launches kill {found.id}"
        fields["next"] = f"`{again}` tries again to send it, `{stop} --reason ...` gives it up, and its name with it"
    print_fields(fields)


def _retried(found: Launch, changes: Sequence[JournalEntry], held: Suspension | None) -> str | None:
    """What its policy makes of its end: when that is decided and how to call it off, or why nothing is retried."""
    if found.retry_at is not None:
        when = f"at {found.retry_at:%Y-%m-%d %H:%M:%S} UTC or soon after"
        if held is not None:
            when = f"once {Subject(held.kind, held.name).words} goes on: stopped by {held.who}: {held.reason}"
        return f"decided by its policy, {when}; `muleteer launches kill {found.id} --reason ...` calls it off"
    last = changes[-1] if changes else None
    if last is None or found.state not in RETRIED_FROM:
        return None
    if (last.why or "").startswith(CALLED_OFF):
        return f"{last.who}: {last.why}"
    return last.why if last.who == WHO else None


def _print_steps(found: Launch, links: dict[str, str]) -> None:
    out.print()
    rows = [
        (
            each.name,
            each.state,
            each.task,
            each.task_status,
            None if each.files is None else files_in_words(each.files.total, each.files.finished, each.files.failed),
            each.started_at,
            each.ended_at,
            each.exit_code,
        )
        for each in found.steps
    ]
    columns = ("step", "state", "task", "PanDA says", "files", "started", "ended", "exit")
    # an engine that tells nothing of a column leaves its room to the others
    told = [place for place in range(len(columns)) if place < 2 or any(row[place] is not None for row in rows)]
    print_table([columns[place] for place in told], [[row[place] for place in told] for row in rows], empty="no steps")
    logs = [(each.name, links.get(each.name) or each.log) for each in found.steps]
    if any(log is not None for _, log in logs):
        out.print()
        print_table(("step", "log"), [row for row in logs if row[1] is not None], empty="no logs")
    for each in found.steps:
        if each.reason:
            out.print(f"\n{each.name}: {each.reason}")


def _print_asked(asked: Sequence[LaunchCommand]) -> None:
    if not asked:
        return
    out.print("\nasked of it", style="bold")
    for each in asked:
        parameters = ", ".join(f"{name}={value}" for name, value in each.parameters.items())
        what = (
            f"{each.command}{f' of step {each.step}' if each.step else ''}{f' with {parameters}' if parameters else ''}"
        )
        out.print(f"{each.asked_at:%Y-%m-%d %H:%M:%S} UTC  {each.who}  {what}: {each.why or 'no reason given'}")
        out.print(f"   {each.state}" + (f": {each.answer}" if each.answer else ""))


def _print_files(sent: Sequence[LaunchFile]) -> None:
    out.print("\nsent", style="bold")
    rows = [(each.path, each.size, "x" if each.executable else None, each.digest) for each in sent]
    print_table(("path", "bytes", "runs", "SHA-256"), rows, empty="nothing was kept")


def _print_tries(tried: Sequence[SubmissionRecord]) -> None:
    out.print("\ntries", style="bold")
    for each in tried:
        step = f" step {each.step}" if each.step is not None else ""
        out.print(f"{each.number}.{step} {each.started_at:%Y-%m-%d %H:%M:%S} UTC: {each.verdict or 'no verdict'}")
        for name, text in (
            ("command", shlex.join(each.command)),
            ("client", each.client),
            ("exit code", each.exit_code),
            ("answer", each.answer),
            ("printed", each.output.strip().replace("\n", "\n            ")),
        ):
            if text not in (None, ""):
                out.print(f"   {name}: {text}")
    if not tried:
        out.print("none")
