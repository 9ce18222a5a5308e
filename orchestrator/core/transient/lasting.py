"""Whether what stays will stay: a copy that only replication rules hold that end goes with the last of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from operator import itemgetter

from orchestrator.core.transient.facts import RuleOn
from orchestrator.core.transient.words import files_have, moment

#: How many files have copies at just these RSEs.
Places = Mapping[frozenset[str], int]


def ends_with(rules: Sequence[RuleOn], rses: Collection[str]) -> RuleOn | None:
    """The rule with which the last of a file's copies goes; None if one of them lasts, or if there are none.

    A copy that no rule holds lasts: a catalog deletes only what it was told to. Of a rule of which it is not known
    which copies it holds the worst is taken for true.
    """
    holding = [rule for rule in rules if rule.rses is None or not rule.rses.isdisjoint(rses)]
    if any(rule.ends_at is None and rule.rses is not None for rule in holding):
        return None
    ending = [(rule.ends_at, rule) for rule in holding if rule.ends_at is not None]
    for rse in rses:
        if not any(rule.rses is None or rse in rule.rses for _, rule in ending):
            return None
    return max(ending, key=itemgetter(0))[1] if rses else None


def going(rules: Sequence[RuleOn], places: Places) -> Iterator[str]:
    """Of each rule with which the last copies of files go: how many files, and when, in words."""
    by_rule, files = dict[str, RuleOn](), Counter[str]()
    for rses, count in places.items():
        if (rule := ends_with(rules, rses)) is not None:
            by_rule[rule.id] = rule
            files[rule.id] += count
    for id_, rule in by_rule.items():
        yield f"{files_have(files[id_])} {only(rule)}"


def only(rule: RuleOn) -> str:
    """`only copies that ...`, of the files of which it is the last rule."""
    assert rule.ends_at is not None
    said = f"{rule.id} of {rule.account} ({rule.rse_expression}) on {rule.on}"
    return f"only copies that go when replication rule {said} ends, {moment(rule.ends_at)}: take off its lifetime"
