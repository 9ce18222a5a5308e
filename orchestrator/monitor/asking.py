"""What every route gets: the window itself, who asks, and pages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import Depends, Path, Query, Request
from fastapi.dependencies.models import Dependant
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints
from starlette.exceptions import HTTPException

from orchestrator.clock import Clock
from orchestrator.core.cycles import Cycle
from orchestrator.core.mistakes import Mistake
from orchestrator.monitor.access import Tokens
from orchestrator.monitor.leftovers import AskMany
from orchestrator.monitor.transient_desk import TransientDesk
from orchestrator.store.store import Store
from schemas.message import MessageState
from schemas.rule import Rule


@dataclass(frozen=True, slots=True)
class Window:
    """What the routes look at and act on."""

    store: Store
    tokens: Tokens
    #: What is wrong with a rule: the field, and the mistake in words.
    mistakes: Callable[[Rule], Iterable[Mistake]]
    #: The cycles that rules would bring into those in force, or would be all of if the flag is set.
    cycles: Callable[[Sequence[Rule], bool], Sequence[Cycle]]
    #: What becomes of a message that no rule matched, by event.
    unmatched: Mapping[str, MessageState]
    #: What the catalog knows of many datasets at once.
    catalog: AskMany
    #: After how long without news a launch is stalled.
    stalled_after: timedelta
    #: Opened with the first question.
    desk: Callable[[], TransientDesk]
    clock: Clock


class Refused(Exception):
    """What was sent cannot be put in force; nothing was changed."""

    def __init__(self, text: str, mistakes: Sequence[Mapping[str, str]]) -> None:
        super().__init__(text)
        self.mistakes = mistakes


class Conflict(Exception):
    """What is asked does not fit what there is; nothing was changed."""

    def __init__(self, text: str, next_: str, **more: object) -> None:
        super().__init__(text)
        self.next = next_
        #: Further fields of the answer.
        self.more = more


class HalfDone(Exception):
    """The store went away while many were changed: some may be changed already."""


class Because(BaseModel):
    """Why somebody changes something. It is kept in the journal, with who and when."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000)]


class Change(Because):
    """A change that may bring rules which start each other."""

    allow_cycles: bool = Field(default=False, description="put them in force although they may start each other")


_LARGEST = 2**63 - 1

#: What either database counts by.
Id = Annotated[int, Path(ge=1, le=_LARGEST)]
#: The same in a body, where `true` is no number.
Number = Annotated[int, Field(strict=True, ge=1, le=_LARGEST)]


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("there is a NUL in it, which no database keeps")
    return text


#: A short text in a body.
Word = Annotated[str, StringConstraints(min_length=1, max_length=1000), AfterValidator(_storable)]


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("expected a time that UTC has") from None


#: UTC unless it says so.
Time = Annotated[datetime, AfterValidator(_in_utc)]


_bearer = HTTPBearer(auto_error=False, description="a token from `muleteer token add NAME`")


def _window(request: Request) -> Window:
    window: Window = request.app.state.window
    return window


def _person(
    request: Request,
    window: Annotated[Window, Depends(_window)],
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)],
) -> str:
    """Who asks, for the journal. Raises 401 without a token that is known."""
    owner = window.tokens.owner(given.credentials) if given is not None else None
    if owner is None:
        said = "no token was sent" if given is None else "this token is nobody's"
        raise HTTPException(401, said, headers={"WWW-Authenticate": "Bearer"})
    request.state.person = f"rest:{owner}"
    return f"rest:{owner}"


Asked = Annotated[Window, Depends(_window)]
Person = Annotated[str, Depends(_person)]


def _only_known(request: Request, _: Person) -> None:
    """A slip of the pen in a filter must not show everything. Raises 422."""
    known = _parameters(request.scope["route"].dependant)
    for name in request.query_params:
        if name not in known:
            there = f"there are: {', '.join(sorted(known))}" if known else "there is none"
            raise HTTPException(422, f"there is no parameter {name!r} here; {there}")


def _parameters(dependant: Dependant) -> set[str]:
    """What may stand behind the question mark, also for what the route depends on."""
    within = (_parameters(each) for each in dependant.dependencies)
    return {parameter.alias for parameter in dependant.query_params}.union(*within)


#: Every route but `/healthz` has it.
authenticated = Depends(_only_known)

Limit = Annotated[int, Query(ge=1, le=1000, description="at most so many, newest first")]
Before = Annotated[
    int | None, Query(ge=0, le=2**63 - 1, description="only those with a smaller id: the page after that one")
]
