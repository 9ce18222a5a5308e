"""Rules that would start each other for ever, shown before they are in force."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Annotated

import typer

from orchestrator.cli.common import Exit, err, fail
from orchestrator.core.cycles import Cycle, cycles, launched
from orchestrator.core.preview import edited
from orchestrator.core.workflow import WorkflowError
from orchestrator.wiring import Muleteer
from schemas.rule import Rule
from schemas.workflow import Workflow

AllowCycles = Annotated[
    bool, typer.Option("--allow-cycles", help="Put them in force although what they make may start them again.")
]


def workflows_of(muleteer: Muleteer, rules: Sequence[Rule]) -> Mapping[str, Workflow]:
    """The workflows that the rules launch, as far as they can be read: a launch says so itself otherwise."""
    found: dict[str, Workflow] = {}
    for name in {str(options.get("workflow")) for rule in rules for options in launched(rule)}:
        with suppress(WorkflowError):
            found[name] = muleteer.workflows.get(name).workflow
    return found


def heed_cycles(muleteer: Muleteer, coming: Sequence[Rule], *, prune: bool = False, allow: bool = False) -> None:
    """Show the cycles that these rules would bring into those in force; refuse those that are sure, unless allowed.

    When it runs, the loop guard stops such a loop after one round. But one round for each dataset is not what anybody
    means.
    """
    in_force = muleteer.store.rules.in_force()[1]
    before = [version.rule for version in in_force]
    after = [version.rule for version in edited(in_force, coming, prune=prune)]
    known = {cycle.path for cycle in _of_enabled(muleteer, before)}
    new = [cycle for cycle in _of_enabled(muleteer, after) if cycle.path not in known]
    for cycle in new:
        err.print(f"warning: {_words(cycle)}")
    if any(cycle.certain for cycle in new) and not allow:
        fail(Exit.REFUSED, "nothing was changed: narrow a pattern or a scope, or say --allow-cycles")


def _of_enabled(muleteer: Muleteer, rules: Sequence[Rule]) -> Sequence[Cycle]:
    enabled = [rule for rule in rules if rule.enabled]
    return cycles(enabled, workflows_of(muleteer, enabled))


def _words(cycle: Cycle) -> str:
    unless = "" if cycle.certain else ", unless its conditions prevent it"
    return f"a cycle of rules, {' -> '.join(cycle.path)}: {cycle.product} may start {cycle.path[-1]} again{unless}"
