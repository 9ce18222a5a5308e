"""The service as a whole: who may ask, what an error looks like, and the routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from orchestrator.core.mistakes import said
from orchestrator.monitor import (
    dispatches,
    launches,
    messages,
    rules,
    suspensions,
    transient_policies,
    transients,
    work,
)
from orchestrator.monitor import jobs as reporting
from orchestrator.monitor.access import TokenError
from orchestrator.monitor.asking import Conflict, HalfDone, Refused, Window
from orchestrator.rucio.port import CatalogError
from orchestrator.store.port import NotAllowed, NotFound, StoreError
from schemas.job import REPORTS

log = structlog.get_logger()

#: The names under which the service answers. Any other in a request's Host is a page of somebody else's, playing tricks
#: with names: the service listens on this machine alone.
HOSTS = ("localhost", "127.0.0.1", "[::1]")


#: Bytes of a request: thousands of rules.
_LONGEST_BODY = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Seen:
    """An error as the client sees it."""

    status: int
    next: str
    #: Instead of the error's own words: where the store is, is nobody's business, and `/healthz` asks for no token.
    error: str | None = None
    #: The event of the log that has the error's own words.
    event: str | None = None


#: What is said of each kind of error that needs no more than a sentence and an advice.
_SEEN: Mapping[type[Exception], _Seen] = {
    NotFound: _Seen(404, "list what there is, and ask again"),
    NotAllowed: _Seen(409, "look at its state first"),
    StoreError: _Seen(
        503,
        "nothing was changed; ask again once the store is back, or look at the service's log",
        "the store is not available",
        "window.store",
    ),
    HalfDone: _Seen(
        503,
        "some may be changed already, and stay so; once the store is back, begin again with a dry run",
        "the store went away while it was done",
        "window.store",
    ),
    CatalogError: _Seen(
        503,
        "nothing was changed; ask again once it is back, or look at the service's log",
        "the catalog does not say what earlier launches left behind",
        "window.catalog",
    ),
    transients.CatalogAway: _Seen(
        503,
        "what was to be released is not; what was called back may be half-way: ask again once the catalog is back",
        "the catalog cannot be asked",
        "window.catalog",
    ),
    TokenError: _Seen(503, "look at its log", "the service cannot read its tokens", "window.tokens"),
}


def build(window: Window, jobs: reporting.Jobs | None = None) -> FastAPI:
    """The service. With `jobs` it takes their reports in too."""
    app = FastAPI(
        title="muleteer",
        description="What arrived, what it started, launches, rules. Every change needs a reason and is journalled.",
        docs_url=None,  # its page would come from elsewhere
        openapi_url="/api/openapi.json",
        redoc_url=None,
    )
    app.state.window = window
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*HOSTS], www_redirect=False)
    app.middleware("http")(_bounded)
    app.middleware("http")(_in_the_log)
    for each in (work, messages, dispatches, launches, rules, suspensions, transients, transient_policies):
        app.include_router(each.router)
    app.include_router(transient_policies.keeping)
    app.include_router(work.open_router)
    if jobs is not None:
        reporting.mount(app, jobs)
    _explain_errors(app)
    return app


async def _bounded(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
    """Refuse what is too long to be meant, before anything of it is read, and what no database can be asked for."""
    length = request.headers.get("content-length", "0")
    if "transfer-encoding" in request.headers or not length.isdecimal() or int(length) > _LONGEST_BODY:
        said = f"a request has at most {_LONGEST_BODY:,} bytes, and says how many"
        return JSONResponse({"error": said, "next": "send rules in several requests"}, 413)
    if b"%00" in request.scope["raw_path"] + request.scope["query_string"]:
        return JSONResponse({"error": "there is a NUL in the address", "next": "leave it out"}, 422)
    return await call(request)


async def _in_the_log(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call(request)
    if request.url.path == REPORTS:  # thousands of them, which are counted instead
        return response
    if request.method != "GET" or response.status_code >= 400:
        who = getattr(request.state, "person", None)
        said_ = log.info if response.status_code < 500 else log.warning
        said_("window.asked", method=request.method, path=request.url.path, status=response.status_code, who=who)
    return response


def _explain_errors(app: FastAPI) -> None:
    """What can be foreseen is a status, a sentence and an advice, as JSON."""
    for kind, seen in _SEEN.items():
        app.exception_handler(kind)(partial(_explain, seen))
    app.exception_handler(Conflict)(_conflict)
    app.exception_handler(Refused)(_refused)
    app.exception_handler(RequestValidationError)(_misread)
    app.exception_handler(HTTPException)(_http)


def _answer(status: int, error: str, advice: str, /, **more: object) -> JSONResponse:
    return JSONResponse({"error": error, "next": advice, **more}, status)


def _explain(seen: _Seen, _: Request, error: Exception) -> JSONResponse:
    if seen.event is not None:
        log.warning(seen.event, error=str(error))
    return _answer(seen.status, seen.error or str(error), seen.next)


def _conflict(_: Request, error: Conflict) -> JSONResponse:
    return _answer(409, str(error), error.next, **error.more)


def _refused(_: Request, error: Refused) -> JSONResponse:
    advice = "nothing was changed; mend the mistakes and send it again"
    return _answer(422, str(error), advice, mistakes=error.mistakes)


def _misread(_: Request, error: RequestValidationError) -> JSONResponse:
    mistakes = [
        {"field": ".".join(str(part) for part in each["loc"][1:]), "mistake": said(each)} for each in error.errors()
    ]
    advice = "nothing was changed; /api/openapi.json says what is expected"
    return _answer(422, "the request cannot be understood", advice, mistakes=mistakes)


def _http(_: Request, error: HTTPException) -> JSONResponse:
    advice = (
        "send `Authorization: Bearer TOKEN`; `muleteer token add NAME` makes a token"
        if error.status_code == 401
        else "see /api/openapi.json for what there is"
    )
    response = _answer(error.status_code, str(error.detail), advice)
    response.headers.update(error.headers or {})
    return response
