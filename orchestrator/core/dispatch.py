"""What follows from an outcome: the next state of a dispatch, and when it is tried again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import assert_never

from orchestrator.core.actor import Done, GiveUp, Interrupted, NotYet, Outcome, Retry, Wait
from schemas.dispatch import AttemptOutcome, DispatchState
from schemas.rule import Retry as RetryPolicy


@dataclass(frozen=True, slots=True)
class Next:
    """Where a dispatch goes after a try."""

    state: DispatchState
    attempt: AttemptOutcome
    reason: str
    not_before: datetime | None = None


def after(outcome: Outcome, *, attempt: int, policy: RetryPolicy, now: datetime) -> Next:
    """What follows from the outcome of the `attempt`-th try (counted from 1)."""
    match outcome:
        case Done(summary):
            return Next(DispatchState.DONE, AttemptOutcome.DONE, summary)
        case Wait(reason, span):
            return Next(DispatchState.WAITING, AttemptOutcome.WAIT, reason, now + span)
        case NotYet(reason, span):
            return Next(DispatchState.READY, AttemptOutcome.WAIT, reason, now + span)
        case GiveUp(reason):
            return Next(DispatchState.FAILED, AttemptOutcome.GIVE_UP, reason)
        case Interrupted(reason):
            return Next(DispatchState.READY, AttemptOutcome.INTERRUPTED, reason)
        case Retry(reason):
            return _retried(reason, AttemptOutcome.RETRY, attempt, policy, now)
        case _:
            assert_never(outcome)


def after_silence(*, attempt: int, policy: RetryPolicy, now: datetime, owner: str) -> Next:
    """What follows when the worker that had it vanished in the middle of the `attempt`-th try."""
    reason = f"worker {owner} vanished in the middle of attempt {attempt}"
    return _retried(reason, AttemptOutcome.INTERRUPTED, attempt, policy, now)


def _retried(reason: str, ended: AttemptOutcome, attempt: int, policy: RetryPolicy, now: datetime) -> Next:
    if attempt >= policy.attempts:
        tries = "the only attempt" if policy.attempts == 1 else f"all {policy.attempts} attempts are used up"
        return Next(DispatchState.FAILED, ended, f"{reason}; {tries}")
    return Next(DispatchState.READY, ended, reason, now + wait_after(attempt, policy))


def wait_after(attempt: int, policy: RetryPolicy) -> timedelta:
    """How long to wait after the `attempt`-th try has failed: each wait longer than the last, up to the longest."""
    # the exponent is bounded by the schema: at most 10.0 ** 99
    seconds = policy.delay.total_seconds() * policy.factor ** (attempt - 1)
    return timedelta(seconds=min(seconds, policy.longest.total_seconds()))
