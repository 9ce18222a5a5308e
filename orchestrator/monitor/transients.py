"""Transient datasets: looked at, planned, released, taken back, called back, extended."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from orchestrator.core.by_hand import Hand, Tally
from orchestrator.core.transient.protection import NotUnderstood
from orchestrator.monitor.asking import (
    Asked,
    Because,
    Conflict,
    Id,
    Number,
    Person,
    Word,
    authenticated,
)
from orchestrator.monitor.deeds import Deed, Meant, carried_out, hand_of, looked_at
from orchestrator.rucio.port import CatalogError
from orchestrator.store.transients import Transients
from schemas.did import Did
from schemas.durations import Duration
from schemas.transient import Plan, Transient, TransientId, TransientState
from schemas.views import Changed

router = APIRouter(prefix="/api/v1/transients", tags=["transients"], dependencies=[authenticated])

#: Rows that are read at a time.
_PAGE = 1000

#: Copies that are shown of one dataset.
_COPIES = 1000


class CatalogAway(Exception):
    """The catalog could not be asked, so nothing was decided."""


class TransientsMeant(Meant):
    """Which of those that are released are meant."""

    policy: Word | None = Field(default=None, description="released under this policy")
    run: Annotated[int, Field(strict=True, ge=0, le=2**63 - 1)] | None = Field(default=None, description="of this run")


class TakingBack(Deed):
    """Releases to be taken back: nothing was done to these datasets yet."""

    filter: TransientsMeant | None = Field(default=None, description="all that is released, and that it leaves")


class Planning(BaseModel):
    """What is looked at."""

    model_config = ConfigDict(extra="forbid")

    policies: tuple[Word, ...] = Field(default=(), description="only what these match; else all")
    most: Number | None = Field(default=None, description="so many are looked at closely; else as the settings say")


class Releasing(Because):
    """A plan to be carried out."""

    plan: Plan = Field(description="what POST /transients/plans answered, as it was")
    expected: Annotated[int, Field(strict=True, ge=1)] = Field(description="how many datasets are released")


class Extending(Because):
    """A dataset that is to stay for longer."""

    dataset: Word = Field(description="scope:name")
    span: Duration = Field(alias="for", gt=timedelta(0), description="so long from now on: 12h, 7d")


@contextmanager
def deciding() -> Iterator[None]:
    """Raises CatalogAway, Conflict."""
    try:
        yield
    except CatalogError as error:
        raise CatalogAway(str(error)) from error
    except NotUnderstood as error:
        said = f"what must stay cannot be understood, so nothing leaves: {error}"
        raise Conflict(said, "mend the settings, or lift the keep that is named") from error


@router.get("", summary="List transient datasets")
def transients(
    window: Asked,
    state: Annotated[tuple[TransientState, ...], Query()] = (),
    policy: str | None = None,
    run: Annotated[int | None, Query(ge=0, le=2**63 - 1, description="of this run of the detector")] = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="at most so many, oldest first")] = 50,
    after: Annotated[int, Query(ge=0, le=2**63 - 1, description="only those with a larger id")] = 0,
) -> list[Transient]:
    """A page of what policies have matched, and where it stands."""
    return list(window.store.transients.list(states=state, policy=policy, run=run, limit=limit, after=after))


@router.get("/summary", summary="Sum transient datasets up")
def summary(window: Asked) -> list[dict[str, Any]]:
    """How many there are in each state, and their bytes, by policy."""
    return [each._asdict() for each in window.store.transients.counts()]


@router.get("/freed", summary="Sum up what has left")
def freed(
    window: Asked,
    days: Annotated[int, Query(ge=1, le=36_500, description="within so many days")] = 30,
    by: Annotated[Literal["day", "policy", "who"], Query(description="summed up by this")] = "day",
) -> list[dict[str, Any]]:
    """What is proved to be gone; what others took away is not in it. `so far`: of datasets that are leaving still."""
    since = window.clock() - timedelta(days=days)
    so_far = window.store.transients.freed_so_far()
    sums = [each._asdict() for each in window.store.transients.freed(since, by)]
    return [*sums, {"key": "so far", **so_far._asdict()}] if so_far.files else sums


@router.post("/plans", summary="Say what may leave")
def plan(window: Asked, person: Person, planning: Planning) -> Plan:
    """Which datasets may leave now, what proves it, and what each frees. Nothing is changed. It may take minutes."""
    with deciding():
        return window.desk().plan(who=person, only=planning.policies or None, most=planning.most)


@router.post("/releases", summary="Release what a plan says")
def release(window: Asked, person: Person, releasing: Releasing) -> list[Transient]:
    """All of the plan, each proved once more, or nothing. In the catalog nothing is done before it leaves."""
    found = len(releasing.plan.releases)
    if found != releasing.expected:
        raise Conflict(
            f"{found:,} would be released, and {releasing.expected:,} were expected: nothing was released",
            "read the plan; if they are meant, send their number as `expected`",
            number=found,
        )
    with deciding():
        return window.desk().release(releasing.plan, who=person, why=releasing.reason)


@router.post("/take-back", summary="Take releases back")
def take_back(window: Asked, person: Person, taking: TakingBack) -> Changed:
    """Hold what was released, while nothing was done to it. Each is kept for a week, whatever policies say."""
    store = window.store.transients
    do = _take_back(store)
    hand = hand_of(window, person, taking)
    seen = looked_at(do, taking, taking.filter if taking.filter is not None else taking.ids, hand)
    return carried_out(do, taking, seen, hand).shown(dry_run=taking.dry_run)


def _take_back(store: Transients) -> Callable[[Sequence[int] | TransientsMeant, Hand], Tally]:
    def do(chosen: Sequence[int] | TransientsMeant, hand: Hand) -> Tally:
        tally = Tally()
        for each in _released(store, chosen) if isinstance(chosen, TransientsMeant) else map(store.get, _ids(chosen)):
            if each.state is TransientState.RELEASED:
                tally.changed.append(each.id)
            else:
                tally.stay(each.id, each.state)
        if tally.changed and not hand.dry_run:
            store.take_back(_ids(tally.changed), who=hand.who, why=hand.why, now=hand.now)
        return tally

    return do


def _ids(ids: Sequence[int]) -> list[TransientId]:
    return [TransientId(id_) for id_ in dict.fromkeys(ids)]


def _released(store: Transients, meant: TransientsMeant) -> Iterator[Transient]:
    after = 0
    states = (TransientState.RELEASED,)
    while page := store.list(states=states, policy=meant.policy, run=meant.run, limit=_PAGE, after=after):
        yield from page
        after = page[-1].id


@router.post("/extend", summary="Let a dataset stay for longer")
def extend(window: Asked, person: Person, extending: Extending) -> Transient:
    """Nothing lets it leave before that. A longer extension than this stands."""
    try:
        did = Did.parse(extending.dataset)
    except ValueError as error:
        raise Conflict(str(error), "write scope:name") from None
    now = window.clock()
    until = now + extending.span
    return window.store.transients.extend(did, until, who=person, why=extending.reason, now=now)


@router.post("/{id_}/recall", summary="Call back what is leaving")
def recall(window: Asked, person: Person, id_: Id, because: Because) -> Transient:
    """As far as it is still there; what has gone does not come again. It may be asked again if it failed half-way."""
    with deciding():
        return window.desk().recall(TransientId(id_), who=person, why=because.reason)


@router.get("/{id_}", summary="Show a transient dataset")
def transient(window: Asked, id_: Id) -> Mapping[str, Any]:
    """What was proved, what stands in its way, its copies, what the catalog told of it, and all that happened."""
    store = window.store.transients
    found = store.get(TransientId(id_))
    return {
        **found.model_dump(mode="json"),
        "other_lives": [each.id for each in store.find(found.did) if each.id != found.id],
        "copies": store.fates(found.id)._asdict(),
        "copies_left": [copy for _, copy in store.copies(found.id, limit=_COPIES, unsettled=True)],
        "events": store.told_of(found.did),
        "journal": window.store.journal.of("transient", id_),
    }
