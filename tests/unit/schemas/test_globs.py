"""What is wrong with a shell-style pattern."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest

from schemas.globs import mistake_in_glob


@pytest.mark.parametrize(
    "glob",
    ["a:x", "a:*", "*:?-[0-9]*", "a:[!a-z]x", "a:[]]b", "a:[!]]b", "a:[-a]b", "a:[a-]b", "a:x[ ]y", "a:[*]", "a:[[]b"],
)
def test_what_can_fit_is_no_mistake(glob: str) -> None:
    """Brackets may hold brackets, signs at their ends, and spaces that are meant."""
    assert mistake_in_glob(glob) is None


@pytest.mark.parametrize(
    ("glob", "meant", "said"),
    [
        ("", "a:x", "empty"),
        (" ", "a:x", "empty"),
        ("a:x ", "a:x", "white space"),
        (" a:x", "a:x", "white space"),
        ("a: x", "a:x", "white space"),
        ("a:x\n", "a:x", "white space"),
        ("a:x\u00a0", "a:x", "white space"),
        ("a:x a:y", "a:y", "white space"),
        ("!a:x", "b:x", "excludes nothing"),
        ("a:[b", "a:b", "without a `]`"),
        ("a:[]b", "a:b", "without a `]`"),
        ("a:[!]b", "a:xb", "without a `]`"),
        ("a:[z-a]*", "a:b", "z-a"),
        ("a:[xz-a]", "a:b", "z-a"),
    ],
)
def test_what_would_fit_nothing_or_less_is_a_mistake(glob: str, meant: str, said: str) -> None:
    """It is said what is wrong, for nobody would see it."""
    mistake = mistake_in_glob(glob)

    assert mistake is not None and said in mistake
    assert not fnmatchcase(meant, glob)


@pytest.mark.parametrize("glob", ["a:[0-9-a]", "a:[--a]", "a:[a-z-b]"])
def test_a_sign_that_ends_a_range_does_not_begin_another(glob: str) -> None:
    assert mistake_in_glob(glob) is None


def test_a_range_that_excludes_nothing_is_a_mistake() -> None:
    """It would fit everything."""
    mistake = mistake_in_glob("a:[!z-a]")

    assert mistake is not None and "z-a" in mistake
    assert fnmatchcase("a:q", "a:[!z-a]")
