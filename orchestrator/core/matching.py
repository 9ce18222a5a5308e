"""Judge a message: which rules want it, and what becomes of it if none does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate
from functools import lru_cache
from re import Pattern as Regex
from re import compile as compile_regex
from typing import Any

from orchestrator.core.patterns import Pattern, PatternSet
from orchestrator.core.templates import TemplateError, fill_within
from schemas.message import Message, MessageState
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


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a message: its next state, why, and the matches that led there."""

    state: MessageState
    reason: str
    matches: tuple[Match, ...] = ()


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
        enabled = [version for version in versions if version.rule.enabled]
        self.size = len(enabled)
        events = {event for version in enabled for event in version.rule.on}
        self._by_event = {
            event: _EventRules([version for version in enabled if event in version.rule.on]) for event in events
        }

    def judge(self, message: Message) -> Verdict:
        """Every rule that matches fires; without one the policy of the event decides.

        A message whose values do not fit a matching rule's templates stays pending, and the reason says why.
        """
        rules = self._by_event.get(message.event_type or "")
        try:
            matches = rules.matches(message) if rules is not None else ()
        except TemplateError as error:
            # no rule fires before all can: judged again, whole, once the rule is mended
            return Verdict(MessageState.PENDING, f"waits for a rule to be mended: {error}")
        if matches:
            names = ", ".join(match.version.rule.name for match in matches)
            return Verdict(MessageState.DISPATCHED, f"matched by {names}", matches)
        state = self._unmatched.get(message.event_type or "", self._unmatched.get("*", MessageState.DROPPED))
        return Verdict(state, f"no rule matched (of {self.size} at revision {self.revision})")


class _EventRules:
    """The rules that listen to one event."""

    def __init__(self, versions: Sequence[RuleVersion]) -> None:
        self._versions = versions
        self._patterns = PatternSet([Pattern(version.rule.pattern) for version in versions])

    def matches(self, message: Message) -> tuple[Match, ...]:
        return tuple(
            _match(self._versions[position], message, captured)
            for position, captured in self._patterns.matching(message.name or "")
            if _in_scope(self._versions[position].rule.scope, message.scope or "")
        )


def _match(version: RuleVersion, message: Message, captured: Mapping[str, str]) -> Match:
    """Raises TemplateError, naming the rule, if this message's values do not fit its templates."""
    values = variables(message, captured)
    try:
        planned = tuple(
            Planned(position, action.actor, fill_within(action.options, values), action.retry)
            for position, action in enumerate(version.rule.actions)
        )
    except TemplateError as error:
        raise TemplateError(f"rule {version.rule.name}: {error}") from None
    return Match(version, captured, planned)


#: The names that every template of a rule may use, beside the groups of its pattern.
MESSAGE_VARIABLES = frozenset({"event", "scope", "name", "did", "created_at", "message_id", "generation"})


def variables(message: Message, captured: Mapping[str, str]) -> dict[str, str]:
    """The values of the templates of a rule: what is known of the message, and the captured groups over them."""
    return {
        "event": message.event_type or "",
        "scope": message.scope or "",
        "name": message.name or "",
        "did": str(message.did) if message.did else "",
        "created_at": message.created_at.isoformat() if message.created_at else "",
        "message_id": str(message.id),
        "generation": str(message.generation or ""),
        **captured,
    }


def _in_scope(globs: Sequence[str], scope: str) -> bool:
    return any(_glob(glob).match(scope) is not None for glob in globs)


@lru_cache(maxsize=4096)
def _glob(glob: str) -> Regex[str]:
    return compile_regex(translate(glob))
