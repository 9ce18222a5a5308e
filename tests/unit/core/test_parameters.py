"""Whether a value is one that a workflow's parameter allows."""

from __future__ import annotations

from typing import Any

import pytest

from orchestrator.core.parameters import problem_with, sample
from schemas.workflow import Parameter


def parameter(**fields: Any) -> Parameter:
    return Parameter.model_validate(fields)


@pytest.mark.parametrize(
    ("fields", "value"),
    [
        ({}, "anything 'at' all"),
        ({}, ""),
        ({"type": "integer"}, "00021615"),
        ({"type": "integer"}, "-3"),
        ({"type": "integer", "minimum": 1, "maximum": 5}, "1"),
        ({"type": "integer", "minimum": 1, "maximum": 5}, "5"),
        ({"type": "number", "maximum": 0.5}, "5e-1"),
        ({"type": "boolean"}, "true"),
        ({"choices": ["low", "high"]}, "high"),
        ({"pattern": "ana.*"}, "ana381"),
    ],
)
def test_what_is_allowed_has_no_problem(fields: dict[str, Any], value: str) -> None:
    """Bounds are allowed themselves, and zeros in front of a run are no harm."""
    assert problem_with(parameter(**fields), value) is None


@pytest.mark.parametrize(
    ("fields", "value", "said"),
    [
        ({"type": "integer"}, "1.5", "which is not a whole number"),
        ({"type": "integer"}, "", "which is not a whole number"),
        ({"type": "integer"}, "1_000", "which is not a whole number"),
        ({"type": "integer"}, "٣", "which is not a whole number"),
        ({"type": "integer"}, "9" * 5000, "which is not a whole number"),
        ({"type": "integer", "minimum": 1}, "0", "which is below 1"),
        ({"type": "integer", "maximum": 99999999}, "100000000", "which is above 99999999"),
        ({"type": "integer", "minimum": 1, "maximum": 5}, "6", "which is not between 1 and 5"),
        ({"type": "number"}, "nan", "which is not a number"),
        ({"type": "number"}, "1e999", "which is not a number"),
        ({"type": "number"}, " 1", "which is not a number"),
        ({"type": "boolean"}, "yes", "which is neither true nor false"),
        ({"choices": ["low", "high"]}, "hihg", "which is none of low, high; did you mean high?"),
        ({"pattern": r"ana\d{3}"}, "ana381x", r"which does not match 'ana\\d{3}'"),
        ({}, "a\0b", "which no environment can hold"),
    ],
)
def test_what_is_not_allowed_says_why(fields: dict[str, Any], value: str, said: str) -> None:
    """The words end a sentence that shows the value."""
    assert problem_with(parameter(**fields), value) == said


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"default": "x", "choices": ["x", "y"]}, "x"),
        ({"choices": ["low"]}, "low"),
        ({"type": "integer", "minimum": 3}, "3"),
        ({"type": "number", "minimum": 0.5}, "1"),
        ({"type": "integer", "maximum": -2}, "-2"),
        ({"type": "boolean"}, "false"),
        ({}, None),
    ],
)
def test_a_sample_is_guessed_where_it_can_be(fields: dict[str, Any], found: str | None) -> None:
    """A text without a default is known to nobody but who launches."""
    assert sample(parameter(**fields)) == found
