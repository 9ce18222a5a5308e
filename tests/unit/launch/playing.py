"""An engine that does what the test says, and dispatches to go with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from orchestrator.core.matching import RuleSet
from orchestrator.panda.plain import submission_of, with_submission
from orchestrator.panda.port import (
    EngineError,
    EngineRefused,
    EngineUnavailable,
    Package,
    Progress,
    Receipt,
    Reference,
    Submission,
    SubmissionState,
    Tracked,
)
from orchestrator.store.store import Store
from schemas.dispatch import DispatchId
from schemas.failure import FailedJobs
from schemas.launch import Command
from tests.unit.making import UNMATCHED, frame, rule

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@dataclass
class PlayedEngine:
    """Submissions stand where the test puts them; everything that is asked of it is written down."""

    identity: str = "played:1"
    name: str = "played"
    registers_outputs: bool = False
    retries_steps: bool = True
    #: How long a name that is not found may still turn up.
    settle: timedelta = timedelta(0)
    #: What it has, by name.
    states: dict[str, SubmissionState] = field(default_factory=dict)
    progress: dict[str, Progress] = field(default_factory=dict)
    #: What it says of some, by name.
    errors: dict[str, EngineError] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    #: Names that were looked up.
    found: list[str] = field(default_factory=list)
    #: Over which of them it stumbles.
    broken: set[str] = field(default_factory=set)
    #: What submitting raises, in turn, before it works.
    trouble: list[EngineError] = field(default_factory=list)
    #: Raised by `find`, and by `look` for all alike.
    away: EngineUnavailable | None = None
    #: Raised by `command`, in turn.
    objections: list[Exception] = field(default_factory=list)
    #: What was sent: name and package.
    sent: list[tuple[str, Package]] = field(default_factory=list)
    looks: list[list[str]] = field(default_factory=list)
    commands: list[tuple[str, Command, str | None, Mapping[str, str]]] = field(default_factory=list)
    #: What it says of failed jobs, by name, and of whom it was asked.
    failed: dict[str, FailedJobs] = field(default_factory=dict)
    asked_why: list[str] = field(default_factory=list)
    #: Called while something is being submitted.
    meanwhile: Callable[[], None] = lambda: None
    #: Called while something is done to a submission.
    acting: Callable[[], None] = lambda: None
    #: Called while a name is looked up.
    looking: Callable[[], None] = lambda: None

    def pack(self, submission: Submission, source: Package) -> Package:
        if not submission.steps:
            raise EngineRefused("there is nothing to do")
        return with_submission(source, submission)

    def datasets(self, submission: Submission) -> Mapping[str, str]:
        return {f"user.me:{submission.name}_{step.name}": step.name for step in submission.steps}

    def submit(self, name: str, package: Package) -> tuple[Reference, Receipt]:
        assert submission_of(package).name == name
        self.meanwhile()
        if self.trouble:
            raise self.trouble.pop(0)
        self.sent.append((name, package))
        self.states[name] = SubmissionState.SUBMITTED
        return Reference(f"ref:{name}"), receipt("it runs")

    def find(self, name: str, package: Package) -> Reference | None:
        self.found.append(name)
        self.looking()
        if self.away is not None:
            raise self.away
        return Reference(f"ref:{name}") if name in self.states else None

    def settled(self, doubtful_since: datetime, now: datetime) -> bool:
        return now - doubtful_since >= self.settle

    def look(self, tracked: Sequence[Tracked]) -> Mapping[str, Progress | EngineError]:
        self.looks.append([each.name for each in tracked])
        if self.away is not None:
            raise self.away
        for each in tracked:
            if each.name in self.broken:
                raise ZeroDivisionError(each.name)
        there = {each.name: Progress(self.states[each.name], ()) for each in tracked if each.name in self.states}
        return {
            **there,
            **self.errors,
            **{each.name: self.progress[each.name] for each in tracked if each.name in self.progress},
        }

    def outputs(self, reference: Reference, step: str) -> Sequence[Path]:
        return self.files

    def failures(self, tracked: Tracked, step: str | None = None) -> FailedJobs:
        self.asked_why.append(tracked.name)
        if self.away is not None:
            raise self.away
        if tracked.name in self.errors:
            raise self.errors[tracked.name]
        return self.failed.get(tracked.name, FailedJobs())

    def command(self, tracked: Tracked, command: Command, step: str | None, parameters: Mapping[str, str]) -> str:
        self.acting()
        if self.objections:
            raise self.objections.pop(0)
        self.commands.append((tracked.name, command, step, parameters))
        return f"{command}: done"


def receipt(verdict: str, output: str = "") -> Receipt:
    """What an engine says of a try."""
    return Receipt(None, ("send", "it"), "played 1.0", NOW, NOW, 0, output, "{}", verdict)


def dispatched(store: Store, count: int) -> list[DispatchId]:
    """Dispatches that launches can be for."""
    store.messages.take_in([frame(name=f"DS-{number}") for number in range(count)], origin="broker", now=NOW)
    revision = store.rules.apply([rule()], prune=False, who="test", now=NOW).revision
    judging = RuleSet(revision, store.rules.in_force()[1], UNMATCHED)
    return list(store.dispatches.judge(judging, now=NOW, limit=count).dispatches)
