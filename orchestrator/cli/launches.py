"""Launches: listed, shown with their steps."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.common import (
    Before,
    Home,
    Json,
    Limit,
    opened,
    out,
    plain,
    print_fields,
    print_history,
    print_json,
    print_table,
)
from schemas.launch import LaunchId, LaunchState

app = typer.Typer(no_args_is_help=True, help="Workflows that were started.")

States = Annotated[list[LaunchState] | None, typer.Option("--state", help="Only these states; may be repeated.")]


@app.command("list")
def list_(
    home: Home = None, state: States = None, limit: Limit = 50, before: Before = None, json_: Json = False
) -> None:
    """List launches, newest first."""
    with opened(home, reading=True) as muleteer:
        found = muleteer.store.launches.list(states=state or (), limit=limit, before=before)
    if json_:
        print_json(found)
        return
    rows = [
        (
            each.id,
            each.state,
            each.name,
            " ".join(f"{step.name}:{step.state}" for step in each.steps),
            each.updated_at,
            each.reason,
        )
        for each in found
    ]
    print_table(("id", "state", "name", "steps", "updated", "reason"), rows, empty="No launch fits.")


@app.command("show")
def show(id_: Annotated[int, typer.Argument(metavar="ID")], home: Home = None, json_: Json = False) -> None:
    """Show a launch: what went in, its steps, what came out, every change."""
    with opened(home, reading=True) as muleteer:
        found = muleteer.store.launches.get(LaunchId(id_))
        changes = muleteer.store.journal.of("launch", id_)
    if json_:
        print_json({**plain(found), "journal": plain(changes)})
        return
    print_fields(
        {
            "launch": found.id,
            "state": found.state,
            "reason": found.reason,
            "name": found.name,
            "key": found.key,
            "workflow": found.workflow,
            "parameters": found.parameters,
            "inputs": ", ".join(found.inputs.values()) or None,
            "outputs": ", ".join(found.outputs) or None,
            "engine": f"{found.engine} {found.reference or ''}",
            "dispatch": found.dispatch_id,
        }
    )
    out.print()
    print_table(
        ("step", "state", "started", "ended", "exit", "log"),
        [(each.name, each.state, each.started_at, each.ended_at, each.exit_code, each.log) for each in found.steps],
        empty="no steps",
    )
    for each in found.steps:
        if each.reason:
            out.print(f"\n{each.name}: {each.reason}")
    print_history(changes)
