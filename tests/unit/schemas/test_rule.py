"""A rule as an operator writes it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from schemas.rule import Action, Rule
from tests.unit.making import rule


def written(**changes: Any) -> dict[str, Any]:
    return {"name": "raw", "actions": [{"run": {"command": ["true"]}}], **changes}


def test_a_rule_needs_a_name_and_an_action() -> None:
    """All else has a default: enabled, on close, of every scope, every name, three tries."""
    found = Rule.model_validate(written())

    assert (found.enabled, found.on, found.scope, found.pattern) == (True, ("close",), ("*",), ".*")
    assert found.actions[0].retry.model_dump() == {
        "attempts": 3,
        "delay": "10s",
        "factor": 2.0,
        "longest": "10m",
    }


def test_events_are_kept_in_rucios_spelling_once_each() -> None:
    """`on: [closed, CLOSE, created]` listens to close and create_dts."""
    assert Rule.model_validate(written(on=["closed", "CLOSE", "created"])).on == ("close", "create_dts")


def test_an_action_is_its_actors_name_with_options_and_perhaps_a_retry() -> None:
    """`- run: {...}` beside an optional `retry: {...}`; an actor without options has none."""
    action = Action.model_validate({"run": {"command": ["x"]}, "retry": {"attempts": 5, "delay": "1m"}})

    assert (action.actor, action.options, action.retry.attempts) == ("run", {"command": ["x"]}, 5)
    assert action.retry.delay == timedelta(minutes=1)
    assert Action.model_validate({"launch": None}).options == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "two words"},
        {"name": ""},
        {"name": "x" * 101},
        {"name": "../up"},
        {"actions": []},
        {"actions": [{}]},
        {"actions": [{"retry": {}}]},
        {"actions": [{"run": {}, "launch": {}}]},
        {"actions": ["run"]},
        {"actions": [{"run": {}, "retry": {"attempts": 0}}]},
        {"actions": [{"run": {}, "retry": {"tries": 1}}]},
        {"actions": [{"run": {}, "retry": {"delay": "soon"}}]},
        {"on": []},
        {"scope": []},
        {"typo": 1},
    ],
)
def test_a_rule_of_another_shape_is_refused(changes: dict[str, Any]) -> None:
    """No field is guessed at, and none is ignored."""
    with pytest.raises(ValidationError):
        Rule.model_validate(written(**changes))


def test_equal_rules_have_equal_documents() -> None:
    """However it was spelled, a rule is compared by its canonical document, which reads back as the same rule."""
    short = Rule.model_validate(written(on="closed", scope="test"))
    long = Rule.model_validate(
        written(
            on=["close"],
            scope=["test"],
            pattern=".*",
            description="",
            actions=[{"run": {"command": ["true"]}, "retry": {"attempts": 3, "delay": 10}}],
        )
    )

    assert short.document() == long.document()
    assert Rule.model_validate(short.document()) == short


@pytest.mark.parametrize("delay", [0.00001, 1000000.5, "12d", "250ms"])
def test_a_document_reads_back_whatever_its_times(delay: object) -> None:
    """A rule that was accepted once can be read for ever: the store keeps nothing but its document."""
    found = rule("raw", ".*", {"run": {"command": ["true"]}, "retry": {"delay": delay}})

    assert Rule.model_validate(found.document()) == found


@pytest.mark.parametrize("word", ["\ud800", "a\0b"])
def test_a_rule_that_could_not_be_read_back_is_none(word: str) -> None:
    """In force, it would keep every other rule from being read."""
    with pytest.raises(ValidationError, match=r"cannot be kept|no database keeps"):
        Rule.model_validate({"name": "x", "actions": [{"run": {"command": ["true"], "given": word}}]})


def test_a_condition_has_a_name_that_can_be_kept() -> None:
    """Near misses are kept under it."""
    with pytest.raises(ValidationError, match="at most 100 characters"):
        Rule.model_validate({"name": "x", "where": {"k" * 101: 1}, "actions": [{"run": {"command": ["true"]}}]})
