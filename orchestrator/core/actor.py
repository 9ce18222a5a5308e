"""What an actor is: it takes an order and answers with an outcome, as a value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel

from schemas.checks import Checks
from schemas.did import Did
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
class NotYet:
    """It was not begun: what had to be looked up first could not be. As if it had never been taken in hand."""

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


Outcome = Done | Wait | NotYet | Retry | GiveUp | Interrupted


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


class Reality(Protocol):
    """Looks at what the catalog has."""

    def check(self, did: Did, checks: Checks) -> Outcome:
        """Done if all is as it should be; Retry with what is not; Wait while the catalog is away."""

    def reconcile(self) -> Outcome:
        """Make up for closings that the broker lost. Done with how many there were; Wait while the catalog is away."""


@dataclass(frozen=True, slots=True)
class RegisterRequest:
    """Files that are to be brought into the catalog, and the dataset that they are to go into."""

    dataset: Did
    #: Files, folders, patterns and URLs; relative ones begin in the home.
    files: tuple[str, ...]
    #: Who asks, and why, for the record.
    who: str
    why: str | None = None
    #: Files that hold lists of files.
    manifests: tuple[str, ...] = ()
    #: Where the files lie; else where the catalog registers unless it is told.
    rse: str | None = None
    #: Whether the dataset is closed once all of them are in it.
    closes: bool = True
    #: Ways of containers above the dataset, outermost first, each as `A/B/C` or `scope:A/B/C`.
    containers: tuple[str, ...] = ()
    metadata: Mapping[str, str | float | bool] = field(default_factory=dict)
    lifetime: timedelta | None = None


class Registering(Protocol):
    """Fills datasets. Doing it twice changes nothing, and what was begun is gone on with."""

    def register(self, request: RegisterRequest, stopping: Callable[[], bool]) -> Outcome:
        """Done once the catalog has all of it, and the dataset is closed if that was asked for.

        Retry if files were refused, GiveUp if the catalog said no to the whole, Wait while it is away, Interrupted if
        `stopping` said so.
        """

    def wrong(self, containers: tuple[str, ...]) -> str | None:
        """What is wrong with these ways of containers, in words; None if nothing is. They may still be templates."""


class TransientWork(Protocol):
    """Says what becomes of transient datasets. Doing it twice changes nothing."""

    def keep(self, which: str, span: timedelta | None, *, who: str, why: str) -> Outcome:
        """Done once what fits `scope:name`, both globs, stays: for so long from now on; None: for ever."""

    def release(self, did: Did, *, who: str, why: str) -> Outcome:
        """Done once the dataset is released, if all is proved in this moment. Nothing is done in the catalog.

        Retry with what stands in the way; Wait while the catalog is away, releases are stopped, or a cap is reached;
        GiveUp if no policy matches it.
        """

    def extend(self, did: Did, span: timedelta, *, who: str, why: str) -> Outcome:
        """Done once the dataset stays for so long from now on, at least. GiveUp if it is not known as transient."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What an actor may use."""

    #: muleteer's home: relative commands are found here, and run here.
    home: Path
    launching: Launching
    #: True once muleteer is shutting down and the actor should come to an end.
    stopping: Callable[[], bool]
    reality: Reality
    registering: Registering
    transient: TransientWork


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
