"""What must hold of datasets before something is made of them, and what was found."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Final, Literal, NamedTuple, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from schemas.durations import Duration

#: Where a run's number stands in the name of most datasets.
RUN_PATTERN: Final = r"(?P<run>\d{8})"


class Numbering(BaseModel):
    """Files that are numbered without a gap, written as the pattern alone where they begin with 0."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pattern: str = Field(
        description="RE2 pattern on the whole file name with a group `n`, the number; files that differ in another "
        "named group are numbered each for themselves"
    )
    first: int = Field(default=0, ge=0, description="the lowest number")
    last: int | None = Field(default=None, ge=0, description="the highest number, where it is known")

    @model_validator(mode="before")
    @classmethod
    def _from_pattern(cls, value: object) -> object:
        return {"pattern": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _ends_after_it_begins(self) -> Self:
        if self.last is not None and self.last < self.first:
            raise ValueError(f"numbers from {self.first} to {self.last} end before they begin")
        return self


def _one_or_many(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class DatasetChecks(BaseModel):
    """What must hold of one dataset and the files in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    closed: bool = Field(default=False, description="it is closed")
    filled: bool = Field(default=False, description="there is a file in it")
    files: int | None = Field(default=None, ge=0, description="so many files are in it")
    replicas: str | None = Field(
        default=None, min_length=1, description="an RSE expression: every file has a copy there that can be read"
    )
    names: str | None = Field(default=None, description="RE2 pattern that every file's whole name matches")
    numbered: Numbering | None = Field(default=None, description="files are numbered without a gap")
    min_bytes: int | None = Field(default=None, ge=1, description="no file is smaller, in bytes")
    checksums: tuple[Literal["adler32", "md5", "guid"], ...] = Field(
        default=(), description="every file has these: what it lacks cannot be given to it later"
    )

    @property
    def about_files(self) -> bool:
        """Whether the files must be looked at."""
        return (
            self.replicas is not None
            or self.names is not None
            or self.numbered is not None
            or self.min_bytes is not None
            or bool(self.checksums)
        )


class Checks(DatasetChecks):
    """What must hold of a dataset, or of a collection: a container and every dataset in it."""

    members: Annotated[tuple[str, ...], BeforeValidator(_one_or_many)] = Field(
        default=(), description="globs: each fits a dataset of the collection"
    )
    same_runs_as: str | None = Field(default=None, description="another collection, which holds the same runs")
    run: str = Field(default=RUN_PATTERN, description="RE2 pattern, anywhere in a dataset's name, with a group `run`")


class Requirement(Checks):
    """What must hold before an action is started; it waits until it does."""

    dataset: str | None = Field(
        default=None, description="a template: the dataset or collection, `scope:name`; else that of the message"
    )
    every: Duration = Field(default=timedelta(minutes=5), description="how long to wait before it is looked at again")
    within: Duration | None = Field(
        default=None, description="the action fails if it does not hold so long after the match; it waits for ever else"
    )

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if not self.model_dump(exclude_defaults=True).keys() - {"dataset", "every", "within", "run"}:
            raise ValueError("nothing is required: say closed, filled, files, replicas, names, numbered, members ...")
        if self.every < timedelta(seconds=1):
            raise ValueError("every: 1s is the least")
        return self


class Finding(NamedTuple):
    """One thing that does not hold."""

    #: Which check: `replicas`, `numbered` ...
    check: str
    #: `scope:name` of the dataset or collection.
    did: str
    #: `scope:name` of the file that it is about.
    file: str | None
    #: In words.
    text: str
