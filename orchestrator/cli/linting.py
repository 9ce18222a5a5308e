"""Rules, looked over for what is probably not meant."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from orchestrator.cli.filters import Since, Until, in_utc
from orchestrator.cli.previewing import MaybeRulesFile, Prune, read_file
from orchestrator.cli.session import Exit, Home, Json, opened
from orchestrator.cli.terminal import print_json, print_table
from orchestrator.core.lint import Level, Lint, Remark, remarks_on_rules
from orchestrator.core.preview import edited
from schemas.rule import RuleVersion


def lint(
    path: MaybeRulesFile = None,
    home: Home = None,
    prune: Prune = False,
    since: Since = None,
    until: Until = None,
    json_: Json = False,
) -> None:
    """Look rules over for what is probably not meant, by themselves and on everything that ever arrived.

    With FILE, as if it were applied. Ends with 1 if there is an error; warnings alone end with 0.
    """
    with opened(home, reading=True) as muleteer:
        versions: Sequence[RuleVersion] = muleteer.store.rules.in_force()[1]
        if path is not None:
            versions = edited(versions, read_file(muleteer, path), prune=prune)
        workflows = muleteer.workflows_of(version.rule for version in versions)
        looked_over = Lint(versions, workflows)
        for page in muleteer.store.history.pages(since=in_utc(since), until=in_utc(until)):
            looked_over.look(page)
        remarks = [*remarks_on_rules([version.rule for version in versions], workflows), *looked_over.remarks()]
    remarks.sort(key=lambda each: (list(Level).index(each.level), each.rule, each.what))
    _print_remarks(remarks, len(versions), json_)
    if any(each.level is Level.ERROR for each in remarks):
        raise typer.Exit(Exit.FAILED)


def _print_remarks(remarks: Sequence[Remark], rules: int, json_: bool) -> None:
    if json_:
        print_json([each._asdict() for each in remarks])
        return
    print_table(("level", "rule", "what", "found", "do"), remarks, empty=f"Nothing to be said of {rules} rules.")
