"""What was proved, as a person reads it before saying yes."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.core.transient.proved import evidence
from tests.unit.core.transient.making import DAY, DOCUMENT, FACTS, NOW, PROOF, RULE, SUCCESSOR, entry, maker, policy


def test_each_line_tells_one_thing_with_its_figures() -> None:
    """The dataset, its successor, and what could have spoken against it."""
    assert evidence(policy(), replace(PROOF, files=1000)) == (
        "sphenix:DST_HITS-00012345 closed 2026-10-23 12:00 UTC, 1,000 files, 5,000 bytes; older than 14d since closed",
        "successor sphenix:DST_SEED-00012345 closed 2026-11-02 12:00 UTC, 4 files, each with a copy that can be read",
        "nobody keeps it, nothing reads it, no launch makes it, no other release rests on it",
        "none of its files is in another dataset or container",
        "no replication rule of others is on it, or on anything that it is in: 0 there",
    )


def test_whatever_a_policy_asks_for_has_its_line() -> None:
    """So that nothing that was wanted is taken for proved without a word."""
    full = policy(
        where={"tag": "a*"},
        made_by={"workflow": "tracking"},
        keep={"copies": "TAPE"},
        successor=DOCUMENT["successor"]
        | {
            "require": {
                "files": 4,
                "numbered": {"pattern": r"(?P<n>\d+)", "first": 1, "last": 4},
                "replicas": "DISK",
                "names": "DST.*",
                "min_bytes": 1000,
                "checksums": ["md5"],
            },
            "same_count": True,
            "maps": {"files": "(?P<a>.)", "onto": "b(?P<a>.)"},
        },
    )
    facts = replace(
        FACTS,
        metadata={"tag": "abc"},
        makers=(maker(5),),
        successor=replace(SUCCESSOR, makers=(maker(6),)),
    )

    lines = evidence(full, replace(PROOF, facts=facts, rules=(RULE,)))

    assert "made by launch 5 (tracking, finished)" in lines
    assert "tag is abc, as wanted: a*" in lines
    assert (
        "successor sphenix:DST_SEED-00012345 closed 2026-11-02 12:00 UTC, 4 files, 4 as required, numbered without a "
        "gap from 1 to 4, each with a copy at DISK, each named DST.*, none below 1,000 bytes, each with md5"
    ) in lines
    assert "as many files in both: 10" in lines
    assert "each of 10 files has gone into one of the successor's: b(?P<a>.)" in lines
    assert "successor made by launch 6 (tracking, finished)" in lines
    assert "no replication rule of others is on it, or on anything that it is in: 1 there, r1 of us at DISK" in lines
    assert "each of 10 files has a copy at TAPE, which stays with the dataset" in lines


def test_what_is_unusual_is_told() -> None:
    """An open dataset, and one that the catalog would erase by itself."""
    lines = evidence(policy(open=True), replace(PROOF, facts=entry(closed=False, expires_at=NOW + DAY)))

    assert "sphenix:DST_HITS-00012345 open, as the policy allows, 10 files" in lines[0]
    assert lines[1] == "the catalog erases it by itself 2026-11-23 12:00 UTC"
