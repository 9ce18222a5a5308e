"""Launches on the command line: listed, summed up, shown, watched, given back, and what people ask of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.clock import utc_now
from orchestrator.store.launches import Intent, Noted
from orchestrator.store.store import Store
from schemas.launch import FileCounts, Launch, LaunchState, StepProgress, StepState, SubmissionRecord
from tests.unit.cli.conftest import Muleteer
from tests.unit.making import NOW


@dataclass(frozen=True)
class File:
    """One file of a package."""

    content: bytes
    executable: bool = False


PACKAGE = {"run.sh": File(b"#!/bin/sh\n", True), "data/map.bin": File(bytes(range(256)))}

SITE = """name: bnl
url: http://panda.example.org:25080
url_ssl: https://panda.example.org:25443
vo: sphenix
prefix: group.sphenix
monitor:
  task: https://panda.example.org/task/{id}/
  request: https://panda.example.org/idds/{id}
"""


def launched(store: Store, name: str, state: LaunchState, *, run: int | None = None, now: bool = False) -> Launch:
    """A launch that has come so far; of old, unless it is one of now."""
    at = utc_now() if now else NOW
    steps = [StepProgress(name="reco", state=StepState.WAITING)]
    intent = Intent(name, name, None, "calo", {}, {}, {}, "panda:bnl", steps, run=run)
    launch = store.launches.intend(intent, PACKAGE, who="test", now=at)
    for step in dict.fromkeys((LaunchState.SUBMITTING, LaunchState.SUBMITTED, state)):
        launch = store.launches.advance(launch, step, who="test", why=None, now=at, reference="request:42")
    return launch


@pytest.fixture
def three(store: Store) -> Sequence[Launch]:
    """One that stalls, one that runs, one that has failed."""
    stalls = launched(store, "rn1-CALO", LaunchState.SUBMITTED, run=1)
    runs = launched(store, "rn2-CALO", LaunchState.SUBMITTED, run=2, now=True)
    step = StepProgress(
        name="reco",
        state=StepState.RUNNING,
        task=1234,
        task_status="scouting",
        files=FileCounts(total=10, finished=5, failed=1),
    )
    store.launches.note_progress([Noted(runs, [step], True)], who="watcher", now=utc_now())
    failed = launched(store, "rn3-CALO", LaunchState.FAILED, run=3)
    return [store.launches.get(each.id) for each in (stalls, runs, failed)]


# Looks.


def test_launches_are_listed_with_how_far_they_are(three: Sequence[Launch], muleteer: Muleteer) -> None:
    """Percent and files; one of which nothing was heard for long says so."""
    said = muleteer("launches", "list").out
    listed = muleteer("launches", "list", "--json").json

    assert "50%" in said
    assert "5/10, 1 failed" in said
    assert said.count("1: stalled: nothing new since 2026-11-22 01:13 UTC") == 1
    assert [(each["id"], each["percent"], each["stalled"]) for each in listed] == [
        (3, 0.0, False),
        (2, 50.0, False),
        (1, 0.0, True),
    ]


def test_one_reason_of_many_launches_is_said_once(store: Store, muleteer: Muleteer) -> None:
    """Below the table, with their ids; the end of a log stays with the launch itself, and what finished needs none."""
    ends = {"rn1": "it broke; its log ends with:\nline one\nline two", "rn2": "it broke; its log ends with:\nother"}
    for name, why in ends.items():
        store.launches.advance(
            launched(store, name, LaunchState.RUNNING, now=True), LaunchState.FAILED, who="w", why=why, now=utc_now()
        )
    well = launched(store, "rn3", LaunchState.RUNNING, now=True)
    store.launches.advance(well, LaunchState.FINISHED, who="w", why="closed with 1 file", now=utc_now())

    said = muleteer("launches", "list").out

    assert said.endswith("\n\n2, 1: it broke\n")
    assert "closed with" not in said
    assert "line one" not in said


def test_every_launch_in_a_list_stays_on_its_line_at_80_columns(
    three: Sequence[Launch], muleteer: Muleteer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names, counts and how long ago: nothing is folded."""
    monkeypatch.setenv("COLUMNS", "80")

    lines = muleteer("launches", "list").out.splitlines()

    assert [line.split()[2] for line in lines[1:4]] == ["rn3-CALO", "rn2-CALO", "rn1-CALO"]
    assert all(line.rstrip().endswith("ago") for line in lines[1:4])


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        (["--stalled"], [1]),
        (["--run", "2..3"], [3, 2]),
        (["--run", "1", "--run", "3"], [3, 1]),
        (["--state", "failed"], [3]),
        (["--name", "n2-"], [2]),
        (["--workflow", "other"], []),
        (["--rule", "none"], []),
    ],
)
def test_launches_are_listed_by_filter(
    three: Sequence[Launch], muleteer: Muleteer, words: list[str], ids: list[int]
) -> None:
    """Each filter leaves what it says."""
    assert [each["id"] for each in muleteer("launches", "list", "--json", *words).json] == ids


def test_a_range_that_cannot_be_read_is_refused(three: Sequence[Launch], muleteer: Muleteer) -> None:
    """With what is allowed."""
    said = muleteer("launches", "list", "--run", "3-5")

    assert (said.code, "range such as" in said.err) == (2, True)


def test_launches_are_summed_up_by_run(three: Sequence[Launch], muleteer: Muleteer) -> None:
    """States, steps, percent and files of each run of the detector."""
    listed = muleteer("launches", "runs", "--json", "--run", "2..").json
    said = muleteer("launches", "runs").out

    assert [(each["run"], each["launches"], each["percent"]) for each in listed] == [
        (3, {"failed": 1}, 0.0),
        (2, {"running": 1}, 50.0),
    ]
    assert "1 running" in said
    assert "5/10, 1 failed" in said


def test_a_launch_is_shown_with_its_files_its_tries_and_the_pages_of_the_monitor(
    three: Sequence[Launch], store: Store, muleteer: Muleteer, home: Path
) -> None:
    """What was sent, what came back; links as the site's profile says."""
    (home / "sites").mkdir()
    (home / "sites" / "bnl.yaml").write_text(SITE)
    (home / "muleteer.toml").write_text('[engine]\nkind = "panda"\nsite = "bnl"\n')
    tried = SubmissionRecord(
        launch_id=three[1].id, number=1, command=("pchain", "a b"), started_at=NOW, output="one\nrequestID=42"
    )
    store.launches.note_try(tried)

    said = muleteer("launches", "show", "2", "--files", "--tries").out
    shown = muleteer("launches", "show", "2", "--files", "--tries", "--json").json

    for words in (
        "https://panda.example.org/task/1234/",
        "scouting",
        "run.sh",
        "pchain 'a b'",
        "\n            requestID=42",
    ):
        assert words in said
    assert shown["links"] == {
        "request": "https://panda.example.org/idds/42",
        "reco": "https://panda.example.org/task/1234/",
    }
    assert [each["path"] for each in shown["files"]] == ["data/map.bin", "run.sh"]
    assert [each["output"] for each in shown["tries"]] == ["one\nrequestID=42"]
    assert "exit" not in said.partition("history")[0]  # no step told a code, so there is no column of it


# What was sent.


def test_the_submission_directory_is_rebuilt_byte_for_byte(
    three: Sequence[Launch], muleteer: Muleteer, tmp_path: Path
) -> None:
    """Into a new directory, with what can be run; one that holds something is left alone."""
    to = tmp_path / "a" / "b"

    said = muleteer("launches", "files", "1", "--to", to)
    again = muleteer("launches", "files", "1", "--to", to)

    assert (said.code, "2 files, 266 bytes" in said.out) == (0, True)
    found = {str(path.relative_to(to)): path.read_bytes() for path in to.rglob("*") if path.is_file()}
    assert found == {path: file.content for path, file in PACKAGE.items()}
    assert [bool((to / path).stat().st_mode & 0o100) for path in ("run.sh", "data/map.bin")] == [True, False]
    assert (again.code, "is not empty" in again.err) == (3, True)


def test_one_file_is_printed_as_it_is(three: Sequence[Launch], muleteer: Muleteer) -> None:
    """A path that was not sent is said with those that were."""
    assert muleteer("launches", "files", "1", "--cat", "run.sh").out == "#!/bin/sh\n"

    said = muleteer("launches", "files", "1", "--cat", "run")

    assert (said.code, "there are: data/map.bin, run.sh" in said.err) == (4, True)


def test_nothing_is_written_outside_of_the_directory(store: Store, muleteer: Muleteer, tmp_path: Path) -> None:
    """Whatever a package names."""
    intent = Intent("k", "n", None, "calo", {}, {}, {}, "panda:bnl", ())
    store.launches.intend(intent, {"../out": File(b"x")}, who="test", now=NOW)

    said = muleteer("launches", "files", "1", "--to", tmp_path / "in")

    assert (said.code, (tmp_path / "out").exists()) == (3, False)


# Acting.


def test_what_is_asked_is_written_down_with_who_and_why(
    three: Sequence[Launch], store: Store, muleteer: Muleteer
) -> None:
    """A retry with more memory, of one step; shown with the launch."""
    said = muleteer(
        "launches", "retry", "3", "--reason", "memory", "--memory", "4000", "--step", "reco", "--parameter", "a=b=c"
    )

    assert (said.code, said.out) == (0, "1 launch asked to be retried\n")
    assert "`muleteer launches show 3` has the answer" in said.err
    (asked,) = store.launch_commands.of(three[2].id)
    assert (asked.parameters, asked.step, asked.why) == ({"ramCount": "4000", "a": "b=c"}, "reco", "memory")
    assert asked.who.startswith("cli:")
    shown = muleteer("launches", "show", "3").out
    assert "retry of step reco with a=b=c, ramCount=4000: memory\n   wanted\n" in shown


def test_whoever_acts_sees_on_which_panda(three: Sequence[Launch], muleteer: Muleteer, home: Path) -> None:
    """One launch or many: the site and what it is for, so that nobody takes production for a testbed."""
    (home / "sites").mkdir()
    (home / "sites" / "bnl.yaml").write_text(SITE)
    (home / "muleteer.toml").write_text('[engine]\nkind = "panda"\nsite = "bnl"\n')

    one = muleteer("launches", "kill", "1", "--reason", "wrong")
    many = muleteer("launches", "finish", "--workflow", "calo", "--reason", "wrong")

    assert "carries it out at bnl (production);" in one.err
    assert "2 launches at bnl (production), and nothing was changed" in many.err


def test_what_does_not_fit_is_said(three: Sequence[Launch], muleteer: Muleteer) -> None:
    """A launch that is named and cannot be changed ends the command with 4."""
    said = muleteer("launches", "pause", "3", "--reason", "why")

    assert (said.code, "3 is failed" in said.err) == (4, True)


def test_more_than_one_launch_must_be_meant(three: Sequence[Launch], store: Store, muleteer: Muleteer) -> None:
    """Without a terminal only --yes says so; a dry run needs nothing and asks nothing."""
    words = ("launches", "kill", "--workflow", "calo", "--reason", "all wrong")

    dry = muleteer(*words, "--dry-run")
    refused = muleteer(*words)
    nothing = [each for launch in three for each in store.launch_commands.of(launch.id)]
    done = muleteer(*words, "--yes", "--json")

    assert (dry.code, dry.out) == (0, "2 launches would be asked to be killed; 1 stays as it is: 1 is failed\n")
    assert (refused.code, "2 launches, and nothing was changed" in refused.err, nothing) == (3, True, [])
    assert (done.json["changed"], done.json["stayed"]) == ([1, 2], [{"why": "failed", "ids": [3]}])


@pytest.mark.parametrize(
    "words",
    [
        ("kill", "--reason", "why"),
        ("kill", "1", "--state", "failed", "--reason", "why"),
        ("kill", "1"),
        ("kill", "1", "--reason", " "),
        ("retry", "3", "--reason", "why", "--parameter", "x"),
        ("retry", "3", "--reason", "why", "--memory", "1", "--parameter", "ramCount=2"),
    ],
)
def test_what_cannot_be_understood_changes_nothing(
    three: Sequence[Launch], store: Store, muleteer: Muleteer, words: tuple[str, ...]
) -> None:
    """Neither ids nor filters, both, no reason, a parameter without a value, memory said twice."""
    said = muleteer("launches", *words)

    assert said.code == 2
    assert [each for launch in three for each in store.launch_commands.of(launch.id)] == []


# Watching.


def test_launches_are_watched_until_they_have_ended(three: Sequence[Launch], store: Store, muleteer: Muleteer) -> None:
    """Each change is a line; how the command ends says how they did."""

    def finish() -> None:
        time.sleep(0.3)
        step = StepProgress(name="reco", state=StepState.FINISHED)
        launch = store.launches.get(three[1].id)
        store.launches.advance(launch, LaunchState.FINISHED, who="w", why=None, now=utc_now(), steps=[step])

    thread = threading.Thread(target=finish)
    thread.start()
    good = muleteer("launches", "watch", "2")
    thread.join()
    bad = muleteer("launches", "watch", "2", "3")
    listed = muleteer("launches", "watch", "2", "--json")

    lines = [line.partition(" UTC ")[2] for line in good.out.splitlines()]
    assert (good.code, lines) == (
        0,
        ["launch 2 running 50% reco:running files 5/10, 1 failed", "launch 2 finished 100% reco:finished"],
    )
    assert (bad.code, "launch 3 is failed" in bad.err) == (1, True)
    assert [(each["id"], each["state"]) for each in listed.json] == [(2, "finished")]
