"""Messages: brought in and out, by hand or as files."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import Annotated, TextIO

import typer

from orchestrator.cli.filters import Event, Name, Scope, Since, States, Until, filter_of
from orchestrator.cli.session import Exit, Home, Json, fail, opened, person
from orchestrator.cli.terminal import err, out, print_json
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
from orchestrator.store.intake import Arrival, Intake
from orchestrator.wiring import Muleteer
from schemas.event import event_name
from schemas.message import MessageDetail

#: Frames stored in one transaction.
_BATCH, _BATCH_BYTES = 500, 8 * 1024 * 1024

Source = Annotated[str, typer.Argument(metavar="FILE", help="A file, or - for standard input.")]


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


class Format(StrEnum):
    JSON = "json"
    CSV = "csv"


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
        found = muleteer.store.messages.export(filter_of(state, event, scope, name, since, until))
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
    raw = _raw(file)
    first = next(raw, "")
    lines = chain([first], raw)
    if format_ is Format.CSV or (format_ is None and not first.lstrip().startswith("{")):
        yield from ((f"line {number}", each) for number, each in from_csv("".join(lines)))
        return
    donkey = _donkey(file) if file != "-" and isinstance(_carried(first), LineError) else None
    if donkey is not None:
        yield from from_donkey(donkey)
        return
    yield from ((f"line {number}", _carried(line)) for number, line in enumerate(lines, 1) if line.strip())


def _donkey(file: str) -> dict[str, object] | None:
    try:
        value = json.loads(Path(file).read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return None
    return value if is_donkey(value) else None


def _lines(file: str) -> Iterator[tuple[int, str]]:
    """The lines with their numbers, from 1, but for empty ones."""
    yield from ((number, line) for number, line in enumerate(_raw(file), 1) if line.strip())


def _raw(file: str) -> Iterator[str]:
    """The lines as they are, ends included. What is not UTF-8 is kept for the message about it."""
    try:
        with nullcontext(sys.stdin.buffer) if file == "-" else Path(file).open("rb") as opened_:
            yield from (line.decode("utf-8", "surrogateescape") for line in opened_)
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
    for batch in _batches(lines):
        good: list[Carried] = []
        for place, each in batch:
            if isinstance(each, LineError):
                refused += 1
                err.print(f"{place}: {each}")
            else:
                good.append(each)
        arrivals = [(Arrival(each.headers, each.body), each.state if keep_states else None) for each in good]
        if arrivals:
            taken += store.restore(arrivals, origin=origin, who=person(), now=utc_now())
    return taken, refused


def _batches(lines: Iterable[tuple[str, Carried | LineError]]) -> Iterator[list[tuple[str, Carried | LineError]]]:
    """Bounded in count and in bytes, so that memory stays flat whatever the file."""
    batch: list[tuple[str, Carried | LineError]] = []
    size = 0
    for place, each in lines:
        batch.append((place, each))
        size += 0 if isinstance(each, LineError) else len(each.body)
        if len(batch) >= _BATCH or size >= _BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


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
            f"{refused} lines refused"
        )
    if refused:
        raise typer.Exit(Exit.FAILED)
