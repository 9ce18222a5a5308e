"""Registrations, as they are listed and shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

import typer

from orchestrator.cli.session import Before, Home, Json, Limit, opened
from orchestrator.cli.terminal import out, plain, print_fields, print_json, print_table
from orchestrator.store.registration_rows import RegistrationFilter
from schemas.registration import FileState, Registration, RegistrationId, RegistrationState

#: Characters of a reason in a table.
_LONGEST: Final = 80

Id = Annotated[int, typer.Argument(help="The registration's number.")]


def list_(
    state: Annotated[list[RegistrationState] | None, typer.Option("--state", help="Only those.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Only datasets whose DID holds this.")] = None,
    limit: Limit = 50,
    before: Before = None,
    home: Home = None,
    json_: Json = False,
) -> None:
    """List registrations, newest first."""
    wanted = RegistrationFilter(states=state or (), text=name)
    with opened(home, reading=True) as muleteer:
        found = muleteer.store.registrations.list(wanted, limit=limit, before=before)
    if json_:
        print_json(found)
        return
    rows = [
        (each.id, each.state, each.dataset, counts(each.files), each.bytes, each.updated_at, _short(each.reason))
        for each in found
    ]
    print_table(("id", "state", "dataset", "files", "bytes", "last", "reason"), rows, empty="Nothing was registered.")


def show(
    id_: Id,
    state: Annotated[list[FileState] | None, typer.Option("--state", help="Only these of its files.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=0, help="At most so many files.")] = 50,
    home: Home = None,
    json_: Json = False,
) -> None:
    """Show a registration and its files."""
    with opened(home, reading=True) as muleteer:
        found = muleteer.store.registrations.get(RegistrationId(id_))
        files = muleteer.store.registrations.files(found.id, state or list(FileState), limit=limit)
    if json_:
        print_json({**plain(found), "content": files})
        return
    shown = plain(found)
    shown["files"] = counts(found.files)
    print_fields({name: value for name, value in shown.items() if value not in (None, [], {}, "")})
    rows = [(each.did, each.state, each.bytes, each.adler32, each.md5, each.reason) for each in files]
    print_table(("file", "state", "bytes", "adler32", "md5", "reason"), rows, empty="No file is like that.")
    if len(files) < sum(found.files.get(each, 0) for each in state or FileState):
        out.print("... and more: --limit shows them, --state refused those that were refused")


def _short(reason: str | None) -> str | None:
    """As much of a reason as a table can have: `register show` has all of it."""
    return reason if reason is None or len(reason) <= _LONGEST else f"{reason[: _LONGEST - 3]}..."


def way_on(registration: Registration) -> str:
    """How one that is not done is gone on with, in words."""
    if registration.listed:
        again = f"`muleteer register resume {registration.id}` goes on"
        if not registration.files.get(FileState.REFUSED):
            return again
        return f"mend what was refused, and {again} (with a file renamed: the new list with --only-these)"
    return "registering the same files once more goes on, for their list was not read to its end"


def counts(files: Mapping[FileState, int]) -> str:
    """How many files are how far, in words."""
    return ", ".join(f"{count:,} {state}" for state, count in files.items() if count) or "0"
