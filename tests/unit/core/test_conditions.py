"""Conditions on a value, beside the same conditions said in Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.conditions import Condition, ConditionError, Item, read_number

NUMBERS = st.integers(-30, 30)
WORDS = st.text("abX*?1", max_size=4)


def _range(low: int, high: int) -> tuple[Item, Callable[[Any], bool]]:
    return f"{low}..{high}", lambda value: low <= value <= high


#: Items, each with what it says of a number.
ITEMS: st.SearchStrategy[tuple[Item, Callable[[Any], bool]]] = st.one_of(
    NUMBERS.map(lambda wanted: (wanted, lambda value: value == wanted)),
    NUMBERS.map(lambda wanted: (f"> {wanted}", lambda value: value > wanted)),
    NUMBERS.map(lambda wanted: (f">={wanted}", lambda value: value >= wanted)),
    NUMBERS.map(lambda wanted: (f"< {wanted}", lambda value: value < wanted)),
    NUMBERS.map(lambda wanted: (f"<= {wanted}", lambda value: value <= wanted)),
    NUMBERS.map(lambda wanted: (f"= {wanted}", lambda value: value == wanted)),
    NUMBERS.map(lambda wanted: (f"!= {wanted}", lambda value: value != wanted)),
    NUMBERS.map(lambda wanted: (f"{wanted}..", lambda value: value >= wanted)),
    NUMBERS.map(lambda wanted: (f"..{wanted}", lambda value: value <= wanted)),
    st.tuples(NUMBERS, NUMBERS).map(sorted).map(lambda both: _range(*both)),
)


@given(st.lists(ITEMS, max_size=3), st.lists(ITEMS, max_size=3), st.integers(-32, 32))
def test_a_list_holds_if_a_plain_item_does_and_no_negated_one(
    plain: Sequence[tuple[Item, Callable[[Any], bool]]],
    negated: Sequence[tuple[Item, Callable[[Any], bool]]],
    value: int,
) -> None:
    """Every comparison and range of numbers, alone and together; with `!` items alone, anything else will do."""
    negated = [(item, holds) for item, holds in negated if not str(item).startswith(("=", "!"))]
    condition = Condition([*(item for item, _ in plain), *(f"!{item}" for item, _ in negated)])

    wanted = not plain or any(holds(value) for _, holds in plain)
    unwanted = any(holds(value) for _, holds in negated)
    assert condition.holds(value) is (wanted and not unwanted)
    assert condition.holds(str(value)) is condition.holds(value), "the catalog gives numbers as text as well"


@given(st.lists(WORDS.filter(lambda word: ".." not in word), min_size=1, max_size=3), WORDS)
def test_words_are_globs_letter_by_letter(globs: Sequence[str], value: str) -> None:
    """Upper and lower case differ, and a word without signs is itself alone."""

    def holds(glob: str) -> bool:
        if not any(sign in glob for sign in "*?"):
            return value == glob or (glob.isdecimal() and value.isdecimal() and int(value) == int(glob))
        return fnmatchcase(value, glob)

    assert Condition(globs).holds(value) is any(holds(glob) for glob in globs)


@pytest.mark.parametrize(
    ("item", "value", "holds"),
    [
        ("4 GB", 4_000_000_000, True),
        (">= 4 GiB", 4_294_967_296, True),
        (">= 4 GiB", 4_000_000_000, False),
        ("1.5 kB..2kB", 1800, True),
        ("> 2026-11-22", "2026-11-22 00:00:01", True),
        ("> 2026-11-22", datetime(2026, 11, 22, tzinfo=UTC), False),
        (">= 2026-11-22T02:00+02:00", datetime(2026, 11, 22, tzinfo=UTC), True),
        ("2026-11-01..2026-11-30", datetime(2026, 11, 30, 1, tzinfo=UTC), False),
        ("5..5", 5, True),
        ("> 10", "many", False),
        ("> 10", True, False),
        (True, True, True),
        (True, "true", True),
        (False, 0, True),
        (True, "yes", False),
        ("!test", "test", False),
        ("!test", "physics", True),
        ("!= test", "test", False),
        ("= 5", "5.0", True),
        ("data[12]*", "data26", True),
        ("data[12]*", "data36", False),
        (1, True, False),
    ],
)
def test_what_people_write(item: Item, value: Any, holds: bool) -> None:
    """Sizes have units of 1000 or 1024, a time without a zone is UTC, and what cannot be compared does not hold."""
    assert Condition([item]).holds(value) is holds


@pytest.mark.parametrize("items", [["x"], ["!x"], ["!= x"], [True], ["..5"], []])
def test_a_value_that_is_not_there_fulfils_nothing(items: Sequence[Item]) -> None:
    """Nobody can say that it is not so: not even a negated condition holds."""
    assert not Condition(items).holds(None)


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ("> many", "'many' can be compared with nothing"),
        ("..", "neither a beginning nor an end"),
        ("20..10", "ends before it begins"),
        ("10..2026-11-22", "begins with a number and ends with a time"),
        ("2026-11-22..10", "begins with a number and ends with a time"),
        ("!> x", "'x' can be compared with nothing"),
    ],
)
def test_a_condition_that_cannot_be_read_is_refused(item: str, said: str) -> None:
    """With what was found and what can be written instead."""
    with pytest.raises(ConditionError, match=said):
        Condition([item])


def test_numbers_keep_all_their_digits() -> None:
    """Sizes beyond 2**53 are compared exactly."""
    assert read_number("9007199254740993") == 9007199254740993
    assert not Condition(["= 9007199254740993"]).holds(9007199254740992)
    assert read_number("4 XB") is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.datetimes().map(str),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)


@pytest.mark.parametrize(
    "item", ["> 5", "= 5", "5", "x*", "1..7", "2026-01-01..", "!a", True, 0, "> 4 GB", "!= 0001-01-02"]
)
@given(value=JSON | st.sampled_from(["9" * 5000, "1e999", "0001-01-01T00:00+05:00", "9999-12-31T23:59-05:00"]))
def test_whatever_the_catalog_says_can_be_judged(item: Item, value: Any) -> None:
    """A condition holds or it does not; no value of any kind stops the dispatcher."""
    assert Condition([item]).holds(value) in (True, False)
