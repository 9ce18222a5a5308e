"""Whether two patterns have a text in common."""

from __future__ import annotations

from itertools import product

import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.overlap import ANYTHING, glob, overlap, read, row, text

#: Every text of up to four of these letters: enough to find what short patterns have in common.
TEXTS = ["".join(letters) for length in range(5) for letters in product("aB1", repeat=length)]

_ATOMS = st.sampled_from(["a", "B", "1", ".", r"\d", "[aB]", "[^a]", r"\w", r"\D", "[1-9a]", "(?i:b)", "(?P<x>a1)"])


def _more(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    some = st.lists(inner, min_size=1, max_size=2)
    return st.one_of(
        some.map("".join),
        some.map("|".join).map("(?:{})".format),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "{1,}", "*?"])).map(
            lambda it: f"(?:{it[0]}){it[1]}"
        ),
    )


_PATTERNS = st.recursive(_ATOMS, _more, max_leaves=4).filter(lambda pattern: pattern.count("<x>") < 2)


@settings(max_examples=400, deadline=None)
@given(_PATTERNS, _PATTERNS)
def test_patterns_overlap_if_some_text_matches_both(one: str, other: str) -> None:
    """Whatever two patterns match together, they overlap; and if they overlap, then mostly in a short text."""
    common = [word for word in TEXTS if re2.fullmatch(one, word) and re2.fullmatch(other, word)]

    found = overlap(read(one)[0], read(other)[0])

    if common:
        assert found


@settings(max_examples=300, deadline=None)
@given(_PATTERNS)
def test_a_pattern_is_read_as_what_it_matches(pattern: str) -> None:
    """A text overlaps with a pattern exactly if the pattern matches it."""
    node, _ = read(pattern)

    for word in TEXTS[:60]:
        assert overlap(node, text(word)) is (re2.fullmatch(pattern, word) is not None), word


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        (r"RAW-\d{8}", r"RAW-\d+", True),
        (r"RAW-\d{8}", r"rn\d+-CALOR", False),
        (r"rn\d{8}-CALOR-DST", r".*-DST", True),
        (r"rn\d{8}-CALOR-DST", r"(?P<x>\w+)-(?P<y>\w+)", False),
        (r"(?i)raw.*", "RAW-1", True),
        (r"(?i)[a-c]+", "ABC", True),
        ("a{3,5}", "a{6}", False),
        ("[^/]*", "a/b", False),
        (r"\.", "x", False),
        ("", ".+", False),
        ("(?i", "anything: what cannot be read", True),
        (r"\pL+", "anything", True),
        ("[[:alpha:]]+", "12", True),
    ],
)
def test_patterns_that_people_write(one: str, other: str, meet: bool) -> None:
    """What is not understood overlaps with everything: rather one warning too many."""
    assert overlap(read(one)[0], read(other)[0]) is meet
    assert overlap(read(other)[0], read(one)[0]) is meet


def test_groups_and_globs_are_sets_of_texts_too() -> None:
    """What a group may capture can be put into other words; globs read like patterns."""
    _, groups = read(r"RAW-(?P<run>\d{8})")
    made = row(text("rn"), groups["run"], text("-DST"))

    assert overlap(made, read(r"rn00021615-DST")[0])
    assert not overlap(made, read(r"rn21615-DST")[0])
    assert overlap(glob("group.*"), text("group.sphenix"))
    assert not overlap(glob("group.*"), text("user.me"))
    assert overlap(ANYTHING, text("é\n"))
