"""The installed command, in private homes: started as a person would, watched through its log, ended by its id."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from orchestrator.clock import utc_now
from orchestrator.core.documents import Document
from orchestrator.store.store import Store
from schemas.rule import RuleFile
from tests.services.activemq import ActiveMQ

#: The command as pip installed it, beside the interpreter that runs the tests.
MULETEER = Path(sys.executable).parent / "muleteer"


def until(came_true: Callable[[], bool], patience: float, what: str) -> None:
    """Wait until something comes true. Raises AssertionError after `patience` seconds."""
    deadline = time.monotonic() + patience
    while not came_true():
        assert time.monotonic() < deadline, f"{what}: not within {patience:g} s"
        time.sleep(0.1)


class Process:
    """One `muleteer` that runs until somebody ends it."""

    def __init__(self, arguments: Sequence[str], environment: Mapping[str, str], place: Path, name: str) -> None:
        self.log = place / f"{name}.log"
        self.output = place / f"{name}.out"
        with self.log.open("wb") as log, self.output.open("wb") as output:
            # Should the tests themselves be killed, it does not outlive them.
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig=KILL", str(MULETEER), *arguments],
                cwd=place,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def lines(self) -> list[dict[str, Any]]:
        """What it logged so far."""
        lines = []
        for line in self.log.read_text(errors="replace").splitlines():
            with suppress(ValueError):
                lines.append(json.loads(line))
        return lines

    def said(self, event: str) -> list[dict[str, Any]]:
        """The log lines of one event."""
        return [line for line in self.lines() if line.get("event") == event]

    def await_said(self, event: str, times: int = 1, patience: float = 30) -> None:
        """Wait until it has logged the event so many times."""
        until(lambda: len(self.said(event)) >= times or not self.running, patience, f"{event} in {self.log}")
        assert len(self.said(event)) >= times, f"it ended without {event}: {self.log.read_text()[-2000:]}"

    def kill(self) -> None:
        """End it, and nothing else, with SIGKILL."""
        self._process.kill()
        self._process.wait()

    def stop(self, number: signal.Signals = signal.SIGTERM, patience: float = 40) -> int:
        """Ask it to end; its exit code. Raises TimeoutExpired."""
        if self.running:
            self._process.send_signal(number)
        return self._process.wait(patience)

    def wait(self, patience: float = 40) -> int:
        """Its exit code, once it ends by itself. Raises TimeoutExpired."""
        return self._process.wait(patience)

    def defects(self) -> list[str]:
        """What it logged that no operator should ever see."""
        marks = (".defect", "Traceback (most recent call last)")
        return [line for line in self.log.read_text(errors="replace").splitlines() if any(m in line for m in marks)]


class Home:
    """A directory of muleteer's with settings of its own; nothing is inherited from whoever runs the tests."""

    def __init__(self, place: Path, settings: Mapping[str, str] | None = None) -> None:
        self.place = place
        place.mkdir(parents=True, exist_ok=True)
        self.settings = dict(settings or {})
        self.processes: list[Process] = []

    def start(self, *arguments: str, **settings: str) -> Process:
        """Start a command that goes on, with further settings: `start("run", WORKER__LEASE="2s")`."""
        name = f"{len(self.processes) + 1}-{arguments[0]}"
        process = Process(arguments, self._environment(settings), self.place, name)
        self.processes.append(process)
        return process

    def run(self, *roles: str, **settings: str) -> Process:
        """`muleteer run`, all of it or some roles, once it is up."""
        only = ("--only", ",".join(roles)) if roles else ()
        process = self.start("run", *only, **settings)
        process.await_said("muleteer.started")
        return process

    def listen(self, arrived: Callable[[], bool], **settings: str) -> str:
        """`muleteer listen` until something has arrived; what it printed at its end."""
        process = self.start("listen", **settings)
        process.await_said("listener.subscribed")
        until(arrived, 30, f"what should arrive, see {process.log}")
        assert process.stop() == 0
        return process.output.read_text()

    def do(self, *arguments: str, expect: int = 0, **settings: str) -> str:
        """Run a command to its end; what it printed."""
        command = [str(MULETEER), *arguments]
        done = subprocess.run(
            command, cwd=self.place, env=self._environment(settings), capture_output=True, text=True, timeout=60
        )
        assert done.returncode == expect, f"{arguments} ended with {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout

    def read(self, *arguments: str) -> Any:
        """What a command prints with --json."""
        return json.loads(self.do(*arguments, "--json"))

    def script(self, name: str, lines: str) -> Path:
        """A shell script for an action; it runs in the home."""
        path = self.place / name
        path.write_text(f"#!/bin/sh\n{lines}\n")
        path.chmod(0o755)
        return path

    def close(self) -> None:
        """End what still runs."""
        for process in self.processes:
            if process.running:
                process.kill()

    def defects(self) -> list[str]:
        return [defect for process in self.processes for defect in process.defects()]

    def _environment(self, settings: Mapping[str, str]) -> dict[str, str]:
        # processes of pytest-xdist are told how wide the terminal is, which is nothing to these
        inherited = {
            key: value for key, value in os.environ.items() if not key.startswith("MULETEER_") and key != "COLUMNS"
        }
        ours = {f"MULETEER_{key}": value for key, value in {**self.settings, **settings}.items()}
        return {**inherited, **ours, "MULETEER_HOME": str(self.place)}


def broker_settings(broker: ActiveMQ, destination: str) -> dict[str, str]:
    """What connects muleteer to a broker."""
    return {
        "BROKER__KIND": "stomp",
        "BROKER__ADDRESSES": f'["127.0.0.1:{broker.port}"]',
        "BROKER__DESTINATION": destination,
        "BROKER__USER": broker.user,
        "BROKER__PASSCODE": broker.passcode,
    }


def apply_rules(store: Store, text: str, *, prune: bool = False) -> None:
    """Put rules in force as `muleteer rules apply` does, without a process for it."""
    store.rules.apply(Document(text, "rules.yaml").read(RuleFile).rules, prune=prune, who="tests", now=utc_now())


#: Every close of the scope runs `./act`, and is tried again at once if it fails.
EVERY_CLOSE = """
rules:
  - name: every-close
    scope: test
    actions:
      - run: {command: [./act]}
        retry: {attempts: 20, delay: 0s}
"""

#: Appends the message's id to a file, in one write.
NOTE_ID = "printf '%s\\n' \"$MULETEER_MESSAGE\" >> ids"


def noted(home: Home) -> list[int]:
    """The ids that `NOTE_ID` has written, one for each time it ran."""
    path = home.place / "ids"
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


def missing() -> str | None:
    """Why the command cannot be started here, or None."""
    if not MULETEER.exists():
        return f"{MULETEER} does not exist: pip install -e ."
    return None if shutil.which("setpriv") else "setpriv (util-linux 2.34 or newer) is not on PATH"
