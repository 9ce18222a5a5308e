"""What muleteer needs of an engine that runs workflows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Literal, NewType, Protocol

from orchestrator.core.commanding import Hold
from schemas.did import Did
from schemas.failure import FailedJobs
from schemas.launch import Command, StepProgress
from schemas.panda import PandaOptions
from schemas.workflow import Queue, Start, StepInput

#: The engine's own identifier of a submission. Only the engine that gave it reads it.
Reference = NewType("Reference", str)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was done to hand a submission over, and what came back: kept for people, whatever came of it."""

    #: The step, if only one was sent.
    step: str | None
    command: tuple[str, ...]
    #: The client's name and version.
    client: str
    started_at: datetime
    ended_at: datetime
    exit_code: int | None = None
    #: What the client printed, the secrets taken out.
    output: str = ""
    #: The engine's answer as it came.
    answer: str | None = None
    #: What we make of it, in words.
    verdict: str | None = None


class EngineError(Exception):
    """The engine cannot do it. The text says what was asked, what happened, and what to do next."""

    def __init__(self, text: str, receipt: Receipt | None = None) -> None:
        super().__init__(text)
        self.receipt = receipt


class EngineRefused(EngineError):
    """The engine looked at the submission and said no. Sending the same again will not help."""


class EngineUnavailable(EngineError):
    """Nothing was sent: the engine is out of reach for now. Sending again is safe."""


class EngineInDoubt(EngineError):
    """Something was sent and no answer came. Look with `find` before sending again."""


class UnknownSubmission(EngineError):
    """The engine does not know that reference."""


class SubmissionState(StrEnum):
    SUBMITTED = "submitted"
    RUNNING = "running"
    FINISHED = "finished"
    PARTLY_FINISHED = "partly_finished"
    FAILED = "failed"
    KILLED = "killed"


@dataclass(frozen=True, slots=True)
class PackedFile:
    """One file as jobs get it."""

    content: bytes
    executable: bool = False


#: Files by their path within the submission directory. The same submission always gives the same bytes.
Package = Mapping[str, PackedFile]


@dataclass(frozen=True, slots=True)
class SubmissionStep:
    """One step, ready to run: every template is filled in."""

    name: str
    #: Arguments; empty if there is a script.
    command: tuple[str, ...]
    #: Each from an input of the submission or from an earlier step.
    inputs: tuple[StepInput, ...] = ()
    #: Shell-style patterns of the files that it makes.
    outputs: tuple[str, ...] = ()
    timeout: timedelta | None = None
    #: Text for bash, with nothing filled in.
    script: str | None = None
    #: Variables of this step alone.
    environment: Mapping[str, str] = field(default_factory=dict)
    when: Literal["finished", "failed"] = "finished"
    start: Start | float = Start.ALL
    queue: Queue | None = None
    site: str | None = None
    image: str | None = None
    panda: PandaOptions = field(default_factory=PandaOptions)

    @property
    def reads(self) -> tuple[str, ...]:
        """The names of what it reads."""
        return tuple(each.source for each in self.inputs)


@dataclass(frozen=True, slots=True)
class Submission:
    """A whole workflow as handed to an engine. All of it is plain data: a package holds a copy."""

    #: Unique for ever on this engine, chosen by muleteer before anything is sent.
    name: str
    workflow: str
    parameters: Mapping[str, str]
    #: Input datasets by name.
    inputs: Mapping[str, Did]
    #: In an order in which each step comes after those it reads.
    steps: tuple[SubmissionStep, ...]
    #: Inputs that are lists of files instead: paths by name.
    file_lists: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: Variables of every step.
    environment: Mapping[str, str] = field(default_factory=dict)
    #: A shell file of the package that every step sources first.
    setup: str | None = None
    description: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a submission has come."""

    state: SubmissionState
    steps: tuple[StepProgress, ...]
    #: What went wrong, in words; None while nothing did.
    reason: str | None = None
    #: What was sent to start further steps, for an engine that starts them one by one.
    receipts: tuple[Receipt, ...] = ()


@dataclass(frozen=True, slots=True)
class Tracked:
    """A submission that somebody asks about, with what is known of it."""

    name: str
    reference: Reference
    #: As they were last seen.
    steps: tuple[StepProgress, ...]
    submitted_at: datetime
    #: The package that was sent; read only when it is needed.
    package: Callable[[], Package]
    #: What holds for its steps that have not begun, as it is at this moment.
    hold: Callable[[], Hold] = Hold


class Engine(Protocol):
    """Runs submissions. A submission goes on by itself, whether or not muleteer is there to watch."""

    #: For people: `embedded`, `panda`.
    name: str
    #: Which one it is, for the store: a launch is followed by whoever reaches the engine that has it.
    identity: str
    #: Whether the engine itself registers output files and closes their datasets (PanDA's pilots do).
    registers_outputs: bool
    #: Whether a step is retried by itself while others run, and with other memory; else only what has ended, as it was.
    retries_steps: bool

    def pack(self, submission: Submission, source: Package) -> Package:
        """Everything that is sent: the workflow's own files, and what the engine adds. Pure and repeatable.

        Raises EngineRefused: it could never run, or is over the engine's limits.
        """

    def datasets(self, submission: Submission) -> Mapping[str, str]:
        """The datasets that the engine itself will make, `scope:name`, with the step that fills each."""

    def submit(self, name: str, package: Package) -> tuple[Reference, Receipt]:
        """Hand over what `pack` made. Sending a name again that was taken already does no harm where the engine can
        tell; where it cannot, whoever is in doubt looks with `find` first.

        Raises EngineRefused, EngineUnavailable, EngineInDoubt.
        """

    def find(self, name: str, package: Package) -> Reference | None:
        """Look up a submission by its name; None if there is none. Raises EngineUnavailable."""

    def settled(self, doubtful_since: datetime, now: datetime) -> bool:
        """Whether a `find` that finds nothing can be believed, after a doubt that began then."""

    def look(self, tracked: Sequence[Tracked]) -> Mapping[str, Progress | EngineError]:
        """How far each has come, by name, in as few questions as the engine allows.

        A name that is not in the answer has nothing new to tell. Raises EngineUnavailable if all fail alike.
        """

    def outputs(self, reference: Reference, step: str) -> Sequence[Path]:
        """The files that a finished step made, if they lie on this machine.

        Raises UnknownSubmission, EngineUnavailable.
        """

    def failures(self, tracked: Tracked, step: str | None = None) -> FailedJobs:
        """The jobs of a submission that failed, of one step if it is named, and what they complained of.

        Raises EngineRefused: it has no such step. UnknownSubmission, EngineUnavailable.
        """

    def command(self, tracked: Tracked, command: Command, step: str | None, parameters: Mapping[str, str]) -> str:
        """Do something to a submission; to what has ended already, it does nothing. The answer, in words.

        Raises EngineRefused: it does not fit the submission's state, or we may not. UnknownSubmission,
        EngineUnavailable.
        """
