"""Reading rules files: what could not work is refused before it goes live, with its place."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from actors.run import Run
from orchestrator.core.actor import Tools
from orchestrator.dispatch.actors import Actors, installed
from orchestrator.dispatch.rules import RulesRefused, read_rules
from orchestrator.settings import Settings
from orchestrator.wiring import Muleteer
from schemas.rule import Rule
from tests.unit.making import script

RULES = r"""rules:
  - name: raw-physics
    on: close
    scope: group.sphenix
    pattern: '(?P<project>\w+)_RAW_EVENTS-(?P<run>\d{8})'
    actions:
      - launch: {workflow: calorimeter, parameters: {run: "{run}"}}
      - run: {command: [actors/dispatch.sh, "{name}", "{run}"], timeout: 5m}
"""


@pytest.fixture
def tools(tmp_path: Path) -> Tools:
    """A home with one script, and the workflows that come with the product."""
    script(tmp_path, "dispatch.sh", "")
    (tmp_path / "actors" / "plain.sh").write_text("")
    return Muleteer(tmp_path, Settings()).tools()


def read(tools: Tools, text: str) -> Sequence[Rule]:
    (tools.home / "rules.yaml").write_text(text)
    return read_rules(tools.home / "rules.yaml", installed(), tools)


def refused(tools: Tools, text: str) -> Sequence[str]:
    """The mistakes, without the path before the file's name."""
    with pytest.raises(RulesRefused) as error:
        read(tools, text)
    return str(error.value).replace(f"{tools.home}/", "").splitlines()


def test_the_example_of_the_specification_can_be_applied(tools: Tools) -> None:
    """Its workflow comes with the product, its script is there, its templates name groups and variables."""
    (rule,) = read(tools, RULES)

    assert rule.name == "raw-physics"
    assert [action.actor for action in rule.actions] == ["launch", "run"]


@pytest.mark.parametrize(
    ("right", "wrong", "line", "said"),
    [
        (r"(?P<run>\d{8})'", r"(?P<run>(?=2)\d{8})'", 5, "rules.0.pattern: pattern '"),
        (r"(?P<run>\d{8})'", r"(?P<run>(?=2)\d{8})'", 5, "look-ahead and look-behind are not available"),
        (r"(?P<run>\d{8})'", r"(?P<run>(\d)\1)'", 5, "back-references are not available"),
        (
            '{run: "{run}"}',
            '{run: "{number}"}',
            7,
            "rules.0.actions.0.launch.parameters.run: {number} is neither a group of the",
        ),
        ('{run: "{run}"}', '{run: "{run"}', 7, "rules.0.actions.0.launch.parameters.run: '{run'"),
        ('"{name}"', '"{typo}"', 8, "rules.0.actions.1.run.command.1: {typo} is neither a group"),
        (
            "launch: {",
            "lunch: {",
            7,
            "rules.0.actions.0.lunch: there is no actor 'lunch'; there are: check, extend, keep, launch, reconcile, "
            "register, release, run",
        ),
        ("scope:", "scop:", 4, "rules.0.scop: there is no such field"),
        ("timeout: 5m", "timout: 5m", 8, "rules.0.actions.1.run.timout: there is no such field; did you mean timeout?"),
        ("timeout: 5m", "timeout: soon", 8, "run.timeout: 'soon' is not a length of time"),
        ("timeout: 5m", "timeout: .inf", 8, "run.timeout"),
        ("workflow: calorimeter", "workflow: calo", 7, "rules.0.actions.0.launch: there is no workflow 'calo'"),
        ("workflow: calorimeter, ", "", 7, "rules.0.actions.0.launch.workflow: it is missing"),
        ('{run: "{run}"}', '{rum: "{run}"}', 7, "launch: workflow calorimeter has no parameter rum"),
        ('{run: "{run}"}', '{run: "later"}', 7, "parameter run is 'later', which is not a whole number"),
        ("dispatch.sh", "missing.sh", 8, "run.command: there is no file actors/missing.sh"),
        ("dispatch.sh", "plain.sh", 8, "run.command: actors/plain.sh is not executable: chmod +x actors/plain.sh"),
        ("on: close", "on: close\n    on: open", 4, 'found duplicate key "on"'),
    ],
)
def test_a_mistake_is_refused_with_file_line_and_field(
    tools: Tools, right: str, wrong: str, line: int, said: str
) -> None:
    """Whoever wrote the rule is led to the place, and told what is allowed."""
    assert right in RULES

    (mistake,) = refused(tools, RULES.replace(right, wrong))

    assert mistake.startswith(f"rules.yaml:{line}: ")
    assert said in mistake


@pytest.mark.parametrize("text", ["rules: [", "just words", "rules: 5", "{}", "\tx", "", "rules: [1]"])
def test_what_is_no_rules_file_is_refused(tools: Tools, text: str) -> None:
    """Not YAML, or not `rules:` and a list."""
    assert all(mistake.startswith("rules.yaml:1: ") for mistake in refused(tools, text))


def test_two_rules_of_one_name_are_refused_where_the_second_stands(tools: Tools) -> None:
    """A name stands for one rule, in one file and across the files of a folder."""
    second = RULES.replace("rules:\n", "")

    (mistake,) = refused(tools, RULES + second)

    assert "raw-physics" in mistake
    assert mistake.startswith("rules.yaml:9: rules.1.name: ")


def test_the_files_of_a_folder_are_one_set(tools: Tools) -> None:
    """All are read, in order of their names; two rules of one name are found wherever they stand."""
    folder = tools.home / "rules"
    folder.mkdir()
    (folder / "a.yaml").write_text(RULES)
    (folder / "b.yml").write_text(RULES.replace("raw-physics", "other"))
    (folder / "note.txt").write_text("no rules")
    assert [rule.name for rule in read_rules(folder, installed(), tools)] == ["raw-physics", "other"]
    (folder / "b.yml").write_text(RULES)

    with pytest.raises(RulesRefused) as error:
        read_rules(folder, installed(), tools)

    assert f"{folder}/b.yml:2: rules.0.name: the rule 'raw-physics' is defined in {folder}/a.yaml too" in str(
        error.value
    )


def test_every_mistake_of_every_file_is_named_at_once(tools: Tools) -> None:
    """Nobody mends one file only to hear of the next."""
    folder = tools.home / "rules"
    folder.mkdir()
    (folder / "a.yaml").write_text(RULES.replace("dispatch.sh", "missing.sh").replace("calorimeter", "none"))
    (folder / "b.yaml").write_text("rules: [")
    (folder / "c.yaml").write_bytes(b"\xff")

    with pytest.raises(RulesRefused) as error:
        read_rules(folder, installed(), tools)

    places = [line.removeprefix(f"{folder}/").split(" ")[0] for line in str(error.value).splitlines()]
    assert places == ["a.yaml:7:", "a.yaml:8:", "b.yaml:1:", "c.yaml:"]


def test_a_folder_without_rules_is_no_empty_set(tools: Tools) -> None:
    """A mistyped folder must not prune every rule."""
    (tools.home / "empty").mkdir()

    with pytest.raises(RulesRefused, match=r"there is no \.yaml file in this folder"):
        read_rules(tools.home / "empty", installed(), tools)


def test_an_actor_that_does_not_load_says_why(tools: Tools) -> None:
    """A broken actor of somebody else's is named as broken, not as missing."""
    actors = Actors({"run": Run()}, {"launch": "somebody:Launch does not load: no module"})
    (tools.home / "rules.yaml").write_text(RULES)

    with pytest.raises(RulesRefused, match="the actor 'launch' cannot be used: somebody:Launch does not load"):
        read_rules(tools.home / "rules.yaml", actors, tools)


def test_the_actors_that_come_with_the_product_are_found() -> None:
    """By their entry point, as anyone's are."""
    actors = installed()

    assert {"run", "launch"} <= set(actors.usable)
    assert actors.broken == {}
