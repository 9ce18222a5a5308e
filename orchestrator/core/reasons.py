"""Why: what every rule says about one message, told in full."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from orchestrator.core.clauses import Decision, Facts
from orchestrator.core.joins import key_of
from orchestrator.core.matching import Match, RuleSet, plan_version
from orchestrator.core.templates import TemplateError
from schemas.rule import RuleVersion


class Answer(StrEnum):
    """What a rule says about a message; in the order in which people want to know."""

    MATCHES = "matches"
    #: It is put into a waiting room.
    JOINS = "joins"
    #: It is wanted, and some template cannot be filled in.
    STUCK = "stuck"
    #: Nobody can say before the catalog has answered.
    WAITS = "waits"
    #: Event and name fit, and one other clause alone refuses it; what `messages list --failed-only-on` finds.
    NEARLY = "nearly"
    REFUSES = "refuses"


#: The rules that have the message: `RuleSet.judge` names the same.
WANTED = frozenset({Answer.MATCHES, Answer.JOINS})


class Reason(NamedTuple):
    """What one rule says about a message."""

    answer: Answer
    decision: Decision
    #: What it would start.
    match: Match | None = None
    #: Where it waits for others: the slot and the key of the room.
    slot: str | None = None
    key: str | None = None
    #: Why it cannot be filled in.
    trouble: str | None = None

    @property
    def rule(self) -> str:
        return self.decision.version.rule.name


def reasons(rules: RuleSet, facts: Facts) -> Sequence[Reason]:
    """What every rule of the set says: those that match first, near misses next, then the others."""
    order = list(Answer)
    said = [_reason(decision, facts) for decision in rules.explain(facts)]
    return sorted(said, key=lambda each: (order.index(each.answer), each.rule))


def wanted_by(said: Sequence[Reason]) -> set[str]:
    """The rules that have the message."""
    return {each.rule for each in said if each.answer in WANTED}


def _reason(decision: Decision, facts: Facts) -> Reason:
    if decision.waits_for_catalog:
        return Reason(Answer.WAITS, decision)
    if not decision.matches:
        alone = len(decision.refused_by) == 1 and not {"event", "pattern"} & set(decision.refused_by)
        known = all(clause.holds is not None for clause in decision.clauses)
        return Reason(Answer.NEARLY if alone and known else Answer.REFUSES, decision)
    rule = decision.version.rule
    try:
        if rule.join is None:
            return Reason(Answer.MATCHES, decision, plan_version(decision.version, facts, decision.captured))
        key = key_of(rule.join, decision.captured)
        return Reason(Answer.JOINS, decision, slot=_slot(decision.version), key=key)
    except TemplateError as error:
        return Reason(Answer.STUCK, decision, trouble=str(error))


def _slot(version: RuleVersion) -> str | None:
    """A rule that joins is asked with the pattern of one slot in its place."""
    join = version.rule.join
    slots = join.members.items() if join is not None else ()
    return next((slot for slot, pattern in slots if pattern == version.rule.pattern), None)
