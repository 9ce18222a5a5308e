"""Looks workflows up by their names: what PanDA and iDDS have of them."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Final

from orchestrator.panda import following
from orchestrator.panda.client.api import PandaApi
from orchestrator.panda.client.rows import RequestRow, Task
from orchestrator.panda.packing import naming
from orchestrator.panda.port import EngineError, EngineRefused, EngineUnavailable, Submission
from schemas.site import Site

#: So many of the first steps' names are looked up.
_LOOKED_UP: Final = 10


class Together:
    """One question for all who ask at the same time. Nobody gets an answer that was asked for before he asked."""

    def __init__(self, ask: Callable[[], tuple[RequestRow, ...]]) -> None:
        self._ask = ask
        self._lock = Lock()
        self._begun = 0
        self._ended = 0
        self._answer: tuple[RequestRow, ...] | EngineError = ()

    def __call__(self) -> tuple[RequestRow, ...]:
        wanted = self._begun + 1
        with self._lock:
            if self._ended < wanted:
                self._begun += 1
                try:
                    self._answer = self._ask()
                except EngineError as error:
                    self._answer = error
                self._ended = self._begun
            answer = self._answer
        if isinstance(answer, EngineError):
            raise EngineUnavailable(str(answer)) from answer
        return answer


def first_task(api: PandaApi, site: Site, submission: Submission) -> Task | None:
    """The task of one of those steps that wait for no other. Raises EngineUnavailable."""
    names = naming.task_names(site, submission)
    first = [names[link.name] for link in following.chain_of(submission) if not link.parents]
    found = (named(api, name) for name in first[:_LOOKED_UP])
    return next((task for task in found if task is not None), None)


def named(api: PandaApi, name: str) -> Task | None:
    """The newest task of that name, as prun sends it, or within a chain. Raises EngineUnavailable."""
    try:
        rows = [row for spelled in (f"{name}/", name) for row in api.tasks(name=spelled)]
    except EngineRefused as error:
        raise EngineUnavailable(f"{name} cannot be looked up: {error}") from error
    return max(rows, key=lambda row: row.id, default=None)
