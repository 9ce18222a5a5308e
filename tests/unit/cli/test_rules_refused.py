"""Rules that could not work are refused when they are applied: where, what was found, what is allowed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Muleteer = Callable[..., Any]

LIVE = "rules:\n  - name: live\n    actions:\n      - run: {command: [echo, '{name}']}\n"

GOOD = r"""rules:
  - name: good
    scope: test
    pattern: '(?P<run>\d{8})-(?P<what>\w+)'
    where: {bytes: ">= 4 GB"}
    runs: {include: [59641..60000]}
    values:
      tag:
        - {from: 59641, to: 60000, value: 2025p000}
        - {from: 60001, value: 2025p001}
    unique: "{run}"
    limits: {pace: 50 per 10m}
    actions:
      - launch: {workflow: calorimeter, parameters: {run: "{run}"}}
      - run: {command: [echo, "{what} {tag}", "{name}"], timeout: 5m}
"""

#: The right words, the wrong ones, the line, the field, and parts of what is said of it.
WRONG: list[tuple[str, str, int, str, list[str]]] = [
    # not YAML
    ("scope: test", "scope: [test", 4, "", ["expected ',' or ']'"]),
    ("scope: test", "scope: test\n    scope: x", 4, "", ['found duplicate key "scope"']),
    # unknown fields
    ("scope: test", "scop: test", 3, "rules.0.scop", ["there is no such field; did you mean scope?"]),
    ("timeout: 5m", "timout: 5m", 15, "rules.0.actions.1.run.timout", ["did you mean timeout?"]),
    ("pace: 50 per 10m", "pase: 50 per 10m", 12, "rules.0.limits.pase", ["did you mean pace?"]),
    ("to: 60000, value", "until: 60000, value", 9, "rules.0.values.tag.0.until", ["there are: from, to, value"]),
    ("scope: test", "xyz: test", 3, "rules.0.xyz", ["there is no such field; there are: actions, description,"]),
    # patterns
    ("(?P<what>", "(?=x)(?P<what>", 4, "rules.0.pattern", ["(?=", "look-ahead and look-behind are not available"]),
    (r"(?P<what>\w+)", r"(?P<what>\w)\2", 4, "rules.0.pattern", [r"\2", "back-references are not available"]),
    ("-(?P<what>", "(?P<run>x)(?P<what>", 4, "rules.0.pattern", ["two groups are named 'run'"]),
    ("-(?P<what>", "(?P<1>x)(?P<what>", 4, "rules.0.pattern", ["the group '1' cannot be used in a template"]),
    (r"\w+)'", r"\w+'", 4, "rules.0.pattern", ["missing )"]),
    # templates
    ('"{what} {tag}"', '"{waht} {tag}"', 15, "rules.0.actions.1.run.command.1", ["{waht} is neither a group", "what"]),
    ('"{name}"', '"{name"', 15, "rules.0.actions.1.run.command.2", ["'{name'", "write {{ and }}"]),
    ('run: "{run}"}', 'run: "{rum}"}', 14, "rules.0.actions.0.launch.parameters.run", ["{rum}", "created_at"]),
    ('unique: "{run}"', 'unique: "{key}"', 11, "rules.0.unique", ["{key} is neither a group of the pattern"]),
    ("value: 2025p001", 'value: "{no}"', 10, "rules.0.values.tag.1.value", ["{no} is neither a group"]),
    # values
    ("from: 60001", "from: 60000", 10, "rules.0.values.tag.1", ["59641..60000 and 60000.. overlap"]),
    ("to: 60000,", "to: 5,", 9, "rules.0.values.tag.0", ["the runs from 59641 to 5 end before they begin"]),
    (
        "2025p001}",
        "2025p001}\n      a-tag: x",
        11,
        "rules.0.values.a-tag",
        ["'a-tag' cannot be used in a template: letters"],
    ),
    ("from: 60001", "from: soon", 10, "rules.0.values.tag.1.from", ['expected a whole number; found "soon"']),
    # actors and workflows
    (
        "launch: {",
        "lunch: {",
        14,
        "rules.0.actions.0.lunch",
        ["there is no actor 'lunch'; there are: check, extend, keep, launch, reconcile, register, release, run"],
    ),
    ("calorimeter", "calo", 14, "rules.0.actions.0.launch", ["there is no workflow 'calo'", "calorimeter"]),
    ("workflow: calorimeter, ", "", 14, "rules.0.actions.0.launch.workflow", ["it is missing"]),
    ("[echo,", "[actors/none,", 15, "rules.0.actions.1.run.command", ["there is no file", "actors/none"]),
    # conditions, runs, limits
    ('">= 4 GB"', '">= 4 XB"', 5, "rules.0.where.bytes", ["'4 XB'", "a size (4 GB, 4 GiB) or a time"]),
    ('">= 4 GB"', '[5, "9..3"]', 5, "rules.0.where.bytes.1", ["'9..3' ends before it begins"]),
    ('">= 4 GB"', "{a: 1}", 5, "rules.0.where.bytes", ["a number or a text; found {"]),
    ("59641..60000", "59641-60000", 6, "rules.0.runs.include.0", ["'59641-60000' is neither", "59641.. or ..59641"]),
    ("[59641..60000]", "60000..59641", 6, "rules.0.runs.include", ["ends before it begins"]),
    ("{include: [59641..60000]}", "{include_file: no.txt}", 6, "rules.0.runs.include_file", ["no.txt: No such file"]),
    ("50 per 10m", "50 an hour", 12, "rules.0.limits.pace", ["'50 an hour' is not a pace such as 50 per 10m"]),
    ("50 per 10m", "50 per soon", 12, "rules.0.limits.pace", ["'soon' is not a length of time: write 90s"]),
    ("50 per 10m", "0 per 10m", 12, "rules.0.limits.pace", ["expected 1 or more; found 0"]),
    # other fields
    ("name: good", "name: two words", 2, "rules.0.name", ["A-Za-z0-9", 'found "two words"']),
    ("scope: test", "prescale: 0", 3, "rules.0.prescale", ["expected 1 or more; found 0"]),
    ("scope: test", "enabled: perhaps", 3, "rules.0.enabled", ['expected true or false; found "perhaps"']),
    ("scope: test", "unmatched: held", 3, "rules.0.unmatched", ["'pending' or 'dropped'; found \"held\""]),
]


@pytest.mark.parametrize(("right", "wrong", "line", "field", "said"), WRONG, ids=[f"{w[1]}" for w in WRONG])
def test_a_mistake_is_refused_and_the_live_set_stays(
    muleteer: Muleteer, home: Path, right: str, wrong: str, line: int, field: str, said: list[str]
) -> None:
    """With file, line, field, what was found and what is allowed; and even --prune changes nothing."""
    file = home / "rules.yaml"
    file.write_text(LIVE)
    muleteer("rules", "apply", file)
    before = muleteer("rules", "list", "--json").json
    assert right in GOOD
    file.write_text(GOOD.replace(right, wrong, 1))

    ended = muleteer("rules", "apply", file, "--prune")

    (mistake,) = ended.err.splitlines()
    assert (ended.code, ended.out) == (3, "")
    assert mistake.startswith(f"muleteer: {file}:{line}: {field}{':' if field else ''}")
    assert [words for words in said if words not in mistake] == []
    assert muleteer("rules", "list", "--json").json == before


def test_the_rule_that_the_mistakes_are_made_in_is_right(muleteer: Muleteer, home: Path) -> None:
    """Each of them is refused for its own mistake."""
    (home / "rules.yaml").write_text(GOOD)

    assert muleteer("rules", "apply", home / "rules.yaml").code == 0


def test_every_mistake_of_a_rule_is_named_at_once(muleteer: Muleteer, home: Path) -> None:
    """Several in one action, and across the rule, in the order of the text."""
    text = GOOD.replace('"{what} {tag}", "{name}"', '"{a}", "{b}"').replace("timeout: 5m", "timout: 5m")
    (home / "rules.yaml").write_text(text.replace('">= 4 GB"', '"> x"').replace("workflow: calorimeter, ", ""))

    said = muleteer("rules", "apply", home / "rules.yaml").err

    places = [line.partition("rules.yaml:")[2].rpartition(": ")[0].split(": ")[:2] for line in said.splitlines()]
    assert [(line, field.removeprefix("rules.0.")) for line, field in places] == [
        ("5", "where.bytes"),
        ("14", "actions.0.launch.workflow"),
        ("15", "actions.1.run.command.1"),
        ("15", "actions.1.run.command.2"),
        ("15", "actions.1.run.timout"),
    ]
