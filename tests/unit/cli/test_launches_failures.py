"""Why launches failed, on the command line: on the embedded engine, on a stand-in PanDA, and where none is reached."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from orchestrator.panda.embedded.engine import LocalEngine
from orchestrator.panda.port import PackedFile, Progress, Submission, SubmissionState, SubmissionStep, Tracked
from orchestrator.store.launches import Intent
from orchestrator.store.store import Store
from schemas.launch import Launch, LaunchState, StepProgress, StepState
from tests.services.panda import PandaServer, direct, make_token
from tests.unit.cli.conftest import Muleteer
from tests.unit.making import NOW


def launched(
    store: Store,
    name: str,
    state: LaunchState = LaunchState.FAILED,
    *,
    engine: str = "panda:elsewhere/user.me",
    reference: str | None = "request:42",
    steps: Sequence[StepProgress] = (),
    run: int | None = None,
    why: str | None = None,
    at: datetime = NOW,
) -> Launch:
    """A launch that has ended so; one without a reference was never sent."""
    intent = Intent(name, name, None, "calo", {}, {}, {}, engine, steps, run=run)
    launch = store.launches.intend(intent, who="test", now=at)
    before = (LaunchState.SUBMITTING, *([LaunchState.SUBMITTED] if reference else []))
    for each in dict.fromkeys((*before, state)):
        launch = store.launches.advance(launch, each, who="test", why=why, now=at, reference=reference)
    return launch


def failed(name: str, reason: str, **fields: Any) -> StepProgress:
    return StepProgress(name=name, state=StepState.FAILED, reason=reason, **fields)


# Launches of an engine that is not reached.


@pytest.fixture
def three(store: Store) -> Sequence[Launch]:
    """One that took too long, one that was never sent, and one that is well."""
    return [
        launched(store, "rn1", steps=[failed("reco", "it was ended because it took longer than 5 s")], run=1),
        launched(store, "rn2", reference=None, why="there is no such script", run=2),
        launched(store, "rn3", LaunchState.FINISHED, run=3),
    ]


def test_what_was_written_down_is_told_where_the_engine_is_not_reached(
    three: Sequence[Launch], muleteer: Muleteer
) -> None:
    """And it is said that it is not reached; a launch that was never sent needs no engine."""
    said = muleteer("launches", "failures")

    assert said.code == 0
    assert "2 jobs of 2 launches failed: 1 ours, 1 time" in said.out
    assert "time: 1 job; step reco; launch 1" in said.out
    assert "launch 2: there is no such script" in said.out
    assert "1 launch is on panda:elsewhere/user.me, which is not reached from here" in said.err


@pytest.mark.parametrize(
    ("words", "launches"),
    [
        ((), [2, 1]),
        (("1",), [1]),
        (("--run", "2..9"), [2]),
        (("--state", "finished"), [3]),
        (("--workflow", "other"), []),
        (("--since", "2026-11-22T01:13:00"), [2, 1]),
        (("--since", "2026-11-23"), []),
        (("--limit", "1"), [2]),
    ],
)
def test_launches_are_chosen(
    three: Sequence[Launch], muleteer: Muleteer, words: Sequence[str], launches: list[int]
) -> None:
    """By id or by filter; without either, those that have failed."""
    assert muleteer("launches", "failures", "--json", *words).json["launches"] == launches


def test_more_launches_than_were_looked_at_are_said(three: Sequence[Launch], muleteer: Muleteer) -> None:
    said = muleteer("launches", "failures", "--limit", "1")

    assert "only the newest 1 launches" in said.err


def test_no_failure_is_said(three: Sequence[Launch], muleteer: Muleteer) -> None:
    """In words; what is not there ends with 4, ids beside filters with 2."""
    assert muleteer("launches", "failures", "3").out == "No job of launch 3 failed.\n"
    assert muleteer("launches", "failures", "--workflow", "other").out == "No launch fits.\n"
    assert muleteer("launches", "failures", "77").code == 4
    assert muleteer("launches", "failures", "1", "--run", "1").code == 2


def test_the_home_s_table_counts_and_its_mistakes_are_refused(
    three: Sequence[Launch], muleteer: Muleteer, home: Path
) -> None:
    """With file and line."""
    entry = "  - {source: step, text: took longer, class: site, means: slow nodes, action: wait}\n"
    (home / "failures.yaml").write_text("failures:\n" + entry)
    said = muleteer("launches", "failures", "1", "--json").json
    (home / "failures.yaml").write_text("failures:\n" + entry.replace("site", "sight"))
    refused = muleteer("launches", "failures", "1")

    assert [(group["class"], group["means"]) for group in said["groups"]] == [("site", "slow nodes")]
    assert (refused.code, f"{home}/failures.yaml:2: failures.0.class: expected" in refused.err) == (3, True)


# On the embedded engine.


def test_a_step_that_failed_here_shows_the_end_of_its_log(store: Store, muleteer: Muleteer, home: Path) -> None:
    """What it wrote decides what it means: here that there was too little memory."""
    engine = LocalEngine(home / "launches", lambda did: [])
    script = b"#!/bin/sh\necho reading\necho 'MemoryError' >&2\nexit 3\n"
    asked = Submission("n1", "calo", {}, {}, (SubmissionStep("reco", ("./reco.sh",), (), ("*.root",)),))
    reference, _ = engine.submit("n1", engine.pack(asked, {"reco.sh": PackedFile(script, executable=True)}))
    tracked = Tracked("n1", reference, (), NOW, dict)
    while not (found := engine.failures(tracked).jobs):
        time.sleep(0.05)
    launched(store, "n1", engine=engine.identity, reference=reference)

    said = muleteer("launches", "failures")
    group = muleteer("launches", "failures", "--json").json["groups"][0]

    (progress,) = engine.look([tracked]).values()
    assert isinstance(progress, Progress) and progress.state is SubmissionState.FAILED
    assert (group["class"], group["source"], group["code"]) == ("memory", "payload", 3)
    assert "reading MemoryError" in said.out
    assert str(found[0].log) in said.out
    assert Path(str(found[0].log)).read_text() == "reading\nMemoryError\n"
    assert said.err == ""


# On PanDA.


@pytest.fixture
def panda(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PandaServer]:
    """A stand-in that the home uses."""
    with PandaServer() as server:
        monkeypatch.setenv("PANDA_AUTH_ID_TOKEN", make_token())
        (home / "sites").mkdir()
        (home / "sites" / "bnl.yaml").write_text(
            f"name: bnl\nurl: {server.url}\nurl_ssl: {server.url}\nvo: sphenix\nprefix: user.shrek\n"
            "monitor:\n  job: https://mon/job/{id}\n"
        )
        (home / "muleteer.toml").write_text('[engine]\nkind = "panda"\nsite = "bnl"\n')
        yield server


def on_panda(store: Store, panda: PandaServer, name: str, *codes: int, site: str = "BNL", memory: int = 2000) -> Launch:
    """A launch of one step, whose jobs have failed with these codes of the pilot."""
    order = {"taskName": f"user.shrek.{name}_000_reco/", "userName": "shrek", "vo": "sphenix", "jobParameters": []}
    task = direct.ask(panda.url, "POST", "task/submit", {"task_parameters": order})["data"]
    jobs = [
        {
            "jobStatus": "failed",
            "pilotErrorCode": code,
            "computingSite": site,
            "modificationTime": {"__datetime__": f"2026-11-22T0{number}:00:00"},
        }
        for number, code in enumerate(codes)
    ]
    panda.advance(task, "failed", files=len(codes), failed=len(codes), jobs=jobs, ramCount=memory)
    engine = f"panda:127.0.0.1:{panda.port}/user.shrek"
    return launched(
        store,
        name,
        engine=engine,
        reference=f"task:{task}",
        steps=[StepProgress(name="reco", state=StepState.FAILED, task=task)],
    )


def test_failed_jobs_are_summed_up_with_the_command_to_type(
    store: Store, panda: PandaServer, muleteer: Muleteer, home: Path
) -> None:
    """How many, where, an example with its log, from when to when, what it means and what to do."""
    on_panda(store, panda, "n1", 1212, 1212, 1099)
    on_panda(store, panda, "n2", 1212, site="MIT", memory=2600)

    said = muleteer("launches", "failures")

    assert said.err == ""
    lines = said.out.splitlines()
    assert lines[0] == "4 jobs of 2 launches failed: 3 memory, 1 storage"
    first = lines[lines.index("") + 1 :]
    assert first[0] == "memory: pilot 1212; 3 jobs; step reco; 2 sites: BNL (2), MIT (1); 2 launches: 1, 2"
    assert [line.split()[0] for line in first[1:6]] == ["means", "example", "log", "when", "do"]
    assert first[2].startswith("  example  launch 1, job 60")
    assert first[2].endswith("at BNL, attempt 0: pilot 1212: exit code 1212")
    assert first[3].startswith("  log      https://mon/job/60")
    assert first[4] == "  when     2026-11-22 00:00:00 UTC to 2026-11-22 01:00:00 UTC"
    assert (
        first[6]
        .strip()
        .endswith(f"launches retry 1 2 --step reco --memory 5500 --reason 'memory: pilot 1212' --home {home}")
    )
    assert "storage: pilot 1099; 1 job; step reco; site BNL; launch 1" in lines


def test_the_command_that_is_suggested_can_be_typed(
    store: Store, panda: PandaServer, muleteer: Muleteer, anywhere: Muleteer
) -> None:
    """As it stands, and it asks for what it says."""
    launch = on_panda(store, panda, "n1", 1212)
    (line,) = [each for each in muleteer("launches", "failures").out.splitlines() if " launches retry " in each]

    assert anywhere(*shlex.split(line)[1:]).code == 0
    (asked,) = store.launch_commands.of(launch.id)
    assert (asked.step, asked.parameters) == ("reco", {"ramCount": "4000"})


def test_programs_get_one_value(store: Store, panda: PandaServer, muleteer: Muleteer) -> None:
    """All that people are shown, and told apart as they ask."""
    on_panda(store, panda, "n1", 1212, 1212)
    on_panda(store, panda, "n2", 1212, 1099, site="MIT")

    said = muleteer("launches", "failures", "--json", "--by", "site").json

    assert (said["launches"], said["jobs"], said["classes"]) == ([2, 1], 4, {"memory": 3, "storage": 1})
    assert [(each["class"], each["code"], each["sites"], each["jobs"]) for each in said["groups"]] == [
        ("memory", 1212, {"BNL": 2}, 2),
        ("memory", 1212, {"MIT": 1}, 1),
        ("storage", 1099, {"MIT": 1}, 1),
    ]
    assert said["groups"][0]["command"][:3] == ["launches", "retry", "1"]
    assert said["groups"][0]["example"]["memory"] == 2000
    assert said["remarks"] == []


def test_what_failed_before_does_not_count(store: Store, panda: PandaServer, muleteer: Muleteer) -> None:
    """Of a launch that failed since then, only the jobs that did."""
    on_panda(store, panda, "n1", 1212, 1099, 1213)

    said = muleteer("launches", "failures", "1", "--json", "--since", "2026-11-22T01:00:00").json

    assert said["classes"] == {"storage": 1, "time": 1}


def test_a_panda_that_does_not_answer_is_said(store: Store, panda: PandaServer, muleteer: Muleteer) -> None:
    """Once, with what is written down instead."""
    for name in ("n1", "n2"):
        on_panda(store, panda, name, 1212)
    panda.stop()

    said = muleteer("launches", "failures")

    assert said.code == 0
    assert "2 jobs of 2 launches failed: 2 unknown" in said.out
    assert said.err.count("does not answer") == 1


def test_colours_are_not_needed(store: Store, panda: PandaServer, muleteer: Muleteer) -> None:
    """What is not shown on a terminal has no colours; what a job said cannot steer a terminal."""
    launch = on_panda(store, panda, "n1", 1)
    jobs = [{"jobStatus": "failed", "pilotErrorCode": 2, "pilotErrorDiag": "a\x1b[31mb"}]
    panda.advance(int(str(launch.reference).partition(":")[2]), jobs=jobs)

    said = muleteer("launches", "failures")

    assert "\x1b" not in said.out
    assert "a\\x1b[31mb" in said.out
