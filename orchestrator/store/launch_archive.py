"""What was sent for each launch, file by file, given back byte for byte; and every try at sending it."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final, Protocol

from sqlalchemy import Connection, func, insert, select
from sqlalchemy.dialects.postgresql import insert as insert_postgresql
from sqlalchemy.dialects.sqlite import insert as insert_sqlite

from orchestrator.store.intake import chunks
from orchestrator.store.journal import without_nul
from orchestrator.store.port import StoreError
from orchestrator.store.tables import blobs, launch_files, launches, submissions
from schemas.launch import LaunchFile, LaunchId, SubmissionRecord

#: The largest package that is kept unless the settings say otherwise, in bytes.
LARGEST: Final = 20_000_000


class PackageTooLarge(StoreError):
    """The package is over the limit. Nothing was written."""


class Packed(Protocol):
    """One file of a package."""

    @property
    def content(self) -> bytes: ...

    @property
    def executable(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class ArchivedFile:
    """One file as it was sent."""

    content: bytes
    executable: bool


@dataclass(frozen=True, slots=True)
class Ready:
    """One file, ready to be written: all that takes time is done."""

    path: str
    digest: str
    size: int
    compressed: bytes
    executable: bool


def made_ready(package: Mapping[str, Packed], largest: int = LARGEST) -> Sequence[Ready]:
    """Compress a package, before the transaction that writes it. Raises PackageTooLarge."""
    total = sum(len(file.content) for file in package.values())
    if total > largest:
        path, biggest = max(package.items(), key=lambda item: len(item[1].content))
        raise PackageTooLarge(
            f"the package has {total:,} bytes in {len(package)} files, and {largest:,} are allowed; the largest is "
            f"{path} with {len(biggest.content):,}: leave out what jobs do not need (the workflow's resources say what "
            "they get), or raise engine.largest_package in the settings"
        )
    return [
        Ready(
            path,
            sha256(file.content).hexdigest(),
            len(file.content),
            zlib.compress(file.content, 6),
            file.executable,
        )
        for path, file in sorted(package.items())
    ]


def write_package(connection: Connection, launch_id: int, files: Sequence[Ready]) -> None:
    """Keep the files of a launch that has none yet; contents that are there already are not written again."""
    if not files:
        return
    # in one order, so that two who bring the same contents do not wait for each other in a circle
    contents = {file.digest: file for file in sorted(files, key=lambda file: file.digest)}
    there = _there(connection, list(contents))
    new = [
        {"digest": file.digest, "size": file.size, "content": file.compressed}
        for file in contents.values()
        if file.digest not in there
    ]
    if new:
        connection.execute(_insert_new(connection), new)
    rows = [
        {"launch_id": launch_id, "path": file.path, "digest": file.digest, "executable": file.executable}
        for file in files
    ]
    connection.execute(insert(launch_files), rows)


def read_package(connection: Connection, launch_id: LaunchId) -> dict[str, ArchivedFile]:
    """Every file by its path, as it was sent; none if nothing was kept. Raises StoreError if one is damaged."""
    query = (
        select(launch_files.c.path, launch_files.c.executable, blobs.c.digest, blobs.c.content)
        .join(blobs, blobs.c.digest == launch_files.c.digest)
        .where(launch_files.c.launch_id == launch_id)
        .order_by(launch_files.c.path)
    )
    return {
        path: ArchivedFile(_whole(path, digest, content), executable)
        for path, executable, digest, content in connection.execute(query)
    }


def read_files(connection: Connection, launch_id: LaunchId) -> list[LaunchFile]:
    """What was sent, without the contents."""
    query = (
        select(launch_files.c.path, launch_files.c.executable, blobs.c.digest, blobs.c.size)
        .join(blobs, blobs.c.digest == launch_files.c.digest)
        .where(launch_files.c.launch_id == launch_id)
        .order_by(launch_files.c.path)
    )
    return [LaunchFile.model_validate(dict(row)) for row in connection.execute(query).mappings()]


def _whole(path: str, digest: str, compressed: bytes) -> bytes:
    try:
        content = zlib.decompress(compressed)
    except zlib.error:
        content = None
    if content is None or sha256(content).hexdigest() != digest:
        raise StoreError(f"what the store keeps of {path} is damaged (SHA-256 {digest}): restore a backup")
    return content


def _there(connection: Connection, digests: Sequence[str]) -> set[str]:
    found: set[str] = set()
    for chunk in chunks(digests):
        found.update(connection.scalars(select(blobs.c.digest).where(blobs.c.digest.in_(chunk))))
    return found


def _insert_new(connection: Connection) -> Any:
    kind = insert_sqlite if connection.dialect.name == "sqlite" else insert_postgresql
    return kind(blobs).on_conflict_do_nothing()


def total_size(files: Iterable[LaunchFile]) -> int:
    """Bytes of all of them."""
    return sum(file.size for file in files)


def write_try(connection: Connection, tried: SubmissionRecord) -> SubmissionRecord:
    """Keep a try at handing a launch over, with the next number of that launch."""
    row = tried.model_dump(exclude={"command", "number"}) | {"command": json.dumps(list(tried.command))}
    for name in ("output", "answer", "verdict"):
        row[name] = without_nul(row[name])
    connection.execute(select(launches.c.id).where(launches.c.id == tried.launch_id).with_for_update())
    newest = select(func.max(submissions.c.number)).where(submissions.c.launch_id == tried.launch_id)
    number = (connection.scalars(newest).one() or 0) + 1
    connection.execute(insert(submissions).values(row | {"number": number}))
    return tried.model_copy(update={"number": number})


def read_tries(connection: Connection, launch_id: LaunchId) -> list[SubmissionRecord]:
    """Every try at handing a launch over, oldest first."""
    query = select(submissions).where(submissions.c.launch_id == launch_id).order_by(submissions.c.number)
    return [
        SubmissionRecord.model_validate(dict(row) | {"command": json.loads(row["command"])})
        for row in connection.execute(query).mappings()
    ]
