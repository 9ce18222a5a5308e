"""`rules test`, `rules preview` and `rules lint`: rules before they go live."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from orchestrator.store.store import Store
from tests.unit.making import FRAMES, NOW, frame, later, rule

Muleteer = Callable[..., Any]

RAW = r"""
rules:
  - name: raw
    pattern: 'RAW-(?P<run>\d+)'
    unique: "run {run}"
    actions:
      - run: {command: [echo, "{run:08d}"]}
"""

WIDE = RAW.replace(r"RAW-(?P<run>\d+)", r"(RAW|DST)-(?P<run>\d+)")


@pytest.fixture
def rules_file(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "rules.yaml"
        path.write_text(text)
        return path

    return write


RulesFile = Callable[[str], Path]


@pytest.fixture
def past(store: Store) -> Store:
    """Four closes, an hour apart, and a rule in force for two of them."""
    for number, name in enumerate(("RAW-1", "DST-1", "DST-2", "RAW-3", "x")):
        store.messages.take_in([frame(name=name, at=later(3600 * number))], origin="broker", now=NOW)
    store.rules.apply([rule("raw", r"RAW-(?P<run>\d+)")], prune=False, who="test", now=NOW)
    return store


# test


def test_a_rule_is_tried_on_a_name(muleteer: Muleteer, rules_file: RulesFile, store: Store) -> None:
    """What it captures, its unique key, and every template filled in; 1 if nothing matches."""
    path = rules_file(RAW)

    said = muleteer("rules", "test", path, "--name", "data26:RAW-7")
    (value,) = muleteer("rules", "test", path, "--name", "data26:RAW-7", "--json").json
    no = muleteer("rules", "test", path, "--name", "data26:DST-7")

    assert (said.code, said.err) == (0, "")
    assert said.out.splitlines() == [
        "close data26:RAW-7",
        "  rule raw matches",
        "    run = 7",
        "    unique: run 7",
        '    run: {"command": ["echo", "00000007"]}',
    ]
    assert (value["message"], value["did"], value["rules"][0]["answer"]) == (None, "data26:RAW-7", "matches")
    assert value["rules"][0]["actions"] == [{"actor": "run", "options": {"command": ["echo", "00000007"]}}]
    assert (no.code, "rule raw does not match: pattern" in no.out) == (1, True)
    assert muleteer("rules", "test", path, "--name", "data26:RAW-7", "--event", "opened").code == 1


def test_rules_are_tried_on_a_stored_message_and_on_history(
    past: Store, muleteer: Muleteer, rules_file: RulesFile
) -> None:
    """Those in force, or those of a file; all of them or one."""
    assert muleteer("rules", "test", "--message", "1").code == 0
    assert muleteer("rules", "test", "--live", "--message", "2").code == 1
    (value,) = muleteer("rules", "test", rules_file(WIDE), "--message", "2", "--json").json
    assert (value["message"], value["rules"][0]["unique"]) == (2, "run 1")
    history = muleteer("rules", "test", rules_file(WIDE), "--history", "--json").json
    assert history["messages"] == 5
    assert (history["newly_matched"]["count"], history["refused_as_duplicates"]["count"]) == (4, 1)
    one = muleteer("rules", "test", "--history", "--rule", "raw", "--since", "2030-01-01")
    assert (one.code, "of 0 messages" in one.out) == (1, True)


def test_rules_are_tried_on_a_file_of_frames(muleteer: Muleteer, rules_file: RulesFile, tmp_path: Path) -> None:
    """As the broker brings them; nothing is stored. A line that is no frame is named."""
    frames = tmp_path / "frames.jsonl"
    frames.write_text("\n".join(json.dumps({"headers": {}, "body": each["body"]}) for each in FRAMES))
    every = rules_file("rules: [{name: all, on: [close, open], actions: [{run: {command: [echo]}}]}]")

    said = muleteer("rules", "test", every, "--frames", frames, "--json")

    assert len(said.json) == len(FRAMES)
    matched = [each for each in said.json if each["rules"][0]["answer"] == "matches"]
    assert matched
    assert {each["event"] for each in matched} <= {"close", "open"}
    frames.write_text('{"headers": {}, "body": "x"}\n')
    broken = muleteer("rules", "test", every, "--frames", frames)
    assert (broken.code, broken.out) == (3, "")
    assert "line 1: the body is not JSON" in broken.err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ((), 2),
        (("--name", "a:b", "--history"), 2),
        (("--name", "nonsense"), 2),
        (("--message", "99"), 4),
        (("--frames", "nowhere"), 4),
        (("nowhere", "--history"), 4),
        (("--message", "1", "--rule", "none"), 4),
    ],
)
def test_what_cannot_be_tried_is_said(past: Store, muleteer: Muleteer, words: tuple[str, ...], code: int) -> None:
    """On what, and on which rules: exactly one of each."""
    said = muleteer("rules", "test", *words)

    assert (said.code, said.out) == (code, "")
    assert said.err


# preview


def test_an_edited_rule_is_compared_with_the_one_in_force(
    past: Store, muleteer: Muleteer, rules_file: RulesFile
) -> None:
    """What it would match and start, and of that what is refused; by rule, with examples, hour by hour."""
    value = muleteer("rules", "preview", rules_file(WIDE), "--json").json

    assert value["messages"] == 5
    assert (value["newly_matched"]["count"], value["no_longer_matched"]["count"]) == (2, 0)
    assert [each["did"] for each in value["newly_matched"]["examples"]] == [
        "group.sphenix:DST-1",
        "group.sphenix:DST-2",
    ]
    (raw,) = value["rules"]
    assert (raw["rule"], raw["what"], raw["gained"], raw["lost"]) == ("raw", "changed", 2, 0)
    assert raw["matched"] == {"before": 2, "after": 4}
    assert (raw["refused"], raw["started"]) == ({"before": 0, "after": 1}, {"before": 2, "after": 3})
    note = value["refused_as_duplicates"]["examples"][0]["note"]
    assert note == "the key 'run 1' is taken by message 1"
    assert [(each["hour"][11:13], each["before"], each["after"]) for each in value["hours"]] == [
        ("01", 1, 1),
        ("03", 0, 1),
        ("04", 1, 1),
    ]
    assert value["per_hour"]["after"] == {"peak": 1, "peak_hour": "2026-11-22 01:00", "mean": 0.75}


def test_a_preview_can_be_read_and_seen(past: Store, muleteer: Muleteer, rules_file: RulesFile, tmp_path: Path) -> None:
    """A table and bars in the terminal, and a picture in a file; nothing is changed by it."""
    picture = tmp_path / "out.svg"
    before = past.rules.in_force(), past.journal.since(0)

    said = muleteer("rules", "preview", rules_file(WIDE), "--svg", picture)

    assert (said.code, said.err) == (0, "")
    assert "2 -> 4" in said.out
    assert "group.sphenix:DST-2" in said.out
    assert "2026-11-22 03:00  ####" in said.out
    drawn = ElementTree.fromstring(picture.read_text())
    titles = [each.text for each in drawn.iter("{http://www.w3.org/2000/svg}title")]
    assert "2026-11-22 03:00 UTC: 0 before, 1 after" in titles
    assert (past.rules.in_force(), past.journal.since(0)) == before


def test_rules_that_are_not_given_stay_unless_pruned(past: Store, muleteer: Muleteer, rules_file: RulesFile) -> None:
    """As with `rules apply`; without any difference there is nothing to show."""
    other = rules_file(RAW.replace("raw", "other").replace("RAW", "DST"))

    kept = muleteer("rules", "preview", other, "--json").json
    pruned = muleteer("rules", "preview", other, "--prune", "--json").json

    assert [(each["rule"], each["what"]) for each in kept["rules"]] == [("other", "added")]
    assert [(each["rule"], each["what"]) for each in pruned["rules"]] == [("other", "added"), ("raw", "removed")]
    assert pruned["no_longer_matched"]["count"] == 2
    same = rules_file("rules: [{name: raw, pattern: 'RAW-(?P<run>\\d+)', actions: [{run: {command: ['true']}}]}]")
    assert muleteer("rules", "preview", same).out == "Nothing differs from the rules in force.\n"


def test_a_part_of_history_can_be_previewed(past: Store, muleteer: Muleteer, rules_file: RulesFile) -> None:
    """By when messages arrived."""
    value = muleteer("rules", "preview", rules_file(WIDE), "--until", "2026-11-22T00:00", "--json").json

    assert (value["messages"], value["newly_matched"]["count"], value["hours"]) == (0, 0, [])


def test_a_file_that_is_refused_is_not_previewed(past: Store, muleteer: Muleteer, rules_file: RulesFile) -> None:
    """With its line, as when it is applied; a picture that cannot be written is said."""
    said = muleteer("rules", "preview", rules_file(RAW.replace("{run}", "{ran}")))
    svg = muleteer("rules", "preview", rules_file(WIDE), "--svg", "/nowhere/x.svg")

    assert (said.code, said.out, "{ran}" in said.err) == (3, "", True)
    assert (svg.code, "cannot be written" in svg.err) == (3, True)


# lint


def test_rules_are_looked_over(past: Store, muleteer: Muleteer, rules_file: RulesFile) -> None:
    """In force, or as if a file were applied; warnings alone are no failure."""
    assert muleteer("rules", "lint").out == "Nothing to be said of 1 rules.\n"
    path = rules_file(RAW.replace("raw", "never").replace("RAW", "nothing"))

    said = muleteer("rules", "lint", path)
    (value,) = muleteer("rules", "lint", path, "--json").json

    assert said.code == 0
    assert "never" in said.out
    assert (value["level"], value["rule"], value["what"]) == ("warning", "never", "never")


def test_a_loop_is_an_error(past: Store, muleteer: Muleteer, rules_file: RulesFile, home: Path) -> None:
    """A rule that would start on what it makes ends the command with 1."""
    path = rules_file(
        "rules: [{name: again, pattern: 'rn.*|RAW.*', actions: [{launch: {workflow: calorimeter, "
        'parameters: {run: "00000001"}}}]}]'
    )

    said = muleteer("rules", "lint", path, "--json")

    assert said.code == 1
    errors = [each for each in said.json if each["level"] == "error"]
    assert [(each["rule"], each["what"]) for each in errors] == [("again", "cycle")]
    assert errors[0]["found"].startswith("again -> again: {scope}:rn{run:08d}-CALOR-DST")
