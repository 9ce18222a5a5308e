"""A rule as an operator writes it: which events start which actions."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, NewType

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_serializer, model_validator

from schemas.durations import Duration
from schemas.event import event_name

RuleVersionId = NewType("RuleVersionId", int)

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"


class Retry(BaseModel):
    """How often an action is tried, and how long to wait between two tries."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    attempts: int = Field(default=3, ge=1, le=100, description="tries in all, the first included")
    delay: Duration = Field(default=timedelta(seconds=10), description="wait before the second try")
    factor: float = Field(default=2.0, ge=1.0, le=10.0, description="each wait is this much longer than the last")
    longest: Duration = Field(default=timedelta(minutes=10), description="no wait is longer than this")


class Action(BaseModel):
    """One thing to do for a match: an actor's name and its options, written `- launch: {...}`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    actor: str
    options: dict[str, Any]
    retry: Retry = Retry()

    @model_validator(mode="before")
    @classmethod
    def _from_document(cls, value: object) -> object:
        """Read `{launch: {...}, retry: {...}}`: one actor's name beside the optional `retry`."""
        if not isinstance(value, dict) or "actor" in value:
            return value
        actors = [key for key in value if key != "retry"]
        if len(actors) != 1:
            raise ValueError(
                "an action names one actor, for example `- launch: {workflow: calorimeter}`; "
                f"found {', '.join(map(str, actors)) or 'none'}"
            )
        options = value[actors[0]]
        action = {"actor": actors[0], "options": {} if options is None else options}
        return {**action, "retry": value["retry"]} if "retry" in value else action

    @model_serializer
    def _as_document(self) -> dict[str, Any]:
        document: dict[str, Any] = {self.actor: self.options}
        if self.retry != Retry():
            document["retry"] = self.retry.model_dump(mode="json", exclude_defaults=True)
        return document


class Rule(BaseModel):
    """Which events start which actions.

    Source of the fields: the production notes' `dispatch --rule --actor --regex --scope --event`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    name: str = Field(pattern=_NAME, description="unique; letters, digits, `.`, `_` and `-`")
    description: str = ""
    enabled: bool = True
    on: tuple[str, ...] = Field(default=("close",), min_length=1, description="event or events, in either spelling")
    scope: tuple[str, ...] = Field(default=("*",), min_length=1, description="scope or scopes; `*`, `?` and `[...]`")
    pattern: str = Field(default=".*", description="RE2 pattern on the whole dataset name; named groups are captured")
    actions: tuple[Action, ...] = Field(min_length=1)

    @field_validator("on", "scope", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("on")
    @classmethod
    def _in_rucio_spelling(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(event_name(word) for word in value))

    def document(self) -> dict[str, Any]:
        """The rule as JSON values, canonical: equal rules give equal documents."""
        return self.model_dump(mode="json")


class RuleFile(BaseModel):
    """The whole of a rules file: `rules:` and a list."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rules: tuple[Rule, ...]


class RuleVersion(BaseModel):
    """A rule as the store keeps it: one version of it, never changed."""

    model_config = ConfigDict(frozen=True)

    id: RuleVersionId
    #: Counted from 1 for each rule name.
    version: int
    #: The revision of the whole set that brought this version.
    since_revision: int
    #: The revision that replaced it; None while it is in force.
    until_revision: int | None
    rule: Rule
