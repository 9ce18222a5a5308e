"""What earlier launches left behind: whether it is in the way of another that is to make the same."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from orchestrator.core.states import LAUNCH_ENDED
from schemas.dispatch import DispatchId, DispatchState
from schemas.launch import LaunchId, LaunchState
from schemas.views import FirstMatch, Forced, LeftBehind, LeftDataset, Standing

#: So many datasets are named one by one.
_NAMED = 5

#: Somebody is at work on it, or may be.
_BUSY = frozenset({DispatchState.RUNNING, DispatchState.IN_DOUBT})


@dataclass(frozen=True, slots=True)
class Left:
    """A launch that a dispatch made, and what it may have left behind."""

    id: LaunchId
    dispatch_id: DispatchId
    name: str
    state: LaunchState
    #: The datasets that it was to make, `scope:name`.
    datasets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Taken:
    """A key that one match asked for and another has."""

    key: str
    #: The dispatch for which somebody asks.
    asked: DispatchId
    #: The match that was refused: message, rule, and those of its dispatches that could be carried out.
    message_id: int
    rule: str
    refused: tuple[DispatchId, ...]
    #: The match that has the key, its dispatches with their states, and the launches that they made.
    first_message_id: int
    first_rule: str
    first: tuple[tuple[DispatchId, DispatchState], ...]
    launches: tuple[Left, ...]

    @property
    def going_on(self) -> str | None:
        """What of the first is not over yet, in words; None if nothing is."""
        busy = [f"dispatch {id_} is {state}" for id_, state in self.first if state in _BUSY]
        busy += [f"launch {each.id} ({each.name}) is {each.state}" for each in self.launches if _with_engine(each)]
        return ", ".join(busy) or None


def _with_engine(launch: Left) -> bool:
    """Of what was only prepared, nothing was sent."""
    return launch.state not in LAUNCH_ENDED and launch.state is not LaunchState.PREPARED


def in_way_of_another(left: Sequence[Left], there: Collection[str], *, saying: str) -> str | None:
    """Why these launches cannot be made once more; None if they can.

    `there` are those of their datasets that are in the catalog; `saying` is how a person says that these may stay. A
    dataset that bears its launch's name is in nobody's way: the new launch has another.
    """
    clashing = {did for each in left for did in each.datasets if did in there and each.name not in did}
    if not clashing:
        return None
    return f"an earlier launch left behind {_listed(clashing)}: clean up, then say so with {saying}"


def in_way_of_force(seen: Taken, there: Collection[str], *, cleaned: bool, saying: str) -> str | None:
    """Why a key cannot change hands for now; None if it can."""
    if seen.going_on is not None:
        return f"the first is still going on: {seen.going_on}"
    if there and not cleaned:
        return f"the first left behind {_listed(there)}: clean up, then say so with {saying}"
    return None


def _listed(dids: Collection[str]) -> str:
    named = sorted(dids)
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    return ", ".join(named[:_NAMED]) + more


def left_behind(left: Sequence[Left], there: Mapping[str, str]) -> tuple[LeftBehind, ...]:
    """As people and programs see it; `there` has the state of each dataset that is in the catalog."""
    return tuple(
        LeftBehind(
            launch=each.id,
            name=each.name,
            dispatch=each.dispatch_id,
            state=each.state,
            datasets=tuple(LeftDataset(did=did, state=there.get(did)) for did in each.datasets),
        )
        for each in left
    )


def forced(
    seen: Taken, there: Mapping[str, str], ready: Sequence[DispatchId] = (), in_the_way: str | None = None
) -> Forced:
    """As people and programs see it."""
    dispatches = tuple(Standing(id=id_, state=state) for id_, state in seen.first)
    return Forced(
        key=seen.key,
        first=FirstMatch(message=seen.first_message_id, rule=seen.first_rule, dispatches=dispatches),
        left_behind=left_behind(seen.launches, there),
        refused=seen.refused,
        ready=tuple(ready),
        in_the_way=in_the_way,
    )
