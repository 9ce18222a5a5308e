"""What stands still: everything, a group of rules, a rule, releases of transient datasets."""

from __future__ import annotations

from typing import Any, Self

from fastapi import APIRouter
from pydantic import Field, model_validator

from orchestrator.core.gates import Subject
from orchestrator.monitor.asking import Asked, Because, Person, authenticated
from schemas.gate import Kind, Suspension

router = APIRouter(prefix="/api/v1/suspensions", tags=["suspensions"], dependencies=[authenticated])


class What(Because):
    """What is to stand still, or to go on."""

    kind: Kind
    name: str = Field(default="", description="the group or the rule; empty for everything, and for releases")

    @model_validator(mode="after")
    def _has_the_name_it_needs(self) -> Self:
        if (self.kind in (Kind.GROUP, Kind.RULE)) != bool(self.name):
            raise ValueError("a group or a rule needs its name; everything, and releases (transient), have none")
        return self

    @property
    def subject(self) -> Subject:
        return Subject(self.kind, self.name)


@router.get("")
def suspended(window: Asked) -> list[Suspension]:
    """What stands still, since when, because of whom and why."""
    return window.store.suspensions.all()


@router.post("")
def suspend(window: Asked, person: Person, what: What) -> dict[str, Any]:
    """Start nothing more of it. What arrives meanwhile is judged and accumulates; what is in flight goes on."""
    found, new = window.store.suspensions.suspend(what.subject, who=person, why=what.reason, now=window.clock())
    return {**found.model_dump(mode="json"), "new": new}


@router.delete("")
def resume(window: Asked, person: Person, what: What) -> Suspension:
    """Let it be started again. The answer is what stood in the way."""
    return window.store.suspensions.resume(what.subject, who=person, why=what.reason, now=window.clock())
