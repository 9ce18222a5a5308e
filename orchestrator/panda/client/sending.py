"""One submission, one process of PanDA's own client: its surroundings, its end, and what it came to.

The client is not made to live in somebody else's process: it changes directories, leaves by SystemExit, asks
questions on the terminal, and may wait ten minutes for an answer.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

from orchestrator.clock import utc_now
from orchestrator.panda.client import address, process
from orchestrator.panda.client.token import Token
from orchestrator.panda.client.verdict import Kind, Outcome, Tool, Verdict, classify
from orchestrator.panda.port import EngineError, EngineInDoubt, EngineRefused, EngineUnavailable, Receipt
from schemas.site import Site

#: What the client sees of our own environment: what a Python needs, and how the network is reached.
_HANDED_ON = re.compile(
    r"PATH|HOME|LANG|LANGUAGE|LC_\w+|TZ|USER|LOGNAME|SHELL|LD_LIBRARY_PATH|PYTHONPATH|PYTHONHOME|VIRTUAL_ENV"
    r"|(?i:https?_proxy|no_proxy|all_proxy)"
)
_MAIN = {"prun": "PrunScript", "pchain": "PchainScript"}
_CHECK = {"prun": "--noSubmit", "pchain": "--check"}
#: What the server says about one submission; the client's dump repeats all options beside it.
_ANSWER = ("returnCode", "returnOut", "requestID", "jediTaskID")
#: Bytes. A dump is a few thousand.
_LARGEST_DUMP = 8_388_608
#: Of prctl, on Linux: the signal that a process gets when whoever started it dies.
_PR_SET_PDEATHSIG = 1
_ERRORS: dict[Kind, type[EngineError]] = {
    Kind.REFUSED: EngineRefused,
    Kind.UNAVAILABLE: EngineUnavailable,
    Kind.IN_DOUBT: EngineInDoubt,
}


@dataclass(frozen=True, slots=True)
class Sent:
    """A submission that PanDA has, or a check that found nothing wrong."""

    receipt: Receipt
    #: The request (pchain) or the task (prun); None for a check.
    number: int | None
    #: PanDA had it already, under the same name.
    found: bool = False


class Sender:
    """Runs `prun` and `pchain` for one site, so many at a time as the site says. Threads may share it.

    Args:
        python: the interpreter that has panda-client.
        environment: ours; the client sees PATH, HOME and their like of it, and no other secret than the token.
        grace: seconds between asking a client that took too long to end, and ending it.
    """

    def __init__(
        self,
        site: Site,
        token: Token,
        *,
        python: str = sys.executable,
        environment: Mapping[str, str] = os.environ,
        clock: Callable[[], datetime] = utc_now,
        grace: float = 5.0,
    ) -> None:
        self._site = site
        self._token = token
        self._python = python
        self._environment = {name: value for name, value in environment.items() if _HANDED_ON.fullmatch(name)}
        self._clock = clock
        self._grace = grace
        self._places = BoundedSemaphore(site.parallel)

    def send(
        self, tool: Tool, arguments: Sequence[str], directory: Path, step: str | None = None, *, check: bool = False
    ) -> Sent:
        """Hand over what lies in the directory, and nothing else should lie there: the client packs all of it.

        With `check` nothing is started: the server reads the workflow (pchain), or the client its options (prun).

        Raises EngineRefused, EngineUnavailable, EngineInDoubt (never for a check), each with its receipt.
        """
        started = self._clock()
        receipt = Receipt(step, (tool, *arguments, *((_CHECK[tool],) if check else ())), client(), started, started)
        try:
            with self._place(started):
                return self._sent(tool, receipt, directory, check)
        except EngineError as error:
            if error.receipt is None:
                error.receipt = replace(receipt, ended_at=self._clock(), verdict=str(error))
            raise

    @contextmanager
    def _place(self, asked_at: datetime) -> Iterator[None]:
        """One of the places for clients. Whoever has to wait for long may be taken for dead meanwhile: then he must not
        send any more. Raises EngineUnavailable."""
        settle, longest = self._site.settle, self._site.submit_timeout
        patience = (settle - longest if settle > longest else settle) / 2
        taken = self._places.acquire(timeout=patience.total_seconds())
        try:
            if not taken or self._clock() - asked_at > patience:
                raise EngineUnavailable(
                    f"{self._site.parallel} others were being sent for more than {patience.total_seconds():g} s, so "
                    "this was not: it is tried again"
                )
            yield
        finally:
            if taken:
                self._places.release()

    def check(self, tool: Tool, arguments: Sequence[str], directory: Path, step: str | None = None) -> Receipt:
        """Have it looked at, and nothing started. Raises EngineRefused, EngineUnavailable, as `send` does."""
        return self.send(tool, arguments, directory, step, check=True).receipt

    def _sent(self, tool: Tool, receipt: Receipt, directory: Path, check: bool) -> Sent:
        with _scratch() as scratch:
            environment = self._surroundings(scratch)
            dump = scratch / "dump.json"
            command = [self._python, "-u", "-c", self._program(tool), *receipt.command[1:], "--dumpJson", str(dump)]
            ending = process.run(command, directory, environment, self._site.submit_timeout, self._grace)
            said = _loaded(dump, self._token)
        outcome = Outcome(
            tool=tool,
            name=_name(receipt.command),
            exit_code=ending.exit_code,
            timed_out=ending.timed_out,
            output=self._token.redact(ending.output),
            complete=ending.complete,
            dump=said,
            check=check,
        )
        return self._judged(outcome, classify(outcome), receipt)

    def _judged(self, outcome: Outcome, verdict: Verdict, receipt: Receipt) -> Sent:
        receipt = replace(
            receipt,
            ended_at=self._clock(),
            exit_code=outcome.exit_code,
            output=outcome.output,
            answer=self._answer(outcome.dump),
            verdict=verdict.text,
        )
        if verdict.kind in _ERRORS:
            raise _ERRORS[verdict.kind](f"{outcome.tool} of {outcome.name}: {verdict.text}", receipt)
        return Sent(receipt, verdict.number, found=verdict.kind is Kind.FOUND)

    def _answer(self, dump: Any) -> str | None:
        entries = [entry for entry in (dump if isinstance(dump, list) else [dump]) if isinstance(entry, dict)]
        answers = [{key: entry[key] for key in _ANSWER if key in entry} for entry in entries]
        return self._token.redact("\n".join(json.dumps(answer) for answer in answers)) or None

    def _program(self, tool: Tool) -> str:
        """What is run in place of the installed commands: those are shell scripts, which choose their own Python and
        lose the exit code. It dies with us, and in any case before its doubt is settled: what was looked up and not
        found must not be handed in afterwards.
        """
        with_us = f"ctypes.CDLL(None).prctl({_PR_SET_PDEATHSIG}, signal.SIGKILL); "
        # we may have died before the kernel knew
        with_us += f"os.getppid() == {os.getpid()} or os._exit(1); "
        longest = math.ceil(self._site.submit_timeout.total_seconds() + self._grace) + 1
        main = f"from pandaclient.{_MAIN[tool]} import main; sys.exit(int(main() or 0))"
        return f"import ctypes, os, signal, sys; {with_us}signal.alarm({longest}); {main}"

    def _surroundings(self, scratch: Path) -> dict[str, str]:
        """The client's environment. Raises EngineUnavailable: the token or the CA certificates are not there."""
        directory = address.ca_directory(self._site)
        return {
            **self._environment,
            "PANDA_URL": f"{address.server(self._site.url)}/server/panda",
            "PANDA_URL_SSL": f"{address.server(self._site.url_ssl)}/server/panda",
            "PANDACACHE_URL": f"{address.server(address.cache(self._site))}/server/panda",
            "PANDA_BEHIND_REAL_LB": "1",  # or it looks up names of the server by itself, on import and on each call
            "PANDA_AUTH": "oidc",
            "PANDA_AUTH_VO": address.origin(self._site),
            "PANDA_AUTH_ID_TOKEN": self._token.text(),
            "PANDA_CONFIG_ROOT": str(scratch),
            "TMPDIR": str(scratch),
            "PYTHONSAFEPATH": "1",  # or a job script called json.py would be imported in place of Python's own
            **({"X509_CERT_DIR": str(directory)} if directory else {}),
        }


@cache
def client() -> str:
    """The client's name and version."""
    try:
        return f"panda-client {metadata.version('panda-client')}"
    except metadata.PackageNotFoundError:
        return "panda-client, not installed"


def _name(command: Sequence[str]) -> str:
    """The dataset name after --outDS."""
    for word, following in zip(command, (*command[1:], ""), strict=True):
        if word == "--outDS":
            return following
        if word.startswith("--outDS="):
            return word.removeprefix("--outDS=")
    return ""


def _loaded(path: Path, token: Token) -> Any:
    """What the client has dumped, the secrets taken out; None if that is nothing, or not whole."""
    try:
        if path.stat().st_size > _LARGEST_DUMP:
            return None
        return json.loads(token.redact(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


@contextmanager
def _scratch() -> Iterator[Path]:
    """A private directory beside the submission's own, for what the client writes."""
    try:
        directory = tempfile.TemporaryDirectory(prefix="muleteer-panda-", ignore_cleanup_errors=True)
    except OSError as error:
        raise EngineUnavailable(f"no temporary directory for the client, so nothing was sent: {error}") from error
    with directory as path:
        yield Path(path)
