"""Workflows built into a directory, and launched by hand."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import typer

from orchestrator.cli.launches_filters import at_site
from orchestrator.cli.session import Exit, Home, Json, fail, opened, person
from orchestrator.cli.terminal import out, print_json
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
from orchestrator.core.actor import Done, GiveUp, Outcome, Retry, Wait
from orchestrator.launch import planning
from orchestrator.launch.building import Built, EngineKind, build, needs_no_dataset
from orchestrator.launch.workflows import Definition
from orchestrator.panda.packing import package as packing
from orchestrator.store.launch_archive import PackageTooLarge
from orchestrator.wiring import Muleteer
from schemas.did import Did
from schemas.launch import Launch, LaunchId, LaunchState
from schemas.site import Site

_NO_NEED: Final = "the embedded engine needs none: it is this machine"


def build_(
    which: Which,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="A new or empty directory.")],
    home: Home = None,
    param: Parameters = None,
    did: DidOption = None,
    engine: EngineOption = None,
    site: SiteOption = None,
    json_: Json = False,
) -> None:
    """Write everything that a launch would send into a directory, without launching anything.

    For PanDA that can be submitted by hand: see its README. The same words give the same bytes, and nothing secret is
    among them.
    """
    given, about = parameters_of(param), did_of(did)
    with opened(home) as muleteer, refused_explained():
        kind, profile = engine_of(muleteer, engine, site)
        built = build(definition_of(muleteer, which), given, about, kind, profile)
        try:
            packing.write(built.package, to)
        except OSError as error:
            fail(Exit.FAILED, f"{to} cannot be written: {error.strerror}")
    if json_:
        print_json(_sent(built, kind, profile) | {"directory": str(to)})
    else:
        _print_sent(built, kind, profile)
        out.print(f"\nWritten to {to}.")


def _sent(built: Built, kind: EngineKind, site: Site | None) -> dict[str, object]:
    return {
        "name": built.submission.name,
        "engine": kind.value,
        "site": None if site is None else site.name,
        "instance": None if site is None else site.instance,
        "steps": [step.name for step in built.submission.steps],
        "files": [{"path": path, "bytes": len(file.content)} for path, file in built.package.items()],
    }


def _print_sent(built: Built, kind: EngineKind, site: Site | None) -> None:
    out.print(f"{built.submission.name} for {_where(kind, site)}", style="bold")
    out.print(f"steps  {', '.join(step.name for step in built.submission.steps)}")
    size = sum(len(file.content) for file in built.package.values())
    out.print(f"files  {len(built.package)}, {size:,} bytes")
    for path, file in built.package.items():
        out.print(f"       {len(file.content):>10,}  {path}")


def _where(kind: EngineKind, site: Site | None) -> str:
    return f"the {kind} engine" if site is None else f"{kind} at {site.name} ({site.instance})"


def launch(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A workflow of this home.")] = None,
    home: Home = None,
    param: Parameters = None,
    did: DidOption = None,
    no_submit: Annotated[
        bool, typer.Option("--no-submit", help="Only say what would be sent: nothing is stored, nobody is asked.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only have PanDA look at it: nothing is stored, nothing is started.")
    ] = False,
    handshake: Annotated[
        bool, typer.Option("--handshake", help="Only ask PanDA whether it knows us, and until when.")
    ] = False,
    go_on: Annotated[
        int | None,
        typer.Option("--go-on", metavar="ID", help="Go on with a launch that was stored but is not with the engine."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Even if there is a launch of that name: make another beside it.")
    ] = False,
    json_: Json = False,
) -> None:
    """Launch a workflow by hand. Ends with 0 once the engine has it, and with 5 if that is not known yet.

    It goes the way of every launch: stored first with all that is sent, then sent, and followed by `muleteer run`.
    """
    given, about = parameters_of(param), did_of(did)
    if (name is None) == (go_on is None) and not (handshake and name is None):
        raise typer.BadParameter("name a workflow, or a launch with --go-on")
    with opened(home) as muleteer, refused_explained():
        if handshake:
            _shake_hands(muleteer, json_)
            return
        if no_submit or check:
            _try(muleteer, str(name), given, about, asking=check, json_=json_)
            return
        id_ = LaunchId(go_on) if go_on is not None else _stored(muleteer, str(name), given, about, again)
        outcome = muleteer.launcher.go_on(id_)
        _tell(muleteer, id_, outcome, json_)


def _shake_hands(muleteer: Muleteer, json_: bool) -> None:
    from orchestrator.panda.client.api import PandaApi  # with its HTTP library, which no other command here needs
    from orchestrator.panda.client.token import Token

    site = muleteer.site
    said = _NO_NEED if site is None else PandaApi(site, Token(site.token_file)).handshake(muleteer.clock())
    if json_:
        print_json({"said": said})
    else:
        out.print(said)


def _try(
    muleteer: Muleteer, name: str, given: Mapping[str, str], did: Did | None, *, asking: bool, json_: bool
) -> None:
    kind, site = engine_of(muleteer, None, None)
    built = build(muleteer.workflows.get(name), given, did, kind, site)
    said = _asked(built, site) if asking and site is not None else None
    if json_:
        print_json(_sent(built, kind, site) | {"said": said})
        return
    _print_sent(built, kind, site)
    out.print(f"\n{said}" if said is not None else "\nNothing was sent.")


def _asked(built: Built, site: Site) -> str:
    """What PanDA says of it. Raises EngineError."""
    from orchestrator.panda.client.sending import Sender
    from orchestrator.panda.client.token import Token

    sender = Sender(site, Token(site.token_file))
    chained = len(built.submission.steps) > 1
    only = built.submission.steps[0].name
    words = packing.chain_arguments(built.package) if chained else packing.step_arguments(built.package, only)
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch) / "package"
        packing.write(built.package, directory)
        receipt = sender.check("pchain" if chained else "prun", words, directory)
    return receipt.verdict or "PanDA found nothing wrong with it"


def _stored(muleteer: Muleteer, name: str, given: Mapping[str, str], did: Did | None, again: bool) -> LaunchId:
    definition = muleteer.workflows.get(name)
    if did is None:
        needs_no_dataset(definition)
    try:
        launch = muleteer.launcher.by_hand(name, given, did, who=person(), again=again)
    except (ValueError, PackageTooLarge) as error:
        fail(Exit.REFUSED, str(error))
    _demand_same(launch, definition, given, did)
    return launch.id


def _demand_same(launch: Launch, definition: Definition, given: Mapping[str, str], did: Did | None) -> None:
    """What was stored under the same name before and is not sent yet may be about something else."""
    values = {"scope": did.scope, "name": did.name} if did is not None else {"scope": "", "name": ""}
    asked = planning.plan(definition, name=launch.name, parameters=given, values=values)
    inputs = {label: str(each) for label, each in asked.inputs.items()}
    if (inputs, dict(asked.parameters)) == (launch.inputs, launch.parameters):
        return
    has = ", ".join([*launch.inputs.values(), *(f"{name}={value}" for name, value in launch.parameters.items())])
    fail(
        Exit.REFUSED,
        f"launch {launch.id} has the name {launch.name} already, is {launch.state}, and is of other values: {has}. "
        f"Nothing was sent\n{_what_next(launch.id)}",
    )


def _what_next(id_: LaunchId) -> str:
    again, stop = f"muleteer workflow launch --go-on {id_}", f"muleteer launches kill {id_} --reason ..."
    return f"`{again}` goes on with it, `{stop}` gives it up, and its name with it"


def _tell(muleteer: Muleteer, id_: LaunchId, outcome: Outcome, json_: bool) -> None:
    launch = muleteer.store.launches.get(id_)
    if json_:
        print_json(launch)
    match outcome:
        case Done(summary):
            if not json_:
                out.print(f"{summary}{at_site(muleteer)}")
                out.print(f"`muleteer run` follows it; `muleteer launches watch {id_}` shows how far it is")
        case Wait(reason) | Retry(reason):
            fail(Exit.UNAVAILABLE, f"launch {id_} is {launch.state}: {reason}\n{_what_next(id_)}")
        case GiveUp(reason) if launch.state is LaunchState.PREPARED:
            fail(Exit.REFUSED, f"launch {id_} is {launch.state}: {reason}\n{_what_next(id_)}")
        case GiveUp(reason):
            fail(Exit.REFUSED, f"launch {id_} is {launch.state}: {reason}")
        case _:
            fail(Exit.FAILED, f"launch {id_} is {launch.state}")
