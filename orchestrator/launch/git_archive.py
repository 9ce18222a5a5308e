"""What was sent for launches, written into a git repository: one commit a call, and what is there already is skipped.

A launch is there if its record, as it would be written now, is in the last commit; the record is committed together
with the files. So a call that was interrupted, however it was, is made good by the next one.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import new as new_hash
from pathlib import Path
from typing import Any, Final

from orchestrator.launch.git_files import can_be_kept, put, write
from orchestrator.launch.git_page import README, RECORD, readme, record
from orchestrator.launch.git_run import Git, GitFailed
from orchestrator.store.launches import Launches
from schemas.launch import Launch, LaunchFile, LaunchId, LaunchState

_PAGE: Final = 200
#: Seconds that a push may take.
_PUSH: Final = 120.0
_LOCK: Final = "muleteer-archive.lock"
_AT_WORK: Final = b"at work\n"
#: It was written down, but nobody began to send it.
_NOT_SENT: Final = frozenset({LaunchState.PREPARED})


class ArchiveRefused(Exception):
    """Nothing was committed. The text says why, and what to do."""


class ArchiveBusy(ArchiveRefused):
    """Somebody else is writing into it."""


@dataclass(frozen=True, slots=True)
class Keeping:
    """Where it is written, and how."""

    directory: Path
    who: tuple[str, str] = ("muleteer", "muleteer@localhost")
    #: Bytes. Larger files are named in the record, and left out.
    largest_file: int = 5_000_000
    #: Bytes of one call. At least one launch is written.
    largest_commit: int = 500_000_000
    #: Where it is pushed to; nowhere if it is not said.
    remote: str | None = None
    push_patience: float = _PUSH


@dataclass(slots=True)
class Archived:
    """What a call came to."""

    written: list[int] = field(default_factory=list)
    there: int = 0
    #: Nothing is kept of them: they were made by an earlier version.
    without_files: int = 0
    #: There are more, for the next call.
    more: bool = False
    #: Files that are too large, by launch.
    left_out: dict[int, list[str]] = field(default_factory=dict)
    commit: str | None = None
    #: None if it was not asked for.
    pushed: bool | None = None
    push_error: str | None = None


@dataclass(frozen=True, slots=True)
class _Entry:
    """A launch as it should be there."""

    launch: Launch
    files: Sequence[LaunchFile]
    left_out: Sequence[str]
    record: bytes

    @property
    def folder(self) -> str:
        return f"{self.launch.workflow}/{self.launch.name}"

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files if file.path not in self.left_out)


def archive(
    launches: Launches,
    keeping: Keeping,
    *,
    since: datetime | None = None,
    stopping: Callable[[], bool] = lambda: False,
) -> Archived:
    """Write the launches that changed `since` then into the repository, oldest first, and commit them.

    The repository is made if the directory is empty or not there. A push that fails leaves the commit.

    Raises:
        ArchiveRefused: the directory is something else, or git or the disk does not do it.
        StoreError.
    """
    try:
        with _locked(keeping) as git:
            done = _written(launches, git, keeping, since, stopping)
            if keeping.remote is not None:
                _push(git, keeping, keeping.remote, done, stopping)
            return done
    except GitFailed as error:
        raise ArchiveRefused(f"{keeping.directory}: {error}") from None
    except OSError as error:
        raise ArchiveRefused(f"{keeping.directory} cannot be written: {error}") from None


@contextmanager
def _locked(keeping: Keeping) -> Iterator[Git]:
    """The repository, ours alone as long as a git of ours lives."""
    folder = _repository(keeping)
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArchiveBusy(f"somebody else is writing into {keeping.directory}: try again later") from None
        if os.pread(descriptor, 100, 0) == _AT_WORK:  # we died, and no git of ours lives: its lock is a leftover
            (folder / "index.lock").unlink(missing_ok=True)
        os.pwrite(descriptor, _AT_WORK, 0)
        try:
            yield Git(keeping.directory, keeping.who, descriptor)
        finally:
            os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def _repository(keeping: Keeping) -> Path:
    """Its `.git` folder. Raises ArchiveRefused, GitFailed, OSError."""
    directory = keeping.directory
    directory.mkdir(parents=True, exist_ok=True)
    if not any(directory.iterdir()):
        Git(directory)("init", "--quiet", "--initial-branch=main")
    try:
        top, folder = Git(directory)("rev-parse", "--show-toplevel", "--absolute-git-dir").decode().splitlines()
    except (GitFailed, ValueError) as error:
        raise ArchiveRefused(
            f"{directory} is no git repository with its files: name one, or a new one ({error})"
        ) from None
    if Path(top).resolve() != directory.resolve():
        raise ArchiveRefused(f"{directory} lies within the repository {top}: name that, or a directory elsewhere")
    return Path(folder)


def _written(
    launches: Launches, git: Git, keeping: Keeping, since: datetime | None, stopping: Callable[[], bool]
) -> Archived:
    done, size, changed = Archived(), 0, dict[str, str]()
    digest = git("rev-parse", "--show-object-format").decode().strip()
    for page in _pages(launches, since):
        entries = [entry for launch in page if (entry := _entry(launches, launch, keeping, done)) is not None]
        known = _objects(git, [f"HEAD:{entry.folder}/{RECORD}" for entry in entries])
        for entry, there in zip(entries, known, strict=True):
            wanted = _object(digest, entry.record)
            if there == wanted:
                done.there += 1
                continue
            if done.written and (stopping() or size + entry.size > keeping.largest_commit):
                done.more = True
                break
            size += entry.size
            write(keeping.directory, entry.folder, entry.left_out, launches.package(entry.launch.id), entry.record)
            changed[entry.folder] = wanted
            done.written.append(entry.launch.id)
            if entry.left_out:
                done.left_out[entry.launch.id] = list(entry.left_out)
        if done.more:
            break
    if changed:
        done.commit = _commit(git, keeping.directory, changed, done.written)
    return done


def _pages(launches: Launches, since: datetime | None) -> Iterator[Sequence[Launch]]:
    """All that were sent, or may have been, oldest first."""
    ids: list[LaunchId] = []
    before: int | None = None
    while page := launches.list(limit=1000, before=before):
        before = page[-1].id
        ids += [each.id for each in page if each.state not in _NOT_SENT and (since is None or each.updated_at >= since)]
    ids.reverse()
    for start in range(0, len(ids), _PAGE):
        yield [launches.get(id_) for id_ in ids[start : start + _PAGE]]


def _entry(launches: Launches, launch: Launch, keeping: Keeping, done: Archived) -> _Entry | None:
    files = launches.files(launch.id)
    if not files:
        done.without_files += 1
        return None
    left_out = [file.path for file in files if file.size > keeping.largest_file or not can_be_kept(file.path)]
    return _Entry(launch, files, left_out, record(launch, launches.tries(launch.id), files, left_out))


def _objects(git: Git, places: Sequence[str]) -> list[str | None]:
    """The objects at these places: `HEAD:path` in the last commit, `:path` in the next one."""
    asked = "".join(f"{place}\n" for place in places).encode()
    lines = git("cat-file", "--batch-check=%(objectname)", given=asked).decode("utf-8", "replace").splitlines()
    return [None if line.endswith((" missing", " ambiguous")) else line for line in lines]


def _object(digest: str, content: bytes) -> str:
    """What git calls a file with this content."""
    return new_hash(digest, b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _commit(git: Git, directory: Path, folders: Mapping[str, str], ids: Sequence[int]) -> str:
    """Commit these folders, with their records, and the page, and nothing that lies beside them; the commit's name."""
    _stage(git, list(folders))
    if _objects(git, [f":{folder}/{RECORD}" for folder in folders]) != list(folders.values()):
        raise ArchiveRefused(f"{directory} changes what is written into it: look at its .gitattributes")
    put(directory / README, readme(_records(git)), 0o644)
    _stage(git, [README])
    count = f"{len(ids)} launches" if len(ids) > 1 else "1 launch"
    span = f"{min(ids)} to {max(ids)}" if len(ids) > 1 else str(ids[0])
    paths = "\0".join([*folders, README]).encode()
    git(
        *("commit", "--quiet", "--no-verify", "--only", "-m", f"{count}: {span}"),
        *("--pathspec-from-file=-", "--pathspec-file-nul"),
        given=paths,
    )
    return git("rev-parse", "HEAD").decode().strip()


def _stage(git: Git, paths: Sequence[str]) -> None:
    git("add", "--force", "--all", "--pathspec-from-file=-", "--pathspec-file-nul", given="\0".join(paths).encode())


def _records(git: Git) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every launch's record with its folder, as it is about to be committed."""
    listed = git("ls-files", "--stage", "-z").decode("utf-8", "surrogateescape").split("\0")
    wanted = [
        (path.rpartition("/")[0], entry.split()[1])
        for entry, _, path in (each.partition("\t") for each in listed if each)
        if path.count("/") == 2 and path.endswith(f"/{RECORD}")
    ]
    answer = git("cat-file", "--batch", given="".join(f"{object_}\n" for _, object_ in wanted).encode())
    at = 0
    for folder, _ in wanted:
        end = answer.index(b"\n", at)
        size = int(answer[at:end].split()[2])
        yield folder, json.loads(answer[end + 1 : end + 1 + size])
        at = end + 1 + size + 1


def _push(git: Git, keeping: Keeping, remote: str, done: Archived, stopping: Callable[[], bool]) -> None:
    """Push what is committed; what goes wrong with it is told, and the commit stays."""
    try:
        branch = git("symbolic-ref", "HEAD").decode().strip()
        words = ("push", "--quiet", "--no-verify", remote, f"HEAD:{branch}")
        git(*words, patience=keeping.push_patience, stopping=stopping)
        done.pushed = True
    except GitFailed as error:
        done.pushed = False
        done.push_error = str(error)
