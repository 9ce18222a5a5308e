"""What the catalog says happened: the body of one hermes message, read.

Source of the shapes: Rucio 41.5.1, `{"event_type", "payload", "created_at"}`, measured through ActiveMQ.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from schemas.did import Did

#: Every spelling that people and older tools use, and the one Rucio uses on the wire.
SPELLINGS: Mapping[str, str] = {
    "closed": "close",
    "create": "create_dts",
    "created": "create_dts",
    "opened": "open",
    "reopen": "open",
    "reopened": "open",
    "erased": "erase",
}

#: The events that say where a dataset or a container stands in its life.
LIFE_EVENTS = frozenset({"create_dts", "create_cnt", "open", "close", "erase"})


def event_name(spelling: str) -> str:
    """The name Rucio uses for an event: `CLOSE`, `closed` and `close` are all `close`."""
    word = spelling.strip().lower()
    return SPELLINGS.get(word, word)


class CatalogEvent(NamedTuple):
    """One thing that happened to a DID, or to something else that Rucio reports on.

    Not a pydantic model, since `core.message` checks what it is made from, ten thousand times a second.
    """

    #: In Rucio's own spelling; any word is accepted, since Rucio adds new ones.
    event_type: str
    #: None for events that concern no DID.
    did: Did | None
    #: When Rucio wrote the event, UTC, microseconds. The only trustworthy order.
    created_at: datetime
    payload: dict[str, Any]

    @property
    def of_a_life(self) -> bool:
        """Whether this event places its DID in its life: created, opened, closed or erased."""
        return self.did is not None and self.event_type in LIFE_EVENTS


#: What Rucio 41.5.1 was seen to send. It knows more (`transfer-...`, `stagein-...`), and others send what they like.
SEEN_EVENTS = LIFE_EVENTS | {
    "datasetlock_ok",
    "deletion-done",
    "deletion-failed",
    "deletion-not-found",
    "detach",
    "erase_cnt",
    "incomplete",
    "lost",
    "register_cnt",
    "rule_ok",
    "rule_progress",
    "transfer-done",
    "transfer-failed",
    "transfer-queued",
    "transfer-submitted",
}
