"""One call of git: it never asks anybody, starts no hook or editor, signs nothing, and has so much time."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

#: Whatever the person's or the machine's settings are: bytes stay as they are, and nothing of theirs is started.
_SETTINGS: Final = (
    *("core.autocrlf=false", "core.safecrlf=false", "core.fileMode=true", "core.symlinks=true"),
    *("core.attributesFile=/dev/null", "core.excludesFile=/dev/null", "core.hooksPath=/dev/null"),
    *("core.fsmonitor=false", "core.quotePath=false", "commit.gpgSign=false", "push.gpgSign=false"),
    *("commit.template=", "gc.autoDetach=false", "advice.detachedHead=false"),
)
#: A password in an address.
_PASSWORD: Final = re.compile(r"(?<=://)[^/@\s]+@")
#: Seconds between two looks whether it has ended, and between asking it to end and ending it.
_LOOK: Final = 0.05
_GRACE: Final = 5.0
_LONGEST: Final = 2000


class GitFailed(Exception):
    """git did not do it. The text says what it was asked for, and what it answered."""


@dataclass(frozen=True, slots=True)
class Git:
    """git in one repository.

    Args:
        who: name and address of whoever the commits are by.
        lock: a descriptor that every call holds, so that a lock on it lasts as long as any of them lives.
    """

    directory: Path
    who: tuple[str, str] = ("muleteer", "muleteer@localhost")
    lock: int | None = None

    def __call__(
        self,
        *arguments: str,
        given: bytes = b"",
        patience: float = 600,
        stopping: Callable[[], bool] = lambda: False,
    ) -> bytes:
        """What it printed. Raises GitFailed."""
        settings = [word for each in _SETTINGS for word in ("-c", each)]
        command = ["git", "-C", str(self.directory), *settings, *arguments]
        try:
            process = subprocess.Popen(
                command,
                env=_surroundings(self.who),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # without a terminal to ask on
                pass_fds=() if self.lock is None else (self.lock,),
            )
        except OSError as error:
            raise GitFailed(f"git cannot be started: {error}") from None
        output, errors = _ended(process, given, arguments, time.monotonic() + patience, stopping)
        if process.returncode:
            raise GitFailed(f"git {arguments[0]} failed: {_said(errors) or f'exit code {process.returncode}'}")
        return output


def _ended(
    process: subprocess.Popen[bytes],
    given: bytes,
    arguments: Sequence[str],
    deadline: float,
    stopping: Callable[[], bool],
) -> tuple[bytes, bytes]:
    """What it printed, on both streams; it is ended if its time is over. Raises GitFailed then."""
    what: bytes | None = given
    while True:
        try:
            return process.communicate(what, timeout=_LOOK)
        except subprocess.TimeoutExpired:
            what = None  # it is being given already
        except BaseException:
            _end(process)
            raise
        if stopping() or time.monotonic() > deadline:
            _end(process)
            why = "muleteer is stopping" if stopping() else "it took too long"
            raise GitFailed(f"git {arguments[0]} was ended: {why}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask it and what it has started to end, then end them."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.communicate(timeout=_GRACE)
            return


def _said(errors: bytes) -> str:
    text = _PASSWORD.sub("", errors.decode("utf-8", "replace")).strip()
    return text[-_LONGEST:]


def _surroundings(who: tuple[str, str]) -> dict[str, str]:
    """Ours, without what leads git elsewhere: we may be called from a hook of another repository."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name in ("GIT_SSH_COMMAND", "GIT_SSH", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH")
    }
    name, address = who
    return {
        **inherited,
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "SSH_ASKPASS": "true",
        "SSH_ASKPASS_REQUIRE": "never",
        "GIT_EDITOR": "false",
        "GIT_LITERAL_PATHSPECS": "1",
        "GIT_AUTHOR_NAME": name,
        "GIT_AUTHOR_EMAIL": address,
        "GIT_COMMITTER_NAME": name,
        "GIT_COMMITTER_EMAIL": address,
        "LC_ALL": "C",
    }
