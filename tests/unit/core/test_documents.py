"""Reading YAML documents, and saying of every mistake on which line it is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import RootModel

from orchestrator.core.documents import Document, DocumentError, written
from schemas.rule import RuleFile

RULES = r"""rules:
  - name: raw-physics
    on: close
    scope: group.sphenix
    pattern: '(?P<project>\w+)_RAW_EVENTS-(?P<run>\d{8})'
    actions:
      - launch: {workflow: calorimeter, parameters: {run: "{run}"}}
      - run: {command: [actors/dispatch.sh, "{name}", "{run}"], timeout: 5m}
"""


def refused(text: str) -> str:
    """Why a rules document was refused."""
    with pytest.raises(DocumentError) as error:
        Document(text, "rules.yaml").read(RuleFile)
    return str(error.value)


def test_the_example_of_the_specification_is_read() -> None:
    """`on` is a word (YAML 1.2), one scope stands for a list of one, an action is its actor's name with options."""
    (rule,) = Document(RULES, "rules.yaml").read(RuleFile).rules

    assert (rule.name, rule.on, rule.scope) == ("raw-physics", ("close",), ("group.sphenix",))
    assert rule.pattern == r"(?P<project>\w+)_RAW_EVENTS-(?P<run>\d{8})"
    assert [action.actor for action in rule.actions] == ["launch", "run"]
    assert rule.actions[0].options == {"workflow": "calorimeter", "parameters": {"run": "{run}"}}
    assert rule.actions[1].options == {"command": ["actors/dispatch.sh", "{name}", "{run}"], "timeout": "5m"}


@pytest.mark.parametrize(
    ("wrong", "right", "said"),
    [
        ("scop:", "scope:", "rules.yaml:4: rules.0.scop: there is no such field"),
        ("name: raw physics", "name: raw-physics", "rules.yaml:2: rules.0.name: expected a text that matches"),
        ("on: []", "on: close", "rules.yaml:3: rules.0.on: "),
        ("pattern: [a]", "pattern: '(?P<project>\\w+)_RAW_EVENTS-(?P<run>\\d{8})'", "rules.yaml:5: rules.0.pattern"),
        ("- launch: [x]", '- launch: {workflow: calorimeter, parameters: {run: "{run}"}}', "rules.yaml:7: rules.0.act"),
        ("- retry: {}", '- launch: {workflow: calorimeter, parameters: {run: "{run}"}}', "an action names one actor"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_field(wrong: str, right: str, said: str) -> None:
    """An operator finds the place without counting."""
    assert right in RULES
    assert said in refused(RULES.replace(right, wrong))


def test_every_mistake_is_named_at_once() -> None:
    """Nobody mends one line only to hear of the next."""
    text = refused(RULES.replace("scope:", "scop:").replace("on: close", "on: []"))

    assert [line.split(" ")[0] for line in text.splitlines()] == ["rules.yaml:3:", "rules.yaml:4:"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rules: [", "rules.yaml:1:"),
        ("a: 1\na: 2", 'rules.yaml:2: found duplicate key "a"'),
        ("rules:\n\t- x", "rules.yaml:2:"),
        ("a: b: c", "rules.yaml:1: mapping values are not allowed here"),
        ("a: 1\n---\nb: 2", "rules.yaml:"),
        ("\0", "rules.yaml: "),
        ("", "rules.yaml:1: expected fields with values (name: value)"),
        ("just words", "rules.yaml:1: expected fields with values (name: value)"),
        ("rules: &a [*a]", "rules.yaml:"),
        ("[" * 1000, "rules.yaml:"),
    ],
)
def test_what_is_not_the_yaml_that_is_wanted_is_refused(text: str, said: str) -> None:
    """Whatever a file holds, the answer is a sentence with the file's name."""
    assert said in refused(text)


def test_numbers_and_words_keep_their_kind() -> None:
    """YAML 1.2: `on`, `yes` and `off` are words; 5 is a number; 0o10 and 1e3 are numbers as well."""
    text = RULES.replace("timeout: 5m", "timeout: 300, environment: {A: on, B: yes, C: off, D: '1'}")

    options = Document(text, "rules.yaml").read(RuleFile).rules[0].actions[1].options

    assert options["timeout"] == 300
    assert options["environment"] == {"A": "on", "B": "yes", "C": "off", "D": "1"}
    assert {type(value) for value in options["environment"].values()} == {str}


_LOOK_LIKE_MORE = (
    "on",
    "null",
    "True",
    "1",
    "1e3",
    "5m",
    "0x1F",
    "1_000",
    ".inf",
    "~",
    "2026-11-22",
    "<<",
    "---",
    "'",
    '"',
)
_ARE_MORE = (
    "a: b",
    "#x",
    "- x",
    "a\nb",
    "a\n",
    "\na",
    "  a\nb",
    "a\n\n",
    " ",
    "x ",
    "{run}",
    r"\d{8}",
    "\0",
    "\x85",
    "\u2028",
)
_TEXTS = st.text(max_size=12) | st.sampled_from((*_LOOK_LIKE_MORE, *_ARE_MORE))
_VALUES = st.recursive(
    _TEXTS | st.integers() | st.booleans() | st.none() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=12,
)


class _Anything(RootModel[dict[str, Any]]):
    """A document of any shape."""


@given(st.dictionaries(_TEXTS, _VALUES, max_size=3))
def test_what_is_written_reads_as_it_was(values: dict[str, Any]) -> None:
    """Whatever a text holds, and whatever it looks like, it comes back as the same text."""
    assert Document(written(values), "x").read(_Anything).root == values


def test_what_is_written_reads_naturally() -> None:
    """Patterns stand in single quotes, short lists on one line, words and lengths of time without quotes."""
    text = written({"on": ["open", "close"], "pattern": r"(?P<run>\d{8})'", "timeout": "5m", "text": "a\nb", "n": "3"})

    assert text.splitlines() == [
        "on: [open, close]",
        r"pattern: '(?P<run>\d{8})'''",
        "timeout: 5m",
        "text: |-",
        "  a",
        "  b",
        "n: '3'",
    ]


def test_a_mistake_in_what_a_merge_brought_is_refused_where_it_is_written() -> None:
    """YAML's merge keys are read; what they bring keeps its line, and is named for each rule that has it."""
    said = refused(
        f"{RULES}  - &x\n    name: b\n    limits: {{pace: 3}}\n    actions: [run: ]\n  - <<: *x\n    name: c\n"
    )

    assert [line.partition(": 3 is")[0] for line in said.splitlines()] == [
        "rules.yaml:11: rules.1.limits.pace",
        "rules.yaml:11: rules.2.limits.pace",
    ]
