"""Dispatches: listed, shown with every try, put back on the list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from orchestrator.cli.common import (
    Before,
    Exit,
    Home,
    Json,
    Limit,
    fail,
    opened,
    out,
    person,
    plain,
    print_fields,
    print_history,
    print_json,
    print_table,
)
from orchestrator.clock import utc_now
from orchestrator.store.dispatches import Dispatches
from schemas.dispatch import DispatchId, DispatchState
from schemas.message import MessageId

app = typer.Typer(no_args_is_help=True, help="What is to be done, and what came of it.")

States = Annotated[list[DispatchState] | None, typer.Option("--state", help="Only these states; may be repeated.")]


@app.command("list")
def list_(
    home: Home = None,
    state: States = None,
    rule: Annotated[str | None, typer.Option("--rule", help="Only of this rule.")] = None,
    message: Annotated[int | None, typer.Option("--message", help="Only of this message.")] = None,
    limit: Limit = 50,
    before: Before = None,
    json_: Json = False,
) -> None:
    """List dispatches, newest first."""
    with opened(home, reading=True) as muleteer:
        found = muleteer.store.dispatches.list(
            states=state or (),
            rule=rule,
            message_id=MessageId(message) if message is not None else None,
            limit=limit,
            before=before,
        )
    if json_:
        print_json(found)
        return
    rows = [
        (each.id, each.state, each.rule, each.actor, each.message_id, each.attempts, each.updated_at, each.reason)
        for each in found
    ]
    columns = ("id", "state", "rule", "actor", "message", "tries", "updated", "reason")
    print_table(columns, rows, empty="No dispatch fits.")


@app.command("show")
def show(id_: Annotated[int, typer.Argument(metavar="ID")], home: Home = None, json_: Json = False) -> None:
    """Show a dispatch: what it does, every try with its output, every change."""
    with opened(home, reading=True) as muleteer:
        store = muleteer.store
        found = store.dispatches.get(DispatchId(id_))
        tries = store.dispatches.attempts_of(found.id)
        changes = store.journal.of("dispatch", id_)
    if json_:
        print_json({**plain(found), "tries": plain(tries), "journal": plain(changes)})
        return
    print_fields(
        {
            "dispatch": found.id,
            "state": found.state,
            "reason": found.reason,
            "rule": f"{found.rule} (version row {found.rule_version_id}), action {found.action}",
            "message": found.message_id,
            "actor": found.actor,
            "options": found.options,
            "captured": found.captured,
            "not before": found.not_before,
            "worker": found.owner,
        }
    )
    for each in tries:
        out.print(f"\ntry {each.number}: {each.outcome}, {each.reason or 'going on'}", style="bold")
        out.print(f"  {each.started_at:%Y-%m-%d %H:%M:%S} UTC, worker {each.owner}")
        for name, text in (("stdout", each.stdout), ("stderr", each.stderr)):
            if text:
                out.print(f"  {name}:")
                for line in text.rstrip("\n").split("\n"):
                    out.print(f"    {line}")
    print_history(changes)


@app.command("retry")
def retry(
    ids: Annotated[list[int] | None, typer.Argument(metavar="[ID]...")] = None,
    home: Home = None,
    failed: Annotated[bool, typer.Option("--failed", help="All that failed.")] = False,
    rule: Annotated[str | None, typer.Option("--rule", help="With --failed: only of this rule.")] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the journal.")] = "retried by hand",
    json_: Json = False,
) -> None:
    """Put failed dispatches back on the list, with a fresh count of tries."""
    if bool(ids) == failed:
        raise typer.BadParameter("name dispatches by id, or all that failed with --failed")
    with opened(home) as muleteer:
        store = muleteer.store.dispatches
        wanted = list(_failed(store, rule)) if failed else [store.get(DispatchId(id_)).id for id_ in ids or ()]
        retried = store.retry(wanted, who=person(), why=reason, now=utc_now())
        # with --failed, what is not failed any more was retried by somebody else: that is no mistake
        others = [] if failed else [store.get(id_) for id_ in sorted({*wanted} - {*retried})]
    if json_:
        print_json({"retried": retried, "not_failed": [each.id for each in others]})
    else:
        out.print(f"{len(retried)} dispatches are ready again")
    if others:
        said = ", ".join(f"{each.id} is {each.state}" for each in others)
        fail(Exit.NOT_FOUND, f"only failed dispatches can be retried: {said}")


def _failed(store: Dispatches, rule: str | None) -> Iterator[DispatchId]:
    """Every failed dispatch, a page at a time."""
    last: DispatchId | None = None
    while page := store.list(states=[DispatchState.FAILED], rule=rule, limit=1000, before=last):
        yield from (each.id for each in page)
        last = page[-1].id
