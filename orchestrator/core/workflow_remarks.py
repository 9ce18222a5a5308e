"""What is probably not meant in a workflow that can run, and what counts on one engine alone."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from orchestrator.core.templates import fields
from orchestrator.core.workflow_mistakes import templates
from schemas.panda import PandaOptions
from schemas.workflow import Start, Step, Workflow


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


def _of_panda_alone(workflow: Workflow) -> Iterator[Remark]:
    for number, step in enumerate(workflow.steps):
        for place in _panda_places(step):
            what = "counts on PanDA alone; the embedded engine runs a step as one job on this machine"
            yield Remark(Weight.NOTE, ("steps", number, *place), what)


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
