"""Manifests, read: in any of their formats, entry by entry, each with its line; no line is passed over in silence."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from io import TextIOWrapper
from itertools import chain
from json import JSONDecoder
from pathlib import Path
from typing import BinaryIO, Final, assert_never

from pydantic import ValidationError

from orchestrator.core.mistakes import mistakes_in
from orchestrator.core.registering import Mistold, Told
from orchestrator.register.manifest_yaml import read_yaml
from orchestrator.register.manifests import FIELDS, FORMAT_OF_SUFFIX, REST, Format, NotAnEntry, Row
from schemas.registration import ManifestEntry

#: What the file calls a field, by the field.
Columns = Mapping[str, str]


def read_binary(
    stream: BinaryIO, source: str, folder: Path, format_: Format | None = None, columns: Columns | None = None
) -> Iterator[Told | Mistold]:
    """`read_manifest` of bytes, in UTF-8; an entry with anything else is mistold. The stream stays open.

    Raises OSError.
    """
    lines = TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    try:
        yield from read_manifest(lines, printable(source), folder, format_, columns)
    finally:
        lines.detach()


def read_manifest(
    lines: Iterable[str],
    source: str,
    folder: Path,
    format_: Format | None = None,
    columns: Columns | None = None,
) -> Iterator[Told | Mistold]:
    """Every entry of a manifest, and every line that is none.

    A list of PFNs may have blank lines and comments, lines that begin with `#`. In JSON and YAML an entry may be a PFN
    by itself.

    Args:
        lines: with their ends, as a file gives them that was opened with `newline=""`.
        source: names the manifest in messages, for example its path.
        folder: where relative PFNs begin.
        format_: else the end of `source` tells, else the first line.
        columns: for the fields that a CSV file calls otherwise. Where this is given, even if it is empty, it need not
            be a manifest: other columns are passed over, and an LFN without a PFN will do.
    """
    skipped, first, rest = _first_line(iter(lines))
    format_ = format_ or FORMAT_OF_SUFFIX.get(Path(source).suffix.lower()) or _guessed(first, columns or {})
    for line, found in _rows(format_, rest, columns):
        place = f"{source}:{line + skipped}"
        if isinstance(found, NotAnEntry):
            yield Mistold(place, printable(found))
            continue
        if columns is not None and isinstance(found, dict) and "lfn" in found:
            found.setdefault("pfn", found["lfn"])
        yield _telling(found, place, folder)


def _first_line(lines: Iterator[str]) -> tuple[int, str, Iterator[str]]:
    """How many blank lines and comments come first, the line after them, and all lines from there on."""
    for skipped, line in enumerate(lines):
        if line.strip() and not line.lstrip().startswith("#"):
            return skipped, line, chain([line], lines)
    return 0, "", iter(())


def _guessed(line: str, columns: Columns) -> Format:
    text = line.strip()
    if text.startswith(("[", "{")):
        return Format.JSON if text.startswith("[") else Format.JSONL
    if text == "-" or text.startswith(("- ", "---")):
        return Format.YAML
    if _MD5SUM.fullmatch(text):
        return Format.MD5SUM
    names = {"pfn", *columns.values()}
    for format_, delimiter in ((Format.TSV, "\t"), (Format.CSV, ",")):
        if not names.isdisjoint(cell.strip('"') for cell in text.split(delimiter)):
            return format_
    return Format.LIST


def _rows(format_: Format, lines: Iterable[str], columns: Columns | None) -> Iterator[Row]:
    match format_:
        case Format.LIST:
            return _read_list(lines)
        case Format.CSV | Format.TSV:
            return _read_table(lines, "," if format_ is Format.CSV else "\t", columns)
        case Format.JSON:
            return _read_json(lines)
        case Format.JSONL:
            return _read_jsonl(lines)
        case Format.YAML:
            return read_yaml(lines)
        case Format.MD5SUM:
            return _read_md5sum(lines)
    assert_never(format_)


def _telling(found: object, place: str, folder: Path) -> Told | Mistold:
    told = {"pfn": found} if isinstance(found, str) else found
    if not isinstance(told, dict):
        return Mistold(place, f"expected the fields of a file, or its PFN; found {json.dumps(told)[:60]}")
    try:
        entry = ManifestEntry.model_validate(told)
    except ValidationError as error:
        mistakes = mistakes_in(error, ManifestEntry, told)
        return Mistold(place, printable("; ".join(f"{'.'.join(map(str, field))}: {said}" for field, said in mistakes)))
    if entry.pfn.startswith("/") or "://" in entry.pfn:
        return Told(entry, place)
    return Told(entry.model_copy(update={"pfn": str(folder / entry.pfn)}), place)


def printable(text: str) -> str:
    """The same, with what was no UTF-8 as backslashes and numbers."""
    return text.encode(errors="backslashreplace").decode()


def _read_list(lines: Iterable[str]) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        if (text := line.strip()) and not text.startswith("#"):
            yield number, text


#: A backslash before the sum says that there are some in the name.
_MD5SUM: Final = re.compile(r"(\\?)([0-9a-fA-F]{32}) [ *](.+)", re.DOTALL)
_ESCAPES: Final = {r"\\": "\\", r"\n": "\n", r"\r": "\r"}


def _read_md5sum(lines: Iterable[str]) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        text = line.rstrip("\r\n")
        if not text.strip() or text.startswith("#"):
            continue
        found = _MD5SUM.fullmatch(text)
        if found is None:
            yield number, NotAnEntry("expected a line of md5sum: 32 hexadecimal digits, two blanks, a name")
            continue
        name = re.sub(r"\\[\\nr]", lambda escape: _ESCAPES[escape[0]], found[3]) if found[1] else found[3]
        yield number, {"pfn": name, "md5": found[2]}


def _read_table(lines: Iterable[str], delimiter: str, columns: Columns | None) -> Iterator[Row]:
    rows = _cells(lines, delimiter)
    head = next(rows, None)
    if head is None:
        return
    _, header = head
    fields = header if isinstance(header, NotAnEntry) else _fields(header, columns)
    if isinstance(fields, NotAnEntry):
        yield 1, fields
        return
    for number, cells in rows:
        if isinstance(cells, NotAnEntry):
            yield number, cells
        elif len(cells) != len(fields):
            yield number, NotAnEntry(f"expected {len(fields)} columns, as in the header; found {len(cells)}")
        else:
            yield number, {field: cell for field, cell in zip(fields, cells, strict=True) if field and cell}


def _cells(lines: Iterable[str], delimiter: str) -> Iterator[tuple[int, list[str] | NotAnEntry]]:
    """Each row that is not blank, with the line on which it begins."""
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        begun = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield begun, NotAnEntry(f"it cannot be read, up to line {reader.line_num}: {error}")
            continue
        if cells:
            yield begun, cells


def _fields(header: list[str], columns: Columns | None) -> list[str | None] | NotAnEntry:
    """The field of each column; None for one that is passed over."""
    names = {field: field for field in FIELDS} | {called: field for field, called in (columns or {}).items()}
    fields = [names.get(cell.strip()) for cell in header]
    known = [field for field in fields if field is not None]
    if len(set(known)) < len(known):
        return NotAnEntry("the header has a column twice")
    if columns is None and len(known) < len(fields):
        strange = ", ".join(repr(cell) for cell, field in zip(header, fields, strict=True) if field is None)
        return NotAnEntry(f"there is no such field: {strange}; there are: {', '.join(FIELDS)}{REST}")
    return fields


def _read_jsonl(lines: Iterable[str]) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield number, json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, NotAnEntry(f"it is not JSON: {error}")


def _read_json(lines: Iterable[str]) -> Iterator[Row]:
    """The text is held as a whole, its values one by one."""
    text, decoder = "".join(lines), JSONDecoder()
    at, line, counted = _after_blanks(text, 0), 1, 0
    sign, at = text[at : at + 1], _after_blanks(text, at + 1)
    if sign != "[":
        yield 1, NotAnEntry("expected a list: [{...}, {...}]")
        return
    if text[at : at + 1] == "]":
        sign, at = "]", at + 1
    while sign != "]":
        line, counted = line + text.count("\n", counted, at), at
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            yield line, NotAnEntry(f"it is not JSON: {error}{REST}")
            return
        yield line, value
        at = _after_blanks(text, end)
        sign, at = text[at : at + 1], _after_blanks(text, at + 1)
        if sign not in (",", "]"):
            yield line, NotAnEntry(f"expected a comma or ] after it{REST}")
            return
    if text[at:].strip():
        yield line + text.count("\n", counted, at), NotAnEntry(f"expected nothing after the list{REST}")


_BLANK: Final = re.compile(r"[ \t\r\n]*")


def _after_blanks(text: str, at: int) -> int:
    found = _BLANK.match(text, at)
    assert found is not None, "it matches nothing at all too"
    return found.end()
