"""Manifests: lists of files with what is known of each, written; `manifest_reading` reads the same."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any, Final, TextIO

from schemas.registration import ManifestEntry, RegisteredFile

#: In the order in which they are written.
FIELDS: Final = ("lfn", "pfn", "bytes", "adler32", "md5", "guid", "events", "rse")


class NotAnEntry(str):
    """What is wrong, in words, where an entry should be."""


#: The end of what is said of a mistake after which nothing can be understood.
REST: Final = "; nothing after it was read"

#: A line, and what stands there: the fields of an entry, a PFN by itself, or what else there is and should not.
Row = tuple[int, object]


class Format(StrEnum):
    """How a manifest is written."""

    #: One PFN on each line.
    LIST = "list"
    CSV = "csv"
    TSV = "tsv"
    #: One list of objects.
    JSON = "json"
    #: One object on each line.
    JSONL = "jsonl"
    YAML = "yaml"
    #: As the command of that name writes it.
    MD5SUM = "md5sum"


#: By how a file's name ends; of others the content tells.
FORMAT_OF_SUFFIX: Final[Mapping[str, Format]] = {
    ".csv": Format.CSV,
    ".tsv": Format.TSV,
    ".json": Format.JSON,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".yaml": Format.YAML,
    ".yml": Format.YAML,
    ".md5": Format.MD5SUM,
}


def entry_of(file: RegisteredFile, rse: str | None) -> ManifestEntry:
    """What a manifest says of a file of a registration: its LFN with the scope, its PFN as it is registered."""
    return ManifestEntry(
        pfn=file.pfn,
        lfn=file.did,
        bytes=file.bytes,
        adler32=file.adler32,
        md5=file.md5,
        guid=file.guid,
        events=file.events,
        rse=rse,
    )


def write_manifest(entries: Iterable[ManifestEntry], out: TextIO, format_: Format) -> None:
    """Write a manifest that can be read again, one entry after the other.

    Args:
        out: opened with `newline=""`, so that CSV keeps what is in it.

    Raises:
        ValueError: a list of PFNs and md5sum's are read only, as they cannot hold all that is known.
    """
    _WRITERS.get(format_, _refuse)(entries, out)


def _refuse(entries: Iterable[ManifestEntry], out: TextIO) -> None:
    raise ValueError(f"a manifest is written as {', '.join(_WRITERS)}, and not as a mere list")


def _write_csv(entries: Iterable[ManifestEntry], out: TextIO) -> None:
    _write_table(entries, out, ",")


def _write_tsv(entries: Iterable[ManifestEntry], out: TextIO) -> None:
    _write_table(entries, out, "\t")


def _write_table(entries: Iterable[ManifestEntry], out: TextIO, delimiter: str) -> None:
    writer, careful = (
        csv.writer(out, delimiter=delimiter, lineterminator="\n", quoting=quoting)
        for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)
    )
    writer.writerow(FIELDS)
    for entry in entries:
        cells = [getattr(entry, field) for field in FIELDS]
        # of all ends of lines, it does not quote this one by itself
        is_odd = any(isinstance(cell, str) and "\r" in cell for cell in cells)
        (careful if is_odd else writer).writerow(cells)


def _write_json(entries: Iterable[ManifestEntry], out: TextIO) -> None:
    separator = "[\n  "
    for entry in entries:
        out.write(separator + json.dumps(_told(entry)))
        separator = ",\n  "
    out.write("[]\n" if separator.startswith("[") else "\n]\n")


def _write_jsonl(entries: Iterable[ManifestEntry], out: TextIO) -> None:
    out.writelines(f"{json.dumps(_told(entry))}\n" for entry in entries)


def _write_yaml(entries: Iterable[ManifestEntry], out: TextIO) -> None:
    """By hand: the writer of YAML that we use for documents needs a minute for 50,000 files."""
    empty = True
    for entry in entries:
        lines = (f"{name}: {_in_yaml(value)}" for name, value in _told(entry).items())
        out.write("- " + "\n  ".join(lines) + "\n")
        empty = False
    if empty:
        out.write("[]\n")


def _told(entry: ManifestEntry) -> dict[str, Any]:
    """What an entry says, in the order of the fields."""
    return {field: value for field in FIELDS if (value := getattr(entry, field)) is not None}


def _in_yaml(value: str | int) -> str:
    """Texts always in quotes: sums may be all digits."""
    if isinstance(value, int):
        return str(value)
    return _UNPRINTABLE.sub(lambda found: f"\\U{ord(found[0]):08x}", json.dumps(value, ensure_ascii=False))


#: What may not stand in YAML as it is, and other ends of lines.
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e\xa0-\u2027\u2030-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")

_WRITERS: Final[Mapping[Format, Callable[[Iterable[ManifestEntry], TextIO], None]]] = {
    Format.CSV: _write_csv,
    Format.TSV: _write_tsv,
    Format.JSON: _write_json,
    Format.JSONL: _write_jsonl,
    Format.YAML: _write_yaml,
}
