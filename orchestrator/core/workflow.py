"""What a workflow document means: read from YAML, checked, its steps in order, its parameters' values."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from graphlib import TopologicalSorter

from pydantic import model_validator

from orchestrator.core.documents import Document, DocumentError
from orchestrator.core.parameters import problem_with
from orchestrator.core.workflow_mistakes import mistakes
from schemas.workflow import Step, Workflow


class WorkflowError(ValueError):
    """The workflow, or the values given to it, do not fit. The text names the workflow and says what to mend."""


class _Loose(Workflow):
    """A workflow whose parts are right each by itself. Whether they fit together, we say of each with its line."""

    @model_validator(mode="after")
    def _names_fit_together(self) -> _Loose:
        return self


def read(document: Document) -> Workflow:
    """Raises DocumentError, with the line of every mistake."""
    found = list(mistakes(document.read(_Loose)))
    if found:
        raise DocumentError(document.all(found))
    return document.read(Workflow)


def check(workflow: Workflow) -> None:
    """Raises WorkflowError for what keeps a workflow from running; a document's lines are said by `read`."""
    found = [f"{'.'.join(map(str, place))}: {message}" for place, message in mistakes(workflow)]
    if found:
        raise WorkflowError(f"workflow {workflow.name}: " + "\n".join(found))


def ordered(workflow: Workflow) -> tuple[Step, ...]:
    """The steps, each after those it reads, otherwise as written. They have no cycle."""
    steps = {step.name: step for step in workflow.steps}
    graph = {step.name: [name for name in step.reads if name in steps] for step in workflow.steps}
    return tuple(steps[name] for name in TopologicalSorter(graph).static_order())


def values(workflow: Workflow, given: Mapping[str, str]) -> dict[str, str]:
    """The launch's parameters, defaults filled in. Raises WorkflowError for an unknown, missing or wrong one."""
    check_names(workflow, given)
    defaults = {name: one.default for name, one in workflow.parameters.items() if one.default is not None}
    chosen = {**defaults, **given}
    check_values(workflow, chosen)
    return {name: chosen[name] for name in workflow.parameters}


def check_names(workflow: Workflow, given: Mapping[str, str]) -> None:
    """Raises WorkflowError if a parameter is given that does not exist, or one without a default is not given."""
    unknown = sorted(given.keys() - workflow.parameters.keys())
    if unknown:
        near = get_close_matches(unknown[0], workflow.parameters, 1)
        raise WorkflowError(
            f"workflow {workflow.name} has no parameter {', '.join(unknown)}; "
            + (f"did you mean {near[0]}? " if near else "")
            + f"it has: {', '.join(workflow.parameters) or 'none'}"
        )
    for name, parameter in workflow.parameters.items():
        if parameter.default is None and name not in given:
            raise WorkflowError(f"workflow {workflow.name}: parameter {name!r} has no default and was not given")


def check_values(workflow: Workflow, given: Mapping[str, str]) -> None:
    """Raises WorkflowError if a value is not what its parameter allows."""
    problems = [
        f"parameter {name} is {value!r}, {problem}"
        for name, value in given.items()
        if (problem := problem_with(workflow.parameters[name], value)) is not None
    ]
    if problems:
        raise WorkflowError(f"workflow {workflow.name}: {'; '.join(problems)}")
