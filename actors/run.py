"""Run a command: an argument list, never a shell."""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.core.actor import Done, GiveUp, Interrupted, Order, Outcome, Retry, Tools, Trace
from schemas.durations import Duration, format_duration

#: Exit codes that say that the same call can never succeed: usage, data and configuration errors of sysexits.h.
_HOPELESS: Final = frozenset({os.EX_USAGE, os.EX_DATAERR, os.EX_CONFIG})

#: What stays wrong until somebody mends it: no such program, no right to run it, not a program, too much to hand over.
_NOT_THERE: Final = frozenset({errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOEXEC, errno.ENOTDIR, errno.E2BIG})

#: How much of what a command prints is kept, from its end.
_KEPT: Final = 64 * 1024

#: Between asking a command to end and making it end, in seconds.
_FAREWELL: Final = 5.0

#: How often it is asked whether muleteer is being stopped, in seconds.
_GLANCE: Final = 0.5


class RunOptions(BaseModel):
    """What `run` can be told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: tuple[str, ...] = Field(min_length=1, description="the program and its arguments")
    timeout: Duration = timedelta(minutes=10)
    environment: dict[str, str] = {}


class Run:
    """Starts a program and waits for it.

    It gets the message and what the pattern captured in variables `MULETEER_*` and as one JSON object on its standard
    input. Exit code 0 is success; 64, 65 and 78 (usage, data, configuration) mean that trying again cannot help; any
    other is tried again by the rule's retry policy.
    """

    options: type[BaseModel] = RunOptions

    def check(self, options: Mapping[str, Any], tools: Tools) -> str | None:
        program = RunOptions.model_validate(options).command[0]
        if "{" in program:
            return f"run.command: {program!r}: a message may fill in arguments, but not choose the program"
        if "/" not in program:
            return None
        path = tools.home / program
        if not path.is_file():
            return f"run.command: there is no file {path}"
        return None if os.access(path, os.X_OK) else f"run.command: {path} is not executable: chmod +x {path}"

    def act(self, order: Order, tools: Tools) -> Outcome:
        options = RunOptions.model_validate(order.options)
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            try:
                process = _start(options, order, tools.home, out, err)
            except (OSError, ValueError) as error:
                return _not_started(options.command[0], error)
            try:
                ending = _follow(process, options.timeout, tools)
            except OSError as error:  # too many open files
                return Retry(f"{options.command[0]} cannot be followed, and was ended: {error}")
            trace = Trace(process.returncode, _end_of(out), _end_of(err))
        return _outcome(ending, process.returncode, options, trace)


def _not_started(program: str, error: Exception) -> Outcome:
    """A program that is not there stays away; too many processes or files are gone in a moment."""
    said = f"{program} cannot be started: {error}"
    hopeless = not isinstance(error, OSError) or error.errno in _NOT_THERE
    return GiveUp(said) if hopeless else Retry(said)


def _start(options: RunOptions, order: Order, home: Path, out: IO[bytes], err: IO[bytes]) -> subprocess.Popen[bytes]:
    program, *arguments = options.command
    if "/" in program:
        program = str(home / program)
    with tempfile.TemporaryFile() as given:  # a file, not a pipe: a program that does not read cannot hold us up
        given.write(json.dumps(_told(order)).encode())
        given.seek(0)
        return subprocess.Popen(
            [program, *arguments],
            stdin=given,
            stdout=out,
            stderr=err,
            cwd=home,
            env=_environment(order, options.environment),
            start_new_session=True,  # so that its children can be ended with it
        )


def _told(order: Order) -> dict[str, Any]:
    message = order.message
    try:
        body = json.loads(message.body)
    except (ValueError, RecursionError):
        body = None
    return {
        "dispatch": order.dispatch_id,
        "attempt": order.attempt,
        "rule": order.rule,
        "captured": dict(order.captured),
        "message": message.model_dump(mode="json", exclude={"body", "judged_revision"}) | {"body": body},
    }


def _environment(order: Order, extra: Mapping[str, str]) -> dict[str, str]:
    """muleteer's own variables, secrets among them, are not for its children."""
    message = order.message
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("MULETEER_")}
    told = {
        "DISPATCH": str(order.dispatch_id),
        "ATTEMPT": str(order.attempt),
        "RULE": order.rule,
        "MESSAGE": str(message.id),
        "EVENT": message.event_type,
        "SCOPE": message.scope,
        "NAME": message.name,
        "CREATED_AT": message.created_at.isoformat() if message.created_at else None,
        "GENERATION": str(message.generation) if message.generation else None,
        "ACCOUNT": message.account,
        "BYTES": str(message.bytes) if message.bytes is not None else None,
        "LENGTH": str(message.length) if message.length is not None else None,
        "EVENTS": str(message.events) if message.events is not None else None,
    }
    captured = {f"GROUP_{name.upper()}": value for name, value in order.captured.items()}
    ours = {f"MULETEER_{key}": value for key, value in (told | captured).items() if value is not None}
    return inherited | dict(extra) | ours


def _follow(process: subprocess.Popen[bytes], timeout: timedelta, tools: Tools) -> str | None:
    """Wait for the end. Returns why it was ended early, `timeout` or `stopping`; None if it ended by itself."""
    deadline = time.monotonic() + timeout.total_seconds()
    with _watched(process) as ending:
        while True:
            rest = deadline - time.monotonic()
            if ending.poll(1000 * max(0.0, min(_GLANCE, rest))):
                process.wait()
                return None
            why = "timeout" if rest <= 0 else "stopping" if tools.stopping() else None
            if why is not None:
                _end(process)
                return why


@contextmanager
def _watched(process: subprocess.Popen[bytes]) -> Iterator[select.poll]:
    """Something that can be waited for until the process ends. `Popen.wait` with a timeout only looks now and then."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except OSError:
        _end(process)
        raise
    try:
        ending = select.poll()
        ending.register(descriptor, select.POLLIN)
        yield ending
    finally:
        os.close(descriptor)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask the whole process group to end, then make it."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        try:
            process.wait(_FAREWELL)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def _outcome(ending: str | None, code: int, options: RunOptions, trace: Trace) -> Outcome:
    program = options.command[0]
    if ending == "timeout":
        return Retry(f"{program} took longer than {format_duration(options.timeout)} and was ended", trace)
    if ending == "stopping":
        return Interrupted(f"{program} was ended because muleteer is shutting down", trace)
    if code == 0:
        last = trace.stdout.rstrip().rpartition("\n")[2].strip()
        return Done(f"{program} succeeded{': ' + last[:120] if last else ''}", trace)
    if code < 0:
        return Retry(f"{program} was ended by signal {-code} ({signal.strsignal(-code)})", trace)
    if code in _HOPELESS:
        return GiveUp(f"{program} said with exit code {code} that trying again cannot help", trace)
    return Retry(f"{program} ended with exit code {code}", trace)


def _end_of(file: IO[bytes]) -> str:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _KEPT))
    text = file.read().decode(errors="replace")
    return text if size <= _KEPT else f"[the first {size - _KEPT:,} bytes are not kept]\n{text}"
