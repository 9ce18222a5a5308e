"""A workflow built without launching it: what would be sent, to look at, to check and to submit by hand."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from orchestrator.core import workflow as deciding
from orchestrator.core.naming import NameRefused, given_name, launch_name
from orchestrator.core.parameters import sample
from orchestrator.core.templates import TemplateError, fields
from orchestrator.core.workflow import WorkflowError
from orchestrator.core.workflow_mistakes import templates
from orchestrator.launch import planning
from orchestrator.launch.workflows import Definition
from orchestrator.panda.embedded import plan as local_plan
from orchestrator.panda.packing import package
from orchestrator.panda.port import Package, Submission
from schemas.did import Did
from schemas.site import Site

#: What stands for the dataset when only the workflow is looked at.
_ANY: Final = Did("scope", "dataset")


class EngineKind(StrEnum):
    """The engines, as the settings name them."""

    EMBEDDED = "embedded"
    PANDA = "panda"
    STEPWISE = "panda-stepwise"


class Built(NamedTuple):
    """A submission, and everything that is sent of it."""

    submission: Submission
    package: Package


def build(
    definition: Definition, parameters: Mapping[str, str], did: Did | None, kind: EngineKind, site: Site | None
) -> Built:
    """Build it; the same words give the same bytes. `site` is needed for PanDA.

    Raises WorkflowError, EngineRefused.
    """
    if did is None:
        needs_no_dataset(definition)
    values = {"scope": did.scope, "name": did.name} if did is not None else {}
    name = _name(definition, parameters, did, values)
    submission = planning.plan(definition, name=name, parameters=parameters, values=values)
    source = planning.source(definition)
    if kind is EngineKind.EMBEDDED:
        return Built(submission, local_plan.pack(submission, source))
    if site is None:
        raise WorkflowError(f"the engine {kind} needs a site: name its profile with --site")
    return Built(
        submission, package.pack(submission, source, site, "panda" if kind is EngineKind.PANDA else "panda-stepwise")
    )


def needs_no_dataset(definition: Definition) -> None:
    """Raises WorkflowError if a template names the dataset that a launch is about."""
    named = {name for _, template, _ in templates(definition.workflow) for name in fields(template)}
    for name in sorted(named & {"scope", "name"}):
        raise WorkflowError(
            f"workflow {definition.workflow.name}: {{{name}}} is of the dataset that it is about: name that with --did"
        )


def _name(definition: Definition, parameters: Mapping[str, str], did: Did | None, values: Mapping[str, str]) -> str:
    workflow = definition.workflow
    chosen = deciding.values(workflow, parameters)
    if workflow.launch_name is None:
        return launch_name(workflow.name, did, f"{workflow.name}/built/{sorted(chosen.items())}/{did}")
    try:
        return given_name(workflow.launch_name, {**chosen, **values})
    except (TemplateError, NameRefused) as error:
        raise WorkflowError(f"workflow {workflow.name}: {error}") from None


def build_sample(
    definition: Definition, parameters: Mapping[str, str], did: Did | None, kind: EngineKind, site: Site | None
) -> Built | None:
    """Build it with values that the parameters allow where none is given; None if nobody can guess one.

    Raises WorkflowError, EngineRefused.
    """
    allowed = definition.workflow.parameters
    guessed = {name: value for name, one in allowed.items() if (value := sample(one)) is not None}
    known = {**guessed, **parameters}
    missing = allowed.keys() - known.keys()
    deciding.check_names(definition.workflow, {**known, **dict.fromkeys(missing, "")})
    deciding.check_values(definition.workflow, parameters)
    return None if missing else build(definition, known, did or _ANY, kind, site)
