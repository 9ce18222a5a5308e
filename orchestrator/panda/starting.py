"""Which steps of a workflow may begin, for an engine that sends them one by one. Pure.

What a step reads may still be in the making: `start` says how much of it has to be there.

* `all`: each step that it reads has ended and made something, be it only a part: PanDA's own chains begin then too.
* A fraction: so much of the files of each step that it reads is done, whether or not that step is still at work. If it
  ends with less, the step is not run until somebody retries that.
* `open`: the step of the primary input has a task; the other steps that it reads have ended and made something. PanDA
  can wait for the output of one task only.

If the step that the primary input comes from is still at work, its task is named to PanDA, which then goes on taking
in its files until that has ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from orchestrator.panda.following import Chain, Link, is_live
from schemas.launch import StepProgress, StepState
from schemas.workflow import Start

_BAD: Final = frozenset({StepState.FAILED, StepState.KILLED})
_ENDED: Final = _BAD | {StepState.FINISHED}


@dataclass(frozen=True, slots=True)
class Beginning:
    """A step that may begin now."""

    step: str
    #: The task that makes its primary input, if that is still at work.
    parent_task: int | None = None


def beginnings(chain: Chain, steps: Sequence[StepProgress]) -> tuple[Beginning, ...]:
    """The steps that have no task yet and may have one now."""
    return tuple(_begin(chain, {step.name: step for step in steps}))


def _begin(chain: Chain, steps: Mapping[str, StepProgress]) -> Iterator[Beginning]:
    for link in chain:
        step = steps[link.name]
        if step.task is None and step.state is StepState.WAITING and _may_begin(link, chain, steps):
            primary = None if link.primary is None or link.when_failed else steps[link.primary]
            yield Beginning(link.name, primary.task if primary is not None and is_live(primary) else None)


def _may_begin(link: Link, chain: Chain, steps: Mapping[str, StepProgress]) -> bool:
    if link.when_failed:
        first, *others = link.parents
        failed = steps[first].state is StepState.FAILED
        return failed and all(_is_over(name, chain, steps) for name in others)
    return all(_has_enough(steps[name], link) for name in link.parents)


def _has_enough(parent: StepProgress, link: Link) -> bool:
    if parent.state in _BAD:
        return False
    match link.start:
        case Start.ALL:
            return parent.state is StepState.FINISHED
        case Start.OPEN:
            return parent.state is StepState.FINISHED or (parent.name == link.primary and parent.task is not None)
        case share:
            files = parent.files
            return files is not None and files.total > 0 and files.finished >= share * files.total


def _is_over(name: str, chain: Chain, steps: Mapping[str, StepProgress]) -> bool:
    """Whether a step has ended, or will never begin as things stand."""
    step = steps[name]
    if step.task is not None or step.state is not StepState.WAITING:
        return step.state in _ENDED
    link = next(link for link in chain if link.name == name)
    if link.when_failed:
        first = link.parents[0]
        return _is_over(first, chain, steps) and steps[first].state is not StepState.FAILED
    return any(_is_over(parent, chain, steps) and not _has_enough(steps[parent], link) for parent in link.parents)
