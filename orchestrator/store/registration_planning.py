"""Files of a list are planned: new ones are written down, and those that are there are looked at again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from sqlalchemy import Connection, select

from orchestrator.core.replanning import asked_twice, replanned
from orchestrator.store.engine import insert_many
from orchestrator.store.registration_rows import FILE_COLUMNS, file_row, read_files, write_files
from orchestrator.store.tables import Row, registration_files, registrations
from schemas.registration import FileState, RegisteredFile, Registration

#: What may change when a file is asked for again.
_PLANNED_AGAIN: Final = (*(name for name in FILE_COLUMNS if name not in ("did", "state")), "call", "barred")


def add(
    connection: Connection, registration: Registration, files: Sequence[RegisteredFile], new_guid: Callable[[], str]
) -> None:
    """Write down files that are not there, each with a GUID."""
    before = _sums_of_before(connection, registration, [file.did for file in files])
    rows = []
    for file in files:
        known = replanned(before[file.did], file) if file.did in before else file
        row = file_row(known) | {"guid": known.guid or new_guid()}
        barred = known.state is FileState.REFUSED
        rows.append((registration.id, *(row[name] for name in FILE_COLUMNS), registration.calls, barred))
    insert_many(connection, registration_files, ("registration_id", *FILE_COLUMNS, "call", "barred"), rows)


def _sums_of_before(
    connection: Connection, registration: Registration, dids: Sequence[str]
) -> Mapping[str, RegisteredFile]:
    """What the registration before this one found out of the same files."""
    if registration.dataset is None:
        return {}
    same = (registrations.c.dataset == registration.dataset, registrations.c.rse == (registration.rse or ""))
    query = select(registrations.c.id).where(*same, registrations.c.id < registration.id)
    last = connection.scalars(query.order_by(registrations.c.id.desc()).limit(1)).one_or_none()
    if last is None:
        return {}
    found = read_files(connection, last, dids)
    return {did: file.model_copy(update={"state": FileState.SUMMED}) for did, (file, _) in found.items()}


def plan_again(
    connection: Connection, registration: Registration, files: Sequence[tuple[RegisteredFile, int, RegisteredFile]]
) -> None:
    """Each file as it is there, the call that asked for it last, and as it is asked for now."""
    changed: dict[FileState, list[Row]] = {}
    for there, call, asked in files:
        twice = call == registration.calls and there.state is not FileState.ATTACHED
        known = asked_twice(there, asked) if twice else replanned(there, asked)
        row = file_row(known) | {"call": max(call, registration.calls), "barred": known.state is FileState.REFUSED}
        changed.setdefault(known.state, []).append(row)
    for state, rows in changed.items():
        write_files(connection, registration.id, state, rows, _PLANNED_AGAIN)
