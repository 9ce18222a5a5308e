"""What the commands about workflows share: which workflow, with which values, for which engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.session import Exit, fail
from orchestrator.core.workflow import WorkflowError
from orchestrator.launch import shrek
from orchestrator.launch.building import EngineKind
from orchestrator.launch.sites import read_site
from orchestrator.launch.workflows import FILE_NAME, Definition, read_file
from orchestrator.panda.port import EngineRefused
from orchestrator.wiring import Muleteer
from schemas.did import Did
from schemas.site import Site

Which = Annotated[
    str, typer.Argument(metavar="NAME_OR_FILE", help="A workflow of this home by name, or a folder or file of one.")
]
Parameters = Annotated[
    list[str] | None,
    typer.Option("--param", metavar="NAME=VALUE", help="A parameter's value; may be repeated.", show_default=False),
]
DidOption = Annotated[
    str | None, typer.Option("--did", metavar="SCOPE:NAME", help="The dataset that it is about.", show_default=False)
]
EngineOption = Annotated[
    EngineKind | None, typer.Option("--engine", help="For this engine; else the one of the settings.")
]
SiteOption = Annotated[
    str | None,
    typer.Option("--site", help="For PanDA as sites/<SITE>.yaml says; else the settings' site.", show_default=False),
]


def definition_of(muleteer: Muleteer, which: str) -> Definition:
    """The workflow that was meant. Raises WorkflowError."""
    path = Path(which)
    if "/" not in which and not which.endswith(".yaml"):
        return muleteer.workflows.get(which)
    if path.is_dir() and shrek.holds(path):
        return shrek.read_folder(path)
    return read_file(path / FILE_NAME if path.is_dir() else path)


def parameters_of(words: Sequence[str] | None) -> Mapping[str, str]:
    """Raises BadParameter."""
    found = dict[str, str]()
    for word in words or ():
        name, equals, value = word.partition("=")
        if not (name and equals):
            raise typer.BadParameter(f"--param {word}: write NAME=VALUE")
        if name in found:
            raise typer.BadParameter(f"--param {name} is given twice")
        found[name] = value
    return found


def did_of(text: str | None) -> Did | None:
    """Raises BadParameter."""
    try:
        return None if text is None else Did.parse(text)
    except ValueError as error:
        raise typer.BadParameter(f"--did: {error}") from None


def engine_of(muleteer: Muleteer, kind: EngineKind | None, site: str | None) -> tuple[EngineKind, Site | None]:
    """Who a site is named for is meant for PanDA. Raises ConfigurationError."""
    settings = muleteer.settings.engine
    own = EngineKind(settings.kind)
    chosen = kind or (EngineKind.PANDA if site is not None and own is EngineKind.EMBEDDED else own)
    name = site or settings.site
    if chosen is EngineKind.EMBEDDED:
        return chosen, None
    if name is None:
        raise typer.BadParameter(f"--engine {chosen} needs --site, or a site in the settings")
    return chosen, read_site(muleteer.home, name)


@contextmanager
def refused_explained() -> Iterator[None]:
    """Turn what is wrong with a workflow or its values into a sentence and an exit code."""
    try:
        yield
    except (WorkflowError, EngineRefused) as error:
        fail(Exit.REFUSED, str(error))
