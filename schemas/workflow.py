"""A workflow as its author writes it: steps in a graph, each a command that reads and writes files.

The same document runs on the embedded engine and on PanDA. What is said under `panda` counts there alone.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from schemas.durations import Duration
from schemas.panda import PandaOptions
from schemas.retry import Retry

_WORD = r"^[A-Za-z][A-Za-z0-9_]{0,39}$"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True)


class ParameterType(StrEnum):
    """What a parameter's value must be. Templates may format an integer as `{run:08d}`."""

    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"


def _as_text(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else value


_Text = Annotated[str | None, BeforeValidator(_as_text, json_schema_input_type=str | int | float | bool | None)]


class Parameter(_Part):
    """One value that a launch must or may give."""

    description: str = ""
    type: ParameterType = ParameterType.STRING
    default: Annotated[
        str | None, BeforeValidator(_as_text, json_schema_input_type=str | int | float | bool | None)
    ] = Field(default=None, description="a parameter without a default must be given")
    pattern: str | None = Field(default=None, description="RE2 pattern that the whole value must match")
    minimum: float | None = Field(default=None, description="of an integer or a number")
    maximum: float | None = Field(default=None, description="of an integer or a number")
    choices: tuple[str, ...] = Field(default=(), description="the only values allowed")

    @model_validator(mode="after")
    def _range_of_numbers(self) -> Self:
        ranged = self.minimum is not None or self.maximum is not None
        if ranged and self.type not in (ParameterType.INTEGER, ParameterType.NUMBER):
            raise ValueError("minimum and maximum need type: integer or number")
        if self.minimum is not None and self.maximum is not None and self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum:g} is above maximum {self.maximum:g}")
        return self


def _as_input(value: Any) -> Any:
    return {"dataset": value} if isinstance(value, str) else value


class Input(_Part):
    """What a workflow reads: a dataset, or files by a list of their own."""

    dataset: str | None = Field(default=None, description="a DID, for example {scope}:{name}")
    file_list: str | None = Field(
        default=None, description="a text file in the workflow's folder, one path a line, for example run-{run}.list"
    )

    @model_validator(mode="after")
    def _one_of_the_two(self) -> Self:
        if (self.dataset is None) == (self.file_list is None):
            raise ValueError("give either dataset or file_list")
        return self


def _as_step_input(value: Any) -> Any:
    return {"from": value} if isinstance(value, str) else value


class StepInput(_Part):
    """One thing that a step reads. The first is its primary input, by which it is split into jobs."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    source: str = Field(alias="from", description="a step, or one of the workflow's inputs")
    files_per_job: int | None = Field(default=None, ge=1, description="of a secondary input; 1 if it is not said")
    match: str | None = Field(default=None, description="only files whose name holds this, * for anything")
    reusable: bool = Field(default=False, description="every job reads the same files of it")


_StepInput = Annotated[StepInput, BeforeValidator(_as_step_input, json_schema_input_type=StepInput | str)]


class Scatter(_Part):
    """A step made several times, once for each value. What reads the step reads all of them."""

    variable: str = Field(pattern=_WORD, description="what the step's templates call the value")
    values: tuple[str, ...] | str = Field(
        description="the values, or a template of them separated by commas: {segments}"
    )


class Start(StrEnum):
    """When a step may start whose input another step still makes. For `panda-stepwise`."""

    ALL = "all"
    OPEN = "open"


class Queue(StrEnum):
    """How much of a site a step needs. A site's profile names the queues behind these words."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class Step(_Part):
    """One task of a workflow.

    The command is a list of arguments, never a shell line. A first argument with a slash (`./combine.py`) is
    found in the workflow's own folder. `{run}` and its like are replaced by the launch's parameters. A script is
    text for bash that sees the parameters in its environment alone: nothing is filled into it.
    """

    name: str = Field(pattern=_WORD)
    command: tuple[str, ...] = ()
    script: str | None = Field(default=None, description="bash; reads $MULETEER_PARAM_RUN and its like")
    #: Names of the workflow's inputs or of earlier steps; their files lie in the step's working directory.
    inputs: tuple[
        Annotated[StepInput, BeforeValidator(_as_step_input, json_schema_input_type=StepInput | str)], ...
    ] = ()
    outputs: tuple[str, ...] = Field(
        default=(), description="names or shell-style patterns of the files that the step makes"
    )
    environment: dict[str, str] = Field(default={}, description="variables of this step; may be templates")
    timeout: Duration | None = None
    when: Literal["finished", "failed"] = Field(
        default="finished", description="failed: run only if the step that the first input comes from has failed"
    )
    scatter: Scatter | None = None
    start: Start | Annotated[float, Field(gt=0, le=1)] = Field(
        default=Start.ALL, description="panda-stepwise: once all of its input is there, a fraction of it, or at once"
    )
    queue: Queue | None = Field(default=None, description="class of queue; the site's profile names the queue")
    site: str | None = Field(default=None, description="PanDA site; goes before queue and the profile's site")
    image: str | None = Field(default=None, description="container image")
    panda: PandaOptions = PandaOptions()
    retry: Retry | None = Field(default=None, description="where this step is retried otherwise than the workflow says")

    @property
    def reads(self) -> tuple[str, ...]:
        """The names of what it reads."""
        return tuple(each.source for each in self.inputs)

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if bool(self.command) == (self.script is not None):
            raise ValueError("give either command (a list of arguments) or script (text for bash)")
        return self


class OutputDataset(_Part):
    """A dataset that a finished launch leaves behind, closed."""

    dataset: str = Field(description="the dataset's DID, for example {scope}:rn{run}-CALOR")
    step: str = Field(description="the step whose outputs it holds")


class Workflow(_Part):
    """Steps, what flows between them, what goes in and what comes out."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,59}$")
    description: str = ""
    launch_name: str | None = Field(
        default=None,
        description="a launch's name and what makes it the only one, for example rn{run:08d}-CALOR-{build}-{dbtag}; "
        "without it each message makes a launch of its own",
    )
    parameters: dict[str, Parameter] = {}
    inputs: dict[str, Annotated[Input, BeforeValidator(_as_input, json_schema_input_type=Input | str)]] = Field(
        default={}, description="what goes in, by name: raw: {scope}:{name}"
    )
    environment: dict[str, str] = Field(default={}, description="variables of every step; may be templates")
    setup: str | None = Field(
        default=None, description="a shell file in the workflow's folder that every step sources before it begins"
    )
    resources: tuple[str, ...] = Field(
        default=("**",), description="shell-style patterns of the folder's files that jobs get; all unless it is said"
    )
    retry: Retry | None = Field(
        default=None, description="when muleteer retries what has failed by itself; never unless it is said"
    )
    steps: tuple[Step, ...] = Field(min_length=1)
    outputs: tuple[OutputDataset, ...] = ()

    @model_validator(mode="after")
    def _names_fit_together(self) -> Self:
        known = set(self.inputs)
        names = {step.name for step in self.steps}
        if len(names) < len(self.steps) or names & known:
            raise ValueError("steps and inputs share names: give each step and each input its own name")
        for step in self.steps:
            for source in step.reads:
                if source not in names | known:
                    raise ValueError(
                        f"step {step.name!r} reads {source!r}, which is neither an input nor a step; "
                        f"there are: {', '.join(sorted(names | known))}"
                    )
            if step.when == "failed" and not (step.reads and step.reads[0] in names):
                raise ValueError(f"step {step.name!r} runs when its first input has failed, so that must be a step")
        for output in self.outputs:
            if output.step not in names:
                raise ValueError(f"output {output.dataset!r} names the step {output.step!r}, which does not exist")
        return self
