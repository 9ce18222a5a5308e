"""A launch: one workflow started, and the steps in it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import NewType

from pydantic import BaseModel, ConfigDict

from schemas.dispatch import DispatchId
from schemas.retry import RetryPolicy

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


class FileCounts(BaseModel):
    """Input files of a task."""

    model_config = ConfigDict(frozen=True)

    total: int
    finished: int = 0
    failed: int = 0


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
    #: PanDA's jediTaskID, once there is one.
    task: int | None = None
    #: The task's state in the engine's own word: `scouting`, `exhausted`, `throttled`.
    task_status: str | None = None
    files: FileCounts | None = None


class Command(StrEnum):
    """What a person, or a policy, can do to a launch that was submitted."""

    KILL = "kill"
    #: What failed runs again; what succeeded stays.
    RETRY = "retry"
    #: No new jobs; what has succeeded so far counts.
    FINISH = "finish"
    PAUSE = "pause"
    RESUME = "resume"
    #: Look again at what the input dataset holds.
    RELOAD = "reload"


class CommandState(StrEnum):
    """Where a command to a launch stands. `core.states` says what may follow."""

    WANTED = "wanted"
    #: The engine took it; its effect is seen by following the launch.
    TAKEN = "taken"
    REFUSED = "refused"


class LaunchCommand(BaseModel):
    """Something that was asked of a launch. Kept for ever: what was tried, with which parameters, and the answer."""

    model_config = ConfigDict(frozen=True)

    id: int
    launch_id: LaunchId
    command: Command
    #: New parameters of a retry, in PanDA's words: ramCount and its like.
    parameters: dict[str, str] = {}
    #: Only this step; all that the command fits unless it is said.
    step: str | None = None
    #: Of a policy's retry of all that has failed: the steps of which it is an attempt. Without, it is one of `step`.
    attempt_of: tuple[str, ...] = ()
    who: str
    why: str | None
    state: CommandState
    #: The engine's answer, in words.
    answer: str | None = None
    asked_at: datetime
    settled_at: datetime | None = None


class SubmissionRecord(BaseModel):
    """One try at handing a launch over: what was run, what came back."""

    model_config = ConfigDict(frozen=True)

    launch_id: LaunchId
    #: Counted from 1.
    number: int
    #: For an engine that starts the steps one by one: which.
    step: str | None = None
    command: tuple[str, ...] = ()
    #: The client's name and version.
    client: str | None = None
    started_at: datetime
    ended_at: datetime | None = None
    exit_code: int | None = None
    #: What it printed, the secrets taken out.
    output: str = ""
    #: The engine's answer as it came.
    answer: str | None = None
    #: What we make of it, in words.
    verdict: str | None = None


class LaunchFile(BaseModel):
    """One file of a launch's package, as it was sent."""

    model_config = ConfigDict(frozen=True)

    path: str
    #: Bytes.
    size: int
    #: SHA-256, in hexadecimal.
    digest: str
    executable: bool = False


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
    #: The detector's run, if the launch is about one.
    run: int | None = None
    #: The git commit of its workflow's folder, `+changes` behind it if something there was not committed; None if the
    #: folder is not in git.
    definition: str | None = None
    created_at: datetime
    updated_at: datetime
    #: When the engine was found to have it.
    submitted_at: datetime | None = None
    #: When the engine last reported anything new. Long ago means that it is stalled.
    moved_at: datetime | None = None
    #: What its workflow said of retries when it was launched; None if nothing is retried by itself.
    retry: RetryPolicy | None = None
    #: Of one that has ended: when it is next decided whether what failed is retried. None if that is decided.
    retry_at: datetime | None = None
