"""What was sent for launches, in a real git repository."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from orchestrator.launch.git_archive import ArchiveBusy, ArchiveRefused, Keeping, archive
from orchestrator.launch.git_archivist import Archivist
from orchestrator.store.launches import Intent
from orchestrator.store.store import Store
from schemas.launch import Launch, LaunchState, StepProgress, StepState, SubmissionRecord
from tests.unit.making import NOW, later


@dataclass(frozen=True)
class File:
    """One file of a package."""

    content: bytes
    executable: bool = False


#: Whatever git might want to change, or a shell to read.
PACKAGE = {
    "run.sh": File(b"#!/bin/sh\r\n", True),
    "data/map.bin": File(bytes(range(256))),
    "a b; $(touch x)\n.txt": File(b"odd"),
    ":(glob)*": File(b"magic"),
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(f"sqlite:///{tmp_path / 'muleteer.db'}")
    yield opened
    opened.close()


@pytest.fixture
def keeping(tmp_path: Path) -> Keeping:
    return Keeping(tmp_path / "archive")


def launched(
    store: Store,
    name: str,
    state: LaunchState = LaunchState.SUBMITTED,
    package: dict[str, File] = PACKAGE,
    parameters: dict[str, str] | None = None,
) -> Launch:
    """A launch that has come so far."""
    steps = [StepProgress(name="reco", state=StepState.WAITING, task=4711)]
    intent = Intent(name, name, None, "calo", parameters or {"run": "5"}, {}, {}, "panda:bnl", steps, run=5)
    launch = store.launches.intend(intent, package, who="test", now=NOW)
    for step in dict.fromkeys((LaunchState.SUBMITTING, LaunchState.SUBMITTED, state)):
        if state is not LaunchState.PREPARED:
            launch = store.launches.advance(launch, step, who="test", why=None, now=NOW, reference="request:42")
    return launch


def git(keeping: Keeping | Path, *arguments: str) -> str:
    directory = keeping.directory if isinstance(keeping, Keeping) else keeping
    person = ("-c", "user.name=me", "-c", "user.email=me@x")
    command = ["git", "-C", str(directory), *person, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def commits(keeping: Keeping) -> list[str]:
    return git(keeping, "log", "--format=%s").splitlines()


def is_clean(keeping: Keeping) -> bool:
    return git(keeping, "status", "--porcelain") == ""


def checked_out(keeping: Keeping, to: Path) -> Path:
    """What somebody gets who clones it."""
    git(keeping.directory, "clone", "--quiet", str(keeping.directory), str(to))
    return to


def test_what_was_sent_is_there_byte_for_byte(store: Store, keeping: Keeping, tmp_path: Path) -> None:
    """Also for whoever clones it: content, and whether a file can be run."""
    launched(store, "rn5")
    done = archive(store.launches, keeping)
    folder = checked_out(keeping, tmp_path / "clone") / "calo" / "rn5"

    assert {path: (folder / path).read_bytes() for path in PACKAGE} == {
        path: file.content for path, file in PACKAGE.items()
    }
    assert {path: os.access(folder / path, os.X_OK) for path in PACKAGE} == {
        path: file.executable for path, file in PACKAGE.items()
    }
    assert (done.written, commits(keeping), is_clean(keeping)) == ([1], ["1 launch: 1"], True)


def test_the_record_tells_what_came_of_it(store: Store, keeping: Keeping) -> None:
    """The command, the client, its answer, all ids, and every file with its digest."""
    launch = launched(store, "rn5")
    tried = SubmissionRecord(
        launch_id=launch.id,
        number=1,
        command=("pchain", "--cwl"),
        client="panda-client 2.2",
        started_at=NOW,
        answer="{}",
    )
    store.launches.note_try(tried)
    archive(store.launches, keeping)

    record = json.loads((keeping.directory / "calo/rn5/record.json").read_text())

    assert (record["launch"], record["reference"], record["tasks"]) == (1, "request:42", {"reco": 4711})
    assert record["tries"][0]["command"] == ["pchain", "--cwl"]
    assert (record["tries"][0]["client"], record["tries"][0]["answer"]) == ("panda-client 2.2", "{}")
    assert record["files"]["run.sh"]["executable"]
    assert set(record["files"]) == set(PACKAGE)


def test_the_page_has_a_row_for_each_launch(store: Store, keeping: Keeping) -> None:
    """Newest on top, those of earlier calls too; what a message said is text and nothing else."""
    launched(store, "rn5", parameters={"run": "5", "tag": "a|b <script> [x](y)\n# z"})
    archive(store.launches, keeping)
    launched(store, "rn6", LaunchState.FAILED)
    archive(store.launches, keeping)

    rows = [line for line in (keeping.directory / "README.md").read_text().splitlines() if line.startswith("| 20")]

    assert len(rows) == 2
    assert r"a\|b \<script\> \[x\]\(y\) \# z" in "".join(rows)
    assert any("| failed |" in row and "launch 2, request:42, reco 4711" in row for row in rows)
    assert commits(keeping) == ["1 launch: 2", "1 launch: 1"]


def test_what_is_there_already_is_skipped(store: Store, keeping: Keeping) -> None:
    """No commit without news; a launch that went on gets its new state, the others are left alone."""
    first = launched(store, "rn5")
    launched(store, "rn6")
    archive(store.launches, keeping)
    again = archive(store.launches, keeping)
    store.launches.advance(first, LaunchState.FINISHED, who="test", why=None, now=later(5))
    third = archive(store.launches, keeping)

    assert (again.written, again.there, again.commit) == ([], 2, None)
    assert (third.written, third.there) == ([1], 1)
    assert git(keeping, "show", "--name-only", "--format=", "HEAD").splitlines() == [
        "README.md",
        "calo/rn5/record.json",
    ]


def test_what_was_never_sent_is_not_there(store: Store, keeping: Keeping) -> None:
    """A launch that was only written down; and of those that changed before a moment, none if that is asked."""
    launched(store, "rn5", LaunchState.PREPARED)
    launched(store, "rn6")

    assert archive(store.launches, keeping, since=later(1)).written == []
    assert archive(store.launches, keeping).written == [2]


def test_sizes_are_limited(store: Store, keeping: Keeping) -> None:
    """A file that is too large is named and left out; what is too much for one commit comes with the next."""
    for number in range(3):
        launched(store, f"rn{number}", package={"run.sh": File(b"x" * 60), "big.bin": File(b"y" * 200)})
    small = replace(keeping, largest_file=100, largest_commit=130)

    first = archive(store.launches, small)
    second = archive(store.launches, small)

    assert (first.written, first.more, first.left_out[1]) == ([1, 2], True, ["big.bin"])
    assert (second.written, second.more) == ([3], False)
    assert not (keeping.directory / "calo/rn0/big.bin").exists()
    assert json.loads((keeping.directory / "calo/rn0/record.json").read_text())["left_out"] == ["big.bin"]


@pytest.mark.parametrize("path", [".git/hooks/x", "a/.gitattributes", "record.json"])
def test_a_file_that_would_be_gits_own_is_left_out(store: Store, keeping: Keeping, path: str) -> None:
    """And named in the record."""
    launched(store, "rn5", package={"run.sh": File(b"x"), path: File(b"mine")})

    done = archive(store.launches, keeping)

    assert done.left_out == {1: [path]}
    assert b"mine" not in b"".join(
        each.read_bytes() for each in (keeping.directory / "calo").rglob("*") if each.is_file()
    )


def test_a_persons_work_beside_it_is_not_committed(store: Store, keeping: Keeping) -> None:
    """Neither what is new nor what is staged; and it is still there afterwards."""
    launched(store, "rn5")
    archive(store.launches, keeping)
    (keeping.directory / "notes.txt").write_text("mine")
    (keeping.directory / "staged.txt").write_text("mine too")
    git(keeping, "add", "staged.txt")
    launched(store, "rn6")
    archive(store.launches, keeping)

    assert "notes.txt" not in (tree := git(keeping, "ls-tree", "-r", "--name-only", "HEAD"))
    assert "staged.txt" not in tree
    assert git(keeping, "status", "--porcelain").splitlines() == ["A  staged.txt", "?? notes.txt"]


def test_nothing_of_a_persons_settings_is_started_or_asked(
    store: Store, keeping: Keeping, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No hook, editor or signature; line ends and file names stay; the commit is by muleteer."""
    (tmp_path / "home").mkdir()
    trap = tmp_path / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\nexit 1\n")
    trap.chmod(0o755)
    (tmp_path / "hooks").mkdir()
    for hook in ("pre-commit", "commit-msg", "post-commit", "pre-push"):
        (tmp_path / "hooks" / hook).symlink_to(trap)
    (tmp_path / "attributes").write_text("* text eol=lf\n")
    (tmp_path / "ignore").write_text("*.bin\n")
    (tmp_path / "home" / ".gitconfig").write_text(
        f"[core]\nautocrlf = input\nhooksPath = {tmp_path}/hooks\neditor = {trap}\n"
        f"attributesFile = {tmp_path}/attributes\nexcludesFile = {tmp_path}/ignore\n"
        f"[commit]\ngpgSign = true\n[gpg]\nprogram = {trap}\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("GIT_AUTHOR_NAME", "somebody")
    launched(store, "rn5")

    archive(store.launches, replace(keeping, who=("the archive", "archive@x")))
    monkeypatch.delenv("GIT_DIR")

    assert git(keeping, "cat-file", "blob", "HEAD:calo/rn5/run.sh") == "#!/bin/sh"
    assert git(keeping, "cat-file", "-s", "HEAD:calo/rn5/run.sh") == "11"
    assert "calo/rn5/data/map.bin" in git(keeping, "ls-tree", "-r", "--name-only", "HEAD")
    assert git(keeping, "log", "--format=%an %ae %cn") == "the archive archive@x the archive"
    assert not (tmp_path / "sprung").exists()


def test_a_link_in_the_repository_leads_nothing_astray(store: Store, keeping: Keeping, tmp_path: Path) -> None:
    """Whoever can write into it cannot have files elsewhere overwritten."""
    launched(store, "rn5")
    outside = tmp_path / "outside"
    (outside / "rn5").mkdir(parents=True)
    git(tmp_path, "init", "--quiet", str(keeping.directory))
    (keeping.directory / "calo").symlink_to(outside)

    archive(store.launches, keeping)

    assert list((outside / "rn5").iterdir()) == []
    assert (keeping.directory / "calo/rn5/run.sh").read_bytes() == PACKAGE["run.sh"].content


@pytest.mark.parametrize("what", ["files", "within", "bare"])
def test_a_directory_that_is_something_else_is_left_alone(store: Store, keeping: Keeping, what: str) -> None:
    """In words, and nothing is written there."""
    launched(store, "rn5")
    directory = keeping.directory
    directory.mkdir()
    if what == "files":
        (directory / "thesis.tex").write_text("x")
    elif what == "bare":
        git(directory, "init", "--quiet", "--bare")
    else:
        git(directory, "init", "--quiet")
        directory = directory / "below"
        directory.mkdir()
        (directory / "x").touch()
    before = sorted(directory.rglob("*"))

    with pytest.raises(ArchiveRefused, match=r"no git repository with its files|lies within the repository"):
        archive(store.launches, replace(keeping, directory=directory))
    assert sorted(directory.rglob("*")) == before


def test_a_repository_that_changes_what_is_written_is_refused(store: Store, keeping: Keeping) -> None:
    """By attributes of its own; nothing is committed."""
    launched(store, "rn5")
    archive(store.launches, keeping)
    (keeping.directory / ".gitattributes").write_text("*.json working-tree-encoding=UTF-16\n")
    launched(store, "rn6")

    with pytest.raises(ArchiveRefused, match=r"\.gitattributes|git add failed"):
        archive(store.launches, keeping)
    assert len(commits(keeping)) == 1


def test_two_at_once_do_not_meet(store: Store, keeping: Keeping) -> None:
    """The second is told so, and nothing is written twice."""
    launched(store, "rn5")
    archive(store.launches, keeping)
    with (keeping.directory / ".git/muleteer-archive.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ArchiveBusy, match="somebody else is writing"):
            archive(store.launches, keeping)

    assert archive(store.launches, keeping).there == 1


SLOWLY = """
import sys
from pathlib import Path
from orchestrator.launch.git_archive import Keeping, archive
from orchestrator.store.store import Store
archive(Store.open(sys.argv[1]).launches, Keeping(Path(sys.argv[2])))
"""


@pytest.mark.slow
@pytest.mark.parametrize("pause", [0.0, 0.05, 0.1, 0.2, 0.35])
def test_a_call_that_was_killed_is_made_good_by_the_next(
    store: Store, keeping: Keeping, tmp_path: Path, pause: float
) -> None:
    """At whatever moment: everything is there once, whole, and no lock is left behind."""
    for number in range(60):
        launched(store, f"rn{number:02}", package={**PACKAGE, "number": File(b"%d" % number)})
    git(tmp_path, "init", "--quiet", str(keeping.directory))
    command = [sys.executable, "-c", SLOWLY, f"sqlite:///{tmp_path / 'muleteer.db'}", str(keeping.directory)]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 20
    while not (keeping.directory / "calo").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(pause)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while True:
        try:
            archive(store.launches, keeping)
            break
        except ArchiveBusy:  # a git that it has started is still at work
            assert time.monotonic() < deadline
            time.sleep(0.05)

    assert (archive(store.launches, keeping).there, is_clean(keeping)) == (60, True)
    assert git(keeping, "fsck", "--strict") == ""
    assert git(keeping, "ls-tree", "-r", "--name-only", "HEAD").count("record.json") == 60


def test_what_was_written_and_not_committed_is_committed_by_the_next(store: Store, keeping: Keeping) -> None:
    """Files in their places say nothing, and neither does what is staged: the last commit counts."""
    launched(store, "rn5")
    archive(store.launches, keeping)
    launched(store, "rn6")
    archive(store.launches, keeping)
    git(keeping, "reset", "--quiet", "--soft", "HEAD~1")
    (keeping.directory / "calo/rn6/run.sh").write_text("half of it")

    assert archive(store.launches, keeping).written == [2]
    assert (commits(keeping), is_clean(keeping)) == (["1 launch: 2", "1 launch: 1"], True)
    assert git(keeping, "cat-file", "-s", "HEAD:calo/rn6/run.sh") == "11"


def test_a_lock_that_a_killed_git_left_is_removed_and_a_persons_is_not(store: Store, keeping: Keeping) -> None:
    """Ours is known by the mark that a call leaves only if it was killed."""
    launched(store, "rn5")
    archive(store.launches, keeping)
    launched(store, "rn6")
    (keeping.directory / ".git/index.lock").touch()
    with pytest.raises(ArchiveRefused, match=r"index\.lock"):
        archive(store.launches, keeping)
    with pytest.raises(ArchiveRefused, match=r"index\.lock"):
        archive(store.launches, keeping)
    (keeping.directory / ".git/muleteer-archive.lock").write_bytes(b"at work\n")

    assert archive(store.launches, keeping).written == [2]


def test_it_is_pushed_where_that_is_asked(store: Store, keeping: Keeping, tmp_path: Path) -> None:
    """What could not be pushed before goes with the next push, also if nothing else is new."""
    launched(store, "rn5")
    remote = tmp_path / "remote.git"
    failed = archive(store.launches, replace(keeping, remote="origin"))
    git(tmp_path, "init", "--quiet", "--bare", str(remote))
    git(keeping, "remote", "add", "origin", str(remote))
    done = archive(store.launches, replace(keeping, remote="origin"))

    assert (failed.pushed, failed.commit is not None) == (False, True)
    assert "origin" in (failed.push_error or "")
    assert (done.pushed, done.commit) == (True, None)
    assert git(remote, "rev-parse", "main") == git(keeping, "rev-parse", "HEAD")


def test_a_remote_that_does_not_answer_costs_so_much_time_and_no_commit(store: Store, keeping: Keeping) -> None:
    """And no password of its address is told."""
    launched(store, "rn5")
    archive(store.launches, keeping)
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        url = f"http://me:secret@127.0.0.1:{silent.getsockname()[1]}/x.git"
        git(keeping, "remote", "add", "origin", url)
        launched(store, "rn6")
        began = time.monotonic()
        done = archive(store.launches, replace(keeping, remote="origin", push_patience=1.0))

    assert (done.written, done.pushed) == ([2], False)
    assert "took too long" in (done.push_error or "")
    assert time.monotonic() - began < 15
    assert "secret" not in (done.push_error or "")


def test_now_and_then_what_is_new_is_written(store: Store, keeping: Keeping) -> None:
    """Trouble keeps nobody, and is made good at a later turn."""
    launched(store, "rn5")
    keeping.directory.mkdir()
    (keeping.directory / "x").touch()
    archivist = Archivist(store.launches, keeping, clock=lambda: NOW)
    archivist.keep()
    (keeping.directory / "x").unlink()
    archivist.keep()
    launched(store, "rn6")
    archivist.keep()

    assert commits(keeping) == ["1 launch: 2", "1 launch: 1"]


def test_a_call_that_is_to_stop_commits_what_it_has(store: Store, keeping: Keeping) -> None:
    """The rest comes with the next."""
    launched(store, "rn5")
    launched(store, "rn6")

    done = archive(store.launches, keeping, stopping=lambda: True)

    assert (done.written, done.more, is_clean(keeping)) == ([1], True, True)
