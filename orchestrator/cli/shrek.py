"""shrek's files, made into a workflow."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

import schemas
from orchestrator.cli.session import Exit, Json, fail
from orchestrator.cli.terminal import out, print_json
from orchestrator.cli.workflows_options import Parameters, parameters_of, refused_explained
from orchestrator.launch import shrek


def import_shrek(
    paths: Annotated[
        list[Path], typer.Argument(metavar="FILES_OR_FOLDER", help="shrek's YAML files; a folder is all.")
    ],
    to: Annotated[Path, typer.Option("--to", help="The workflow's folder, which is made; its name is the workflow's.")],
    name: Annotated[str | None, typer.Option("--name", help="The workflow's name, if it is not the folder's.")] = None,
    param: Parameters = None,
    seen_from: Annotated[
        Path, typer.Option("--from", help="Where paths in the files are seen from; after that, from where each lies.")
    ] = Path(),
    plugins: Annotated[
        Path | None,
        typer.Option(
            "--plugins", help="Shell functions that every job sources; else plugins/ there.", show_default=False
        ),
    ] = None,
    json_: Json = False,
) -> None:
    """Make a workflow of shrek's files: workflow.yaml, the job scripts, and all that the files name.

    What shrek got as --key=value goes into --param: --param nevents=100 is a default that launches may change, --param
    nevents= none. Everything that is not as it was is said, with its file and line. Nothing that exists is touched.
    """
    given = {key: value or None for key, value in parameters_of(param).items()}
    with refused_explained():
        try:
            chosen = shrek.chosen(paths)
            roots = list(dict.fromkeys([seen_from, *(path.parent for path in chosen)]))
            found = shrek.read(
                chosen,
                name=name or to.resolve().name,
                roots=roots,
                plugins=plugins
                or next((root / "plugins" for root in roots if (root / "plugins").is_dir()), Path("plugins")),
                given=given,
            )
            shrek.write(found, to, (files(schemas) / "json" / "workflow.schema.json").read_text(encoding="utf-8"))
        except OSError as error:
            fail(Exit.FAILED, f"{error.filename or to}: {error.strerror or error}")
    workflow, remarks = found.imported.workflow, found.imported.remarks
    if json_:
        print_json({"workflow": workflow.name, "folder": str(to), "remarks": remarks})
        return
    for remark in remarks:
        out.print(remark, markup=False, highlight=False, soft_wrap=True)
    steps = len(workflow.steps)
    out.print(f"{to}: the workflow {workflow.name} with {steps} step{'s' if steps != 1 else ''}", markup=False)
