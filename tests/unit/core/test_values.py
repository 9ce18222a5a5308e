"""The values of templates: of the message, of the pattern, of the rule."""

from __future__ import annotations

from random import Random

import pytest

from orchestrator.core.clauses import Facts
from orchestrator.core.patterns import Pattern
from orchestrator.core.templates import TemplateError, fill, fill_within, texts_within
from orchestrator.core.values import MESSAGE_VARIABLES, always_fills, values_always_fill, values_of
from schemas.rule import Rule
from tests.unit.core.histories import random_history, random_rule
from tests.unit.making import message, rule


def test_a_value_changes_at_a_run() -> None:
    """Each run has the value of its range; both ends are within, and an open one has no end."""
    tagged = rule(
        values={
            "tag": [{"to": 59640, "value": "old"}, {"from": 59641, "to": 59999, "value": "2025p000"}],
            "build": [{"from": 0, "value": "new-{tag}"}],
        }
    )

    def tag(run: int) -> str:
        return values_of(tagged, Facts(message()), {"run": f"{run:08d}"})["build"]

    assert [tag(run) for run in (0, 59640, 59641, 59999)] == ["new-old", "new-old", "new-2025p000", "new-2025p000"]
    with pytest.raises(TemplateError, match=r"values.tag has no value for run 60000"):
        tag(60000)


def test_values_are_filled_in_the_order_they_are_written() -> None:
    """A value may use those before it, the groups, and what the catalog says."""
    made = rule(values={"short": "{run:d}", "did": "{scope}/{short}", "of": "{metadata_project}"})

    values = values_of(made, Facts(message(), metadata={"project": "pp", "n": None}), {"run": "00021615"})

    assert (values["short"], values["did"], values["of"], values["metadata_n"]) == (
        "21615",
        "group.sphenix/21615",
        "pp",
        "",
    )


def test_the_run_is_the_patterns_else_the_catalogs() -> None:
    """A group `run` counts before the catalog's run number; without either, a value by run cannot be told."""
    by_run = rule(values={"tag": [{"value": "x"}]})
    catalog = Facts(message(), metadata={"run_number": 7})

    assert values_of(rule(), catalog, {})["run"] == "7"
    assert values_of(rule(), catalog, {"run": "5"})["run"] == "5"
    with pytest.raises(TemplateError, match="the run is not known"):
        values_of(by_run, Facts(message()), {})


def sure(one: Rule, pattern: Pattern) -> bool:
    """Whether it is told beforehand that all templates of the rule can be filled in."""
    known = MESSAGE_VARIABLES | set(pattern.groups) | one.values.keys()
    texts = texts_within([one.unique, *(action.options for action in one.actions)])
    return values_always_fill(one, pattern) and all(always_fills(text, known) for text in texts)


@pytest.mark.parametrize("seed", range(300))
def test_a_rule_that_always_fills_never_fails(seed: int) -> None:
    """Whatever it matches. So a preview need not fill in the templates of most rules to know that they match."""
    random = Random(seed)
    one = random_rule(random, "one")
    pattern = Pattern(one.pattern, search=one.search)
    if not sure(one, pattern) or one.join is not None:
        return
    for facts in random_history(random, 30):
        captured = pattern.captures(facts.message.name or "")
        if captured is not None:
            values = values_of(one, facts, captured)
            fill(one.unique or "", values)
            fill_within([action.options for action in one.actions], values)


@pytest.mark.parametrize("seed", range(100))
def test_what_is_not_wanted_is_not_made(seed: int) -> None:
    """Whoever says what the templates ask for gets the same values for it, and those alone of the message's."""
    random = Random(seed)
    (facts,) = random_history(random, 1)
    wanted = random.sample(sorted(MESSAGE_VARIABLES), random.randint(0, 11))

    some, all_ = values_of(rule(), facts, {"n": "1"}, wanted), values_of(rule(), facts, {"n": "1"})

    assert some == {name: value for name, value in all_.items() if name in wanted or name not in MESSAGE_VARIABLES}


@pytest.mark.parametrize(
    ("fields", "always"),
    [
        ({}, True),
        ({"unique": "{x}{name}"}, True),
        ({"unique": "{x:03d}"}, False),
        ({"unique": "{metadata_project}"}, False),
        ({"unique": "{y}"}, False),
        ({"unique": "{run}"}, False),
        ({"values": {"y": "{x}"}, "unique": "{y}"}, True),
        ({"values": {"y": [{"value": "z"}]}}, False),
    ],
)
def test_what_may_fail_is_told_from_what_cannot(fields: dict[str, object], always: bool) -> None:
    """Formats, ranges of runs, and what only the catalog knows may fail."""
    one = rule("one", "(?P<x>.*)", **fields)

    assert sure(one, Pattern(one.pattern)) is always
