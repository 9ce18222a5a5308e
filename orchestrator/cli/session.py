"""A command from its beginning to its end: where the home is, who is typing, and how errors end it."""

from __future__ import annotations

import getpass
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from orchestrator import logs
from orchestrator.broker.port import BrokerError
from orchestrator.cli.terminal import err
from orchestrator.dispatch.rules import RulesRefused
from orchestrator.monitor.access import TokenError
from orchestrator.panda.port import EngineError
from orchestrator.register.known_sums import KnownSumsAway
from orchestrator.rucio.port import CatalogError, CatalogUnavailable, DidNotFound, NotAdmitted
from orchestrator.settings import ConfigurationError, load
from orchestrator.store.port import NotAllowed, NotFound, StoreError
from orchestrator.wiring import Muleteer, store_url


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


def fail(code: Exit, message: str) -> NoReturn:
    """End with a message on standard error."""
    err.print(f"muleteer: {message}", style="red" if err.is_terminal else None)
    raise typer.Exit(code)


@contextmanager
def errors_explained() -> Iterator[None]:
    """Turn what can be foreseen into a sentence and an exit code."""
    try:
        yield
    except (ConfigurationError, RulesRefused, TokenError, NotAdmitted) as error:
        fail(Exit.REFUSED, str(error))
    except (NotFound, NotAllowed, DidNotFound) as error:
        fail(Exit.NOT_FOUND, str(error))
    except (StoreError, BrokerError, CatalogUnavailable, EngineError, KnownSumsAway) as error:
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
