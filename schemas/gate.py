"""What holds work back: limits and suspensions of everything, of a group of rules, of one rule, of releases."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from schemas.rule import Order, Pace


class Kind(StrEnum):
    """What a limit or a suspension is about."""

    EVERYTHING = "everything"
    GROUP = "group"
    RULE = "rule"
    #: Releases of transient datasets, and the steps of those that are under way.
    TRANSIENT = "transient"


class Suspension(BaseModel):
    """Something that stands still because a person or a circuit breaker said so."""

    model_config = ConfigDict(frozen=True)

    kind: Kind
    #: The group or the rule; empty for everything, and for releases.
    name: str
    who: str
    reason: str
    at: datetime


class Standing(BaseModel):
    """How much of a limit is used, and why nothing more is started."""

    model_config = ConfigDict(frozen=True)

    kind: Kind
    name: str
    #: The group of a rule, if it has one.
    group: str | None = None
    #: Dispatches and launches that go on.
    running: int
    #: How many may; None without a cap.
    cap: int | None
    pace: Pace | None
    #: First tries within the span of the pace; 0 without a pace.
    started: int
    order: Order
    #: Ready, whether or not they may be started.
    ready: int
    #: So many failures in a row suspend a rule, and so many there are.
    failures_allowed: int | None
    failures: int
    #: Why the next one is not started; None if nothing is in its way, or nothing is ready.
    why_not: str | None
    #: When a pace lets the next one through; None if no moment is known.
    opens_at: datetime | None
