"""What arrived: looked at, changed by hand, given to rules."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from pydantic import Field, StrictBool

from orchestrator.core.by_hand import MessageVerb
from orchestrator.core.exchange import to_json
from orchestrator.core.giving import NoSuchRule, NotForOne, rule_to_give
from orchestrator.monitor.asking import Asked, Before, Id, Limit, Person, Time, Window, Word, authenticated
from orchestrator.monitor.deeds import Deed, Do, Meant, carried_out, hand_of, looked_at
from orchestrator.store.messages import Filter
from orchestrator.store.port import NotAllowed, NotFound
from schemas.event import event_name
from schemas.message import Message, MessageId, MessageState
from schemas.views import Changed

router = APIRouter(prefix="/api/v1/messages", tags=["messages"], dependencies=[authenticated])

_GLOB = "`*` and `?` match"
_SINCE = "arrived at or after this time; UTC unless it says so"
_UNTIL = "arrived before this time; UTC unless it says so"
_NEAR = "near misses: some rule refused it for this clause alone (scope, runs, a condition's name)"


@router.get("", summary="List messages")
def listed(
    window: Asked,
    state: Annotated[tuple[MessageState, ...], Query()] = (),
    event: str | None = None,
    scope: Annotated[str | None, Query(description=_GLOB)] = None,
    name: Annotated[str | None, Query(description=_GLOB)] = None,
    since: Annotated[Time | None, Query(description=_SINCE)] = None,
    until: Annotated[Time | None, Query(description=_UNTIL)] = None,
    failed_only_on: Annotated[str | None, Query(description=_NEAR)] = None,
    limit: Limit = 50,
    before: Before = None,
) -> list[Message]:
    """A page of messages, newest first."""
    wanted = Filter(
        states=state,
        event=event_name(event) if event is not None else None,
        scope=scope,
        name=name,
        since=since,
        until=until,
        failed_only_on=failed_only_on,
    )
    return window.store.messages.list(wanted, limit=limit, before=before)


@router.get("/{id_}", summary="Show a message")
def shown(window: Asked, id_: Id) -> dict[str, Any]:
    """One message: what arrived, what it started, everything that happened to it."""
    found = window.store.messages.get(MessageId(id_))
    return {
        **json.loads(to_json(found)),
        "dispatches": window.store.dispatches.list(message_id=found.id, limit=1000),
        "journal": window.store.journal.of("message", id_),
    }


class MessagesMeant(Meant):
    """Which messages are meant: the filters of the list."""

    state: tuple[MessageState, ...] = Field(default=(), description="in one of these states")
    event: Word | None = Field(default=None, description="of this event, in either spelling")
    scope: Word | None = Field(default=None, description=_GLOB)
    name: Word | None = Field(default=None, description=_GLOB)
    since: Time | None = Field(default=None, description=_SINCE)
    until: Time | None = Field(default=None, description=_UNTIL)
    failed_only_on: Word | None = Field(default=None, description=_NEAR)

    def within(self) -> Filter:
        """As the store is asked."""
        event = event_name(self.event) if self.event is not None else None
        return Filter(self.state, event, self.scope, self.name, self.since, self.until, self.failed_only_on)


class MessageDeed(Deed):
    """A change of messages."""

    filter: MessagesMeant | None = Field(default=None, description="all that it leaves")
    all: StrictBool = Field(default=False, description="every message there is")

    @property
    def everything(self) -> bool:
        return self.all

    @property
    def chosen(self) -> tuple[MessageId, ...] | Filter:
        if self.ids:
            return tuple(map(MessageId, self.ids))
        return self.filter.within() if self.filter is not None else Filter()

    @classmethod
    def _ways(cls) -> str:
        return "`ids`, or a `filter` that says something, or `all`"


class Giving(MessageDeed):
    """Messages for a rule."""

    rule: Word = Field(description="a rule in force, enabled or not")


_VERBS: Final = {
    MessageVerb.HOLD: "Put pending messages aside: no rule gets them until they are released.",
    MessageVerb.RELEASE: "Have held messages judged again.",
    MessageVerb.DROP: "Put messages away: pending, held or quarantined ones.",
    MessageVerb.REPEND: "Have messages judged again that were dropped or dispatched, by the rules of now. What they "
    "started already stays, and is not started again.",
}


def _changing(verb: MessageVerb) -> Callable[..., Changed]:
    def change(window: Asked, person: Person, deed: MessageDeed) -> Changed:
        return _change(window, person, deed, partial(window.store.by_hand.messages, verb))

    return change


for _verb, _said in _VERBS.items():
    _registered = router.post(f"/{_verb}", name=_verb, summary=f"{_verb.capitalize()} messages", description=_said)
    _registered(_changing(_verb))


@router.post("/dispatch", summary="Dispatch messages to a rule")
def dispatch(window: Asked, person: Person, giving: Giving) -> Changed:
    """Dispatch messages to a rule now, whatever its clauses say about them.

    Its templates must fill, and its unique key must be free. A message that has dispatches of the rule already is left
    alone.
    """
    try:
        rules, rule = rule_to_give(giving.rule, *window.store.rules.in_force(), window.unmatched)
    except NoSuchRule as error:
        raise NotFound(str(error)) from None
    except NotForOne as error:
        raise NotAllowed(str(error)) from None
    return _change(window, person, giving, partial(window.store.by_hand.give, rule, rules))


def _change(window: Window, person: str, deed: MessageDeed, do: Do) -> Changed:
    hand = hand_of(window, person, deed)
    tally = carried_out(do, deed, looked_at(do, deed, deed.chosen, hand), hand)
    return tally.shown(dry_run=deed.dry_run)
