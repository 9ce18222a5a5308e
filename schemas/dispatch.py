"""A dispatch: one action to be carried out for one match; and its attempts."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, NewType

from pydantic import BaseModel, ConfigDict

from schemas.message import MessageId
from schemas.rule import Retry, RuleVersionId

DispatchId = NewType("DispatchId", int)


class DispatchState(StrEnum):
    """Where a dispatch stands. `core.states` says what may follow."""

    READY = "ready"
    RUNNING = "running"
    WAITING = "waiting"
    DONE = "done"
    FAILED = "failed"
    IN_DOUBT = "in_doubt"
    HELD = "held"
    #: Its unique key is taken by another match.
    REFUSED = "refused"
    CANCELLED = "cancelled"


class Dispatch(BaseModel):
    """One row of the to-do list."""

    model_config = ConfigDict(frozen=True)

    id: DispatchId
    message_id: MessageId
    rule: str
    rule_version_id: RuleVersionId
    #: Which of the rule's actions, counted from 0.
    action: int
    actor: str
    #: What the pattern captured, by group name.
    captured: dict[str, str]
    #: The actor's options with every template filled in.
    options: dict[str, Any]
    retry: Retry
    state: DispatchState
    #: Tries begun so far.
    attempts: int
    #: Not to be started before this moment; None when at once.
    not_before: datetime | None
    #: Which worker has it, and until when its claim holds without renewal.
    owner: str | None
    lease_until: datetime | None
    #: The last outcome in words.
    reason: str | None
    created_at: datetime
    updated_at: datetime
    #: As its rule said when it matched.
    priority: int = 0
    rule_group: str | None = None
    unique_key: str | None = None
    #: How often a person has asked for another launch after one that had ended.
    round: int = 0


class AttemptOutcome(StrEnum):
    """How one try ended."""

    RUNNING = "running"
    DONE = "done"
    WAIT = "wait"
    RETRY = "retry"
    GIVE_UP = "give_up"
    INTERRUPTED = "interrupted"


class Attempt(BaseModel):
    """One try at a dispatch, with what it left behind."""

    model_config = ConfigDict(frozen=True)

    number: int
    owner: str
    started_at: datetime
    ended_at: datetime | None
    outcome: AttemptOutcome
    reason: str | None
    exit_code: int | None
    #: The end of what the action printed, at most 64 KiB each.
    stdout: str | None
    stderr: str | None
