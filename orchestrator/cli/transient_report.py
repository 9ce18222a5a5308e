"""What transient datasets come to: what leaves soon, what was freed, what takes too long."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

import typer
from rich.filesize import decimal

from orchestrator.cli.session import Exit, Home, Json, opened
from orchestrator.cli.terminal import ago, out, print_json, print_table
from orchestrator.cli.transient_meant import datasets
from orchestrator.clock import utc_now
from orchestrator.store.transient_spending import Freed
from orchestrator.transient.reporting import SLOW
from schemas.durations import parse_duration
from schemas.transient import Transient

app = typer.Typer(no_args_is_help=True, help="What leaves soon, what was freed, what takes too long.")


class _By(StrEnum):
    DAY = "day"
    POLICY = "policy"
    WHO = "who"


def _span(text: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


@app.command("expiring")
def expiring(
    within: Annotated[
        timedelta,
        typer.Option("--within", parser=_span, metavar="SPAN", show_default="1d", help="From now on: 12h, 7d, ..."),
    ] = timedelta(days=1),
    home: Home = None,
    json_: Json = False,
) -> None:
    """List what was released, and leaves soon unless it is taken back."""
    with opened(home, reading=True) as muleteer:
        found = list(muleteer.transient_reporter.expiring(utc_now() + within))
    if json_:
        print_json(found)
        return
    found.sort(key=lambda each: (each.leaves_at or each.updated_at, each.id))
    rows = [(each.leaves_at, each.id, each.did, _freed(each), each.policy, each.released_by) for each in found]
    columns = ("leaves", "id", "dataset", "frees", "policy", "released by")
    print_table(columns, rows, empty="Nothing that was released leaves so soon.")


@app.command("freed")
def freed(
    since: Annotated[
        timedelta,
        typer.Option("--since", parser=_span, metavar="SPAN", show_default="30d", help="So long ago: 30d, ..."),
    ] = timedelta(days=30),
    by: Annotated[_By, typer.Option("--by", help="Summed up by this.")] = _By.DAY,
    home: Home = None,
    json_: Json = False,
) -> None:
    """Sum up what has left, and is proved to be gone. What others took away is not in it.

    `so far`: what has gone of datasets that are leaving still.
    """
    with opened(home, reading=True) as muleteer:
        store = muleteer.store.transients
        sums = store.freed(utc_now() - since, by.value)
        if (so_far := store.freed_so_far()).files:
            sums.append(Freed("so far", *so_far))
    if json_:
        print_json([each._asdict() for each in sums])
        return
    rows = [(each.key, each.datasets, each.files, decimal(each.bytes)) for each in sums]
    print_table((by.value, "datasets", "copies", "freed"), rows, empty="Nothing has left since then.")
    if rows:
        total = sum(each.bytes for each in sums)
        out.print(f"\n{datasets(sum(each.datasets for each in sums))}, {decimal(total)}")


@app.command("overdue")
def overdue(
    after: Annotated[
        timedelta,
        typer.Option(
            "--after",
            parser=_span,
            metavar="SPAN",
            show_default="1d",
            help="What has been leaving for longer.",
        ),
    ] = SLOW,
    home: Home = None,
    json_: Json = False,
) -> None:
    """List what should have left, and why it has not: copies that are held, files that are on the disk still.

    What the catalog could not delete a copy of is listed at once. `transient show` has the reasons that it gave.
    """
    with opened(home, reading=True) as muleteer:
        found = list(muleteer.transient_reporter.overdue(utc_now(), after))
    if json_:
        print_json(found)
    else:
        rows = [(each.id, each.state, each.did, ago(each.leaving_at or each.leaves_at), each.reason) for each in found]
        print_table(("id", "state", "dataset", "since", "why"), rows, empty="Nothing takes too long.")
    if found:
        raise typer.Exit(Exit.FAILED)


def _freed(each: Transient) -> str | None:
    return None if each.release is None else decimal(each.release.freed)
