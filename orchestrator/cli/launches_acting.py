"""What people ask of launches, by id or by filter: killed, retried, finished, paused, resumed, their input reloaded.

It is written down, and carried out by whoever runs muleteer there: nobody needs a token of his own for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final

import typer

from orchestrator.cli.by_hand import DryRun, Ids, Reason, hand_of, report
from orchestrator.cli.launches_filters import (
    RuleName,
    Runs,
    Stalled,
    States,
    Text,
    WorkflowName,
    at_site,
    filter_of,
)
from orchestrator.cli.session import Exit, Home, Json, fail, opened
from orchestrator.cli.terminal import err
from orchestrator.core.by_hand import Hand, Tally
from orchestrator.core.commanding import ParametersError, retry_parameters
from orchestrator.store.launch_commands import Ask
from orchestrator.store.launch_listing import ALL_LAUNCHES, LaunchFilter
from orchestrator.wiring import Muleteer
from schemas.launch import Command, LaunchId

Step = Annotated[str | None, typer.Option("--step", help="Only this step of each; else all that it fits.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask whether so many are meant.")]

_HELP: Final[Mapping[Command, str]] = {
    Command.KILL: "Stop launches: what runs is killed, nothing more begins, no coming retry of what has failed.",
    Command.FINISH: "Let launches come to an end: no new jobs, and what has succeeded so far counts.",
    Command.PAUSE: "Let nothing new begin in launches until they are resumed.",
    Command.RESUME: "Go on with launches that were paused.",
    Command.RELOAD: "Look again at what the input datasets of launches hold.",
}

_DONE: Final[Mapping[Command, str]] = {
    Command.KILL: "asked to be killed",
    Command.RETRY: "asked to be retried",
    Command.FINISH: "asked to be finished",
    Command.PAUSE: "asked to be paused",
    Command.RESUME: "asked to be resumed",
    Command.RELOAD: "asked to be reloaded",
}


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for command, said in _HELP.items():
        app.command(command.value, help=said)(_acting(command))
    app.command("retry")(retry)


def _acting(verb: Command) -> Callable[..., None]:
    def command(
        reason: Reason,
        ids: Ids = None,
        home: Home = None,
        state: States = None,
        workflow: WorkflowName = None,
        run: Runs = None,
        rule: RuleName = None,
        name: Text = None,
        stalled: Stalled = False,
        step: Step = None,
        dry_run: DryRun = False,
        yes: Yes = False,
        json_: Json = False,
    ) -> None:
        with opened(home, reading=True) as muleteer:
            wanted = filter_of(muleteer, state, workflow, run, rule, name, stalled=stalled)
            hand = hand_of(reason, dry_run=dry_run)
            _act(muleteer, Ask(verb, step), _chosen(ids, wanted), hand, yes=yes, json_=json_)

    return command


def retry(
    reason: Reason,
    ids: Ids = None,
    home: Home = None,
    state: States = None,
    workflow: WorkflowName = None,
    run: Runs = None,
    rule: RuleName = None,
    name: Text = None,
    stalled: Stalled = False,
    step: Step = None,
    memory: Annotated[
        int | None, typer.Option("--memory", min=1, help="Megabytes for each core, from now on.", show_default=False)
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "--parameter", help="In the engine's words: ramCount=4000; may be repeated.", metavar="NAME=VALUE"
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also beside another launch for the same that is at work.")
    ] = False,
    dry_run: DryRun = False,
    yes: Yes = False,
    json_: Json = False,
) -> None:
    """Run again what failed in launches; what succeeded stays."""
    ask = Ask(Command.RETRY, step, _parameters(parameter or (), memory), force)
    with opened(home, reading=True) as muleteer:
        wanted = filter_of(muleteer, state, workflow, run, rule, name, stalled=stalled)
        _act(muleteer, ask, _chosen(ids, wanted), hand_of(reason, dry_run=dry_run), yes=yes, json_=json_)


def _parameters(given: Sequence[str], memory: int | None) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for word in given:
        name, equals, value = word.partition("=")
        if not (name and equals):
            raise typer.BadParameter(f"--parameter {word!r} is not NAME=VALUE")
        found[name] = value
    try:
        return retry_parameters(found, memory)
    except ParametersError as error:
        raise typer.BadParameter(str(error)) from None


def _chosen(ids: Sequence[int] | None, wanted: LaunchFilter) -> Sequence[LaunchId] | LaunchFilter:
    if bool(ids) == (wanted != ALL_LAUNCHES):
        raise typer.BadParameter("name the launches by id, or give filters such as --state and --workflow")
    return [LaunchId(id_) for id_ in ids] if ids else wanted


def _act(
    muleteer: Muleteer, ask: Ask, chosen: Sequence[LaunchId] | LaunchFilter, hand: Hand, *, yes: bool, json_: bool
) -> None:
    commands = muleteer.store.launch_commands
    tally = commands.ask(ask, chosen, Hand(hand.who, hand.why, hand.now, dry_run=True))
    if not hand.dry_run:
        _demand_meant(tally, ask, at_site(muleteer), yes=yes, json_=json_)
        tally = commands.ask(ask, chosen, hand)
    more: dict[str, Any] = {"command": ask.command, "step": ask.step, "parameters": dict(ask.parameters or {})}
    named = not isinstance(chosen, LaunchFilter)
    if set(tally.changed) - set(tally.remarked) and not hand.dry_run and not json_:  # the others are done already
        which = tally.changed[0] if len(tally.changed) == 1 else "ID"
        err.print(
            f"`muleteer run` carries it out{at_site(muleteer)}; `muleteer launches show {which}` has the answer then"
        )
    report(tally, _DONE[ask.command], "launch", hand, json_=json_, named=named, more=more)


def _demand_meant(tally: Tally, ask: Ask, where: str, *, yes: bool, json_: bool) -> None:
    """One launch is meant if it is named; of more, whoever types says so."""
    count = len(tally.changed)
    if count <= 1 or yes:
        return
    if json_ or not err.is_terminal:
        fail(
            Exit.REFUSED,
            f"this is about {count:,} launches{where}, and nothing was changed: say --yes if they are meant",
        )
    if not typer.confirm(f"{ask.command} {count:,} launches{where}?", err=True):
        fail(Exit.REFUSED, "nothing was changed")
