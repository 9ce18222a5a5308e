"""Turn a workflow and a launch's values into a submission's parts; say what is wrong before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter

from orchestrator.core.patterns import Pattern, PatternError
from orchestrator.core.templates import TemplateError, fields_within
from schemas.workflow import Step, Workflow


class WorkflowError(ValueError):
    """The workflow, or the values given to it, do not fit. The text names the workflow and says what to mend."""


#: What every template of a workflow may use beside its parameters.
DATASET_VARIABLES = frozenset({"scope", "name", "launch"})


def check(workflow: Workflow) -> None:
    """Raises WorkflowError for a cycle, a template that names nothing, or a parameter pattern that RE2 refuses."""
    ordered(workflow)
    known = DATASET_VARIABLES | workflow.parameters.keys()
    document = workflow.model_dump(include={"inputs", "steps", "outputs"})
    try:
        unknown = sorted(fields_within(document) - known)
        for parameter in workflow.parameters.values():
            if parameter.pattern is not None:
                Pattern(parameter.pattern)
    except (TemplateError, PatternError) as error:
        raise WorkflowError(f"workflow {workflow.name}: {error}") from None
    if unknown:
        raise WorkflowError(
            f"workflow {workflow.name}: a template names {', '.join(unknown)}; there are: {', '.join(sorted(known))}"
        )


def ordered(workflow: Workflow) -> tuple[Step, ...]:
    """The steps, each after those it reads, otherwise as written. Raises WorkflowError for a cycle."""
    steps = {step.name: step for step in workflow.steps}
    graph = {step.name: [name for name in step.inputs if name in steps] for step in workflow.steps}
    try:
        return tuple(steps[name] for name in TopologicalSorter(graph).static_order())
    except CycleError as error:
        raise WorkflowError(
            f"workflow {workflow.name}: the steps {' -> '.join(error.args[1])} wait for each other"
        ) from None


def values(workflow: Workflow, given: Mapping[str, str]) -> dict[str, str]:
    """The launch's parameters, defaults filled in. Raises WorkflowError for an unknown, missing or wrong one."""
    check_names(workflow, given)
    defaults = {name: one.default for name, one in workflow.parameters.items() if one.default is not None}
    chosen = {**defaults, **given}
    check_values(workflow, chosen)
    return chosen


def check_names(workflow: Workflow, given: Mapping[str, str]) -> None:
    """Raises WorkflowError if a parameter is given that does not exist, or one without a default is not given."""
    unknown = sorted(given.keys() - workflow.parameters.keys())
    if unknown:
        raise WorkflowError(
            f"workflow {workflow.name} has no parameter {', '.join(unknown)}; "
            f"it has: {', '.join(workflow.parameters) or 'none'}"
        )
    for name, parameter in workflow.parameters.items():
        if parameter.default is None and name not in given:
            raise WorkflowError(f"workflow {workflow.name}: parameter {name!r} has no default and was not given")


def check_values(workflow: Workflow, given: Mapping[str, str]) -> None:
    """Raises WorkflowError if a value does not match its parameter's pattern."""
    for name, value in given.items():
        pattern = workflow.parameters[name].pattern
        if pattern is not None and Pattern(pattern).captures(value) is None:
            raise WorkflowError(
                f"workflow {workflow.name}: parameter {name} is {value!r}, which does not match {pattern!r}"
            )
