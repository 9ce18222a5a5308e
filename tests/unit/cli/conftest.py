"""The command line, called in this process."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from typer.testing import CliRunner

from orchestrator.cli.commands import app
from orchestrator.store.store import Store


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one JSON value on standard output. Raises ValueError if there is anything else."""
        return json.loads(self.out)


Muleteer = Callable[..., Said]


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command may set up logs and signals for its process; the next test finds them as they were."""
    for variable in [key for key in os.environ if key.startswith("MULETEER_") or key == "COLUMNS"]:
        monkeypatch.delenv(variable)
    handlers, level = logging.root.handlers[:], logging.root.level
    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in signals.items():
        signal.signal(number, handler)
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty home directory."""
    path = tmp_path / "home"
    path.mkdir()
    return path


@pytest.fixture
def anywhere() -> Muleteer:
    """Runs `muleteer` with these words; `given` is its standard input."""

    def run(*words: str | Path, given: str | bytes = "") -> Said:
        result = CliRunner().invoke(app, [str(word) for word in words], input=given)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Said(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def muleteer(anywhere: Muleteer, home: Path) -> Muleteer:
    """Runs `muleteer` with these words in the home directory."""

    def run(*words: str | Path, given: str | bytes = "") -> Said:
        return anywhere(*words, "--home", home, given=given)

    return run


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    """The home's store, opened beside the commands."""
    opened = Store.open(f"sqlite:///{home / 'muleteer.db'}")
    yield opened
    opened.close()
