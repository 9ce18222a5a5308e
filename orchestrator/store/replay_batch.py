"""What one batch of a replay is made of: messages, what the rules of the replay say of them, and what was done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from orchestrator.core.matching import Joining, Match, Verdict
from orchestrator.core.pacing import Spent
from schemas.message import Message, MessageId

#: A match: message and rule.
MatchKey = tuple[MessageId, str]


class Rejoining(NamedTuple):
    """The waiting rooms that a replay is about, and what all rules in force say of the message."""

    joins: Sequence[Joining]
    live: Verdict


class Judged(NamedTuple):
    """A message with the matches that the replay is about."""

    message: Message
    matches: Sequence[Match]
    #: Why rules that want it cannot be filled in.
    troubles: Sequence[str]
    #: With these matches dispatched, the rules in force have nothing more to say of it.
    settled: bool
    #: If rules of the replay join it with others: what there is to know for putting it back.
    rejoining: Rejoining | None = None

    @property
    def joining(self) -> Sequence[str]:
        """The rules of the replay that join it with others."""
        return [] if self.rejoining is None else [each.rule for each in self.rejoining.joins]


class Hand(NamedTuple):
    """Who writes it down, why and when."""

    why: str
    who: str
    now: datetime


@dataclass(slots=True)
class Batch:
    """What was done with the messages of a batch. `matched` is the sum of `written`, `there` and `refused`."""

    #: Nothing was left for later.
    whole: bool
    #: The last message that was done.
    last: int
    looked_at: int
    spent: Spent
    written: int = 0
    there: int = 0
    refused: int = 0
    #: Why messages could not be put back for waiting rooms, each with one of them.
    kept_out: dict[str, MessageId] = field(default_factory=dict)

    @property
    def matched(self) -> int:
        return self.written + self.there + self.refused
