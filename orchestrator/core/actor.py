"""What an actor is: it takes an order and answers with an outcome, as a value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel

from schemas.dispatch import DispatchId
from schemas.message import MessageDetail


@dataclass(frozen=True, slots=True)
class Trace:
    """What a try left behind for people to read."""

    exit_code: int | None = None
    stdout: str = ""
    stderr: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """It is done."""

    summary: str
    trace: Trace = field(default_factory=Trace)


@dataclass(frozen=True, slots=True)
class Wait:
    """Not yet: come back later. Costs no attempt."""

    reason: str
    after: timedelta
    trace: Trace = field(default_factory=Trace)


@dataclass(frozen=True, slots=True)
class Retry:
    """It failed, and trying again may help. The rule's retry policy decides whether and when."""

    reason: str
    trace: Trace = field(default_factory=Trace)


@dataclass(frozen=True, slots=True)
class GiveUp:
    """It failed, and trying again cannot help until a person mends something."""

    reason: str
    trace: Trace = field(default_factory=Trace)


@dataclass(frozen=True, slots=True)
class Interrupted:
    """muleteer itself stopped it half-way, to shut down. It is tried again after the next start."""

    reason: str
    trace: Trace = field(default_factory=Trace)


Outcome = Done | Wait | Retry | GiveUp | Interrupted


@dataclass(frozen=True, slots=True)
class Order:
    """What an actor is asked to do."""

    dispatch_id: DispatchId
    #: Which try this is, counted from 1.
    attempt: int
    rule: str
    message: MessageDetail
    captured: Mapping[str, str]
    #: The rule's options for this actor, every template filled in.
    options: Mapping[str, Any]
    #: How often a person has asked for another launch after one that had ended.
    round: int = 0


@dataclass(frozen=True, slots=True)
class LaunchRequest:
    """A workflow to be launched."""

    workflow: str
    parameters: Mapping[str, str]
    message: MessageDetail
    dispatch_id: DispatchId
    #: Two requests with one key are one launch.
    key: str
    #: The rule that asks for it.
    rule: str
    #: How often a person has asked for another launch after one that had ended.
    round: int = 0


class Launching(Protocol):
    """Launches a workflow, once for each key."""

    def launch(self, request: LaunchRequest) -> Outcome:
        """Done once the engine has it."""

    def wrong(self, workflow: str, parameters: Mapping[str, str]) -> str | None:
        """What is wrong with launching it, in words; None if nothing is. Values may still be templates."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What an actor may use."""

    #: muleteer's home: relative commands are found here, and run here.
    home: Path
    launching: Launching
    #: True once muleteer is shutting down and the actor should come to an end.
    stopping: Callable[[], bool]


class Actor(Protocol):
    """Something a rule can start. One instance serves many threads."""

    #: What its options must look like; checked when a rule is applied.
    options: type[BaseModel]

    def check(self, options: Mapping[str, Any], tools: Tools) -> str | None:
        """What is wrong with options that have the right shape, in words, before anything runs; None if nothing is.

        Templates are not filled in yet.
        """

    def act(self, order: Order, tools: Tools) -> Outcome:
        """Do it. Never raises for what can be foreseen: the outcome says it."""
