"""Where a workflow's definition comes from: the git commit of its folder, and whether the folder is as committed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, Literal

from orchestrator.core.workflow import WorkflowError
from orchestrator.launch.folders import files_in
from orchestrator.launch.workflows import Definition

Wanted = Literal["no", "committed", "pushed"]

#: Seconds that git may take; it only looks.
_PATIENCE: Final = 30
#: Paths that are named in what is said.
_NAMED: Final = 3

#: git only looks: it starts no program of the repository's, writes nothing, and asks nobody.
_QUIET: Final = ("-c", "core.fsmonitor=false", "-c", "core.untrackedCache=false")


@dataclass(frozen=True, slots=True)
class Provenance:
    """What git says of a folder."""

    commit: str
    #: Files that jobs would get, or the document, which differ from the commit.
    changed: tuple[str, ...]

    @property
    def text(self) -> str:
        """As a launch's record keeps it."""
        return f"{self.commit}+changes" if self.changed else self.commit


def definition_of(definition: Definition, wanted: Wanted = "no") -> str | None:
    """The commit that a workflow's folder is at, `+changes` behind it if it is not as committed; None without git.

    Raises WorkflowError: it is not as `wanted`.
    """
    try:
        found = _look(definition)
        if wanted != "no":
            _demand(definition, found, wanted)
    except (OSError, subprocess.SubprocessError) as error:
        if wanted == "no":
            return None
        raise _refused(definition, f"git cannot be asked about {definition.folder}: {error}") from None
    return None if found is None else found.text


def _demand(definition: Definition, found: Provenance | None, wanted: Wanted) -> None:
    if found is None:
        raise _refused(definition, f"{definition.folder} is in no git repository, or nothing of it is committed")
    if found.changed:
        more = f" and {len(found.changed) - _NAMED} more" if len(found.changed) > _NAMED else ""
        named = ", ".join(found.changed[:_NAMED])
        raise _refused(definition, f"in {definition.folder} {named}{more} differ from what is committed: commit them")
    if wanted == "pushed" and not _git(definition, "branch", "--remotes", "--contains", found.commit).strip():
        raise _refused(
            definition, f"commit {found.commit[:12]} of {definition.folder} is on no remote branch: push it, or fetch"
        )


def _refused(definition: Definition, why: str) -> WorkflowError:
    return WorkflowError(f"workflow {definition.workflow.name}: {why} (launch.require_commit is set)")


def _look(definition: Definition) -> Provenance | None:
    """None if the folder is in no repository, or in one that knows nothing of it. Raises OSError, SubprocessError."""
    try:
        # the folder's path cannot hold the commit, which comes last
        prefix, _, commit = (
            _git(definition, "rev-parse", "--show-prefix", "HEAD^{commit}").rstrip("\n").rpartition("\n")
        )
        tracked = _git(definition, "ls-files", "-z", "--", ".")
    except subprocess.CalledProcessError:
        return None
    if not tracked:
        return None
    arguments = ("status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all", "--ignored=matching")
    changes = list(_changes(_git(definition, *arguments, "--", "."), prefix))
    counted = tuple(sorted(path for ignored, path in changes if _counts(definition, path, ignored=ignored)))
    return Provenance(commit, counted)


def _changes(status: str, prefix: str) -> Iterator[tuple[bool, str]]:
    """Whether it is ignored, and its path from the folder."""
    for entry in status.split("\0"):
        if entry:
            yield entry.startswith("!!"), entry[3:].removeprefix(prefix)


def _counts(definition: Definition, path: str, *, ignored: bool) -> bool:
    """Whether it matters: not what is hidden or what Python makes for itself; of what git ignores, what jobs get."""
    if any(part.startswith(".") or part == "__pycache__" for part in PurePosixPath(path).parts):
        return False
    if not ignored:
        return True
    shipped = files_in(definition.folder).shipped(definition.workflow)
    return any(each == path or (path.endswith("/") and each.startswith(path)) for each in shipped)


def _git(definition: Definition, *arguments: str) -> str:
    """What git says. Raises OSError, SubprocessError."""
    done = subprocess.run(
        ["git", "-C", str(definition.folder), *_QUIET, *arguments],
        env=_surroundings(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        timeout=_PATIENCE,
        check=True,
    )
    return done.stdout.decode("utf-8", "surrogateescape")


def _surroundings() -> Mapping[str, str]:
    """Ours, without what would lead git to another repository: we may be called from one of its hooks."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return {**inherited, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
