"""Rules in force: switched on and off, taken out, taken back; and what a change of them is told as."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer

from orchestrator.cli.rules_cycles import AllowCycles, heed_cycles
from orchestrator.cli.session import Home, Json, opened, person
from orchestrator.cli.terminal import out, print_json
from orchestrator.clock import utc_now
from orchestrator.dispatch.rules import still_right
from orchestrator.store.rules import Change
from orchestrator.wiring import Muleteer
from schemas.revision import GoingOn, InFlight

Names = Annotated[list[str], typer.Argument(help="Names of rules.", show_default=False)]
Because = Annotated[str, typer.Option("--reason", help="Why; kept with the change.", show_default=False)]
Reason = Annotated[str | None, typer.Option("--reason", help="Why; kept with the change.", show_default=False)]


def enable(
    names: Names, reason: Because, home: Home = None, allow_cycles: AllowCycles = False, json_: Json = False
) -> None:
    """Switch rules on. A running dispatcher uses them at once."""
    with opened(home) as muleteer:
        rules = [version.rule for version in muleteer.store.rules.in_force()[1] if version.rule.name in names]
        on = [rule.model_copy(update={"enabled": True}) for rule in rules]
        still_right(on, muleteer.actors, muleteer.tools())
        heed_cycles(muleteer, on, allow=allow_cycles)
        change = muleteer.store.rules.set_enabled(names, True, who=person(), reason=reason, now=utc_now())
        tell(muleteer, change, json_)


def disable(names: Names, reason: Because, home: Home = None, json_: Json = False) -> None:
    """Switch rules off. What they have begun goes on untouched, and is named."""
    with opened(home) as muleteer:
        change = muleteer.store.rules.set_enabled(names, False, who=person(), reason=reason, now=utc_now())
        tell(muleteer, change, json_, stopped=dict.fromkeys(names))


def remove(names: Names, reason: Because, home: Home = None, json_: Json = False) -> None:
    """Take rules out. What they have begun goes on untouched, and is named; their versions stay readable."""
    with opened(home) as muleteer:
        change = muleteer.store.rules.remove(names, who=person(), reason=reason, now=utc_now())
        tell(muleteer, change, json_, stopped=change.removed)


def rollback(
    revision: Annotated[int, typer.Argument(help="The revision to go back to; `rules history` shows them.", min=0)],
    reason: Because,
    home: Home = None,
    allow_cycles: AllowCycles = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    json_: Json = False,
) -> None:
    """Put the whole set in force as it was at a revision, as a new revision."""
    with opened(home) as muleteer:
        now = {version.rule.name: version.rule for version in muleteer.store.rules.in_force()[1]}
        then = [version.rule for version in muleteer.store.rules.set_at(revision)]
        still_right([rule for rule in then if now.get(rule.name) != rule], muleteer.actors, muleteer.tools())
        heed_cycles(muleteer, then, prune=True, allow=allow_cycles)
        if dry_run:
            change = muleteer.store.rules.would_change(then, prune=True)
        else:
            change = muleteer.store.rules.rollback(revision, who=person(), reason=reason, now=utc_now())
        tell(muleteer, change, json_, stopped=change.removed, dry_run=dry_run)


def tell(
    muleteer: Muleteer, change: Change, json_: bool, *, stopped: Iterable[str] = (), dry_run: bool = False
) -> None:
    """Say what a change did or would do, and what rules that fire no more have begun and not ended."""
    going_on = {name: muleteer.store.rules.in_flight(name) for name in stopped}
    if json_:
        in_flight = {name: as_json(each) for name, each in going_on.items()}
        print_json({"revision": change.revision, **_names(change), "in_flight": in_flight, "dry_run": dry_run})
        return
    for did, names in _names(change).items():
        if names:
            out.print(f"{did:<10}{', '.join(names)}")
    if change.nothing:
        out.print(f"revision {change.revision} as before")
    else:
        out.print(
            f"revision {change.revision} {'would be in force; nothing was changed' if dry_run else 'is in force'}"
        )
    for name, each in going_on.items():
        out.print(f"{name}: {in_words(each)}{', and go on untouched' if count(each) else ''}")


def in_words(in_flight: InFlight) -> str:
    """What is in flight, by kind and state, with the first few ids of each."""
    kinds = (("dispatches", in_flight.dispatches), ("launches", in_flight.launches))
    said = [f"{kind} {', '.join(map(_going_on, each))}" for kind, each in kinds if each]
    return f"in flight are {' and '.join(said)}" if said else "nothing of it is in flight"


def count(in_flight: InFlight) -> int:
    return sum(each.count for each in (*in_flight.dispatches, *in_flight.launches))


def as_json(in_flight: InFlight) -> dict[str, Any]:
    return {"count": count(in_flight), **in_flight.model_dump(mode="json")}


def _names(change: Change) -> dict[str, Sequence[str]]:
    return {did: getattr(change, did) for did in ("added", "changed", "removed", "unchanged")}


def _going_on(each: GoingOn) -> str:
    more = ", ..." if each.count > len(each.ids) else ""
    return f"{each.count} {each.state} ({', '.join(map(str, each.ids))}{more})"
