"""What a person is shown."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from schemas.dispatch import DispatchId, DispatchState
from schemas.job import StepHeard
from schemas.launch import Command, Launch, LaunchCommand, LaunchFile, LaunchId, LaunchState, SubmissionRecord


class JournalEntry(BaseModel):
    """One change of one thing."""

    model_config = ConfigDict(frozen=True)

    at: datetime
    #: The role or the person that made the change.
    who: str
    #: `message`, `dispatch`, `launch`, `rule`, `room` or `run`.
    subject: str
    subject_id: int
    #: None when it was made.
    from_state: str | None
    to_state: str
    why: str | None


class Counts(BaseModel):
    """How many there are of each, by state."""

    model_config = ConfigDict(frozen=True)

    messages: dict[str, int]
    dispatches: dict[str, int]
    launches: dict[str, int]
    #: The rule-set revision in force, and how many rules of it are enabled.
    revision: int
    rules: int
    #: When the newest message arrived; None before the first.
    last_received_at: datetime | None
    #: Pending messages that wait for the catalog, and since when the first of them does; None if none does.
    waiting_for_catalog: int
    waiting_for_catalog_since: datetime | None


class LaunchSeen(Launch):
    """A launch in a list."""

    #: How far it is, 0 to 100: by steps, and within a step by its files.
    percent: float
    #: It goes on, and nothing new was heard of it for long.
    stalled: bool


class LaunchWhole(LaunchSeen):
    """A launch with all that is known of it."""

    #: All that was ever asked of it, oldest first.
    commands: tuple[LaunchCommand, ...]
    #: What its jobs told, by step.
    heard: tuple[StepHeard, ...]
    #: What was sent, without the contents.
    files: tuple[LaunchFile, ...]
    #: Every try at handing it over, oldest first.
    tries: tuple[SubmissionRecord, ...]
    journal: tuple[JournalEntry, ...]


class Those(BaseModel):
    """Some of many, and what is to be said of each of them."""

    model_config = ConfigDict(frozen=True)

    why: str
    ids: tuple[int, ...]


class Changed(BaseModel):
    """What came of a change of many, or would come of it."""

    model_config = ConfigDict(frozen=True)

    #: Nothing was changed: this is what would be.
    dry_run: bool
    #: How many were changed, or would be, and which.
    count: int
    changed: tuple[int, ...]
    #: What stays as it is, by the reason.
    stayed: tuple[Those, ...]
    #: Of those that were changed, some of which there is something to say.
    remarks: tuple[Those, ...]
    #: More about one of them, by id.
    details: dict[int, str]


class Commanded(Changed):
    """Launches of which something was asked; whoever runs muleteer there carries it out."""

    command: Command
    step: str | None
    parameters: dict[str, str]


class LeftDataset(BaseModel):
    """A dataset that a launch was to make."""

    model_config = ConfigDict(frozen=True)

    #: `scope:name`.
    did: str
    #: As in the catalog; None if it is not there.
    state: str | None


class LeftBehind(BaseModel):
    """An earlier launch, and what it left behind."""

    model_config = ConfigDict(frozen=True)

    launch: LaunchId
    name: str
    dispatch: DispatchId
    state: LaunchState
    datasets: tuple[LeftDataset, ...]


class Redispatched(Changed):
    """Dispatches that are carried out once more, and what their earlier launches left behind."""

    left_behind: tuple[LeftBehind, ...]


class Standing(BaseModel):
    """Where a dispatch stands."""

    model_config = ConfigDict(frozen=True)

    id: DispatchId
    state: DispatchState


class FirstMatch(BaseModel):
    """The match that had a unique key first."""

    model_config = ConfigDict(frozen=True)

    message: int
    rule: str
    dispatches: tuple[Standing, ...]


class Forced(BaseModel):
    """A unique key that changes hands, and what stands in the way of that."""

    model_config = ConfigDict(frozen=True)

    key: str
    first: FirstMatch
    left_behind: tuple[LeftBehind, ...]
    #: The dispatches that were refused.
    refused: tuple[DispatchId, ...]
    #: Those of them that are ready now.
    ready: tuple[DispatchId, ...]
    #: Why nothing was changed; None if nothing stands in the way.
    in_the_way: str | None
