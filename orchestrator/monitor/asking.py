"""What every route gets: the window itself, who asks, and pages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from orchestrator.clock import Clock
from orchestrator.monitor.access import Tokens
from orchestrator.store.store import Store
from schemas.rule import Rule


@dataclass(frozen=True, slots=True)
class Window:
    """What the routes look at and act on."""

    store: Store
    tokens: Tokens
    #: What is wrong with a rule: the field, and the mistake in words.
    mistakes: Callable[[Rule], Iterable[tuple[tuple[int | str, ...], str]]]
    clock: Clock


class Refused(Exception):
    """What was sent cannot be put in force; nothing was changed."""

    def __init__(self, text: str, mistakes: Sequence[Mapping[str, str]]) -> None:
        super().__init__(text)
        self.mistakes = mistakes


class Because(BaseModel):
    """Why somebody changes something. It is kept in the journal, with who and when."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=1, max_length=1000)


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
authenticated = Depends(_person)

Limit = Annotated[int, Query(ge=1, le=1000, description="at most so many, newest first")]
Before = Annotated[int | None, Query(description="only those with a smaller id: the page after that one")]
