"""Where files lie: a look-up by name, and manifests of datasets."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from orchestrator.cli.registering_options import parsed
from orchestrator.cli.session import Exit, Home, Json, fail, opened
from orchestrator.cli.terminal import err, out, print_json, visible
from orchestrator.register.manifests import FORMAT_OF_SUFFIX, Format, write_manifest
from orchestrator.rucio.port import Catalog, FileEntry, Replica
from schemas.did import Did
from schemas.registration import ManifestEntry

#: Files whose copies are asked for with one call.
_AT_ONCE: Final = 1000

Rse = Annotated[str | None, typer.Option("--rse", help="Only copies there; an RSE expression.")]


def locate(
    names: Annotated[
        list[str], typer.Argument(metavar="SCOPE:NAME...", help="Files, datasets, containers; - reads them by line.")
    ],
    rse: Rse = None,
    home: Home = None,
    json_: Json = False,
) -> None:
    """Say where copies of files lie: LFN, RSE and PFN, a line for each copy that can be read."""
    dids = list(dict.fromkeys(map(parsed, _words(names))))
    lost: list[str] = []
    found: list[dict[str, Any]] = []
    with opened(home) as muleteer:
        for start in range(0, len(dids), _AT_ONCE):
            asked = dids[start : start + _AT_ONCE]
            copies = muleteer.catalog.replicas(asked, rse)
            lost += _lost(muleteer.catalog, asked, copies)
            for did, each in copies.items():
                found += [{"did": str(did), "rse": copy.rse, "pfn": copy.pfn} for copy in each]
                if not json_:
                    for copy in each:
                        # as it is, tabs too: other programs read it
                        sys.stdout.write(visible(f"{did}\t{copy.rse}\t{copy.pfn}") + "\n")
    if json_:
        print_json({"copies": found, "without": lost})
    elif lost:
        err.print(f"no copy that can be read of: {', '.join(lost[:20])}{' ...' if len(lost) > 20 else ''}")
    if lost:
        raise typer.Exit(Exit.FAILED)


def _lost(catalog: Catalog, asked: Sequence[Did], copies: Any) -> list[str]:
    """What was asked for by name and is nowhere, and files that have no copy."""
    known = catalog.metadata(asked)
    unknown = [str(did) for did in asked if did not in known]
    return unknown + [str(did) for did, each in copies.items() if not each]


def manifest(
    datasets: Annotated[list[str], typer.Argument(metavar="SCOPE:NAME...", help="Datasets.")],
    rse: Rse = None,
    format_: Annotated[
        Format | None, typer.Option("--format", help="csv unless it is said, or the file's name says it.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--out", "-o", dir_okay=False, help="Write it there; else on standard output.")
    ] = None,
    home: Home = None,
) -> None:
    """Write down all files of datasets with their PFNs, sizes, sums, GUIDs and events; `register` reads the same."""
    written = format_ or (FORMAT_OF_SUFFIX.get(file.suffix) if file is not None else None) or Format.CSV
    with opened(home) as muleteer:
        entries = _entries(muleteer.catalog, [parsed(word) for word in datasets], rse)
        try:
            if file is None:
                write_manifest(entries, sys.stdout, written)
            else:
                _write(file, entries, written)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        except OSError as error:
            fail(Exit.REFUSED, f"{file} cannot be written: {error.strerror}")


def _write(file: Path, entries: Iterable[ManifestEntry], written: Format) -> None:
    """All of it or nothing: half a manifest looks like a whole one."""
    part = file.with_name(f"{file.name}.part")
    try:
        with part.open("w", encoding="utf-8", newline="") as stream:
            write_manifest(entries, stream, written)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    out.print(f"{file} is written")


def _entries(catalog: Catalog, datasets: Sequence[Did], rse: str | None) -> Iterator[ManifestEntry]:
    """The first copy of each file; a file that has none there ends it, since its PFN is the point."""
    for did in datasets:
        files = catalog.files(did)
        for start in range(0, len(files), _AT_ONCE):
            page = files[start : start + _AT_ONCE]
            copies = catalog.replicas([file.did for file in page], rse)
            for each in page:
                there = copies.get(each.did, ())
                if not there:
                    where = "" if rse is None else f" at {rse}"
                    fail(
                        Exit.FAILED, f"{each.did} of {did} has no copy{where}: `muleteer check dataset {did}` lists all"
                    )
                yield _entry(each, there[0])


def _entry(file: FileEntry, copy: Replica) -> ManifestEntry:
    return ManifestEntry(
        pfn=copy.pfn,
        lfn=str(file.did),
        bytes=file.bytes,
        adler32=file.adler32,
        md5=file.md5,
        guid=file.guid,
        events=file.events,
        rse=copy.rse,
    )


def _words(words: Iterable[str]) -> Iterator[str]:
    for word in words:
        if word == "-":
            yield from (line.strip() for line in sys.stdin if line.strip())
        else:
            yield word
