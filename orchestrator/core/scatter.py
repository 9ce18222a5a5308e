"""Steps that are made several times: a scattered step becomes the steps `name_1` to `name_n`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from orchestrator.core.templates import fill
from schemas.workflow import Step, StepInput

#: Into so many parts a step may be scattered.
MOST_PARTS: Final = 200

#: A parameter as a step's environment shows it.
_NOT_IN_NAMES: Final = re.compile(r"\W", re.ASCII)


class ScatterError(ValueError):
    """The values to scatter over do not fit. The text says why, as the end of a sentence about the step."""


@dataclass(frozen=True, slots=True)
class Part:
    """A step of a launch: a step as written, or one of those that it was scattered into."""

    name: str
    step: Step
    #: As written, but of a scattered step all its parts are named.
    inputs: tuple[StepInput, ...]
    #: The scatter's variable and its value, if there is one.
    variables: Mapping[str, str]


def variable_of(parameter: str) -> str:
    """The environment variable that shows a parameter to a step: MULETEER_PARAM_RUN."""
    return "MULETEER_PARAM_" + _NOT_IN_NAMES.sub("_", parameter).upper()


def parts(steps: Sequence[Step], known: Mapping[str, str]) -> tuple[Part, ...]:
    """The steps, those with a scatter replaced by their parts, in the same order.

    Raises:
        ScatterError: too many values, or none, or one twice.
        TemplateError: a template that cannot be filled in.
    """
    found = list[Part]()
    names = dict[str, list[str]]()
    for step in steps:
        inputs = tuple(part for number in range(len(step.inputs)) for part in _spread(step, number, names))
        made = [Part(name, step, inputs, variables) for name, variables in _scattered(step, known)]
        names[step.name] = [part.name for part in made]
        found += made
    return tuple(found)


def _spread(step: Step, number: int, names: Mapping[str, Sequence[str]]) -> Iterator[StepInput]:
    """One input of a step as its parts.

    Where a step is split into jobs by a scattered one, a job gets as many files of each part as of the first.
    """
    each = step.inputs[number]
    for place, name in enumerate(names.get(each.source, [each.source])):
        further = {"files_per_job": step.panda.nFilesPerJob} if number == 0 and place else {}
        yield each if name == each.source else each.model_copy(update={"source": name, **further})


def _scattered(step: Step, known: Mapping[str, str]) -> Iterator[tuple[str, Mapping[str, str]]]:
    if step.scatter is None:
        yield step.name, {}
        return
    values = step.scatter.values
    filled = fill(values, known).split(",") if isinstance(values, str) else [fill(value, known) for value in values]
    for number, value in enumerate(checked([value.strip() for value in filled]), start=1):
        yield f"{step.name}_{number}", {step.scatter.variable: value}


def checked(values: Sequence[str]) -> Sequence[str]:
    """The same values. Raises ScatterError."""
    if not values or values == [""]:
        raise ScatterError("is scattered over no value")
    if len(values) > MOST_PARTS:
        raise ScatterError(f"is scattered over {len(values)} values; {MOST_PARTS} are the most")
    if "" in values:
        raise ScatterError(f"is scattered over an empty value, number {values.index('') + 1} of {len(values)}")
    if twice := [value for position, value in enumerate(values) if value in values[:position]]:
        raise ScatterError(f"is scattered over {twice[0]!r} twice")
    return values
