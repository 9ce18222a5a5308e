"""The service as a whole: who may ask, what an error looks like, and the routes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from orchestrator.core.mistakes import said
from orchestrator.monitor import dispatches, launches, messages, rules, suspensions, work
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
    error: str
    next: str


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
    for each in (work, messages, dispatches, launches, rules, suspensions):
        app.include_router(each.router)
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

    def answer(seen: _Seen, **more: object) -> JSONResponse:
        return JSONResponse({"error": seen.error, "next": seen.next, **more}, seen.status)

    @app.exception_handler(NotFound)
    def _not_found(_: Request, error: NotFound) -> JSONResponse:
        return answer(_Seen(404, str(error), "list what there is, and ask again"))

    @app.exception_handler(NotAllowed)
    def _not_allowed(_: Request, error: NotAllowed) -> JSONResponse:
        return answer(_Seen(409, str(error), "look at its state first"))

    @app.exception_handler(StoreError)
    def _no_store(_: Request, error: StoreError) -> JSONResponse:
        # where the store is, is nobody's business: `/healthz` asks for no token
        log.warning("window.store", error=str(error))
        advice = "nothing was changed; ask again once the store is back, or look at the service's log"
        return answer(_Seen(503, "the store is not available", advice))

    @app.exception_handler(HalfDone)
    def _half_done(_: Request, error: HalfDone) -> JSONResponse:
        log.warning("window.store", error=str(error))
        advice = "some may be changed already, and stay so; once the store is back, begin again with a dry run"
        return answer(_Seen(503, "the store went away while it was done", advice))

    @app.exception_handler(CatalogError)
    def _no_catalog(_: Request, error: CatalogError) -> JSONResponse:
        log.warning("window.catalog", error=str(error))
        advice = "nothing was changed; ask again once it is back, or look at the service's log"
        return answer(_Seen(503, "the catalog does not say what earlier launches left behind", advice))

    @app.exception_handler(Conflict)
    def _conflict(_: Request, error: Conflict) -> JSONResponse:
        return answer(_Seen(409, str(error), error.next), **error.more)

    @app.exception_handler(TokenError)
    def _no_tokens(_: Request, error: TokenError) -> JSONResponse:
        log.warning("window.tokens", error=str(error))
        return answer(_Seen(503, "the service cannot read its tokens", "look at its log"))

    @app.exception_handler(Refused)
    def _refused(_: Request, error: Refused) -> JSONResponse:
        advice = "nothing was changed; mend the mistakes and send it again"
        return answer(_Seen(422, str(error), advice), mistakes=error.mistakes)

    @app.exception_handler(RequestValidationError)
    def _misread(_: Request, error: RequestValidationError) -> JSONResponse:
        mistakes = [
            {"field": ".".join(str(part) for part in each["loc"][1:]), "mistake": said(each)} for each in error.errors()
        ]
        seen = _Seen(
            422, "the request cannot be understood", "nothing was changed; /api/openapi.json says what is expected"
        )
        return answer(seen, mistakes=mistakes)

    @app.exception_handler(HTTPException)
    def _http(_: Request, error: HTTPException) -> JSONResponse:
        advice = (
            "send `Authorization: Bearer TOKEN`; `muleteer token add NAME` makes a token"
            if error.status_code == 401
            else "see /api/openapi.json for what there is"
        )
        response = answer(_Seen(error.status_code, str(error.detail), advice))
        response.headers.update(error.headers or {})
        return response
