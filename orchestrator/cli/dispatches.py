"""Dispatches: listed, shown with every try; `dispatches_by_hand` has what people do to them."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli import dispatches_by_hand
from orchestrator.cli.dispatches_by_hand import RuleName, States
from orchestrator.cli.session import Before, Home, Json, Limit, opened
from orchestrator.cli.terminal import out, plain, print_fields, print_history, print_json, print_table
from orchestrator.core.by_hand import DispatchVerb
from schemas.dispatch import DispatchId
from schemas.message import MessageId

app = typer.Typer(no_args_is_help=True, help="What is to be done, and what came of it.")


@app.command("list")
def list_(
    home: Home = None,
    state: States = None,
    rule: RuleName = None,
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
        (version,) = (each.version for each in store.history.versions({found.rule_version_id}))
    if json_:
        print_json({**plain(found), "rule_version": version, "tries": plain(tries), "journal": plain(changes)})
        return
    print_fields(
        {
            "dispatch": found.id,
            "state": found.state,
            "reason": found.reason,
            "rule": f"{found.rule} version {version}, action {found.action}",
            "message": found.message_id,
            "actor": found.actor,
            "options": found.options,
            "captured": found.captured,
            "unique key": found.unique_key,
            "round": found.round or None,
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


app.command("retry")(dispatches_by_hand.retry)
app.command("cancel")(
    dispatches_by_hand.changing(DispatchVerb.CANCEL, "Cancel dispatches: ready, waiting, held, failed or refused ones.")
)
app.command("hold")(
    dispatches_by_hand.changing(DispatchVerb.HOLD, "Put dispatches aside that are ready or waiting, until released.")
)
app.command("release")(dispatches_by_hand.changing(DispatchVerb.RELEASE, "Put held dispatches back on the list."))
app.command("redispatch")(dispatches_by_hand.redispatch)
app.command("force")(dispatches_by_hand.force)
