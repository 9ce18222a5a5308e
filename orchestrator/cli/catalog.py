"""The embedded catalog, by hand: what Rucio's own command line is for when there is a Rucio."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestrator.cli.session import Exit, Home, Json, fail, opened
from orchestrator.cli.terminal import out, plain, print_json, print_table
from orchestrator.rucio.local import describe_file
from orchestrator.rucio.port import KEPT_METADATA, DatasetEntry, FileEntry
from schemas.did import Did

app = typer.Typer(no_args_is_help=True, help="The embedded catalog of datasets and files.")


def _did(text: str) -> Did:
    try:
        return Did.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


Dataset = Annotated[Did, typer.Argument(parser=_did, metavar="SCOPE:NAME", help="The dataset.")]


@app.command("list")
def list_(
    home: Home = None,
    scope: Annotated[str, typer.Option("--scope", help="Only of this scope; * and ? match.")] = "*",
    name: Annotated[str, typer.Option("--name", help="Only of this name; * and ? match.")] = "*",
    json_: Json = False,
) -> None:
    """List datasets."""
    with opened(home) as muleteer:
        found = muleteer.catalog.datasets(scope, name)
    if json_:
        print_json([_plain(entry) for entry in found])
        return
    rows = [(str(each.did), each.state, each.length, each.bytes, each.created_at, each.closed_at) for each in found]
    print_table(("dataset", "state", "files", "bytes", "created", "closed"), rows, empty="No dataset fits.")


@app.command("show")
def show(did: Dataset, home: Home = None, json_: Json = False) -> None:
    """Show a dataset and its files."""
    with opened(home) as muleteer:
        entry, files = muleteer.catalog.dataset(did), muleteer.catalog.files(did)
        known = muleteer.catalog.metadata([did]).get(did, {})
    set_ = {key: value for key, value in known.items() if key not in KEPT_METADATA}
    if json_:
        shown = [
            {"name": each.did.name, "bytes": each.bytes, "adler32": each.adler32, "pfn": each.pfn} for each in files
        ]
        print_json({**_plain(entry), "metadata": set_, "content": shown})
        return
    out.print(f"{did} is {entry.state}, {entry.length} files, {entry.bytes:,} bytes")
    for key, value in sorted(set_.items()):
        out.print(f"{key} = {json.dumps(value)}")
    rows = [(each.did.name, each.bytes, each.adler32, each.pfn) for each in files]
    print_table(("file", "bytes", "adler32", "pfn"), rows, empty="It has no files.")


@app.command("create")
def create(
    did: Dataset,
    files: Annotated[list[Path] | None, typer.Argument(help="Files to register and attach.")] = None,
    home: Home = None,
) -> None:
    """Create a dataset, with files if some are given. It stays open."""
    with opened(home) as muleteer:
        muleteer.catalog.add_dataset(did)
        _attach(muleteer.catalog.attach, did, files or [])
    out.print(f"{did} is there, with {len(files or [])} files")


@app.command("add")
def add(did: Dataset, files: Annotated[list[Path], typer.Argument(help="Files.")], home: Home = None) -> None:
    """Register files and attach them to an open dataset."""
    with opened(home) as muleteer:
        new = _attach(muleteer.catalog.attach, did, files)
    out.print(f"{new} files are new in {did}")


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
def erase(did: Dataset, home: Home = None) -> None:
    """Take a dataset out of the catalog. Its files on disk stay."""
    with opened(home) as muleteer:
        muleteer.catalog.erase(did)
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


def _attach(attach: Callable[[Did, Sequence[FileEntry]], int], did: Did, files: Sequence[Path]) -> int:
    try:
        return attach(did, [describe_file(path.resolve(), did.scope) for path in files])
    except OSError as error:
        fail(Exit.NOT_FOUND, f"{error.filename} cannot be read: {error.strerror}")


def _plain(entry: DatasetEntry) -> dict[str, Any]:
    values = {name: plain(getattr(entry, name)) for name in ("state", "account", "created_at", "closed_at")}
    counts = {name: getattr(entry, name) for name in ("bytes", "length", "events")}
    return {"scope": entry.did.scope, "name": entry.did.name, **values, **counts}
