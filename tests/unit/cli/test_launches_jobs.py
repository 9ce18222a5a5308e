"""What jobs tell, and the archive in git, on the command line."""

from __future__ import annotations

import json
from pathlib import Path

from orchestrator.clock import utc_now
from orchestrator.store.store import Store
from schemas.job import JobReport
from schemas.launch import LaunchState
from tests.unit.cli.conftest import Muleteer
from tests.unit.cli.test_launches import launched


def tell(store: Store, job: str, what: str, **more: object) -> None:
    report = {"launch": "rn5", "step": "reco", "job": job, "what": what, **more}
    store.job_reports.note(JobReport.model_validate(report), now=utc_now())


def test_a_launch_shows_what_its_jobs_told(muleteer: Muleteer, store: Store) -> None:
    """By step: how many report, how far they are, when any was heard last."""
    launched(store, "rn5", LaunchState.SUBMITTED)
    quiet = muleteer("launches", "show", "1").out
    tell(store, "71", "running", done=1200, of=5000)
    tell(store, "72", "finished", code=3, done=1, of=10)

    shown = muleteer("launches", "show", "1").out
    heard = muleteer("launches", "show", "1", "--json").json["heard"]

    assert "heard from its jobs" not in quiet
    assert "heard from its jobs" in shown
    assert "1,201/5,010" in shown
    assert [(each["step"], each["jobs"], each["running"], each["failed"]) for each in heard] == [("reco", 2, 1, 1)]


def test_jobs_are_listed(muleteer: Muleteer, store: Store) -> None:
    """All, or those that said something; a launch that is not there is said so."""
    launched(store, "rn5", LaunchState.SUBMITTED)
    none = muleteer("launches", "jobs", "1").out
    tell(store, "71", "started", host="node7", index=4)
    tell(store, "72", "finished", code=3)

    assert "No job that fits has told anything." in none
    assert "node7" in muleteer("launches", "jobs", "1").out
    finished = muleteer("launches", "jobs", "1", "--what", "finished", "--json").json
    assert [(each["job"], each["code"]) for each in finished] == [("72", 3)]
    assert muleteer("launches", "jobs", "9").code == 4


def test_launches_are_written_into_git(muleteer: Muleteer, store: Store, tmp_path: Path) -> None:
    """One JSON value; the second time there is nothing new."""
    launched(store, "rn5", LaunchState.SUBMITTED)
    first = muleteer("launches", "archive", "--git", tmp_path / "kept", "--json").json
    second = muleteer("launches", "archive", "--git", tmp_path / "kept")

    assert (first["written"], first["pushed"]) == ([1], None)
    assert json.loads((tmp_path / "kept/calo/rn5/record.json").read_text())["launch"] == 1
    assert second.out.startswith("Nothing new for ")
    assert "1 launch there already" in second.out


def test_a_push_that_fails_is_an_error_and_the_commit_stays(muleteer: Muleteer, store: Store, tmp_path: Path) -> None:
    """Exit code 1, in words."""
    launched(store, "rn5", LaunchState.SUBMITTED)

    done = muleteer("launches", "archive", "--git", tmp_path / "kept", "--push")

    assert done.code == 1
    assert "not pushed, the commit stays: git push failed" in done.err
    assert (tmp_path / "kept/calo/rn5/record.json").exists()


def test_where_to_write_has_to_be_said(muleteer: Muleteer, store: Store, home: Path, tmp_path: Path) -> None:
    """On the command line or in the settings; what is no repository is refused."""
    launched(store, "rn5", LaunchState.SUBMITTED)
    unsaid = muleteer("launches", "archive")
    (home / "muleteer.toml").write_text('[archive]\ngit = "kept"\nname = "us"\n')
    said = muleteer("launches", "archive")
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "thesis").touch()
    refused = muleteer("launches", "archive", "--git", tmp_path / "x")

    assert (unsaid.code, said.code, refused.code) == (2, 0, 3)
    assert (home / "kept/README.md").exists()


def test_jobs_alone_are_served_only_where_they_are_told_an_address(muleteer: Muleteer) -> None:
    """Else it says what to set."""
    refused = muleteer("serve", "--jobs-only")

    assert refused.code == 3
    assert "set url under [callback]" in refused.err
