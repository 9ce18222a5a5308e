"""How what has failed of a launch is retried by itself: as a workflow says it, and as it is kept with a launch."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, field_validator

from schemas.durations import Duration
from schemas.failure_class import FailureClass

#: Memory grows by no more than this at once.
_LARGEST: Final = 10


class Retry(BaseModel):
    """When muleteer retries by itself what has failed. What a step does not say of it counts as the workflow says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attempts: int = Field(default=0, ge=0, le=20, description="how often each step is retried; 0 is never")
    classes: tuple[FailureClass, ...] | None = Field(
        default=None,
        description="classes of failures that are retried; transient, site and storage unless it is said, and memory "
        "if `memory` is said",
    )
    memory: float | None = Field(
        default=None,
        description="the factor by which memory grows when jobs have failed of it, for example 1.5",
        json_schema_extra={"exclusiveMinimum": 1, "maximum": _LARGEST},
    )
    most_memory: int | None = Field(
        default=None, ge=1, description="megabytes for each core beyond which memory does not grow"
    )
    after: Duration = Field(default=timedelta(minutes=5), description="how long to wait before a retry")

    @field_validator("memory")
    @classmethod
    def _grows(cls, factor: float | None) -> float | None:
        if factor is not None and not 1 < factor <= _LARGEST:
            raise ValueError(
                f"{factor:g} is no factor by which memory can grow: above 1, and {_LARGEST} at most, for example 1.5; "
                "megabytes are said with most_memory"
            )
        return factor


class StepRetry(BaseModel):
    """What holds for one step of a launch, with all that is needed to decide about it."""

    model_config = ConfigDict(frozen=True)

    attempts: int = 0
    classes: tuple[FailureClass, ...] = ()
    memory: float | None = None
    most_memory: int | None = None
    after: Duration = timedelta(minutes=5)
    #: What its jobs were given at first, in megabytes for each core; None if that was left to the engine.
    given: int | None = None
    #: The steps that it reads.
    reads: tuple[str, ...] = ()


class RetryPolicy(BaseModel):
    """The retries of a launch, as they were said when it was launched."""

    model_config = ConfigDict(frozen=True)

    steps: dict[str, StepRetry]

    @property
    def soonest(self) -> timedelta:
        """So long after a launch has ended nothing of it is retried in any case."""
        return min((step.after for step in self.steps.values() if step.attempts), default=timedelta(0))
