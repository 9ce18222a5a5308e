"""Shell-style patterns as the one expression that PanDA is told."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.panda.packing import outputs
from orchestrator.panda.port import EngineRefused
from tests.unit.panda.samples import step

_PATTERNS = st.lists(
    st.text(alphabet="ab.-_+~*?", min_size=1, max_size=8) | st.sampled_from(["[ab]x*", "[!a]*", "a[0-9].b", "[a-].b"]),
    min_size=1,
    max_size=4,
)
_NAMES = st.text(alphabet="ab.-_+~01x", min_size=1, max_size=8)


def expression(*patterns: str) -> str:
    prefix, text = outputs.option(step("dst", "raw", outputs=patterns)).split("|", 1)
    assert prefix == "regex"
    return text


@given(_PATTERNS, _NAMES)
def test_the_expression_finds_the_same_names_as_the_patterns(patterns: list[str], name: str) -> None:
    """As the server looks for it: anywhere in the name."""
    wanted = any(fnmatchcase(name, pattern) for pattern in patterns)

    assert (re.search(expression(*patterns), name) is not None) is wanted


@given(_PATTERNS)
def test_nothing_in_it_means_anything_to_a_shell_in_double_quotes_or_to_the_client(patterns: list[str]) -> None:
    """The client cuts at commas and colons and takes blanks out; the worker node's shell sees it in double quotes."""
    assert not set(expression(*patterns)) & set(",: \t\n\"'$`\\")


def test_a_pattern_is_no_regular_expression() -> None:
    """`calor_emcal*` as an expression would find `calor_emca`, and anything that has it within."""
    text = expression("calor_emcal*")

    assert re.search(text, "calor_emcal-1.root") and not re.search(text, "calor_emca")
    assert not re.search(text, "old_calor_emcal-1.root")


@pytest.mark.parametrize(
    "pattern", ["a b", "a,b", "a:b", "a'b", 'a"b', "a$b", "a`b", "a\\b", "a;b", "a|b", "(a)", "a[", "[]", "a\n", "é"]
)
def test_a_pattern_that_could_harm_is_refused(pattern: str) -> None:
    with pytest.raises(EngineRefused, match=r"step dst: output .* PanDA takes letters"):
        expression(pattern)


def test_files_in_directories_are_refused_with_the_reason() -> None:
    with pytest.raises(EngineRefused, match="from the job's own directory only"):
        expression("histograms/*.root")


def test_more_patterns_than_panda_has_room_for_are_refused() -> None:
    with pytest.raises(EngineRefused, match="room for 250"):
        expression(*(f"a_rather_long_name_{number}-*.root" for number in range(12)))
