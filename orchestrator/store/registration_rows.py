"""Rows of registrations and of their files, as they are written and as they are read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import BindParameter, ColumnElement, Connection, bindparam, func, or_, select, update

from orchestrator.core.states import REGISTRATION_FILE, before
from orchestrator.store.intake import chunks
from orchestrator.store.journal import without_nul
from orchestrator.store.tables import Row, registration_files, registrations
from schemas.did import Did
from schemas.registration import FileState, RegisteredFile, Registration, RegistrationState


class Listing(StrEnum):
    """What a list of files says of those that were asked for before, and are not on it."""

    #: Nothing, for it names more files; nor does it change what else is to come of the dataset.
    MORE = "more"
    #: They belong to the dataset as well, and keep it open until they are in it.
    WHOLE = "whole"
    #: The same, told by something that tells it again and again: its own list of the last time is replaced.
    REPEATED = "repeated"
    #: They are not wanted any more.
    ANEW = "anew"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a registration is to come to."""

    #: None: the files go into no dataset.
    dataset: Did | None
    rse: str | None = None
    closes: bool = True
    #: Ways of containers above the dataset, outermost first, each as `scope:A/B/C`.
    containers: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    lifetime: timedelta | None = None
    listing: Listing = Listing.WHOLE


@dataclass(frozen=True, slots=True)
class RegistrationFilter:
    """Which registrations are meant. What is not said counts for all."""

    states: Sequence[RegistrationState] = ()
    dataset: Did | None = None
    rse: str | None = None
    #: What the dataset's DID holds, letter by letter.
    text: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        """As the database asks them."""
        asked: list[ColumnElement[bool]] = []
        if self.states:
            asked.append(registrations.c.state.in_(self.states))
        if self.dataset is not None:
            asked.append(registrations.c.dataset == str(self.dataset))
        if self.rse is not None:
            asked.append(registrations.c.rse == self.rse)
        if self.text is not None:
            asked.append(registrations.c.dataset.contains(self.text, autoescape=True))
        return asked


def wanted_row(wanted: Wanted) -> Row:
    return {
        "closes": wanted.closes,
        "containers": json.dumps(wanted.containers),
        "metadata": json.dumps(dict(wanted.metadata)),
        "lifetime": wanted.lifetime.total_seconds() if wanted.lifetime is not None else None,
    }


def registration_of(row: Row, counts: Row) -> Registration:
    shown = {name: value for name, value in row.items() if name != "counts"}
    for name in ("containers", "metadata"):
        shown[name] = json.loads(row[name])
    return Registration.model_validate({**shown, **counts, "rse": row["rse"] or None})


def counted(connection: Connection, rows: Sequence[Row]) -> Mapping[int, Row]:
    """The files by state and their bytes, of each registration. Of one that has ended they were counted at its end."""
    found: dict[int, Row] = {row["id"]: json.loads(row["counts"] or '{"files": {}, "bytes": 0}') for row in rows}
    these = [row["id"] for row in rows if row["counts"] is None]
    columns = (registration_files.c.registration_id, registration_files.c.state)
    query = (
        select(*columns, func.count(), func.coalesce(func.sum(registration_files.c.bytes), 0))
        .where(registration_files.c.registration_id.in_(these))
        .group_by(*columns)
    )
    for id_, state, count, size in connection.execute(query) if these else ():
        found[id_]["files"][state] = count
        found[id_]["bytes"] += int(size)
    return found


#: What a column of numbers can hold.
_LARGEST: Final = 2**63 - 1

#: Columns of a file that its registration finds out or is told.
FILE_COLUMNS: Final = tuple(RegisteredFile.model_fields)


def storable(file: RegisteredFile) -> RegisteredFile:
    """The file in letters and numbers that databases keep. Under another name nothing is found: it is refused later."""
    names = {name: without_nul(getattr(file, name)) for name in ("did", "path", "pfn", "reason")}
    if max(file.bytes or 0, file.events or 0) > _LARGEST:
        names["reason"] = f"it is told to have {file.bytes} bytes and {file.events} events, which no file has"
        return file.model_copy(update={**names, "state": FileState.REFUSED, "bytes": None, "events": None})
    return file.model_copy(update=names)


def file_row(file: RegisteredFile) -> Row:
    return {name: getattr(file, name) for name in FILE_COLUMNS} | {"state": file.state.value}


def file_of(row: Mapping[str, Any]) -> RegisteredFile:
    return RegisteredFile.model_construct(**{**row, "state": FileState(row["state"])})


def read_files(connection: Connection, id_: int, dids: Sequence[str]) -> Mapping[str, tuple[RegisteredFile, int]]:
    """Files by DID, each with the call that asked for it last."""
    columns = [registration_files.c[name] for name in (*FILE_COLUMNS, "call")]
    found: dict[str, tuple[RegisteredFile, int]] = {}
    for chunk in chunks(dids):
        # written out: with parameters, PostgreSQL would settle for a plan that compares each name with each row
        these: BindParameter[str] = bindparam("dids", chunk, expanding=True, literal_execute=True)
        query = select(*columns).where(registration_files.c.registration_id == id_, registration_files.c.did.in_(these))
        for row in connection.execute(query).mappings():
            values = dict(row)
            call = values.pop("call")
            found[values["did"]] = (file_of(values), call)
    return found


def write_files(
    connection: Connection, id_: int, target: FileState, changes: Iterable[Row], names: Sequence[str]
) -> None:
    """Bring files to a state, each with new values for the named columns.

    A file from whose state nothing leads there is left alone: somebody else was first.
    """
    rows = [{"this": row["did"], **{f"new_{name}": row[name] for name in names}} for row in changes]
    if not rows:
        return
    sources = sorted(before(REGISTRATION_FILE, target) | {target})
    # as an expression, so that no planner looks for the state first, and through thousands of rows for each
    standing = func.lower(registration_files.c.state)
    statement = (
        update(registration_files)
        .where(
            registration_files.c.registration_id == id_,
            registration_files.c.did == bindparam("this"),
            or_(*(standing == source for source in sources)),
        )
        .values(state=target.value, **{name: bindparam(f"new_{name}") for name in names})
    )
    connection.execute(statement, rows)
