"""Whether a dataset may leave, by its policy: each case differs from one that may in one thing only."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

import pytest

from orchestrator.core.transient.facts import Facts, Proof, Some, Unknown
from orchestrator.core.transient.judging import due_at, judged
from orchestrator.core.transient.policies import CompiledPolicy
from schemas.did import Did
from schemas.transient import CopiesAt, Refused, Release
from tests.unit.core.transient.making import (
    DAY,
    ENTRY,
    FACTS,
    GUARD,
    HITS,
    NOW,
    PROOF,
    RULE,
    cheaply,
    checks,
    deeply,
    entry,
    maker,
    policy,
    version_of,
)

AWAY: Any = Unknown("it is away")
TAPE: dict[str, Any] = {"keep": {"copies": "TAPE"}}
KEPT = replace(PROOF, staying_at=("TAPE",))


@pytest.mark.parametrize(
    ("compiled", "facts", "check", "said"),
    [
        (policy(enabled=False), FACTS, "disabled", "policy hits is disabled"),
        (policy(lifetime="31d"), FACTS, "age", "it may leave 2026-11-23 12:00 UTC: 31d after it was closed"),
        (policy(lifetime="61d", since="created"), FACTS, "age", "after it was created"),
        (policy(open=True, lifetime="61d"), entry(closed=False), "age", "after it was created"),
        (policy(since="used"), entry(used_at=NOW - DAY), "age", "after it was last used"),
        (policy(since="used"), replace(FACTS, last_use=NOW - DAY), "age", "after it was last used"),
        (policy(since="used"), replace(FACTS, last_use=AWAY), "unknown", "its age is not known: it is away"),
        (policy(), entry(closed_at=None), "unknown", "its age is not known"),
        (policy(where={"tag": "a"}), FACTS, "where", "tag is not set, not a"),
        (policy(where={"tag": "a"}), replace(FACTS, metadata={"tag": "b"}), "where", "tag is b, not a"),
        (policy(where={"tag": "a"}), replace(FACTS, metadata=AWAY), "unknown", "its metadata is not known"),
        (policy(made_by={"workflow": "tracking"}), FACTS, "made_by", "no launch of tracking has made it"),
        (
            policy(made_by={"workflow": "other"}),
            replace(FACTS, makers=(maker(),)),
            "made_by",
            "no launch of other has made it",
        ),
        (
            policy(made_by={"workflow": "tracking", "step": "hits"}),
            replace(FACTS, makers=(maker(step="seed"),)),
            "made_by",
            "no launch of tracking, step hits",
        ),
        (policy(keep={"runs": {"include": ["12000..13000"]}}), FACTS, "runs", "run 12345 stays (12000..13000)"),
        (policy(keep={"last_runs": 2}), replace(FACTS, newest_runs={12345, 7}), "last_runs", "the newest 2"),
        (policy(keep={"last_runs": 2}), replace(FACTS, newest_runs=AWAY), "unknown", "which runs are the newest"),
    ],
)
def test_each_clause_of_a_policy_refuses_by_itself(
    compiled: CompiledPolicy, facts: Facts, check: str, said: str
) -> None:
    """One refusal that says what was found and what is wanted."""
    (refusal,) = cheaply(facts, compiled)

    assert refusal.check == check
    assert said in refusal.text


@pytest.mark.parametrize(
    ("compiled", "facts"),
    [
        (policy(lifetime="30d"), FACTS),
        (policy(lifetime="60d", since="created"), FACTS),
        (policy(open=True, lifetime="60d"), entry(closed=False)),
        (policy(since="used"), entry(used_at=NOW - 14 * DAY)),
        (policy(since="used"), FACTS),
        (policy(since="closed"), entry(used_at=NOW)),
        (policy(where={"tag": "a*"}), replace(FACTS, metadata={"tag": "abc"})),
        (policy(), replace(FACTS, metadata=AWAY)),
        (policy(made_by={"workflow": "tracking"}), replace(FACTS, makers=(maker(),))),
        (policy(made_by={"workflow": "tracking", "step": "seed"}), replace(FACTS, makers=(maker(step="seed"),))),
        (policy(keep={"runs": {"include": [12344, "12346.."]}}), FACTS),
        (policy(keep={"last_runs": 2}), replace(FACTS, newest_runs={12346, 12347})),
        (policy(), replace(FACTS, newest_runs=AWAY)),
        (policy(), entry(expires_at=NOW + DAY)),
        (policy(), entry(files=0, bytes=0)),
    ],
)
def test_what_a_clause_lets_pass(compiled: CompiledPolicy, facts: Facts) -> None:
    """The same cases on the other side of the border; what a policy does not ask for need not be known."""
    assert cheaply(facts, compiled) == []


def test_a_run_that_cannot_be_read_may_be_one_that_stays() -> None:
    """Where runs are kept, a dataset without one is kept too."""
    wide: dict[str, Any] = {"pattern": r"DST_HITS-(?P<run>\w+)"}
    facts = replace(FACTS, values={**FACTS.values, "run": "0001234x"})

    for keep in ({"last_runs": 1}, {"runs": {"include": [5]}}):
        assert "runs" in checks(cheaply(facts, policy(keep=keep, **wide)))


def test_a_version_that_was_replaced_lets_nothing_go() -> None:
    """What a person has changed or taken out does not go on working."""
    ended = CompiledPolicy(version_of().model_copy(update={"ended_at": NOW}))

    (refusal,) = cheaply(FACTS, ended)

    assert refusal == ("disabled", "version 3 of policy hits is not in force any more")


# Copies.


@pytest.mark.parametrize(
    ("proof", "check", "said"),
    [
        (replace(KEPT, without_kept_copy=Some(2, ("f1", "f2"))), "copies", "2 files have no copy at TAPE: f1, f2"),
        (replace(KEPT, without_kept_copy=AWAY), "unknown", "which files have a copy at TAPE is not known"),
        (replace(KEPT, staying_at=("TAPE", "DISK")), "copies", "copies at DISK would both leave and stay"),
        (replace(KEPT, leaving=()), "nothing", "nothing is left of it but the copies at TAPE"),
        (replace(KEPT, rules=(RULE._replace(rses=frozenset({"DISK", "TAPE"})),)), "held", "holds copies that leave"),
        (replace(KEPT, rules=(RULE._replace(on=Did("a", "all")),)), "held", "holds copies that leave"),
        (replace(KEPT, rules=(RULE._replace(rses=None),)), "unknown", "which copies replication rule r1"),
    ],
)
def test_where_copies_stay_each_file_must_have_one_there(proof: Proof, check: str, said: str) -> None:
    """And what leaves must come away from what stays."""
    (refusal,) = deeply(proof, policy(**TAPE))

    assert refusal.check == check
    assert said in refusal.text


def test_where_copies_stay_the_others_leave() -> None:
    """A rule of ours that holds only what leaves is ended; one that holds only what stays is left alone."""
    rules = (RULE, RULE._replace(id="r2", rses=frozenset({"TAPE"})))

    assert deeply(replace(KEPT, rules=rules), policy(**TAPE)) == []


def test_where_nothing_stays_rules_of_ours_do_not_matter() -> None:
    """They leave with the dataset, wherever they are and whatever they hold; and so does one without a copy."""
    rules = (RULE._replace(rses=None), RULE._replace(on=Did("a", "all")))

    assert deeply(replace(PROOF, rules=rules, leaving=())) == []


def test_copies_that_cannot_be_asked_for() -> None:
    """Nobody can say what would leave."""
    (refusal,) = deeply(replace(PROOF, leaving=AWAY))

    assert refusal == ("unknown", "where its copies lie is not known: it is away")


# All of it.


@pytest.mark.parametrize("name", [each.name for each in fields(Proof) if "Unknown" in str(each.type)])
def test_nothing_of_a_proof_may_be_unknown(name: str) -> None:
    """A policy that asks for everything, and one thing that could not be asked: no release."""
    everything = policy(
        successor={"dataset": "{scope}:DST_SEED-{run}", "maps": {"files": "(?P<n>.)", "onto": "(?P<n>.)"}}, **TAPE
    )
    assert deeply(KEPT, everything) == []

    assert checks(deeply(replace(KEPT, **{name: AWAY}), everything)) == ["unknown"]


@pytest.mark.parametrize("name", [each.name for each in fields(Facts) if "Unknown" in str(each.type)])
def test_nothing_of_the_facts_may_be_unknown(name: str) -> None:
    """Nor anything that was asked of many datasets at once."""
    everything = policy(where={"a": 1}, since="used", keep={"last_runs": 1}, made_by={"workflow": "tracking"})
    facts = replace(FACTS, metadata={"a": 1}, makers=(maker(),))
    assert cheaply(facts, everything) == []

    assert checks(cheaply(replace(facts, **{name: AWAY}), everything)) == ["unknown"]


def test_facts_of_a_proof_count_as_they_are_now() -> None:
    """Somebody began to read it while its files were looked at."""
    assert checks(deeply(replace(PROOF, facts=replace(FACTS, in_use="launch 9 reads it")))) == ["read"]


def test_a_dataset_that_may_leave_is_told_with_its_evidence() -> None:
    """All that will be compared when it is released, and one line for each thing that was proved."""
    proof = replace(PROOF, leaving=(CopiesAt(rse="TAPE", files=1, bytes=2), CopiesAt(rse="DISK", files=10, bytes=5000)))

    found = judged(policy(), proof, GUARD, NOW)

    assert isinstance(found, Release)
    assert (found.did, found.born_at, found.closed_at) == (str(HITS), ENTRY.born_at, ENTRY.closed_at)
    assert (found.policy, found.version, found.run) == ("hits", 3, 12345)
    assert (found.files, found.bytes, found.content, found.freed) == (10, 5000, "c0ffee", 5002)
    assert [copies.rse for copies in found.frees] == ["DISK", "TAPE"]
    assert (found.erases, found.keeps) == (True, None)
    assert (found.successor, found.successor_content) == ("sphenix:DST_SEED-00012345", "beef")
    assert found.due_at == NOW - 16 * DAY
    assert (
        "successor sphenix:DST_SEED-00012345 closed 2026-11-02 12:00 UTC, 4 files, each with a copy that can be read"
        in found.evidence
    )


def test_a_dataset_of_which_copies_stay_does_not_leave_itself() -> None:
    """Only what is elsewhere does."""
    found = judged(policy(**TAPE), KEPT, GUARD, NOW)

    assert isinstance(found, Release)
    assert (found.erases, found.keeps) == (False, "TAPE")


def test_a_dataset_that_may_not_leave_is_told_with_every_reason() -> None:
    """And from when on it may by its age, where that can be told."""
    found = judged(policy(lifetime="40d"), replace(FACTS, in_use="it is read"), GUARD, NOW)

    assert isinstance(found, Refused)
    assert [refusal.check for refusal in found.refusals] == ["read", "age"]
    assert (found.did, found.run, found.files, found.bytes) == (str(HITS), 12345, 10, 5000)
    assert found.due_at == NOW + 10 * DAY
    assert found.successor == "sphenix:DST_SEED-00012345"


def test_without_a_look_at_its_files_nothing_is_released() -> None:
    """What is cheaply known may refuse; it never permits."""
    assert judged(policy(), FACTS, GUARD, NOW) is None
    assert isinstance(judged(policy(), replace(PROOF, shared=Some(1)), GUARD, NOW), Refused)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, NOW - 30 * DAY),
        ({"since": "created"}, NOW - 60 * DAY),
        ({"since": "used"}, NOW - 3 * DAY),
    ],
)
def test_when_it_is_due(changes: dict[str, Any], wanted: Any) -> None:
    """Its lifetime after it was closed, created or last used."""
    facts = replace(entry(used_at=NOW - 5 * DAY), last_use=NOW - 3 * DAY)

    assert due_at(policy(**changes), facts) == wanted + timedelta(days=14)
