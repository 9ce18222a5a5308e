"""Closings that the broker lost, found in the catalog and made up for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from difflib import get_close_matches
from typing import Annotated

import typer

from orchestrator.cli.filters import in_utc
from orchestrator.cli.session import Exit, Home, Json, fail, opened, person
from orchestrator.cli.terminal import err, out, print_json, print_table
from orchestrator.rucio.port import Catalog
from schemas.durations import format_duration
from schemas.reconciliation import MissedClosing

app = typer.Typer(no_args_is_help=True, help="Closings that the broker lost: found in the catalog, and made up for.")

#: Missed closings that are printed one by one.
_SHOWN = 100

_WILD = frozenset("*?[")


@app.command("once")
def once(
    since: Annotated[
        datetime | None,
        typer.Option("--since", help="Closings from then on, UTC; else from where the last look ended."),
    ] = None,
    scope: Annotated[
        list[str] | None, typer.Option("--scope", help="Only this scope; * and ? match; may be repeated.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is missing.")] = False,
    home: Home = None,
    json_: Json = False,
) -> None:
    """Compare the catalog's closings with the messages that came, and store what is missing.

    A message that stands in for a lost event has the origin `reconcile`; rules see it like any other. If the event
    comes late after all, it starts nothing.
    """
    missed: list[MissedClosing] = []

    def tell(closing: MissedClosing) -> None:
        if len(missed) < _SHOWN:
            missed.append(closing)

    with opened(home) as muleteer:
        _demand_scopes(muleteer.catalog, scope or ())
        reconciler = muleteer.reconciler(scope)
        done = reconciler.reconcile(since=in_utc(since), dry_run=dry_run, who=person(), tell=tell)
    if json_:
        print_json({**done.model_dump(mode="json"), "dry_run": dry_run, "missed": missed})
        return
    for each in missed:
        out.print(f"{each.did} was closed at {each.closed_at:%Y-%m-%d %H:%M:%S} UTC, {_span(each.lag)} ago")
    if done.missing > len(missed):
        out.print(f"... and {done.missing - len(missed):,} more")
    if done.since == done.until:
        out.print(
            f"This was the first look: nothing was compared, and it begins at {done.until:%Y-%m-%d %H:%M:%S} UTC."
        )
        out.print("--since looks further back.")
        return
    span = f"from {done.since:%Y-%m-%d %H:%M:%S} to {done.until:%Y-%m-%d %H:%M:%S} UTC"
    if not done.closings:
        where = f" in {', '.join(scope)}" if scope else ""
        out.print(f"Nothing was closed{where} {span}: there is nothing to compare")
        return
    found = "none is missing"
    if done.missing:
        found = f"{done.missing:,} were missing{'' if dry_run else ', and are stored now'}"
    out.print(f"{done.closings:,} closings {span}: {found}")


def _demand_scopes(catalog: Catalog, wanted: Sequence[str]) -> None:
    """A slip of the pen must not look like a scope of which nothing is missing."""
    for pattern in wanted:
        if catalog.scopes(pattern):
            continue
        if _WILD & set(pattern):
            err.print(f"muleteer: no scope of {catalog.address} fits {pattern}: nothing is looked at for it")
            continue
        near = get_close_matches(pattern, catalog.scopes(), 1)
        fail(Exit.NOT_FOUND, f"{catalog.address} has no scope {pattern}{f'; did you mean {near[0]}?' if near else ''}")


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="At most so many, newest first.")] = 20,
    home: Home = None,
    json_: Json = False,
) -> None:
    """List what was compared, how much was missing, and how late it was found."""
    with opened(home, reading=True) as muleteer:
        found = muleteer.store.reconciliations.latest(limit)
    if json_:
        print_json(found)
        return
    rows = [
        (each.started_at, each.who, each.since, each.until, each.closings, each.missing, _lag(each.longest_lag))
        for each in found
    ]
    columns = ("at", "who", "from", "to", "closings", "missing", "longest")
    print_table(columns, rows, empty="Nothing was ever compared.")


def _lag(seconds: float | None) -> str | None:
    return None if seconds is None else _span(seconds)


def _span(seconds: float) -> str:
    return format_duration(timedelta(seconds=round(seconds)))
