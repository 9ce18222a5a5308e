"""A launch whose jobs tell how far they are, whose definition is in git, and which is archived in git."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.home import Home, until
from tests.acceptance.test_serve import Window
from tests.services.ports import free_port

WORKFLOW = """
name: telling
steps:
  - name: only
    script: |
      muleteer_report started
      muleteer_report running --done 3 --of 4
      muleteer_report finished --code 0
      env > seen.txt
    outputs: [seen.txt]
"""


def git(directory: Path, *arguments: str) -> str:
    command = ["git", "-C", str(directory), "-c", "user.name=me", "-c", "user.email=me@x", *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.slow
def test_jobs_are_heard_and_launches_are_kept_in_git(tmp_path: Path) -> None:
    """From the gate over the job's report to the archive; the token is in nothing that is kept or shown."""
    port = free_port()
    settings = {
        "CALLBACK__URL": f"http://127.0.0.1:{port}",
        "ARCHIVE__GIT": "kept",
        "ARCHIVE__EVERY": "10s",
        "LAUNCH__REQUIRE_COMMIT": "committed",
    }
    home = Home(tmp_path, settings)
    folder = home.place / "workflows" / "telling"
    folder.mkdir(parents=True)
    (folder / "workflow.yaml").write_text(WORKFLOW)
    refused = home.do("workflow", "launch", "telling", "--json", expect=3)
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "first")
    try:
        serving = home.start("serve", "--jobs-only", "--port", str(port))
        until(lambda: Window(port, None).ask("/healthz")[0] == 404, 20, "reports are taken in, and nothing else")
        running = home.run()
        home.do("workflow", "launch", "telling")
        until(lambda: home.read("launches", "show", "1")["state"] == "finished", 30, "the launch is finished")
        (heard,) = home.read("launches", "show", "1")["heard"]
        running.await_said("archive.committed")

        assert "commit" not in refused
        assert (heard["step"], heard["jobs"], heard["running"], heard["done"], heard["of"]) == ("only", 1, 0, 3, 4)
        assert home.read("launches", "show", "1")["definition"] == git(folder, "rev-parse", "HEAD")
        (seen,) = (home.place / "launches").glob("*/steps/1-only/seen.txt")
        (token,) = (line[24:] for line in seen.read_text().splitlines() if line.startswith("MULETEER_CALLBACK_TOKEN="))
        assert len(token) == 64
        shown = home.do("launches", "show", "1", "--files", "--tries", "--json")
        home.do("launches", "files", "1", "--to", str(tmp_path / "sent"))
        kept = [path for place in ("sent", "kept") for path in (tmp_path / place).rglob("*") if path.is_file()]
        assert any(path.name == "launch.json" for path in kept)
        logs = [process.log for process in home.processes]
        assert token not in shown + "".join(path.read_text(errors="replace") for path in [*kept, *logs])
        (record,) = (home.place / "kept" / "telling").glob("*/record.json")
        assert json.loads(record.read_text())["state"] in ("submitted", "running", "finished")
        assert serving.stop() == 0
    finally:
        home.close()
    assert home.defects() == []
