"""The generated JSON Schemas: fresh, and of the documents as people write them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from schemas.generate import FOLDER, generate
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
    ],
)
def test_a_rule_of_another_shape_does_not_validate(change: dict[str, Any]) -> None:
    """An editor marks what `muleteer rules apply` would refuse."""
    document = example()
    document["rules"][0] |= change

    assert not validator("rule").is_valid(document)


@pytest.mark.parametrize(
    "change",
    [
        {"on": ["open", "closed"], "scope": ["a", "b*"]},
        {"actions": [{"launch": None}]},
        {"actions": [{"run": {}, "retry": {"attempts": 5, "delay": 10, "longest": "1h"}}]},
    ],
)
def test_every_way_to_write_a_rule_validates(change: dict[str, Any]) -> None:
    """Lists and single words, actions with and without options and retry."""
    document = example()
    document["rules"][0] |= change

    validator("rule").validate(document)
