"""What PanDA calls a workflow: a request of iDDS, one task, or tasks that are known by name alone."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from orchestrator.panda.port import Reference, UnknownSubmission


class Kind(StrEnum):
    REQUEST = "request"
    TASK = "task"
    #: One task for each step, sent one by one.
    STEPS = "steps"


@dataclass(frozen=True, slots=True)
class Parsed:
    kind: Kind
    #: Of the request or the task; 0 for steps.
    number: int
    words: str


def of_request(number: int) -> Reference:
    return Reference(f"{Kind.REQUEST}:{number}")


def of_task(number: int) -> Reference:
    return Reference(f"{Kind.TASK}:{number}")


def of_steps(out_ds: str) -> Reference:
    return Reference(f"{Kind.STEPS}:{out_ds}")


def reference_of(reference: Reference) -> Parsed:
    """Raises UnknownSubmission: no engine on PanDA has given that."""
    kind, _, rest = reference.partition(":")
    if kind == Kind.STEPS and rest:
        return Parsed(Kind.STEPS, 0, f"steps of {rest}")
    if kind in (Kind.REQUEST, Kind.TASK) and rest.isdecimal():
        return Parsed(Kind(kind), int(rest), f"{kind} {rest}")
    raise UnknownSubmission(f"{reference!r} is no reference of PanDA's")
