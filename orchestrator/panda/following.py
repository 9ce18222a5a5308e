"""From PanDA's rows to how far a workflow has come. Pure.

PanDA's words are not ours: `done` is all of a task, `finished` is a part of it, and either may have made nothing.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from orchestrator.panda.client.rows import RequestRow, Task
from orchestrator.panda.port import Progress, Submission, SubmissionState
from schemas.launch import FileCounts, StepProgress, StepState
from schemas.workflow import Start

#: A task in one of these has ended; only a retry, or another look at its input, brings it back.
FINAL: Final = frozenset({"done", "finished", "failed", "broken", "aborted"})

#: No job of it has begun. A task that ran comes here again while more jobs are made.
_WAITING: Final = frozenset({"registered", "defined", "assigning", "ready", "pending", "staging", "topreprocess"})

#: iDDS is through with a request.
_REQUEST_OVER: Final = frozenset({"Finished", "SubFinished", "Failed", "Cancelled", "Expired"})
_TRANSFORM_DEAD: Final = frozenset({"Failed", "Cancelled", "Expired"})

_ENDED: Final = frozenset({StepState.FINISHED, StepState.FAILED, StepState.KILLED})
_NUMBERED: Final = re.compile(r"_\d{3,}_")
_LONGEST: Final = 1000


@dataclass(frozen=True, slots=True)
class Link:
    """What counts of a step for the others: what it waits for, and when it may begin."""

    name: str
    #: The steps that it reads, in order.
    parents: tuple[str, ...]
    #: The step that its primary input comes from, by which it is split into jobs; None if no step makes that.
    primary: str | None = None
    when_failed: bool = False
    start: Start | float = Start.ALL


#: The steps of a workflow, each after those that it reads.
Chain = tuple[Link, ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """A step's task as it was told last."""

    task: int
    modified_at: datetime
    step: StepProgress

    @property
    def is_over(self) -> bool:
        return self.step.task_status in FINAL


@dataclass(frozen=True, slots=True)
class Verdict:
    """What iDDS says of a request."""

    status: str
    #: The task of each step that was handed in.
    tasks: dict[str, int]
    #: Steps that it could not hand in, and why.
    refused: dict[str, str]

    @property
    def is_over(self) -> bool:
        return self.status in _REQUEST_OVER

    @property
    def was_cancelled(self) -> bool:
        return self.status in ("Cancelled", "Cancelling", "ToCancel")


def chain_of(submission: Submission) -> Chain:
    """The steps of a submission and what they wait for."""
    names = {step.name for step in submission.steps}
    return tuple(
        Link(
            step.name,
            tuple(dict.fromkeys(source for source in step.reads if source in names)),
            next((source for source in step.reads[:1] if source in names), None),
            step.when == "failed",
            step.start,
        )
        for step in submission.steps
    )


def owners(task_name: str) -> Iterator[tuple[str, str]]:
    """What a task's name may be made of: `<outDS>` and the step. Names may hold numbers themselves."""
    name = task_name.removesuffix("/")
    for found in _NUMBERED.finditer(name):
        yield name[: found.start()], name[found.end() :]


def is_news(row: Task, seen: Seen | None) -> bool:
    """Whether a row tells more than was known. Answers come out of order, and more than once."""
    if seen is None:
        return True
    if row.id == seen.task and seen.is_over and row.status not in FINAL:
        return row.modified_at > seen.modified_at  # a retry
    return (row.id, row.modified_at) >= (seen.task, seen.modified_at)


def seen_as(row: Task, step: str, page: str | None) -> Seen:
    """One row of a task; `page` is the monitor's page of a task, with `{id}` in it."""
    state, reason = _state_and_reason(row)
    return Seen(
        row.id,
        row.modified_at,
        StepProgress(
            name=step,
            state=state,
            started_at=row.started_at,
            ended_at=(row.ended_at or row.modified_at) if row.status in FINAL else None,
            reason=reason,
            log=None if page is None else page.replace("{id}", str(row.id)),
            task=row.id,
            task_status=row.status,
            files=_files(row),
        ),
    )


def in_words(dialog: str | None) -> str | None:
    """What JEDI says about an error, without HTML, on one line."""
    if not dialog:
        return None
    words = " ".join(html.unescape(re.sub(r"<[^<>]*>", " ", dialog)).split())
    return (words if len(words) <= _LONGEST else f"{words[:_LONGEST]}...") or None


def verdict_of(rows: Sequence[RequestRow], steps: dict[str, str]) -> Verdict | None:
    """What the rows of one request say; `steps` are their names by those of their tasks. None if there is no row."""
    if not rows:
        return None
    tasks: dict[str, int] = {}
    refused: dict[str, str] = {}
    for row in rows:
        step = steps.get((row.transform_name or "").removesuffix("/"))
        if step is not None and row.workload_id is not None:
            tasks[step] = row.workload_id
        elif step is not None and row.transform_status in _TRANSFORM_DEAD and row.errors:
            refused[step] = in_words(row.errors) or "iDDS does not say why"
    return Verdict(rows[0].status, tasks, {step: why for step, why in refused.items() if step not in tasks})


def not_handed_in(step: StepProgress, why: str) -> StepProgress:
    """A step that will have no task, because that was refused."""
    return step.model_copy(update={"state": StepState.FAILED, "reason": f"it was not handed in: {why}"})


def is_live(step: StepProgress) -> bool:
    """Whether it has a task that may still move by itself."""
    return step.task is not None and step.state not in _ENDED


def going_on(steps: Sequence[StepProgress]) -> Progress:
    """A workflow that has not ended."""
    begun = any(step.state is not StepState.WAITING for step in steps)
    state = SubmissionState.RUNNING if begun else SubmissionState.SUBMITTED
    return Progress(state, tuple(steps), _complaints(steps))


def concluded(
    chain: Chain,
    steps: Sequence[StepProgress],
    *,
    killed: bool = False,
    finishing: bool = False,
) -> Progress:
    """A workflow in which nothing more will happen by itself. What still waits is not run, and it says why.

    The verdict is by the ordinary steps: those that run only when another has failed make nothing better and nothing
    worse. All of them complete is finished; if some of the last ones have made something, it is partly finished.

    Args:
        killed: somebody had it stopped.
        finishing: somebody had it ended with what there was, so that counts.
    """
    explained = [_explained(step, chain, steps, killed) for step in steps]
    return Progress(_ending(chain, explained, killed, finishing), tuple(explained), _complaints(explained))


def is_partial(step: StepProgress) -> bool:
    """Whether a finished step lacks a part of its files."""
    return step.state is StepState.FINISHED and step.task_status == "finished"


def _ending(chain: Chain, steps: Sequence[StepProgress], killed: bool, finishing: bool) -> SubmissionState:
    spare = _spare(chain)
    ordinary = [step for step in steps if step.name not in spare]
    if all(step.state is StepState.FINISHED for step in ordinary):
        partial = any(is_partial(step) for step in ordinary)
        return SubmissionState.PARTLY_FINISHED if partial else SubmissionState.FINISHED
    read = {parent for link in chain if link.name not in spare for parent in link.parents}
    ends = [step for step in ordinary if finishing or step.name not in read]
    states = {step.state for step in ordinary}
    if killed and StepState.KILLED in states:
        return SubmissionState.KILLED
    if any(step.state is StepState.FINISHED for step in ends):
        return SubmissionState.PARTLY_FINISHED
    # PanDA stops what reads a task that failed: that is no kill
    if StepState.KILLED in states and StepState.FAILED not in states:
        return SubmissionState.KILLED
    return SubmissionState.FAILED


def _spare(chain: Chain) -> set[str]:
    """Steps that run only when another has failed, and what reads them."""
    spare: set[str] = set()
    for link in chain:
        if link.when_failed or spare & set(link.parents):
            spare.add(link.name)
    return spare


def _explained(step: StepProgress, chain: Chain, steps: Sequence[StepProgress], killed: bool) -> StepProgress:
    if step.state is not StepState.WAITING or step.task is not None:
        return step
    if killed:
        return step.model_copy(update={"state": StepState.KILLED, "reason": "killed before it ran"})
    link = next((link for link in chain if link.name == step.name), None)
    return step.model_copy(update={"reason": f"not run: {_why_not(link, steps)}"})


def _why_not(link: Link | None, steps: Sequence[StepProgress]) -> str:
    states = {step.name: step.state for step in steps}
    parents = () if link is None else link.parents
    if link is not None and link.when_failed and states.get(parents[0]) is not StepState.FAILED:
        return f"it runs only if {parents[0]} fails"
    missing = [name for name in parents if states.get(name) is not StepState.FINISHED]
    if missing and link is not None and not link.when_failed:
        return f"it reads {', '.join(missing)}, which did not finish"
    if link is not None and isinstance(link.start, float):
        return f"it starts with {link.start:.0%} of its input, and less was made"
    return "PanDA never began it"


def _complaints(steps: Sequence[StepProgress]) -> str | None:
    told = [f"{step.name}: {step.reason}" for step in steps if step.reason and _is_wrong(step)]
    return "; ".join(told) or None


def _is_wrong(step: StepProgress) -> bool:
    return step.state in (StepState.FAILED, StepState.KILLED) or step.task_status in ("finished", "exhausted")


def _state_and_reason(row: Task) -> tuple[StepState, str | None]:
    said = in_words(row.error)
    match row.status:
        case "done" | "finished" if row.n_files_finished == 0:
            nothing = f"it ended as {row.status}, but none of its {row.n_files} files was processed: there is no output"
            return StepState.FAILED, f"{nothing}; {said}" if said else nothing
        case "done":
            return StepState.FINISHED, None
        case "finished":
            part = f"{row.n_files_finished} of {row.n_files} files were processed"
            return StepState.FINISHED, f"{part}; {said}" if said else part
        case "failed" | "broken":
            return StepState.FAILED, said or f"PanDA says {row.status}, and not why"
        case "aborted":
            return StepState.KILLED, said or "it was stopped"
        case status if status in _WAITING and not (row.n_files_finished or row.n_files_failed):
            return StepState.WAITING, said
        case _:
            return StepState.RUNNING, said


def _files(row: Task) -> FileCounts | None:
    if not row.n_files:
        return None
    return FileCounts(total=row.n_files, finished=row.n_files_finished, failed=row.n_files_failed)
