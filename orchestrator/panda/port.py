"""What muleteer needs of an engine that runs workflows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import NewType, Protocol

from schemas.did import Did
from schemas.launch import StepProgress

#: The engine's own identifier of a submission.
Reference = NewType("Reference", str)


class EngineError(Exception):
    """The engine cannot do it. The text says what was asked, what happened, and what to do next."""


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
class SubmissionStep:
    """One step, ready to run: every template is filled in."""

    name: str
    command: tuple[str, ...]
    #: Names of input datasets or of earlier steps.
    inputs: tuple[str, ...]
    #: Shell-style patterns of the files that it makes.
    outputs: tuple[str, ...]
    timeout: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Submission:
    """A whole workflow as handed to an engine."""

    #: Unique for ever on this engine, chosen by muleteer before anything is sent.
    name: str
    workflow: str
    parameters: Mapping[str, str]
    #: The folder with the workflow's job scripts, copied by the engine.
    source: Path
    inputs: Mapping[str, Did]
    #: In an order in which each step comes after those it reads.
    steps: tuple[SubmissionStep, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a submission has come."""

    state: SubmissionState
    steps: tuple[StepProgress, ...]
    #: What went wrong, in words; None while nothing did.
    reason: str | None = None


class Engine(Protocol):
    """Runs submissions. A submission goes on by itself, whether or not muleteer is there to watch."""

    #: For people: `embedded`, `panda`.
    name: str
    #: Which one it is, for the store: a launch is followed by whoever reaches the engine that has it.
    identity: str
    #: Whether the engine itself registers output files and closes their datasets (PanDA's pilots do).
    registers_outputs: bool

    def submit(self, submission: Submission) -> Reference:
        """Hand over a workflow. At most one submission of a name ever exists.

        Raises EngineRefused, EngineUnavailable, EngineInDoubt.
        """

    def find(self, name: str) -> Reference | None:
        """Look up a submission by its name; None if there is none. Raises EngineUnavailable."""

    def progress(self, reference: Reference) -> Progress:
        """How far it has come. Raises UnknownSubmission, EngineUnavailable."""

    def outputs(self, reference: Reference, step: str) -> Sequence[Path]:
        """The files that a finished step made, by name. Raises UnknownSubmission, EngineUnavailable."""

    def kill(self, reference: Reference) -> None:
        """Stop it; stopping what has ended does nothing. Raises UnknownSubmission, EngineUnavailable."""
