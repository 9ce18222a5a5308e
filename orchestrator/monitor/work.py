"""What goes on: counts, dispatches, launches."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from orchestrator.monitor.asking import Asked, Before, Id, Limit, authenticated
from schemas.dispatch import Dispatch, DispatchId, DispatchState
from schemas.launch import Launch, LaunchId, LaunchState
from schemas.views import Counts

#: Needs no token, and tells nothing.
open_router = APIRouter(tags=["service"])
router = APIRouter(prefix="/api/v1", tags=["work"], dependencies=[authenticated])


@open_router.get("/healthz")
def alive(window: Asked) -> dict[str, bool]:
    """Whether the service can reach its store; 503 if it cannot."""
    window.store.rules.revision()
    return {"alive": True}


@router.get("/status")
def status(window: Asked) -> Counts:
    """How many messages, dispatches and launches there are, by state."""
    return window.store.counts()


@router.get("/dispatches")
def dispatches(
    window: Asked,
    state: Annotated[tuple[DispatchState, ...], Query()] = (),
    rule: str | None = None,
    limit: Limit = 50,
    before: Before = None,
) -> list[Dispatch]:
    """A page of dispatches, newest first."""
    return window.store.dispatches.list(states=state, rule=rule, limit=limit, before=before)


@router.get("/dispatches/{id_}")
def dispatch(window: Asked, id_: Id) -> dict[str, Any]:
    """One dispatch, with every try at it and everything that happened to it."""
    found = window.store.dispatches.get(DispatchId(id_))
    return {
        **found.model_dump(mode="json"),
        "tries": window.store.dispatches.attempts_of(found.id),
        "journal": window.store.journal.of("dispatch", id_),
    }


@router.get("/launches")
def launches(
    window: Asked,
    state: Annotated[tuple[LaunchState, ...], Query()] = (),
    limit: Limit = 50,
    before: Before = None,
) -> list[Launch]:
    """A page of launches, newest first."""
    return window.store.launches.list(states=state, limit=limit, before=before)


@router.get("/launches/{id_}")
def launch(window: Asked, id_: Id) -> dict[str, Any]:
    """One launch, and everything that happened to it."""
    found = window.store.launches.get(LaunchId(id_))
    return {**found.model_dump(mode="json"), "journal": window.store.journal.of("launch", id_)}
