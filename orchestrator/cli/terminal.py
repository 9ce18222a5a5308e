"""How the commands print: for people, and as JSON."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel
from rich.console import Console, ConsoleDimensions
from rich.table import Table
from rich.text import Text

from orchestrator.clock import utc_now
from schemas.durations import format_duration
from schemas.views import JournalEntry

#: Columns where there is no terminal and nobody says $COLUMNS, so that nothing is cut off in a file or a pipe.
_WIDE = 240


class _Plain(Console):
    """A console that prints texts as they are: no markup, no names of emoji, and nothing that steers the terminal."""

    @property  # type: ignore[misc]  # of rich's consoles it can be set as well, and nobody does
    def size(self) -> ConsoleDimensions:
        """Of the terminal; elsewhere as wide as $COLUMNS says."""
        if self.is_terminal:
            return super().size
        columns = os.environ.get("COLUMNS", "")
        return ConsoleDimensions(int(columns) if columns.isdecimal() and int(columns) else _WIDE, 25)

    def print(self, *objects: Any, **options: Any) -> None:
        shown = (visible(each) if isinstance(each, str) else each for each in objects)
        super().print(*shown, **{"markup": False, "emoji": False, **options})


def visible(text: str) -> str:
    """The text with its control characters spelled out: what came in a message must not steer a terminal."""
    if text.isprintable():
        return text
    return "".join(sign if sign in "\n\t" or sign.isprintable() else repr(sign)[1:-1] for sign in text)


#: What people read.
out = _Plain(soft_wrap=not sys.stdout.isatty(), highlight=False)
err = _Plain(stderr=True, highlight=False, soft_wrap=True)

#: Colours only underline what the words say already.
_STYLES: Mapping[str, str] = {
    "pending": "yellow",
    "dispatched": "green",
    "quarantined": "red",
    "held": "magenta",
    "ready": "yellow",
    "running": "cyan",
    "submitted": "cyan",
    "waiting": "yellow",
    "done": "green",
    "finished": "green",
    "failed": "bold red",
    "partly_finished": "red",
    "in_doubt": "bold magenta",
}


def print_json(value: object) -> None:
    """One JSON value on standard output, and nothing else."""
    sys.stdout.write(json.dumps(plain(value), ensure_ascii=False) + "\n")


def plain(value: object) -> Any:
    """The value as JSON values."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return value


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """A table that can be read without colour; `empty` says in words that there is nothing to show."""
    if not rows:
        out.print(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in _NUMBERS else "left", overflow="fold")
    for row in rows:
        table.add_row(*(cell(value) for value in row))
    out.print(table)


_NUMBERS = frozenset({"id", "message", "files", "bytes", "again", "tries", "rules", "dispatch", "gen"})


def cell(value: object) -> Text:
    """One value as a person reads it."""
    if value is None:
        return Text("-")
    if isinstance(value, datetime):
        return Text(f"{value:%Y-%m-%d %H:%M:%S} UTC")
    text = visible(str(value).partition("\n")[0])
    return Text(text, style=_STYLES.get(text, "") if isinstance(value, StrEnum) else "")


def print_fields(fields: Mapping[str, object]) -> None:
    """Names and values, one a line."""
    width = max(len(name) for name in fields)
    for name, value in fields.items():
        out.print(Text(f"{name:<{width}}  ", style="bold") + cell(value))


def print_history(changes: Sequence[JournalEntry]) -> None:
    """Every change of one thing, oldest first."""
    out.print("\nhistory", style="bold")
    rows = [(each.at, each.who, each.from_state, each.to_state, each.why) for each in changes]
    print_table(("at", "who", "from", "to", "why"), rows, empty="nothing")


def ago(moment: datetime | None) -> str:
    """How long ago, in words."""
    if moment is None:
        return "never"
    span = utc_now() - moment
    return f"{format_duration(span - (span % _SECOND))} ago"


_SECOND = utc_now().resolution * 1_000_000
