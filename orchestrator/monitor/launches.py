"""Launches: looked at, summed up, and what people ask of them.

Why their jobs failed is not among it: the engine would have to be asked while somebody waits for the answer.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Self

from fastapi import APIRouter, Depends, Query
from pydantic import AfterValidator, BeforeValidator, Field, StrictBool, StringConstraints, model_validator

from orchestrator.core.commanding import retry_parameters
from orchestrator.core.progress import is_stalled, percent
from orchestrator.core.runs import read_range
from orchestrator.monitor.asking import Asked, Before, Id, Limit, Number, Person, Window, Word, authenticated
from orchestrator.monitor.deeds import Deed, Meant, carried_out, hand_of, looked_at
from orchestrator.store.launch_commands import UNKNOWN, Ask
from orchestrator.store.launch_listing import LaunchFilter, RunSummary
from orchestrator.store.port import NotFound
from schemas.launch import Command, Launch, LaunchId, LaunchState
from schemas.views import Commanded, LaunchSeen, LaunchWhole

router = APIRouter(prefix="/api/v1/launches", tags=["launches"], dependencies=[authenticated])


def _range(text: str) -> str:
    read_range(text)
    return text


def _as_text(value: Any) -> Any:
    return str(value) if type(value) in (int, float) else value


_Range = Annotated[str, StringConstraints(max_length=40), AfterValidator(_range)]

_RUN = "for this run of the detector, or a range such as 59641..59650"
_STALLED = "only those that go on and of which nothing new was heard for long"


class LaunchesMeant(Meant):
    """Which launches are meant."""

    state: tuple[LaunchState, ...] = Field(default=(), description="in one of these states")
    workflow: Word | None = Field(default=None, description="of this workflow")
    run: tuple[Annotated[_Range, BeforeValidator(_as_text)], ...] = Field(default=(), description=_RUN)
    rule: Word | None = Field(default=None, description="asked for by this rule")
    name: Word | None = Field(default=None, description="whose name holds this")
    stalled: StrictBool = Field(default=False, description=_STALLED)

    def within(self, window: Window) -> LaunchFilter:
        """As the store is asked."""
        since = window.clock() - window.stalled_after if self.stalled else None
        ranges = tuple(map(read_range, self.run))
        return LaunchFilter(self.state, self.workflow, ranges, self.rule, since, self.name)


class Asking(Deed):
    """What is asked of launches."""

    filter: LaunchesMeant | None = Field(default=None, description="all that it leaves")
    command: Command
    step: Word | None = Field(default=None, description="only this step of each; else all that the command fits")
    parameters: dict[Word, Annotated[Word, BeforeValidator(_as_text)]] = Field(
        default={}, description="of a retry, in the engine's words: ramCount and its like"
    )
    memory: Number | None = Field(default=None, description="of a retry: megabytes for each core, from now on")
    force: StrictBool = Field(default=False, description="of a retry: also beside another launch for the same")

    @model_validator(mode="after")
    def _fits_the_command(self) -> Self:
        if self.command is not Command.RETRY and (self.parameters or self.memory is not None or self.force):
            raise ValueError(f"{self.command} takes no parameters, memory or force: only retry does")
        retry_parameters(self.parameters, self.memory)
        return self

    @property
    def ask(self) -> Ask:
        return Ask(self.command, self.step, retry_parameters(self.parameters, self.memory), self.force)


def _filter(
    window: Asked,
    state: Annotated[tuple[LaunchState, ...], Query()] = (),
    workflow: str | None = None,
    run: Annotated[tuple[_Range, ...], Query(description=_RUN)] = (),
    rule: Annotated[str | None, Query(description="asked for by this rule")] = None,
    name: Annotated[str | None, Query(description="whose name holds this")] = None,
    stalled: Annotated[bool, Query(description=_STALLED)] = False,
) -> LaunchFilter:
    asked = LaunchesMeant.model_construct(
        state=state, workflow=workflow, run=run, rule=rule, name=name, stalled=stalled
    )
    return asked.within(window)


Wanted = Annotated[LaunchFilter, Depends(_filter)]


@router.get("", summary="List launches")
def launches(window: Asked, wanted: Wanted, limit: Limit = 50, before: Before = None) -> list[LaunchSeen]:
    """A page of launches, newest first."""
    found = window.store.launches.list(wanted, limit=limit, before=before)
    return [LaunchSeen(**_seen(window, each)) for each in found]


@router.get("/summary", summary="Sum launches up by run")
def summary(
    window: Asked,
    wanted: Wanted,
    limit: Annotated[int, Query(ge=1, le=1000, description="at most so many runs, newest first")] = 50,
    before: Annotated[
        int | None, Query(ge=0, le=2**63 - 1, description="only smaller runs: the page after the one that ended there")
    ] = None,
) -> list[RunSummary]:
    """What the launches for each run of the detector come to, newest runs first."""
    return list(window.store.launches.by_run(wanted, limit=limit, before=before))


@router.post("/commands", summary="Ask something of launches")
def command(window: Asked, person: Person, asking: Asking) -> Commanded:
    """Ask launches to be killed, retried, finished, paused, resumed, or to reload their input.

    It is written down, and carried out by whoever runs muleteer there; `/launches/ID` has the answer then.
    """
    chosen = asking.filter.within(window) if asking.filter is not None else asking.ids
    do = partial(window.store.launch_commands.ask, asking.ask)
    hand = hand_of(window, person, asking)
    seen = looked_at(do, asking, chosen, hand)
    if unknown := seen.stayed.get(UNKNOWN):
        more = f", nor {len(unknown) - 1} others of these" if len(unknown) > 1 else ""
        raise NotFound(f"there is no launch {unknown[0]}{more}; nothing was changed")
    tally = carried_out(do, asking, seen, hand)
    return Commanded(
        **dict(tally.shown(dry_run=asking.dry_run)),
        command=asking.command,
        step=asking.step,
        parameters=dict(asking.ask.parameters or {}),
    )


@router.get("/{id_}", summary="Show a launch")
def launch(window: Asked, id_: Id) -> LaunchWhole:
    """One launch: its steps, what was sent, what was asked of it, everything that happened to it."""
    store = window.store
    found = store.launches.get(LaunchId(id_))
    return LaunchWhole(
        **_seen(window, found),
        commands=tuple(store.launch_commands.of(found.id)),
        heard=tuple(store.job_reports.by_step(found.id)),
        files=tuple(store.launches.files(found.id)),
        tries=tuple(store.launches.tries(found.id)),
        journal=tuple(store.journal.of("launch", id_)),
    )


def _seen(window: Window, launch: Launch) -> dict[str, Any]:
    stalled = is_stalled(launch, window.stalled_after, window.clock())
    return {**dict(launch), "percent": percent(launch.steps), "stalled": stalled}
