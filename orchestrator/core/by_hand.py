"""What a person may do to messages and dispatches: which verb leads from which state where, and what it did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from orchestrator.core.states import LAUNCH_ENDED
from schemas.dispatch import DispatchState as D
from schemas.launch import LaunchState as L
from schemas.message import MessageState as M
from schemas.views import Changed, Those


class MessageVerb(StrEnum):
    """What can be done to messages."""

    HOLD = "hold"
    RELEASE = "release"
    DROP = "drop"
    REPEND = "repend"


class DispatchVerb(StrEnum):
    """What can be done to dispatches."""

    RETRY = "retry"
    CANCEL = "cancel"
    HOLD = "hold"
    RELEASE = "release"
    REDISPATCH = "redispatch"


MESSAGE_STEPS: Final[Mapping[MessageVerb, Mapping[M, M]]] = {
    MessageVerb.HOLD: {M.PENDING: M.HELD},
    MessageVerb.RELEASE: {M.HELD: M.PENDING},
    MessageVerb.DROP: {M.PENDING: M.DROPPED, M.HELD: M.DROPPED, M.QUARANTINED: M.DROPPED},
    MessageVerb.REPEND: {M.DROPPED: M.PENDING, M.DISPATCHED: M.PENDING},
}

DISPATCH_STEPS: Final[Mapping[DispatchVerb, Mapping[D, D]]] = {
    DispatchVerb.RETRY: {D.FAILED: D.READY},
    DispatchVerb.CANCEL: dict.fromkeys((D.READY, D.WAITING, D.FAILED, D.HELD, D.REFUSED), D.CANCELLED),
    DispatchVerb.HOLD: {D.READY: D.HELD, D.WAITING: D.HELD},
    DispatchVerb.RELEASE: {D.HELD: D.READY},
    DispatchVerb.REDISPATCH: dict.fromkeys((D.DONE, D.FAILED, D.CANCELLED), D.READY),
}

#: From where a person may give a message to a rule. One that was dispatched already stays where it is.
GIVEN_FROM: Final = frozenset({M.PENDING, M.HELD, M.DROPPED, M.DISPATCHED})


@dataclass(frozen=True, slots=True)
class Hand:
    """Who does it, why and when."""

    who: str
    why: str
    now: datetime
    #: Change nothing: only say what would become of each.
    dry_run: bool = False


@dataclass(slots=True)
class Tally:
    """What came of it, row by row."""

    #: The ids of what was changed, or would be.
    changed: list[int] = field(default_factory=list)
    #: The ids of what stays as it is, by the reason: "dispatched" (already), say.
    stayed: dict[str, list[int]] = field(default_factory=dict)
    #: Of those that were changed, the ids of those about which there is something to say, by what that is.
    remarks: dict[str, list[int]] = field(default_factory=dict)
    #: More about one of them, by id.
    details: dict[int, str] = field(default_factory=dict)

    def stay(self, id_: int, why: str, detail: str | None = None) -> None:
        self.stayed.setdefault(why, []).append(id_)
        if detail is not None:
            self.details[id_] = detail

    def remark(self, id_: int, what: str, detail: str | None = None) -> None:
        self.remarks.setdefault(what, []).append(id_)
        if detail is not None:
            self.details[id_] = detail

    @property
    def remarked(self) -> list[int]:
        """The ids of those about which there is something to say."""
        return sorted(id_ for ids in self.remarks.values() for id_ in ids)

    def shown(self, *, dry_run: bool) -> Changed:
        """As people and programs see it."""
        return Changed(
            dry_run=dry_run,
            count=len(self.changed),
            changed=tuple(self.changed),
            stayed=_those(self.stayed),
            remarks=_those(self.remarks),
            details=self.details,
        )


def _those(groups: Mapping[str, list[int]]) -> tuple[Those, ...]:
    return tuple(Those(why=why, ids=tuple(ids)) for why, ids in groups.items())


#: Launches that an engine has and that have not ended. Of what was only prepared, nothing was sent; what is in doubt is
#: looked up by its name before anything else is done.
WITH_ENGINE: Final = frozenset({L.SUBMITTED, L.RUNNING})


#: The actor whose dispatches make launches.
LAUNCHES: Final = "launch"


def in_the_way(state: L | None, *, again: bool) -> str | None:
    """Why a dispatch whose newest launch stands so cannot be carried out once more; None if it can."""
    if state in WITH_ENGINE:
        return "waiting for their launch to end"
    if state is L.FINISHED and not again:
        return "well done already: their launch is finished, and --again makes another"
    return None


def begins_a_round(state: L | None, *, again: bool) -> bool:
    """Whether another launch is to be made: the newest has ended. Without an end, the same one is carried on.

    A dispatch may have no launch because somebody else's has its name; `again` then asks for one of another name.
    """
    return state in LAUNCH_ENDED or (state is None and again)
