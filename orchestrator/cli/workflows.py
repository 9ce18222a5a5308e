"""Workflows: listed, checked, shown and drawn."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import shrek, workflows_launching
from orchestrator.cli.session import Exit, Home, Json, fail, opened
from orchestrator.cli.terminal import out, print_fields, print_json, print_table
from orchestrator.cli.workflows_options import (
    DidOption,
    EngineOption,
    Parameters,
    SiteOption,
    Which,
    definition_of,
    did_of,
    engine_of,
    parameters_of,
    refused_explained,
)
from orchestrator.core.graph import Graph, graph_of
from orchestrator.core.graph_svg import svg
from orchestrator.core.graph_text import text
from orchestrator.core.parameters import sample
from orchestrator.core.retry_policy import workflow_in_words
from orchestrator.core.workflow import WorkflowError
from orchestrator.core.workflow_remarks import Remark, Weight, remarks
from orchestrator.launch import provenance
from orchestrator.launch.building import EngineKind, build_sample
from orchestrator.launch.workflows import Definition
from orchestrator.panda.port import EngineRefused
from orchestrator.store.launch_archive import PackageTooLarge, made_ready
from orchestrator.wiring import Muleteer
from schemas.did import Did
from schemas.durations import format_duration
from schemas.site import Site
from schemas.workflow import Parameter, Start, Step, Workflow

app = typer.Typer(no_args_is_help=True, help="Workflows: what a launch runs.")
app.command("build")(workflows_launching.build_)
app.command("launch")(workflows_launching.launch)
app.command("import-shrek")(shrek.import_shrek)

_MISTAKE = "mistake"


@app.command("list")
def list_(home: Home = None, json_: Json = False) -> None:
    """List the workflows of this home and those that come with muleteer. Ends with 1 if one does not fit."""
    with opened(home) as muleteer:
        rows = [_row(muleteer, name) for name in sorted(set(muleteer.workflows.names()))]
    if json_:
        print_json(rows)
    else:
        columns = ("name", "steps", "parameters", "launch_name", "description")
        print_table(columns, [[row[column] for column in columns] for row in rows], empty="There is no workflow.")
        for row in rows:
            if row["mistake"] is not None:
                out.print(f"\n{row['name']} does not fit: {row['mistake']}")
    if any(row["mistake"] is not None for row in rows):
        raise typer.Exit(Exit.FAILED)


def _row(muleteer: Muleteer, name: str) -> Mapping[str, object]:
    row = dict.fromkeys(("steps", "parameters", "launch_name", "description", "folder", "mistake"))
    try:
        definition = muleteer.workflows.get(name)
    except WorkflowError as error:
        return {"name": name, **row, "mistake": str(error)}
    workflow = definition.workflow
    return {
        "name": name,
        **row,
        "steps": len(workflow.steps),
        "parameters": " ".join(workflow.parameters),
        "launch_name": workflow.launch_name,
        "description": workflow.description,
        "folder": str(definition.folder),
    }


@app.command("check")
def check(
    which: Which,
    home: Home = None,
    param: Parameters = None,
    did: DidOption = None,
    engine: EngineOption = None,
    site: SiteOption = None,
    json_: Json = False,
) -> None:
    """Look a workflow over: mistakes with file and line, what is probably not meant, what counts on PanDA alone.

    Names, options and the size of what is sent are checked for the engine that the settings name, or that is given
    here. Ends with 1 if there is a mistake; warnings and notes alone end with 0.
    """
    given, about = parameters_of(param), did_of(did)
    with opened(home) as muleteer:
        kind, profile = engine_of(muleteer, engine, site)
        found = list(_findings(muleteer, which, given, about, kind, profile))
    mistaken = any(weight == _MISTAKE for weight, _ in found)
    if json_:
        print_json(
            {"fits": not mistaken, "findings": [{"weight": weight, "message": message} for weight, message in found]}
        )
    else:
        for weight, message in found:
            out.print(f"{weight}: {message}")
        out.print("It does not fit." if mistaken else f"It fits, and can run on the engine {kind}.")
    if mistaken:
        raise typer.Exit(Exit.FAILED)


def _findings(
    muleteer: Muleteer,
    which: str,
    parameters: Mapping[str, str],
    did: Did | None,
    kind: EngineKind,
    site: Site | None,
) -> Iterator[tuple[str, str]]:
    try:
        definition = definition_of(muleteer, which)
    except WorkflowError as error:
        yield from ((_MISTAKE, line) for line in str(error).splitlines())
        return
    yield from (("note", remark) for remark in definition.remarks)
    for remark in _remarks(definition.workflow, kind):
        yield remark.weight, _at(definition, remark)
    retried = workflow_in_words(definition.workflow)
    if retried is not None:
        yield "note", _at(definition, Remark(Weight.NOTE, ("retry",), f"what fails is retried {retried}"))
    try:
        provenance.definition_of(definition, muleteer.settings.launch.require_commit)
    except WorkflowError as error:
        yield Weight.WARNING, f"a launch would be refused as it is: {error}"
    try:
        built = build_sample(definition, parameters, did, kind, site)
        if built is not None:
            made_ready(built.package, muleteer.settings.engine.largest_package * 1_000_000)
    except (WorkflowError, EngineRefused, PackageTooLarge) as error:
        yield _MISTAKE, str(error)
        return
    if built is None:
        names = [name for name, one in definition.workflow.parameters.items() if sample(one) is None]
        missing = " ".join(f"--param {name}=..." for name in names if name not in parameters)
        yield "note", f"names and the size of what is sent depend on values: say {missing} to have them checked"


def _remarks(workflow: Workflow, kind: EngineKind) -> Iterator[Remark]:
    """Notes are about what another engine would do: each is for one engine."""
    if kind is EngineKind.EMBEDDED:
        yield from remarks(workflow)
        return
    yield from (each for each in remarks(workflow) if each.weight is not Weight.NOTE)
    for number, step in enumerate(workflow.steps):
        if step.start is not Start.ALL and kind is EngineKind.PANDA:
            yield Remark(Weight.NOTE, ("steps", number, "start"), "counts on panda-stepwise alone")
    if workflow.outputs:
        what = "not made on PanDA: its tasks leave datasets of their own, which README.md of `workflow build` names"
        yield Remark(Weight.NOTE, ("outputs",), what)


def _at(definition: Definition, remark: Remark) -> str:
    if definition.document is None:
        return f"{'.'.join(map(str, remark.place))}: {remark.message}"
    return definition.document.at(remark.place, remark.message)


@app.command("show")
def show(which: Which, home: Home = None, json_: Json = False) -> None:
    """Show a workflow: what it needs to know, what it reads, its steps, what it leaves behind."""
    with opened(home) as muleteer, refused_explained():
        definition = definition_of(muleteer, which)
    workflow = definition.workflow
    if json_:
        document = workflow.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        print_json({"folder": str(definition.folder), "workflow": document})
        return
    print_fields(
        {
            "workflow": workflow.name,
            "description": workflow.description or None,
            "folder": definition.folder,
            "launch_name": workflow.launch_name,
            "setup": workflow.setup,
            "environment": " ".join(f"{name}={value}" for name, value in workflow.environment.items()) or None,
            "retry": workflow_in_words(workflow),
        }
    )
    out.print("\nparameters", style="bold")
    print_table(
        ("name", "type", "default", "allowed", "description"),
        [
            (name, each.type.value, each.default, _allowed(each), each.description)
            for name, each in workflow.parameters.items()
        ],
        empty="none",
    )
    out.print("\ninputs", style="bold")
    inputs = [(name, each.dataset or f"the files in {each.file_list}") for name, each in workflow.inputs.items()]
    print_table(("name", "what"), inputs, empty="none")
    out.print("\nsteps", style="bold")
    print_table(
        ("name", "runs", "reads", "makes", "timeout", "on"),
        [
            (
                each.name,
                _runs(each),
                _reads(each),
                " ".join(each.outputs) or None,
                None if each.timeout is None else format_duration(each.timeout),
                each.site or each.queue,
            )
            for each in workflow.steps
        ],
        empty="none",
    )
    out.print("\noutputs", style="bold")
    print_table(("dataset", "step"), [(each.dataset, each.step) for each in workflow.outputs], empty="none")


def _allowed(parameter: Parameter) -> str | None:
    words = [" | ".join(parameter.choices), parameter.pattern or ""]
    words.append(f"from {parameter.minimum:.15g}" if parameter.minimum is not None else "")
    words.append(f"to {parameter.maximum:.15g}" if parameter.maximum is not None else "")
    return " ".join(filter(None, words)) or None


def _runs(step: Step) -> str:
    runs = " ".join(step.command) if step.command else "a script"
    return runs if step.scatter is None else f"{runs} (for each {step.scatter.variable})"


def _reads(step: Step) -> str | None:
    words = [each.source + (f" ({each.match})" if each.match else "") for each in step.inputs]
    return (" ".join(words) + (", if it failed" if step.when == "failed" else "")) or None


@app.command("graph")
def graph(
    which: Which,
    home: Home = None,
    to: Annotated[
        Path | None, typer.Option("--svg", help="Write it as SVG into this file; - is standard output.")
    ] = None,
    json_: Json = False,
) -> None:
    """Draw a workflow, here or as SVG: what flows from what to what, from top to bottom."""
    with opened(home) as muleteer, refused_explained():
        workflow = definition_of(muleteer, which).workflow
    drawn = graph_of(workflow)
    if json_:
        print_json(_plain_graph(drawn))
    elif to is None:
        out.print(text(drawn), soft_wrap=True)
    elif str(to) == "-":
        sys.stdout.write(svg(drawn, f"workflow {workflow.name}"))
    else:
        try:
            to.write_text(svg(drawn, f"workflow {workflow.name}"), encoding="utf-8")
        except OSError as error:
            fail(Exit.FAILED, f"{to} cannot be written: {error.strerror}")


def _plain_graph(graph: Graph) -> Mapping[str, Sequence[object]]:
    arrows = graph.arrows
    return {
        "nodes": [{"key": key, "kind": node.kind, "lines": node.lines} for key, node in graph.nodes.items()],
        "arrows": [{"from": start, "to": end, "on_failure": (start, end) in graph.dashed} for start, end in arrows],
    }
