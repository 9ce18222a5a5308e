"""The generated JSON Schemas: fresh, and of the documents as people write them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError
from ruamel.yaml import YAML

from schemas.generate import FOLDER, generate
from schemas.rule import Rule, RuleFile
from schemas.transient import TransientPolicy, TransientPolicyFile
from tests.unit.making import ROOT

EXAMPLE = r"""
rules:
  - name: raw-physics
    on: close
    scope: group.sphenix
    pattern: '(?P<project>\w+)_RAW_EVENTS-(?P<run>\d{8})'
    actions:
      - launch: {workflow: calorimeter, parameters: {run: "{run}"}}
      - run: {command: [actors/dispatch.sh, "{name}", "{run}"], timeout: 5m}
"""


def validator(name: str) -> Draft202012Validator:
    schema = json.loads((FOLDER / f"{name}.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def example() -> Any:
    return YAML(typ="safe").load(EXAMPLE)


def test_the_generated_files_are_fresh() -> None:
    """`python -m schemas.generate` would change nothing, and no other schema lies about."""
    files = {path.name: path.read_text() for path in FOLDER.iterdir()}

    assert files == generate()


def test_the_example_of_the_specification_validates() -> None:
    """An editor that knows the schema accepts what `muleteer rules apply` accepts."""
    validator("rule").validate(example())


@pytest.mark.parametrize("name", sorted(path.parent.name for path in ROOT.glob("workflows/*/workflow.yaml")))
def test_each_workflow_that_comes_with_the_product_validates(name: str) -> None:
    """The workflows are examples of their schema."""
    document = YAML(typ="safe").load(ROOT / "workflows" / name / "workflow.yaml")

    validator("workflow").validate(document)


@pytest.mark.parametrize(
    "change",
    [
        {"typo": 1},
        {"on": 5},
        {"name": "two words"},
        {"actions": []},
        {"actions": ["run"]},
        {"actions": [{}]},
        {"actions": [{"retry": {}}]},
        {"actions": [{"run": {}, "launch": {}}]},
        {"actions": [{"run": {}, "retry": {"typo": 1}}]},
        {"where": {"bytes": {"a": 1}}},
        {"where": {"bytes": [[1]]}},
        {"where": {"bytes": None}},
        {"where": "bytes"},
        {"runs": {"include": 5.5}},
        {"runs": [5]},
        {"runs": {"includes": 5}},
        {"values": {"tag": [{"from": 5}]}},
        {"values": {"tag": [{"from": -5, "value": "x"}]}},
        {"values": {"tag": [{"frm": 5, "value": "x"}]}},
        {"values": {"tag": {"a": "x"}}},
        {"limits": {"pace": 50}},
        {"limits": {"pace": "fast"}},
        {"limits": {"order": "random"}},
        {"prescale": 0},
        {"priority": 1001},
        {"unique": ""},
        {"unmatched": "held"},
        {"join": {"key": "{run}", "members": {"a": "x"}}},
    ],
    ids=json.dumps,
)
def test_a_rule_of_another_shape_does_not_validate(change: dict[str, Any]) -> None:
    """An editor marks what `muleteer rules apply` refuses."""
    document = example()
    document["rules"][0] |= change

    assert not validator("rule").is_valid(document)
    with pytest.raises(ValidationError):
        RuleFile.model_validate(document)


@pytest.mark.parametrize(
    "change",
    [
        {"on": ["open", "closed"], "scope": ["a", "b*"]},
        {"actions": [{"launch": None}]},
        {"actions": [{"run": {}, "retry": {"attempts": 5, "delay": 10, "longest": "1h"}}]},
        {"scope": ["*", "!test"], "search": True, "group": "g", "priority": -5, "prescale": 10, "unmatched": "dropped"},
        {"where": {"bytes": ">= 4 GB", "is_open": False, "events": 5, "x": 1.5, "datatype": ["RAW*", "!RAW_LASER", 3]}},
        {"runs": {"include": 59641, "exclude": "59650..59660"}},
        {"runs": {"include": [59641, "59650.."], "exclude": []}},
        {"runs": {"include_file": "good.txt", "exclude_file": "bad.txt"}},
        {"values": {"run8": "{run:08d}", "build": 2025, "tag": [{"to": 5, "value": "a"}, {"from": 6, "value": 2025}]}},
        {"unique": "{run}-{project}"},
        {"limits": {"running": 0, "pace": "50 per 10m", "order": "newest", "failures": 3}},
        {"limits": {"pace": {"count": 50, "span": "10m"}}},
        {"pattern": ".*", "join": {"key": "{run}", "members": {"a": "A-(?P<run>.+)", "b": "B-(?P<run>.+)"}, "need": 1}},
    ],
    ids=json.dumps,
)
def test_every_way_to_write_a_rule_validates(change: dict[str, Any]) -> None:
    """What the editor accepts is read; and what is written of it when it is shown or exported is accepted too."""
    document = example()
    document["rules"][0] |= change

    validator("rule").validate(document)
    (rule,) = RuleFile.model_validate(document).rules
    validator("rule").validate({"rules": [rule.as_written()]})
    assert Rule.model_validate(rule.as_written()) == rule


POLICIES = r"""
policies:
  - name: hits
    scope: sphenix
    pattern: 'DST_HITS-(?P<run>\d{8})'
    lifetime: 14d
    successor:
      dataset: '{scope}:DST_SEED-{run}'
      require: {numbered: '.*-(?P<n>\d+)'}
"""


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"scope": ["a", "!b"], "where": {"tag": ["a", "!b"], "events": 5}},
        {"keep": {"last_runs": 5, "runs": {"include": 7}, "copies": "tape=1"}, "automatic": True, "fraction": 1},
        {"undo": "1h", "since": "used", "open": True, "made_by": {"workflow": "w", "step": "s"}},
        {"successor": {"dataset": "a:b", "same_count": True, "maps": {"files": "a", "onto": "b"}, "launched": True}},
        {"successor": {"dataset": "a:b", "require": {"numbered": {"pattern": "x", "last": 5}, "files": 5}}},
    ],
    ids=json.dumps,
)
def test_every_way_to_write_a_policy_validates(change: dict[str, Any]) -> None:
    """What the editor accepts is read; and what is written of it when it is shown is accepted too."""
    document = YAML(typ="safe").load(POLICIES)
    document["policies"][0] |= change

    validator("transient").validate(document)
    (policy,) = TransientPolicyFile.model_validate(document).policies
    validator("transient").validate({"policies": [policy.as_written()]})
    assert TransientPolicy.model_validate(policy.as_written()) == policy


@pytest.mark.parametrize(
    "change",
    [
        {"typo": 1},
        {"name": "two words"},
        {"scope": []},
        {"pattern": ""},
        {"lifetime": None},
        {"successor": {}},
        {"successor": {"dataset": "a:b", "maps": {"files": "a"}}},
        {"since": "opened"},
        {"fraction": 0},
        {"fraction": 1.5},
        {"keep": {"last_runs": -1}},
        {"keep": {"copies": ""}},
        {"where": {"bytes": {"a": 1}}},
    ],
    ids=json.dumps,
)
def test_a_policy_of_another_shape_does_not_validate(change: dict[str, Any]) -> None:
    """An editor marks what is refused."""
    document = YAML(typ="safe").load(POLICIES)
    document["policies"][0] |= change

    assert not validator("transient").is_valid(document)
    with pytest.raises(ValidationError):
        TransientPolicyFile.model_validate(document)
