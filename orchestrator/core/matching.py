"""Judge a message: which rules want it, and what becomes of it if none does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.core.clauses import CompiledRule, Decision, Facts
from orchestrator.core.patterns import PatternSet
from orchestrator.core.templates import TemplateError, fill, fill_within
from orchestrator.core.values import values_of
from schemas.message import MessageState
from schemas.rule import Retry, RuleVersion


@dataclass(frozen=True, slots=True)
class Planned:
    """One action of a match, ready to become a dispatch."""

    action: int
    actor: str
    options: Mapping[str, Any]
    retry: Retry


@dataclass(frozen=True, slots=True)
class Match:
    """A rule that wants a message, with what its pattern captured and what is to be done."""

    version: RuleVersion
    captured: Mapping[str, str]
    planned: tuple[Planned, ...]
    #: Of all matches with the same key one is carried out; None if the rule asks for no such thing.
    unique_key: str | None = None


@dataclass(frozen=True, slots=True)
class NearMiss:
    """A rule whose event and pattern fit, and that one other clause refused."""

    rule: str
    clause: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a message: its next state, why, and the matches that led there."""

    state: MessageState
    reason: str
    matches: tuple[Match, ...] = ()
    near_misses: tuple[NearMiss, ...] = ()
    #: Some rule cannot be asked before the catalog has said what it knows of the dataset.
    wants_facts: bool = False


class RuleSet:
    """All rules in force at one revision, compiled. Immutable: safe in every thread."""

    def __init__(
        self,
        revision: int,
        versions: Sequence[RuleVersion],
        unmatched: Mapping[str, MessageState],
    ) -> None:
        """`unmatched` says what becomes of a message that no rule matched, by event; `*` is for all others.

        Raises PatternError if a pattern is refused; `rules apply` has refused it before it came here.
        """
        self.revision = revision
        self._unmatched = unmatched
        self._all = [CompiledRule(version) for version in versions]
        enabled = [rule for rule in self._all if rule.version.rule.enabled]
        self.size = len(enabled)
        #: Whether some rule asks for keys of the event's payload.
        self.needs_payload = any(rule.needs_payload for rule in enabled)
        events = {event for rule in enabled for event in rule.version.rule.on}
        self._by_event = {
            event: _EventRules([rule for rule in enabled if event in rule.version.rule.on]) for event in events
        }

    def judge(self, facts: Facts) -> Verdict:
        """Every rule that matches fires; without one the policy of the event decides.

        A message stays pending while some rule cannot be asked, or cannot be filled in; the others fire meanwhile.
        """
        message = facts.message
        rules = self._by_event.get(message.event_type or "")
        asked = rules.ask(facts) if rules is not None else _Asked()
        matches = tuple(asked.matches)
        if asked.troubles or asked.waiting:
            said = [*asked.troubles, *(f"rule {name} waits for the catalog" for name in asked.waiting)]
            if matches:
                said.insert(0, f"matched by {_names(matches)}")
            state, reason = MessageState.PENDING, "; ".join(said)
        elif matches:
            state, reason = MessageState.DISPATCHED, f"matched by {_names(matches)}"
        else:
            state = asked.policy or self._unmatched.get(
                message.event_type or "", self._unmatched.get("*", MessageState.DROPPED)
            )
            reason = f"no rule matched (of {self.size} at revision {self.revision})"
        return Verdict(state, reason, matches, tuple(asked.near_misses), wants_facts=bool(asked.waiting))

    def explain(self, facts: Facts) -> Sequence[Decision]:
        """What every rule says, clause by clause, those that are not enabled too."""
        return [rule.decide(facts) for rule in self._all]


class _Asked:
    """What the rules of one event said about one message."""

    def __init__(self) -> None:
        self.matches: list[Match] = []
        self.near_misses: list[NearMiss] = []
        #: Rules that the catalog has to answer for.
        self.waiting: list[str] = []
        #: Rules that matched and could not be filled in.
        self.troubles: list[str] = []
        #: What a rule that nearly matched says should become of the message.
        self.policy: MessageState | None = None


class _EventRules:
    """The rules that listen to one event."""

    def __init__(self, rules: Sequence[CompiledRule]) -> None:
        self._rules = rules
        self._patterns = PatternSet([rule.pattern for rule in rules])

    def ask(self, facts: Facts) -> _Asked:
        asked = _Asked()
        for position, captured in self._patterns.matching(facts.message.name or ""):
            rule = self._rules[position]
            refused, unknown = rule.refusals(facts, captured)
            if refused:
                _refuse(asked, rule, refused, unknown=unknown)
            elif unknown:
                asked.waiting.append(rule.name)
            else:
                _match(asked, rule, facts, captured)
        return asked


def _refuse(asked: _Asked, rule: CompiledRule, refused: Sequence[str], *, unknown: bool) -> None:
    if len(refused) == 1 and not unknown:
        asked.near_misses.append(NearMiss(rule.name, refused[0]))
    if "scope" not in refused and rule.version.rule.unmatched is not None:
        policy = MessageState(rule.version.rule.unmatched)
        # where two rules differ, nothing is put away
        asked.policy = MessageState.PENDING if asked.policy not in (None, policy) else policy


def _match(asked: _Asked, compiled: CompiledRule, facts: Facts, captured: Mapping[str, str]) -> None:
    rule = compiled.version.rule
    try:
        values = values_of(rule, facts, captured)
        planned = tuple(
            Planned(position, action.actor, fill_within(action.options, values), action.retry)
            for position, action in enumerate(rule.actions)
        )
        unique_key = None if rule.unique is None else fill(rule.unique, values)
    except TemplateError as error:
        # judged again, and fired, once the rule is mended
        asked.troubles.append(f"waits for a rule to be mended: rule {rule.name}: {error}")
        return
    asked.matches.append(Match(compiled.version, captured, planned, unique_key))


def _names(matches: Sequence[Match]) -> str:
    return ", ".join(match.version.rule.name for match in matches)
