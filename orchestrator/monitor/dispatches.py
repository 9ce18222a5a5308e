"""Dispatches: looked at, and changed by hand."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from pydantic import Field, StrictBool

from orchestrator.core.by_hand import DispatchVerb
from orchestrator.core.leftovers import forced, in_way_of_another, in_way_of_force, left_behind
from orchestrator.monitor.asking import (
    Asked,
    Because,
    Before,
    Conflict,
    Id,
    Limit,
    Number,
    Person,
    Time,
    Word,
    authenticated,
)
from orchestrator.monitor.deeds import Deed, Meant, carried_out, hand_of, looked_at
from orchestrator.monitor.leftovers import states_in_catalog
from orchestrator.store.by_hand import DispatchFilter
from schemas.dispatch import Dispatch, DispatchId, DispatchState
from schemas.message import MessageId
from schemas.views import Changed, Forced, Redispatched

router = APIRouter(prefix="/api/v1/dispatches", tags=["dispatches"], dependencies=[authenticated])

_CLEANED = "what the earlier launch left behind is cleaned up, or may stay"


class DispatchesMeant(Meant):
    """Which dispatches are meant."""

    state: tuple[DispatchState, ...] = Field(default=(), description="in one of these states")
    rule: Word | None = Field(default=None, description="of this rule")
    since: Time | None = Field(default=None, description="written at or after this time; UTC unless it says so")
    until: Time | None = Field(default=None, description="written before this time; UTC unless it says so")

    def within(self) -> DispatchFilter:
        """As the store is asked."""
        return DispatchFilter(self.state, self.rule, self.since, self.until)


class DispatchDeed(Deed):
    """A change of dispatches."""

    filter: DispatchesMeant | None = Field(default=None, description="all that it leaves")

    @property
    def chosen(self) -> tuple[DispatchId, ...] | DispatchFilter:
        return self.filter.within() if self.filter is not None else tuple(map(DispatchId, self.ids))


class OnceMore(DispatchDeed):
    """Dispatches to be carried out once more."""

    again: StrictBool = Field(default=False, description="even if their launch is finished: make another")
    cleaned: StrictBool = Field(default=False, description=_CLEANED)


class Forcing(Because):
    """A dispatch that was refused for its unique key."""

    id: Number
    cleaned: StrictBool = Field(default=False, description=_CLEANED)
    dry_run: StrictBool = Field(default=False, description="change nothing: only say what would become of it")


@router.get("", summary="List dispatches")
def dispatches(
    window: Asked,
    state: Annotated[tuple[DispatchState, ...], Query()] = (),
    rule: str | None = None,
    message: Annotated[int | None, Query(ge=1, le=2**63 - 1, description="of this message")] = None,
    limit: Limit = 50,
    before: Before = None,
) -> list[Dispatch]:
    """A page of dispatches, newest first."""
    of = MessageId(message) if message is not None else None
    return window.store.dispatches.list(states=state, rule=rule, message_id=of, limit=limit, before=before)


@router.get("/{id_}", summary="Show a dispatch")
def dispatch(window: Asked, id_: Id) -> dict[str, Any]:
    """One dispatch, with every try at it and everything that happened to it."""
    found = window.store.dispatches.get(DispatchId(id_))
    return {
        **found.model_dump(mode="json"),
        "tries": window.store.dispatches.attempts_of(found.id),
        "journal": window.store.journal.of("dispatch", id_),
    }


_VERBS: Final = {
    DispatchVerb.RETRY: "Put failed dispatches back on the list, with a fresh count of tries.",
    DispatchVerb.CANCEL: "Cancel dispatches: ready, waiting, held, failed or refused ones.",
    DispatchVerb.HOLD: "Put dispatches aside that are ready or waiting, until they are released.",
    DispatchVerb.RELEASE: "Put held dispatches back on the list.",
}


def _changing(verb: DispatchVerb) -> Callable[..., Changed]:
    def change(window: Asked, person: Person, deed: DispatchDeed) -> Changed:
        do = partial(window.store.by_hand.dispatches, verb)
        hand = hand_of(window, person, deed)
        tally = carried_out(do, deed, looked_at(do, deed, deed.chosen, hand), hand)
        return tally.shown(dry_run=deed.dry_run)

    return change


for _verb, _said in _VERBS.items():
    _registered = router.post(f"/{_verb}", name=_verb, summary=f"{_verb.capitalize()} dispatches", description=_said)
    _registered(_changing(_verb))


@router.post("/redispatch", summary="Carry dispatches out once more")
def redispatch(window: Asked, person: Person, deed: OnceMore) -> Redispatched:
    """Carry out once more what is done, failed or cancelled.

    A dispatch whose launch failed makes a new launch. While a dataset is in the catalog that the new one would make as
    well, nothing is changed unless `cleaned` says that it may stay.
    """
    by_hand = window.store.by_hand
    do = partial(by_hand.dispatches, DispatchVerb.REDISPATCH, again=deed.again)
    hand = hand_of(window, person, deed)
    seen = looked_at(do, deed, deed.chosen, hand)
    left = by_hand.launches_left(seen.remarked)
    there = states_in_catalog(window.catalog, left)
    shown = left_behind(left, there)
    obstacle = in_way_of_another(left, there, saying="`cleaned`")
    if obstacle is not None and not (deed.cleaned or deed.dry_run):
        more = [each.model_dump(mode="json") for each in shown]
        raise Conflict(f"nothing was changed: {obstacle}", "clean up, or send `cleaned`", left_behind=more)
    tally = carried_out(do, deed, seen, hand)
    return Redispatched(**dict(tally.shown(dry_run=deed.dry_run)), left_behind=shown)


@router.post("/force", summary="Force a refused dispatch")
def force(window: Asked, person: Person, forcing: Forcing) -> Forced:
    """Carry out what was refused for its unique key, instead of the one that has the key.

    Nothing is changed while the first is still going on, nor, unless `cleaned` is said, while a dataset is in the
    catalog that one of its launches was to make.
    """
    by_hand = window.store.by_hand
    seen = by_hand.taken(DispatchId(forcing.id))
    there = states_in_catalog(window.catalog, seen.launches)
    obstacle = in_way_of_force(seen, there, cleaned=forcing.cleaned, saying="`cleaned`")
    if obstacle is not None:
        shown = forced(seen, there, in_the_way=obstacle).model_dump(mode="json")
        raise Conflict(f"nothing was changed: {obstacle}", "see to what is in the way, then ask again", **shown)
    hand = hand_of(window, person, forcing)
    return forced(seen, there, () if forcing.dry_run else by_hand.force(seen, hand))
