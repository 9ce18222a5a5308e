"""Stop what is dispatched by itself, start it again, and look at what stands in the way."""

from __future__ import annotations

from typing import Annotated

import typer

from orchestrator.cli.session import Home, Json, opened, person
from orchestrator.cli.terminal import out, print_json, print_table
from orchestrator.clock import utc_now
from orchestrator.core.gates import EVERYTHING, Subject
from orchestrator.wiring import Muleteer
from schemas.gate import Kind, Standing, Suspension

OneRule = Annotated[str | None, typer.Option("--rule", help="Only this rule.")]
OneGroup = Annotated[str | None, typer.Option("--group", help="Only the rules of this group.")]


def stop(
    context: typer.Context,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the journal and for whoever wonders.")],
    home: Home = None,
    rule: OneRule = None,
    group: OneGroup = None,
    json_: Json = False,
) -> None:
    """Start nothing more of everything, a group or a rule. What is in flight goes on; what arrives accumulates."""
    subject = _subject(rule, group)
    with opened(home or context.obj, reading=True) as muleteer:
        found, new = muleteer.store.suspensions.suspend(subject, who=person(), why=reason, now=utc_now())
        standing = _standing_of(muleteer, subject)
    if json_:
        print_json({"suspension": found, "new": new, "in_flight": standing.running, "ready": standing.ready})
        return
    if new:
        out.print(f"{subject.words} is stopped")
    else:
        out.print(
            f"{subject.words} was stopped already, by {found.who} at {found.at:%Y-%m-%d %H:%M} UTC: {found.reason}"
        )
    out.print(f"{standing.running} in flight go on; {standing.ready} are ready, and wait with all that comes")


def start(
    context: typer.Context,
    home: Home = None,
    rule: OneRule = None,
    group: OneGroup = None,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the journal.")] = "started by hand",
    json_: Json = False,
) -> None:
    """Go on with what was stopped, by a person or a circuit breaker; what has accumulated is started in its order."""
    subject = _subject(rule, group)
    with opened(home or context.obj, reading=True) as muleteer:
        ended = muleteer.store.suspensions.resume(subject, who=person(), why=reason, now=utc_now())
        standing, rest = _standing_of(muleteer, subject), muleteer.store.suspensions.all()
    if json_:
        print_json({"ended": ended, "ready": standing.ready, "suspended": rest})
        return
    out.print(f"{subject.words} goes on; {ended.who} had stopped it at {ended.at:%Y-%m-%d %H:%M} UTC: {ended.reason}")
    out.print(f"{standing.ready} are ready")
    if rest:
        out.print(f"still stopped: {', '.join(words(each) for each in rest)}")


def status(context: typer.Context, home: Home = None, json_: Json = False) -> None:
    """Show what is stopped, by whom and why; how much of each limit is used; and why the next one is not started."""
    with opened(home or context.obj, reading=True) as muleteer:
        suspended = muleteer.store.suspensions.all()
        standings = muleteer.store.dispatches.standings(now=utc_now(), limits=muleteer.limits)
    if json_:
        print_json({"suspended": suspended, "standings": standings})
        return
    rows = [(words(each), each.who, each.at, each.reason) for each in suspended]
    print_table(("stopped", "by", "since", "reason"), rows, empty="Nothing is stopped.")
    out.print()
    columns = ("what", "group", "going on", "pace", "failures", "ready", "why the next one is not started")
    print_table(columns, [_row(each) for each in standings], empty="There is no rule.")


def _row(standing: Standing) -> tuple[object, ...]:
    pace = None if standing.pace is None else f"{standing.started} of {standing.pace.model_dump()}"
    allowed = standing.failures_allowed
    why = standing.why_not
    if why is not None and standing.opens_at is not None:
        why = f"{why}; the next at {standing.opens_at:%H:%M:%S} UTC"
    return (
        words(standing),
        standing.group,
        f"{standing.running}" if standing.cap is None else f"{standing.running} of {standing.cap}",
        pace,
        f"{standing.failures} of {allowed}" if allowed is not None else standing.failures or None,
        standing.ready,
        why,
    )


def words(of: Suspension | Standing) -> str:
    """What it is about, in words."""
    return Subject(of.kind, of.name).words


def _subject(rule: str | None, group: str | None) -> Subject:
    if rule is not None and group is not None:
        raise typer.BadParameter("name a rule or a group, not both")
    if rule is not None:
        return Subject(Kind.RULE, rule)
    return EVERYTHING if group is None else Subject(Kind.GROUP, group)


def _standing_of(muleteer: Muleteer, subject: Subject) -> Standing:
    """How it stands; of a rule that was taken out and has nothing ready, what goes on is all there is to say."""
    for each in muleteer.store.dispatches.standings(now=utc_now(), limits=muleteer.limits, also=[subject]):
        if (each.kind, each.name) == subject:
            return each
    raise AssertionError(f"{subject.words} was asked for")
