"""Waiting rooms: listed, shown, and settled by hand."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.session import Before, Home, Json, Limit, opened, person
from orchestrator.cli.terminal import out, plain, print_fields, print_history, print_json, print_table
from orchestrator.clock import utc_now
from orchestrator.store.rooms import RoomFilter
from schemas.dispatch import Dispatch
from schemas.room import RoomDetail, RoomId, RoomState

app = typer.Typer(no_args_is_help=True, help="Datasets that wait for others with the same key.")

Id = Annotated[int, typer.Argument(metavar="ID")]
Slot = Annotated[str, typer.Argument(help="The member's name in the rule.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for the journal.")]
States = Annotated[list[RoomState] | None, typer.Option("--state", help="Only these states; may be repeated.")]


@app.command("list")
def list_(
    home: Home = None,
    rule: Annotated[str | None, typer.Option("--rule", help="Only of this rule.")] = None,
    state: States = None,
    missing: Annotated[str | None, typer.Option("--missing", help="Only those that wait for this member.")] = None,
    limit: Limit = 50,
    before: Before = None,
    json_: Json = False,
) -> None:
    """List waiting rooms, newest first."""
    wanted = RoomFilter(rule=rule, states=state or (), missing=missing)
    with opened(home, reading=True) as muleteer:
        last = None if before is None else RoomId(before)
        found = muleteer.store.rooms.list(wanted, limit=limit, before=last)
    if json_:
        print_json(found)
        return
    rows = [
        (
            each.id,
            each.state,
            "orphaned" if each.orphaned else "",
            each.rule,
            each.key,
            each.round,
            ", ".join(each.arrived) or None,
            ", ".join(each.missing) or None,
            each.deadline,
        )
        for each in found
    ]
    columns = ("id", "state", "", "rule", "key", "round", "arrived", "missing", "deadline")
    print_table(columns, rows, empty="No waiting room fits.")


@app.command("show")
def show(id_: Id, home: Home = None, json_: Json = False) -> None:
    """Show a room: what has arrived and when, what is missing, masked and waived, and every change."""
    with opened(home, reading=True) as muleteer:
        store = muleteer.store
        found = store.rooms.get(RoomId(id_))
        started = [] if found.message_id is None else store.dispatches.list(message_id=found.message_id)
        started = [each for each in started if each.rule == found.rule]
        changes = store.journal.of("room", id_)
        (version,) = (each.version for each in store.history.versions({found.rule_version_id}))
    if json_:
        print_json(
            {
                **plain(found),
                "rule_version": version,
                "dispatches": [each.id for each in started],
                "journal": plain(changes),
            }
        )
        return
    _print(found, version, started)
    print_history(changes)


@app.command("waive")
def waive(id_: Id, slot: Slot, reason: Reason, home: Home = None, json_: Json = False) -> None:
    """Declare a member unnecessary for this room; if nothing else is missing, it is dispatched."""
    with opened(home) as muleteer:
        room = muleteer.store.rooms.waive(RoomId(id_), slot, who=person(), why=reason, now=utc_now())
    _tell(room, json_)


@app.command("unwaive")
def unwaive(id_: Id, slot: Slot, home: Home = None, reason: Reason = "taken back by hand", json_: Json = False) -> None:
    """Take a waiver back: the member is waited for again."""
    with opened(home) as muleteer:
        room = muleteer.store.rooms.unwaive(RoomId(id_), slot, who=person(), why=reason, now=utc_now())
    _tell(room, json_)


@app.command("close")
def close(id_: Id, reason: Reason, home: Home = None, json_: Json = False) -> None:
    """Wait no more, and drop what waits."""
    with opened(home) as muleteer:
        room = muleteer.store.rooms.close(RoomId(id_), who=person(), why=reason, now=utc_now())
    _tell(room, json_)


@app.command("dispatch")
def dispatch(id_: Id, reason: Reason, home: Home = None, json_: Json = False) -> None:
    """Wait no more, and dispatch with what is there."""
    with opened(home) as muleteer:
        room = muleteer.store.rooms.dispatch(RoomId(id_), who=person(), why=reason, now=utc_now())
    _tell(room, json_)


def _tell(room: RoomDetail, json_: bool) -> None:
    if json_:
        print_json(room)
        return
    waits = f"waits for {', '.join(room.missing)}" if room.missing else "waits for nothing more"
    out.print(
        f"room {room.id} of rule {room.rule} for {room.key} {waits if room.closed_at is None else f'is {room.state}'}"
    )


def _print(room: RoomDetail, version: int, started: list[Dispatch]) -> None:
    print_fields(
        {
            "room": room.id,
            "state": f"{room.state}{', orphaned: its rule is not in force' if room.orphaned else ''}",
            "reason": room.reason,
            "rule": f"{room.rule} version {version}",
            "key": f"{room.key}, round {room.round}",
            "opened": room.opened_at,
            "deadline": room.deadline,
            "closed": room.closed_at,
            "missing": ", ".join(room.missing) or None,
            "masked": ", ".join(room.masked) or None,
            "dispatches": ", ".join(str(each.id) for each in started) or None,
        }
    )
    out.print("\nmembers", style="bold")
    rows = [
        (
            each.slot,
            each.message_id,
            each.did,
            each.created_at,
            each.at,
            "late" if each.late else "left" if each.left_at else "counts" if each.counts else "replaced",
            each.reason,
        )
        for each in room.members
    ]
    columns = ("member", "message", "dataset", "happened", "arrived", "", "its message says")
    print_table(columns, rows, empty="nobody yet")
    if room.waivers:
        out.print("\nwaived", style="bold")
        waived = [(each.slot, each.who, each.at, each.reason) for each in room.waivers]
        print_table(("member", "by", "at", "why"), waived, empty="")
