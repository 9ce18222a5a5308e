"""What follows from an outcome."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.actor import Done, GiveUp, Interrupted, Outcome, Retry, Wait
from orchestrator.core.dispatch import Next, after, after_silence, wait_after
from schemas.dispatch import AttemptOutcome, DispatchState
from schemas.rule import Retry as Policy
from tests.unit.making import NOW, later

POLICY = Policy(attempts=3, delay=timedelta(seconds=10), factor=2.0, longest=timedelta(seconds=30))


@pytest.mark.parametrize(
    ("outcome", "follows"),
    [
        (Done("well"), Next(DispatchState.DONE, AttemptOutcome.DONE, "well")),
        (
            Wait("not yet", timedelta(seconds=5)),
            Next(DispatchState.WAITING, AttemptOutcome.WAIT, "not yet", later(5)),
        ),
        (GiveUp("never"), Next(DispatchState.FAILED, AttemptOutcome.GIVE_UP, "never")),
        (Interrupted("stopped"), Next(DispatchState.READY, AttemptOutcome.INTERRUPTED, "stopped")),
        (Retry("broke"), Next(DispatchState.READY, AttemptOutcome.RETRY, "broke", later(10))),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_outcome_leads_to_its_state(outcome: Outcome, follows: Next) -> None:
    """Done ends it; Wait comes back later; GiveUp fails at once; Interrupted is ready again; Retry waits its turn."""
    assert after(outcome, attempt=1, policy=POLICY, now=NOW) == follows


def test_the_last_attempt_fails_for_good() -> None:
    """Attempts 1 and 2 of 3 are tried again; after the third it has failed, and the reason says so."""
    states = [after(Retry("broke"), attempt=attempt, policy=POLICY, now=NOW) for attempt in (1, 2, 3)]

    assert [each.state for each in states] == [DispatchState.READY, DispatchState.READY, DispatchState.FAILED]
    assert states[2].reason == "broke; all 3 attempts are used up"
    assert states[2].not_before is None


def test_a_single_attempt_is_called_the_only_one() -> None:
    """With one attempt allowed, the first failure is final."""
    follows = after(Retry("broke"), attempt=1, policy=Policy(attempts=1), now=NOW)

    assert (follows.state, follows.reason) == (DispatchState.FAILED, "broke; the only attempt")


def test_waiting_and_giving_up_do_not_count_attempts() -> None:
    """Whatever the count, Wait waits and Interrupted is ready again: neither uses the policy up."""
    assert after(Wait("", timedelta()), attempt=99, policy=POLICY, now=NOW).state is DispatchState.WAITING
    assert after(Interrupted(""), attempt=99, policy=POLICY, now=NOW).state is DispatchState.READY


def test_a_worker_that_vanished_costs_an_attempt() -> None:
    """After silence it is tried again as after a failure: an action that kills its worker must not go on for ever."""
    first = after_silence(attempt=1, policy=POLICY, now=NOW, owner="host:1")
    last = after_silence(attempt=3, policy=POLICY, now=NOW, owner="host:1")

    assert first == Next(
        DispatchState.READY,
        AttemptOutcome.INTERRUPTED,
        "worker host:1 vanished in the middle of attempt 1",
        later(10),
    )
    assert (last.state, last.attempt) == (DispatchState.FAILED, AttemptOutcome.INTERRUPTED)


def test_waits_double_up_to_the_longest() -> None:
    """10 s, 20 s, then 30 s for ever: delay times factor, capped."""
    assert [wait_after(attempt, POLICY).total_seconds() for attempt in (1, 2, 3, 4, 100)] == [10, 20, 30, 30, 30]


policies = st.builds(
    Policy,
    attempts=st.integers(1, 100),
    delay=st.timedeltas(timedelta(), timedelta(days=365)),
    factor=st.floats(1.0, 10.0),
    longest=st.timedeltas(timedelta(), timedelta(days=365)),
)


@settings(deadline=None, max_examples=100)
@given(policies, st.integers(1, 99))
def test_no_wait_is_shorter_than_the_one_before_or_longer_than_the_longest(policy: Policy, attempt: int) -> None:
    """For every policy that a rule may have, waits grow and stay below the cap."""
    one, next_ = wait_after(attempt, policy), wait_after(attempt + 1, policy)

    assert timedelta() <= one <= next_ <= policy.longest
