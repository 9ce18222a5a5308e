"""The address by which a launch's jobs tell how far they are: put to what is sent, never to what is kept.

Each launch has a token of its own, made of its name and this home's key. It is readable by whoever reads what is sent
(on PanDA: its other users), so it allows nothing but reports of that launch's jobs.
"""

from __future__ import annotations

import hmac
import os
import secrets
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from orchestrator.panda.packing.telling import with_address
from orchestrator.panda.port import (
    Engine,
    EngineError,
    Package,
    Progress,
    Receipt,
    Reference,
    Submission,
    Tracked,
)
from schemas.failure import FailedJobs
from schemas.launch import Command

KEY_FILE: Final = "callback.key"
_KEY_BYTES: Final = 32


class KeyUnusable(Exception):
    """The home's key cannot be read or made. The text says what to do."""


def key_of(home: Path) -> bytes:
    """The home's key, made when it is first asked for. Only its owner can read it. Raises KeyUnusable."""
    path = home / KEY_FILE
    try:
        if not path.exists():
            _make(path)
        key = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise KeyUnusable(f"{path} cannot be used: {error}") from None
    if len(key) != _KEY_BYTES:
        raise KeyUnusable(f"{path} holds no key: remove it, and another is made; jobs on their way are not heard then")
    return key


def _make(path: Path) -> None:
    """Whole or not at all; whoever else makes one at the same time, the first counts."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(_KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            path.hardlink_to(fresh)
    finally:
        fresh.unlink()


def token_of(key: bytes, launch: str) -> str:
    """What a job of the launch of that name shows with its reports."""
    return hmac.new(key, b"muleteer job reports\0" + launch.encode(), "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class Address:
    """Where jobs tell how far they are."""

    url: str
    key: bytes
    #: How often a job says that it is alive, if nobody else says it.
    beat: timedelta

    def put_to(self, name: str, package: Package) -> Package:
        """The package as it is sent for the launch of that name."""
        return with_address(package, name, self.url, token_of(self.key, name), self.beat.total_seconds())


class Heard:
    """An engine whose jobs are given the address with all that is sent. Everything else is the engine's own."""

    def __init__(self, engine: Engine, address: Address) -> None:
        self._engine = engine
        self._address = address
        self.name = engine.name
        self.identity = engine.identity
        self.registers_outputs = engine.registers_outputs
        self.retries_steps = engine.retries_steps

    def pack(self, submission: Submission, source: Package) -> Package:
        return self._engine.pack(submission, source)

    def datasets(self, submission: Submission) -> Mapping[str, str]:
        return self._engine.datasets(submission)

    def submit(self, name: str, package: Package) -> tuple[Reference, Receipt]:
        return self._engine.submit(name, self._address.put_to(name, package))

    def find(self, name: str, package: Package) -> Reference | None:
        return self._engine.find(name, package)

    def settled(self, doubtful_since: datetime, now: datetime) -> bool:
        return self._engine.settled(doubtful_since, now)

    def look(self, tracked: Sequence[Tracked]) -> Mapping[str, Progress | EngineError]:
        return self._engine.look([self._addressed(each) for each in tracked])

    def outputs(self, reference: Reference, step: str) -> Sequence[Path]:
        return self._engine.outputs(reference, step)

    def failures(self, tracked: Tracked, step: str | None = None) -> FailedJobs:
        return self._engine.failures(tracked, step)

    def command(self, tracked: Tracked, command: Command, step: str | None, parameters: Mapping[str, str]) -> str:
        return self._engine.command(self._addressed(tracked), command, step, parameters)

    def _addressed(self, tracked: Tracked) -> Tracked:
        """An engine that sends step by step sends more of the package while it looks."""
        return replace(tracked, package=lambda: self._address.put_to(tracked.name, tracked.package()))
