"""What may be asked of a launch, when, and what it means for what has not begun."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from schemas.launch import Command as V
from schemas.launch import CommandState as C
from schemas.launch import LaunchCommand
from schemas.launch import LaunchState as L

_WITH_ENGINE: Final = frozenset({L.SUBMITTED, L.RUNNING})

#: Being sent, or perhaps sent: what is asked now is carried out once that is known.
BEING_SENT: Final = frozenset({L.SUBMITTING, L.IN_DOUBT})

#: In which states of a launch a command has a meaning.
FITS: Final[Mapping[V, frozenset[L]]] = {
    V.KILL: frozenset({L.PREPARED, *BEING_SENT, *_WITH_ENGINE}),
    # some steps may have failed for good while others still run
    V.RETRY: frozenset({L.RUNNING, L.PARTLY_FINISHED, L.FAILED, L.KILLED}),
    V.FINISH: _WITH_ENGINE,
    V.PAUSE: _WITH_ENGINE,
    V.RESUME: _WITH_ENGINE,
    V.RELOAD: _WITH_ENGINE,
}

#: Asking twice for one of these is as good as once. A second retry would run again what has just failed again.
HARMLESS_TWICE: Final = frozenset(V) - {V.RETRY}


#: What PanDA calls a task's megabytes for each core.
MEMORY: Final = "ramCount"


class ParametersError(ValueError):
    """The parameters of a retry contradict each other. The text says which."""


def retry_parameters(given: Mapping[str, str], memory: int | None) -> dict[str, str]:
    """The parameters of a retry in the engine's words; `memory` is megabytes for each core.

    Raises:
        ParametersError: the memory is said twice.
    """
    if memory is None:
        return dict(given)
    if MEMORY in given:
        raise ParametersError(f"memory and the parameter {MEMORY} say the same: give one of them")
    return {**given, MEMORY: str(memory)}


@dataclass(frozen=True, slots=True)
class Hold:
    """What was asked of a whole launch, as far as it holds for steps that have not begun."""

    killed: bool = False
    #: Somebody wants it to end with what there is.
    finishing: bool = False
    paused: bool = False
    #: The number of the last retry: what could not be begun before it is tried again.
    retry: int = 0

    @property
    def is_held(self) -> bool:
        """Whether no further step may begin."""
        return self.killed or self.finishing or self.paused


def hold_of(commands: Iterable[LaunchCommand]) -> Hold:
    """What all that was ever asked of a launch, oldest first, comes to.

    What stops counts as soon as it is asked, what lets go on once the engine has taken it.
    """
    hold = Hold()
    for each in commands:
        whole = each.step is None and each.state is not C.REFUSED
        match each.command:
            case V.KILL if whole:
                hold = replace(hold, killed=True)
            case V.FINISH if whole:
                hold = replace(hold, finishing=True)
            case V.PAUSE if whole:
                hold = replace(hold, paused=True)
            case V.RESUME if whole and each.state is C.TAKEN:
                hold = replace(hold, paused=False)
            case V.RETRY if each.state is C.TAKEN:
                # who is killed is not paused as well
                hold = Hold(paused=hold.paused and not hold.killed, retry=each.id)
            case _:
                pass
    return hold
