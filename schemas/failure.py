"""Why jobs failed: what is known of a failed job, and the table that says what its errors mean."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Final, NamedTuple, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from schemas.failure_class import FailureClass as FailureClass
from schemas.launch import LaunchId


class Source(StrEnum):
    """Who says that something went wrong."""

    PILOT = "pilot"
    #: The exit code of the workflow's program; of PanDA's jobs also under `transformation`.
    PAYLOAD = "payload"
    TRANSFORMATION = "transformation"
    #: PanDA's handling of files.
    DATA = "data"
    BROKERAGE = "brokerage"
    DISPATCHER = "dispatcher"
    SERVER = "server"
    #: PanDA's pilot factory.
    SUPERVISOR = "supervisor"
    #: The engine, of a step as a whole.
    STEP = "step"
    #: muleteer, of a launch that never reached the engine.
    LAUNCH = "launch"


class Remedy(StrEnum):
    """What can be done with a command."""

    RETRY = "retry"
    MORE_MEMORY = "more-memory"
    #: Launch it again, once the workflow is mended.
    REDISPATCH = "redispatch"


class Complaint(NamedTuple):
    """What one of them says went wrong."""

    source: Source
    #: None where there are only words.
    code: int | None
    text: str


class FailedJob(BaseModel):
    """One job that failed; or a whole step, or a launch, if it failed without one."""

    model_config = ConfigDict(frozen=True)

    step: str | None
    task: int | None = None
    #: PandaID.
    job: int | None = None
    site: str | None = None
    attempt: int | None = None
    #: What was said went wrong, in the order of importance.
    complaints: tuple[Complaint, ...]
    #: Where its log can be read.
    log: str | None = None
    at: datetime | None = None
    #: What it was given, in megabytes for each core.
    memory: int | None = None


class FailedJobs(BaseModel):
    """The failed jobs of one launch, newest first."""

    model_config = ConfigDict(frozen=True)

    jobs: tuple[FailedJob, ...] = ()
    #: What is not among them, in words.
    remarks: tuple[str, ...] = ()


_LARGEST: Final = 2**31


def _as_range(value: Any) -> Any:
    if isinstance(value, int) and not isinstance(value, bool):
        return value, value
    try:
        first, dots, last = str(value).partition("..")
        return int(first), int(last if dots else first)
    except ValueError:
        raise ValueError(f"{value!r} is neither a code such as 1212 nor a range such as 80..83") from None


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str | int) else value


#: The first and the last code, both within.
CodeRange = Annotated[tuple[int, int], BeforeValidator(_as_range, json_schema_input_type=int | str)]


class Entry(BaseModel):
    """What an error means. It fits what has the source, one of the codes and the text, as far as they are given."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    source: Annotated[tuple[Source, ...], BeforeValidator(_as_list, json_schema_input_type=Source | list[Source])] = (
        Field(default=(), description="who says it; one or several; anybody unless it is said")
    )
    code: Annotated[
        tuple[CodeRange, ...], BeforeValidator(_as_list, json_schema_input_type=int | str | list[int | str])
    ] = Field(default=(), description="a code, a range such as 80..83, or several of them")
    text: str | None = Field(default=None, description="RE2 pattern of what is said, found anywhere in it")
    class_: FailureClass = Field(alias="class")
    means: str = Field(min_length=1, description="what happened, in words")
    action: str = Field(min_length=1, description="what to do about it, in words")
    remedy: Remedy | None = Field(default=None, description="the command that does it, if there is one")

    @model_validator(mode="after")
    def _fits_something(self) -> Self:
        if not self.source and not self.code and self.text is None:
            raise ValueError("it would fit every error: give a source, a code or a text")
        for first, last in self.code:
            if not -_LARGEST <= first <= last <= _LARGEST:
                raise ValueError(f"{first}..{last} is no range of codes: the smaller one stands first")
        return self


class FailureFile(BaseModel):
    """`failures.yaml`: what errors mean. The first entry that fits counts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    failures: tuple[Entry, ...]


class FailureGroup(BaseModel):
    """Failed jobs that are alike."""

    model_config = ConfigDict(frozen=True)

    class_: FailureClass = Field(serialization_alias="class")
    #: Who says so, and the code; None where there are only words.
    source: Source
    code: int | None
    means: str
    action: str
    #: How many jobs; a step or a launch that failed without one counts as one.
    jobs: int
    launches: tuple[LaunchId, ...]
    steps: tuple[str, ...]
    #: Failed jobs by site.
    sites: dict[str, int]
    #: The newest of them.
    example: FailedJob
    example_launch: LaunchId
    first: datetime | None
    last: datetime | None
    #: The command to type, as its arguments after `muleteer`; empty if there is none.
    command: tuple[str, ...] = ()
