"""Launches watched until they have ended."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Final

import typer
from rich.console import RenderableType
from rich.live import Live
from rich.table import Table

from orchestrator.cli.launches_filters import files_of, headline
from orchestrator.cli.session import Exit, Home, Json, fail, opened
from orchestrator.cli.terminal import cell, out, plain, print_json
from orchestrator.core.progress import percent
from orchestrator.core.states import LAUNCH_ENDED
from orchestrator.store.launches import Launches
from schemas.launch import Launch, LaunchId, LaunchState

#: How often the store is asked, in seconds.
_PAUSE: Final = 1.0


def watch(
    ids: Annotated[list[int], typer.Argument(metavar="ID...")],
    home: Home = None,
    json_: Json = False,
) -> None:
    """Watch launches until all have ended and are not retried by policy. Exit 0 if all of them finished, 1 if not.

    Without a terminal, each change is one line; with --json, how they ended is said at the end.
    """
    with opened(home, reading=True) as muleteer:
        ended = _until_ended(muleteer.store.launches, [LaunchId(id_) for id_ in ids], quiet=json_)
    if json_:
        print_json([{**plain(each), "percent": percent(each.steps)} for each in ended])
    bad = [each for each in ended if each.state is not LaunchState.FINISHED]
    if bad:
        fail(Exit.FAILED, "\n".join(_ending(each) for each in bad))


def _until_ended(launches: Launches, ids: Sequence[LaunchId], *, quiet: bool) -> Sequence[Launch]:
    with _screen(quiet=quiet) as live:
        said: dict[LaunchId, str] = {}
        while True:
            seen = [launches.get(id_) for id_ in ids]
            if live is not None:
                live.update(_table(seen), refresh=True)
            elif not quiet:
                _say_changes(seen, said)
            if all(each.state in LAUNCH_ENDED and each.retry_at is None for each in seen):
                return seen
            time.sleep(_PAUSE)


@contextmanager
def _screen(*, quiet: bool) -> Iterator[Live | None]:
    if quiet or not out.is_terminal:
        yield None
        return
    with Live(console=out, auto_refresh=False) as live:
        yield live


def _table(launches: Sequence[Launch]) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("id", "state", "name", "done", "files", "steps"):
        table.add_column(column, overflow="fold")
    for each in launches:
        row = (each.id, each.state, each.name, f"{percent(each.steps):g}%", files_of(each), _steps(each))
        table.add_row(*(cell(value) for value in row))
    return table


def _say_changes(launches: Sequence[Launch], said: dict[LaunchId, str]) -> None:
    for each in launches:
        files = files_of(each)
        line = f"launch {each.id} {each.state} {percent(each.steps):g}% {_steps(each)}" + (
            f" files {files}" if files else ""
        )
        if said.get(each.id) != line:
            said[each.id] = line
            out.print(f"{each.updated_at:%Y-%m-%d %H:%M:%S} UTC {line}")


def _steps(launch: Launch) -> str:
    return " ".join(f"{step.name}:{step.state}" for step in launch.steps)


def _ending(launch: Launch) -> str:
    return f"launch {launch.id} is {launch.state}" + (f": {headline(launch.reason)}" if launch.reason else "")
