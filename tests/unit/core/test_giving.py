"""Which rule a person gives messages to."""

from __future__ import annotations

import pytest

from orchestrator.core.giving import NoSuchRule, NotForOne, rule_to_give
from tests.unit.making import UNMATCHED, rule, version

JOIN = {"key": "{run}", "members": {"a": r"A-(?P<run>\d+)", "b": r"B-(?P<run>\d+)"}}


def test_a_prescale_is_not_for_what_a_person_gives() -> None:
    """These are meant, not every so many of them; the rules in force go on as they are."""
    in_force = [version(rule("raw", prescale=100)), version(rule("calo"), 2)]

    rules, given = rule_to_give("raw", 7, in_force, UNMATCHED)

    assert (given.name, given.version.rule.prescale) == ("raw", 1)
    assert rules.revision == 7
    assert in_force[0].rule.prescale == 100


@pytest.mark.parametrize(("name", "hint"), [("ra", "did you mean raw?"), ("zzz", "`muleteer rules list`")])
def test_a_rule_that_is_not_in_force_is_said(name: str, hint: str) -> None:
    """With one that was perhaps meant."""
    with pytest.raises(NoSuchRule, match=f"no rule '{name}' in force: {hint}".replace("?", r"\?")):
        rule_to_give(name, 1, [version(rule("raw"))], UNMATCHED)


def test_a_rule_that_joins_takes_none_alone() -> None:
    """It says what to do instead."""
    with pytest.raises(NotForOne, match="`muleteer rooms list --rule both`, then `rooms waive` or `rooms dispatch`"):
        rule_to_give("both", 1, [version(rule("both", join=JOIN))], UNMATCHED)
