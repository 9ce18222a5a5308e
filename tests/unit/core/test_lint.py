"""What is probably not meant by a set of rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from orchestrator.core.clauses import Facts
from orchestrator.core.cycles import cycles
from orchestrator.core.lint import Level, Lint, Remark, remarks_on_rules
from orchestrator.core.past import PAST_FIELDS, Interest
from schemas.rule import Rule
from schemas.workflow import Workflow
from tests.unit.core.histories import page_of, versions
from tests.unit.making import message, rule


def workflow(output: str, **parameters: Mapping[str, str]) -> Workflow:
    """A workflow that makes one dataset."""
    document = {
        "name": "w",
        "parameters": {name: dict(each) for name, each in parameters.items()},
        "steps": [{"name": "s", "command": ["x"]}],
        "outputs": [{"dataset": output, "step": "s"}],
    }
    return Workflow.model_validate(document)


def launching(
    name: str, pattern: str, workflow_: str, parameters: Mapping[str, str] | None = None, **fields: Any
) -> Rule:
    return rule(name, pattern, {"launch": {"workflow": workflow_, "parameters": dict(parameters or {})}}, **fields)


CALOR = workflow("{scope}:rn{run}-CALOR", run={"pattern": r"\d{8}"})
BACK = workflow("data26:RAW-{run}", run={})


# Cycles.


@pytest.mark.parametrize(
    ("pattern", "fields", "output", "loops"),
    [
        ("RAW-(?P<run>.*)", {}, "{scope}:DST-{run}", False),
        ("RAW-(?P<run>.*)", {}, "{scope}:RAW-{run}", True),
        (".*", {}, "{scope}:DST-{run}", True),
        (r"(?P<run>\d+)", {}, "{scope}:{run}", True),
        (r"(?P<run>\d+)", {}, "{scope}:{run}-x", False),
        (r"RAW-(?P<run>\d{8})", {}, "{scope}:RAW-{run}0", False),
        ("RAW-(?P<run>.*)", {"scope": "data26"}, "user.me:RAW-{run}", False),
        ("RAW-(?P<run>.*)", {"scope": ["data26", "user.*"]}, "user.me:RAW-{run}", True),
        ("RAW-(?P<run>.*)", {"on": "open"}, "{scope}:RAW-{run}", False),
        ("RAW-(?P<run>.*)", {"on": "created"}, "{scope}:RAW-{run}", True),
        ("RAW-(?P<run>.*)", {}, "{scope}:{name}", True),
        ("RAW-(?P<run>.*)", {}, "{scope}:{name}x", True),
        (r"RAW-(?P<run>\d)", {}, "{scope}:{name}x", False),
        ("AW(?P<run>.*)", {"search": True}, "{scope}:RAW-x", True),
        ("RAW-(?P<run>.*)", {}, "{scope}:{launch}", False),
        ("(?P<run>w.*)", {}, "{scope}:{launch}", True),
        (r"(?P<run>\d{3})", {"values": {"tag": "abc"}}, "{scope}:{tag}", False),
        (
            r"(?P<run>\d{3})",
            {"values": {"tag": [{"to": 5, "value": "abc"}, {"from": 6, "value": "123"}]}},
            "a:{tag}",
            True,
        ),
    ],
)
def test_a_rule_that_fits_what_it_makes_is_a_loop(
    pattern: str, fields: dict[str, Any], output: str, loops: bool
) -> None:
    """Told from the templates: what nobody knows may be anything, and what a group captures is what it may capture."""
    made = workflow(output, run={}, tag={"default": ""})
    given = {"run": "{run}"} | ({"tag": "{tag}"} if "values" in fields else {})

    found = cycles([launching("a", pattern, "w", given, **fields)], {"w": made})

    assert [each.path for each in found] == ([("a", "a")] if loops else [])


def test_a_loop_of_several_rules_is_shown_as_a_path() -> None:
    """Each makes what starts the next; the shortest way round is shown, once, and rules beside it are not on it."""
    rules = [
        launching("raw", "RAW-(?P<run>.*)", "calor", {"run": "{run}"}),
        launching("back", r"rn(?P<run>\d+)-CALOR", "back", {"run": "{run}"}),
        launching("beside", "rn.*", "none"),
    ]

    (found,) = cycles(rules, {"calor": CALOR, "back": BACK})

    assert found.path == ("back", "raw", "back")
    assert found.product == "{scope}:rn{run}-CALOR"
    assert found.certain


def test_what_is_known_of_a_parameter_counts() -> None:
    """Its own pattern where the rule says nothing of it, the default where nothing is given."""
    rules = [launching("a", r"rn[a-z]+-CALOR", "calor", {"run": "{metadata_x}"})]

    assert cycles(rules, {"calor": CALOR}) == []
    assert cycles(rules, {"calor": workflow("{scope}:rn{run}-CALOR", run={"default": "ab"})})
    fixed = [launching("a", r"rn[a-z]+-CALOR", "calor")]
    assert cycles(fixed, {"calor": workflow("{scope}:rn{run}-CALOR", run={"default": "12"})}) == []
    assert cycles(fixed, {}) == []


def test_a_loop_is_an_error_unless_something_may_prevent_it() -> None:
    """Conditions, and rules that are not enabled, make a warning of it."""
    loop = {"w": workflow("{scope}:{name}")}

    levels = [
        remarks_on_rules([launching("a", ".*", "w", **fields)], loop)[0].level
        for fields in ({}, {"where": {"bytes": 5}}, {"enabled": False}, {"scope": ["*", "!user.*"]})
    ]

    assert levels == [Level.ERROR, Level.WARNING, Level.WARNING, Level.WARNING]


def test_members_of_a_join_can_be_made_by_it() -> None:
    """Each member's pattern counts as a pattern of the rule."""
    join = {"key": "{run}", "members": {"one": r"RAW-(?P<run>\d+)", "other": r"rn(?P<run>\d+)-.*"}}
    one = rule("j", ".*", {"launch": {"workflow": "calor", "parameters": {"run": "{key}"}}}, join=join)

    assert [each.path for each in cycles([one], {"calor": CALOR})] == [("j", "j")]


# What rules say by themselves.


def test_a_prescale_with_a_unique_key_is_remarked_on() -> None:
    """The one that is taken may be refused."""
    (remark,) = remarks_on_rules([rule("a", prescale=5, unique="{name}")], {})

    assert (remark.level, remark.rule, remark.what) == (Level.WARNING, "a", "prescale-unique")


def test_the_same_words_in_two_rules_are_remarked_on_if_one_message_can_match_both() -> None:
    """The same unique key, or the same launch of a workflow that makes datasets."""
    rules = [
        launching("a", "RAW-.*", "w", unique="{name}"),
        launching("b", ".*-1", "w", unique="{name}"),
        launching("c", "DST-2", "w", unique="{name}"),
        launching("d", "RAW-.*", "w", on="open", unique="{name}"),
        launching("e", "RAW-.*", "w", enabled=False, unique="{name}"),
    ]

    found, own_names = (
        remarks_on_rules(rules, {"w": workflow(output)}) for output in ("{scope}:made/{name}/x", "{scope}:{launch}/x")
    )

    assert brief(found) == [("a, b", "same-key"), ("a, b", "same-output")]
    assert brief(own_names) == [("a, b", "same-key")]


# What history shows.


def closes(*names: str) -> list[Facts]:
    return [Facts(message(id=number, name=name)) for number, name in enumerate(names, start=1)]


def shown(
    rules: Sequence[Rule], history: Sequence[Facts], workflows: Mapping[str, Workflow] | None = None
) -> list[Remark]:
    looked_over = Lint(versions(rules), workflows or {})
    for start in range(0, len(history), 7):
        looked_over.look(page_of(history[start : start + 7], Interest([], PAST_FIELDS)))
    return looked_over.remarks()


def brief(remarks: Sequence[Remark]) -> list[tuple[str, str]]:
    return [(each.rule, each.what) for each in remarks]


def test_a_rule_that_catches_most_of_history_is_broad() -> None:
    """More than half of the messages of its events, if there are enough of them to say so; how much is said."""
    half = [f"RAW-{number}" for number in range(10)] + [f"DST-{number}" for number in range(10)]

    assert brief(shown([rule("a", "RAW.*")], closes(*half))) == []
    (remark,) = shown([rule("a", "RAW.*")], closes(*half, "RAW-x"))
    assert (remark.what, "11 of 21 (52 %)" in remark.found) == ("broad", True)
    assert shown([rule("a")], closes(*half[:19])) == []


def test_a_rule_that_never_matched_is_named_with_what_stood_in_its_way() -> None:
    """And how often; a rule that is not enabled is not expected to match, and without history nothing is."""
    rules = [rule("a", "RAW-.*", where={"bytes": 5}), rule("b", "nothing", enabled=False), rule("c", "RAW-.*")]

    (remark,) = shown(rules, closes("RAW-1", "RAW-2", "DST-1"))

    assert (remark.rule, remark.what) == ("a", "never")
    assert "none of 3 messages of its events; 2 times only bytes refused" in remark.found
    assert shown(rules, []) == []


def test_a_rule_that_another_makes_needless_is_shadowed() -> None:
    """All that it catches, another catches with the same key or the same actions; the other way round it is not so."""
    history = closes("RAW-1", "RAW-2", "DST-1")
    other = {"run": {"command": ["other"]}}

    same_actions = shown([rule("narrow", "RAW-1"), rule("wide", "RAW.*")], history)
    same_key = shown([rule("narrow", "RAW-1", other, unique="{name}"), rule("wide", "RAW.*", unique="{name}")], history)
    partly = shown([rule("a-wide", "RAW.*"), rule("b-narrow", "RAW-1|DST-1")], history)
    unlike = shown([rule("narrow", "RAW-1", other), rule("wide", "RAW.*")], history)
    twins = shown([rule("one", "RAW-1"), rule("two", "RAW-1")], history)

    assert brief(same_actions) == [("narrow", "shadowed")]
    assert ("narrow", "shadowed") in brief(same_key)
    assert ("wide", "shadowed") not in brief(same_key)
    assert unlike == []
    assert partly == []
    assert brief(twins) == [("one", "shadowed")]
    assert "catches the same 1 messages" in twins[0].found


def test_matches_that_take_each_others_keys_are_counted() -> None:
    """Between two rules; a rule's own key is there to be refused."""
    first = rule("a", "RAW-(?P<run>.*)", {"run": {"command": ["a"]}}, unique="run {run}")
    second = rule("b", "DST-(?P<run>.*)", {"run": {"command": ["b"]}}, unique="run {run}")

    (remark,) = shown([first, second], closes("RAW-1", "DST-1", "RAW-1x", "DST-2", "DST-2"))

    assert (remark.rule, remark.what) == ("a, b", "same-key")
    assert "1 times the unique key of a match was taken, for example 'run 1'" in remark.found


def test_launches_that_would_make_the_same_dataset_are_found() -> None:
    """Of two rules, or of one without a unique key; with one, the second is refused."""
    made = {"w": workflow("{scope}:rn{run}", run={})}
    parameters = {"run": "{run}"}
    history = closes("RAW-1", "RAW-1", "DST-1")

    def found(**fields: Any) -> list[tuple[str, str]]:
        one = launching("a", "RAW-(?P<run>.*)", "w", parameters, **fields)
        other = launching("b", "DST-(?P<run>.*)", "w", parameters)
        return brief(shown([one, other], history, made))

    assert found() == [("a", "same-output"), ("a, b", "same-output")]
    assert found(unique="{run}") == [("a, b", "same-output")]
    own_name = {"w": workflow("{scope}:{launch}")}
    assert brief(shown([launching("a", "RAW-.*", "w")], history, own_name)) == []
