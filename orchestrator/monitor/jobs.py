"""What jobs tell about themselves. They need no more than a token of their launch, which allows nothing else.

A report changes no launch's state, and no person acts: nothing is journalled. What cannot be a report is counted.
"""

from __future__ import annotations

import hmac
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Annotated, Final

import structlog
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from orchestrator.clock import Clock
from orchestrator.core.mistakes import said
from orchestrator.store.port import NotAllowed, NotFound, StoreError
from orchestrator.store.store import Store
from schemas.job import REPORTS, JobReport

log = structlog.get_logger()

#: Bytes of a report: it has a few short fields.
_LONGEST: Final = 4096

#: Reports of one launch, and of all: so many at once, and so many each second.
_OF_ONE: Final = (200.0, 20.0)
_OF_ALL: Final = (1000.0, 100.0)

#: Launches whose pace is remembered.
_REMEMBERED: Final = 4096

#: What was refused is said so often at most, in seconds.
_SAID_EVERY: Final = 60.0


class Refused(Exception):
    """This is no report that can be kept."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Pace:
    """So many at once, and so many each second from then on."""

    def __init__(self, burst: float, rate: float, now: float) -> None:
        self._burst = burst
        self._rate = rate
        self._left = burst
        self._at = now

    def allows(self, now: float) -> bool:
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class Jobs:
    """Takes reports of jobs in.

    Args:
        token_of: the token of the launch of that name.
        seconds: a clock that never goes back.
    """

    def __init__(
        self,
        store: Store,
        token_of: Callable[[str], str],
        clock: Clock,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._token_of = token_of
        self._clock = clock
        self._seconds = seconds
        self._lock = threading.Lock()
        self._all = Pace(*_OF_ALL, seconds())
        self._paces: OrderedDict[str, Pace] = OrderedDict()
        #: What was answered since the beginning, by status.
        self.answered: Counter[int] = Counter()
        self._said_at = seconds() - _SAID_EVERY

    def take(self, body: bytes, token: str) -> None:
        """Keep a report. Raises Refused; StoreError: the store is away."""
        if len(body) > _LONGEST:
            raise Refused(413, f"a report has at most {_LONGEST:,} bytes")
        try:
            report = JobReport.model_validate_json(body)
        except ValidationError as error:
            raise Refused(422, f"this is no report: {said(error.errors()[0])}") from None
        if not hmac.compare_digest(self._token_of(report.launch).encode(), token.encode()):
            raise Refused(401, "this is not the token of that launch")
        if not self._in_pace(report.launch):
            raise Refused(429, "too many reports: say less often how far you are")
        try:
            self._store.job_reports.note(report, now=self._clock())
        except NotFound as error:
            raise Refused(404, str(error)) from None
        except NotAllowed as error:
            raise Refused(409, str(error)) from None

    def count(self, status: int) -> None:
        """Note what was answered; and say now and then that something was refused."""
        with self._lock:
            self.answered[status] += 1
            now = self._seconds()
            if status < 400 or now - self._said_at < _SAID_EVERY:
                return
            self._said_at = now
            refused = {str(code): count for code, count in sorted(self.answered.items()) if code >= 400}
        log.warning("jobs.refused", last=status, since_start=refused)

    def _in_pace(self, launch: str) -> bool:
        with self._lock:
            now = self._seconds()
            pace = self._paces.pop(launch, None) or Pace(*_OF_ONE, now)
            self._paces[launch] = pace
            if len(self._paces) > _REMEMBERED:
                self._paces.popitem(last=False)
            return pace.allows(now) and self._all.allows(now)


router = APIRouter(tags=["jobs"])
_bearer = HTTPBearer(auto_error=False, description="the token of the launch")


@router.post(REPORTS, status_code=204, response_class=Response)
async def report(request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]) -> Response:
    """How far a job is: `schemas.job.JobReport` as JSON, with the launch's token as Bearer. For jobs alone."""
    jobs: Jobs = request.app.state.jobs
    try:
        await run_in_threadpool(jobs.take, await _body(request), "" if given is None else given.credentials)
        answer = Response(status_code=204)
    except Refused as error:
        answer = JSONResponse({"error": str(error), "next": "muleteer's docs say what jobs report"}, error.status)
    except StoreError:
        answer = JSONResponse({"error": "it cannot be kept for now", "next": "go on with your work"}, 503)
    jobs.count(answer.status_code)
    return answer


async def _body(request: Request) -> bytes:
    """What was sent, but not more of it than a report may have."""
    length = request.headers.get("content-length", "")
    if not length.isdecimal() or int(length) > _LONGEST:
        raise Refused(413, f"a report has at most {_LONGEST:,} bytes, and says how many")
    return await request.body()


def mount(app: FastAPI, jobs: Jobs) -> None:
    """Have a service take reports in."""
    app.state.jobs = jobs
    app.include_router(router)


def alone(jobs: Jobs) -> FastAPI:
    """A service that takes reports in and does nothing else."""
    app = FastAPI(title="muleteer: reports of jobs", docs_url=None, redoc_url=None, openapi_url=None)
    mount(app, jobs)
    return app
