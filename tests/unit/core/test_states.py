"""What may happen next: the tables themselves. That the store obeys them is in tests/contract/test_store_states.py."""

from __future__ import annotations

from enum import StrEnum

import pytest

from orchestrator.core.states import (
    COMMAND,
    DISPATCH,
    LAUNCH,
    LAUNCH_ENDED,
    MESSAGE,
    REGISTRATION,
    REGISTRATION_FILE,
    REPLAY,
    ROOM,
    TRANSIENT,
    Table,
    before,
    final,
    may_follow,
)
from schemas.dispatch import DispatchState
from schemas.launch import CommandState, LaunchState
from schemas.message import MessageState
from schemas.registration import FileState, RegistrationState
from schemas.replay import ReplayState
from schemas.room import RoomState
from schemas.transient import TransientState

each_table = pytest.mark.parametrize(
    ("table", "states", "first"),
    [
        (MESSAGE, MessageState, {MessageState.PENDING, MessageState.QUARANTINED}),
        (DISPATCH, DispatchState, {DispatchState.READY}),
        (LAUNCH, LaunchState, {LaunchState.PREPARED}),
        (COMMAND, CommandState, {CommandState.WANTED}),
        (REPLAY, ReplayState, {ReplayState.RUNNING}),
        (ROOM, RoomState, {RoomState.OPEN}),
        (REGISTRATION, RegistrationState, {RegistrationState.OPEN}),
        (REGISTRATION_FILE, FileState, {FileState.PLANNED}),
        (TRANSIENT, TransientState, {TransientState.HELD, TransientState.RELEASABLE}),
    ],
    ids=["message", "dispatch", "launch", "command", "replay", "room", "registration", "file", "transient"],
)


@each_table
def test_a_table_says_of_every_state_what_may_follow(table: Table, states: type[StrEnum], first: set[StrEnum]) -> None:
    """No state is missing from its table, and nothing but states of its kind follows one."""
    assert set(table) == set(states)
    assert frozenset().union(*table.values()) <= set(states)


@each_table
def test_every_state_can_be_reached(table: Table, states: type[StrEnum], first: set[StrEnum]) -> None:
    """From the states in which things are made, each other state is some steps away."""
    reached: set[StrEnum] = set(first)
    while more := {after for state in reached for after in table[state]} - reached:
        reached |= more

    assert reached == set(states)


@each_table
def test_nothing_follows_itself(table: Table, states: type[StrEnum], first: set[StrEnum]) -> None:
    """A change is a change: the journal never holds one from a state to itself."""
    assert not [state for state in states if may_follow(table, state, state)]


def test_what_has_ended_stays_ended() -> None:
    """These are the states that nothing follows. A dispatch can always be carried out once more, by a person."""
    assert final(MESSAGE) == {MessageState.SUPERSEDED}
    assert final(DISPATCH) == set()
    assert final(LAUNCH) == {LaunchState.FINISHED}
    assert final(COMMAND) == {CommandState.TAKEN, CommandState.REFUSED}
    assert final(REPLAY) == {ReplayState.DONE}
    assert final(ROOM) == {RoomState.DISPATCHED, RoomState.DROPPED}
    assert final(TRANSIENT) == set()  # what was said to have vanished may be seen again
    assert TRANSIENT[TransientState.GONE] == {TransientState.HELD}


def test_nothing_leaves_but_through_the_time_in_which_it_can_be_taken_back() -> None:
    """Whoever wants it gone: first it is released, and only what is released may begin to leave."""
    assert before(TRANSIENT, TransientState.LEAVING) == {TransientState.RELEASED}
    assert may_follow(TRANSIENT, TransientState.RELEASED, TransientState.HELD)


def test_a_launch_that_has_ended_runs_again_or_stays_as_it_is() -> None:
    """A person has what failed retried; what finished well is never touched."""
    assert final(LAUNCH) < LAUNCH_ENDED
    assert {after for state in LAUNCH_ENDED for after in LAUNCH[state]} == {LaunchState.RUNNING}


def test_a_launch_in_doubt_is_never_simply_sent_again() -> None:
    """Between a doubt and another try lies `prepared`: the name has been looked up, and nothing was there."""
    assert not may_follow(LAUNCH, LaunchState.IN_DOUBT, LaunchState.SUBMITTING)
    assert may_follow(LAUNCH, LaunchState.IN_DOUBT, LaunchState.PREPARED)


@each_table
def test_what_may_stand_before_a_state(table: Table, states: type[StrEnum], first: set[StrEnum]) -> None:
    """The table read backwards: exactly the states from which a step leads there."""
    assert {(source, target) for target in states for source in before(table, target)} == {
        (source, target) for source in states for target in states if may_follow(table, source, target)
    }
