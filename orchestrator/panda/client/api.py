"""PanDA's HTTP API, and iDDS behind it: tasks, requests and jobs are asked for, commands are given."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from orchestrator.panda.client import address
from orchestrator.panda.client.rows import Job, JobError, RequestRow, Task, job_row, request_row, task_row
from orchestrator.panda.client.token import Token, roughly
from orchestrator.panda.port import EngineRefused, EngineUnavailable, UnknownSubmission
from schemas.site import Site

if TYPE_CHECKING:
    from orchestrator.panda.client.calls import Calls

log = structlog.get_logger(__name__)

_Row = TypeVar("_Row")

__all__ = ["Job", "JobError", "PandaApi", "RequestRow", "Task"]

#: Tasks in one answer, and what is asked for when so many came.
_PAGE = 500
_GROWTH = 8
#: The most that is ever asked for.
_MOST = 256_000
#: The server takes these for a regular expression, and applies it after it has cut off at the number of tasks.
_REGEX = re.compile(r"[\^$*+?\\|()]")
_NOT_FOUND = re.compile(r"not found|no such task|no data found", re.IGNORECASE)
#: Codes that say yes; 3 is yes, with new parameters. The server says success even when it means no.
_YES = (0, 3)


class PandaApi:
    """The only speaker of PanDA's API. Threads may share it.

    Questions raise EngineUnavailable if no answer can be had. Commands are sent once: EngineRefused with the server's
    reason, UnknownSubmission if there is no such task, EngineUnavailable if nothing was sent, and EngineInDoubt if it
    was sent and no answer came.

    Args:
        connect: seconds to wait for a connection.
        read: seconds to wait for an answer; a question for very many tasks gets more.
    """

    def __init__(
        self,
        site: Site,
        token: Token,
        *,
        connect: float = 5.0,
        read: float = 30.0,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._site = site
        self._token = token
        self._connect = connect
        self._read = read
        self._pause = pause
        #: Tasks that could not be read, and of which that was said.
        self._odd: set[str] = set()

    @property
    def requests_made(self) -> int:
        """HTTP requests so far."""
        return self._calls.made if "_calls" in self.__dict__ else 0

    def close(self) -> None:
        if "_calls" in self.__dict__:
            self._calls.close()

    def alive(self) -> None:
        """Raises EngineUnavailable if PanDA does not answer."""
        self._data(self._calls.ask("system/is_alive", {}))

    def handshake(self, now: datetime) -> str:
        """Who we are, to whom we speak and until when, in words, once PanDA has accepted the token.

        Raises EngineUnavailable, EngineRefused: with what to do about it.
        """
        identity = self._token.identity()
        self.alive()
        self.tasks(since=now, name="muleteer-shakes-hands")
        ends = "the token does not say when it ends"
        if identity.expires_at is not None:
            left = roughly(identity.expires_at - now)
            ends = f"the token is good until {identity.expires_at:%Y-%m-%d %H:%M} UTC, which is in {left}"
        groups = f" of {', '.join(identity.groups)}" if identity.groups else ""
        return (
            f"{address.server(self._site.url_ssl)} ({self._site.instance}) knows us as {identity.name} "
            f"({identity.nickname}){groups}, speaking for {address.origin(self._site)}; {ends}"
        )

    def tasks(
        self,
        *,
        since: datetime | None = None,
        name: str | None = None,
        name_regex: str | None = None,
        ids: Sequence[int] = (),
    ) -> tuple[Task, ...]:
        """Our tasks, by number, by name, or that changed since then: whatever is given must all fit.

        Without numbers, the server looks back 90 days at most. A whole `name` is far cheaper for it than a regular
        expression, which it tries on each task in that time. Numbers that it does not know are left out.
        """
        if ids:
            found = [task for number in ids if (task := self.task(number)) is not None]
            return tuple(task for task in found if _fits(task, since, name, name_regex))
        rows = self._all_tasks(since, _name_filter(name, name_regex))
        if name is None and name_regex is None:
            return tuple(task for task in self._readable(rows) if _fits(task, since, None, None))
        # what is looked up by name must not be missed: it would be sent again
        return tuple(task for row in rows if _fits(task := _row(task_row, row), since, name, name_regex))

    def task(self, number: int) -> Task | None:
        """One task; None if PanDA does not know it, or does not know it yet."""
        envelope = self._calls.ask("task/get_detailed_info", {"task_id": number})
        if not envelope["success"] and _NOT_FOUND.search(str(envelope.get("message"))):
            return None
        return _row(task_row, self._data(envelope))

    def requests(self, request_id: int | None = None) -> tuple[RequestRow, ...]:
        """The steps of a request of iDDS, or of all of ours. A request that it does not know has none."""
        arguments: dict[str, Any] = {"with_detail": True}
        if request_id is not None:
            arguments["request_id"] = request_id
        answer = self._calls.relay("get_requests", arguments, changes=False)
        rows = answer.get("data") if isinstance(answer, Mapping) else None
        if not isinstance(rows, list):
            raise EngineUnavailable(f"iDDS cannot say what became of our requests: {str(answer)[:300]}")
        return tuple(_row(request_row, row) for row in rows)

    def jobs(self, task_id: int, *, unsuccessful_only: bool = False) -> tuple[Job, ...]:
        """The jobs of a task, 5,500 at most; on request only those that failed or were stopped."""
        parameters = {"task_id": task_id, "unsuccessful_only": str(unsuccessful_only)}
        rows = self._data(self._calls.ask("task/get_job_descriptions", parameters, read=4 * self._read)) or []
        page = self._site.monitor.job
        return tuple(
            _row(lambda row: job_row(row, page and page.replace("{id}", str(row["PandaID"]))), row) for row in rows
        )

    def kill(self, task_id: int) -> str:
        return self._command("task/kill", {"task_id": task_id})

    def finish(self, task_id: int, *, soft: bool = True) -> str:
        """End it with what it has; soft: once the jobs that run now have ended."""
        return self._command("task/finish", {"task_id": task_id, **({"soft": True} if soft else {})})

    def retry(self, task_id: int, new_parameters: Mapping[str, str | int] | None = None) -> str:
        """Run again what failed, with other parameters if they are given (ramCount and its like)."""
        body: dict[str, Any] = {"task_id": task_id}
        if new_parameters:
            body["new_parameters"] = {name: _value(value) for name, value in new_parameters.items()}
        return self._command("task/retry", body)

    def pause(self, task_id: int) -> str:
        return self._command("task/pause", {"task_id": task_id})

    def resume(self, task_id: int) -> str:
        return self._command("task/resume", {"task_id": task_id})

    def reload(self, task_id: int) -> str:
        """Look again at what the input dataset holds."""
        return self._command("task/reload_input", {"task_id": task_id})

    def increase_attempts(self, task_id: int, increase: int = 3) -> str:
        return self._command("task/increase_attempts", {"task_id": task_id, "increase": increase})

    def abort(self, request_id: int) -> str:
        """Have iDDS end a request."""
        answer = self._calls.relay("abort", {"request_id": request_id}, changes=True)
        code, said = _aborted(answer)
        if code == 0:
            return said
        if "no match" in said.lower():
            raise UnknownSubmission(f"iDDS does not know request {request_id}: {said}")
        raise EngineRefused(f"iDDS does not end request {request_id}: {said}")

    @cached_property
    def _calls(self) -> Calls:
        from orchestrator.panda.client.calls import (
            Calls,  # httpx is slow to import, and most commands never speak to PanDA
        )

        return Calls(self._site, self._token, connect=self._connect, read=self._read, pause=self._pause)

    def _all_tasks(self, since: datetime | None, filters: Mapping[str, str]) -> list[Any]:
        """All rows. The server gives any so many of them, in no order: when all that were asked for came, more is
        asked for. Where it filters after cutting off, the number of rows tells nothing, so all is asked for at once.
        """
        wanted = _MOST if _REGEX.search(filters.get("taskName", "")) else _PAGE
        while True:
            parameters: dict[str, Any] = {"n_tasks": wanted}
            if since is not None:
                parameters["since"] = f"{since.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
            if filters:
                parameters["filters"] = json.dumps(dict(filters))
            patience = self._read if wanted == _PAGE else 10 * self._read
            rows = self._data(self._calls.ask("task/get_tasks_detailed_info_since", parameters, read=patience)) or []
            if not isinstance(rows, list):
                raise EngineUnavailable(f"PanDA cannot say which tasks there are: {str(rows)[:300]}")
            if len(rows) < wanted or wanted >= _MOST:
                return rows
            wanted = min(wanted * _GROWTH, _MOST)

    def _readable(self, rows: Sequence[Any]) -> Iterator[Task]:
        """One task of which nobody can tell how it stands keeps no other; it is said once."""
        for row in rows:
            try:
                yield _row(task_row, row)
            except EngineUnavailable as error:
                which = str(row.get("jediTaskID")) if isinstance(row, Mapping) else ""
                if which not in self._odd:
                    log.warning("task.unreadable", task=which, reason=str(error))
                    self._odd.add(which)

    def _data(self, envelope: Mapping[str, Any]) -> Any:
        if envelope["success"]:
            return envelope.get("data")
        raise EngineRefused(f"PanDA says no: {envelope.get('message')}")

    def _command(self, function: str, body: Mapping[str, Any]) -> str:
        envelope = self._calls.command(function, body)
        message = " ".join(str(envelope.get("message") or "done").split())
        if envelope["success"] and not _means_no(envelope.get("data")):
            return message
        if _NOT_FOUND.search(message):
            raise UnknownSubmission(f"PanDA does not know task {body['task_id']}: {message}")
        if "role required" in message:
            message += "; set production_role in the site's profile, with a token that has that role"
        raise EngineRefused(f"PanDA says no to {function.partition('/')[2]} of task {body['task_id']}: {message}")


def _row(read: Callable[[Any], _Row], row: Any) -> _Row:
    try:
        return read(row)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise EngineUnavailable(f"PanDA's answer cannot be read: {error!r} in {str(row)[:300]}") from error


def _name_filter(name: str | None, name_regex: str | None) -> dict[str, str]:
    """What the server can sort out; all else is done here."""
    if name is not None and not _REGEX.search(name):
        return {"taskName": name}
    if name_regex is not None:
        return {"taskName": name_regex if _REGEX.search(name_regex) else f"({name_regex})"}
    return {}


def _fits(task: Task, since: datetime | None, name: str | None, name_regex: str | None) -> bool:
    if since is not None and task.modified_at < since.replace(microsecond=0):
        return False
    if name is not None and task.name != name:
        return False
    return name_regex is None or re.search(name_regex, task.name) is not None


def _means_no(code: Any) -> bool:
    return code is False or (type(code) is int and code not in _YES)


def _aborted(answer: Any) -> tuple[int, str]:
    """The code and the words in `[[0, {"message": "Command registered successfully", "status": 0}]]`."""
    first = answer[0] if isinstance(answer, list) and answer else None
    if isinstance(first, list) and len(first) == 2 and isinstance(first[0], int):
        said = first[1].get("message") if isinstance(first[1], Mapping) else first[1]
        return first[0], str(said)
    return -1, str(answer)[:300]


def _value(value: str | int) -> str | int:
    """The server wants numbers as numbers."""
    return int(value) if isinstance(value, str) and re.fullmatch(r"-?\d+", value) else value
