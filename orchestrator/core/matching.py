"""Judge a message: which rules want it, and what becomes of it if none does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from orchestrator.core.clauses import CompiledRule, Decision, Facts
from orchestrator.core.completeness import filled
from orchestrator.core.joins import key_of, slot_versions
from orchestrator.core.patterns import PatternSet
from orchestrator.core.templates import TemplateError, fill, fill_within
from orchestrator.core.values import usable_key, values_of
from schemas.checks import Requirement
from schemas.message import MessageState
from schemas.rule import Retry, RuleVersion


@dataclass(frozen=True, slots=True)
class Planned:
    """One action of a match, ready to become a dispatch."""

    action: int
    actor: str
    options: Mapping[str, Any]
    retry: Retry
    #: What must hold before it is carried out.
    required: Requirement | None = None


@dataclass(frozen=True, slots=True)
class Match:
    """A rule that wants a message, with what its pattern captured and what is to be done."""

    version: RuleVersion
    captured: Mapping[str, str]
    planned: tuple[Planned, ...]
    #: Of all matches with the same key one is carried out; None if the rule asks for no such thing.
    unique_key: str | None = None


class Joining(NamedTuple):
    """A rule that wants a message together with others, which wait for each other under a key."""

    version: RuleVersion
    slot: str
    key: str

    @property
    def rule(self) -> str:
        return self.version.rule.name


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
    #: Why rules that want it cannot be filled in.
    troubles: tuple[str, ...] = ()
    #: Some rule cannot be asked before the catalog has said what it knows of the dataset.
    wants_facts: bool = False
    #: The waiting rooms that it goes into. What becomes of it there, the store says: here it just stays pending.
    joins: tuple[Joining, ...] = ()
    #: What there is to say of it apart from waiting rooms, unless nobody wants it.
    said: tuple[str, ...] = ()

    @property
    def undecided(self) -> bool:
        """Some rule cannot be asked yet, or cannot be filled in."""
        return bool(self.troubles) or self.wants_facts

    @property
    def waits(self) -> bool:
        """Beside the rules that match, some rule may want the message yet, or wants it together with others."""
        return self.undecided or bool(self.joins)


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
        self._all = [_compile(version) for version in versions]
        enabled = [each for slots in self._all for each in slots if each.rule.version.rule.enabled]
        self.size = len({each.rule.name for each in enabled})
        #: Whether some rule asks for keys of the event's payload.
        self.needs_payload = any(each.rule.needs_payload for each in enabled)
        #: Whether some rule asks for what people said of runs.
        self.needs_run_flags = any(each.rule.needs_run_flags for each in enabled)
        events = {event for each in enabled for event in each.rule.version.rule.on}
        self._by_event = {
            event: _EventRules([each for each in enabled if event in each.rule.version.rule.on]) for event in events
        }

    def judge(self, facts: Facts) -> Verdict:
        """Every rule that matches fires; without one the policy of the event decides.

        A message stays pending while some rule cannot be asked, or cannot be filled in; the others fire meanwhile.
        """
        message = facts.message
        rules = self._by_event.get(message.event_type or "")
        asked = rules.ask(facts) if rules is not None else _Asked()
        matches = tuple(asked.matches)
        said = [*asked.troubles, *(f"rule {name} waits for the catalog" for name in asked.waiting)]
        if matches:
            said.insert(0, f"matched by {_names(matches)}")
        if asked.troubles or asked.waiting or asked.joins:
            joined = [f"rule {each.rule} joins it with others of {each.key}" for each in asked.joins]
            state, reason = MessageState.PENDING, "; ".join([*said, *joined])
        elif matches:
            state, reason = MessageState.DISPATCHED, said[0]
        else:
            state = asked.policy or self._unmatched.get(
                message.event_type or "", self._unmatched.get("*", MessageState.DROPPED)
            )
            reason = f"no rule matched (of {self.size} at revision {self.revision})"
            if facts.metadata == {} and message.did is not None:
                reason += "; the catalog has no such dataset"
        return Verdict(
            state,
            reason,
            matches,
            tuple(asked.near_misses),
            tuple(asked.troubles),
            wants_facts=bool(asked.waiting),
            joins=tuple(asked.joins),
            said=tuple(said),
        )

    def explain(self, facts: Facts) -> Sequence[Decision]:
        """What every rule says, clause by clause, those that are not enabled too."""
        return [_decide(slots, facts) for slots in self._all]


class _Slot(NamedTuple):
    """A rule, or one slot of a rule that joins datasets."""

    name: str | None
    rule: CompiledRule


def _compile(version: RuleVersion) -> Sequence[_Slot]:
    return [_Slot(slot, CompiledRule(each)) for slot, each in slot_versions(version)]


def _decide(slots: Sequence[_Slot], facts: Facts) -> Decision:
    """What a rule says; of a join, what it says for the slot that the message would take."""
    decisions = [each.rule.decide(facts) for each in slots]
    fitting = (each for each in decisions if "pattern" not in each.refused_by)
    return next(fitting, decisions[0])


class _Asked:
    """What the rules of one event said about one message."""

    def __init__(self) -> None:
        self.matches: list[Match] = []
        self.joins: list[Joining] = []
        self.near_misses: list[NearMiss] = []
        #: Rules that the catalog has to answer for.
        self.waiting: list[str] = []
        #: Rules that matched and could not be filled in.
        self.troubles: list[str] = []
        #: What a rule that nearly matched says should become of the message.
        self.policy: MessageState | None = None


class _EventRules:
    """The rules that listen to one event."""

    def __init__(self, rules: Sequence[_Slot]) -> None:
        self._rules = rules
        self._patterns = PatternSet([each.rule.pattern for each in rules])

    def ask(self, facts: Facts) -> _Asked:
        asked = _Asked()
        joining: str | None = None
        for position, captured in self._patterns.matching(facts.message.name or ""):
            slot, rule = self._rules[position]
            if slot is not None:
                if rule.name == joining:
                    continue  # it has taken an earlier slot of the same rule
                joining = rule.name
            refused, unknown = rule.refusals(facts, captured)
            if refused:
                _refuse(asked, rule, refused, unknown=unknown)
            elif unknown:
                asked.waiting.append(rule.name)
            elif slot is not None:
                _join(asked, rule, slot, captured)
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
    try:
        asked.matches.append(plan(compiled, facts, captured))
    except TemplateError as error:
        # judged again, and fired, once the rule is mended
        asked.troubles.append(f"waits for a rule to be mended: rule {compiled.name}: {error}")


def _join(asked: _Asked, compiled: CompiledRule, slot: str, captured: Mapping[str, str]) -> None:
    join = compiled.version.rule.join
    assert join is not None
    try:
        asked.joins.append(Joining(compiled.version, slot, key_of(join, captured)))
    except TemplateError as error:
        asked.troubles.append(f"waits for a rule to be mended: rule {compiled.name}: {error}")


def plan(compiled: CompiledRule, facts: Facts, captured: Mapping[str, str]) -> Match:
    """What is to be done if this rule gets this message, whatever its clauses say.

    Raises:
        TemplateError: a template cannot be filled in.
    """
    return plan_version(compiled.version, facts, captured)


def plan_version(version: RuleVersion, facts: Facts, captured: Mapping[str, str]) -> Match:
    """The same for a rule that is not compiled.

    Raises:
        TemplateError: a template cannot be filled in.
    """
    rule = version.rule
    values = values_of(rule, facts, captured)
    planned = tuple(
        Planned(
            position,
            action.actor,
            fill_within(action.options, values),
            action.retry,
            None if action.require is None else filled(action.require, values),
        )
        for position, action in enumerate(rule.actions)
    )
    return Match(
        version, captured, planned, None if rule.unique is None else usable_key(rule.unique, fill(rule.unique, values))
    )


def _names(matches: Sequence[Match]) -> str:
    return ", ".join(match.version.rule.name for match in matches)
