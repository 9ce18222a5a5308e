"""Whether datasets are complete: files, copies, names, numbers, members."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from typing import Annotated, Self

import typer

from orchestrator.cli.checking_options import (
    CheckFile,
    Closed,
    Files,
    Filled,
    First,
    Last,
    Members,
    MinBytes,
    Names,
    Numbered,
    Replicas,
    RunPattern,
    SameRunsAs,
    Sums,
    checks_of,
)
from orchestrator.cli.session import Exit, Home, Json, fail, opened
from orchestrator.cli.terminal import out
from orchestrator.reconcile.checker import Checker
from orchestrator.rucio.port import Catalog
from schemas.checks import RUN_PATTERN, Finding
from schemas.did import Did

app = typer.Typer(
    no_args_is_help=True,
    help="Check that datasets are complete. Without options: there is a file, and every file has a copy somewhere.",
)

Dids = Annotated[
    list[str], typer.Argument(metavar="SCOPE:NAME...", help="Datasets; * and ? match; - reads them line by line.")
]
Collections = Annotated[list[str], typer.Argument(metavar="SCOPE:NAME...", help="Containers; - reads them by line.")]


@app.command("dataset")
def dataset(
    context: typer.Context,
    dids: Dids,
    home: Home = None,
    closed: Closed = False,
    filled: Filled = False,
    files: Files = None,
    replicas: Replicas = None,
    names: Names = None,
    numbered: Numbered = None,
    first: First = 0,
    last: Last = None,
    min_bytes: MinBytes = None,
    has: Sums = None,
    checks: CheckFile = None,
    json_: Json = False,
) -> None:
    """Check datasets, and the files in them."""
    wanted = checks_of(context.params)
    with opened(home) as muleteer, _Report("dataset", json_) as found:
        checker = Checker(muleteer.catalog)
        for did in _expanded(muleteer.catalog, dids):
            found.add(checker.dataset(did, wanted))


@app.command("collection")
def collection(
    context: typer.Context,
    dids: Collections,
    home: Home = None,
    closed: Closed = False,
    filled: Filled = False,
    files: Files = None,
    replicas: Replicas = None,
    names: Names = None,
    numbered: Numbered = None,
    first: First = 0,
    last: Last = None,
    min_bytes: MinBytes = None,
    has: Sums = None,
    member: Members = None,
    same_runs_as: SameRunsAs = None,
    run_pattern: RunPattern = RUN_PATTERN,
    checks: CheckFile = None,
    json_: Json = False,
) -> None:
    """Check containers, and every dataset in them."""
    wanted = checks_of(context.params)
    with opened(home) as muleteer, _Report("collection", json_) as found:
        checker = Checker(muleteer.catalog)
        for did in map(_parsed, _words(dids)):
            found.add(checker.collection(did, wanted))


@app.command("run")
def run(
    context: typer.Context,
    numbers: Annotated[list[int], typer.Argument(metavar="RUN...", min=0, help="Runs of the detector.")],
    scope: Annotated[str, typer.Option("--scope", help="Of the datasets; * and ? match.")],
    name: Annotated[
        list[str] | None,
        typer.Option("--name", help="Of the datasets: {run} is the run; may be repeated."),
    ] = None,
    home: Home = None,
    closed: Closed = False,
    filled: Filled = False,
    files: Files = None,
    replicas: Replicas = None,
    names: Names = None,
    numbered: Numbered = None,
    first: First = 0,
    last: Last = None,
    min_bytes: MinBytes = None,
    has: Sums = None,
    member: Members = None,
    checks: CheckFile = None,
    json_: Json = False,
) -> None:
    """Check all datasets of runs."""
    wanted = checks_of(context.params)
    with opened(home) as muleteer, _Report("run", json_) as found:
        checker = Checker(muleteer.catalog)
        for number in numbers:
            globs = [_with_run(glob, number) for glob in name or ["*{run:08d}*"]]
            members = tuple(_with_run(glob, number) for glob in wanted.members)
            found.add(checker.run(number, scope, globs, wanted.model_copy(update={"members": members})))


class _Report:
    """Findings as they come, so that thousands of datasets take no more memory than one.

    If something else goes wrong in the middle, what was printed as JSON is brought to its end, and says so.
    """

    def __init__(self, what: str, as_json: bool) -> None:
        self._what = what
        self._as_json = as_json
        self._checked = 0
        self._found = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if self._as_json and (kind is None or self._found):
            self._begin_json()
            complete = json.dumps(kind is None)
            sys.stdout.write(f'], "checked": {self._checked}, "found": {self._found}, "complete": {complete}}}\n')
        if kind is not None:
            return
        if not self._as_json:
            many = f"{self._checked:,} {self._what}s" if self._checked != 1 else f"1 {self._what}"
            out.print(f"{many} checked: {f'{self._found:,} found wrong' if self._found else 'all as it should be'}")
        if self._found:
            raise typer.Exit(Exit.FAILED)

    def add(self, findings: Iterable[Finding]) -> None:
        """One more was checked."""
        for finding in findings:
            if self._as_json:
                self._begin_json()
                sys.stdout.write((", " if self._found else "") + json.dumps(finding._asdict()))
            else:
                out.print(f"{finding.file or finding.did}: {finding.text} ({finding.check})")
            self._found += 1
        self._checked += 1

    def _begin_json(self) -> None:
        if not self._found:
            sys.stdout.write('{"findings": [')


def _with_run(glob: str, run: int) -> str:
    try:
        return glob.format(run=run)
    except (KeyError, ValueError, IndexError) as error:
        raise typer.BadParameter(f"{glob!r}: {error}; write {{run}} or {{run:08d}} where the run stands") from None


def _expanded(catalog: Catalog, words: Iterable[str]) -> Iterator[Did]:
    for did in map(_parsed, _words(words)):
        if not any(sign in f"{did}" for sign in "*?["):
            yield did
            continue
        found = [entry.did for entry in catalog.datasets(did.scope, did.name)]
        if not found:
            fail(Exit.NOT_FOUND, f"no dataset fits {did}")
        yield from found


def _words(words: Iterable[str]) -> Iterator[str]:
    for word in words:
        if word == "-":
            lines = [line.strip() for line in sys.stdin if line.strip()]
            if not lines:
                fail(Exit.NOT_FOUND, "standard input names nothing")
            yield from lines
        else:
            yield word


def _parsed(word: str) -> Did:
    try:
        return Did.parse(word)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
