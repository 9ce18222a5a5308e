"""What the commands share: where the home is, how things are printed, how errors end."""

from __future__ import annotations

import getpass
import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestrator import logs
from orchestrator.broker.port import BrokerError
from orchestrator.clock import utc_now
from orchestrator.dispatch.rules import RulesRefused
from orchestrator.monitor.access import TokenError
from orchestrator.panda.port import EngineError
from orchestrator.rucio.port import CatalogError, CatalogUnavailable, DidNotFound
from orchestrator.settings import ConfigurationError, load
from orchestrator.store.port import NotAllowed, NotFound, StoreError
from orchestrator.wiring import Muleteer, store_url
from schemas.durations import format_duration
from schemas.views import JournalEntry


class Exit(IntEnum):
    """Exit codes of every command. Documented in docs/reference/cli.md; a test holds the two together."""

    OK = 0
    #: The command did its work, and something in it failed or was found wrong.
    FAILED = 1
    #: The command line cannot be understood.
    USAGE = 2
    #: Settings, rules or a document were refused; nothing was changed.
    REFUSED = 3
    #: There is no such thing, or its state does not allow it.
    NOT_FOUND = 4
    #: Store, broker, catalog or engine cannot be used.
    UNAVAILABLE = 5


Home = Annotated[
    Path | None,
    typer.Option(
        "--home", envvar="MULETEER_HOME", help="muleteer's directory; else the current one.", show_default=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value on standard output, and nothing else.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=100_000, help="At most so many, newest first.")]
Before = Annotated[
    int | None, typer.Option("--before", help="Only those with a smaller id: the page after the one that ended there.")
]


class _Plain(Console):
    """A console that prints texts as they are: no markup, and nothing that could steer the terminal."""

    def print(self, *objects: Any, **options: Any) -> None:
        shown = (visible(each) if isinstance(each, str) else each for each in objects)
        super().print(*shown, **{"markup": False, **options})


def visible(text: str) -> str:
    """The text with its control characters spelled out: what came in a message must not steer a terminal."""
    if text.isprintable():
        return text
    return "".join(sign if sign in "\n\t" or sign.isprintable() else repr(sign)[1:-1] for sign in text)


#: What people read. Wide when it is not a terminal, so that nothing is cut off in a file or a pipe.
out = _Plain(width=None if sys.stdout.isatty() else 240, soft_wrap=not sys.stdout.isatty(), highlight=False)
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


def fail(code: Exit, message: str) -> NoReturn:
    """End with a message on standard error."""
    err.print(f"muleteer: {message}", style="red" if err.is_terminal else None)
    raise typer.Exit(code)


@contextmanager
def errors_explained() -> Iterator[None]:
    """Turn what can be foreseen into a sentence and an exit code."""
    try:
        yield
    except (ConfigurationError, RulesRefused, TokenError) as error:
        fail(Exit.REFUSED, str(error))
    except (NotFound, NotAllowed, DidNotFound) as error:
        fail(Exit.NOT_FOUND, str(error))
    except (StoreError, BrokerError, CatalogUnavailable, EngineError) as error:
        fail(Exit.UNAVAILABLE, str(error))
    except CatalogError as error:
        fail(Exit.REFUSED, str(error))


@contextmanager
def opened(home: Path | None, *, reading: bool = False, quiet: bool = True) -> Iterator[Muleteer]:
    """muleteer in its home directory, closed at the end.

    `reading` commands, and those that act only on what is there, do not make a store where there is none; `quiet` ones
    log warnings only.
    """
    place = (home or Path()).resolve()
    with errors_explained():
        if not place.is_dir():
            fail(Exit.NOT_FOUND, f"there is no directory {place}: `muleteer init --home {place}` makes it a home")
        settings = load(place)
        logs.configure(level="warning" if quiet else settings.log.level, style=settings.log.format)
        url = store_url(settings, place)
        if reading and url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
            fail(Exit.NOT_FOUND, f"nothing was ever stored in {place}: give muleteer's directory with --home")
        muleteer = Muleteer(place, settings)
        try:
            yield muleteer
        finally:
            muleteer.close()


def command() -> str:
    """How to call muleteer from here: by name if it is on the path, else by its path."""
    return "muleteer" if shutil.which("muleteer") else str(Path(sys.argv[0]).resolve())


def person() -> str:
    """Who is typing, for the journal."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):
        return "cli:unknown"


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
