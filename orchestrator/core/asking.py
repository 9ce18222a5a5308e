"""Rules, asked about a million messages: each pattern tried once, and what is always so found out once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple

from orchestrator.core.clauses import RUN_FLAGS, CompiledRule, Facts
from orchestrator.core.joins import key_of, slot_versions
from orchestrator.core.names import Finder, Names
from orchestrator.core.past import PAST_FIELDS, Interest, Page, interest_of
from orchestrator.core.patterns import Pattern
from orchestrator.core.templates import TemplateError, fields_within, fill, texts_within
from orchestrator.core.values import MESSAGE_VARIABLES, always_fills, usable_key, values_always_fill, values_of
from schemas.rule import Rule, RuleVersion

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
        self.keyed = rule.join is not None or rule.unique is not None
        self._templates = _Templates(rule, pattern)
        #: What of the message is filled into templates.
        self.wanted = self._templates.wanted
        #: Whether templates are filled in with more than what the pattern captures.
        self.fills = self._templates.fills
        runs = bool(rule.runs.include or rule.runs.exclude)
        self.captures = self._templates.captures or runs or bool({"run", RUN_FLAGS} & rule.where.keys())
        #: Whether more than event, scope and pattern decides.
        self.judges = bool(runs or rule.where or self.compiled.asks_catalog)
        self.needs_facts = self.judges or self.fills
        #: Whether event, scope and pattern say it all.
        self.plain = not (self.captures or self.judges)

    def ask(self, facts: Facts | None, captured: Mapping[str, str]) -> bool:
        """Whether it matches; then `key` is set. Give it what `needs_facts` and `captures` ask for."""
        if self.judges:
            assert facts is not None, "clauses need more than the name"
            refused, unknown = self.compiled.refusals(facts, captured)
            if refused:
                return False
            if unknown:
                if self.change is not None:
                    self.change.unknown[self.side] += 1
                return False
        if not self._templates.captures:
            return True
        try:
            self.key = self._templates.key(facts, captured)
        except TemplateError:
            if self.change is not None:
                self.change.stuck[self.side] += 1
            return False
        return True


class _Templates:
    """What of a rule's templates has to be filled in for a match: the key, and what might fail."""

    def __init__(self, rule: Rule, pattern: Pattern) -> None:
        known = MESSAGE_VARIABLES | set(pattern.groups) | rule.values.keys()
        self._rule = rule
        # a join fills in its templates later, when all is there
        texts = [text for action in rule.actions for text in texts_within(action.options)] if rule.join is None else []
        self._doubtful = [text for text in texts if not always_fills(text, known)]
        unique = rule.unique if rule.join is None else None
        self._make_key = None if unique is None else _key_maker(unique, known)
        sure = rule.join is not None or values_always_fill(rule, pattern)
        asked = fields_within([*self._doubtful, unique])
        #: Whether more than what the pattern captures is filled in.
        self.fills = not sure or not asked <= set(pattern.groups) - rule.values.keys()
        #: Whether what the pattern captures is filled in, be it with more.
        self.captures = bool(self.fills or self._doubtful or rule.join is not None or unique is not None)
        of_values = [
            value if isinstance(value, str) else [each.value for each in value] for value in rule.values.values()
        ]
        self.wanted = MESSAGE_VARIABLES & (asked | fields_within(of_values)) if self.fills else frozenset()

    def key(self, facts: Facts | None, captured: Mapping[str, str]) -> str | None:
        """The unique key; of a join, the key of the waiting room. Raises TemplateError, whichever template it is."""
        if self._rule.join is not None:
            return key_of(self._rule.join, captured)
        values = captured
        if self.fills:
            assert facts is not None, "templates need more than what was captured"
            values = values_of(self._rule, facts, captured, self.wanted)
        for text in self._doubtful:
            fill(text, values)
        return None if self._make_key is None else self._make_key(values)


def _key_maker(unique: str, known: Set[str]) -> Callable[[Mapping[str, str]], str]:
    """Makes the unique key of values. It raises TemplateError."""
    # without formats, `format_map` is what `fill` does
    made = unique.format_map if always_fills(unique, known) else partial(fill, unique)
    return lambda values: usable_key(unique, made(values))


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


class _Group(NamedTuple):
    """The candidates with the same pattern."""

    finder: Finder
    candidates: Sequence[Candidate]


class _Plan(NamedTuple):
    """What is known of all messages with the same event, scope and patterns."""

    matching: tuple[Candidate, ...]
    #: The candidates that have to be asked about each message, by pattern; without it where nothing is captured.
    asked: Sequence[tuple[Finder | None, Sequence[Candidate]]]
    #: If none has to be asked.
    outcome: Outcome | None


_NO_SLOT: Final = 1 << 30

_NOTHING: Final[Mapping[str, str]] = {}

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
        self._by_event = {event: _names(list(patterns.values())) for event, patterns in by_event.items()}
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
        positions = asking[0].find(name)
        if not positions:
            return None
        plan = self._plans.get((event, scope, positions))
        if plan is None:
            plan = self._plan(event, scope, positions, [asking[1][position] for position in positions])
        if not plan.asked:
            return plan.outcome
        matching = [*plan.matching]
        facts: Facts | None = None
        for finder, same in plan.asked:
            captured = finder.captures(name) or _NOTHING if finder is not None else _NOTHING
            for candidate in same:
                if facts is None and candidate.needs_facts:
                    facts = page.facts(row)
                if candidate.ask(facts, captured):
                    matching.append(candidate)
        return self._outcome(tuple(matching))

    def _plan(self, event: str, scope: str, positions: tuple[int, ...], groups: Sequence[_Group]) -> _Plan:
        slots: dict[tuple[int, str], int] = {}
        for each in (each for group in groups for each in group.candidates if each.slot is not None):
            slots[each.side, each.name] = min(each.slot or 0, slots.get((each.side, each.name), _NO_SLOT))
        wanting = [
            [
                each
                for each in group.candidates
                # a dataset takes the first slot of a rule that fits
                if each.compiled.in_scope(scope) and each.slot in (None, slots.get((each.side, each.name)))
            ]
            for group in groups
        ]
        matching = tuple(each for group in wanting for each in group if each.plain)
        asked = [
            (group.finder if any(each.captures for each in some) else None, some)
            for group, those in zip(groups, wanting, strict=True)
            if (some := [each for each in those if not each.plain])
        ]
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


def _names(groups: Sequence[Sequence[Candidate]]) -> tuple[Names, Sequence[_Group]]:
    """How to tell which of these patterns match a name, and the candidates of each."""
    finders = [
        Finder(some[0].compiled.pattern, search=some[0].rule.search, captures=any(each.captures for each in some))
        for some in groups
    ]
    names = Names([some[0].compiled.pattern for some in groups], finders)
    return names, [_Group(finder, some) for finder, some in zip(finders, groups, strict=True)]


def interest_in(candidates: Sequence[Candidate], others: Sequence[Candidate]) -> Interest:
    """Rows that the candidates could want, with the fields that any of them may ask for."""
    filled = frozenset().union(*(each.wanted for each in (*candidates, *others)))
    fields_asked = filled & frozenset(PAST_FIELDS)
    everyone = interest_of([each.compiled for each in (*candidates, *others)], fields_asked)
    return everyone._replace(parts=interest_of([each.compiled for each in candidates], fields_asked).parts)
