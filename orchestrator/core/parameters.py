"""Whether a value is one that a workflow's parameter allows."""

from __future__ import annotations

import math
import re
from difflib import get_close_matches
from typing import Final, assert_never

from orchestrator.core.patterns import Pattern
from schemas.workflow import Parameter, ParameterType

_INTEGER: Final = re.compile(r"[+-]?[0-9]+")

#: A number with more digits than this is a mistake, and costs time to read.
_MOST_DIGITS: Final = 100


def problem_with(parameter: Parameter, value: str) -> str | None:
    """Why the parameter does not allow the value, as the end of a sentence that shows it; None if it does.

    Raises PatternError if the parameter's pattern is none.
    """
    kind = _problem_of_kind(parameter, value)
    if kind is not None:
        return kind
    if "\0" in value:
        return "which no environment can hold"
    if parameter.choices and value not in parameter.choices:
        near = get_close_matches(value, parameter.choices, 1)
        return f"which is none of {', '.join(parameter.choices)}" + (f"; did you mean {near[0]}?" if near else "")
    if parameter.pattern is not None and not Pattern(parameter.pattern).matches(value):
        return f"which does not match {parameter.pattern!r}"
    return None


def _problem_of_kind(parameter: Parameter, value: str) -> str | None:
    match parameter.type:
        case ParameterType.STRING:
            return None
        case ParameterType.BOOLEAN:
            return None if value in ("true", "false") else "which is neither true nor false"
        case ParameterType.INTEGER:
            if not _INTEGER.fullmatch(value) or len(value) > _MOST_DIGITS:
                return "which is not a whole number"
            return _problem_of_range(parameter, int(value))
        case ParameterType.NUMBER:
            number = _number(value)
            return "which is not a number" if number is None else _problem_of_range(parameter, number)
        case _:
            assert_never(parameter.type)


def _number(value: str) -> float | None:
    try:
        number = float(value) if value.isascii() and "_" not in value and len(value) <= _MOST_DIGITS else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) and value == value.strip() else None


def _problem_of_range(parameter: Parameter, number: float) -> str | None:
    low, high = parameter.minimum, parameter.maximum
    if (low is None or number >= low) and (high is None or number <= high):
        return None
    if low is not None and high is not None:
        return f"which is not between {low:.15g} and {high:.15g}"
    return f"which is below {low:.15g}" if low is not None else f"which is above {high:.15g}"


def sample(parameter: Parameter) -> str | None:
    """A value that the parameter allows; None if only whoever launches can know one."""
    if parameter.default is not None:
        return parameter.default
    if parameter.choices:
        return parameter.choices[0]
    match parameter.type:
        case ParameterType.STRING:
            return None
        case ParameterType.BOOLEAN:
            return "false"
        case ParameterType.INTEGER | ParameterType.NUMBER:
            return str(math.ceil(parameter.minimum if parameter.minimum is not None else parameter.maximum or 0))
        case _:
            assert_never(parameter.type)
