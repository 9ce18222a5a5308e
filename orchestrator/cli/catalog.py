"""The embedded catalog, by hand: what Rucio's own command line is for when there is a Rucio."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.catalog_showing import print_listed, show_container, show_dataset, show_file
from orchestrator.cli.session import Exit, Home, Json, fail, opened
from orchestrator.cli.terminal import out
from orchestrator.rucio.embedded.catalog import LocalCatalog
from orchestrator.rucio.embedded.describing import describe_file
from orchestrator.rucio.port import Catalog, FileEntry
from orchestrator.wiring import Muleteer
from schemas.did import Did
from schemas.durations import parse_duration

app = typer.Typer(
    no_args_is_help=True,
    help="The embedded catalog of datasets and files. What it is to delete, it deletes from the disk as well.",
)


def _did(text: str) -> Did:
    try:
        return Did.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def _lifetime(text: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


Dataset = Annotated[Did, typer.Argument(parser=_did, metavar="SCOPE:NAME", help="The dataset.")]
Container = Annotated[Did, typer.Argument(parser=_did, metavar="SCOPE:NAME", help="The container.")]
Rse = Annotated[str | None, typer.Option("--rse", help="Where the files lie, a name; else LOCAL.", show_default=False)]


@app.command("list")
def list_(
    home: Home = None,
    scope: Annotated[str, typer.Option("--scope", help="Only of this scope; * and ? match.")] = "*",
    name: Annotated[str, typer.Option("--name", help="Only of this name; * and ? match.")] = "*",
    containers: Annotated[bool, typer.Option("--containers", help="List containers, not datasets.")] = False,
    json_: Json = False,
) -> None:
    """List datasets, or containers."""
    with opened(home) as muleteer:
        if containers:
            print_listed([(did, None) for did in _embedded(muleteer).containers(scope, name)], json_)
        else:
            print_listed([(entry.did, entry) for entry in muleteer.catalog.datasets(scope, name)], json_)


@app.command("show")
def show(
    did: Annotated[Did, typer.Argument(parser=_did, metavar="SCOPE:NAME", help="A dataset, a container, or a file.")],
    home: Home = None,
    json_: Json = False,
) -> None:
    """Show a dataset and its files, a container and what is in it, or a file and its copies."""
    shows = {"CONTAINER": show_container, "FILE": show_file}
    with opened(home) as muleteer:
        kind = muleteer.catalog.metadata([did]).get(did, {}).get("did_type")
        shows.get(str(kind), show_dataset)(muleteer.catalog, did, json_)


@app.command("create")
def create(
    did: Dataset,
    files: Annotated[list[Path] | None, typer.Argument(help="Files to register and attach.")] = None,
    home: Home = None,
    rse: Rse = None,
    lifetime: Annotated[
        timedelta | None,
        typer.Option("--lifetime", parser=_lifetime, metavar="SPAN", help="Erase it after 90s, 5m, 2d; else never."),
    ] = None,
) -> None:
    """Create a dataset, with files if some are given. It stays open."""
    with opened(home) as muleteer:
        entries = _described(did, files or [])
        muleteer.catalog.register(entries, rse)  # first, so that bad ones leave no dataset behind
        muleteer.catalog.add_dataset(did, lifetime=lifetime)
        muleteer.catalog.attach(did, entries, rse)
    out.print(f"{did} is there, with {len(files or [])} files")


@app.command("add")
def add(
    did: Dataset,
    files: Annotated[list[Path], typer.Argument(help="Files.")],
    home: Home = None,
    rse: Rse = None,
) -> None:
    """Register files and attach them to an open dataset."""
    with opened(home) as muleteer:
        new = muleteer.catalog.attach(did, _described(did, files), rse)
    out.print(f"{new} files are new in {did}")


Children = Annotated[
    list[Did] | None, typer.Argument(parser=_did, metavar="[SCOPE:NAME]...", help="Datasets or containers to put in.")
]


@app.command("add-container")
def add_container(did: Container, children: Children = None, home: Home = None) -> None:
    """Create a container, with datasets or containers in it if some are given."""
    with opened(home) as muleteer:
        muleteer.catalog.add_container(did)
        new = muleteer.catalog.enclose(did, children or [])
    out.print(f"{did} is there, with {new} in it")


@app.command("enclose")
def enclose(did: Container, children: Children = None, home: Home = None) -> None:
    """Put datasets or containers into a container."""
    with opened(home) as muleteer:
        new = muleteer.catalog.enclose(did, children or [])
    out.print(f"{new} are new in {did}")


@app.command("close")
def close(did: Dataset, home: Home = None) -> None:
    """Close a dataset; this is what rules wait for."""
    with opened(home) as muleteer:
        muleteer.catalog.close(did)
    out.print(f"{did} is closed")


@app.command("reopen")
def reopen(did: Dataset, home: Home = None) -> None:
    """Open a closed dataset again."""
    with opened(home) as muleteer:
        muleteer.catalog.reopen(did)
    out.print(f"{did} is open")


@app.command("erase")
def erase(
    did: Annotated[Did, typer.Argument(parser=_did, metavar="SCOPE:NAME", help="A dataset or a container.")],
    home: Home = None,
) -> None:
    """Take a dataset or a container out of the catalog. What is in it stays, and so do files on disk."""
    with opened(home) as muleteer:
        _embedded(muleteer).erase(did)
    out.print(f"{did} is erased")


@app.command("set-metadata")
def set_metadata(
    did: Dataset,
    key: Annotated[str, typer.Argument(help="For example run_number.")],
    value: Annotated[str | None, typer.Argument(help="A number, true or false as such, else a text.")] = None,
    home: Home = None,
) -> None:
    """Set a key of a dataset's metadata; without a value, take it away. Rules may ask for it by its name."""
    read = None if value is None else _read(value)
    with opened(home) as muleteer:
        muleteer.catalog.set_metadata(did, key, read)
    out.print(f"{did}: {key} is taken away" if read is None else f"{did}: {key} = {json.dumps(read)}")


def _read(value: str) -> str | float | bool:
    """A number or a truth as JSON writes it; anything else is a text, `00021615` too."""
    with suppress(ValueError):
        read = json.loads(value)
        if isinstance(read, int | float):
            return read
    return value


def _described(did: Did, files: Sequence[Path]) -> Sequence[FileEntry]:
    try:
        return [describe_file(path.resolve(), did.scope) for path in files]
    except OSError as error:
        fail(Exit.NOT_FOUND, f"{error.filename} cannot be read: {error.strerror}")


def _embedded(muleteer: Muleteer) -> LocalCatalog:
    """What only the embedded catalog can do."""
    catalog: Catalog = muleteer.catalog
    if not isinstance(catalog, LocalCatalog):
        fail(Exit.REFUSED, f"the catalog is {catalog.address}: this command is for the embedded one alone")
    return catalog
