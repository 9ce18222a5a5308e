"""What people asked of a launch, as far as it holds for steps that have not begun."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from orchestrator.core.commanding import Hold, ParametersError, hold_of, retry_parameters
from schemas.launch import Command, CommandState, LaunchCommand, LaunchId

KILL, FINISH, PAUSE, RESUME, RETRY = Command.KILL, Command.FINISH, Command.PAUSE, Command.RESUME, Command.RETRY
WANTED, TAKEN, REFUSED = CommandState.WANTED, CommandState.TAKEN, CommandState.REFUSED


def asked(number: int, command: Command, state: CommandState, step: str | None = None) -> LaunchCommand:
    now = datetime(2026, 11, 22, tzinfo=UTC)
    return LaunchCommand(
        id=number, launch_id=LaunchId(1), command=command, step=step, who="me", why=None, state=state, asked_at=now
    )


@pytest.mark.parametrize(
    ("history", "hold"),
    [
        ([], Hold()),
        ([(KILL, WANTED)], Hold(killed=True)),
        ([(FINISH, TAKEN)], Hold(finishing=True)),
        ([(PAUSE, REFUSED), (KILL, REFUSED)], Hold()),
        ([(PAUSE, TAKEN), (RESUME, WANTED)], Hold(paused=True)),
        ([(PAUSE, TAKEN), (RESUME, TAKEN)], Hold()),
        ([(RESUME, TAKEN), (PAUSE, WANTED)], Hold(paused=True)),
        ([(KILL, TAKEN), (RETRY, WANTED)], Hold(killed=True)),
        ([(PAUSE, TAKEN), (KILL, TAKEN), (RETRY, TAKEN)], Hold(retry=3)),
        ([(PAUSE, TAKEN), (RETRY, TAKEN)], Hold(paused=True, retry=2)),
        ([(RETRY, TAKEN), (KILL, TAKEN)], Hold(killed=True, retry=1)),
    ],
)
def test_what_stops_counts_at_once_and_what_goes_on_when_it_is_taken(
    history: list[tuple[Command, CommandState]], hold: Hold
) -> None:
    """In the order in which it was asked."""
    assert hold_of(asked(number, *each) for number, each in enumerate(history, 1)) == hold


def test_what_is_asked_of_one_step_holds_no_other() -> None:
    assert hold_of([asked(1, KILL, TAKEN, "top")]) == Hold()
    assert hold_of([asked(1, KILL, TAKEN), asked(2, RETRY, TAKEN, "top")]) == Hold(retry=2)


def test_memory_is_one_of_a_retrys_parameters() -> None:
    """In the engine's words; said twice, nobody knows which counts."""
    assert retry_parameters({"nCore": "4"}, None) == {"nCore": "4"}
    assert retry_parameters({"nCore": "4"}, 5500) == {"nCore": "4", "ramCount": "5500"}
    assert retry_parameters({"ramCount": "4000"}, None) == {"ramCount": "4000"}
    with pytest.raises(ParametersError, match="give one of them"):
        retry_parameters({"ramCount": "4000"}, 5500)
