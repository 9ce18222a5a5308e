"""Whether what has failed is retried by policy: a table of cases, and what holds for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.commanding import MEMORY
from orchestrator.core.failures import Table
from orchestrator.core.retry_steps import ALONG, WHO
from orchestrator.core.retrying import Decision, Later, Retried, Stays, Wanted, decide
from schemas.failure import Complaint, Entry, FailedJob, Source
from schemas.failure_class import FailureClass as F
from schemas.launch import (
    Command,
    CommandState,
    Launch,
    LaunchCommand,
    LaunchId,
    LaunchState,
    StepProgress,
    StepState,
)
from schemas.retry import RetryPolicy, StepRetry
from tests.unit.making import NOW

#: Each class has a code of its own.
CODES: dict[F, int] = {class_: number for number, class_ in enumerate(F, start=1) if class_ is not F.UNKNOWN}
TABLE = Table(
    [
        Entry.model_validate({"code": code, "class": class_, "means": "it went wrong", "action": "look"})
        for class_, code in CODES.items()
    ]
)

AFTER = timedelta(minutes=5)
DUE = NOW + AFTER
POLICY = StepRetry(attempts=2, classes=(F.TRANSIENT, F.SITE, F.MEMORY), memory=1.5, most_memory=5000, after=AFTER)


def job(step: str, class_: F, *, memory: int | None = 2000, at: datetime | None = NOW) -> FailedJob:
    complaint = Complaint(Source.PILOT, CODES.get(class_, 99), "said so")
    return FailedJob(step=step, task=1, job=7, complaints=(complaint,), memory=memory, at=at)


def launch(*steps: StepProgress, state: LaunchState = LaunchState.FAILED, reference: str | None = "r") -> Launch:
    given = {"key": "k", "name": "n", "workflow": "w", "engine": "e", "parameters": {}, "inputs": {}, "outputs": {}}
    told: dict[str, Any] = {"dispatch_id": None, "reference": reference, "reason": None, "created_at": NOW}
    return Launch.model_validate({"id": 12, **given, **told, "state": state, "steps": steps, "updated_at": NOW})


def step(name: str, state: StepState = StepState.FAILED, task: int | None = 1) -> StepProgress:
    return StepProgress(name=name, state=state, task=task)


TWO = launch(step("combine"), step("reco"))


def policy(**steps: StepRetry) -> RetryPolicy:
    return RetryPolicy(steps=steps or {"combine": POLICY, "reco": POLICY})


CHAIN = policy(combine=POLICY, reco=POLICY.model_copy(update={"reads": ("combine",)}))


def command(
    verb: Command = Command.RETRY,
    *,
    step: str | None = None,
    who: str = WHO,
    state: CommandState = CommandState.TAKEN,
    why: str = "1 job failed",
    parameters: Mapping[str, str] | None = None,
    attempt_of: Sequence[str] = (),
) -> LaunchCommand:
    settled = None if state is CommandState.WANTED else NOW
    given = {"command": verb, "parameters": parameters or {}, "step": step, "who": who, "why": why, "state": state}
    moments = {"asked_at": NOW - AFTER, "settled_at": settled}
    return LaunchCommand.model_validate(
        {"id": 1, "launch_id": LaunchId(12), **given, **moments, "attempt_of": tuple(attempt_of)}
    )


def decided(
    *failed: FailedJob,
    of: Launch = TWO,
    by: RetryPolicy | None = None,
    commands: Sequence[LaunchCommand] = (),
    now: datetime = DUE,
    by_step: bool = True,
) -> Decision:
    return decide(of, by or policy(), failed, TABLE, commands, now, by_step=by_step)


def wanted(decision: Decision) -> tuple[Wanted, ...]:
    assert isinstance(decision, Retried), decision
    return decision.wanted


def why(decision: Decision) -> str:
    assert isinstance(decision, Stays), decision
    return decision.why


def test_what_passes_by_itself_is_retried_and_the_reason_names_classes_and_counts() -> None:
    (only,) = wanted(decided(job("reco", F.SITE), job("reco", F.TRANSIENT), job("reco", F.SITE)))

    assert only == Wanted("reco", {}, "3 jobs failed (2 site, 1 transient), retry 1 of 2")


def test_what_failed_of_memory_gets_more_by_the_factor() -> None:
    (only,) = wanted(decided(job("reco", F.MEMORY)))

    assert (only.step, only.parameters) == ("reco", {MEMORY: "3000"})


@pytest.mark.parametrize(
    ("had", "asked", "given", "expected"),
    [
        (1100, None, None, "1650"),
        (1001, None, None, "1502"),
        (2000, "3000", None, "4500"),  # the engine tells what it was at first
        (None, None, 1000, "1500"),  # it tells nothing, the document does
        (4000, None, None, "5000"),  # no further than the policy lets it
    ],
)
def test_memory_grows_from_the_most_that_is_known(
    had: int | None, asked: str | None, given: int | None, expected: str
) -> None:
    before = [] if asked is None else [command(step="reco", who="cli:me", parameters={MEMORY: asked})]
    by = policy(reco=POLICY.model_copy(update={"given": given}))

    (only,) = wanted(decided(job("reco", F.MEMORY, memory=had), by=by, commands=before))

    assert only.parameters == {MEMORY: expected}


def test_with_no_more_memory_to_give_there_is_no_retry() -> None:
    """But for what failed of something else, with as much as before."""
    assert "it had 5000 MB, and may have no more than 5000" in why(decided(job("reco", F.MEMORY, memory=5000)))
    (only,) = wanted(decided(job("reco", F.MEMORY, memory=5000), job("reco", F.SITE)))
    assert only.parameters == {}


def test_memory_of_which_nothing_is_known_does_not_grow() -> None:
    assert "say memory in the step's panda" in why(decided(job("reco", F.MEMORY, memory=None)))


def test_an_engine_without_memory_retries_all_the_same() -> None:
    (only,) = wanted(decided(job("reco", F.MEMORY, memory=None), by_step=False))

    assert (only.step, only.parameters) == ("reco", {})


def test_what_its_classes_do_not_name_is_left_and_that_is_said() -> None:
    said = why(decided(job("reco", F.PAYLOAD), job("reco", F.PAYLOAD), job("reco", F.PAYLOAD)))

    assert said == "reco: 3 jobs failed of class payload, which is not retried"


def test_of_two_steps_only_the_one_that_may_is_retried() -> None:
    """Its reason says why the other is not."""
    (only,) = wanted(decided(job("combine", F.SITE), job("reco", F.PAYLOAD), job("reco", F.UNKNOWN)))

    assert only.step == "combine"
    assert only.why.endswith("; not reco: 2 jobs failed of classes payload (1), unknown (1), which is not retried")


def test_one_job_of_a_class_that_is_retried_is_enough_for_its_step() -> None:
    assert [each.step for each in wanted(decided(job("reco", F.PAYLOAD), job("reco", F.TRANSIENT)))] == ["reco"]


def test_after_its_attempts_a_step_stays_failed() -> None:
    """Each step has its own; of whatever the engine refused nobody knows, so it counts."""
    two = [command(step="reco"), command(step="reco", state=CommandState.REFUSED)]

    assert "reco: 1 job failed of class site, after 2 of 2 retries" in why(
        decided(job("reco", F.SITE), commands=two, now=DUE)
    )
    assert [each.step for each in wanted(decided(job("combine", F.SITE), commands=two))] == ["combine"]


def test_what_people_retry_and_what_went_along_is_not_counted() -> None:
    before = [command(who="cli:me"), command(step="reco", who="cli:me"), command(step="reco", why=f"{ALONG}because")]

    (only,) = wanted(decided(job("reco", F.SITE), commands=before))

    assert only.why.endswith("retry 1 of 2")


def test_a_retry_of_a_whole_launch_is_an_attempt_of_the_steps_that_had_failed() -> None:
    """What failed for the first time after it has all of its own."""
    three = launch(step("combine"), step("reco"), step("merge"))
    by = policy(combine=POLICY, reco=POLICY, merge=POLICY)
    first = wanted(decided(job("combine", F.SITE), job("reco", F.SITE), of=three, by=by, by_step=False))
    before = [command(attempt_of=each.attempt_of) for each in first * 2]

    (late,) = wanted(decided(job("merge", F.SITE), of=three, by=by, commands=before, by_step=False))

    assert (late.step, late.why) == ("merge", "1 job failed (1 site), retry 1 of 2")
    assert "reco: 1 job failed of class site, after 2 of 2 retries" in why(
        decided(job("reco", F.SITE), of=three, by=by, commands=before, by_step=False)
    )


def test_only_what_failed_since_the_last_retry_is_judged() -> None:
    """Engines tell of all jobs that ever failed. If nothing failed since, of all of them."""
    before = NOW - 2 * AFTER
    lately = [job("reco", F.PAYLOAD), job("reco", F.MEMORY, at=before)]

    assert "1 job failed of class payload" in why(decided(*lately, commands=[command(step="reco")]))
    assert isinstance(decided(job("reco", F.MEMORY, at=before), commands=[command(step="reco")]), Retried)


@pytest.mark.parametrize("verb", [Command.KILL, Command.FINISH])
def test_what_a_person_has_stopped_is_not_retried(verb: Command) -> None:
    """Nor one step that he stopped; until he has it retried himself."""
    whole, one = command(verb, who="cli:me"), command(verb, who="cli:me", step="reco")
    again = command(who="cli:me")

    assert why(decided(job("reco", F.SITE), commands=[whole])) == f"cli:me asked to {verb} it"
    assert why(decided(job("reco", F.SITE), commands=[one])) == f"reco: cli:me asked to {verb} it"
    for stopped in (whole, one):
        assert isinstance(decided(job("reco", F.SITE), commands=[stopped, again]), Retried)
    refused = whole.model_copy(update={"state": CommandState.REFUSED})
    assert isinstance(decided(job("reco", F.SITE), commands=[refused]), Retried)


def test_a_retry_that_is_still_to_be_carried_out_is_waited_for() -> None:
    pending = [command(who="cli:me", state=CommandState.WANTED)]

    assert isinstance(decided(job("reco", F.SITE), commands=pending), Later)


def test_it_waits_as_long_as_the_policy_says() -> None:
    """The longest of the steps that are retried; after a retry that was refused, from then on."""
    slow = POLICY.model_copy(update={"after": timedelta(hours=1)})
    by = policy(combine=slow, reco=POLICY)
    refused = command(step="reco", state=CommandState.REFUSED).model_copy(update={"settled_at": DUE})

    assert decided(job("reco", F.SITE), now=DUE - timedelta(seconds=1)) == Later(DUE)
    assert decided(job("reco", F.SITE), job("combine", F.SITE), by=by) == Later(NOW + timedelta(hours=1))
    assert isinstance(decided(job("reco", F.SITE), job("combine", F.PAYLOAD), by=by), Retried)
    assert decided(job("reco", F.SITE), commands=[refused]) == Later(DUE + AFTER)


def test_a_launch_that_never_reached_its_engine_stays() -> None:
    assert "never reached" in why(decided(of=launch(reference=None)))


def test_where_nothing_has_failed_there_is_nothing_to_retry() -> None:
    """Its outputs could not be registered, say."""
    assert why(decided()) == "no step of it has failed"


def test_what_stopped_because_another_failed_goes_on_with_it() -> None:
    """After it, without its memory, and at no cost of its own attempts."""
    of = launch(step("combine"), step("reco", StepState.KILLED))

    first, second = wanted(decided(job("combine", F.MEMORY), job("reco", F.OURS), of=of, by=CHAIN))

    assert (first.step, first.parameters) == ("combine", {MEMORY: "3000"})
    assert (second.step, second.parameters) == ("reco", {})
    assert second.why == f"{ALONG}it was killed because combine had failed"


def test_what_never_began_needs_no_retry_to_go_on() -> None:
    of = launch(step("combine"), step("reco", StepState.WAITING, task=None))

    assert [each.step for each in wanted(decided(job("combine", F.SITE), of=of, by=CHAIN))] == ["combine"]


def test_what_failed_by_itself_does_not_go_along() -> None:
    of = launch(step("combine"), step("reco", StepState.KILLED))

    found = wanted(decided(job("combine", F.SITE), job("reco", F.OURS), job("reco", F.PAYLOAD), of=of, by=CHAIN))

    assert [each.step for each in found] == ["combine"]


def test_nobody_goes_along_with_what_is_not_retried() -> None:
    of = launch(step("combine"), step("reco", StepState.KILLED))

    said = why(decided(job("combine", F.PAYLOAD), job("reco", F.OURS), of=of, by=CHAIN))

    assert said.startswith("combine: 1 job failed of class payload, which is not retried; reco: 1 job failed")


def test_an_engine_that_retries_what_has_ended_is_asked_once() -> None:
    """For all if all may be retried, else for one step; the others are decided about once that has ended."""
    all_ = wanted(decided(job("combine", F.SITE), job("reco", F.SITE), by_step=False))
    three = launch(step("combine"), step("reco"), step("merge"))
    by = policy(combine=POLICY, reco=POLICY, merge=POLICY)
    jobs = (job("combine", F.SITE), job("reco", F.SITE), job("merge", F.PAYLOAD))
    some = wanted(decided(*jobs, of=three, by=by, by_step=False))

    assert [each.step for each in all_] == [None]
    assert all_[0].why == "combine: 1 job failed (1 site), retry 1 of 2; reco: 1 job failed (1 site), retry 1 of 2"
    assert [each.step for each in some] == ["combine"]


# What holds for all.

classes = st.sampled_from(list(F))
jobs = st.lists(
    st.builds(job, st.sampled_from(["combine", "reco"]), classes, memory=st.none() | st.integers(1, 9000)), max_size=6
)
retries = st.builds(
    command,
    st.sampled_from([Command.RETRY, Command.RETRY, Command.RETRY, Command.KILL, Command.FINISH]),
    step=st.none() | st.sampled_from(["combine", "reco"]),
    who=st.sampled_from([WHO, "cli:me"]),
    state=st.sampled_from(list(CommandState)),
    attempt_of=st.sampled_from([(), (), ("combine",), ("combine", "reco")]),
)
policies = st.builds(
    StepRetry,
    attempts=st.integers(0, 3),
    classes=st.lists(classes, unique=True).map(tuple),
    memory=st.none() | st.floats(1.01, 10),
    most_memory=st.none() | st.integers(1, 9000),
    after=st.sampled_from([timedelta(0), AFTER]),
)


@settings(max_examples=300, deadline=None)
@given(jobs, policies, policies, st.lists(retries, max_size=4), st.booleans())
def test_whatever_has_happened_the_policy_is_kept(
    failed: list[FailedJob], combine: StepRetry, reco: StepRetry, commands: list[LaunchCommand], by_step: bool
) -> None:
    """Nothing but what failed of a class that it names, no more often than it says, with more memory or as before."""
    by = RetryPolicy(steps={"combine": combine, "reco": reco})

    decision = decided(*failed, by=by, commands=commands, now=NOW + timedelta(days=1), by_step=by_step)

    assert decision == decided(*failed, by=by, commands=commands, now=NOW + timedelta(days=1), by_step=by_step)
    if not isinstance(decision, Retried):
        return
    assert all(each.state is not CommandState.WANTED for each in commands if each.command is Command.RETRY)
    for one in decision.wanted:
        for name in ("combine", "reco") if one.step is None else (one.step,):
            mine = [each for each in failed if each.step == name]
            kept = by.steps[name]
            asked = [c for c in commands if c.command is Command.RETRY and c.who == WHO and c.step in (None, name)]
            attempts = [each for each in asked if not each.attempt_of or name in each.attempt_of]
            if mine:
                assert {TABLE.meaning(each).class_ for each in mine} & set(kept.classes)
                assert len(attempts) < kept.attempts
            if MEMORY in one.parameters:
                assert by_step and int(one.parameters[MEMORY]) <= (kept.most_memory or 90_000)
                assert int(one.parameters[MEMORY]) > max((each.memory or 0 for each in mine), default=0)


@settings(deadline=None)
@given(jobs.filter(bool), policies)
def test_however_often_it_fails_it_comes_to_an_end(failed: list[FailedJob], one: StepRetry) -> None:
    """The policy asks no more often for a step than it says, and then the launch stays as it is."""
    by = RetryPolicy(steps={"combine": one, "reco": one})
    commands: list[LaunchCommand] = []
    for _ in range(2 * one.attempts + 1):
        decision = decided(*failed, by=by, commands=commands, now=NOW + timedelta(days=1))
        if not isinstance(decision, Retried):
            break
        commands += [command(step=each.step, why=each.why, parameters=each.parameters) for each in decision.wanted]

    assert isinstance(decision, Stays)
