"""The rules that the documentation shows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from ruamel.yaml import YAML

from orchestrator.core.clauses import Facts
from orchestrator.core.conditions import Condition
from orchestrator.core.matching import RuleSet
from orchestrator.dispatch.actors import installed
from orchestrator.dispatch.rules import read_rules_text
from orchestrator.settings import Settings
from orchestrator.wiring import Muleteer
from schemas.generate import FOLDER
from schemas.rule import Rule
from tests.unit.making import ROOT, UNMATCHED, message, script, version

REFERENCE = ROOT / "docs" / "reference" / "rules.md"
PAGES = (REFERENCE, *(ROOT / "docs" / "how-to" / name for name in ("first-rule.md", "switch-a-tag.md")))
SHOWN = [
    pytest.param(text, id=f"{page.stem}-{number}")
    for page in PAGES
    for number, text in enumerate(re.findall(r"```yaml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL))
]


def read(home: Path, text: str) -> Rule:
    script(home, "dispatch.sh", "")
    (rule,) = read_rules_text(text, "shown", home, installed(), Muleteer(home, Settings()).tools())
    return rule


@pytest.mark.parametrize("text", SHOWN)
def test_every_rule_that_is_shown_can_be_applied(tmp_path: Path, text: str) -> None:
    """As it stands, and an editor that knows the schema accepts it too."""
    rule = read(tmp_path, text)

    schema = json.loads((FOLDER / "rule.schema.json").read_text())
    Draft202012Validator(schema).validate(YAML(typ="safe").load(text))
    assert rule.name in text


def test_every_field_has_its_line_in_the_reference() -> None:
    """And no line is of a field that there is not."""
    table = REFERENCE.read_text().partition("## Every field")[2].partition("All rules")[0]

    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(Rule.model_fields)


@pytest.mark.parametrize(
    ("written", "holds", "fails"),
    [
        ("RAW", "RAW", "RAW2"),
        ("5", 5.0, 6),
        (5, "5", "6"),
        (True, "true", "false"),
        ("RAW*", "RAW2", "LRAW"),
        (">= 4 GB", 4_000_000_000, 3_999_999_999),
        ("> 4 GiB", 2**32 + 1, 2**32),
        ("< 2026-11-22", "2026-11-21 23:59:59", "2026-11-22"),
        ("= RAW*", "RAW*", "RAW2"),
        ("!= RAW", "RAW2", "RAW"),
        ("10..20", 20, 21),
        ("10..", 10, 9),
        ("..20", 20, 21),
        ("!RAW*", "LASER", "RAW2"),
    ],
)
def test_conditions_hold_for_what_the_reference_says(written: bool | int | str, holds: object, fails: object) -> None:
    """Each way to write one, with a value beside its border."""
    condition = Condition([written])

    assert (condition.holds(holds), condition.holds(fails), condition.holds(None)) == (True, False, False)


@pytest.mark.parametrize(
    ("run", "tag"), [(59640, "2024p012"), (59641, "2025p000"), (61999, "2025p000"), (62000, "2025p001")]
)
def test_the_tag_is_switched_at_the_run_that_the_how_to_names(tmp_path: Path, run: int, tag: str) -> None:
    """The first and the last run of each range get its value."""
    last = re.findall(r"```yaml\n(.*?)```", PAGES[2].read_text(encoding="utf-8"), re.DOTALL)[-1]
    rules = RuleSet(1, [version(read(tmp_path, last))], UNMATCHED)

    (match,) = rules.judge(Facts(message(name=f"PHYSICS_RAW_EVENTS-{run:08d}"))).matches

    assert match.planned[0].options["command"][1] == f"calibrate PHYSICS of {run:08d} into run{run:08d}-{tag}"
    assert match.unique_key == f"calibrate-PHYSICS-{run:08d}-{tag}"
