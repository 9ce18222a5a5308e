"""What a workflow says of retries: put together for each of its steps, what is wrong with it, and in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from orchestrator.core.mistakes import Mistake
from orchestrator.core.scatter import Part
from schemas.durations import format_duration
from schemas.failure_class import FailureClass
from schemas.retry import Retry, RetryPolicy, StepRetry
from schemas.workflow import Workflow

_Place = tuple[int | str, ...]

#: What is retried unless it is said. Memory too, once it is said how it grows.
_BY_DEFAULT: Final = (FailureClass.TRANSIENT, FailureClass.SITE, FailureClass.STORAGE)


def merged(general: Retry | None, own: Retry | None) -> Retry:
    """What holds for a step: what it says itself, else what the workflow says, else the defaults."""
    return Retry.model_validate({**_said(general), **_said(own)})


def classes_of(retry: Retry) -> tuple[FailureClass, ...]:
    """The classes of failures that are retried."""
    if retry.classes is not None:
        return retry.classes
    return _BY_DEFAULT if retry.memory is None else (*_BY_DEFAULT, FailureClass.MEMORY)


def policy_of(workflow: Workflow, parts: Sequence[Part]) -> RetryPolicy | None:
    """The policy for the steps of a launch; None if none of them is ever retried by itself."""
    names = {part.name for part in parts}
    steps = {part.name: _of_step(workflow.retry, part, names) for part in parts}
    return RetryPolicy(steps=steps) if any(step.attempts for step in steps.values()) else None


def mistakes_of_retry(workflow: Workflow) -> Iterator[Mistake]:
    """What contradicts itself, at the place where it is said."""
    if workflow.retry is not None:
        yield from _contradictions(("retry",), workflow.retry, workflow.retry)
    for number, step in enumerate(workflow.steps):
        place: _Place = ("steps", number)
        retry = merged(workflow.retry, step.retry)
        if step.retry is not None:
            yield from _contradictions((*place, "retry"), retry, step.retry)
        most, given = retry.most_memory, step.panda.memory
        if retry.attempts and retry.memory and most is not None and given is not None and given >= most:
            told = step.retry is not None and "most_memory" in step.retry.model_fields_set
            where = ("retry", "most_memory") if told else ("panda", "memory")
            yield (*place, *where), f"it begins with {given} MB, and most_memory lets it have no more than {most}"


def in_words(retry: Retry | StepRetry) -> str:
    """For people: how often, of what, how memory grows."""
    if not retry.attempts:
        return "never"
    classes = classes_of(retry) if isinstance(retry, Retry) else retry.classes
    memory = "" if retry.memory is None else f"; memory x {retry.memory:g}"
    most = "" if retry.memory is None or retry.most_memory is None else f", {retry.most_memory} MB at most"
    times = "once" if retry.attempts == 1 else f"{retry.attempts} times"
    return f"{times}, {format_duration(retry.after)} later, of {', '.join(classes)}{memory}{most}"


def workflow_in_words(workflow: Workflow) -> str | None:
    """How what fails of a workflow is retried, and the steps where it is otherwise; None if it does not say."""
    own = [(step.name, merged(workflow.retry, step.retry)) for step in workflow.steps if step.retry is not None]
    if workflow.retry is None and not own:
        return None
    return "; ".join([in_words(merged(workflow.retry, None)), *(f"{name}: {in_words(each)}" for name, each in own)])


def policy_in_words(policy: RetryPolicy) -> str:
    """How what fails of a launch is retried; step by step where that is not the same for all."""
    words = {name: in_words(step) for name, step in policy.steps.items()}
    if len(set(words.values())) == 1:
        return next(iter(words.values()))
    return "; ".join(f"{name}: {each}" for name, each in words.items())


def _said(retry: Retry | None) -> dict[str, Any]:
    return {} if retry is None else {name: getattr(retry, name) for name in retry.model_fields_set}


def _of_step(general: Retry | None, part: Part, names: set[str]) -> StepRetry:
    retry = merged(general, part.step.retry)
    return StepRetry(
        attempts=retry.attempts,
        classes=classes_of(retry),
        memory=retry.memory,
        most_memory=retry.most_memory,
        after=retry.after,
        given=part.step.panda.memory,
        reads=tuple(dict.fromkeys(each.source for each in part.inputs if each.source in names)),
    )


def _contradictions(place: _Place, retry: Retry, said: Retry) -> Iterator[Mistake]:
    """What is wrong with `retry`, as far as `said` has a part in it: what comes from elsewhere is said there."""
    for fields, message in _wrong(retry):
        here = [field for field in fields if field in said.model_fields_set]
        if here:
            yield (*place, here[0]), message


def _wrong(retry: Retry) -> Iterator[tuple[tuple[str, ...], str]]:
    """The fields that have a part in it, and what is wrong."""
    classes = retry.classes
    if classes is not None:
        if not classes:
            yield ("classes",), "without any class nothing is retried: name some, or say attempts: 0"
        if twice := [each for number, each in enumerate(classes) if each in classes[:number]]:
            yield ("classes",), f"{twice[0]} stands there twice"
        if FailureClass.MEMORY in classes and retry.memory is None:
            yield ("classes", "memory"), "what failed of memory needs more of it: say by which factor, memory: 1.5"
        if FailureClass.MEMORY not in classes and classes and retry.memory is not None:
            yield ("memory",), "it grows for failures of class memory, which classes does not name"
    if retry.most_memory is not None and retry.memory is None:
        yield ("most_memory",), "it bounds how memory grows: say by which factor, memory: 1.5"
