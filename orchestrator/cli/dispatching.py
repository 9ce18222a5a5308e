"""Dispatch by hand: judge what is pending and carry out what follows, once or until stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from typing import Annotated

import typer

from orchestrator.cli.running import Signals, leave_if_stuck
from orchestrator.cli.session import Exit, Home, fail, opened, person
from orchestrator.cli.stopping import words
from orchestrator.cli.terminal import out
from orchestrator.clock import utc_now
from orchestrator.core.matching import RuleSet
from orchestrator.core.patterns import unquote
from orchestrator.dispatch.dispatcher import Judging
from orchestrator.dispatch.rules import mistakes_of
from orchestrator.service import Role, Service
from orchestrator.store.store import Store
from orchestrator.wiring import Muleteer
from schemas.dispatch import DispatchId, DispatchState
from schemas.message import MessageId
from schemas.rule import Action, Rule, RuleVersion

app = typer.Typer(invoke_without_command=True)


@app.callback()
def dispatch(
    context: typer.Context,
    home: Home = None,
    rule: Annotated[str | None, typer.Option("--rule", help="The name of a rule for this call alone.")] = None,
    actor: Annotated[
        str | None, typer.Option("--actor", help="The command that its matches run; gets scope, name and event.")
    ] = None,
    regex: Annotated[str, typer.Option("--regex", help='RE2 pattern on the whole name; r"..." is understood.')] = ".*",
    scope: Annotated[str, typer.Option("--scope", help="Scope, or scopes with commas between; * and ? match.")] = "*",
    event: Annotated[str, typer.Option("--event", help="Event, or events with commas between.")] = "close",
    follow: Annotated[bool, typer.Option("--follow", help="Go on until stopped, instead of once.")] = False,
) -> None:
    """Judge pending messages and carry out what follows: once, or until stopped.

    With --rule and --actor, one more rule counts beside those in force, for this call alone:

    muleteer dispatch --rule raw-events --actor actors/dispatch.sh --regex 'r"(\\w)+EVENTS-(\\d+)"' --event close
    """
    if context.invoked_subcommand is not None:
        _demand_nothing_before(context)
        context.obj = home
        return
    if (rule is None) != (actor is None):
        raise typer.BadParameter("--rule and --actor go together: a rule needs a name and something to do")
    signals = Signals()
    with opened(home, quiet=not follow) as muleteer:
        extra = _rule_of(muleteer, rule, actor, regex, scope, event) if rule is not None and actor is not None else None
        if follow:
            _follow(muleteer, extra, signals)
        else:
            raise typer.Exit(_once(muleteer, extra, lambda: signals.asked))


@app.command("once")
def once(
    context: typer.Context,
    home: Home = None,
    rule: Annotated[str | None, typer.Option("--rule", help="Carry out what is ready of this rule alone.")] = None,
) -> None:
    """Judge what is pending and carry out what is ready now, once, even if it is stopped; it stays stopped.

    Caps and paces are kept. What waits for its `require` alone stays on the list, and is no failure.
    """
    signals = Signals()
    with opened(home or context.obj) as muleteer:
        if rule is not None:
            muleteer.store.rules.version(rule)  # a slip of the pen must not look like nothing to do
        raise typer.Exit(_once(muleteer, None, lambda: signals.asked, rule))


def _demand_nothing_before(context: typer.Context) -> None:
    """A rule that is named before `stop` must not be taken for everything. Only the home may stand there."""
    typed = [name for name in context.params if name != "home" and _typed(context, name)]
    if typed:
        raise typer.BadParameter(f"write --{typed[0]} after {context.invoked_subcommand}, or leave it out")


def _typed(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _rule_of(muleteer: Muleteer, name: str, actor: str, regex: str, scope: str, event: str) -> RuleVersion:
    words = {"on": tuple(event.split(",")), "scope": tuple(scope.split(",")), "pattern": unquote(regex)}
    action = Action(actor="run", options={"command": [actor, "{scope}", "{name}", "{event}"]})
    try:
        rule = Rule(name=name, actions=(action,), **words)
    except ValueError as error:
        fail(Exit.REFUSED, str(error))
    for place, what in mistakes_of(rule, muleteer.actors, muleteer.tools()):
        fail(Exit.REFUSED, f"{'.'.join(map(str, place))}: {what}")
    return muleteer.store.rules.keep_for_reference(rule, who=person(), now=utc_now())


def _follow(muleteer: Muleteer, extra: RuleVersion | None, signals: Signals) -> None:
    service = Service(muleteer, [Role.DISPATCHER, Role.WORKER], extra)
    with service.running():
        signals.wait(None)
    leave_if_stuck(service)


def _once(muleteer: Muleteer, extra: RuleVersion | None, asked: Callable[[], bool], rule: str | None = None) -> Exit:
    """Carry out what is ready, of one rule or of all: stopped or not, for a person asked for it."""
    if suspended := muleteer.store.suspensions.all():
        said = ", ".join(words(each) for each in suspended)
        out.print(f"Stopped: {said}. This once it is carried out all the same; after that it stays stopped.")
    muleteer.janitor().tidy()  # what an earlier call left half done
    written = set(_judge_all(muleteer, extra))
    if muleteer.enricher().ask_all():
        out.print("The catalog was asked about some of them:")
        written |= set(_judge_all(muleteer, extra))
    worker, doorkeeper = muleteer.worker(asked), muleteer.doorkeeper()
    looked = True
    left_over = set(_left_over(muleteer.store, rule))
    due = sorted(left_over if rule is not None else written | left_over)
    try:
        while not asked():
            # what was put on the list meanwhile is not for this call
            looked &= doorkeeper.look_at_all()
            started = worker.claim_and_start(due)
            worker.renew()
            if worker.idle(1.0) and started == 0:
                break
    finally:
        worker.stop()
        worker.close()
    return _report(muleteer.store, due, muleteer.store.requirements.waiting() if looked else set())


def _judge_all(muleteer: Muleteer, extra: RuleVersion | None) -> list[DispatchId]:
    """Every pending message, one batch after the other."""
    revision, versions = muleteer.store.rules.in_force()
    rules = RuleSet(revision, [*versions, *([extra] if extra else [])], muleteer.settings.unmatched)
    if rules.size == 0:
        out.print("There is no rule: nothing was judged. `muleteer rules apply FILE` puts rules in force.")
        return []
    judging = Judging(muleteer.store, utc_now)
    written: list[DispatchId] = []
    judged = dropped = dispatched = 0
    last: MessageId | None = MessageId(0)
    while last is not None:
        done = judging.batch(rules, last)
        last = done.last
        judged, dropped, dispatched = judged + done.judged, dropped + done.dropped, dispatched + done.dispatched
        written += done.dispatches
    pending = judged - dropped - dispatched
    out.print(f"{judged} messages judged: {dispatched} dispatched, {dropped} dropped, {pending} still pending")
    return written


def _left_over(store: Store, rule: str | None) -> list[DispatchId]:
    """What is on the list, of one rule or of all."""
    waiting = [DispatchState.READY, DispatchState.WAITING]
    return [each.id for each in store.dispatches.list(states=waiting, rule=rule, limit=100_000)]


def _report(store: Store, ids: Sequence[DispatchId], waiting: Set[DispatchId]) -> Exit:
    """What became of each. It is no failure if one waits for what it requires of the catalog."""
    counts: dict[str, int] = {}
    failed = False
    for id_ in ids:
        each = store.dispatches.get(id_)
        counts[each.state] = counts.get(each.state, 0) + 1
        if each.state is not DispatchState.DONE:
            failed |= id_ not in waiting
            again = "; to be tried again" if each.state is DispatchState.READY and each.attempts else ""
            out.print(f"dispatch {id_} ({each.rule}) is {each.state}: {each.reason or 'not started'}{again}")
    if ids:
        said = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
        out.print(f"{len(ids)} dispatches: {said}")
    if going_on := len(store.launches.active()):
        out.print(f"{going_on} launches go on; `muleteer run` follows them, and registers what they make")
    return Exit.FAILED if failed else Exit.OK
