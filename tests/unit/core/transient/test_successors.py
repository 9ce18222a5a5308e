"""The successor: without one that is there, complete and staying, nothing leaves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from orchestrator.core.states import LAUNCH_ENDED
from orchestrator.core.transient.facts import Facts, Proof, Some, SuccessorFacts, Unknown
from orchestrator.core.transient.policies import CompiledPolicy
from schemas.checks import Finding
from schemas.launch import LaunchState
from schemas.transient import TransientState
from tests.unit.core.transient.making import (
    DAY,
    ENTRY,
    FACTS,
    HITS,
    NOW,
    PROOF,
    SEED,
    SUCCESSOR,
    cheaply,
    checks,
    deeply,
    entry,
    maker,
    policy,
    successor,
    with_successor,
)

AWAY: Any = Unknown("it is away")
MAPS = {"files": "(?P<n>.)", "onto": "(?P<n>.)"}


def other(**changes: Any) -> Facts:
    return replace(FACTS, successor=replace(SUCCESSOR, **changes))


@pytest.mark.parametrize(
    ("compiled", "facts", "check", "said"),
    [
        (policy(), other(entry=None), "successor", "sphenix:DST_SEED-00012345 is not there"),
        (policy(), other(entry=AWAY), "unknown", "its successor sphenix:DST_SEED-00012345 is not known: it is away"),
        (policy(), successor(closed=False), "successor", "is open"),
        (policy(), successor(closed_at=None), "unknown", "when its successor"),
        (policy(), successor(files=0), "successor", "there is no file in"),
        (policy(), successor(expires_at=NOW + 99 * DAY), "successor", "is to be erased itself"),
        (with_successor(age="21d"), FACTS, "successor", "that must be 21d ago"),
        (policy(), successor(closed_at=NOW + DAY), "successor", "that is still to come by our clock"),
        (policy(), successor(closed_at=NOW - 61 * DAY), "successor", "it is what was left of an earlier one"),
        (policy(), successor(closed_at=NOW - 31 * DAY), "successor", "what came later may not be in it"),
        (policy(), other(state=AWAY), "unknown", "leaves itself is not known"),
        (policy(), other(makers=AWAY), "unknown", "which launch made its successor"),
        (with_successor(launched=True), FACTS, "launch", "no launch has made DST_SEED-00012345"),
        (policy(), replace(FACTS, successor=None), "unknown", "was not asked for"),
        (policy(), other(did=HITS), "unknown", "was not asked for"),
        (with_successor(dataset="{scope}:{name}"), other(did=HITS), "successor", "is the dataset itself"),
    ],
)
def test_each_thing_about_a_successor_refuses_by_itself(
    compiled: CompiledPolicy, facts: Facts, check: str, said: str
) -> None:
    """One refusal, which names it."""
    (refusal,) = cheaply(facts, compiled)

    assert refusal.check == check
    assert said in refusal.text


@pytest.mark.parametrize(
    ("compiled", "facts"),
    [
        (with_successor(age="20d"), FACTS),
        (policy(), successor(closed_at=ENTRY.closed_at)),
        (with_successor(same_count=True), successor(closed_at=ENTRY.born_at)),
        (with_successor(same_count=True), successor(closed_at=NOW - 31 * DAY)),
        (with_successor(maps=MAPS), successor(closed_at=NOW - 31 * DAY)),
        (policy(open=True), entry(closed=False, closed_at=None)),
        (with_successor(launched=True), other(makers=(maker(),))),
        (policy(), other(state=TransientState.HELD)),
        (policy(), other(state=TransientState.RELEASABLE)),
    ],
)
def test_what_lets_pass(compiled: CompiledPolicy, facts: Facts) -> None:
    """The same cases on the other side of the border."""
    assert cheaply(facts, compiled) == []


@pytest.mark.parametrize("state", [TransientState.RELEASED, TransientState.LEAVING, TransientState.GONE])
def test_nothing_rests_on_what_leaves_itself(state: TransientState) -> None:
    """In its window of undo, on its way, or gone."""
    (refusal,) = cheaply(other(state=state))

    assert refusal == ("successor", f"sphenix:DST_SEED-00012345 is {state} itself")


@pytest.mark.parametrize("state", LaunchState)
def test_if_a_launch_made_it_that_has_finished(state: LaunchState) -> None:
    """Whatever the policy asks for: half of a successor may look like a whole one."""
    found = cheaply(other(makers=(maker(state=state),)))

    assert checks(found) == ([] if state is LaunchState.FINISHED else ["launch"])


def test_a_launch_that_failed_may_have_been_repeated() -> None:
    """The last one counts, and none may go on."""
    failed, finished, running = (
        maker(launch, state)
        for launch, state in ((5, LaunchState.FAILED), (6, LaunchState.FINISHED), (4, LaunchState.RUNNING))
    )
    assert running.state not in LAUNCH_ENDED

    assert cheaply(other(makers=(failed, finished))) == []
    assert cheaply(other(makers=(finished, failed))) == []
    assert checks(cheaply(other(makers=(finished, failed._replace(launch=7))))) == ["launch"]
    assert checks(cheaply(other(makers=(finished, running)))) == ["launch"]


def test_every_reason_against_a_successor_is_told() -> None:
    """What the catalog says of it, and what we know of it ourselves."""
    facts = replace(
        FACTS,
        successor=SuccessorFacts(
            SEED,
            SUCCESSOR.entry._replace(closed=False, files=0),  # type: ignore[union-attr]  # it is an entry
            TransientState.LEAVING,
            (maker(state=LaunchState.RUNNING),),
        ),
    )

    assert checks(cheaply(facts)) == ["successor", "successor", "successor", "launch"]


# What a look at its files found.


@pytest.mark.parametrize(
    ("compiled", "proof", "check", "said"),
    [
        (policy(), replace(PROOF, successor_files=0), "successor", "there is no file in sphenix:DST_SEED-00012345"),
        (
            with_successor(same_count=True),
            replace(PROOF, successor_files=9),
            "count",
            "sphenix:DST_SEED-00012345 has 9 files, and it has 10",
        ),
        (
            policy(),
            replace(PROOF, findings=(5, (Finding("numbered", "a:b", None, "number 3 is missing"),))),
            "successor",
            "is not complete: number 3 is missing and 4 more",
        ),
        (
            policy(),
            replace(PROOF, findings=(1, (Finding("names", "a:b", "a:f1", "its name is wrong"),))),
            "successor",
            "is not complete: a:f1: its name is wrong",
        ),
        (
            with_successor(maps=MAPS),
            replace(PROOF, unmapped=Some(1, ("f1",))),
            "maps",
            "1 file has not gone into sphenix:DST_SEED-00012345: f1",
        ),
        (
            with_successor(maps=MAPS),
            replace(PROOF, unmapped=Some(4, ("f1", "f2", "f3"))),
            "maps",
            "4 files have not gone into sphenix:DST_SEED-00012345: f1, f2, f3 and 1 more",
        ),
        (policy(), replace(PROOF, findings=AWAY), "unknown", "is complete is not known"),
        (policy(), replace(PROOF, successor_files=AWAY), "unknown", "what is in its successor"),
        (policy(), replace(PROOF, successor_content=AWAY), "unknown", "what is in its successor"),
        (with_successor(maps=MAPS), replace(PROOF, unmapped=AWAY), "unknown", "which files have gone"),
    ],
)
def test_a_successor_that_is_not_complete_refuses(
    compiled: CompiledPolicy, proof: Proof, check: str, said: str
) -> None:
    """One refusal each, with the first few findings and how many more there are."""
    (refusal,) = deeply(proof, compiled)

    assert refusal.check == check
    assert said in refusal.text


@pytest.mark.parametrize(
    ("compiled", "proof"),
    [
        (with_successor(same_count=True), replace(PROOF, successor_files=10)),
        (policy(), replace(PROOF, successor_files=1)),
        (policy(), replace(PROOF, unmapped=AWAY)),
        (with_successor(maps=MAPS), PROOF),
    ],
)
def test_what_is_complete_lets_pass(compiled: CompiledPolicy, proof: Proof) -> None:
    """What a policy does not ask for need not hold, and need not be known."""
    assert deeply(proof, compiled) == []
