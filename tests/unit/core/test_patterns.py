"""Patterns of rules."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.patterns import Pattern, PatternError, PatternSet, unquote

RAW = r"(?P<project>\w+)_RAW_EVENTS-(?P<run>\d{8})"


def test_a_pattern_captures_its_named_groups() -> None:
    """The groups of a pattern are what templates may use; unnamed ones are not."""
    pattern = Pattern(r"(?P<project>\w+)_RAW(_X)?-(?P<run>\d+)")

    assert pattern.groups == ["project", "run"]
    assert pattern.captures("SPHENIX_RAW-21615") == {"project": "SPHENIX", "run": "21615"}


@pytest.mark.parametrize("name", ["SPHENIX_RAW_EVENTS-000216150", "x SPHENIX_RAW_EVENTS-00021615", "", "\n"])
def test_a_pattern_matches_the_whole_name(name: str) -> None:
    """A pattern says all of a name: nothing may stand before or behind."""
    assert Pattern(RAW).captures(name) is None


def test_a_group_that_took_no_part_is_empty() -> None:
    """A template that uses an optional group gets an empty text, never the word None."""
    assert Pattern(r"a(?P<b>b)?").captures("a") == {"b": ""}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (r"a(?=b)", "look-ahead and look-behind are not available"),
        (r"a(?!b)", "write two rules"),
        (r"(?<=a)b", "look-ahead and look-behind are not available"),
        (r"(?<!a)b", "look-ahead and look-behind are not available"),
        (r"(a)\1", "back-references are not available"),
        (r"(", "missing )"),
        (r"[a", "missing ]"),
        (r"a{1001}", "invalid repetition size"),
    ],
)
def test_what_could_run_for_ever_is_refused_when_the_rule_is_defined(text: str, said: str) -> None:
    """The error shows the pattern, says what RE2 found, and what can be done instead."""
    with pytest.raises(PatternError) as refused:
        Pattern(text)

    assert repr(text) in str(refused.value)
    assert said in str(refused.value)


def test_no_pattern_can_stall_the_dispatcher() -> None:
    """A pattern that costs other engines exponential time is through in linear time."""
    pattern, name = Pattern(r"(a|aa)+b|(a*)*c"), "a" * 20_000
    began = time.monotonic()

    assert pattern.captures(name) is None
    assert time.monotonic() - began < 2


PIECES = ["a", "b", "ab", "a+", "(?P<x>a*)b", "[ab]{2}", ".*", "b?a?", "(?P<y>a|b)+", "(?i)AB", "", "^a$", "(?s).+"]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from(PIECES), max_size=6), st.text("abAB\n", max_size=4))
def test_a_set_finds_what_its_patterns_find_one_by_one(texts: Sequence[str], name: str) -> None:
    """Matching a thousand patterns in one pass is only faster: same patterns, same order, same captures."""
    patterns = [Pattern(text) for text in texts]
    alone = [(position, each.captures(name)) for position, each in enumerate(patterns)]

    assert list(PatternSet(patterns).matching(name)) == [(at, found) for at, found in alone if found is not None]


def test_a_set_that_grows_too_large_still_finds_everything() -> None:
    """When the one automaton runs out of memory, the patterns are tried one by one."""
    patterns = [Pattern(rf"(?P<n>(.*a.{{{length}}}|b)*){length}") for length in range(200, 260)]

    assert [at for at, _ in PatternSet(patterns).matching("b259")] == [59]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        (r'r"(\w)+EVENTS-(\d+)"', r"(\w)+EVENTS-(\d+)"),
        (r"r'(\w)+EVENTS-(\d+)'", r"(\w)+EVENTS-(\d+)"),
        (r'"(\w)+"', r"(\w)+"),
        (r"(\w)+EVENTS-(\d+)", r"(\w)+EVENTS-(\d+)"),
        ('  r"x" ', "x"),
        ('r""', ""),
        ('r"', 'r"'),
        ('"', '"'),
        ("r", "r"),
        ("r\"a'", "r\"a'"),
    ],
)
def test_a_pattern_is_read_as_the_production_notes_write_it(written: str, meant: str) -> None:
    """`--regex 'r"..."'` means what stands between the quotes; a bare pattern means itself."""
    assert unquote(written) == meant


@pytest.mark.parametrize(
    "pattern",
    [
        *("DST_.*", "RAW-1.*|RAW-2.*", r"RAW-\d+", "(?i)raw.*", "é.*", "a?b+", ".*x", "", r"\x7f\x7f.*", "[R-T]AW.*é"),
        "~.*",
    ],
)
def test_whatever_a_pattern_matches_lies_between_its_bounds(pattern: str) -> None:
    """Byte by byte, so that a database can leave out what cannot match; no bounds say nothing."""
    names = ["DST_", "DST_é", "DST_~~", "RAW-1x", "RAW-20", "RAW-", "raW", "RaWé", "é", "éé", "b", "abb", "x", "zx"]
    names += ["", "\x7f\x7f", "\x7f\x7f\x7f", "RAWé", "TAW~é", "~", "~~", "~\x7f", "~é"]

    one = Pattern(pattern)
    bounds = one.bounds()

    matching = [name for name in names if one.captures(name) is not None]
    assert matching
    if bounds is not None:
        low, high = (bound.encode() for bound in bounds)
        assert all(low <= name.encode() <= high for name in matching)


def test_bounds_tell_a_beginning_from_others() -> None:
    """They leave out most of what cannot match; where a pattern may match anywhere, there are none."""
    assert Pattern("DST_.*").bounds() == ("DST_", "DST`")
    assert Pattern(r"RAW-1\d").bounds() == ("RAW-10", "RAW-19")
    assert Pattern("RAW", search=True).bounds() is None
    assert Pattern(".*RAW").bounds() is None
