"""Gates, as the store knows them: the limits in force, what goes on, what was started, and who may claim what.

Whoever claims behind gates does so alone; where there are none, claims go side by side.
"""

from __future__ import annotations

import json
from collections import ChainMap, Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, exists, func, or_, select, text, union

from orchestrator.core.gates import (
    Candidate,
    Choice,
    Gates,
    LimitsOf,
    Queue,
    Subject,
    Window,
    choose,
    order_of,
    rank,
    subjects_of,
)
from orchestrator.store import candidates
from orchestrator.store.intake import chunks
from orchestrator.store.tables import attempts, dispatches, launches, rule_versions, streaks, suspensions
from schemas.dispatch import DispatchId, DispatchState
from schemas.gate import Kind
from schemas.launch import LaunchState
from schemas.rule import Limits, Order, Pace

#: On PostgreSQL: held for the length of one transaction, shared by claims without gates, alone by all others.
_TURN: Final = 0x67617465

_GOING_ON: Final = (DispatchState.RUNNING, DispatchState.WAITING, DispatchState.IN_DOUBT)

#: Sent, or perhaps sent. One that is only prepared goes on as long as its dispatch does.
OCCUPYING: Final = (LaunchState.SUBMITTING, LaunchState.IN_DOUBT, LaunchState.SUBMITTED, LaunchState.RUNNING)

_NO_LIMITS: Final = Limits()


class Stamp(NamedTuple):
    """Changes whenever a rule does: each change adds a version, or only takes rules out."""

    newest_version: int
    in_force: int
    #: Whether anything is suspended.
    suspended: bool


@dataclass(frozen=True)
class _Rules:
    """What the rules in force say about starting."""

    limits: dict[Subject, Limits]
    groups: Mapping[str, str | None]
    #: Whether one has a priority.
    ranked: bool


@dataclass(frozen=True)
class Regime:
    """What the settings and the rules in force say about starting."""

    stamp: Stamp
    limits: LimitsOf
    groups: Mapping[str, str | None]
    ranked: bool

    @property
    def gated(self) -> bool:
        """Whether anything could speak against starting what has been due longest."""
        return self.stamp.suspended or self.ranked or bool(self.limits)

    def group_of(self, rule: str, then: str | None) -> str | None:
        """The group of a rule now; of one that is no longer in force, its group `then`."""
        return self.groups.get(rule, then)


def take_turn(connection: Connection, *, alone: bool) -> None:
    """Let nobody else claim until the transaction ends; if not `alone`, those who do not need to be. As on SQLite."""
    if connection.dialect.name != "sqlite":
        lock = "pg_advisory_xact_lock" if alone else "pg_advisory_xact_lock_shared"
        connection.execute(text(f"SELECT {lock}(:key)"), {"key": _TURN})


_STAMP: Final = select(
    select(func.max(rule_versions.c.id)).scalar_subquery(),
    select(func.count()).where(rule_versions.c.until_revision.is_(None)).scalar_subquery(),
    exists(select(suspensions.c.kind)),
)


def stamp_of(connection: Connection) -> Stamp:
    newest, in_force, any_suspended = connection.execute(_STAMP).one()
    return Stamp(newest or 0, in_force, bool(any_suspended))


class GateKeeper:
    """Decides which dispatches that are ready may be claimed."""

    def __init__(self) -> None:
        self._rules: tuple[Stamp, _Rules] | None = None
        #: Paces that are used up, and by what. Nothing can be started under them before their moment.
        self._used_up: dict[tuple[Subject, Pace], Window] = {}
        #: When the first of the paces opens that held something back when this was last asked.
        self.opens_at: datetime | None = None

    def regime(self, connection: Connection, limits: LimitsOf) -> Regime:
        """What is in force; `limits` are those of the settings."""
        self.opens_at = None
        stamp = stamp_of(connection)
        if self._rules is None or self._rules[0][:2] != stamp[:2]:
            self._rules = (stamp, _rules_in_force(connection))
        rules = self._rules[1]
        return Regime(stamp, ChainMap(rules.limits, dict(limits)), rules.groups, rules.ranked)

    def choose(
        self,
        connection: Connection,
        regime: Regime,
        *,
        now: datetime,
        limit: int,
        only: Sequence[DispatchId] | None = None,
    ) -> list[Candidate]:
        """Up to `limit` dispatches that may be started now; with `only`, of these, and even if they are suspended."""
        unsure = candidates.unsure(connection, now, regime.group_of)
        if only is not None:
            return self._of_these(connection, regime, now, limit, only, {each.id for each in unsure})
        heads = candidates.heads(connection, now, regime.group_of)
        gates = self.gates(connection, regime, (*heads, *unsure), now, suspended=suspended(connection))
        # their launches count already, and only they can find out about them: they need no room
        found = [each for each in unsure if gates.suspended(each) is None][:limit]
        taken = {each.id for each in found}
        opened = sorted((head for head in heads if not self._noted(gates, head)), key=lambda head: rank(head, now))
        for start in range(0, len(opened), max(1, limit)):
            if len(found) >= limit:
                break
            queues = [_queue(connection, regime, head, now, limit, taken) for head in opened[start : start + limit]]
            found += self._kept(choose(queues, gates, limit - len(found), now))
        return found

    def _of_these(
        self,
        connection: Connection,
        regime: Regime,
        now: datetime,
        limit: int,
        only: Sequence[DispatchId],
        unsure: set[int],
    ) -> list[Candidate]:
        found: list[Candidate] = []
        for chunk in chunks(sorted(only)):
            if len(found) >= limit:
                break
            due = candidates.among(connection, chunk, now, regime.group_of)
            gates = self.gates(connection, regime, (*due, *found), now)
            for each in found:
                if each.id not in unsure:
                    gates.let_through(each)
            found += [each for each in due if each.id in unsure][: limit - len(found)]
            lines = _lines([each for each in due if each.id not in unsure], regime)
            found += self._kept(choose(lines, gates, limit - len(found), now))
        return found

    def gates(
        self,
        connection: Connection,
        regime: Regime,
        before: Iterable[Candidate],
        now: datetime,
        *,
        suspended: frozenset[Subject] = frozenset(),
    ) -> Gates:
        """The gates before these candidates."""
        wanted = {subject for each in before for subject in subjects_of(each.rule, each.group)}
        limits = {subject: regime.limits[subject] for subject in wanted if subject in regime.limits}
        capped = any(each.running is not None for each in limits.values())
        windows = {
            subject: self._window(connection, regime, subject, each.pace, now)
            for subject, each in limits.items()
            if each.pace is not None
        }
        running = going_on(connection, regime) if capped else {}
        return Gates(limits, now=now, running=running, windows=windows, suspended=suspended)

    def _window(self, connection: Connection, regime: Regime, subject: Subject, pace: Pace, now: datetime) -> Window:
        known = self._used_up.get((subject, pace))
        if known is not None and known.oldest is not None and known.oldest <= now < known.oldest + pace.span:
            return known
        window = window_of(connection, regime, subject, pace, now)
        if window.used >= pace.count:
            self._used_up[subject, pace] = window
        else:
            self._used_up.pop((subject, pace), None)
        return window

    def _noted(self, gates: Gates, candidate: Candidate) -> bool:
        """Whether a gate is closed; when it opens is noted."""
        closed = gates.closed(candidate)
        self._note(closed.opens_at if closed is not None else None)
        return closed is not None

    def _kept(self, choice: Choice) -> list[Candidate]:
        for closed in choice.refused.values():
            self._note(closed.opens_at)
        return choice.started

    def _note(self, opens_at: datetime | None) -> None:
        if opens_at is not None:
            self.opens_at = min(opens_at, self.opens_at or opens_at)


def _rules_in_force(connection: Connection) -> _Rules:
    limits: dict[Subject, Limits] = {}
    groups: dict[str, str | None] = {}
    ranked = False
    query = select(rule_versions.c.name, rule_versions.c.document).where(rule_versions.c.until_revision.is_(None))
    for name, document in connection.execute(query):
        # not as whole rules: there may be thousands, and a worker waits
        written = json.loads(document)
        groups[name] = written.get("group")
        ranked = ranked or written.get("priority", 0) != 0
        own = limits_in(written)
        if own.model_copy(update={"failures": None}) != _NO_LIMITS:
            limits[Subject(Kind.RULE, name)] = own
    return _Rules(limits, groups, ranked)


def limits_in(document: Mapping[str, Any]) -> Limits:
    """The limits that a rule's document sets."""
    written = document.get("limits")
    return Limits.model_validate(written) if written else _NO_LIMITS


# What goes on, what was started, what is suspended, what is next.


def going_on(connection: Connection, regime: Regime) -> Counter[Subject]:
    """Dispatches that were started and have not come to an end, or whose launches have not; each once."""
    columns = (dispatches.c.id, dispatches.c.rule, dispatches.c.rule_group)
    started = select(*columns).where(dispatches.c.state.in_(_GOING_ON))
    launched = select(*columns).join(launches, launches.c.dispatch_id == dispatches.c.id)
    all_ = union(started, launched.where(launches.c.state.in_(OCCUPYING))).subquery()
    query = select(all_.c.rule, all_.c.rule_group, func.count()).group_by(all_.c.rule, all_.c.rule_group)
    counted: Counter[Subject] = Counter()
    for rule, then, count in connection.execute(query):
        for subject in subjects_of(rule, regime.group_of(rule, then)):
            counted[subject] += count
    return counted


def window_of(connection: Connection, regime: Regime, subject: Subject, pace: Pace, now: datetime) -> Window:
    """First tries within the span that ends now."""
    within = (attempts.c.number == 1, attempts.c.started_at > now - pace.span)
    query = select(func.count(), func.min(attempts.c.started_at)).where(*within)
    if subject.kind is not Kind.EVERYTHING:
        query = query.select_from(attempts).join(dispatches, dispatches.c.id == attempts.c.dispatch_id)
    if subject.kind is Kind.RULE:
        query = query.where(dispatches.c.rule == subject.name)
    elif subject.kind is Kind.GROUP:
        members = [rule for rule, group in regime.groups.items() if group == subject.name]
        named = [dispatches.c.rule.in_(chunk) for chunk in chunks(members)]
        query = query.where(or_(dispatches.c.rule_group == subject.name, *named))
    used, oldest = connection.execute(query).one()
    return Window(used, oldest)


def suspended(connection: Connection) -> frozenset[Subject]:
    """What stands still."""
    rows = connection.execute(select(suspensions.c.kind, suspensions.c.name))
    return frozenset(Subject(Kind(kind), name) for kind, name in rows)


def _queue(connection: Connection, regime: Regime, head: Candidate, now: datetime, limit: int, but: set[int]) -> Queue:
    def first(*, newest: bool) -> list[Candidate]:
        found = candidates.like(connection, head, now, limit, regime.group_of, newest=newest)
        return [each for each in found if each.id not in but]

    if order_of(head.rule, head.group, regime.limits) is Order.OLDEST:
        return Queue(first(newest=False))
    starts = select(streaks.c.starts).where(streaks.c.rule == head.rule)
    return Queue(first(newest=False), first(newest=True), connection.scalars(starts).one_or_none() or 0)


def _lines(due: Sequence[Candidate], regime: Regime) -> list[Queue]:
    lines: dict[tuple[str, int], list[Candidate]] = {}
    for each in due:
        lines.setdefault((each.rule, each.priority), []).append(each)
    return [
        Queue(line, line[::-1] if order_of(line[0].rule, line[0].group, regime.limits) is Order.NEWEST else ())
        for line in lines.values()
    ]
