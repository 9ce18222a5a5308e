"""What is probably not meant in a workflow that can run, and what counts on one engine alone."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Final, NamedTuple

from orchestrator.core.retry_policy import merged
from orchestrator.core.templates import fields
from orchestrator.core.workflow_mistakes import templates
from schemas.failure_class import FailureClass
from schemas.panda import PandaOptions
from schemas.retry import Retry
from schemas.workflow import Start, Step, Workflow

_NO_MEMORY: Final = "counts on PanDA alone; the embedded engine gives its steps no memory of their own"


class Weight(StrEnum):
    """How much a remark weighs."""

    WARNING = "warning"
    #: Nothing is wrong; it is good to know.
    NOTE = "note"


class Remark(NamedTuple):
    """One remark on a document."""

    weight: Weight
    place: tuple[int | str, ...]
    message: str


def remarks(workflow: Workflow) -> Iterator[Remark]:
    """Warnings first, each kind in the order of the document."""
    yield from _unread(workflow)
    yield from _unused(workflow)
    yield from _overwritten(workflow)
    yield from _never_retried(workflow)
    yield from _of_panda_alone(workflow)


def _unread(workflow: Workflow) -> Iterator[Remark]:
    read = {name for step in workflow.steps for name in step.reads}
    for name in workflow.inputs:
        if name not in read:
            yield Remark(Weight.WARNING, ("inputs", name), "no step reads it")
    # of a step that has failed nobody expects files
    wanted = {name for step in workflow.steps for name in step.reads[1 if step.when == "failed" else 0 :]}
    for number, step in enumerate(workflow.steps):
        if step.name in wanted and not step.outputs:
            what = "it names no outputs, so the steps that read it find no file"
            yield Remark(Weight.WARNING, ("steps", number), what)


def _unused(workflow: Workflow) -> Iterator[Remark]:
    used = {name for step in workflow.steps for name in step.reads} | {output.step for output in workflow.outputs}
    for number, step in enumerate(workflow.steps):
        if step.outputs and step.name not in used:
            what = f"no step reads what {step.name} makes, and no dataset under outputs holds it"
            yield Remark(Weight.WARNING, ("steps", number, "outputs"), what)
        if step.name in {output.step for output in workflow.outputs} and not step.outputs:
            what = f"a dataset under outputs holds what {step.name} makes, but it names no outputs"
            yield Remark(Weight.WARNING, ("steps", number), what)


def _overwritten(workflow: Workflow) -> Iterator[Remark]:
    """Parts of a scattered step that make files of one name: their readers and their dataset take only one."""
    for place, template, added in templates(workflow):
        if place[0] == "steps" and place[2:3] == ("outputs",) and added and not added & fields(template):
            if "*" in template:
                continue  # the rest of the name may tell them apart
            what = f"every part of the step makes {template!r}: use {{{min(added)}}} in it"
            yield Remark(Weight.WARNING, place, what)


def _never_retried(workflow: Workflow) -> Iterator[Remark]:
    """What is said of retries that never come, and retries that cannot help."""
    said: list[tuple[tuple[int | str, ...], Retry | None]] = [(("retry",), workflow.retry)]
    said += [(("steps", number, "retry"), step.retry) for number, step in enumerate(workflow.steps)]
    held = [merged(workflow.retry, step.retry) for step in workflow.steps]
    for (place, own), retries in zip(said, [held, *([each] for each in held)], strict=True):
        if own is None:
            continue
        if own.model_fields_set - {"attempts"} and not any(each.attempts for each in retries):
            yield Remark(Weight.WARNING, place, "attempts is 0, so nothing is retried: say attempts: 2, for example")
        if own.attempts and FailureClass.OURS in (own.classes or ()):
            what = "ours is what was asked for wrongly, or stopped by somebody: a retry does not make it better"
            yield Remark(Weight.WARNING, (*place, "classes"), what)


def _of_panda_alone(workflow: Workflow) -> Iterator[Remark]:
    if workflow.retry is not None and workflow.retry.memory is not None:
        yield Remark(Weight.NOTE, ("retry", "memory"), _NO_MEMORY)
    for number, step in enumerate(workflow.steps):
        for place in _panda_places(step):
            what = "counts on PanDA alone; the embedded engine runs a step as one job on this machine"
            yield Remark(Weight.NOTE, ("steps", number, *place), what)
        if step.retry is not None and step.retry.memory is not None:
            yield Remark(Weight.NOTE, ("steps", number, "retry", "memory"), _NO_MEMORY)


def _panda_places(step: Step) -> Iterator[tuple[int | str, ...]]:
    if step.panda != PandaOptions():
        yield ("panda",)
    for field in ("queue", "site", "image"):
        if getattr(step, field) is not None:
            yield (field,)
    if step.start is not Start.ALL:
        yield ("start",)
    for position, each in enumerate(step.inputs):
        for field, said in (("files_per_job", each.files_per_job is not None), ("reusable", each.reusable)):
            if said:
                yield ("inputs", position, field)
