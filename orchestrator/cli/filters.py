"""Which messages a command is about: the options that `messages list` and `messages export` share."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from orchestrator.store.messages import Filter
from schemas.event import event_name
from schemas.message import MessageState

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
FailedOnlyOn = Annotated[
    str | None,
    typer.Option(
        "--failed-only-on",
        help="Only near misses: some rule refused it for this clause alone (scope, runs, a condition's name).",
        metavar="CLAUSE",
    ),
]


def filter_of(
    states: Sequence[MessageState] | None,
    event: str | None,
    scope: str | None,
    name: str | None,
    since: datetime | None,
    until: datetime | None,
    failed_only_on: str | None = None,
) -> Filter:
    """The filter that the options describe."""
    return Filter(
        states=states or (),
        event=event_name(event) if event is not None else None,
        scope=scope,
        name=name,
        since=in_utc(since),
        until=in_utc(until),
        failed_only_on=failed_only_on,
    )


def in_utc(moment: datetime | None) -> datetime | None:
    """A moment as it was typed, which is UTC."""
    return None if moment is None else moment.replace(tzinfo=UTC)
