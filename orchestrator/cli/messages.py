"""Messages: listed, shown, read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import by_hand
from orchestrator.cli.filters import Event, FailedOnlyOn, Name, Scope, Since, States, Until, filter_of
from orchestrator.cli.session import Before, Exit, Home, Json, Limit, fail, opened, person
from orchestrator.cli.terminal import out, plain, print_fields, print_history, print_json, print_table
from orchestrator.clock import utc_now
from orchestrator.core.by_hand import MessageVerb
from orchestrator.core.exchange import to_json
from orchestrator.store.messages import Filter
from schemas.message import MessageDetail, MessageId, MessageState

app = typer.Typer(no_args_is_help=True, help="What arrived, and what became of it.")

#: How far `messages list` counts what it does not show.
COUNTED = 10_000


@app.command("list")
def list_(
    home: Home = None,
    state: States = None,
    event: Event = None,
    scope: Scope = None,
    name: Name = None,
    since: Since = None,
    until: Until = None,
    failed_only_on: FailedOnlyOn = None,
    limit: Limit = 50,
    before: Before = None,
    json_: Json = False,
) -> None:
    """List messages, newest first."""
    wanted = filter_of(state, event, scope, name, since, until, failed_only_on)
    with opened(home, reading=True) as muleteer:
        found = muleteer.store.messages.list(wanted, limit=limit, before=before)
        total = muleteer.store.messages.count(wanted, most=COUNTED) if not json_ else 0
    if json_:
        print_json(found)
        return
    rows = [
        (
            each.id,
            each.state,
            each.event_type,
            str(each.did) if each.did else None,
            each.generation,
            each.duplicates or None,
            each.created_at,
            each.reason,
        )
        for each in found
    ]
    columns = ("id", "state", "event", "dataset", "gen", "again", "happened", "reason")
    print_table(columns, rows, empty="No message fits.")
    if found and total > len(found):
        of = f"{total:,}" if total < COUNTED else f"{total:,} or more"
        out.print(f"\n{len(found)} of {of}; the next page: --before {found[-1].id}")


@app.command("show")
def show(id_: Annotated[int, typer.Argument(metavar="ID")], home: Home = None, json_: Json = False) -> None:
    """Show a message: what arrived, what was read from it, what it started, every change."""
    with opened(home, reading=True) as muleteer:
        found = muleteer.store.messages.get(MessageId(id_))
        started = muleteer.store.dispatches.list(message_id=found.id, limit=1000)
        changes = muleteer.store.journal.of("message", id_)
    if json_:
        value = {**json.loads(to_json(found)), "dispatches": plain(started), "journal": plain(changes)}
        print_json(value)
        return
    _print_message(found)
    out.print("\nstarted", style="bold")
    print_table(
        ("dispatch", "state", "rule", "actor", "reason"),
        [(each.id, each.state, each.rule, each.actor, each.reason) for each in started],
        empty="nothing",
    )
    print_history(changes)


def _print_message(found: MessageDetail) -> None:
    print_fields(
        {
            "message": found.id,
            "state": found.state,
            "reason": found.reason,
            "event": found.event_type,
            "dataset": str(found.did) if found.did else None,
            "life": f"incarnation {found.incarnation}, generation {found.generation}" if found.incarnation else None,
            "happened": found.created_at,
            "received": found.received_at,
            "again": f"{found.duplicates} times",
            "origin": found.origin,
            "files": found.length,
            "bytes": found.bytes,
            "events": found.events,
            "account": found.account,
        }
    )
    out.print("\nheaders", style="bold")
    for key, value in found.headers.items():
        out.print(f"  {key}: {value}")
    out.print("\nbody", style="bold")
    shown = found.body[:4000].decode(errors="backslashreplace")
    out.print(f"  {shown}")
    if len(found.body) > 4000:
        out.print(f"  ... and {len(found.body) - 4000:,} more bytes: muleteer messages show {found.id} --json")


@app.command("reinject")
def reinject(
    ids: Annotated[list[int] | None, typer.Argument(metavar="[ID]...", help="Quarantined messages.")] = None,
    home: Home = None,
    all_: Annotated[bool, typer.Option("--all", help="Every quarantined message.")] = False,
    body: Annotated[Path | None, typer.Option("--body", help="A file with the mended body, for one message.")] = None,
    json_: Json = False,
) -> None:
    """Read quarantined messages again, one of them with a mended body if it is given."""
    if bool(ids) == all_ or (body is not None and len(ids or ()) != 1):
        raise typer.BadParameter("name the messages, or --all; --body goes with exactly one")
    results = []
    with opened(home) as muleteer:
        store = muleteer.store.messages
        wanted = [MessageId(id_) for id_ in ids or ()]
        if all_:
            wanted = [each.id for each in store.list(Filter(states=[MessageState.QUARANTINED]), limit=100_000)]
        try:
            mended = body.read_bytes() if body is not None else None
        except OSError as error:
            fail(Exit.NOT_FOUND, f"{body} cannot be read: {error.strerror}")
        for id_ in wanted:
            new, what = store.reinject(id_, mended, who=person(), now=utc_now())
            results.append({"message": id_, "became": new, "result": what})
    if json_:
        print_json(results)
    else:
        for each in results:
            became = f"became message {each['became']}" if each["became"] else "is still quarantined"
            out.print(f"message {each['message']} {became}: {each['result']}")
    if any(each["became"] is None for each in results):
        raise typer.Exit(Exit.FAILED)


app.command("hold")(
    by_hand.changing(MessageVerb.HOLD, "Put pending messages aside: no rule gets them until they are released.")
)
app.command("release")(by_hand.changing(MessageVerb.RELEASE, "Have held messages judged again."))
app.command("drop")(by_hand.changing(MessageVerb.DROP, "Put messages away: pending, held or quarantined ones."))
app.command("repend")(
    by_hand.changing(
        MessageVerb.REPEND,
        "Have messages judged again that were dropped or dispatched, by the rules of now. What they started already "
        "stays, and is not started again.",
    )
)
app.command("dispatch")(by_hand.give)
