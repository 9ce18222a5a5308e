"""`muleteer transient policies`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from orchestrator.settings import load
from schemas.transient import Kept, Successor, TransientPolicy
from tests.unit.cli.conftest import Muleteer
from tests.unit.cli.transients import POLICIES, apply, clusters, fill
from tests.unit.making import ROOT

WHY = ("--reason", "disks are full")


def test_mistakes_are_named_with_file_line_and_field(anywhere: Muleteer, tmp_path: Path) -> None:
    """All of them at once, of all files; nothing is needed to check them, and nothing is put in force."""
    (tmp_path / "a.yaml").write_text(POLICIES.replace("{run}", "{rum}").replace("1ms", "0s"))
    (tmp_path / "b.yaml").write_text(POLICIES)
    (tmp_path / "c.yaml").write_text("policies:\n  - nam: x\n")

    said = anywhere("transient", "policies", "check", tmp_path)

    assert said.code == 3
    assert f"{tmp_path}/a.yaml:6: policies.0.lifetime" in said.err
    assert f"{tmp_path}/a.yaml:10: policies.0.successor.dataset: there is no value rum" in said.err
    assert (
        f"{tmp_path}/b.yaml:3: policies.0.name: the policy 'clusters' is defined in {tmp_path}/a.yaml too" in said.err
    )
    assert "c.yaml:2: policies.0.nam: there is no such field; did you mean name?" in said.err


@pytest.mark.parametrize(("path", "code"), [("nowhere.yaml", 4), ("empty", 3)])
def test_what_is_not_there_is_said(anywhere: Muleteer, tmp_path: Path, path: str, code: int) -> None:
    (tmp_path / "empty").mkdir()

    assert anywhere("transient", "policies", "check", tmp_path / path).code == code


def test_runs_that_stay_are_read_from_their_file(muleteer: Muleteer, home: Path) -> None:
    """As the file is now; one with no run in it would keep nothing, and is refused."""
    text = POLICIES + "    keep: {runs: {include_file: runs.txt}}\n"
    (home / "runs.txt").write_text("# nobody\n")
    (home / "policies.yaml").write_text(text)
    none = muleteer("transient", "policies", "apply", home / "policies.yaml", *WHY)
    (home / "runs.txt").write_text("21615\n21620..21625\n")
    apply(muleteer, home, text)

    (shown,) = muleteer("transient", "policies", "list", "--json").json

    assert none.code == 3
    assert "keep.runs.include_file" in none.err
    assert len(shown["policy"]["keep"]["runs"]["include"]) == 2


def test_a_policy_goes_in_force_with_a_reason(muleteer: Muleteer, home: Path) -> None:
    """A dry run needs none, and changes nothing."""
    path = home / "policies.yaml"
    path.write_text(POLICIES)

    silent = muleteer("transient", "policies", "apply", path)
    blank = muleteer("transient", "policies", "apply", path, "--reason", " ")
    dry = muleteer("transient", "policies", "apply", path, "--dry-run")
    before = muleteer("transient", "policies", "list", "--json").json
    done = muleteer("transient", "policies", "apply", path, *WHY, "--json")
    again = muleteer("transient", "policies", "apply", path, *WHY)

    assert (silent.code, blank.code, dry.code, before) == (2, 2, 0, [])
    assert "nothing was changed" in dry.out
    assert done.json["added"] == ["clusters"]
    assert "as before" in again.out
    shown = muleteer("transient", "policies", "show", "clusters")
    assert "disks are full" in shown.out
    assert "undo: 1d" in shown.out


def test_what_is_shown_can_be_applied_again(muleteer: Muleteer, home: Path) -> None:
    """Word for word the same policy."""
    apply(muleteer, home)
    shown = muleteer("transient", "policies", "show", "clusters").out
    (home / "policies.yaml").write_text(shown[shown.index("policies:") :])

    assert "as before" in muleteer("transient", "policies", "apply", home / "policies.yaml", *WHY).out


def test_a_policy_is_switched_confirmed_and_taken_out(muleteer: Muleteer, home: Path) -> None:
    """Each a version of its own, with who and why; all stay to be read. What is confirmed is what it matches now."""
    for run in (1, 2):
        fill(muleteer, home, clusters(run), 1)
    apply(muleteer, home)
    slip = muleteer("transient", "policies", "confirm", "clusters", "--matches", "1000000", *WHY)

    def do(*words: str) -> int:
        return muleteer("transient", "policies", *words, *WHY).code

    codes = [
        do("confirm", "clusters", "--matches", "2"),
        do("disable", "clusters"),
        do("enable", "clusters"),
        do("remove", "clusters"),
        do("enable", "clusters"),
    ]

    assert (slip.code, "clusters matches 2 now, not 1,000,000" in slip.err) == (3, True)
    assert codes == [0, 0, 0, 0, 4]
    history = muleteer("transient", "policies", "history", "--json").json
    assert [(each["version"], each["confirmed"], each["policy"].get("enabled", True)) for each in history] == [
        (3, None, True),
        (2, None, False),
        (1, 2, True),
    ]
    assert all(each["author"].startswith("cli:") for each in history)
    assert muleteer("transient", "policies", "list", "--json").json == []
    assert "There is no policy" in muleteer("transient", "policies", "list").out
    assert "clusters" in muleteer("transient", "policies", "history").out
    assert muleteer("transient", "policies", "disable", "clusters").code == 2


def test_a_confirmation_needs_the_catalog(muleteer: Muleteer, home: Path) -> None:
    """What cannot be counted is not confirmed; nor a policy that there is not."""
    apply(muleteer, home)
    none = muleteer("transient", "policies", "confirm", "others", "--matches", "1", *WHY)
    (home / "catalog.db").unlink(missing_ok=True)
    (home / "catalog.db").mkdir()

    said = muleteer("transient", "policies", "confirm", "clusters", "--matches", "1", *WHY)

    assert (none.code, said.code) == (4, 5)
    assert [each["confirmed"] for each in muleteer("transient", "policies", "list", "--json").json] == [None]


def test_two_policies_over_the_same_datasets_are_warned_of(muleteer: Muleteer, home: Path) -> None:
    """Also if the other one was applied before."""
    apply(muleteer, home)
    (home / "more.yaml").write_text(POLICIES.replace("name: clusters", "name: others"))

    said = muleteer("transient", "policies", "apply", home / "more.yaml", "--dry-run")

    assert said.code == 0
    assert "warning: others and clusters match the same datasets" in said.err


# The documentation.


def test_the_policies_and_settings_of_the_how_to_can_be_used(anywhere: Muleteer, tmp_path: Path) -> None:
    """As they stand there."""
    page = (ROOT / "docs" / "how-to" / "transient-files.md").read_text()
    policies, _ = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (settings,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "policies.yaml").write_text(policies)
    (tmp_path / "muleteer.toml").write_text(settings)

    assert anywhere("transient", "policies", "check", tmp_path / "policies.yaml").code == 0
    assert load(tmp_path).transient.accounts == ("production",)


@pytest.mark.parametrize(
    ("title", "model"), [("# Policies", TransientPolicy), ("## `successor`", Successor), ("## `keep`", Kept)]
)
def test_every_field_has_its_line_in_the_reference(title: str, model: type[BaseModel]) -> None:
    """And no line is of a field that there is not."""
    page = (ROOT / "docs" / "reference" / "policies.md").read_text()
    table = page.partition(title)[2].partition("\n## ")[0]

    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(model.model_fields)


def test_a_policy_that_somebody_disabled_is_not_switched_on_without_a_word(muleteer: Muleteer, home: Path) -> None:
    """The usual file does so, and says who had disabled it, when and why; also before it is done."""
    apply(muleteer, home)
    disabled = muleteer("transient", "policies", "disable", "clusters", "--reason", "it takes too much")
    again = ("transient", "policies", "apply", home / "policies.yaml", *WHY)

    dry, done, idle = muleteer(*again, "--dry-run"), muleteer(*again), muleteer(*again, "--json")

    assert "switches it on" not in disabled.err
    for said in (dry, done):
        assert "warning: clusters was disabled by cli:" in said.err
        assert "it takes too much; this switches it on again" in " ".join(said.err.split())
    assert not any("switches it on" in each for each in idle.json["remarks"])
