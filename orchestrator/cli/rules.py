"""Rules: put in force, listed, written out. What else can be done with them stands in the files beside this one."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli import rules_change, rules_edit, rules_history
from orchestrator.cli.rules_cycles import AllowCycles, heed_cycles
from orchestrator.cli.session import Exit, Home, Json, fail, opened, person
from orchestrator.cli.terminal import err, out, print_json, print_table
from orchestrator.clock import utc_now
from orchestrator.dispatch.rules import read_rules, rules_text
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
            _also(version.rule),
            ", ".join(action.actor for action in version.rule.actions),
        )
        for version in versions
    ]
    columns = ("name", "version", "enabled", "on", "scope", "pattern", "and", "actions")
    print_table(columns, rows, empty="There is no rule. `muleteer rules apply FILE` puts rules in force.")
    if rows:
        out.print(f"\nrevision {revision}")


def _also(rule: Rule) -> str:
    """What sets a rule apart from a plain one, in a few words."""
    words = [f"group {rule.group}"] if rule.group is not None else []
    words += [f"priority {rule.priority}"] if rule.priority else []
    words += [f"1 of {rule.prescale}"] if rule.prescale > 1 else []
    words += [f"where {', '.join(rule.where)}"] if rule.where else []
    words += ["runs"] if rule.runs.include or rule.runs.exclude else []
    return "; ".join(words)


@app.command("apply")
def apply(
    path: Annotated[Path, typer.Argument(help="A rules file, or a folder of them.")],
    home: Home = None,
    prune: Annotated[bool, typer.Option("--prune", help="Take out rules in force that are not given.")] = False,
    reason: rules_change.Reason = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    allow_cycles: AllowCycles = False,
    json_: Json = False,
) -> None:
    """Put rules in force, all or nothing. A running dispatcher uses them at once."""
    if not path.exists():
        fail(Exit.NOT_FOUND, f"there is no {path}")
    with opened(home) as muleteer:
        rules = read_rules(path, muleteer.actors, muleteer.tools())
        _warn_of_strange_events(rules)
        heed_cycles(muleteer, rules, prune=prune, allow=allow_cycles)
        if dry_run:
            change = muleteer.store.rules.would_change(rules, prune=prune)
        else:
            change = muleteer.store.rules.apply(rules, prune=prune, who=person(), reason=reason, now=utc_now())
        rules_change.tell(muleteer, change, json_, stopped=change.removed, dry_run=dry_run)


@app.command("export")
def export(
    home: Home = None,
    output: Annotated[Path | None, typer.Option("--output", help="A file; else standard output.")] = None,
    json_: Json = False,
) -> None:
    """Write the rules in force as one rules file. Applying it changes nothing."""
    with opened(home, reading=True) as muleteer:
        revision, versions = muleteer.store.rules.in_force()
    rules = [version.rule for version in versions]
    if output is not None:
        try:
            output.write_text(rules_text(rules), encoding="utf-8")
        except OSError as error:
            fail(Exit.REFUSED, f"{output} cannot be written: {error}")
    if json_:
        written = None if output is None else str(output)
        print_json({"revision": revision, "rules": [rule.as_written() for rule in rules], "output": written})
    elif output is None:
        typer.echo(rules_text(rules), nl=False)
    else:
        out.print(f"{len(rules)} rules of revision {revision} written to {output}")


app.command("show")(rules_history.show)
app.command("edit")(rules_edit.edit)
app.command("enable")(rules_change.enable)
app.command("disable")(rules_change.disable)
app.command("remove")(rules_change.remove)
app.command("history")(rules_history.history)
app.command("diff")(rules_history.diff)
app.command("rollback")(rules_change.rollback)


def _warn_of_strange_events(rules: Sequence[Rule]) -> None:
    """Any event may come one day; one that nobody has seen is more often a slip of the keyboard."""
    for rule in rules:
        for event in sorted({*rule.on} - SEEN_EVENTS):
            near = get_close_matches(event, SEEN_EVENTS, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            err.print(f"warning: rule {rule.name} waits for {event!r}, an event that Rucio was not seen to send{hint}")
