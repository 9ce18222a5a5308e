"""Rules that would start each other, as the command line shows them before they are in force."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from orchestrator.cli.commands import app
from orchestrator.store.store import Store

WORKFLOW = """
name: copy
parameters: {}
inputs: {raw: "{scope}:{name}"}
steps: [{name: one, command: ["true"], inputs: [raw], outputs: ["*.out"]}]
outputs: [{dataset: "{scope}:{name}-COPY", step: one}]
"""

RULES = """
rules:
  - name: again
    scope: test
    pattern: 'RAW.*'
    enabled: %s
    actions: [{launch: {workflow: copy}}]
"""


def home(tmp_path: Path, enabled: str = "true") -> Path:
    """A home with a workflow whose product looks like its input, and a rule for both."""
    folder = tmp_path / "workflows" / "copy"
    folder.mkdir(parents=True)
    (folder / "workflow.yaml").write_text(WORKFLOW)
    (tmp_path / "rules.yaml").write_text(RULES % enabled)
    return tmp_path


def do(place: Path, *words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*words, "--home", str(place)])
    return done.exit_code, done.output


def in_force(place: Path) -> int:
    store = Store.open(f"sqlite:///{place / 'muleteer.db'}")
    revision = store.rules.revision()
    store.close()
    return revision


def test_a_cycle_is_shown_and_refused_before_it_is_in_force(tmp_path: Path) -> None:
    """Nothing is changed; whoever means it says so."""
    place = home(tmp_path)

    code, said = do(place, "rules", "apply", str(place / "rules.yaml"))

    assert code == 3
    assert "a cycle of rules, again -> again: {scope}:{name}-COPY may start again again" in said
    assert in_force(place) == 0
    code, said = do(place, "rules", "apply", str(place / "rules.yaml"), "--allow-cycles")
    assert code == 0
    assert "a cycle of rules" in said
    assert in_force(place) == 1


def test_a_cycle_that_is_there_is_not_shown_again(tmp_path: Path) -> None:
    """Only what a change brings is shown with it; `rules lint` shows all."""
    place = home(tmp_path)
    do(place, "rules", "apply", str(place / "rules.yaml"), "--allow-cycles")
    (place / "other.yaml").write_text("rules: [{name: other, pattern: x, actions: [{run: {command: ['true']}}]}]")

    code, said = do(place, "rules", "apply", str(place / "other.yaml"))

    assert code == 0
    assert "cycle" not in said


def test_a_rule_that_is_switched_on_closes_the_cycle(tmp_path: Path) -> None:
    """Written down while it is off, it harms nobody."""
    place = home(tmp_path, enabled="false")
    assert do(place, "rules", "apply", str(place / "rules.yaml"))[0] == 0

    code, said = do(place, "rules", "enable", "again", "--reason", "x")

    assert (code, in_force(place)) == (3, 1)
    assert "again -> again" in said
    assert do(place, "rules", "enable", "again", "--reason", "x", "--allow-cycles")[0] == 0
    assert in_force(place) == 2
