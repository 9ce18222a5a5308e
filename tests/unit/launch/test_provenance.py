"""Where a workflow's definition comes from, by a real git."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from orchestrator.core.workflow import WorkflowError
from orchestrator.launch.provenance import definition_of
from orchestrator.launch.workflows import Definition, read_file

DOCUMENT = """name: calo
resources: ["*.sh", "*.bin"]
steps:
  - name: reco
    command: [./run.sh]
"""


def git(directory: Path, *arguments: str) -> str:
    person = {"GIT_AUTHOR_NAME": "me", "GIT_AUTHOR_EMAIL": "me@x", "GIT_COMMITTER_NAME": "me"}
    return subprocess.run(
        ["git", "-C", str(directory), *arguments],
        env={"PATH": os.environ["PATH"], "HOME": "/nowhere", "GIT_COMMITTER_EMAIL": "me@x", **person},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A workflow's folder in a repository, all of it committed."""
    folder = tmp_path / "workflows" / "calo"
    folder.mkdir(parents=True)
    (folder / "workflow.yaml").write_text(DOCUMENT)
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (tmp_path / ".gitignore").write_text("*.bin\n*.tmp\n")
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    return folder


def read(folder: Path) -> Definition:
    """As it is now. The resources that match nothing yet are taken out."""
    if not list(folder.glob("*.bin")):
        definition = read_file(_without_bin(folder))
        (folder / "workflow.yaml").write_text(DOCUMENT)
        return definition
    return read_file(folder / "workflow.yaml")


def _without_bin(folder: Path) -> Path:
    path = folder / "workflow.yaml"
    path.write_text(DOCUMENT.replace(', "*.bin"', ""))
    return path


def test_a_clean_folder_is_known_by_its_commit(folder: Path, tmp_path: Path) -> None:
    """Whatever else is changed in the repository."""
    (tmp_path / "elsewhere.txt").write_text("new")

    assert definition_of(read(folder), "committed") == git(folder, "rev-parse", "HEAD")


@pytest.mark.parametrize("change", ["workflow.yaml", "run.sh", "new.sh", "deleted", "staged", "mode", "map.bin"])
def test_a_folder_that_differs_from_its_commit_is_refused_in_words(folder: Path, change: str) -> None:
    """Changed, new, deleted, staged, made executable no more, or ignored by git and yet given to jobs."""
    (folder / "other.sh").write_text("x")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "second")
    definition = read(folder)
    named = {"deleted": "other.sh", "staged": "run.sh", "mode": "run.sh"}.get(change, change)
    if change == "deleted":
        (folder / "other.sh").unlink()
    elif change == "mode":
        (folder / "run.sh").chmod(0o644)
    else:
        (folder / named).write_text(f"{DOCUMENT}# changed\n")
    if change == "staged":
        git(folder, "add", ".")
    if change == "map.bin":
        definition = read(folder)

    assert definition_of(definition) == git(folder, "rev-parse", "HEAD") + "+changes"
    with pytest.raises(WorkflowError, match=rf"workflow calo: in .*{named} differ from what is committed: commit them"):
        definition_of(definition, "committed")


def test_what_jobs_do_not_get_does_not_count(folder: Path) -> None:
    """Hidden files, what Python leaves behind, and what git ignores and no job reads."""
    (folder / ".swp").write_text("x")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "x.pyc").write_text("x")
    (folder / "notes.tmp").write_text("x")

    assert definition_of(read(folder), "committed") == git(folder, "rev-parse", "HEAD")


def test_a_commit_that_no_remote_has_is_refused_where_it_must_be_pushed(folder: Path, tmp_path: Path) -> None:
    """Until it is pushed; a commit on top of it is refused again."""
    remote = tmp_path.parent / f"{tmp_path.name}-remote.git"
    git(tmp_path, "init", "--quiet", "--bare", str(remote))
    git(tmp_path, "remote", "add", "origin", str(remote))
    definition = read(folder)
    with pytest.raises(WorkflowError, match="is on no remote branch: push it"):
        definition_of(definition, "pushed")

    git(tmp_path, "push", "--quiet", "origin", "main")
    assert definition_of(definition, "pushed") == git(folder, "rev-parse", "HEAD")

    git(tmp_path, "commit", "--quiet", "--allow-empty", "-m", "more")
    with pytest.raises(WorkflowError, match="is on no remote branch"):
        definition_of(definition, "pushed")


def test_a_folder_without_git_has_no_commit(tmp_path: Path) -> None:
    """Which is refused only where one is required; so is a folder that its repository does not know."""
    folder = tmp_path / "calo"
    folder.mkdir()
    _without_bin(folder)
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    definition = read_file(folder / "workflow.yaml")

    assert definition_of(definition) is None
    with pytest.raises(WorkflowError, match="is in no git repository"):
        definition_of(definition, "committed")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "-m", "first")
    assert definition_of(definition) is None


def test_a_repository_cannot_have_programs_run_by_a_look(folder: Path, tmp_path: Path) -> None:
    """Nor can the surroundings lead to another repository."""
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    trap.chmod(0o755)
    git(tmp_path, "config", "core.fsmonitor", str(trap))

    assert definition_of(read(folder)) == git(folder, "rev-parse", "HEAD")
    assert not (tmp_path / "sprung").exists()
