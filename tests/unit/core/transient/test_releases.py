"""Releases as a plan holds them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.transient.releases import apart, changes
from schemas.transient import CopiesAt
from tests.unit.core.transient.making import NOW, release

OTHER = NOW - timedelta(days=1)


def test_what_is_as_it_was_planned_has_not_changed() -> None:
    """The same evidence in other words is no change, nor is the order of RSEs."""
    one, two = CopiesAt(rse="A", files=1, bytes=1), CopiesAt(rse="B", files=1, bytes=1)

    assert (
        changes(release(frees=(one, two)), release(frees=(two, one), evidence=("said otherwise",), due_at=OTHER)) == []
    )


@pytest.mark.parametrize(
    "change",
    [
        {"did": "s:other"},
        {"born_at": OTHER},
        {"closed_at": OTHER},
        {"closed_at": None},
        {"policy": "other"},
        {"version": 4},
        {"files": 11},
        {"bytes": 101},
        {"content": "dead"},
        {"erases": False},
        {"keeps": "TAPE"},
        {"successor": "s:another"},
        {"successor_born_at": OTHER},
        {"successor_closed_at": OTHER},
        {"successor_content": "dead"},
        {"frees": ()},
        {"frees": (CopiesAt(rse="DISK", files=9, bytes=100),)},
        {"frees": (CopiesAt(rse="DISK", files=10, bytes=99),)},
        {"frees": (CopiesAt(rse="TAPE", files=10, bytes=100),)},
    ],
)
def test_whatever_a_person_has_seen_must_still_be_so(change: dict[str, Any]) -> None:
    """Each difference is told with what was planned and what there is now."""
    (said,) = changes(release(), release(**change))

    assert "was planned, now it is" in said


def test_a_dataset_does_not_leave_together_with_what_is_left_of_it() -> None:
    """Of a chain, every second one at most, in the order of the plan."""
    one, two, three = release("a", "s:b"), release("b", "s:c"), release("c", "s:d")

    kept, refused = apart([one, two, three])

    assert kept == [one, three]
    assert [(each.did, refusal.check) for each, refusal in refused] == [("s:b", "proof")]
    kept, refused = apart([two, one])
    assert kept == [two]
    assert [(each.did, refusal.check) for each, refusal in refused] == [("s:a", "successor")]


def test_two_that_rest_on_each_other_do_not_both_leave() -> None:
    """Two policies that were written the wrong way round would else take everything."""
    kept, refused = apart([release("a", "s:b"), release("b", "s:a")])

    assert [each.did for each in kept] == ["s:a"]
    assert len(refused) == 1


def test_one_dataset_is_released_once() -> None:
    """Two policies may have proved it."""
    kept, refused = apart([release("a", "s:b"), release("a", "s:c")])

    assert len(kept) == len(refused) == 1


@given(st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from("abcdefg")), max_size=8))
def test_what_is_left_always_stays(pairs: list[tuple[str, str]]) -> None:
    """No dataset that leaves is the successor of another that does; nothing is lost on the way."""
    releases = [release(did, f"s:{successor}") for did, successor in pairs if did != successor]

    kept, refused = apart(releases)

    assert not {each.did for each in kept} & {each.successor for each in kept}
    assert len(kept) == len({each.did for each in kept})
    assert len(kept) + len(refused) == len(releases)
