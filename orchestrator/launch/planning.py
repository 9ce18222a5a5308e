"""A workflow and a launch's values, filled into each other: what is handed to an engine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from orchestrator.core import workflow as deciding
from orchestrator.core.retry_policy import policy_of
from orchestrator.core.scatter import Part, ScatterError, parts, variable_of
from orchestrator.core.templates import TemplateError, fill
from orchestrator.core.workflow import WorkflowError
from orchestrator.core.workflow_mistakes import stays_inside
from orchestrator.launch.folders import files_in
from orchestrator.launch.workflows import Definition
from orchestrator.panda.port import Package, PackedFile, Submission, SubmissionStep
from schemas.did import Did
from schemas.retry import RetryPolicy
from schemas.workflow import StepInput


def plan(definition: Definition, *, name: str, parameters: Mapping[str, str], values: Mapping[str, str]) -> Submission:
    """The submission of a launch.

    Args:
        name: the launch's own.
        parameters: as they were given; defaults are filled in.
        values: `scope` and `name` of the dataset that the launch is about.

    Raises:
        WorkflowError: a parameter, a template, a dataset's name or a list of files does not fit.
    """
    workflow = definition.workflow
    chosen = deciding.values(workflow, parameters)
    known = {**chosen, **values, "launch": name}
    try:
        return Submission(
            name=name,
            workflow=workflow.name,
            parameters=chosen,
            inputs={
                label: Did.parse(fill(each.dataset, known))
                for label, each in workflow.inputs.items()
                if each.dataset is not None
            },
            steps=tuple(_step(part, known) for part in parts(deciding.ordered(workflow), known)),
            file_lists={
                label: _listed(definition.folder, fill(each.file_list, known))
                for label, each in workflow.inputs.items()
                if each.file_list is not None
            },
            environment={variable: fill(text, known) for variable, text in workflow.environment.items()},
            setup=workflow.setup,
            description=workflow.description,
        )
    except (TemplateError, ScatterError, ValueError) as error:
        raise WorkflowError(f"workflow {workflow.name}: {error}") from None


def _step(part: Part, known: Mapping[str, str]) -> SubmissionStep:
    step, values = part.step, {**known, **part.variables}
    return SubmissionStep(
        name=part.name,
        command=tuple(fill(word, values) for word in step.command),
        inputs=tuple(_input(each, values) for each in part.inputs),
        outputs=tuple(_output(pattern, values, part.name) for pattern in step.outputs),
        timeout=step.timeout,
        script=step.script,
        environment={
            **{variable_of(variable): value for variable, value in part.variables.items()},
            **{variable: fill(text, values) for variable, text in step.environment.items()},
        },
        when=step.when,
        start=step.start,
        queue=step.queue,
        site=step.site,
        image=step.image,
        panda=step.panda,
    )


def _input(each: StepInput, values: Mapping[str, str]) -> StepInput:
    return each if each.match is None else each.model_copy(update={"match": fill(each.match, values)})


def _output(template: str, values: Mapping[str, str], step: str) -> str:
    pattern = fill(template, values)
    if not stays_inside(pattern):
        raise WorkflowError(f"step {step}: the output {pattern!r} must stay within the step's directory")
    return pattern


def _listed(folder: Path, name: str) -> tuple[str, ...]:
    """The paths in a list of files, one a line; lines that begin with `#` are none."""
    path = folder / name
    if not stays_inside(name) or not path.resolve().is_relative_to(folder.resolve()):
        raise WorkflowError(f"the file list {name!r} must stay within the workflow's folder")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise WorkflowError(f"the file list {path} cannot be read: {error}") from None
    found = dict[str, int]()
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line or line.startswith("#"):
            continue
        if not line.startswith("/") and "://" not in line:
            raise WorkflowError(f"{path}:{number}: {line!r} is neither a path from / on nor an address such as root://")
        if line in found:
            raise WorkflowError(f"{path}:{number}: {line!r} stands in line {found[line]} already")
        found[line] = number
    if not found:
        raise WorkflowError(f"the file list {path} names no file")
    return tuple(found)


def outputs(
    definition: Definition, *, name: str, parameters: Mapping[str, str], values: Mapping[str, str]
) -> dict[str, str]:
    """The datasets that a finished launch leaves behind, `scope:name`, with the step whose outputs each holds.

    A scattered step is named as it is written: its dataset holds what all its parts made. Raises WorkflowError.
    """
    workflow = definition.workflow
    known = {**deciding.values(workflow, parameters), **values, "launch": name}
    try:
        return {str(Did.parse(fill(each.dataset, known))): each.step for each in workflow.outputs}
    except (TemplateError, ValueError) as error:
        raise WorkflowError(f"workflow {workflow.name}: {error}") from None


def retries(
    definition: Definition, *, name: str, parameters: Mapping[str, str], values: Mapping[str, str]
) -> RetryPolicy | None:
    """How what fails of a launch is retried by itself; None if nothing is. Raises WorkflowError."""
    workflow = definition.workflow
    known = {**deciding.values(workflow, parameters), **values, "launch": name}
    try:
        return policy_of(workflow, parts(deciding.ordered(workflow), known))
    except (TemplateError, ScatterError) as error:
        raise WorkflowError(f"workflow {workflow.name}: {error}") from None


def source(definition: Definition) -> Package:
    """The folder's files that jobs get, by their paths in it. Raises WorkflowError if one cannot be read."""
    try:
        files = files_in(definition.folder)
    except OSError as error:
        raise WorkflowError(f"{definition.folder} cannot be read: {error}") from None
    return {**{path: _packed(files.inside[path]) for path in files.shipped(definition.workflow)}, **definition.extra}


def _packed(path: Path) -> PackedFile:
    try:
        return PackedFile(path.read_bytes(), os.access(path, os.X_OK))
    except OSError as error:
        raise WorkflowError(f"{path} cannot be read: {error.strerror}") from None
