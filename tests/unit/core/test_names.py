"""Names tried on many patterns: what RE2 says, only sooner."""

from __future__ import annotations

import time
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from orchestrator.core.names import Finder, Names
from orchestrator.core.patterns import Pattern, PatternError

_TEXTS = st.text(alphabet="aAbk01_-.\n\v\x00é\u212a ", max_size=12)

_ONES = st.sampled_from(
    [
        *"aAbk01_-. ",
        r"\d",
        r"\w",
        r"\s",
        r"\b",
        r"\.",
        r"\-",
        "[ab]",
        "[^a]",
        "[a-k0-9_]",
        "[^\\d-]",
        "é",
        "[[:alpha:]]",
    ]
)
_TIMES = st.sampled_from(["", "", "", "*", "+", "?", "{2}", "{1,3}", "{0,}", "*?", "{,2}"])


def _grouped(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    some = st.lists(inner, min_size=1, max_size=3).map("".join)
    choice = st.lists(some, min_size=1, max_size=3).map("|".join)
    opening = st.sampled_from(["(", "(?:", "(?P<x>", "(?P<y>", "(?i:"])
    return st.builds("{}{}){}".format, opening, choice, st.sampled_from(["", "", "?", "*", "{2}"]))


_PARTS = st.recursive(st.builds("{}{}".format, _ONES, _TIMES), _grouped, max_leaves=8)
_PATTERNS = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(["", "", "(?i)", "(?s)"]),
    st.sampled_from(["", "", "^"]),
    st.lists(_PARTS, max_size=4).map("".join) | st.lists(_PARTS, max_size=3).map("|".join),
    st.sampled_from(["", "", "$"]),
)


@settings(max_examples=1500, deadline=None)
@given(text=_PATTERNS, search=st.booleans(), captures=st.booleans(), asked=st.lists(_TEXTS, min_size=1, max_size=8))
@example(text="a$", search=True, captures=True, asked=["a\n", "a"])
@example(text="(?i)k", search=False, captures=False, asked=["K", "\u212a"])
@example(text="(?P<x>a?)?(?P<y>b)|ab", search=False, captures=True, asked=["b", "ab", "", "ab"])
@example(text="(?P<x>a|ab)(?P<y>b?)", search=True, captures=True, asked=["ab", "aab"])
@example(text="[^a]", search=False, captures=False, asked=["\n", "\v", "\x00", "b"])
def test_a_pattern_means_what_re2_says(text: str, search: bool, captures: bool, asked: list[str]) -> None:
    """Whoever answers, and in whatever order names are asked about: whether it matches, and what is captured."""
    try:
        pattern = Pattern(text, search=search)
    except PatternError:
        return
    finder = Finder(pattern, search=search, captures=captures)

    for name in asked:
        assert finder.fits(name) is pattern.matches(name)
        assert finder.captures(name) == pattern.captures(name)


@pytest.mark.parametrize(
    "text",
    [
        r"RAW_EVENTS_run2auau-(?P<run>\d{8})",
        r"(?P<kind>\w+)-(?P<run>\d+)(?P<rest>.*)",
        r"DST_(CALO|TRKR)_run2auau_new_2024p\d+-(?P<run>[0-9]{8})(?:-v\d+)?",
        r"(?i)^raw.*$",
    ],
)
def test_patterns_as_people_write_them_are_quick(text: str) -> None:
    """They are never given to RE2, for names as long as they are."""
    finder = Finder(Pattern(text), search=False, captures=True)

    assert finder._longest >= 100


def test_no_pattern_stalls() -> None:
    """One with many ways through a name is left to RE2, which knows no such thing; so is a long name."""
    name = "a" * 900
    begun = time.monotonic()

    for text in (".*" * 20 + "b", "(a|a)" * 30 + ".*b", "a?" * 40 + "a{40}b", "(a*)*b", ".*a.*a.*a.*b"):
        assert not Finder(Pattern(text), search=True, captures=True).fits(name)

    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("seed", range(200))
def test_of_many_patterns_those_that_match_are_found(seed: int) -> None:
    """The same as trying one by one, whether few or many of them may match a name, and at the bounds of each."""
    random = Random(seed)
    kinds = ["RAW", "RAX", "DST", "A", "a", "é", ""]
    tails = [r"-\d+", ".*", "", "-1", r"(?P<x>\w?)", "-(1|2)"]
    texts = [random.choice(kinds) + random.choice(tails) for _ in range(random.choice([0, 1, 3, 8, 30]))]
    patterns = [Pattern(text, search=random.random() < 0.1) for text in texts]
    finders = [Finder(each, search=each.whole != each.text, captures=random.random() < 0.5) for each in patterns]
    found = Names(patterns, finders)

    bounds = [bound for each in patterns for bound in each.bounds() or ()]
    for name in [*bounds, *("".join((kind, tail)) for kind in kinds for tail in ("-1", "-12", "", "é", "\U0001f434"))]:
        assert found.find(name) == tuple(number for number, each in enumerate(patterns) if each.matches(name))
