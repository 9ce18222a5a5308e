"""What was sent for launches, written into a git repository."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.filters import in_utc
from orchestrator.cli.session import Exit, Home, Json, fail, opened
from orchestrator.cli.terminal import err, out, print_json
from orchestrator.launch import git_archive
from orchestrator.launch.git_archive import Archived, ArchiveRefused, Keeping


def archive(
    git: Annotated[
        Path | None,
        typer.Option(
            "--git", metavar="DIR", help="The repository, made if it is not there; else that of the settings."
        ),
    ] = None,
    home: Home = None,
    push: Annotated[
        bool | None, typer.Option("--push/--no-push", help="Push it afterwards; else as the settings say.")
    ] = None,
    since: Annotated[
        datetime | None, typer.Option("--since", help="Only launches that changed since then, UTC.", metavar="TIME")
    ] = None,
    json_: Json = False,
) -> None:
    """Write what was sent for launches into a git repository, in one commit; what is there already is skipped."""
    with opened(home, reading=True) as muleteer:
        keeping = muleteer.keeping(git)
        if keeping is None:
            fail(Exit.USAGE, "say where: --git DIR, or git under [archive] in the settings")
        if push is not None:
            remote = muleteer.settings.archive.remote if push else None
            keeping = replace(keeping, remote=remote)
        try:
            done = git_archive.archive(muleteer.store.launches, keeping, since=in_utc(since))
        except ArchiveRefused as error:
            fail(Exit.REFUSED, str(error))
    if json_:
        print_json(asdict(done))
    else:
        _report(done, keeping)
    if done.pushed is False:
        raise typer.Exit(Exit.FAILED)


def _report(done: Archived, keeping: Keeping) -> None:
    if done.commit is None:
        out.print(f"Nothing new for {keeping.directory}; {_counted(done.there)} there already.")
    else:
        written = _counted(len(done.written))
        out.print(f"{written} written into {keeping.directory}, commit {done.commit[:12]}; {done.there} there already.")
    for launch, paths in done.left_out.items():
        out.print(f"launch {launch}: left out, too large or not for git: {', '.join(paths)}")
    if done.without_files:
        out.print(f"{_counted(done.without_files)} made by an earlier version, which kept no files.")
    if done.more:
        out.print("There are more: call it again, one commit has its limit.")
    if done.pushed:
        out.print(f"Pushed to {keeping.remote}.")
    elif done.pushed is False:
        err.print(f"muleteer: not pushed, the commit stays: {done.push_error}")


def _counted(launches: int) -> str:
    return "1 launch" if launches == 1 else f"{launches:,} launches"
