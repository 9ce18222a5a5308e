"""What is probably not meant: rules that start on what they made, that nobody needs, or that get in each other's way.

Some of it can be told from the rules alone, the rest from what they would have done with the whole history.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import combinations
from typing import Final, NamedTuple

from orchestrator.core.clauses import Facts
from orchestrator.core.cycles import Cycle, cycles, launched, may_meet
from orchestrator.core.matching import Match, RuleSet
from orchestrator.core.past import Page
from orchestrator.core.seen import Seen
from orchestrator.core.templates import TemplateError, fields, fill
from schemas.message import MessageState
from schemas.rule import Rule, RuleVersion
from schemas.workflow import Workflow

#: A rule that catches more than this share of the messages of its events is called broad.
BROAD: Final = 0.5

#: With fewer messages of its events, nothing is said of a rule's share.
FEW: Final = 20

#: Nothing matters but matches here.
_UNMATCHED: Final[Mapping[str, MessageState]] = {"*": MessageState.PENDING}


class Level(StrEnum):
    """How sure it is that something must be mended."""

    ERROR = "error"
    WARNING = "warning"


class Remark(NamedTuple):
    """One thing that is probably not meant."""

    level: Level
    #: The rule, or several with commas between.
    rule: str
    #: `cycle`, `broad`, `shadowed`, `never`, `same-key`, `same-output` or `prescale-unique`.
    what: str
    #: What was found, with how much.
    found: str
    #: What to do.
    advice: str


def remarks_on_rules(rules: Sequence[Rule], workflows: Mapping[str, Workflow]) -> list[Remark]:
    """What can be told without history. Workflows are by name; those that are not given make nothing."""
    return [
        *(_remark_on_cycle(cycle, rules) for cycle in cycles(rules, workflows)),
        *(remark for rule in rules if rule.enabled for remark in _remarks_on_rule(rule)),
        *_remarks_on_pairs([rule for rule in rules if rule.enabled], workflows),
    ]


def _remark_on_cycle(cycle: Cycle, rules: Sequence[Rule]) -> Remark:
    enabled = {rule.name for rule in rules if rule.enabled}
    sure = cycle.certain and enabled.issuperset(cycle.path)
    return Remark(
        Level.ERROR if sure else Level.WARNING,
        ", ".join(dict.fromkeys(cycle.path)),
        "cycle",
        f"{' -> '.join(cycle.path)}: {cycle.product} may start {cycle.path[-1]} again"
        + ("" if cycle.certain else ", unless its conditions prevent it"),
        "narrow the pattern or the scope so that it does not fit what is made",
    )


def _remarks_on_rule(rule: Rule) -> Iterator[Remark]:
    if rule.prescale > 1 and rule.unique is not None:
        yield Remark(
            Level.WARNING,
            rule.name,
            "prescale-unique",
            f"of {rule.prescale} matches one is taken first, and then refused if its unique key is taken",
            "take out one of the two; `runs` or `where` can thin out as well",
        )


def _remarks_on_pairs(rules: Sequence[Rule], workflows: Mapping[str, Workflow]) -> Iterator[Remark]:
    """Two rules that are written to get in each other's way."""
    alike: dict[tuple[str, str], dict[str, Rule]] = {}
    for rule in rules:
        if rule.unique is not None:
            alike.setdefault(("same-key", rule.unique), {})[rule.name] = rule
        for options in launched(rule):
            workflow = workflows.get(str(options.get("workflow")))
            # a dataset with the launch's own name in it is like no other
            if workflow is not None and any("launch" not in fields(each.dataset) for each in workflow.outputs):
                alike.setdefault(("same-output", repr(options)), {})[rule.name] = rule
    for (what, template), some in alike.items():
        for one, other in combinations(some.values(), 2):
            if may_meet(one, other):
                found = "have the same unique key" if what == "same-key" else "make the same launch"
                yield Remark(
                    Level.WARNING,
                    f"{one.name}, {other.name}",
                    what,
                    f"they {found}: {template}, and one message can match both",
                    "let their patterns exclude each other, or give each its own words",
                )


@dataclass(slots=True)
class _Tally:
    """What one rule did with history."""

    matched: int = 0
    near: Counter[str] = field(default_factory=Counter)


class _Clash(NamedTuple):
    what: str
    one: str
    other: str


class Lint:
    """Looks rules over on a history that is shown to it page by page, oldest first."""

    def __init__(self, versions: Sequence[RuleVersion], workflows: Mapping[str, Workflow]) -> None:
        """Raises PatternError, ConditionError or RunsError."""
        self._judging = RuleSet(0, versions, _UNMATCHED)
        self._workflows = workflows
        self._rules = [version.rule for version in versions if version.rule.enabled]
        self._numbers = {rule.name: number for number, rule in enumerate(self._rules, start=1)}
        self._tallies = {rule.name: _Tally() for rule in self._rules}
        self._events: Counter[str] = Counter()
        #: How often two rules matched a message, and the first would have done nothing that the second would not.
        self._covered: Counter[tuple[str, str]] = Counter()
        self._clashes: Counter[_Clash] = Counter()
        self._examples: dict[_Clash, str] = {}
        self._firsts = {"same-key": Seen(), "same-output": Seen()}

    def look(self, page: Page) -> None:
        """Judge one page of history. It has to have every field."""
        for row in page.rows:
            facts = page.facts(row)
            self._events[row[1]] += 1
            verdict = self._judging.judge(facts)
            for name in {
                *(match.version.rule.name for match in verdict.matches),
                *(each.rule for each in verdict.joins),
            }:
                self._tallies[name].matched += 1
            for miss in verdict.near_misses:
                self._tallies[miss.rule].near[miss.clause] += 1
            self._compare(verdict.matches)
            for match in verdict.matches:
                self._claim(match, facts)

    def remarks(self) -> list[Remark]:
        """What the history showed; nothing if there was none."""
        if not self._events:
            return []
        return [*self._on_shares(), *self._on_shadows(), *self._on_clashes()]

    def _compare(self, matches: Sequence[Match]) -> None:
        for one, other in combinations(matches, 2):
            names = one.version.rule.name, other.version.rule.name
            self._covered[names] += _covers(other, one)
            self._covered[names[::-1]] += _covers(one, other)

    def _claim(self, match: Match, facts: Facts) -> None:
        """Note which keys and datasets the match would take, and who had them first."""
        rule = match.version.rule
        claims = [("same-key", match.unique_key)] if match.unique_key is not None else []
        claims += [("same-output", output) for output in self._outputs(match, facts)]
        for what, claim in claims:
            first = self._firsts[what].first(claim, self._numbers[rule.name])
            # a rule's own key is there to be refused; its own dataset a second time is a mistake, but for the key
            if first is None or (first == self._numbers[rule.name] and (what == "same-key" or rule.unique is not None)):
                continue
            clash = _Clash(what, self._rules[first - 1].name, rule.name)
            self._clashes[clash] += 1
            self._examples[clash] = claim

    def _outputs(self, match: Match, facts: Facts) -> Iterator[str]:
        for planned in match.planned:
            workflow = self._workflows.get(str(planned.options.get("workflow")))
            if planned.actor != "launch" or workflow is None:
                continue
            defaults = {name: each.default for name, each in workflow.parameters.items() if each.default is not None}
            given = planned.options.get("parameters") or {}
            values = {**defaults, **given, "scope": facts.message.scope or "", "name": facts.message.name or ""}
            for output in workflow.outputs:
                try:
                    yield fill(output.dataset, values)
                except TemplateError:
                    continue  # it holds the launch's own name, which is like no other

    def _on_shares(self) -> Iterator[Remark]:
        for rule in self._rules:
            tally = self._tallies[rule.name]
            there = sum(self._events[event] for event in rule.on)
            if tally.matched == 0:
                yield _never(rule, tally, there)
            elif there >= FEW and tally.matched > BROAD * there:
                share = f"{tally.matched:,} of {there:,} ({100 * tally.matched / there:.0f} %)"
                found = (
                    f"it catches {share} of the messages of its events; more than {100 * BROAD:.0f} % is called broad"
                )
                yield Remark(
                    Level.WARNING, rule.name, "broad", found, "narrow the pattern or the scope, if it is not meant"
                )

    def _on_shadows(self) -> Iterator[Remark]:
        for (one, other), count in sorted(self._covered.items()):
            if count == 0 or count < self._tallies[one].matched:
                continue
            twins = self._covered[other, one] == self._tallies[other].matched
            if twins and other < one:
                continue
            found = (
                f"all {count:,} messages that it catches, {other} catches too, with the same key or the same actions"
            )
            if twins:
                found = f"{other} catches the same {count:,} messages, with the same key or the same actions"
            yield Remark(Level.WARNING, one, "shadowed", found, f"take out {one}, or make it differ from {other}")

    def _on_clashes(self) -> Iterator[Remark]:
        for clash, count in sorted(self._clashes.items()):
            thing = "the unique key" if clash.what == "same-key" else "the dataset"
            found = f"{count:,} times {thing} of a match was taken, for example {self._examples[clash]!r}"
            advice = (
                f"tell the two apart in {'`unique`' if clash.what == 'same-key' else 'the names of what they make'}"
            )
            if clash.one == clash.other:
                advice = "give it a unique key, so that each dataset is made once"
            yield Remark(Level.WARNING, ", ".join(dict.fromkeys((clash.one, clash.other))), clash.what, found, advice)


def _never(rule: Rule, tally: _Tally, there: int) -> Remark:
    found = f"it has matched none of {there:,} messages of its events"
    if tally.near:
        clause, count = tally.near.most_common(1)[0]
        found += f"; {count:,} times only {clause} refused"
    return Remark(Level.WARNING, rule.name, "never", found, "try it on a name: muleteer rules test --name SCOPE:NAME")


def _covers(one: Match, other: Match) -> bool:
    """Whether nothing would be missed without the other."""
    if other.unique_key is not None and one.unique_key == other.unique_key:
        return True
    there = [(planned.actor, planned.options) for planned in one.planned]
    return all((planned.actor, planned.options) in there for planned in other.planned)
