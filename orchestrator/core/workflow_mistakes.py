"""What keeps a workflow from running, found in the document alone: each mistake with its place."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from graphlib import CycleError, TopologicalSorter
from pathlib import PurePosixPath
from typing import Any, Final

from orchestrator.core.mistakes import Mistake
from orchestrator.core.parameters import problem_with, sample
from orchestrator.core.patterns import Pattern, PatternError
from orchestrator.core.retry_policy import mistakes_of_retry
from orchestrator.core.scatter import ScatterError, checked, variable_of
from orchestrator.core.templates import TemplateError, fields, fill
from schemas.workflow import Step, Workflow

#: What every template of a workflow may use beside its parameters.
DATASET_VARIABLES: Final = frozenset({"scope", "name", "launch"})

_Place = tuple[int | str, ...]

_PART: Final = re.compile(r"(.+)_[1-9][0-9]*")


def mistakes(workflow: Workflow) -> Iterator[Mistake]:
    """Every mistake, whether or not the parts of the workflow fit together."""
    yield from _of_parameters(workflow)
    yield from _of_names(workflow)
    yield from _of_sources(workflow)
    yield from _of_cycles(workflow)
    yield from _of_scatter(workflow)
    yield from _of_paths(workflow)
    yield from _of_templates(workflow)
    yield from mistakes_of_retry(workflow)


def _of_parameters(workflow: Workflow) -> Iterator[Mistake]:
    shown = dict[str, str]()
    for name, parameter in workflow.parameters.items():
        place: _Place = ("parameters", name)
        if not name.isidentifier() or not name.isascii():
            yield place, "is no name for a parameter: use letters, digits and _, and begin with a letter"
        elif name in DATASET_VARIABLES:
            yield place, "is what every workflow has already: give the parameter another name"
        elif (other := shown.setdefault(variable_of(name), name)) != name:
            yield place, f"is {variable_of(name)} for a step, as {other} is: rename one of them"
        yield from _of_allowed_values(workflow, name)
        try:
            problem = None if parameter.default is None else problem_with(parameter, parameter.default)
        except PatternError as error:
            yield (*place, "pattern"), str(error)
        else:
            if problem is not None:
                yield (*place, "default"), f"it is {parameter.default!r}, {problem}"


def _of_allowed_values(workflow: Workflow, name: str) -> Iterator[Mistake]:
    parameter = workflow.parameters[name]
    try:
        if parameter.pattern is not None:
            Pattern(parameter.pattern)
    except PatternError as error:
        if parameter.default is None:  # otherwise it is said of the default
            yield ("parameters", name, "pattern"), str(error)
        return
    for number, choice in enumerate(parameter.choices):
        problem = problem_with(parameter, choice)
        if problem is not None:
            yield ("parameters", name, "choices", number), f"it is {choice!r}, {problem}"


def _of_names(workflow: Workflow) -> Iterator[Mistake]:
    steps = [step.name for step in workflow.steps]
    scattered = {step.name for step in workflow.steps if step.scatter is not None}
    shown = dict[str, str]()
    for place, name in [
        *((("inputs", name), name) for name in workflow.inputs),
        *((("steps", number, "name"), name) for number, name in enumerate(steps)),
    ]:
        part = _PART.fullmatch(name)
        if name in workflow.inputs and name in steps:
            if place[0] == "steps":
                yield place, f"an input is called {name} too: give each step and each input its own name"
        elif place[0] == "steps" and name in steps[: int(place[1])]:
            yield place, f"another step is called {name} too: give each step its own name"
        elif part is not None and part[1] in scattered:
            yield place, f"the scattered step {part[1]} becomes {part[1]}_1, {part[1]}_2 and so on: rename one of them"
        elif (other := shown.setdefault(variable_of(name), name)) != name:
            yield place, f"{other} and {name} would have one environment variable: rename one of them"


def _of_sources(workflow: Workflow) -> Iterator[Mistake]:
    steps = {step.name: step for step in workflow.steps}
    known = [*workflow.inputs, *steps]
    for number, step in enumerate(workflow.steps):
        for position, each in enumerate(step.inputs):
            place: _Place = ("steps", number, "inputs", position)
            if each.source not in known:
                yield place, _unknown("input and no step", each.source, known)
            elif any(each.source == other.source and each.match == other.match for other in step.inputs[:position]):
                yield place, f"{each.source} is read already: leave it out, or say match of each"
            if position == 0 and (each.files_per_job is not None or each.reusable):
                option = "files_per_job" if each.files_per_job is not None else "reusable"
                more = ": say panda: {nFilesPerJob: ...} instead" if option == "files_per_job" else ""
                yield (*place, option), f"is for secondary inputs, and the first input is the primary one{more}"
        yield from _of_when(number, step, steps)
    for number, output in enumerate(workflow.outputs):
        if output.step not in steps:
            yield ("outputs", number, "step"), _unknown("step", output.step, list(steps))
        if output.dataset in [other.dataset for other in workflow.outputs[:number]]:
            yield ("outputs", number, "dataset"), "another output has the same dataset: give each its own"


def _of_when(number: int, step: Step, steps: Mapping[str, Step]) -> Iterator[Mistake]:
    if step.when != "failed":
        return
    place = ("steps", number, "when")
    if not step.reads or step.reads[0] not in steps:
        yield place, "it runs when its first input has failed, so that must be a step"
    elif steps[step.reads[0]].scatter is not None:
        yield place, f"its first input {step.reads[0]} is scattered, so there is not one step that fails"


def _of_cycles(workflow: Workflow) -> Iterator[Mistake]:
    numbers = {step.name: number for number, step in enumerate(workflow.steps)}
    graph = {step.name: [name for name in step.reads if name in numbers] for step in workflow.steps}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle: Sequence[str] = error.args[1]
        # the sorter gives it against the flow, from some step on
        first = min(range(len(circle) - 1), key=lambda position: numbers[circle[position]])
        turned = [*circle[first:-1], *circle[:first], circle[first]]
        yield ("steps", numbers[turned[0]], "inputs"), f"the steps {' -> '.join(turned)} wait for each other"


def _of_scatter(workflow: Workflow) -> Iterator[Mistake]:
    for number, step in enumerate(workflow.steps):
        if step.scatter is None:
            continue
        name = step.scatter.variable
        if name in DATASET_VARIABLES or name in workflow.parameters:
            yield ("steps", number, "scatter", "variable"), f"{name} has a meaning already: choose another name"
        elif variable_of(name) in map(variable_of, workflow.parameters):
            yield (
                ("steps", number, "scatter", "variable"),
                f"a parameter is {variable_of(name)} too",
            )
        if isinstance(step.scatter.values, tuple):
            try:
                checked([value.strip() for value in step.scatter.values])
            except ScatterError as error:
                yield ("steps", number, "scatter", "values"), f"step {step.name} {error}"


def _of_paths(workflow: Workflow) -> Iterator[Mistake]:
    places: list[tuple[_Place, str, str]] = [
        (("steps", number, "outputs", position), pattern, "the step's directory")
        for number, step in enumerate(workflow.steps)
        for position, pattern in enumerate(step.outputs)
    ]
    places += [
        (("inputs", name, "file_list"), each.file_list, "the workflow's folder")
        for name, each in workflow.inputs.items()
        if each.file_list is not None
    ]
    places += [(("resources", number), each, "the workflow's folder") for number, each in enumerate(workflow.resources)]
    if workflow.setup is not None:
        places.append((("setup",), workflow.setup, "the workflow's folder"))
    for place, path, where in places:
        if not stays_inside(path):
            yield place, f"{path!r} must stay within {where}"


def stays_inside(path: str) -> bool:
    """Whether a path, or a pattern of paths, stays within the directory that it starts from."""
    parts = PurePosixPath(path).parts
    return bool(parts) and not path.startswith("/") and ".." not in parts and "\0" not in path


def _of_templates(workflow: Workflow) -> Iterator[Mistake]:
    always = {*DATASET_VARIABLES, *workflow.parameters}
    samples = {name: value for name, one in workflow.parameters.items() if (value := sample(one)) is not None}
    for place, template, added in templates(workflow):
        known = (always | added) - ({"launch"} if place == ("launch_name",) else set())
        try:
            unknown = sorted(fields(template) - known)
            if unknown:
                yield place, f"{template!r}: " + _unknown("parameter", unknown[0], sorted(known))
            elif fields(template) <= samples.keys():
                fill(template, samples)
        except TemplateError as error:
            yield place, str(error)


def templates(workflow: Workflow) -> Iterator[tuple[_Place, str, set[str]]]:
    """Every template of a workflow: its place, its text, and what it may name beside what all may."""
    document = workflow.model_dump(include={"launch_name", "environment"}, exclude_none=True)
    yield from ((place, text, set()) for place, text in _texts(document))
    for name, each in workflow.inputs.items():
        for field in ("dataset", "file_list"):
            if (text := getattr(each, field)) is not None:
                yield ("inputs", name, field), text, set()
    for number, output in enumerate(workflow.outputs):
        yield ("outputs", number, "dataset"), output.dataset, set()
    for number, step in enumerate(workflow.steps):
        added = set() if step.scatter is None else {step.scatter.variable}
        written = step.model_dump(include={"command", "outputs", "environment"})
        written["inputs"] = [{} if each.match is None else {"match": each.match} for each in step.inputs]
        yield from ((("steps", number, *place), text, added) for place, text in _texts(written))
        if step.scatter is not None:
            for place, text in _texts(step.scatter.values):
                yield ("steps", number, "scatter", "values", *place), text, set()


def _texts(value: Any) -> Iterator[tuple[_Place, str]]:
    if isinstance(value, str):
        yield (), value
        return
    items = value.items() if isinstance(value, Mapping) else enumerate(value)
    for key, item in items:
        yield from (((key, *place), text) for place, text in _texts(item))


def _unknown(what: str, name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, 1)
    return f"there is no {what} {name!r}" + (
        f"; did you mean {near[0]}?" if near else f"; there are: {', '.join(known) or 'none'}"
    )
