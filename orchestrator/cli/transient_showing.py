"""Transient datasets: listed, one shown with its whole story, and what they come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final

import typer
from rich.filesize import decimal

from orchestrator.cli.session import Home, Json, Limit, opened
from orchestrator.cli.terminal import out, plain, print_fields, print_history, print_json, print_table
from orchestrator.cli.transient_meant import Word, meant, short
from orchestrator.clock import utc_now
from orchestrator.store.messages import payload_of
from orchestrator.store.transient_copies import GONE, Fates
from orchestrator.store.transient_telling import FAILED
from orchestrator.store.transients import Transients
from schemas.did import Did
from schemas.message import Message, MessageDetail, MessageId
from schemas.transient import Copy, Transient, TransientId, TransientState

#: Copies that are shown one by one.
_SHOWN: Final = 20

#: Copies that are read at a time.
_PAGE: Final = 1000


def list_(
    state: Annotated[
        list[TransientState] | None, typer.Option("--state", help="Only in this state; may be repeated.")
    ] = None,
    policy: Annotated[str | None, typer.Option("--policy", help="Only what this policy matched last.")] = None,
    run: Annotated[int | None, typer.Option("--run", min=0, help="Only of this run of the detector.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many, oldest first.")] = 50,
    after: Annotated[
        int,
        typer.Option("--after", min=0, help="Only those with a larger id: the page after the one that ended there."),
    ] = 0,
    home: Home = None,
    json_: Json = False,
) -> None:
    """List what policies have matched, and where it stands."""
    with opened(home, reading=True) as muleteer:
        store = muleteer.store.transients
        found = store.list(states=state or (), policy=policy, run=run, limit=limit, after=after)
    if json_:
        print_json(found)
        return
    rows = [
        (each.id, each.state, each.did, each.policy, each.files, decimal(each.bytes), _when(each), short(each.reason))
        for each in found
    ]
    columns = ("id", "state", "dataset", "policy", "files", "size", "leaves", "why")
    print_table(columns, rows, empty="Nothing is like that. `muleteer transient survey` looks what policies match.")
    if len(found) == limit:
        out.print(f"perhaps there are more: --after {found[-1].id}")


def _when(each: Transient) -> str | None:
    """When it left or will leave, at the earliest."""
    gone = each.gone_at if each.state is TransientState.GONE else None
    at = gone or each.leaving_at or each.leaves_at
    if at is not None and each.state in (TransientState.RELEASED, TransientState.LEAVING, TransientState.GONE):
        return f"{at:%Y-%m-%d %H:%M} UTC"
    until = max((at for at in (each.due_at, each.extended_until) if at is not None), default=None)
    return None if until is None else f"not before {until:%Y-%m-%d %H:%M} UTC"


def show(
    which: Word,
    home: Home = None,
    json_: Json = False,
) -> None:
    """Show one transient dataset: what was proved, what stands in its way, its copies, and all that happened."""
    with opened(home, reading=True) as muleteer:
        store = muleteer.store.transients
        found = meant(store, which)
        lives = [each.id for each in store.find(found.did) if each.id != found.id]
        fates, copies = store.fates(found.id), _left(store, found.id)
        told = store.told_of(found.did)
        reasons = {each.id: _reason(muleteer.store.messages.get(each.id)) for each in told if each.event_type == FAILED}
        history = muleteer.store.journal.of("transient", found.id)
    if json_:
        more = {"other_lives": lives, "copies": fates._asdict(), "copies_left": copies}
        events = [{**plain(each), "why": reasons.get(each.id)} for each in told]
        print_json({**plain(found), **plain(more), "events": events, "journal": plain(history)})
        return
    print_fields({name: value for name, value in _fields(found).items() if value is not None})
    if lives:
        out.print(f"other lives of this name: {', '.join(map(str, lives))}")
    _print_lines("what stands in the way", [f"{check}: {text}" for check, text in found.refusals])
    _print_lines("what was proved when it was released", found.release.evidence if found.release else ())
    _print_copies(fates, copies, {each.did: reasons[each.id] for each in reversed(told) if each.id in reasons})
    _print_events(told, reasons)
    print_history(history)


def _fields(found: Transient) -> dict[str, Any]:
    frees = found.release.frees if found.release is not None else ()
    return {
        "transient": found.id,
        "dataset": found.did,
        "made": found.born_at,
        "state": found.state,
        "why": found.reason,
        "policy": f"{found.policy} {found.policy_version}",
        "run": found.run,
        "files": f"{found.files:,}, {decimal(found.bytes)}",
        "successor": found.successor,
        "by age": found.due_at,
        "stays until": found.extended_until,
        "released": found.released_at,
        "released by": found.released_by,
        "frees": ", ".join(f"{each.files:,} at {each.rse} ({decimal(each.bytes)})" for each in frees) or None,
        "leaves": found.leaves_at if found.state is TransientState.RELEASED else None,
        "leaving": found.leaving_at,
        "gone": found.gone_at,
        "freed": f"{found.freed_files:,} copies, {decimal(found.freed_bytes)}" if found.freed_files else None,
        "last seen": found.seen_at,
    }


def _left(store: Transients, id_: TransientId) -> list[Copy]:
    """The first of its copies that have not gone."""
    after, found = -1, list[Copy]()
    while len(found) < _SHOWN and (page := store.copies(id_, after=after, limit=_PAGE)):
        found += [copy for _, copy in page if copy.fate != GONE]
        after = page[-1][0]
    return found[:_SHOWN]


def _reason(failed: MessageDetail) -> str:
    """Why the catalog could not delete a copy, in its words."""
    return " ".join(str(payload_of(failed.body).get("reason") or "it did not say why").split())


def _print_copies(fates: Fates, left: list[Copy], failed: Mapping[Did | None, str]) -> None:
    """`failed` has by file why the catalog could not delete it when it tried last."""
    if not any(fates):
        return
    out.print("\ncopies", style="bold")
    out.print(
        f"{fates.gone:,} gone ({decimal(fates.gone_bytes)}), {fates.open:,} not settled yet, {fates.staying:,} stay"
    )
    if left:
        rows = [(each.did, each.rse, decimal(each.bytes), each.pfn, _fate(each, failed.get(each.did))) for each in left]
        print_table(("file", "rse", "size", "where", "fate"), rows, empty="")
    if fates.open + fates.staying > len(left):
        out.print(f"... and {fates.open + fates.staying - len(left):,} more")


def _fate(copy: Copy, failed: str | None) -> str:
    return copy.fate or ("not settled yet" if failed is None else f"not settled yet; could not be deleted: {failed}")


def _print_events(told: Sequence[Message], reasons: Mapping[MessageId, str]) -> None:
    if told:
        out.print("\nwhat the catalog told of it, newest first", style="bold")
        rows = [(each.created_at, each.event_type, each.did, each.id, reasons.get(each.id)) for each in told]
        print_table(("at", "event", "of", "message", "why"), rows, empty="")


def _print_lines(title: str, lines: Any) -> None:
    if lines:
        out.print(f"\n{title}", style="bold")
        for line in lines:
            out.print(f"  {line}")


def keeps(
    all_: Annotated[bool, typer.Option("--all", help="Those that were lifted or are over, too.")] = False,
    limit: Limit = 50,
    home: Home = None,
    json_: Json = False,
) -> None:
    """List what stays because a person or a rule said so."""
    with opened(home, reading=True) as muleteer:
        store = muleteer.store.transient_keeps
        found = store.all(limit) if all_ else store.newest(limit, utc_now())
        never = muleteer.settings.transient.never
    if json_:
        print_json({"keeps": found, "never": never})
        return
    rows = [
        (each.id, each.which, each.who, each.at, each.until or "for ever", each.lifted_at or each.lifted_by, each.why)
        for each in found
    ]
    columns = ("id", "what stays", "who", "since", "until", "lifted", "why")
    print_table(columns, rows, empty="Nobody keeps anything. `muleteer transient keep SCOPE:NAME --reason ...` does.")
    if len(found) == limit:
        out.print("perhaps there are more: --limit")
    if never:
        out.print(f"by the settings, for ever: {', '.join(never)}")
