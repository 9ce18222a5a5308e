"""What people do to many at once: looked at first, and done to those that were seen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from pydantic import ValidationError

from orchestrator.core.by_hand import Hand, Tally
from orchestrator.monitor.asking import Conflict
from orchestrator.monitor.deeds import Deed, carried_out, looked_at
from orchestrator.monitor.messages import MessageDeed
from tests.unit.making import NOW

HAND = Hand("rest:me", "because", NOW)


@dataclass
class Rows:
    """Rows of which some fit; more of them fit each time."""

    fit: list[int]
    #: Those that do not fit any more, by the second time.
    gone: list[int] = field(default_factory=list)
    done: list[int] = field(default_factory=list)

    def do(self, chosen: Any, hand: Hand) -> Tally:
        tally = Tally()
        for id_ in self.fit if chosen == "filter" else chosen:
            if id_ in self.fit:
                tally.changed.append(id_)
            else:
                tally.stay(id_, "gone", "by somebody else")
        if hand.dry_run:
            self.fit = [id_ for id_ in (*self.fit, max(self.fit) + 1) if id_ not in self.gone]
        else:
            self.done += tally.changed
        return tally


def deed(**given: Any) -> MessageDeed:
    return MessageDeed.model_validate({"reason": "because", **given})


def by_filter(rows: Rows, wanted: Deed) -> Tally:
    return carried_out(rows.do, wanted, looked_at(rows.do, wanted, "filter", HAND), HAND)


def test_what_fits_only_since_it_was_looked_at_is_left_alone() -> None:
    """So many were meant, and no more."""
    rows = Rows([1, 2, 3])

    tally = by_filter(rows, deed(filter={"name": "x"}, expected=3))

    assert (tally.changed, rows.done) == ([1, 2, 3], [1, 2, 3])
    assert rows.fit == [1, 2, 3, 4]


def test_what_somebody_else_changed_meanwhile_is_said() -> None:
    """The answer is what came of it, not what was foreseen."""
    rows = Rows([1, 2, 3], gone=[2])

    tally = by_filter(rows, deed(filter={"name": "x"}, expected=3))

    assert (tally.changed, tally.stayed, tally.details) == ([1, 3], {"gone": [2]}, {2: "by somebody else"})


def test_a_dry_run_is_never_done() -> None:
    """Whatever number it has with it."""
    rows = Rows([1, 2, 3])

    assert by_filter(rows, deed(filter={"name": "x"}, expected=7, dry_run=True)).changed == [1, 2, 3]
    assert rows.done == []


@pytest.mark.parametrize("expected", [0, 2, 4])
def test_another_number_than_expected_changes_nothing(expected: int) -> None:
    """Neither fewer nor more."""
    rows = Rows([1, 2, 3])

    with pytest.raises(Conflict, match=f"3 would be changed now, and {expected} were expected") as raised:
        by_filter(rows, deed(filter={"name": "x"}, expected=expected))

    assert raised.value.more == {"number": 3}
    assert rows.done == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "`ids`, or a `filter` that says something, or `all`"),
        ({"ids": [1], "filter": {"name": "x"}}, "one of them"),
        ({"ids": [1], "all": True}, "one of them"),
        ({"filter": {"name": "x"}, "all": True}, "one of them"),
        ({"filter": {}, "expected": 1}, "an empty filter leaves everything"),
        ({"filter": {"name": "x"}}, "ask with dry_run first"),
        ({"all": True}, "ask with dry_run first"),
    ],
)
def test_who_does_not_say_which_are_meant_is_told(given: dict[str, Any], said: str) -> None:
    """And how to say it."""
    with pytest.raises(ValidationError, match=said):
        deed(**given)
