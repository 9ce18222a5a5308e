"""Where each event stands in its dataset's life, whatever the order in which the events arrived.

A name lives through *incarnations* (created, erased, created again) and, within one, through *generations* (opened
again after a close). Both follow from the `created_at` of the events alone, because the broker keeps no order: hermes
shuffles each batch. The same set of events therefore always settles in the same way.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final, NamedTuple

#: Only for events of one microsecond: the order in which a dataset can live through them.
_RANK: Final[Mapping[str, int]] = {"create_dts": 0, "create_cnt": 0, "open": 1, "close": 2, "erase": 3}


#: The event of a closing and the catalog's `closed_at` differ by the length of one transaction, and by the second to
#: which the catalog's times are cut.
SAME_CLOSING: Final = timedelta(minutes=1)


class LifeEvent(NamedTuple):
    """One event of a dataset's life, with the key by which the caller knows it."""

    key: str
    event_type: str
    created_at: datetime
    #: A close that nobody announced to us: it was found by looking into the catalog.
    found: bool = False
    #: The number under which it is stored; None if it comes now.
    number: int | None = None


class Place(NamedTuple):
    """Where an event stands."""

    #: Which dataset of that name, from 1.
    incarnation: int
    #: Which life between openings, from 1.
    generation: int
    #: Why a close no longer describes the dataset, in words; None while it does.
    overtaken: str | None


_FIRST: Final = Place(1, 1, None)


def settle(events: Iterable[LifeEvent]) -> dict[str, Place]:
    """Place all known events of one DID.

    What was lost on the way is implied: a close after a close means that it was opened between them; anything but
    another erase after an erase means that the name was created again. A close that was found, and its event that came
    late after all, are one closing: the one that came second is overtaken.
    """
    ordered = sorted(events, key=_moment)
    if len(ordered) == 1 and ordered[0].event_type != "open":  # as most are
        return {ordered[0].key: _FIRST}
    twins = _twins(ordered)
    places = _placed([event for event in ordered if event.key not in twins])
    for key, (other, why) in twins.items():
        places[key] = places[other]._replace(overtaken=why)
    return places


def _twins(ordered: Sequence[LifeEvent]) -> dict[str, tuple[str, str]]:
    """Of each closing that stands twice the one that came second: the key of the other, and why it does not count."""
    twins: dict[str, tuple[str, str]] = {}
    if not any(event.found for event in ordered):
        return twins
    near = [(two.created_at - one.created_at, one, two) for one, two in pairwise(ordered) if _is_same_closing(one, two)]
    paired: set[str] = set()
    for _, one, two in sorted(near, key=lambda pair: pair[0]):
        if not paired & {one.key, two.key}:
            paired |= {one.key, two.key}
            first, second = sorted((one, two), key=_arrival)
            twins[second.key] = (first.key, _SECOND[second.found])
    return twins


#: By whether the second one was found.
_SECOND: Final[Mapping[bool, str]] = {
    False: "this closing was found in the catalog before its event came",
    True: "the event of this closing is there",
}


#: What is said of a closing that is superseded because it is stored already, under another message.
STORED_TWICE: Final = tuple(_SECOND.values())


def _is_same_closing(one: LifeEvent, two: LifeEvent) -> bool:
    if not one.event_type == two.event_type == "close" or one.found == two.found:
        return False
    return two.created_at - one.created_at <= SAME_CLOSING


def _arrival(event: LifeEvent) -> tuple[bool, int, bool]:
    """What is stored came before what comes now; of two that come now, the event counts."""
    return event.number is None, event.number or 0, event.found


def _placed(ordered: Sequence[LifeEvent]) -> dict[str, Place]:
    """Each event once, in the order of time."""
    places: dict[str, Place] = {}
    incarnation, generation = 1, 1
    standing_close: str | None = None
    before: str | None = None
    for event in ordered:
        reborn = before is not None and _is_rebirth(before, event.event_type)
        reopened = event.event_type == "open" or (event.event_type == "close" and standing_close is not None)
        if reborn:
            incarnation, generation = incarnation + 1, 1
        elif reopened:
            generation += 1
        if standing_close is not None and (reborn or reopened or event.event_type == "erase"):
            places[standing_close] = _overtaken(places[standing_close], event, reborn)
            standing_close = None
        places[event.key] = Place(incarnation, generation, None)
        if event.event_type == "close":
            standing_close = event.key
        before = event.event_type
    return places


def _moment(event: LifeEvent) -> tuple[datetime, int, str]:
    return event.created_at, _RANK[event.event_type], event.key


def _is_rebirth(before: str, event_type: str) -> bool:
    return event_type.startswith("create") or (before == "erase" and event_type != "erase")


def _overtaken(place: Place, by: LifeEvent, reborn: bool) -> Place:
    what = {"open": "opened again", "close": "closed again", "erase": "erased"}.get(by.event_type, "created again")
    if reborn:
        what = "created again"
    return Place(place.incarnation, place.generation, f"{what} at {by.created_at:%Y-%m-%d %H:%M:%S.%f} UTC")
