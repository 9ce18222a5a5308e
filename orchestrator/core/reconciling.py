"""Which closings in the catalog nobody told us of, and the event that stands in for the one that was lost."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from orchestrator.core.settlement import SAME_CLOSING
from schemas.did import Did

#: Rucio's answers are cut to the second.
_CUT: Final = timedelta(seconds=1)

#: Says on the stored frame that no broker brought it.
HEADERS: Final = {"event_type": "close", "reconciled": "true"}


class Closing(NamedTuple):
    """A dataset that the catalog says is closed."""

    did: Did
    closed_at: datetime
    bytes: int
    length: int
    events: int


class Window(NamedTuple):
    """The closings that are compared: from the first moment on, and no later than the second."""

    since: datetime
    until: datetime


def window(mark: datetime | None, now: datetime, *, overlap: timedelta, patience: timedelta) -> Window:
    """What is to be compared now.

    Args:
        mark: up to when it was compared before; None begins now, and looks at nothing that was closed earlier.
        overlap: how far before the mark is looked again, for clocks that differ and transactions that took long.
        patience: how long an event may be under way before it counts as lost.
    """
    until = now - patience
    return Window(until if mark is None else min(mark - overlap, until), until)


def is_known(closing: Closing, life: Iterable[tuple[str, datetime]]) -> bool:
    """Whether an event of that closing is stored, announced or found.

    `life` are the stored events of the dataset's life, and when they happened. A closing within a minute is the same if
    nothing else happened since: the dataset is closed now, so what happened after its last closing is another closing.
    """
    ordered = sorted(life, key=lambda event: event[1])
    closings = [(place, at) for place, (what, at) in enumerate(ordered) if what == "close"]
    if not closings:
        return False
    place, at = closings[-1]
    opened_since = any(what != "close" and then <= closing.closed_at + _CUT for what, then in ordered[place + 1 :])
    return abs(closing.closed_at - at) <= SAME_CLOSING and not opened_since


def body_of(closing: Closing) -> bytes:
    """The event as hermes would have written it.

    Rucio's answers are cut to the second. The event is placed at the end of it: the dataset was closed when it was
    looked at, so whatever else happened to it within that second came before.
    """
    moment = closing.closed_at.astimezone(UTC)
    if moment.microsecond == 0:
        moment = moment.replace(microsecond=999_999)
    counts = {"bytes": closing.bytes, "length": closing.length, "events": closing.events}
    document = {
        "event_type": "close",
        "payload": {"scope": closing.did.scope, "name": closing.did.name, **counts},
        "created_at": f"{moment:%Y-%m-%d %H:%M:%S.%f}",
    }
    return json.dumps(document).encode()
