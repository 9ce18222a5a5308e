"""Rules before they go live, tried on names, messages and frames."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli.explaining import in_words, reason_value
from orchestrator.cli.filters import Since, Until
from orchestrator.cli.previewing import Examples, MaybeRulesFile, look, print_preview, read_file
from orchestrator.cli.session import Exit, Home, Json, fail, opened
from orchestrator.cli.terminal import out, plain, print_json
from orchestrator.clock import utc_now
from orchestrator.core.asking import AFTER
from orchestrator.core.clauses import Facts
from orchestrator.core.exchange import LineError, from_json
from orchestrator.core.matching import RuleSet
from orchestrator.core.message import Rejection, read_body
from orchestrator.core.past import made_up
from orchestrator.core.preview import Preview, edited
from orchestrator.core.reasons import WANTED, Reason, reasons
from orchestrator.wiring import Muleteer
from schemas.did import Did
from schemas.event import CatalogEvent, event_name
from schemas.message import MessageId
from schemas.rule import RuleVersion


def test(
    path: MaybeRulesFile = None,
    home: Home = None,
    live: Annotated[bool, typer.Option("--live", help="The rules in force; the same as no FILE.")] = False,
    name: Annotated[str | None, typer.Option("--name", help="A dataset, SCOPE:NAME.")] = None,
    event: Annotated[str, typer.Option("--event", help="With --name: what happened to it.")] = "close",
    message: Annotated[int | None, typer.Option("--message", help="A stored message, by id.")] = None,
    frames: Annotated[
        Path | None, typer.Option("--frames", help='A file with lines of {"headers": {...}, "body": "..."}.')
    ] = None,
    history: Annotated[bool, typer.Option("--history", help="Everything that ever arrived.")] = False,
    since: Since = None,
    until: Until = None,
    rule: Annotated[str | None, typer.Option("--rule", help="This rule alone.")] = None,
    examples: Examples = 5,
    json_: Json = False,
) -> None:
    """Say what rules would do, with every template filled in. Nothing is written; 1 if nothing matches."""
    if path is not None and live:
        raise typer.BadParameter("give a FILE or --live")
    if sum(each is not None for each in (name, message, frames)) + history != 1:
        raise typer.BadParameter("say on what: --name SCOPE:NAME, --message ID, --frames FILE or --history")
    with opened(home, reading=path is None or message is not None or history) as muleteer:
        versions = _only(_versions(muleteer, path), rule)
        if history:
            preview = Preview([], versions, examples=examples)
            total = look(muleteer, preview, since, until)
            print_preview(preview, total, json_, tested=True)
            found = any(change.matched[AFTER] for change in preview.rules)
        else:
            tried = _facts(muleteer, name, event, message, frames)
            judging = RuleSet(0, versions, muleteer.settings.unmatched)
            said = [(facts, reasons(judging, facts)) for facts in tried]
            _print_tried(said, json_, whole=len(said) == 1 or rule is not None)
            found = any(each.answer in WANTED for _, some in said for each in some)
    if not found:
        raise typer.Exit(Exit.FAILED)


def _versions(muleteer: Muleteer, path: Path | None) -> Sequence[RuleVersion]:
    """The rules of a file, alone; or those in force."""
    if path is None:
        return muleteer.store.rules.in_force()[1]
    return edited([], read_file(muleteer, path), prune=True)


def _only(versions: Sequence[RuleVersion], rule: str | None) -> Sequence[RuleVersion]:
    if rule is None:
        return versions
    named = [version for version in versions if version.rule.name == rule]
    if not named:
        names = ", ".join(version.rule.name for version in versions) or "none"
        fail(Exit.NOT_FOUND, f"there is no rule {rule!r} here; there are: {names}")
    return named


def _facts(
    muleteer: Muleteer, name: str | None, event: str, message: int | None, frames: Path | None
) -> Sequence[Facts]:
    if message is not None:
        return [muleteer.store.history.facts_of(MessageId(message))]
    if name is not None:
        try:
            did = Did.parse(name)
        except ValueError as error:
            raise typer.BadParameter(f"--name: {error}") from None
        payload = {"scope": did.scope, "name": did.name}
        return [_of_event(CatalogEvent(event_name(event), did, utc_now(), payload))]
    assert frames is not None
    return list(_frames(frames))


def _of_event(event: CatalogEvent, number: int = 0) -> Facts:
    return Facts(made_up(event, now=utc_now(), id_=number), event.payload)


def _frames(path: Path) -> Iterator[Facts]:
    """The frames of a file. Ends the command at the first that cannot be read."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        fail(Exit.NOT_FOUND, f"{path} cannot be read: {getattr(error, 'strerror', None) or error}")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            read = read_body(from_json(line).body)
        except LineError as error:
            fail(Exit.REFUSED, f"{path}: line {number}: {error}")
        if isinstance(read, Rejection):
            fail(Exit.REFUSED, f"{path}: line {number}: {read.reason}")
        yield _of_event(read, number)


def _print_tried(said: Sequence[tuple[Facts, Sequence[Reason]]], json_: bool, *, whole: bool) -> None:
    if json_:
        print_json(
            [
                {
                    "message": facts.message.id or None,
                    "event": facts.message.event_type,
                    "did": str(facts.message.did) if facts.message.did else None,
                    "rules": [reason_value(each) for each in some],
                }
                for facts, some in said
            ]
        )
        return
    for facts, some in said:
        out.print(f"{facts.message.event_type} {facts.message.did or ''}", markup=False, style="bold")
        shown = [each for each in some if whole or each.answer in WANTED]
        for each in shown:
            out.print(f"  rule {each.rule} {in_words(each)}", markup=False)
            _print_plan(each)
        if not shown:
            out.print("  no rule matches")


def _print_plan(each: Reason) -> None:
    for group, value in each.decision.captured.items() if each.answer in WANTED else ():
        out.print(f"    {group} = {value}", markup=False)
    if each.match is None:
        return
    if each.match.unique_key is not None:
        out.print(f"    unique: {each.match.unique_key}", markup=False)
    for planned in each.match.planned:
        out.print(f"    {planned.actor}: {json.dumps(plain(planned.options), ensure_ascii=False)}", markup=False)
