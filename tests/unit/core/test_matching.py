"""Judging a message: which rules want it, and what becomes of it if none does."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from random import Random

import pytest

from orchestrator.core.clauses import Facts
from orchestrator.core.matching import RuleSet, Verdict
from orchestrator.core.reasons import Answer, reasons
from orchestrator.core.values import MESSAGE_VARIABLES, variables
from schemas.message import MessageState
from schemas.rule import Rule
from tests.unit.core.histories import PATTERNS, random_history, random_rules
from tests.unit.making import NAME, NOW, UNMATCHED, message, rule, version

RAW = r"(?P<project>\w+)_RAW_EVENTS-(?P<run>\d{8})"


def rules(*given: Rule) -> RuleSet:
    return RuleSet(5, [version(each, number) for number, each in enumerate(given, 1)], UNMATCHED)


def matched(of: RuleSet, **changes: object) -> Sequence[str]:
    return [match.version.rule.name for match in of.judge(Facts(message(**changes))).matches]


def test_every_rule_that_matches_fires() -> None:
    """A message starts the actions of all rules that want it, and its reason names them."""
    verdict = rules(rule("all"), rule("none", "nothing"), rule("raw", RAW)).judge(Facts(message()))

    assert verdict.state is MessageState.DISPATCHED
    assert verdict.reason == "matched by all, raw"
    assert [match.captured for match in verdict.matches] == [{}, {"project": "SPHENIX", "run": "00021615"}]


@pytest.mark.parametrize(
    ("fields", "wants"),
    [
        ({}, True),
        ({"on": "CLOSED"}, True),
        ({"on": ["open", "close"]}, True),
        ({"on": "open"}, False),
        ({"scope": "group.sphenix"}, True),
        ({"scope": "group.*"}, True),
        ({"scope": ["user.*", "group.sphen?x"]}, True),
        ({"scope": "[fg]roup.sphenix"}, True),
        ({"scope": "group"}, False),
        ({"scope": "GROUP.SPHENIX"}, False),
        ({"scope": "group.sphenix.x"}, False),
        ({"pattern": RAW}, True),
        ({"pattern": "RAW_EVENTS"}, False),
        ({"enabled": False}, False),
    ],
)
def test_a_rule_wants_a_message_by_event_scope_and_name(fields: dict[str, object], wants: bool) -> None:
    """Event in either spelling, scope by shell-style globs, name by pattern: all must fit, and the rule be enabled."""
    assert bool(matched(rules(Rule.model_validate(rule().document() | fields)))) is wants


@pytest.mark.parametrize(
    ("event", "state"),
    [("close", MessageState.PENDING), ("create_dts", MessageState.DROPPED), ("rule_ok", MessageState.DROPPED)],
)
def test_what_no_rule_wants_follows_the_policy_of_its_event(event: str, state: MessageState) -> None:
    """From the production notes: a close waits for a rule that wants it, anything else is put away."""
    verdict = rules(rule("other", "nothing")).judge(Facts(message(event_type=event)))

    assert (verdict.state, verdict.matches) == (state, ())
    assert verdict.reason == "no rule matched (of 1 at revision 5)"


def test_the_policy_can_be_set() -> None:
    """What becomes of unmatched messages is a setting; an event that it does not name follows `*`."""
    policy = {"close": MessageState.DROPPED, "*": MessageState.PENDING}
    judging = RuleSet(1, [], policy)

    assert judging.judge(Facts(message())).state is MessageState.DROPPED
    assert judging.judge(Facts(message(event_type="open"))).state is MessageState.PENDING
    assert RuleSet(1, [], {}).judge(Facts(message())).state is MessageState.DROPPED


def test_each_action_of_a_match_is_planned_with_its_templates_filled_in() -> None:
    """Actions keep their order; text of every depth is filled in, numbers stay numbers."""
    wants = rule(
        "raw",
        RAW,
        {"launch": {"workflow": "calorimeter", "parameters": {"run": "{run}"}}},
        {"run": {"command": ["x.sh", "{did}", "{run:d}"], "nice": 5}, "retry": {"attempts": 7}},
    )

    (match,) = rules(wants).judge(Facts(message())).matches

    assert [(each.action, each.actor) for each in match.planned] == [(0, "launch"), (1, "run")]
    assert match.planned[0].options == {"workflow": "calorimeter", "parameters": {"run": "00021615"}}
    assert match.planned[1].options == {"command": ["x.sh", f"group.sphenix:{NAME}", "21615"], "nice": 5}
    assert [each.retry.attempts for each in match.planned] == [3, 7]


def test_a_template_knows_the_message_and_what_was_captured() -> None:
    """These names can be used in every rule; a group of the same name counts over them."""
    known = variables(message(), {})

    assert known == {
        "event": "close",
        "scope": "group.sphenix",
        "name": NAME,
        "did": f"group.sphenix:{NAME}",
        "created_at": NOW.isoformat(),
        "message_id": "7",
        "generation": "1",
        "account": "",
        "bytes": "3900",
        "length": "3",
        "events": "123",
    }
    assert known.keys() == MESSAGE_VARIABLES
    assert variables(message(), {"name": "short"})["name"] == "short"


def test_a_name_that_is_a_template_stays_a_name() -> None:
    """What comes from the catalog is filled in and never read as a template again."""
    (match,) = rules(rule("all", ".*", {"run": {"command": ["{name}"]}})).judge(Facts(message(name="{scope}{"))).matches

    assert match.planned[0].options == {"command": ["{scope}{"]}


def test_a_message_that_cannot_fill_a_template_waits_for_the_rule_to_be_mended() -> None:
    """A rule that asks for a number where the name has none stops neither the dispatcher nor the other rules."""
    numbered = rule("numbered", r"(?P<run>.+)", {"run": {"command": ["{run:08d}"]}})

    verdict = rules(rule("all"), numbered).judge(Facts(message(name="not-a-number")))

    assert verdict.state is MessageState.PENDING
    assert [match.version.rule.name for match in verdict.matches] == ["all"]
    assert verdict.reason.startswith("matched by all; waits for a rule to be mended: rule numbered: ")
    assert "run is 'not-a-number', not the number" in verdict.reason


def test_a_frame_that_could_not_be_read_matches_nothing() -> None:
    """Without event, scope and name there is nothing that a rule could want."""
    assert matched(rules(rule()), event_type=None, scope=None, name=None) == []


@pytest.mark.parametrize("seed", range(200))
def test_many_rules_together_say_what_each_says_alone(seed: int) -> None:
    """One pass over all patterns finds the matches, near misses and troubles of rules that are asked one by one."""
    random = Random(seed)
    given = random_rules(random, 12)
    together = rules(*given)
    alone = [(each.name, rules(each)) for each in given]

    for facts in random_history(random, 30):
        verdict = together.judge(facts)
        each_says = [(name, one.judge(facts)) for name, one in alone]

        apart = [told for _, one in each_says for told in _told(one)]
        assert sorted(map(repr, _told(verdict))) == sorted(map(repr, apart))
        assert {miss.rule: miss.clause for miss in verdict.near_misses} == {
            miss.rule: miss.clause for _, one in each_says for miss in one.near_misses
        }
        assert verdict.wants_facts is any(one.wants_facts for _, one in each_says)


@pytest.mark.parametrize("seed", range(100))
def test_patterns_match_as_pythons_do(seed: int) -> None:
    """On names that people use, event, scope and pattern decide as a loop over Python's `re` would."""
    random = Random(seed)
    given = [
        rule(
            f"rule-{number}",
            random.choice(PATTERNS),
            on=random.choice(["close", "open"]),
            scope=random.choice(["*", "group.*", "user.mine"]),
            search=random.random() < 0.3,
        )
        for number in range(random.randint(0, 20))
    ]
    judging = rules(*given)

    for facts in random_history(random, 30):
        scope, name = facts.message.scope or "", facts.message.name or ""
        wanted = []
        for each in given:
            found = (re.search if each.search else re.fullmatch)(each.pattern, name)
            if facts.message.event_type in each.on and fnmatchcase(scope, each.scope[0]) and found is not None:
                wanted.append((each.name, found.groupdict()))
        assert [(match.version.rule.name, match.captured) for match in judging.judge(facts).matches] == wanted


@pytest.mark.parametrize("seed", range(200))
def test_what_is_explained_is_what_was_decided(seed: int) -> None:
    """For any rules and any message: a rule matches, joins, waits, is stuck or nearly matches in both or in neither."""
    random = Random(seed)
    given = random_rules(random, 8)
    judging = rules(*given)

    for facts in random_history(random, 30):
        verdict, said = judging.judge(facts), reasons(judging, facts)

        def named(*answers: Answer) -> list[str]:
            return sorted(each.rule for each in said if each.answer in answers)  # noqa: B023  # called at once

        assert named(*Answer) == sorted(each.name for each in given)
        assert named(Answer.MATCHES) == sorted(match.version.rule.name for match in verdict.matches)
        assert named(Answer.JOINS) == sorted(each.rule for each in verdict.joins)
        assert bool(named(Answer.WAITS)) is verdict.wants_facts
        assert len(named(Answer.STUCK)) == len(verdict.troubles)
        disabled = {each.name for each in given if not each.enabled}
        misses = sorted(miss.rule for miss in verdict.near_misses)
        assert [name for name in named(Answer.NEARLY) if name not in disabled] == misses
        matches = {match.version.rule.name: match for match in verdict.matches}
        for each in said:
            if each.match is not None:
                assert (each.match.planned, each.match.unique_key) == (
                    matches[each.rule].planned,
                    matches[each.rule].unique_key,
                )


def _told(verdict: Verdict) -> list[object]:
    return [
        *((match.version.rule.name, match.captured, match.unique_key) for match in verdict.matches),
        *((each.rule, each.slot, each.key) for each in verdict.joins),
        *verdict.troubles,
    ]
