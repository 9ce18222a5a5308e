"""What is remembered of datasets that leave, between two looks at them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime

from schemas.transient import Transient, TransientId


@dataclass
class Memory:
    """What was learned by asking for things. It saves calls; after a restart it is learned again."""

    #: RSEs at which our account may not mark copies.
    may_not_mark: set[str] = field(default_factory=set)
    #: Copies that the catalog refused to mark since a rule holds them, by dataset and RSE.
    held: dict[tuple[TransientId, str], int] = field(default_factory=dict)
    #: When a rule was made so that it ends, by dataset and RSE.
    ending: dict[tuple[TransientId, str], datetime] = field(default_factory=dict)
    #: After how many calls rules of ours were made over all that was left, and whether the dataset was there: one on it
    #: goes with it. By dataset and RSE.
    secured: dict[tuple[TransientId, str], tuple[int, bool]] = field(default_factory=dict)

    #: How often each was looked at.
    looks: Counter[TransientId] = field(default_factory=Counter)
    #: When each began to leave.
    since: dict[TransientId, datetime | None] = field(default_factory=dict)

    def begin(self, transient: Transient) -> None:
        """What was learned when it left before does not hold any more: somebody has called it back since."""
        if self.since.get(transient.id) != transient.leaving_at:
            self.forget(transient.id)
            self.since[transient.id] = transient.leaving_at

    def forget(self, id_: TransientId) -> None:
        self.looks.pop(id_, None)
        self.since.pop(id_, None)
        for kept in (self.held, self.ending, self.secured):
            for key in [key for key in kept if key[0] == id_]:
                del kept[key]
