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


def filter_of(
    states: Sequence[MessageState] | None,
    event: str | None,
    scope: str | None,
    name: str | None,
    since: datetime | None,
    until: datetime | None,
) -> Filter:
    """The filter that the options describe."""
    return Filter(
        states=states or (),
        event=event_name(event) if event is not None else None,
        scope=scope,
        name=name,
        since=since.replace(tzinfo=UTC) if since is not None else None,
        until=until.replace(tzinfo=UTC) if until is not None else None,
    )
