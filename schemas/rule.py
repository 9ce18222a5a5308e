"""A rule as an operator writes it: which events start which actions."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, NewType, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from schemas.checks import Requirement
from schemas.durations import Duration, format_duration
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


#: What an action says beside its actor.
_BESIDE_AN_ACTOR: Final = ("retry", "require")


class Action(BaseModel):
    """One thing to do for a match: an actor's name and its options, written `- launch: {...}`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    actor: str
    options: dict[str, Any]
    retry: Retry = Retry()
    require: Requirement | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_document(cls, value: object) -> object:
        """Read `{launch: {...}, retry: {...}}`: one actor's name beside the optional `retry` and `require`."""
        if not isinstance(value, dict) or "actor" in value:
            return value
        actors = [key for key in value if key not in _BESIDE_AN_ACTOR]
        if len(actors) != 1:
            raise ValueError(
                "an action names one actor, for example `- launch: {workflow: calorimeter}`; "
                f"found {', '.join(map(str, actors)) or 'none'}"
            )
        options = value[actors[0]]
        action = {"actor": actors[0], "options": {} if options is None else options}
        return {**action, **{key: value[key] for key in _BESIDE_AN_ACTOR if key in value}}

    @model_serializer
    def _as_document(self) -> dict[str, Any]:
        document: dict[str, Any] = {self.actor: self.options}
        if self.retry != Retry():
            document["retry"] = self.retry.model_dump(mode="json", exclude_defaults=True)
        if self.require is not None:
            document["require"] = self.require.model_dump(mode="json", exclude_defaults=True)
        return document


class RunSelection(BaseModel):
    """Which detector runs: numbers (59641), ranges (`59641..60000`, `60000..`), and files of them.

    Files are read when the rule is applied, and become part of that version of it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    include: tuple[int | str, ...] = Field(default=(), description="only these; empty: all")
    include_file: str | None = Field(default=None, description="a file of runs, beside the rules file")
    exclude: tuple[int | str, ...] = Field(default=(), description="and never these")
    exclude_file: str | None = Field(default=None, description="a file of runs, beside the rules file")

    @field_validator("include", "exclude", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return value if isinstance(value, list | tuple) else (value,)


class RunValue(BaseModel):
    """A value for a range of runs, both ends within."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, coerce_numbers_to_str=True)

    first: int = Field(default=0, ge=0, alias="from", description="the first run")
    last: int | None = Field(default=None, ge=0, alias="to", description="the last run; open if it is left out")
    value: str

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Self:
        if self.last is not None and self.last < self.first:
            raise ValueError(f"the runs from {self.first} to {self.last} end before they begin")
        return self


class Pace(BaseModel):
    """So many in a span of time, written `50 per 10m`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int = Field(ge=1)
    span: Duration

    @model_validator(mode="before")
    @classmethod
    def _from_words(cls, value: object) -> object:
        if isinstance(value, dict | Pace):
            return value
        count, per, span = str(value).partition(" per ")
        if not per or not count.strip().isdecimal():
            raise ValueError(f"{value!r} is not a pace such as 50 per 10m")
        return {"count": int(count), "span": span.strip()}

    @model_serializer
    def _as_words(self) -> str:
        return f"{self.count} per {format_duration(self.span)}"


class Order(StrEnum):
    """What is started first, when not everything may be."""

    OLDEST = "oldest"
    NEWEST = "newest"


class Limits(BaseModel):
    """How much may go on at once, how fast it may start, and when it stops by itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    running: int | None = Field(default=None, ge=0, description="dispatches and launches that go on at the same time")
    pace: Pace | None = Field(default=None, description="starts in a span of time: 50 per 10m")
    order: Order = Field(default=Order.OLDEST, description="what is started first: oldest or newest")
    failures: int | None = Field(default=None, ge=1, description="so many failures in a row suspend the rule")


class AtDeadline(StrEnum):
    """What becomes of a waiting room whose deadline has passed."""

    DISPATCH = "dispatch"
    DROP = "drop"
    ALERT = "alert"


class Late(StrEnum):
    """What becomes of a dataset that comes after its waiting room was closed."""

    DISPATCH = "dispatch"
    IGNORE = "ignore"
    ALERT = "alert"


class Join(BaseModel):
    """Several datasets that share a key, for one start of the actions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str = Field(min_length=1, description="a template over named groups that every member's pattern has: {run}")
    members: dict[str, str] = Field(
        min_length=2, description="slot: RE2 pattern on the whole dataset name; a dataset takes the first that fits"
    )
    need: int | None = Field(default=None, ge=1, description="so many of the members are enough; all if left out")
    masked: tuple[str, ...] = Field(default=(), description="slots known to be off: not waited for")
    deadline: Duration | None = Field(default=None, description="how long is waited, from the first member on")
    at_deadline: AtDeadline = Field(
        default=AtDeadline.ALERT, description="then: dispatch what is there, drop it, or say so and keep waiting"
    )
    late: Late = Field(
        default=Late.ALERT,
        description="what comes afterwards: dispatch anew with all, ignore it, or hold it and say so",
    )

    @field_validator("need")
    @classmethod
    def _no_more_than_there_are(cls, value: int | None, info: ValidationInfo) -> int | None:
        members = info.data.get("members", {})
        if value is not None and members and value > len(members):
            raise ValueError(f"{value} are needed, and there are {len(members)} members")
        return value

    @field_validator("masked")
    @classmethod
    def _of_the_members(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        members = info.data.get("members", {})
        if members and (strange := [slot for slot in value if slot not in members]):
            raise ValueError(f"{', '.join(strange)} is not among the members: {', '.join(members)}")
        return value


#: What a message's value must be: one item or a list of them. `core.conditions` says what an item may be.
ConditionItems = tuple[bool | int | float | str, ...]


class Rule(BaseModel):
    """Which events start which actions.

    Source of the fields: the production notes' `dispatch --rule --actor --regex --scope --event`, and the columns of
    the original donkey's watch file (prescale, count, enable, priority).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    name: str = Field(pattern=_NAME, description="unique; letters, digits, `.`, `_` and `-`")
    description: str = ""
    enabled: bool = True
    group: str | None = Field(default=None, pattern=_NAME, description="rules of one group share caps")
    priority: int = Field(default=0, ge=-1000, le=1000, description="higher is started first")
    on: tuple[str, ...] = Field(default=("close",), min_length=1, description="event or events, in either spelling")
    scope: tuple[str, ...] = Field(
        default=("*",), min_length=1, description="scope or scopes; `*`, `?` and `[...]`; `!` before one excludes it"
    )
    pattern: str = Field(default=".*", description="RE2 pattern on the whole dataset name; named groups are captured")
    search: bool = Field(default=False, description="the pattern may match anywhere in the name")
    join: Join | None = Field(
        default=None, description="wait for several datasets that share a key; instead of `pattern`"
    )
    where: dict[Annotated[str, StringConstraints(min_length=1, max_length=100)], ConditionItems] = Field(
        default={},
        description="conditions: account, bytes, length, events, created_at, run, run_flags; `event.KEY` for a key of "
        "the event; "
        "any other name is a key of the catalog's metadata",
    )
    runs: RunSelection = RunSelection()
    prescale: int = Field(default=1, ge=1, description="carry out the first of every so many matches")
    values: dict[str, str | tuple[RunValue, ...]] = Field(
        default={}, description="more values for templates: a template, or a list of values for ranges of runs"
    )
    unique: str | None = Field(
        default=None, min_length=1, description="a template: of all matches that give the same text, one is carried out"
    )
    limits: Limits = Limits()
    unmatched: Literal["pending", "dropped"] | None = Field(
        default=None,
        description="what becomes of a message that event, scope and pattern want but another clause refuses, if no "
        "rule matches it; else the policy of its event",
    )
    actions: tuple[Action, ...] = Field(min_length=1)

    @field_validator("on", "scope", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("on")
    @classmethod
    def _in_rucio_spelling(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(event_name(word) for word in value))

    @field_validator("where", mode="before")
    @classmethod
    def _items(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        return {key: items if isinstance(items, list | tuple) else (items,) for key, items in value.items()}

    @field_validator("values", mode="before")
    @classmethod
    def _numbers_are_texts(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        return value | {key: str(item) for key, item in value.items() if type(item) in (int, float)}

    @field_validator("join")
    @classmethod
    def _instead_of_a_pattern(cls, value: Join | None, info: ValidationInfo) -> Join | None:
        if value is not None and info.data.get("pattern", ".*") != ".*":
            raise ValueError("a rule has a pattern or a join: here each member has its own pattern")
        return value

    @model_validator(mode="after")
    def _can_be_kept(self) -> Self:
        """What cannot be read back must never be in force: no rule could be read any more."""
        try:
            text = json.dumps(self.document(), ensure_ascii=False)
            text.encode()
        except ValueError:
            raise ValueError("a text in it has half a character: that cannot be kept") from None
        if "\\u0000" in text:
            raise ValueError("a text in it holds a NUL, which no database keeps")
        return self

    def document(self) -> dict[str, Any]:
        """The rule as JSON values, canonical: equal rules give equal documents."""
        return self.model_dump(mode="json", by_alias=True)

    def same_as(self, other: Rule) -> bool:
        """Whether the two say the same; the order of values counts, and of members, since each sees those above it."""
        return self == other and self._orders() == other._orders()

    def _orders(self) -> tuple[list[str], list[str]]:
        return list(self.values), list(self.join.members) if self.join is not None else []

    def as_written(self) -> dict[str, Any]:
        """The rule as a person would write it: what is as by default is left out, and one item stands for itself."""
        written = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        for place, keys in ((written, ("on", "scope")), (written.get("where", {}), tuple(written.get("where", {})))):
            place.update({key: place[key][0] for key in keys if key in place and len(place[key]) == 1})
        return written


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
    #: Who brought it, why and when; None for what is older than these columns.
    author: str | None = None
    reason: str | None = None
    at: datetime | None = None
    rule: Rule
