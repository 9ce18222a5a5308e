"""Whether copies last: what only rules hold that end goes with the last of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from orchestrator.core.transient.facts import Proof, RuleOn, Unknown
from orchestrator.core.transient.lasting import ends_with, going
from tests.unit.core.transient.making import DAY, HITS, NOW, PROOF, RULE, SEED, checks, deeply, policy

AWAY: Any = Unknown("it is away")


def rule(rses: str | None, ends_at: datetime | None = None, id_: str = "r") -> RuleOn:
    """A rule over RSEs of one letter each."""
    return RULE._replace(id=id_, ends_at=ends_at, rses=None if rses is None else frozenset(rses))


FIRST, LATER = rule("T", NOW + DAY, "first"), rule("T", NOW + 2 * DAY, "later")


@pytest.mark.parametrize(
    ("rules", "rses", "last"),
    [
        ([], "T", None),
        ([FIRST], "", None),
        ([FIRST], "T", "first"),
        ([LATER, FIRST], "T", "later"),
        ([FIRST], "D", None),
        ([FIRST], "DT", None),
        ([FIRST, rule("D", NOW + DAY, "d")], "DT", "first"),
        ([FIRST, rule("T")], "T", None),
        ([FIRST, rule("D")], "T", "first"),
        ([FIRST, rule("DT")], "T", None),
        ([rule("DT", NOW + DAY)], "DT", "r"),
        ([rule(None, NOW + DAY)], "T", "r"),
        ([FIRST, rule(None)], "T", "first"),
        ([rule(None)], "T", None),
        ([FIRST._replace(locked=True)], "T", "first"),
        ([rule("T", NOW - DAY)], "T", "r"),
    ],
)
def test_with_which_rule_the_last_copy_goes(rules: list[RuleOn], rses: str, last: str | None) -> None:
    """A copy that no rule holds lasts, and so does one that a rule holds that never ends."""
    found = ends_with(rules, rses)

    assert (found and found.id) == last


def test_files_are_counted_by_the_rule_they_go_with() -> None:
    """In words that say which one and when."""
    places = {frozenset("T"): 2, frozenset("D"): 3, frozenset("DT"): 4, frozenset("U"): 5, frozenset[str](): 6}

    found = list(going([FIRST, rule("DU", NOW + 2 * DAY, "other")], places))

    end = "take off its lifetime"
    assert found == [
        f"2 files have only copies that go when replication rule first of us (DISK) on {HITS} ends, "
        f"2026-11-23 12:00 UTC: {end}",
        f"12 files have only copies that go when replication rule other of us (DISK) on {HITS} ends, "
        f"2026-11-24 12:00 UTC: {end}",
    ]


KEPT = replace(PROOF, staying_at=("TAPE",), kept_at={frozenset({"TAPE"}): 10})
ENDS = RULE._replace(ends_at=NOW + DAY, rses=frozenset({"TAPE"}))
THEIRS = RULE._replace(on=SEED, ends_at=NOW + DAY)


@pytest.mark.parametrize(
    ("proof", "check", "said"),
    [
        (replace(KEPT, rules=(ENDS,)), "copies", "at TAPE 10 files have only copies that go when"),
        (replace(KEPT, successor_rules=(THEIRS,)), "successor", f"of {SEED} 4 files have only copies"),
        (replace(KEPT, kept_at=AWAY), "unknown", "whether copies at TAPE last is not known"),
        (replace(KEPT, successor_at=AWAY), "unknown", f"where the copies of its successor {SEED} are"),
        (replace(KEPT, successor_rules=AWAY), "unknown", f"what replication rules are on its successor {SEED}"),
    ],
)
def test_what_stays_must_last(proof: Proof, check: str, said: str) -> None:
    (refusal,) = deeply(proof, policy(keep={"copies": "TAPE"}))

    assert (refusal.check, said in refusal.text) == (check, True)


def test_what_leaves_need_not_last() -> None:
    """A rule of ours that ends over copies that leave does not matter."""
    rules = (RULE._replace(ends_at=NOW + DAY), ENDS._replace(id="r2", ends_at=None))

    assert checks(deeply(replace(KEPT, rules=rules), policy(keep={"copies": "TAPE"}))) == []
    assert checks(deeply(replace(PROOF, rules=(ENDS,)))) == []
