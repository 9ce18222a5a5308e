"""What was sent for a launch, given back byte for byte."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated

import typer

from orchestrator.cli.session import Exit, Home, Json, fail, opened
from orchestrator.cli.terminal import out, print_json, print_table
from orchestrator.store.launch_archive import ArchivedFile, total_size
from schemas.launch import LaunchFile, LaunchId


def files(
    id_: Annotated[int, typer.Argument(metavar="ID")],
    home: Home = None,
    to: Annotated[
        Path | None, typer.Option("--to", help="Write all of them into this directory, new or empty.", metavar="DIR")
    ] = None,
    cat: Annotated[str | None, typer.Option("--cat", help="Print this one, as it is.", metavar="PATH")] = None,
    json_: Json = False,
) -> None:
    """List what was sent for a launch; write all of it into a directory, or print one file."""
    if to is not None and cat is not None:
        raise typer.BadParameter("give either --to or --cat")
    with opened(home, reading=True) as muleteer:
        launches = muleteer.store.launches
        launch = launches.get(LaunchId(id_))
        listed = launches.files(launch.id)
        if not listed:
            fail(Exit.NOT_FOUND, f"nothing that was sent for launch {id_} was kept: it was made by an earlier version")
        package = launches.package(launch.id) if to is not None or cat is not None else {}
    if cat is not None:
        _print_one(package, cat, id_)
    elif to is not None:
        _write(package, to)
        _report(listed, to, json_=json_)
    else:
        _list(listed, json_=json_)


def _list(listed: Sequence[LaunchFile], *, json_: bool) -> None:
    if json_:
        print_json(listed)
        return
    rows = [(each.path, each.size, "x" if each.executable else None, each.digest) for each in listed]
    print_table(("path", "bytes", "runs", "SHA-256"), rows, empty="nothing")


def _report(listed: Sequence[LaunchFile], to: Path, *, json_: bool) -> None:
    if json_:
        print_json({"directory": str(to.resolve()), "files": listed})
        return
    out.print(f"{len(listed)} files, {total_size(listed):,} bytes, written into {to.resolve()}")


def _print_one(package: Mapping[str, ArchivedFile], path: str, id_: int) -> None:
    if path not in package:
        fail(Exit.NOT_FOUND, f"{path!r} was not sent for launch {id_}; there are: {', '.join(package)}")
    sys.stdout.buffer.write(package[path].content)
    sys.stdout.buffer.flush()


def _write(package: Mapping[str, ArchivedFile], to: Path) -> None:
    """A directory that holds something else is left as it is."""
    try:
        to.mkdir(parents=True, exist_ok=True)
        if any(to.iterdir()):
            fail(Exit.REFUSED, f"{to} is not empty: name a new directory")
        for path, file in package.items():
            place = to / _within(path)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(file.content)
            place.chmod(0o755 if file.executable else 0o644)
    except OSError as error:
        fail(Exit.REFUSED, f"{to} cannot be written: {error.strerror}")


def _within(path: str) -> PurePosixPath:
    """The path, if it stays within the directory."""
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts:
        fail(Exit.REFUSED, f"the package names {path!r}, which is outside of the directory: nothing more was written")
    return pure
