"""Rules that would start each other for ever, shown before they are in force."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from orchestrator.cli.session import Exit, fail
from orchestrator.cli.terminal import err
from orchestrator.wiring import Muleteer
from schemas.rule import Rule

AllowCycles = Annotated[
    bool, typer.Option("--allow-cycles", help="Put them in force although what they make may start them again.")
]


def heed_cycles(muleteer: Muleteer, coming: Sequence[Rule], *, prune: bool = False, allow: bool = False) -> None:
    """Show the cycles that these rules would bring into those in force; refuse those that are sure, unless allowed."""
    new = muleteer.new_cycles(coming, prune)
    for cycle in new:
        err.print(f"warning: {cycle.words}")
    if any(cycle.certain for cycle in new) and not allow:
        fail(Exit.REFUSED, "nothing was changed: narrow a pattern or a scope, or say --allow-cycles")
