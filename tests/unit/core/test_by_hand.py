"""What people may do: the verbs and the steps they take."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import pytest

from orchestrator.core.by_hand import (
    DISPATCH_STEPS,
    GIVEN_FROM,
    MESSAGE_STEPS,
    DispatchVerb,
    MessageVerb,
    begins_a_round,
    in_the_way,
)
from orchestrator.core.states import DISPATCH, LAUNCH_ENDED, MESSAGE, Table, may_follow
from schemas.dispatch import DispatchState
from schemas.launch import LaunchState
from schemas.message import MessageState


@pytest.mark.parametrize(
    ("verbs", "steps", "table"),
    [(MessageVerb, MESSAGE_STEPS, MESSAGE), (DispatchVerb, DISPATCH_STEPS, DISPATCH)],
    ids=["messages", "dispatches"],
)
def test_every_verb_takes_steps_that_the_table_lists(
    verbs: type[StrEnum], steps: Mapping[StrEnum, Mapping[StrEnum, StrEnum]], table: Table
) -> None:
    """None is without a step, and none of them would be refused by the store."""
    assert set(steps) == set(verbs)
    for verb, taken in steps.items():
        assert taken
        assert [(verb, *step) for step in taken.items() if not may_follow(table, *step)] == []


def test_what_a_person_may_give_to_a_rule_may_become_dispatched() -> None:
    """From each state but that itself; what was overtaken or cannot be read is not given."""
    others = GIVEN_FROM - {MessageState.DISPATCHED}

    assert all(may_follow(MESSAGE, state, MessageState.DISPATCHED) for state in others)
    assert set(MessageState) - GIVEN_FROM == {MessageState.SUPERSEDED, MessageState.QUARANTINED}


def test_what_a_worker_has_is_out_of_a_persons_reach() -> None:
    """No verb touches a dispatch that is running, or that nobody knows about."""
    touched = {state for steps in DISPATCH_STEPS.values() for state in steps}

    assert set(DispatchState) - touched == {DispatchState.RUNNING, DispatchState.IN_DOUBT}


def test_a_dispatch_without_a_launch_gets_one_of_another_name_if_that_is_asked_for() -> None:
    """It has none because another has the name, perhaps; else trying once more carries on with the same."""
    assert begins_a_round(None, again=True)
    assert not begins_a_round(None, again=False)


@pytest.mark.parametrize("state", LaunchState)
def test_two_launches_of_a_dispatch_never_go_on_together(state: LaunchState) -> None:
    """A new round begins after an end alone, and while an engine has the launch nothing begins, whatever is asked."""
    allowed = in_the_way(state, again=True) is None

    assert begins_a_round(state, again=True) == begins_a_round(state, again=False) == (state in LAUNCH_ENDED)
    assert allowed == (state not in (LaunchState.SUBMITTED, LaunchState.RUNNING))
