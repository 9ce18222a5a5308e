"""Register files: create a dataset, fill it, and close it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from orchestrator.core.actor import GiveUp, Order, Outcome, RegisterRequest, Tools
from schemas.did import Did
from schemas.durations import Duration


class RegisterOptions(BaseModel):
    """What `register` can be told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str = Field(description="scope:name")
    files: tuple[str, ...] = Field((), description="files, folders, patterns and URLs; relative ones begin in the home")
    manifests: tuple[str, ...] = Field((), description="files that hold lists of files")
    rse: str | None = Field(None, description="where the files lie, if not where the catalog registers anyway")
    close: bool = Field(True, description="close the dataset once all of them are in it")
    containers: tuple[str, ...] = Field((), description="ways of containers above the dataset, outermost first: A/B/C")
    metadata: dict[str, str | bool | int | float] = Field({}, description="for the dataset when it is made")
    lifetime: Duration | None = Field(None, description="after which the catalog erases the dataset")

    @model_validator(mode="after")
    def _names_files(self) -> Self:
        if not (self.files or self.manifests):
            raise ValueError("say what is registered: files, manifests or both")
        return self


class Register:
    """Brings files into the catalog. Safe to repeat: what is done is not done again.

    Files that are refused are tried again by the rule's retry policy; the dataset is closed only when none is.
    """

    options: type[BaseModel] = RegisterOptions

    def check(self, options: Mapping[str, Any], tools: Tools) -> str | None:
        asked = RegisterOptions.model_validate(options)
        if "{" not in asked.dataset:
            try:
                Did.parse(asked.dataset)
            except ValueError as error:
                return f"register.dataset: {error}"
        wrong = tools.registering.wrong(asked.containers)
        return None if wrong is None else f"register.containers: {wrong}"

    def act(self, order: Order, tools: Tools) -> Outcome:
        asked = RegisterOptions.model_validate(order.options)
        try:
            dataset = Did.parse(asked.dataset)
        except ValueError as error:
            return GiveUp(str(error))
        request = RegisterRequest(
            dataset=dataset,
            files=asked.files,
            who=f"rule {order.rule}",
            why=f"dispatch {order.dispatch_id}",
            manifests=asked.manifests,
            rse=asked.rse,
            closes=asked.close,
            containers=asked.containers,
            metadata={key: _number(value) for key, value in asked.metadata.items()},
            lifetime=asked.lifetime,
        )
        return tools.registering.register(request, tools.stopping)


def _number(value: str | float | bool) -> str | float | bool:
    """A number that a template filled in comes as text, and catalogs want a run number as a number."""
    plain = isinstance(value, str) and value.isascii() and value.isdecimal() and str(int(value)) == value
    return int(value) if plain else value
