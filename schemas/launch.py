"""A launch: one workflow started, and the steps in it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import NewType

from pydantic import BaseModel, ConfigDict

from schemas.dispatch import DispatchId

LaunchId = NewType("LaunchId", int)


class LaunchState(StrEnum):
    """Where a launch stands. `core.states` says what may follow."""

    PREPARED = "prepared"
    SUBMITTING = "submitting"
    IN_DOUBT = "in_doubt"
    SUBMITTED = "submitted"
    RUNNING = "running"
    FINISHED = "finished"
    PARTLY_FINISHED = "partly_finished"
    FAILED = "failed"
    KILLED = "killed"


class StepState(StrEnum):
    """Where one step of a launch stands, as its engine says."""

    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"
    FAILED = "failed"
    KILLED = "killed"


class StepProgress(BaseModel):
    """One step as its engine reports it."""

    model_config = ConfigDict(frozen=True)

    name: str
    state: StepState
    started_at: datetime | None = None
    ended_at: datetime | None = None
    exit_code: int | None = None
    #: What went wrong, in words, with the end of the step's log.
    reason: str | None = None
    #: Where the step's log can be read.
    log: str | None = None


class Launch(BaseModel):
    """One workflow started for one key."""

    model_config = ConfigDict(frozen=True)

    id: LaunchId
    dispatch_id: DispatchId | None
    #: What makes this launch the only one of its kind.
    key: str
    #: Its name on the engine, derived from the key and stored before anything is sent.
    name: str
    workflow: str
    parameters: dict[str, str]
    #: Input datasets by name, `scope:name`.
    inputs: dict[str, str]
    #: Output datasets that it will close, `scope:name`, by step.
    outputs: dict[str, str]
    engine: str
    #: The engine's own identifier, once it has given one.
    reference: str | None
    state: LaunchState
    reason: str | None
    steps: tuple[StepProgress, ...]
    created_at: datetime
    updated_at: datetime
