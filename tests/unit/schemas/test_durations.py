"""Lengths of time as people write them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from schemas.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("90s", 90),
        ("5m", 300),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("2d", 172800),
        ("250ms", 0.25),
        ("1.5h", 5400),
        ("30", 30),
        ("0.5", 0.5),
        (30, 30),
        (0.5, 0.5),
        (0, 0),
        (timedelta(minutes=1), 60),
    ],
)
def test_a_length_of_time_is_read(written: object, seconds: float) -> None:
    """`90s`, `5m`, `1h30m`, `2d`, or a number of seconds."""
    assert parse_duration(written).total_seconds() == seconds


@pytest.mark.parametrize(
    "written",
    ["", "m", "5 minutes", "-5s", -5, "5m-", "1e3", "5x", True, None, [], float("nan"), "nan", timedelta(seconds=-1)],
)
def test_what_is_no_length_of_time_is_refused(written: object) -> None:
    """The error names the accepted forms; a negative length is none."""
    with pytest.raises(ValueError, match="is not a length of time: write 90s, 5m, 1h30m, 2d or a number of seconds"):
        parse_duration(written)


@pytest.mark.parametrize("written", [float("inf"), 1e300, "99999999999d", "9" * 400])
def test_what_is_longer_than_can_be_counted_is_refused(written: object) -> None:
    """A length beyond every calendar is refused as a mistake of the document, not with a traceback."""
    with pytest.raises(ValueError):
        parse_duration(written)


@pytest.mark.parametrize(
    ("seconds", "written"), [(0, "0s"), (90, "1m30s"), (300, "5m"), (5400, "1h30m"), (172800, "2d"), (0.25, "0.25s")]
)
def test_a_length_of_time_is_written_in_its_shortest_form(seconds: float, written: str) -> None:
    """Days, hours, minutes and seconds, whichever are needed."""
    assert format_duration(timedelta(seconds=seconds)) == written


@settings(deadline=None, max_examples=200)
@example(timedelta(microseconds=10))
@example(timedelta(days=12, microseconds=500_000))
@given(st.timedeltas(timedelta(), timedelta(days=3650)))
def test_what_is_written_is_read_as_it_was(span: timedelta) -> None:
    """A rule's times are the same after they were kept: to the microsecond, whatever their length."""
    assert parse_duration(format_duration(span)) == span


@pytest.mark.parametrize("text", ["36526d", "3000000d", 3_200_000_000])
def test_what_leaves_the_calendar_is_refused(text: object) -> None:
    """Added to a time of today it could not be written any more."""
    with pytest.raises(ValueError, match="longer than the 36525d"):
        parse_duration(text)
