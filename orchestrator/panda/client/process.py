"""A process that has so much time, whose output is kept in part, and of which nothing is left when its time is over."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from threading import Thread
from typing import IO

from orchestrator.panda.port import EngineUnavailable

#: Bytes of output that are kept from its beginning, and as many from its end.
_KEPT = 262_144
#: Seconds for the last of the output, once the process has ended.
_LAST_WORDS = 5.0


@dataclass(frozen=True, slots=True)
class Ending:
    """How a process ended."""

    #: Negative: the signal that ended it.
    exit_code: int
    timed_out: bool
    #: What it and its children printed, in whole lines.
    output: str
    #: Whether that is all of it.
    complete: bool


def run(
    command: Sequence[str], directory: Path, environment: Mapping[str, str], patience: timedelta, grace: float
) -> Ending:
    """Run a command with no input and in a group of its own.

    Args:
        patience: after so long, it and all that it started is asked to end.
        grace: seconds until they are ended for good.

    Raises EngineUnavailable: it could not be started.
    """
    try:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise EngineUnavailable(f"the client could not be started in {directory}: {error}") from error
    output = _Output()
    reader = Thread(target=output.drain, args=(process.stdout,), daemon=True)
    reader.start()
    timed_out = False
    try:
        code = process.wait(patience.total_seconds())
    except subprocess.TimeoutExpired:
        code, timed_out = _end(process, grace), True
    except BaseException:
        _end(process, grace)
        raise
    reader.join(_LAST_WORDS)
    # A reader that lives waits for something that the process has started and left behind.
    return Ending(code, timed_out, output.text(), complete=output.complete and not reader.is_alive())


def _end(process: subprocess.Popen[bytes], grace: float) -> int:
    """End the process and all that it started: asked first, then for good."""
    for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 0.0)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        last = time.monotonic() + patience
        # It is not waited for with `wait`: until then nobody else can get its number, nor its group's.
        while time.monotonic() < last and not _has_ended(process.pid):
            time.sleep(0.02)
    return process.wait()


def _has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


class _Output:
    """What a client printed: its beginning and its end, in whole lines."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._tail = bytearray()
        self.complete = True

    def drain(self, stream: IO[bytes]) -> None:
        """Read all of it, until nobody can write any more."""
        with stream:
            while chunk := os.read(stream.fileno(), 65_536):
                room = _KEPT - len(self._head)
                self._head += chunk[:room]
                self._tail += chunk[room:]
                if len(self._tail) > 2 * _KEPT:
                    self.complete = False
                    del self._tail[:-_KEPT]

    def text(self) -> str:
        head, tail = bytes(self._head), bytes(self._tail)
        if not self.complete and tail:
            # Half a line may hold half a secret, which nobody would know for one.
            head, tail = head.rpartition(b"\n")[0], tail.partition(b"\n")[2]
            return f"{head.decode('utf-8', 'replace')}\n[... left out ...]\n{tail.decode('utf-8', 'replace')}"
        return (head + tail).decode("utf-8", "replace")
