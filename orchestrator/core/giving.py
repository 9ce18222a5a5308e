"""Giving messages to a rule by hand: which rule that is, and whether it takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from orchestrator.core.clauses import CompiledRule
from orchestrator.core.matching import RuleSet
from schemas.message import MessageState
from schemas.rule import RuleVersion


class NoSuchRule(LookupError):
    """No rule of that name is in force. The text says what there is."""


class NotForOne(ValueError):
    """The rule wants several datasets together. The text says what to do instead."""


def rule_to_give(
    name: str, revision: int, in_force: Sequence[RuleVersion], unmatched: Mapping[str, MessageState]
) -> tuple[RuleSet, CompiledRule]:
    """All rules in force, and the one of this name as a person gives messages to it.

    Raises:
        NoSuchRule, NotForOne
    """
    named = {version.rule.name: version for version in in_force}
    if name not in named:
        near = get_close_matches(name, named, 1)
        hint = f"did you mean {near[0]}?" if near else "`muleteer rules list` has those that are"
        raise NoSuchRule(f"there is no rule {name!r} in force: {hint}")
    if named[name].rule.join is not None:
        rooms = f"`muleteer rooms list --rule {name}`, then `rooms waive` or `rooms dispatch`"
        raise NotForOne(f"rule {name} joins several datasets, and nobody can give it one alone: {rooms}")
    # a person does not take every so many of them, but these
    by_hand = named[name].rule.model_copy(update={"prescale": 1})
    return RuleSet(revision, in_force, unmatched), CompiledRule(named[name].model_copy(update={"rule": by_hand}))
