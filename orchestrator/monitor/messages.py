"""What arrived."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query

from orchestrator.core.exchange import to_json
from orchestrator.monitor.asking import Asked, Before, Id, Limit, authenticated
from orchestrator.store.messages import Filter
from schemas.event import event_name
from schemas.message import Message, MessageId, MessageState

router = APIRouter(prefix="/api/v1/messages", tags=["messages"], dependencies=[authenticated])


@router.get("")
def listed(
    window: Asked,
    state: Annotated[tuple[MessageState, ...], Query()] = (),
    event: str | None = None,
    scope: Annotated[str | None, Query(description="`*` and `?` match")] = None,
    name: Annotated[str | None, Query(description="`*` and `?` match")] = None,
    since: Annotated[datetime | None, Query(description="arrived at or after this time; UTC unless it says so")] = None,
    until: Annotated[datetime | None, Query(description="arrived before this time; UTC unless it says so")] = None,
    limit: Limit = 50,
    before: Before = None,
) -> list[Message]:
    """A page of messages, newest first."""
    wanted = Filter(
        states=state,
        event=event_name(event) if event is not None else None,
        scope=scope,
        name=name,
        since=_in_utc(since),
        until=_in_utc(until),
    )
    return window.store.messages.list(wanted, limit=limit, before=before)


@router.get("/{id_}")
def shown(window: Asked, id_: Id) -> dict[str, Any]:
    """One message: what arrived, what it started, everything that happened to it."""
    found = window.store.messages.get(MessageId(id_))
    return {
        **json.loads(to_json(found)),
        "dispatches": window.store.dispatches.list(message_id=found.id, limit=1000),
        "journal": window.store.journal.of("message", id_),
    }


def _in_utc(moment: datetime | None) -> datetime | None:
    if moment is None or moment.tzinfo is not None:
        return moment
    return moment.replace(tzinfo=UTC)
