"""Messages: listed, shown, brought in and out."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Annotated, TextIO

import typer

from orchestrator.cli.common import (
    Before,
    Exit,
    Home,
    Json,
    Limit,
    err,
    fail,
    opened,
    out,
    person,
    plain,
    print_fields,
    print_json,
    print_table,
)
from orchestrator.clock import utc_now
from orchestrator.core.exchange import (
    Carried,
    LineError,
    csv_header,
    from_csv,
    from_donkey,
    from_json,
    is_donkey,
    to_csv,
    to_json,
)
from orchestrator.store.messages import Arrival, Filter, Intake
from orchestrator.wiring import Muleteer
from schemas.event import event_name
from schemas.message import MessageDetail, MessageId, MessageState

app = typer.Typer(no_args_is_help=True, help="What arrived, and what became of it.")

States = Annotated[list[MessageState] | None, typer.Option("--state", help="Only these states; may be repeated.")]
Event = Annotated[str | None, typer.Option("--event", help="Only this event, in either spelling.")]
Scope = Annotated[str | None, typer.Option("--scope", help="Only this scope; * and ? match.")]
Name = Annotated[str | None, typer.Option("--name", help="Only this name; * and ? match.")]
Since = Annotated[
    datetime | None, typer.Option("--since", help="Only those that arrived at or after this time, UTC.", metavar="TIME")
]
Until = Annotated[
    datetime | None, typer.Option("--until", help="Only those that arrived before this time, UTC.", metavar="TIME")
]
Source = Annotated[str, typer.Argument(metavar="FILE", help="A file, or - for standard input.")]

#: Frames stored in one transaction.
_BATCH = 500


def _filter(
    states: Sequence[MessageState] | None,
    event: str | None,
    scope: str | None,
    name: str | None,
    since: datetime | None,
    until: datetime | None,
) -> Filter:
    return Filter(
        states=states or (),
        event=event_name(event) if event is not None else None,
        scope=scope,
        name=name,
        since=since.replace(tzinfo=UTC) if since is not None else None,
        until=until.replace(tzinfo=UTC) if until is not None else None,
    )


@app.command("list")
def list_(
    home: Home = None,
    state: States = None,
    event: Event = None,
    scope: Scope = None,
    name: Name = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    before: Before = None,
    json_: Json = False,
) -> None:
    """List messages, newest first."""
    wanted = _filter(state, event, scope, name, since, until)
    with opened(home, reading=True) as muleteer:
        found = muleteer.store.messages.list(wanted, limit=limit, before=before)
        total = muleteer.store.messages.count(wanted) if not json_ else 0
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
        out.print(f"\n{len(found)} of {total}; the next page: --before {found[-1].id}", markup=False)


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
    out.print("\nhistory", style="bold")
    print_table(
        ("at", "who", "from", "to", "why"),
        [(each.at, each.who, each.from_state, each.to_state, each.why) for each in changes],
        empty="",
    )


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
            "contents": f"{found.length} files, {found.bytes} bytes, {found.events} events",
            "account": found.account,
        }
    )
    out.print("\nheaders", style="bold")
    for key, value in found.headers.items():
        out.print(f"  {key}: {value}", markup=False)
    out.print("\nbody", style="bold")
    shown = found.body[:4000].decode(errors="backslashreplace")
    out.print(f"  {shown}", markup=False)
    if len(found.body) > 4000:
        out.print(
            f"  ... and {len(found.body) - 4000:,} more bytes: muleteer messages show {found.id} --json", markup=False
        )


@app.command("inject")
def inject(
    file: Annotated[str | None, typer.Argument(metavar="[FILE]", help="JSON lines; - for standard input.")] = None,
    home: Home = None,
    event: Annotated[str, typer.Option("--event", help="Without a file: the event.")] = "close",
    scope: Annotated[str | None, typer.Option("--scope", help="Without a file: the scope.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Without a file: the dataset's name.")] = None,
    json_: Json = False,
) -> None:
    """Put frames into the store as if the broker had brought them.

    From a file with lines of {"headers": {...}, "body": "..."}, or one made up from --scope and --name.
    """
    if (file is None) == (scope is None or name is None):
        raise typer.BadParameter("give a file of frames, or --scope and --name of a dataset")
    with opened(home) as muleteer:
        if file is None:
            lines: Iterable[tuple[str, Carried | LineError]] = [("--name", _made_up(event, scope or "", name or ""))]
        else:
            lines = ((f"line {number}", _carried(line)) for number, line in _lines(file))
        taken, refused = _bring_in(muleteer, lines, origin="inject", keep_states=False)
    _report(taken, refused, json_)


def _made_up(event: str, scope: str, name: str) -> Carried:
    body = {
        "event_type": event_name(event),
        "payload": {"scope": scope, "name": name},
        "created_at": f"{utc_now():%Y-%m-%d %H:%M:%S.%f}",
    }
    return Carried({"event_type": event_name(event)}, json.dumps(body).encode())


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
            out.print(f"message {each['message']} {became}: {each['result']}", markup=False)
    if any(each["became"] is None for each in results):
        raise typer.Exit(Exit.FAILED)


class Format(StrEnum):
    JSON = "json"
    CSV = "csv"


@app.command("export")
def export(
    home: Home = None,
    format_: Annotated[Format, typer.Option("--format", help="json: one object a line; csv.")] = Format.JSON,
    output: Annotated[Path | None, typer.Option("--output", help="A file; else standard output.")] = None,
    state: States = None,
    event: Event = None,
    scope: Scope = None,
    name: Name = None,
    since: Since = None,
    until: Until = None,
) -> None:
    """Write messages out, whole, oldest first."""
    with opened(home, reading=True) as muleteer:
        found = muleteer.store.messages.export(_filter(state, event, scope, name, since, until))
        if output is None:
            _write(found, format_, sys.stdout)
            return
        try:
            with output.open("w", encoding="utf-8", newline="") as file:
                _write(found, format_, file)
        except OSError as error:
            fail(Exit.REFUSED, f"{output} cannot be written: {error.strerror}")


def _write(found: Iterable[MessageDetail], format_: Format, file: TextIO) -> None:
    if format_ is Format.CSV:
        file.write(csv_header() + "\r\n")
    for each in found:
        file.write(to_csv(each) + "\r\n" if format_ is Format.CSV else to_json(each) + "\n")


@app.command("import")
def import_(
    file: Source,
    home: Home = None,
    format_: Annotated[
        Format | None, typer.Option("--format", help="json or csv; else what the content looks like.")
    ] = None,
    json_: Json = False,
) -> None:
    """Bring messages in where they stood: what `export` wrote, or donkey's pickleDB file (JSON).

    What was dispatched stays dispatched, and is not dispatched again.
    """
    with opened(home) as muleteer:
        taken, refused = _bring_in(muleteer, _content(file, format_), origin="import", keep_states=True)
    _report(taken, refused, json_)


def _content(file: str, format_: Format | None) -> Iterator[tuple[str, Carried | LineError]]:
    if format_ is not Format.CSV:
        lines = _lines(file)
        first = next(lines, (0, ""))[1]
        if format_ is Format.JSON or first.lstrip().startswith("{"):
            donkey = _donkey(file) if file != "-" else None
            if donkey is not None:
                yield from from_donkey(donkey)
                return
            if first.strip():
                yield "line 1", _carried(first)
            yield from ((f"line {number}", _carried(line)) for number, line in lines)
            return
    text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    yield from ((f"line {number}", each) for number, each in from_csv(text))


def _donkey(file: str) -> dict[str, object] | None:
    try:
        value = json.loads(Path(file).read_text(encoding="utf-8"))
    except ValueError:
        return None
    return value if is_donkey(value) else None


def _lines(file: str) -> Iterator[tuple[int, str]]:
    """The lines with their numbers, from 1, but for empty ones. A line that is not UTF-8 is kept for its message."""
    if file == "-":
        yield from ((number, line) for number, line in enumerate(sys.stdin, 1) if line.strip())
        return
    try:
        with Path(file).open(encoding="utf-8", errors="surrogateescape") as opened_:
            yield from ((number, line) for number, line in enumerate(opened_, 1) if line.strip())
    except OSError as error:
        fail(Exit.NOT_FOUND, f"{file} cannot be read: {error.strerror}")


def _carried(line: str) -> Carried | LineError:
    try:
        return from_json(line)
    except LineError as error:
        return error


def _bring_in(
    muleteer: Muleteer, lines: Iterable[tuple[str, Carried | LineError]], *, origin: str, keep_states: bool
) -> tuple[Intake, int]:
    """Store what can be read, say where the rest stands."""
    store, taken, refused = muleteer.store.messages, Intake(), 0
    numbered = iter(lines)
    while batch := list(islice(numbered, _BATCH)):
        good: list[Carried] = []
        for place, each in batch:
            if isinstance(each, LineError):
                refused += 1
                err.print(f"{place}: {each}", markup=False)
            else:
                good.append(each)
        arrivals = [(Arrival(each.headers, each.body), each.state if keep_states else None) for each in good]
        if arrivals:
            taken += store.restore(arrivals, origin=origin, who=person(), now=utc_now())
    return taken, refused


def _report(taken: Intake, refused: int, json_: bool) -> None:
    if json_:
        print_json(
            {
                "stored": taken.stored,
                "quarantined": taken.quarantined,
                "duplicates": taken.duplicates,
                "refused": refused,
            }
        )
    else:
        out.print(
            f"{taken.stored} messages stored ({taken.quarantined} of them quarantined), {taken.duplicates} duplicates, "
            f"{refused} lines refused",
            markup=False,
        )
    if refused:
        raise typer.Exit(Exit.FAILED)
