"""Pacing: no span of time, wherever it begins, holds more starts than allowed."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

import pytest

from orchestrator.core.pacing import Spent, fitting, free_at, left, rested
from schemas.rule import Pace
from tests.unit.making import NOW, later

PACE = Pace(count=5, span=timedelta(seconds=60))


def test_before_the_first_start_everything_is_free() -> None:
    """As many as the pace says may start at once."""
    assert (left(PACE, Spent(), NOW), free_at(PACE, Spent())) == (5, None)


def test_what_was_spent_is_free_again_a_span_after_the_last_start() -> None:
    """Not a moment earlier."""
    spent = Spent(5, NOW)

    assert (left(PACE, spent, later(59.9)), left(PACE, spent, later(60))) == (0, 5)
    assert free_at(PACE, spent) == later(60)
    assert free_at(PACE, Spent(4, NOW)) is None and left(PACE, Spent(4, NOW), later(1)) == 1


@pytest.mark.parametrize(
    ("costs", "spent", "fits"),
    [
        ([1] * 9, Spent(), 5),
        ([2] * 9, Spent(), 2),
        ([0, 0, 3, 0, 3], Spent(), 4),
        ([1, 1], Spent(4, NOW), 1),
        ([2], Spent(4, NOW), 0),
        ([0, 2], Spent(4, NOW), 1),
        ([7, 1], Spent(), 1),
        ([0, 7, 1], Spent(), 2),
        ([7], Spent(1, NOW), 0),
        ([], Spent(), 0),
    ],
)
def test_only_the_first_of_them_may_go(costs: list[int], spent: Spent, fits: int) -> None:
    """In their order; one that needs more than the whole pace goes alone, after a pause."""
    assert fitting(costs, PACE, spent, NOW) == fits


def test_no_span_holds_more_than_allowed() -> None:
    """At random moments, in random portions: every start looks back on no more than five within its span."""
    chance = random.Random(5)
    moment, spent = NOW, Spent()
    starts: list[datetime] = []
    for _ in range(3000):
        moment += timedelta(seconds=chance.choice([0.1, 1, 7, 30, 61]))
        count = fitting([1] * chance.randint(1, 4), PACE, spent, moment)
        if count:
            before = 0 if rested(PACE, spent, moment) else spent.started
            spent = Spent(before + count, moment)
            starts += [moment] * count

    assert len(starts) > 500
    assert max(sum(start - PACE.span < each <= start for each in starts) for start in starts) == 5
