"""Rules: put in force, listed."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.common import Exit, Home, Json, err, fail, opened, out, person, print_json, print_table
from orchestrator.clock import utc_now
from orchestrator.dispatch.rules import read_rules
from schemas.event import SEEN_EVENTS
from schemas.rule import Rule

app = typer.Typer(no_args_is_help=True, help="Which events start which actions.")


@app.command("list")
def list_(home: Home = None, json_: Json = False) -> None:
    """List the rules in force."""
    with opened(home, reading=True) as muleteer:
        revision, versions = muleteer.store.rules.in_force()
    if json_:
        print_json([{**version.rule.document(), "version": version.version} for version in versions])
        return
    rows = [
        (
            version.rule.name,
            version.version,
            "yes" if version.rule.enabled else "no",
            ", ".join(version.rule.on),
            ", ".join(version.rule.scope),
            version.rule.pattern,
            ", ".join(action.actor for action in version.rule.actions),
        )
        for version in versions
    ]
    columns = ("name", "version", "enabled", "on", "scope", "pattern", "actions")
    print_table(columns, rows, empty="There is no rule. `muleteer rules apply FILE` puts rules in force.")
    if rows:
        out.print(f"\nrevision {revision}")


@app.command("apply")
def apply(
    path: Annotated[Path, typer.Argument(help="A rules file, or a folder of them.")],
    home: Home = None,
    prune: Annotated[bool, typer.Option("--prune", help="Take out rules in force that are not given.")] = False,
    json_: Json = False,
) -> None:
    """Put rules in force, all or nothing. A running dispatcher uses them at once."""
    if not path.exists():
        fail(Exit.NOT_FOUND, f"there is no {path}")
    with opened(home) as muleteer:
        rules = read_rules(path, muleteer.actors, muleteer.tools())
        _warn_of_strange_events(rules)
        change = muleteer.store.rules.apply(rules, prune=prune, who=person(), now=utc_now())
    if json_:
        names = ("added", "changed", "removed", "unchanged")
        print_json({"revision": change.revision, **{name: getattr(change, name) for name in names}})
        return
    for what in ("added", "changed", "removed", "unchanged"):
        if names_of := getattr(change, what):
            out.print(f"{what:<10}{', '.join(names_of)}")
    out.print(f"revision {change.revision}{' as before' if change.nothing else ' is in force'}")


def _warn_of_strange_events(rules: Sequence[Rule]) -> None:
    """Any event may come one day; one that nobody has seen is more often a slip of the keyboard."""
    for rule in rules:
        for event in sorted({*rule.on} - SEEN_EVENTS):
            near = get_close_matches(event, SEEN_EVENTS, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            err.print(f"warning: rule {rule.name} waits for {event!r}, an event that Rucio was not seen to send{hint}")
