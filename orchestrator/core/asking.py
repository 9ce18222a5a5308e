"""Rules, asked about a million messages: each pattern tried once, and what is always so found out once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from orchestrator.core.clauses import RUN_FLAGS, CompiledRule, Facts
from orchestrator.core.joins import key_of, slot_versions
from orchestrator.core.past import PAST_FIELDS, Interest, Page, interest_of
from orchestrator.core.patterns import PatternSet
from orchestrator.core.templates import TemplateError, fields, fill, fill_within
from orchestrator.core.values import always_fills, usable_key, values_of
from schemas.rule import RuleVersion

#: The two sets that are compared.
BEFORE, AFTER = 0, 1

#: A message as `Page` has it.
Row = tuple[Any, ...]


@dataclass(slots=True)
class RuleChange:
    """One rule that differs; two numbers are before and after."""

    name: str
    #: `added`, `changed` or `removed`.
    what: str
    matched: list[int] = field(default_factory=lambda: [0, 0])
    #: Messages that it did not match before, and those that it does not match any more.
    gained: int = 0
    lost: int = 0
    #: Not told: the catalog has not answered for these messages.
    unknown: list[int] = field(default_factory=lambda: [0, 0])
    #: Wanted, but some template cannot be filled in.
    stuck: list[int] = field(default_factory=lambda: [0, 0])
    #: Left out by the prescale, and refused because the unique key is taken.
    prescaled: list[int] = field(default_factory=lambda: [0, 0])
    refused: list[int] = field(default_factory=lambda: [0, 0])
    started: list[int] = field(default_factory=lambda: [0, 0])

    def copy(self) -> RuleChange:
        return deepcopy(self)


def candidates_of(side: int, version: RuleVersion, change: RuleChange | None) -> Sequence[Candidate]:
    """A rule once for each slot; a rule that joins nothing, once."""
    return [
        Candidate(side, each, change, number if slot is not None else None)
        for number, (slot, each) in enumerate(slot_versions(version))
    ]


class Candidate:
    """One version of a rule, or one slot of it, to be asked many times."""

    def __init__(self, side: int, version: RuleVersion, change: RuleChange | None, slot: int | None) -> None:
        rule = version.rule
        self.side, self.change, self.slot, self.join = side, change, slot, rule.join
        self.name, self.rule, self.prescale = rule.name, rule, rule.prescale
        self.compiled = CompiledRule(version)
        self.actors = [action.actor for action in rule.actions]
        self.weight = 0
        #: The unique key of the message that it was asked about last; of a join, the key of the waiting room.
        self.key: str | None = None
        pattern = self.compiled.pattern
        self.keyed = rule.join is not None or (rule.unique is not None and change is not None)
        # a join fills in its templates later, when all is there
        self._may_fail = rule.join is None and not always_fills(rule, pattern)
        by_groups = rule.join is not None or fields(rule.unique or "") <= set(pattern.groups) - rule.values.keys()
        #: Whether templates are filled in with more than what the pattern captures.
        self.fills = self._may_fail or (self.keyed and not by_groups)
        by_run = bool(rule.runs.include or rule.runs.exclude or {"run", RUN_FLAGS} & rule.where.keys())
        self.captures = self.fills or self.keyed or by_run
        #: Whether event, scope and pattern say it all.
        self.plain = not (self.captures or rule.where or self.compiled.asks_catalog)

    def ask(self, facts: Facts, captured: Mapping[str, str]) -> bool:
        """Whether it matches; then `key` is set. `captured` need be there only if `captures` is set."""
        refused, unknown = self.compiled.refusals(facts, captured)
        if refused:
            return False
        if unknown:
            if self.change is not None:
                self.change.unknown[self.side] += 1
            return False
        if not (self.fills or self.keyed):
            return True
        try:
            self.key = self._fill(facts, captured)
        except TemplateError:
            if self.change is not None:
                self.change.stuck[self.side] += 1
            return False
        return True

    def _fill(self, facts: Facts, captured: Mapping[str, str]) -> str | None:
        if self.join is not None:
            return key_of(self.join, captured)
        unique = self.rule.unique
        if not self.fills:
            # without formats this is what `fill` does
            return None if unique is None else usable_key(unique, unique.format_map(captured))
        values = values_of(self.rule, facts, captured)
        if self._may_fail:
            for action in self.rule.actions:
                fill_within(action.options, values)
        return None if unique is None else usable_key(unique, fill(unique, values))


class Outcome:
    """Those of the candidates that match: one for each combination that there is, and how often it was met."""

    def __init__(self, matching: tuple[Candidate, ...]) -> None:
        self.matching = matching
        self.before = sorted(each.name for each in matching if each.side == BEFORE)
        self.after = sorted(each.name for each in matching if each.side == AFTER)
        self.differs = self.before != self.after
        self.restrained = any(each.keyed or each.prescale > 1 for each in matching)
        self.count = 0
        #: How often in each hour, unless something restrains it.
        self.hours: Counter[str] = Counter()


class _Plan(NamedTuple):
    """What is known of all messages with the same event, scope and patterns."""

    matching: tuple[Candidate, ...]
    #: The candidates that have to be asked about each message, by pattern.
    asked: Sequence[Sequence[Candidate]]
    #: If none has to be asked.
    outcome: Outcome | None


_NO_SLOT: Final = 1 << 30

#: Plans that are kept, so that memory stays flat whatever the number of scopes.
_MOST_PLANS: Final = 20_000


class Asking:
    """Candidates by event and pattern, so that each pattern is tried once, and what is always so is found out once."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        by_event: dict[str, dict[tuple[str, bool], list[Candidate]]] = {}
        for each in candidates:
            for event in each.rule.on if each.rule.enabled else ():
                patterns = by_event.setdefault(event, {})
                patterns.setdefault((each.rule.pattern, each.rule.search), []).append(each)
        self._by_event = {
            event: (PatternSet([some[0].compiled.pattern for some in patterns.values()]), list(patterns.values()))
            for event, patterns in by_event.items()
        }
        self._plans: dict[tuple[str, str, tuple[int, ...]], _Plan] = {}
        self._outcomes: dict[tuple[Candidate, ...], Outcome] = {}

    @property
    def outcomes(self) -> Sequence[Outcome]:
        return list(self._outcomes.values())

    def ask(self, row: Row, page: Page) -> Outcome | None:
        """Which of them match this message; None if none does."""
        event, scope, name = row[1], row[2] or "", row[3] or ""
        asking = self._by_event.get(event)
        if asking is None:
            return None
        patterns, groups = asking
        positions = tuple(patterns.positions(name))
        if not positions:
            return None
        plan = self._plans.get((event, scope, positions))
        if plan is None:
            plan = self._plan(event, scope, positions, [groups[position] for position in positions])
        if not plan.asked:
            return plan.outcome
        matching = (*plan.matching, *_matching(plan.asked, name, page.facts(row)))
        return self._outcome(matching)

    def _plan(self, event: str, scope: str, positions: tuple[int, ...], groups: Sequence[Sequence[Candidate]]) -> _Plan:
        slots: dict[tuple[int, str], int] = {}
        for each in (each for group in groups for each in group if each.slot is not None):
            slots[each.side, each.name] = min(each.slot or 0, slots.get((each.side, each.name), _NO_SLOT))
        wanting = [
            [
                each
                for each in group
                # a dataset takes the first slot of a rule that fits
                if each.compiled.in_scope(scope) and each.slot in (None, slots.get((each.side, each.name)))
            ]
            for group in groups
        ]
        matching = tuple(each for group in wanting for each in group if each.plain)
        asked = [some for group in wanting if (some := [each for each in group if not each.plain])]
        if len(self._plans) >= _MOST_PLANS:
            self._plans.clear()
        plan = self._plans[event, scope, positions] = _Plan(matching, asked, self._outcome(matching))
        return plan

    def _outcome(self, matching: tuple[Candidate, ...]) -> Outcome | None:
        if not matching:
            return None
        found = self._outcomes.get(matching)
        if found is None:
            found = self._outcomes[matching] = Outcome(matching)
        return found


def _matching(groups: Sequence[Sequence[Candidate]], name: str, facts: Facts) -> Iterator[Candidate]:
    for same in groups:
        captured: Mapping[str, str] | None = None
        for candidate in same:
            if candidate.captures and captured is None:
                captured = candidate.compiled.pattern.captures(name)
            if candidate.ask(facts, captured or {}):
                yield candidate


def interest_in(candidates: Sequence[Candidate], others: Sequence[Candidate]) -> Interest:
    """Rows that the candidates could want, with the fields that any of them may ask for."""
    filled = any(each.fills for each in (*candidates, *others))
    fields_asked = frozenset(PAST_FIELDS if filled else ())
    everyone = interest_of([each.compiled for each in (*candidates, *others)], fields_asked)
    return everyone._replace(parts=interest_of([each.compiled for each in candidates], fields_asked).parts)
