"""A workflow as its author writes it: steps in a graph, each a command that reads and writes files."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.durations import Duration

_WORD = r"^[A-Za-z][A-Za-z0-9_]{0,39}$"


class Parameter(BaseModel):
    """One value that a launch must or may give."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    description: str = ""
    default: str | None = Field(default=None, description="a parameter without a default must be given")
    pattern: str | None = Field(default=None, description="RE2 pattern that the whole value must match")


class Step(BaseModel):
    """One task of a workflow.

    The command is a list of arguments, never a shell line. A first argument with a slash (`./combine.py`) is
    found in the workflow's own folder. `{run}` and its like are replaced by the launch's parameters.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=_WORD)
    command: tuple[str, ...] = Field(min_length=1)
    #: Names of the workflow's inputs or of earlier steps; their files lie in the step's working directory.
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = Field(default=(), description="shell-style patterns of the files that the step makes")
    timeout: Duration | None = None


class OutputDataset(BaseModel):
    """A dataset that a finished launch leaves behind, closed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str = Field(description="the dataset's DID, for example {scope}:rn{run}-CALOR")
    step: str = Field(description="the step whose outputs it holds")


class Workflow(BaseModel):
    """Steps, what flows between them, what goes in and what comes out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,59}$")
    description: str = ""
    parameters: dict[str, Parameter] = {}
    inputs: dict[str, str] = Field(default={}, description="input datasets by name, for example raw: {scope}:{name}")
    steps: tuple[Step, ...] = Field(min_length=1)
    outputs: tuple[OutputDataset, ...] = ()

    @model_validator(mode="after")
    def _names_fit_together(self) -> Self:
        known = set(self.inputs)
        names = {step.name for step in self.steps}
        if len(names) < len(self.steps) or names & known:
            raise ValueError("steps and inputs share names: give each step and each input its own name")
        for step in self.steps:
            for source in step.inputs:
                if source not in names | known:
                    raise ValueError(
                        f"step {step.name!r} reads {source!r}, which is neither an input nor a step; "
                        f"there are: {', '.join(sorted(names | known))}"
                    )
        for output in self.outputs:
            if output.step not in names:
                raise ValueError(f"output {output.dataset!r} names the step {output.step!r}, which does not exist")
        return self
