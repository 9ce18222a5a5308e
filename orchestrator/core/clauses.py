"""One rule, compiled: its clauses, and what each says about a message.

The dispatcher asks only until the first clause refuses; `messages explain` asks every one. Both call the same clauses,
so what is explained is what was decided.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from re import compile as compile_regex
from typing import Any, Final, NamedTuple

from orchestrator.core.completeness import templates_in
from orchestrator.core.conditions import Condition
from orchestrator.core.patterns import Pattern
from orchestrator.core.runs import Runs
from orchestrator.core.templates import fields_within
from schemas.message import Message
from schemas.rule import Rule, RuleVersion

#: Conditions on these need nothing but the message.
MESSAGE_FIELDS: Final = frozenset({"account", "bytes", "length", "events", "created_at", "received_at", "origin"})

#: Of these, what the event does not say is asked of the catalog.
_ELSE_FROM_CATALOG: Final = frozenset({"account", "bytes", "length", "events"})

#: `event.KEY` is a key of the event's payload.
EVENT_PREFIX: Final = "event."


#: What people said of the run: `muleteer runs flag 59641 QA`.
RUN_FLAGS: Final = "run_flags"

#: A longer number is no run, whatever the catalog says.
_LONGEST_RUN: Final = 30

#: `{metadata_KEY}` in a template is a key of the catalog's metadata.
METADATA_PREFIX: Final = "metadata_"


class Facts(NamedTuple):
    """What is known of a message beside its own fields."""

    message: Message
    #: The event's payload; empty unless some rule asks for it.
    payload: Mapping[str, Any] = {}
    #: What the catalog says of the dataset; None until it was asked.
    metadata: Mapping[str, Any] | None = None
    #: What people said of runs, by run; empty unless some rule asks for it.
    run_flags: Mapping[int, Sequence[str]] = {}


class Clause(NamedTuple):
    """What one clause of a rule says about one message."""

    #: `event`, `scope`, `pattern`, `runs`, or the name of a condition.
    name: str
    wanted: str
    found: str
    #: None: nobody knows until the catalog has answered.
    holds: bool | None


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict of one rule on one message, clause by clause."""

    version: RuleVersion
    clauses: tuple[Clause, ...]
    captured: Mapping[str, str]

    @property
    def matches(self) -> bool:
        return all(clause.holds for clause in self.clauses)

    @property
    def refused_by(self) -> Sequence[str]:
        """The names of the clauses that do not hold."""
        return [clause.name for clause in self.clauses if clause.holds is False]

    @property
    def waits_for_catalog(self) -> bool:
        """Nothing refuses, and something cannot be told before the catalog has answered."""
        return not self.refused_by and any(clause.holds is None for clause in self.clauses)


class _Unknown:
    """A value that only the catalog can tell, and has not told yet."""


UNKNOWN: Final = _Unknown()

#: Says what one clause finds in a message, and whether it holds.
_Look = Callable[[Facts, Mapping[str, str]], tuple[Any, bool | None]]


class CompiledRule:
    """A rule that can be asked. Immutable: safe in every thread."""

    def __init__(self, version: RuleVersion) -> None:
        """Raises PatternError, ConditionError or RunsError; `rules apply` has refused such a rule before."""
        rule = version.rule
        self.version = version
        self.name = rule.name
        self.pattern = Pattern(rule.pattern, search=rule.search)
        self.in_scope = scope_test(rule.scope)
        self._looks = list(_looks(rule))
        #: Whether a template needs a value that only the catalog has.
        self.asks_catalog = _asks_catalog(rule, self.pattern)
        #: Whether it asks for keys of the event's payload.
        self.needs_payload = any(key.startswith(EVENT_PREFIX) for key in rule.where)
        #: Whether it asks for what people said of runs.
        self.needs_run_flags = RUN_FLAGS in rule.where

    def refusals(self, facts: Facts, captured: Mapping[str, str]) -> tuple[list[str], bool]:
        """For a message whose event and name fit: at most two clauses that refuse it, and whether any is unknown."""
        refused: list[str] = []
        unknown = self.asks_catalog and facts.metadata is None
        if not self.in_scope(facts.message.scope or ""):
            refused.append("scope")
        for name, _, look in self._looks:
            holds = look(facts, captured)[1]
            if holds is None:
                unknown = True
            elif not holds:
                refused.append(name)
                if len(refused) > 1:
                    break
        return refused, unknown

    def decide(self, facts: Facts) -> Decision:
        """Ask every clause, whatever the others say."""
        rule, message = self.version.rule, facts.message
        scope, name, event = message.scope or "", message.name or "", message.event_type or ""
        captured = self.pattern.captures(name)
        clauses = [
            Clause("enabled", "yes", "yes" if rule.enabled else "no", rule.enabled),
            Clause("event", " or ".join(rule.on), event, event in rule.on),
            Clause("scope", ", ".join(rule.scope), scope, self.in_scope(scope)),
            Clause("pattern", rule.pattern, name, captured is not None),
        ]
        for clause, wanted, look in self._looks:
            found, holds = look(facts, captured or {})
            clauses.append(Clause(clause, wanted, _shown(found), holds))
        if self.asks_catalog:
            found, holds = ("known", True) if facts.metadata is not None else ("not known yet", None)
            clauses.append(Clause("metadata", "for templates", found, holds))
        return Decision(self.version, tuple(clauses), captured or {})


def _asks_catalog(rule: Rule, pattern: Pattern) -> bool:
    """Whether a template needs a value that only the catalog has."""
    templates = [rule.unique or "", *(action.options for action in rule.actions)]
    templates += [templates_in(action.require) for action in rule.actions if action.require is not None]
    templates += [value if isinstance(value, str) else [each.value for each in value] for value in rule.values.values()]
    names = fields_within(templates) - set(rule.values)
    by_run = "run" in names or any(not isinstance(value, str) for value in rule.values.values())
    return (by_run and "run" not in pattern.groups) or any(name.startswith(METADATA_PREFIX) for name in names)


def _looks(rule: Rule) -> Iterator[tuple[str, str, _Look]]:
    runs = rule.runs
    if runs.include or runs.exclude:
        wanted = ", ".join(map(str, runs.include)) or "any"
        text = wanted + (f" but not {', '.join(map(str, runs.exclude))}" if runs.exclude else "")
        yield "runs", text, _in_runs(Runs.read(runs.include) if runs.include else None, Runs.read(runs.exclude))
    for key, items in rule.where.items():
        condition = Condition(items)
        yield key, condition.text, _fulfils(key, condition)


def _in_runs(include: Runs | None, exclude: Runs) -> _Look:
    def look(facts: Facts, captured: Mapping[str, str]) -> tuple[Any, bool | None]:
        run = run_of(facts, captured)
        if isinstance(run, _Unknown):
            return run, None
        return run, run is not None and run not in exclude and (include is None or run in include)

    return look


def _fulfils(key: str, condition: Condition) -> _Look:
    def look(facts: Facts, captured: Mapping[str, str]) -> tuple[Any, bool | None]:
        value = value_of(key, facts, captured)
        return (value, None) if isinstance(value, _Unknown) else (value, condition.holds(value))

    return look


def value_of(key: str, facts: Facts, captured: Mapping[str, str]) -> Any:
    """The value that a condition is about: None if there is none, UNKNOWN until the catalog has answered."""
    if key.startswith(EVENT_PREFIX):
        return facts.payload.get(key.removeprefix(EVENT_PREFIX))
    if key == "run":
        return run_of(facts, captured)
    if key == RUN_FLAGS:
        run = run_of(facts, captured)
        return facts.run_flags.get(run, ()) if isinstance(run, int) else run
    if key == "closed_at" and facts.message.event_type == "close":
        return facts.message.created_at
    found = getattr(facts.message, key) if key in MESSAGE_FIELDS else None
    if found is not None or (key in MESSAGE_FIELDS and key not in _ELSE_FROM_CATALOG):
        return found
    return UNKNOWN if facts.metadata is None else facts.metadata.get(key)


def run_of(facts: Facts, captured: Mapping[str, str]) -> int | _Unknown | None:
    """The run's number: the pattern's group `run`, else the catalog's `run_number`."""
    word = captured.get("run")
    if word is not None:
        return int(word) if word.isdecimal() and word.isascii() else None
    if facts.metadata is None:
        return UNKNOWN
    found = facts.metadata.get("run_number")
    if isinstance(found, float) and found.is_integer():
        return int(found)
    if isinstance(found, str) and found.isdecimal() and len(found) <= _LONGEST_RUN:
        return int(found)
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def scope_test(globs: Sequence[str]) -> Callable[[str], bool]:
    """Whether a scope fits one of the globs, and none of those after a `!`."""
    wanted = [compile_regex(translate(glob)).match for glob in globs if not glob.startswith("!")]
    unwanted = [compile_regex(translate(glob[1:])).match for glob in globs if glob.startswith("!")]
    any_wanted = not wanted or "*" in globs

    # there are few scopes, and every message has one of them
    @lru_cache(maxsize=4096)
    def fits(scope: str) -> bool:
        if not any_wanted and not any(match(scope) for match in wanted):
            return False
        return not any(match(scope) for match in unwanted)

    return fits


def _shown(value: Any) -> str:
    if isinstance(value, _Unknown):
        return "not known yet"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "nothing"
    return "nothing" if value is None else str(value)
