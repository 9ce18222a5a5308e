"""Files on their way into the catalog: what a manifest says of them, and how far each has come."""

from __future__ import annotations

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, NewType, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

RegistrationId = NewType("RegistrationId", int)


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


Adler32 = Annotated[str, BeforeValidator(_lower), Field(pattern=r"^[0-9a-f]{8}$")]
Md5 = Annotated[str, BeforeValidator(_lower), Field(pattern=r"^[0-9a-f]{32}$")]
Guid = Annotated[
    str, BeforeValidator(_lower), Field(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")
]


class ManifestEntry(BaseModel):
    """One file that somebody tells of. What is not said is found out, but for what cannot be."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Physical file name: an absolute path, or a URL.
    pfn: str = Field(min_length=1)
    #: Logical file name, or `scope:name`; else the last part of the PFN.
    lfn: str | None = Field(None, min_length=1)
    bytes: int | None = Field(None, ge=0)
    adler32: Adler32 | None = None
    md5: Md5 | None = None
    guid: Guid | None = None
    #: Events of the detector in it.
    events: int | None = Field(None, ge=0)
    #: Where it lies, if the manifest says it.
    rse: str | None = Field(None, min_length=1)


class Rewrite(BaseModel):
    """How names are rewritten that begin with certain folders, or with a certain URL."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    #: Whole folders: `/direct/x+y` begins `/direct/x+y/file`, and not `/direct/x+yz/file`.
    prefix: str = Field(min_length=1)
    #: What is registered begins with this instead; None: it is registered as it was told.
    pfn: str | None = Field(None, min_length=1)
    #: What is read here begins with this instead; None: it is read where it was told, if that is a path.
    path: str | None = Field(None, pattern=r"^/")

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if self.pfn is None and self.path is None:
            raise ValueError("it changes nothing: say what pfn, path or both begin with instead")
        return self


class Sums(BaseModel):
    """What a file is like."""

    model_config = ConfigDict(frozen=True)

    bytes: int
    adler32: str
    #: None only of a file that cannot be read here, and of which nobody told it.
    md5: str | None
    #: When it was changed last, in nanoseconds; None of a file that cannot be read here.
    modified_ns: int | None


class RegistrationState(StrEnum):
    """How far a registration has come."""

    #: Something is still to be done; `register resume` goes on with it.
    OPEN = "open"
    DONE = "done"
    #: Some files were refused, or the dataset is not what was wanted. It can be resumed once that is mended.
    FAILED = "failed"


class FileState(StrEnum):
    """How far one file has come."""

    #: Known by name.
    PLANNED = "planned"
    #: Size and sums are known.
    SUMMED = "summed"
    #: The catalog has it.
    ATTACHED = "attached"
    #: It was not registered, with the reason. A resumed registration tries it again.
    REFUSED = "refused"


class RegisteredFile(BaseModel):
    """One file of a registration."""

    model_config = ConfigDict(frozen=True)

    #: `scope:name`.
    did: str
    #: Where it is read here; None if it is not on a disk that we see.
    path: str | None
    #: As the catalog gets it, rewritten.
    pfn: str
    state: FileState
    bytes: int | None = None
    adler32: str | None = None
    md5: str | None = None
    guid: str | None = None
    events: int | None = None
    #: Which of `bytes`, `adler32` and `md5` its manifest told, with blanks between: what the file has to be like.
    told: str | None = None
    #: Of the file when it was summed: if it has changed since, it is summed again. Nanoseconds.
    modified_ns: int | None = None
    reason: str | None = None


class Registration(BaseModel):
    """Files that are brought into the catalog by one operation."""

    model_config = ConfigDict(frozen=True)

    id: RegistrationId
    #: `scope:name`; None if the files go into no dataset.
    dataset: str | None
    rse: str | None
    #: Whether the dataset is closed at the end.
    closes: bool
    #: Ways of containers above the dataset, outermost first, each as `scope:A/B/C`.
    containers: tuple[str, ...] = ()
    #: What the dataset gets when it is made.
    metadata: dict[str, Any] = {}
    lifetime: timedelta | None = None
    state: RegistrationState
    #: How often it was begun or resumed.
    calls: int = 1
    #: Whether the list of its files was read to its end. If not, only whoever has the list can go on.
    listed: bool = False
    reason: str | None = None
    who: str
    why: str | None = None
    #: Files by state.
    files: dict[FileState, int] = {}
    #: Bytes of the files whose size is known.
    bytes: int = 0
    created_at: datetime
    updated_at: datetime
