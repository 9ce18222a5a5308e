"""What people do to many at once: which are meant, whether so many are, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StrictBool, model_validator

from orchestrator.core.by_hand import Hand, Tally
from orchestrator.monitor.asking import Because, Conflict, HalfDone, Number, Window
from orchestrator.store.port import NotAllowed, NotFound, StoreError

#: Does something to those of these ids, or to those that a filter leaves.
Do = Callable[[Any, Hand], Tally]

_BY_FILTER = "say how many are meant: ask with dry_run first, then send the `count` that it says as `expected`"


class Meant(BaseModel):
    """A filter. Everything given must hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Deed(Because):
    """A change of those that are named by id, or that a filter leaves."""

    model_config = ConfigDict(frozen=True)

    ids: tuple[Number, ...] = Field(default=(), description="these; or give a filter")
    filter: Meant | None = Field(default=None, description="all that it leaves")
    dry_run: StrictBool = Field(default=False, description="change nothing: only say what would become of each")
    expected: Annotated[int, Field(strict=True, ge=0)] | None = Field(
        default=None, description="how many are to be changed, as a dry run said; if it differs, nothing is changed"
    )

    @property
    def everything(self) -> bool:
        """Whether all that there are were named as such."""
        return False

    @model_validator(mode="after")
    def _says_which(self) -> Self:
        if [bool(self.ids), self.filter is not None, self.everything].count(True) != 1:
            raise ValueError(f"say which are meant: {self._ways()}, one of them")
        if self.filter is not None and self.filter == type(self.filter)():
            raise ValueError(f"an empty filter leaves everything: {self._ways()}")
        if not self.ids and not self.dry_run and self.expected is None:
            raise ValueError(_BY_FILTER)
        return self

    @classmethod
    def _ways(cls) -> str:
        return "`ids`, or a `filter` that says something"


def hand_of(window: Window, person: str, because: Because) -> Hand:
    """Whoever asks, now."""
    return Hand(person, because.reason, window.clock())


def looked_at(do: Do, deed: Deed, chosen: Any, hand: Hand) -> Tally:
    """What would come of it. Raises Conflict: that is not what was expected."""
    seen = do(chosen, replace(hand, dry_run=True))
    found = len(seen.changed)
    if not deed.dry_run and deed.expected is not None and deed.expected != found:
        raise Conflict(
            f"{found:,} would be changed now, and {deed.expected:,} were expected: nothing was changed",
            "ask with dry_run which they are; if they are meant, send the `count` that it says as `expected`",
            number=found,
        )
    return seen


def carried_out(do: Do, deed: Deed, seen: Tally, hand: Hand) -> Tally:
    """Do it to those that were seen: what fits only since then is not what was meant.

    Raises:
        Conflict: those that were named by id all have to stay as they are.
        HalfDone: the store went away, and some may be changed already.
    """
    if deed.dry_run:
        return seen
    done = _done(do, seen.changed, hand) if seen.changed else Tally()
    for why, ids in seen.stayed.items():
        done.stayed.setdefault(why, []).extend(ids)
    done.details = seen.details | done.details
    if deed.ids and not done.changed:
        raise Conflict(
            f"nothing was changed: {_reasons(done)}",
            "look at their state first",
            **done.shown(dry_run=False).model_dump(mode="json"),
        )
    return done


def _done(do: Do, ids: Sequence[int], hand: Hand) -> Tally:
    try:
        return do(ids, hand)
    except (NotFound, NotAllowed):
        raise
    except StoreError as error:  # some thousand at a time are a transaction
        raise HalfDone(str(error)) from error


def _reasons(tally: Tally) -> str:
    return "; ".join(f"{_some(ids)} {'is' if len(ids) == 1 else 'are'} {why}" for why, ids in tally.stayed.items())


def _some(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids[:10])) + (f" and {len(ids) - 10:,} more" if len(ids) > 10 else "")
