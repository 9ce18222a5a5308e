"""Sets of run numbers, beside sets of Python."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.core.runs import Runs, RunsError, overlapping, read_range, read_run_file

RANGES = st.tuples(st.integers(0, 60), st.integers(0, 60)).map(lambda both: (min(both), max(both)))


def _written(ends: tuple[int, int]) -> int | str:
    return ends[0] if ends[0] == ends[1] else f"{ends[0]}..{ends[1]}"


@example([(1, 2), (4, 5)])
@example([(1, 2), (3, 5)])
@given(st.lists(RANGES, max_size=8))
def test_a_set_of_runs_holds_what_its_ranges_hold(ranges: Sequence[tuple[int, int]]) -> None:
    """In any order, overlapping or not; and it is the same set after it was written and read again."""
    wanted = {run for first, last in ranges for run in range(first, last + 1)}

    runs = Runs.read(map(_written, ranges))

    assert {run for run in range(-1, 70) if run in runs} == wanted
    again = Runs.read(runs.items())
    assert {run for run in range(-1, 70) if run in again} == wanted
    assert again.items() == runs.items()


@given(st.lists(RANGES, max_size=6), st.booleans())
def test_overlapping_ranges_are_found(ranges: Sequence[tuple[int, int]], is_open: bool) -> None:
    """Two positions that do share a run, whenever any two do; an open end reaches everything after it."""
    ends: list[tuple[int, int | None]] = [*ranges]
    if is_open and ends:
        ends[0] = (ends[0][0], None)

    def share(one: int, other: int) -> bool:
        (first, last), (begin, end) = ends[one], ends[other]
        return (end is None or first <= end) and (last is None or begin <= last)

    found = overlapping(ends)

    any_share = any(share(one, other) for one in range(len(ends)) for other in range(one))
    assert (found is not None) is any_share
    if found is not None:
        assert found[0] != found[1]
        assert share(*found)


@pytest.mark.parametrize(
    ("item", "ends"),
    [(59641, (59641, 59641)), (" 12 .. 15 ", (12, 15)), ("..5", (0, 5)), ("007", (7, 7))],
)
def test_one_item(item: int | str, ends: tuple[int, int]) -> None:
    """Numbers and ranges, both ends within, blanks wherever people put them."""
    assert read_range(item) == ends


def test_an_open_range_has_no_end() -> None:
    """Whatever run comes, and it is written as it was read."""
    runs = Runs.read(["60000.."])

    assert 10**12 in runs
    assert 59999 not in runs
    assert str(runs) == "60000.."
    assert str(Runs.read([])) == "none"


@pytest.mark.parametrize("item", ["..", "5..3", "a", "-5", "5...7", "1-5", "", "²"])
def test_what_is_no_run_is_refused(item: str) -> None:
    """With what was found."""
    with pytest.raises(RunsError):
        read_range(item)


def test_a_file_of_runs() -> None:
    """Blanks, commas, line ends and comments; a mistake is named with its line."""
    assert read_run_file("# good runs\n59641, 59642 59643\n60000..60010 # the long one\n\n7") == [
        7,
        "59641..59643",
        "60000..60010",
    ]
    with pytest.raises(RunsError, match=r"line 2: 'x'"):
        read_run_file("1\n2 x")
