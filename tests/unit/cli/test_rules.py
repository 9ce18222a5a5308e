"""Rules changed at runtime by command: what is printed, what is kept, and what is in force afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from orchestrator.core.matching import RuleSet
from orchestrator.store.store import Store
from schemas.generate import FOLDER
from schemas.rule import Rule
from tests.unit.making import NOW, UNMATCHED, frame, rule, script

Muleteer = Callable[..., Any]

#: Where the installed command lies.
BIN = Path(sys.executable).parent

NOISY = rule("noisy", r"X-(?P<run>\d+)", {"run": {"command": ["echo", "{run:08d}"]}}, description="Two\nlines")
QUIET = rule("quiet", group="g", priority=5, prescale=10, where={"bytes": ">= 4 GB"})


@pytest.fixture
def live(store: Store) -> Store:
    """Two rules in force, and three dispatches of `noisy` ready."""
    store.rules.apply([NOISY, QUIET], prune=False, who="cli:me", reason="begin", now=NOW)
    frames = [frame(name=f"X-{number}") for number in range(3)]
    store.messages.take_in(frames, origin="broker", now=NOW)
    judging = RuleSet(1, store.rules.in_force()[1], UNMATCHED)
    store.dispatches.judge(judging, now=NOW, limit=100)
    return store


def in_force(store: Store) -> dict[str, Rule]:
    return {version.rule.name: version.rule for version in store.rules.in_force()[1]}


@dataclass(frozen=True)
class Editor:
    """$EDITOR is a script that notes which file it gets, as its second word."""

    home: Path

    def does(self, lines: str) -> None:
        """The script goes on like this."""
        script(self.home, "editor", f'echo "$2" >> {self.home}/edited\n{lines}')

    @property
    def drafts(self) -> list[Path]:
        """The files that it was given and that are still there."""
        edited = self.home / "edited"
        names = edited.read_text().splitlines() if edited.exists() else []
        return [path for path in map(Path, names) if path.exists()]


@pytest.fixture
def editor(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Editor]:
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", f"{home}/actors/editor --wait")
    found = Editor(home)
    yield found
    for draft in found.drafts:
        draft.unlink()


# Applying, listing, exporting.


def test_what_applying_would_do_is_said_and_not_done(live: Store, muleteer: Muleteer, home: Path) -> None:
    """A dry run says what would change, also what is in flight of a rule that would go; and changes nothing."""
    (home / "new.yaml").write_text("rules:\n  - name: new\n    actions:\n      - run: {command: [echo]}\n")
    before = live.rules.in_force()

    said = muleteer("rules", "apply", home / "new.yaml", "--prune", "--dry-run")
    as_json = muleteer("rules", "apply", home / "new.yaml", "--prune", "--dry-run", "--json").json

    assert said.out.splitlines() == [
        "added     new",
        "removed   noisy, quiet",
        "revision 2 would be in force; nothing was changed",
        "noisy: in flight are dispatches 3 ready (1, 2, 3), and go on untouched",
        "quiet: nothing of it is in flight",
    ]
    assert (as_json["added"], as_json["removed"], as_json["dry_run"]) == (["new"], ["noisy", "quiet"], True)
    assert as_json["in_flight"]["noisy"]["count"] == 3
    assert live.rules.in_force() == before


def test_who_applied_rules_and_why_is_kept(live: Store, muleteer: Muleteer, home: Path) -> None:
    """With the version, in the history, and in the journal."""
    (home / "new.yaml").write_text("rules:\n  - name: new\n    actions:\n      - run: {command: [echo]}\n")

    muleteer("rules", "apply", home / "new.yaml", "--reason", "run 26 begins")

    version = live.rules.version("new")
    assert version.author is not None
    assert version.author.startswith("cli:")
    assert version.reason == "run 26 begins"
    assert live.journal.of("rule", version.id)[0].why == "added new: run 26 begins"
    assert muleteer("rules", "history", "--json").json[0]["reason"] == "run 26 begins"


def test_the_list_names_what_sets_a_rule_apart(live: Store, muleteer: Muleteer) -> None:
    """Group, priority, prescale and conditions, where there are any."""
    said = muleteer("rules", "list").out

    assert "group g; priority 5; 1 of 10; where bytes" in said
    assert "priority 0" not in said


def test_exported_rules_are_the_ones_in_force(live: Store, muleteer: Muleteer, home: Path) -> None:
    """Applying the file finds every rule unchanged; on standard output there is nothing but the file."""
    shown = muleteer("rules", "export").out
    muleteer("rules", "export", "--output", home / "all.yaml")

    applied = muleteer("rules", "apply", home / "all.yaml", "--prune", "--json").json

    assert (home / "all.yaml").read_text() == shown
    assert (applied["revision"], applied["unchanged"]) == (1, ["noisy", "quiet"])
    as_json = muleteer("rules", "export", "--json").json
    assert [Rule.model_validate(each) for each in as_json["rules"]] == [NOISY, QUIET]
    assert muleteer("rules", "export", "--output", home / "no" / "folder").code == 3


# Showing.


def test_a_rule_is_shown_as_it_was_written(live: Store, muleteer: Muleteer) -> None:
    """Its text, version, author and reason, and what of it is in flight."""
    said = muleteer("rules", "show", "noisy")
    as_json = muleteer("rules", "show", "noisy", "--json").json

    for words in (
        "in force since revision 1",
        "cli:me",
        "begin",
        r"pattern: 'X-(?P<run>\d+)'",
        "in flight are dispatches 3 ready (1, 2, 3)",
    ):
        assert words in said.out
    assert Rule.model_validate(as_json["rule"]) == NOISY
    assert (as_json["version"], as_json["author"], as_json["in_flight"]["count"]) == (1, "cli:me", 3)


def test_a_version_that_is_no_longer_in_force_can_be_shown(live: Store, muleteer: Muleteer) -> None:
    """By its number; without one, the last of a rule that was taken out. What never was is not found."""
    muleteer("rules", "disable", "noisy", "--reason", "x")
    muleteer("rules", "remove", "noisy", "--reason", "x")

    first, last = (muleteer("rules", "show", "noisy", *more).out for more in (("--version", "1"), ()))

    assert "from revision 1 on, until revision 2 ended it" in first
    assert "from revision 2 on, until revision 3 ended it" in last
    assert "enabled: false" in last
    none = [muleteer("rules", "show", "noisy", "--version", "9"), muleteer("rules", "show", "noise")]
    assert [each.code for each in none] == [4, 4]
    assert "its newest is 2" in none[0].err
    assert "did you mean noisy?" in none[1].err


# Switching, taking out, taking back.


@pytest.mark.parametrize("command", ["disable", "remove"])
def test_what_a_rule_has_begun_is_named_when_it_is_stopped(live: Store, muleteer: Muleteer, command: str) -> None:
    """It goes on untouched, as the rule was; the reason is kept."""
    before = live.dispatches.list()

    said = muleteer("rules", command, "noisy", "--reason", "noise")

    assert said.code == 0
    assert "noisy: in flight are dispatches 3 ready (1, 2, 3), and go on untouched" in said.out
    assert live.dispatches.list() == before
    assert (in_force(live).get("noisy") or NOISY.model_copy(update={"enabled": False})).enabled is False
    assert ("noisy" in in_force(live)) == (command == "disable")
    newest = muleteer("rules", "history", "--json").json[0]
    assert (newest["what"], newest["reason"], newest["touched"][0]["name"]) == (command, "noise", "noisy")


@pytest.mark.parametrize("command", ["enable", "disable", "remove"])
def test_a_name_that_is_not_in_force_stops_the_whole_command(live: Store, muleteer: Muleteer, command: str) -> None:
    """Nothing of it is done, and the name that was perhaps meant is given."""
    before = live.rules.in_force()

    said = muleteer("rules", command, "quiet", "nosy", "--reason", "x")

    assert said.code == 4
    assert "there is no rule 'nosy': did you mean noisy?" in said.err
    assert live.rules.in_force() == before


def test_changes_that_a_person_makes_need_a_reason(live: Store, muleteer: Muleteer) -> None:
    """Whoever reads the history later is told why."""
    for words in (("disable", "noisy"), ("enable", "noisy"), ("remove", "noisy"), ("rollback", "0")):
        assert muleteer("rules", *words).code == 2
    assert live.rules.revision() == 1


def test_a_rule_that_could_not_work_any_more_is_not_enabled(live: Store, muleteer: Muleteer, home: Path) -> None:
    """Its script is gone since it was applied; going back to it is refused as well, and the set stays."""
    path = script(home, "act.sh", "")
    live.rules.apply([rule("acts", ".*", {"run": {"command": ["actors/act.sh"]}})], prune=False, who="me", now=NOW)
    muleteer("rules", "disable", "acts", "--reason", "x")
    path.unlink()
    before = live.rules.in_force()

    said = [muleteer("rules", *words, "--reason", "x") for words in (("enable", "acts"), ("rollback", "2"))]

    assert [each.code for each in said] == [3, 3]
    assert all("rule acts: actions.0.run.command: there is no file" in each.err for each in said)
    assert live.rules.in_force() == before
    script(home, "act.sh", "")
    assert muleteer("rules", "enable", "acts", "--reason", "mended").code == 0
    assert in_force(live)["acts"].enabled


def test_going_back_says_what_it_changed(live: Store, muleteer: Muleteer) -> None:
    """As a new revision; a revision that never was is refused."""
    muleteer("rules", "disable", "noisy", "--reason", "x")
    live.rules.apply([rule("new")], prune=False, who="me", now=NOW)

    said = muleteer("rules", "rollback", "1", "--reason", "worse")

    assert said.out.splitlines() == [
        "changed   noisy",
        "removed   new",
        "unchanged quiet",
        "revision 4 is in force",
        "new: nothing of it is in flight",
    ]
    assert in_force(live) == {"noisy": NOISY, "quiet": QUIET}
    assert muleteer("rules", "rollback", "9", "--reason", "x").code == 4


# History and differences.


def test_the_history_says_when_who_what_and_why(live: Store, muleteer: Muleteer) -> None:
    """Newest first, of all rules or of one."""
    muleteer("rules", "disable", "noisy", "--reason", "noise")
    muleteer("rules", "remove", "quiet", "--reason", "old")

    lines = [" ".join(line.split()) for line in muleteer("rules", "history").out.splitlines()[1:]]

    assert [line.partition(" ")[0] for line in lines] == ["3", "2", "1"]
    assert lines[0].endswith("remove removed quiet 1 old")
    assert lines[1].endswith("disable changed noisy 2 noise")
    assert lines[2].endswith("2026-11-22 01:13:40 UTC cli:me apply added noisy 1, quiet 1 begin")
    numbers = [each["number"] for each in muleteer("rules", "history", "quiet", "--json").json]
    assert numbers == [3, 1]


def test_a_difference_is_shown_as_the_rules_are_written(live: Store, muleteer: Muleteer, home: Path) -> None:
    """Between two revisions, of the last change, or with a file; of some rules only if they are named."""
    muleteer("rules", "disable", "noisy", "quiet", "--reason", "x")
    muleteer("rules", "export", "--output", home / "all.yaml")
    muleteer("rules", "remove", "quiet", "--reason", "x")

    two = muleteer("rules", "diff", "--from", "1", "--to", "2", "noisy").out
    last = muleteer("rules", "diff", "--json").json
    file = muleteer("rules", "diff", "--file", home / "all.yaml", "--json").json

    assert [line for line in two.splitlines() if line[:1] in "+-"] == [
        "--- noisy (revision 1)",
        "+++ noisy (revision 2)",
        "+    enabled: false",
    ]
    assert (last["from"], last["to"], [(each["name"], each["did"]) for each in last["rules"]]) == (
        2,
        3,
        [("quiet", "removed")],
    )
    assert [(each["name"], each["did"]) for each in file["rules"]] == [("quiet", "added")]
    assert (
        muleteer("rules", "diff", "--from", "1", "--to", "1").out == "no difference between revision 1 and revision 1\n"
    )


def test_a_difference_with_what_is_not_there_is_refused(live: Store, muleteer: Muleteer, home: Path) -> None:
    """A revision, a rule, a file, and two ends that contradict each other."""
    codes = [
        muleteer("rules", "diff", *words).code
        for words in (
            ("--from", "9"),
            ("nosy",),
            ("--file", str(home / "none.yaml")),
            ("--file", str(home), "--to", "1"),
        )
    ]

    assert codes == [4, 4, 4, 2]


# Editing.


def test_an_edited_rule_comes_into_force(live: Store, muleteer: Muleteer, editor: Editor) -> None:
    """What the editor leaves is checked and applied, with who and why; nothing is left behind."""
    editor.does('sed -i "s/X-/Y-/" "$2"')

    said = muleteer("rules", "edit", "noisy", "--reason", "renamed")

    assert said.out.splitlines() == ["changed   noisy", "revision 2 is in force"]
    assert in_force(live)["noisy"] == NOISY.model_copy(update={"pattern": r"Y-(?P<run>\d+)"})
    assert (live.rules.version("noisy").reason, editor.drafts) == ("renamed", [])


def test_a_rule_that_was_left_as_it_is_stays(live: Store, muleteer: Muleteer, home: Path, editor: Editor) -> None:
    """No revision for a look; the text says which rule it is."""
    editor.does(f'cp "$2" {home}/seen')

    said = muleteer("rules", "edit", "noisy")

    assert "nothing was changed" in said.out
    assert "# Rule noisy, version 1." in (home / "seen").read_text()
    assert (live.rules.revision(), editor.drafts) == (1, [])


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('sed -i "s/{run:08d}/{rum}/" "$2"', "rules.0.actions.0.run.command.1: {rum} is neither a group"),
        ('sed -i "s/noisy/other/" "$2"', "expected the rule noisy alone; found other"),
        ('printf "\\377" > "$2"', "cannot be read"),
        ("exit 3", "ended with 3"),
    ],
)
def test_an_edit_that_is_refused_is_kept(
    live: Store, muleteer: Muleteer, editor: Editor, lines: str, words: str
) -> None:
    """The mistake is named, the live rule stays, and the edited text is where the message says."""
    editor.does(lines)

    said = muleteer("rules", "edit", "noisy")

    (draft,) = editor.drafts
    assert said.code == 3
    assert words in said.err
    assert f"the edited text is kept in {draft}" in said.err
    assert in_force(live)["noisy"] == NOISY


def test_an_edit_does_not_overwrite_what_somebody_else_changed_meanwhile(
    live: Store, muleteer: Muleteer, home: Path, editor: Editor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their version stays in force, and the edited text is kept."""
    editor.does(f'sed -i "s/X-/Y-/" "$2"\nmuleteer rules disable noisy --reason mine --home {home}')
    monkeypatch.setenv("PATH", f"{BIN}:/usr/bin:/bin")

    said = muleteer("rules", "edit", "noisy")

    assert said.code == 3
    assert "rule noisy is at version 2 now: this was made of version 1" in said.err
    assert len(editor.drafts) == 1
    assert in_force(live)["noisy"] == NOISY.model_copy(update={"enabled": False})


@pytest.mark.usefixtures("live")
def test_only_what_is_in_force_can_be_edited(muleteer: Muleteer, editor: Editor) -> None:
    """Neither a rule that was taken out, nor one that never was."""
    editor.does("true")
    muleteer("rules", "remove", "quiet", "--reason", "x")

    said = [muleteer("rules", "edit", name) for name in ("quiet", "nosy")]

    assert [each.code for each in said] == [4, 4]
    assert not (editor.home / "edited").exists()


@pytest.mark.usefixtures("live")
def test_an_editor_that_is_not_there_is_said(home: Path) -> None:
    """And nothing is left behind in the directory for such files."""
    environment = {"PATH": os.environ["PATH"], "VISUAL": "no-such-editor", "TMPDIR": str(home)}
    words = [str(BIN / "muleteer"), "rules", "edit", "noisy", "--home", str(home)]

    said = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)

    assert said.returncode == 3
    assert "the editor 'no-such-editor' cannot be started" in said.stderr
    assert list(home.glob("noisy-*")) == []


# The first rules file.


def test_init_brings_the_schema_that_its_rules_file_points_at(anywhere: Muleteer, tmp_path: Path) -> None:
    """An editor finds it beside the file; a second `init` brings it up to date."""
    anywhere("init", "--home", tmp_path)
    first = (tmp_path / "rules.yaml").read_text().splitlines()[0]
    schema = tmp_path / first.removeprefix("# yaml-language-server: $schema=")
    ours = (FOLDER / "rule.schema.json").read_text()
    assert schema.read_text() == ours
    schema.write_text("{}")

    anywhere("init", "--home", tmp_path)

    assert schema.read_text() == ours
