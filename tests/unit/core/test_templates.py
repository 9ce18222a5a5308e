"""Filling values into an operator's words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import settings as bounded
from hypothesis import strategies as st

from orchestrator.core.templates import TemplateError, fields, fields_within, fill, fill_within

VALUES = {"run": "00021615", "name": "RUN-1", "odd": "{run}"}


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("", ""),
        ("plain", "plain"),
        ("rn{run}-CALOR", "rn00021615-CALOR"),
        ("{run:d}", "21615"),
        ("{run:06d}", "021615"),
        ("{run:10d}", "     21615"),
        ("{name:>8}", "   RUN-1"),
        ("{name:.3}", "RUN"),
        ("{{run}}", "{run}"),
        ("{{{run}}}", "{00021615}"),
        ("$(rm -rf /); {name}", "$(rm -rf /); RUN-1"),
    ],
)
def test_a_template_is_filled_in(template: str, filled: str) -> None:
    """`{run}` is the value, `{run:08d}` the value as a number, `{{` a real brace; all else stands as written."""
    assert fill(template, VALUES) == filled


def test_what_is_filled_in_is_never_read_again() -> None:
    """A value that looks like a template comes out as it is."""
    assert fill("{odd}", VALUES) == "{run}"


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{", "write {{ and }} for real braces"),
        ("}", "write {{ and }} for real braces"),
        ("{}", "is not a plain name"),
        ("{0}", "is not a plain name"),
        ("{run.__class__}", "is not a plain name"),
        ("{run[0]}", "is not a plain name"),
        ("{run!r}", "is not a plain name"),
        ("{run:{name}}", "may not hold another template"),
        ("{typo}", "there is no value 'typo'; there are: name, odd, run"),
        ("{name:08d}", "name is 'RUN-1', not the number that :08d needs"),
        ("{name:q}", "name cannot be written as :q"),
    ],
)
def test_a_template_that_cannot_be_filled_in_says_why(template: str, said: str) -> None:
    """The error shows the template and what was wrong; no attribute and no index of a value can be reached."""
    with pytest.raises(TemplateError) as refused:
        fill(template, VALUES)

    assert repr(template) in str(refused.value)
    assert said in str(refused.value)


def test_the_names_that_templates_ask_for_are_known_beforehand() -> None:
    """`rules apply` finds a misspelt name before any message does, however deep it stands."""
    assert fields("a{run:08d}{{x}}{name}") == {"run", "name"}
    assert fields_within({"command": ["x", "{run}"], "deep": [{"{key}": "{name}"}], "n": 5}) == {"run", "name"}


def test_only_texts_are_filled_in() -> None:
    """Keys, numbers, booleans and nothing stay as they are; a tuple becomes a list, as in JSON."""
    value = {"{run}": ("{run}", 1, True, None, [{"a": "{name}"}])}

    assert fill_within(value, VALUES) == {"{run}": ["00021615", 1, True, None, [{"a": "RUN-1"}]]}


@bounded(deadline=None, max_examples=100)
@given(st.text(max_size=20), st.text(max_size=20))
def test_any_text_can_be_written_with_doubled_braces(text: str, value: str) -> None:
    """Doubling its braces makes a template of any text, which gives that text back, with any value beside it."""
    template = text.replace("{", "{{").replace("}", "}}") + "{run}"

    assert fill(template, {"run": value}) == text + value


@pytest.mark.parametrize("template", ["{run:09999999999d}", "{run:>1001}", "{run:.5000}"])
def test_a_value_cannot_be_made_endless(template: str) -> None:
    """One rule must not take all the memory there is."""
    with pytest.raises(TemplateError, match="1000 characters at most"):
        fill(template, {"run": "1"})
