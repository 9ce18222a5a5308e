"""How many may be started now, if there may be so many in any span of time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from schemas.rule import Pace


class Spent(NamedTuple):
    """What was started since there was last a pause as long as the pace's span, and when the last of it was."""

    started: int = 0
    last: datetime | None = None


def left(pace: Pace, spent: Spent, now: datetime) -> int:
    """How many may be started now.

    What was spent is forgotten after a pause of a whole span. So no span, wherever it begins, holds more than allowed.
    """
    return pace.count if rested(pace, spent, now) else max(0, pace.count - spent.started)


def rested(pace: Pace, spent: Spent, now: datetime) -> bool:
    """Whether the last start is a whole span ago."""
    return spent.last is None or now - spent.last >= pace.span


def free_at(pace: Pace, spent: Spent) -> datetime | None:
    """When something may be started again; None for at once."""
    return None if spent.last is None or spent.started < pace.count else spent.last + pace.span


def fitting(costs: Sequence[int], pace: Pace, spent: Spent, now: datetime) -> int:
    """How many of these, each of which starts so many, may go first. One that never fits may go after a pause."""
    room, taken = left(pace, spent, now), 0
    for position, cost in enumerate(costs):
        alone = taken == 0 and room == pace.count
        if taken + cost > room and not (alone and cost > room):
            return position
        taken += cost
    return len(costs)
