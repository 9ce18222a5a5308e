"""What the jobs of a launch tell about themselves, while they are at it."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

#: Where a service takes reports in.
REPORTS: Final = "/api/v1/job-reports"

#: Counts that either database can keep, and nobody exceeds.
_Count = Annotated[int, Field(ge=0, le=10**15)]

_PLAIN = r"^[A-Za-z0-9_.:@+-]*$"


class JobState(StrEnum):
    """What a job says of itself. Saying `running` again is its heart-beat."""

    STARTED = "started"
    RUNNING = "running"
    FINISHED = "finished"


class JobReport(BaseModel):
    """One report, as a job sends it."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    launch: str = Field(min_length=1, max_length=250)
    step: str = Field(min_length=1, max_length=100)
    #: The batch system's own identifier, PanDA's number for example.
    job: str = Field(min_length=1, max_length=100, pattern=_PLAIN)
    what: Annotated[JobState, Field(strict=False)]
    #: The job's number among those of its step.
    index: _Count | None = None
    #: So many files, events or whatever it counts are done.
    done: _Count | None = None
    #: Of so many.
    of: _Count | None = None
    #: Its exit code, once it has one.
    code: int | None = Field(None, ge=-255, le=255)
    host: str | None = Field(None, max_length=100, pattern=_PLAIN)

    @model_validator(mode="after")
    def _codes_are_of_ends(self) -> Self:
        if self.code is not None and self.what is not JobState.FINISHED:
            raise ValueError("only a job that has finished has an exit code")
        return self


class JobHeard(BaseModel):
    """What was heard of one job last."""

    model_config = ConfigDict(frozen=True)

    step: str
    job: str
    index: int | None
    what: JobState
    done: int | None
    of: int | None
    code: int | None
    host: str | None
    #: When it was heard of first, and last.
    since: datetime
    at: datetime


class StepHeard(BaseModel):
    """What the jobs of one step that report come to."""

    model_config = ConfigDict(frozen=True)

    step: str
    #: Jobs that ever reported, those of earlier tries too.
    jobs: int
    #: Of these, which have not said that they are finished,
    running: int
    #: and which have ended with an exit code other than 0.
    failed: int
    #: The sums of what they have counted.
    done: int
    of: int
    at: datetime
