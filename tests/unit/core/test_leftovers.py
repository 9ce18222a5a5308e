"""What earlier launches left behind, and whether it is in the way."""

from __future__ import annotations

import pytest

from orchestrator.core.leftovers import Left, Taken, forced, in_way_of_another, in_way_of_force, left_behind
from schemas.dispatch import DispatchId, DispatchState
from schemas.launch import LaunchId, LaunchState


def left(*datasets: str, state: LaunchState = LaunchState.FAILED) -> Left:
    return Left(LaunchId(5), DispatchId(1), "rn1-CALO", state, datasets)


def taken(*launches: Left, first: DispatchState = DispatchState.DONE) -> Taken:
    """Dispatch 2 asks for the key that dispatch 1 has."""
    return Taken("key", DispatchId(2), 7, "raw", (DispatchId(2),), 6, "calo", ((DispatchId(1), first),), launches)


@pytest.mark.parametrize(
    ("datasets", "there", "said"),
    [
        (["a:made"], [], None),
        (["a:made"], ["a:other"], None),
        (["a:of.rn1-CALO"], ["a:of.rn1-CALO"], None),
        (["a:made", "a:of.rn1-CALO"], ["a:made", "a:of.rn1-CALO"], "left behind a:made: clean up, then say so with SO"),
        ([f"a:{n}" for n in range(8)], [f"a:{n}" for n in range(8)], "a:0, a:1, a:2, a:3, a:4 and 3 more: clean up"),
    ],
)
def test_a_dataset_that_both_would_make_is_in_the_way(datasets: list[str], there: list[str], said: str | None) -> None:
    """Only while it is in the catalog, and not one that bears its launch's name."""
    obstacle = in_way_of_another([left(*datasets)], there, saying="SO")

    assert obstacle is None if said is None else obstacle is not None and said in obstacle


@pytest.mark.parametrize("state", DispatchState)
def test_a_dispatch_that_somebody_is_at_work_on_keeps_the_key(state: DispatchState) -> None:
    """Whether what it made is cleaned up or not."""
    obstacle = in_way_of_force(taken(first=state), [], cleaned=True, saying="SO")

    assert (obstacle is not None) == (state in (DispatchState.RUNNING, DispatchState.IN_DOUBT))


@pytest.mark.parametrize("state", LaunchState)
def test_a_launch_that_the_engine_has_or_may_have_keeps_the_key(state: LaunchState) -> None:
    """Of one that was only prepared, nothing was sent."""
    over = {"prepared", "finished", "partly_finished", "failed", "killed"}

    assert (in_way_of_force(taken(left(state=state)), [], cleaned=True, saying="SO") is None) == (state in over)


def test_what_the_first_left_behind_keeps_the_key_until_it_may_stay() -> None:
    """A force asks for more than another launch does: here every dataset that is there counts."""
    seen = taken(left("a:of.rn1-CALO"))

    assert in_way_of_force(seen, ["a:of.rn1-CALO"], cleaned=True, saying="SO") is None
    assert in_way_of_force(seen, ["a:of.rn1-CALO"], cleaned=False, saying="SO") == (
        "the first left behind a:of.rn1-CALO: clean up, then say so with SO"
    )


def test_it_is_shown_with_how_each_dataset_stands() -> None:
    """Those that are not there, too."""
    seen = taken(left("a:made", "a:gone"))

    shown = forced(seen, {"a:made": "open"}, [DispatchId(2)])

    (behind,) = shown.left_behind
    assert shown.left_behind == left_behind(seen.launches, {"a:made": "open"})
    assert [(each.did, each.state) for each in behind.datasets] == [("a:made", "open"), ("a:gone", None)]
    assert (shown.key, shown.first.message, shown.first.rule, shown.refused, shown.ready) == (
        "key",
        6,
        "calo",
        (2,),
        (2,),
    )
