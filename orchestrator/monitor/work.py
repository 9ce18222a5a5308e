"""What goes on, in numbers."""

from __future__ import annotations

from fastapi import APIRouter

from orchestrator.monitor.asking import Asked, authenticated
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
