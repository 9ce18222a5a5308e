"""What the rules were: one of them, the changes of the set, and how two sets differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import unified_diff
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from orchestrator.cli.rules_change import as_json, in_words
from orchestrator.cli.session import Exit, Home, Json, Limit, fail, opened
from orchestrator.cli.terminal import out, print_fields, print_json, print_table, visible
from orchestrator.dispatch.rules import read_rules, rules_text
from orchestrator.store.rule_history import unknown_rules
from orchestrator.wiring import Muleteer
from schemas.revision import Revision
from schemas.rule import Rule, RuleVersion


def show(
    name: Annotated[str, typer.Argument(help="The rule's name.")],
    home: Home = None,
    number: Annotated[int | None, typer.Option("--version", help="Another version than the one in force.")] = None,
    json_: Json = False,
) -> None:
    """Show a rule: as it was written, since when, by whom and why, and what of it is in flight."""
    with opened(home, reading=True) as muleteer:
        version = muleteer.store.rules.version(name, number)
        in_flight = muleteer.store.rules.in_flight(name)
    if json_:
        shown = version.model_dump(mode="json", exclude={"id"}) | {"rule": version.rule.as_written()}
        print_json({"name": name, **shown, "in_flight": as_json(in_flight)})
        return
    stands = {"rule": name, "version": version.version, "stands": _stands(version)}
    print_fields({**stands, "by": version.author, "at": version.at, "why": version.reason})
    out.print(f"\n{rules_text([version.rule])}\n{in_words(in_flight)}")


def _stands(version: RuleVersion) -> str:
    since, until = version.since_revision, version.until_revision
    if until is None:
        return f"in force since revision {since}" + ("" if version.rule.enabled else ", disabled")
    if until == since:
        return f"used by hand at revision {since}, never in force"
    return f"no longer in force: from revision {since} on, until revision {until} ended it"


def history(
    name: Annotated[str | None, typer.Argument(help="Only changes of this rule.", show_default=False)] = None,
    home: Home = None,
    limit: Limit = 50,
    before: Annotated[int | None, typer.Option("--before", help="Only revisions before this one.")] = None,
    json_: Json = False,
) -> None:
    """List the changes of the rules, newest first: when, who, what and why."""
    with opened(home, reading=True) as muleteer:
        revisions = muleteer.store.rules.revisions(name, limit=limit, before=before)
    if json_:
        print_json(revisions)
        return
    rows = [(each.number, each.at, each.who, each.what, _did(each), each.reason) for each in revisions]
    columns = ("revision", "at", "who", "command", "what it did", "why")
    print_table(columns, rows, empty="No rule was ever applied. `muleteer rules apply FILE` puts rules in force.")


def _did(revision: Revision) -> str:
    """By rule, with the version that it brought."""
    words = []
    for did in ("added", "changed", "removed"):
        of_it = [each for each in revision.touched if each.did == did]
        if of_it:
            words.append(f"{did} {', '.join(f'{each.name} {each.version}' for each in of_it)}")
    return "; ".join(words)


@dataclass(frozen=True, slots=True)
class _Difference:
    """How one rule differs between two sets."""

    name: str
    did: str
    diff: str


def diff(
    names: Annotated[list[str] | None, typer.Argument(help="Only these rules.", show_default=False)] = None,
    home: Home = None,
    from_: Annotated[int | None, typer.Option("--from", help="A revision; else the one before --to.", min=0)] = None,
    to: Annotated[int | None, typer.Option("--to", help="A revision; else the one in force.", min=0)] = None,
    file: Annotated[Path | None, typer.Option("--file", help="A rules file or folder, instead of --to.")] = None,
    json_: Json = False,
) -> None:
    """Show how the rules differ between two revisions, or between those in force and a file.

    Without options: what the last change did.
    """
    if file is not None and to is not None:
        raise typer.BadParameter("--file and --to are two ends: give one of them")
    if file is not None and not file.exists():
        fail(Exit.NOT_FOUND, f"there is no {file}")
    with opened(home, reading=True) as muleteer:
        newest = muleteer.store.rules.revision()
        if file is None:
            to = newest if to is None else to
            from_ = max(to - 1, 0) if from_ is None else from_
        from_ = newest if from_ is None else from_
        old = _set_at(muleteer, from_)
        new = _set_at(muleteer, to) if to is not None else _in_file(muleteer, file or Path(), old)
        unknown_rules(names or [], {**old, **new})
    ends = (f"revision {from_}", str(file or f"revision {to}"))
    differences = [each for each in _differences(old, new, ends) if not names or each.name in names]
    if json_:
        where = {"from": from_, "to": to, "file": None if file is None else str(file)}
        print_json({**where, "rules": [asdict(each) for each in differences]})
        return
    for each in differences:
        _print_diff(each.diff)
    if not differences:
        out.print(f"no difference between {' and '.join(ends)}")


def _set_at(muleteer: Muleteer, revision: int) -> dict[str, Rule]:
    return {version.rule.name: version.rule for version in muleteer.store.rules.set_at(revision)}


def _in_file(muleteer: Muleteer, file: Path, old: Mapping[str, Rule]) -> dict[str, Rule]:
    """What would be in force if the file were applied: rules that it does not name stay."""
    return {**old, **{rule.name: rule for rule in read_rules(file, muleteer.actors, muleteer.tools())}}


def _differences(old: Mapping[str, Rule], new: Mapping[str, Rule], ends: tuple[str, str]) -> Iterator[_Difference]:
    for name in sorted({*old, *new}):
        one, other = old.get(name), new.get(name)
        if one is not None and other is not None and one.same_as(other):
            continue
        did = "added" if one is None else "removed" if other is None else "changed"
        before, after = (f"{name} ({end})" for end in ends)
        yield _Difference(name, did, "\n".join(unified_diff(_lines(one), _lines(other), before, after, lineterm="")))


def _lines(rule: Rule | None) -> Sequence[str]:
    return [] if rule is None else rules_text([rule]).splitlines()


def _print_diff(diff: str) -> None:
    for line in diff.splitlines():
        style = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
        out.print(Text(visible(line), style=style))
