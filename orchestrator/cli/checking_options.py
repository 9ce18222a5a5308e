"""The options that say what is checked, and the checks that they make."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from pydantic import ValidationError

from orchestrator.cli.session import Exit, fail
from orchestrator.core.completeness import mistakes_in
from orchestrator.core.documents import Document, DocumentError
from orchestrator.core.mistakes import said
from schemas.checks import RUN_PATTERN, Checks

Closed = Annotated[bool, typer.Option("--closed", help="It is closed.")]
Filled = Annotated[bool, typer.Option("--filled", help="There is a file in it.")]
Files = Annotated[int | None, typer.Option("--files", min=0, help="So many files are in it.")]
Replicas = Annotated[
    str | None, typer.Option("--replicas", metavar="RSE", help="Every file has a copy there; an RSE expression.")
]
Names = Annotated[str | None, typer.Option("--names", metavar="RE2", help="Pattern of every file's whole name.")]
Numbered = Annotated[
    str | None,
    typer.Option("--numbered", metavar="RE2", help="Pattern of a file's whole name with a group n: none is left out."),
]
First = Annotated[int, typer.Option("--first", min=0, help="With --numbered: the lowest number.")]
Last = Annotated[int | None, typer.Option("--last", min=0, help="With --numbered: the highest number.")]
MinBytes = Annotated[int | None, typer.Option("--min-bytes", min=1, help="No file is smaller.")]
Sums = Annotated[
    list[str] | None,
    typer.Option("--has", metavar="WHAT", help="Every file has adler32, md5 or guid; repeat it for more."),
]
Members = Annotated[
    list[str] | None, typer.Option("--member", metavar="GLOB", help="Fits a dataset of it; may be repeated.")
]
SameRunsAs = Annotated[
    str | None, typer.Option("--same-runs-as", metavar="SCOPE:NAME", help="Another container, which has the same runs.")
]
RunPattern = Annotated[
    str, typer.Option("--run-pattern", metavar="RE2", help="With a group run, anywhere in a dataset's name.")
]
CheckFile = Annotated[
    Path | None,
    typer.Option("--checks", metavar="FILE", exists=True, dir_okay=False, help="The checks in YAML instead."),
]

#: What is checked if nothing is said.
_COMPLETE: Final = Checks(filled=True, replicas="*")

#: The options that are not called as the check is that they ask for.
_OPTIONS: Final = {"checksums": "has", "members": "member", "run": "run_pattern"}


def checks_of(params: Mapping[str, Any]) -> Checks:
    """The checks of a file, or of options; what every dataset should be if neither says anything.

    `params` are a command's, as it was called: `context.params`. What has no option there is not asked for.
    """
    options = {check: params.get(_OPTIONS.get(check, check)) for check in Checks.model_fields}
    options["numbered"] = _numbering(params["numbered"], params["first"], params["last"])
    # 0 is something to say
    said = {key: value for key, value in options.items() if value is not None and value is not False}
    asked = {key: value for key, value in said.items() if value not in ([], (), RUN_PATTERN)}
    file = params["checks"]
    if file is None:
        return _usable(asked) if asked else _COMPLETE
    if asked:
        raise typer.BadParameter(f"--checks says it all: leave out {', '.join(sorted(asked))}, or write it there")
    return _read(Path(file))


def _read(file: Path) -> Checks:
    try:
        document = Document(file.read_text(encoding="utf-8"), str(file))
        read = document.read(Checks)
        wrong = list(mistakes_in(read))
    except (OSError, UnicodeDecodeError, DocumentError) as error:
        fail(Exit.REFUSED, str(error))
    if wrong:
        fail(Exit.REFUSED, document.all(wrong))
    return read


def _usable(asked: dict[str, Any]) -> Checks:
    try:
        checks = Checks(**asked)
    except ValidationError as error:
        raise typer.BadParameter(
            "; ".join(f"{'.'.join(map(str, each['loc']))}: {said(each)}" for each in error.errors())
        ) from None
    for place, what in mistakes_in(checks):
        raise typer.BadParameter(f"{'.'.join(map(str, place))}: {what}")
    return checks


def _numbering(pattern: str | None, first: int, last: int | None) -> dict[str, Any] | None:
    """The check of numbers, as a document says it."""
    if pattern is None:
        if first or last is not None:
            raise typer.BadParameter("--first and --last go with --numbered")
        return None
    return {"pattern": pattern, "first": first, "last": last}
