"""How the gates stand, for people: what of each limit is used, and why nothing more is started."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select

from orchestrator.core.gates import EVERYTHING, Candidate, Gates, Subject, Window, order_of, subjects_of
from orchestrator.store.candidates import IS_READY, heads
from orchestrator.store.gates import Regime, going_on, limits_in, suspended, window_of
from orchestrator.store.tables import dispatches, rule_versions, streaks
from schemas.gate import Kind, Standing
from schemas.rule import Limits, Order


@dataclass(frozen=True)
class _Known:
    """What is asked once for all of them."""

    running: Mapping[Subject, int]
    ready: Mapping[Subject, int]
    windows: Mapping[Subject, Window]
    failures: Mapping[str, int]
    allowed: Mapping[str, int | None]
    heads: Mapping[Subject, Candidate]
    gates: Gates


def standings(connection: Connection, regime: Regime, now: datetime, also: Sequence[Subject]) -> list[Standing]:
    """Of everything, of each group that a rule in force has or that has limits, and of each rule in force or ready.

    And of those in `also`.
    """
    due = heads(connection, now, regime.group_of)
    groups = {group for group in regime.groups.values() if group is not None} | {
        subject.name for subject in regime.limits if subject.kind is Kind.GROUP
    }
    rules = sorted(regime.groups.keys() | {each.rule for each in due})
    all_ = [
        EVERYTHING,
        *(Subject(Kind.GROUP, name) for name in sorted(groups)),
        *(Subject(Kind.RULE, name) for name in rules),
    ]
    all_ += [subject for subject in also if subject not in all_]
    known = _known(connection, regime, now, due)
    return [_standing(subject, regime, known) for subject in all_]


def _known(connection: Connection, regime: Regime, now: datetime, due: list[Candidate]) -> _Known:
    running = going_on(connection, regime)
    windows = {
        subject: window_of(connection, regime, subject, limits.pace, now)
        for subject, limits in regime.limits.items()
        if limits.pace is not None
    }
    first: dict[Subject, Candidate] = {}
    for each in due:
        for subject in subjects_of(each.rule, each.group):
            first.setdefault(subject, each)
    return _Known(
        running=running,
        ready=_ready(connection, regime),
        windows=windows,
        failures={row.rule: row.failures for row in connection.execute(select(streaks))},
        allowed=_allowed(connection),
        heads=first,
        gates=Gates(regime.limits, now=now, running=running, windows=windows, suspended=suspended(connection)),
    )


def _ready(connection: Connection, regime: Regime) -> Counter[Subject]:
    columns = (dispatches.c.rule, dispatches.c.rule_group)
    counted: Counter[Subject] = Counter()
    for rule, then, count in connection.execute(select(*columns, func.count()).where(IS_READY).group_by(*columns)):
        for subject in subjects_of(rule, regime.group_of(rule, then)):
            counted[subject] += count
    return counted


def _allowed(connection: Connection) -> dict[str, int | None]:
    query = select(rule_versions.c.name, rule_versions.c.document).where(rule_versions.c.until_revision.is_(None))
    return {name: limits_in(json.loads(document)).failures for name, document in connection.execute(query)}


def _standing(subject: Subject, regime: Regime, known: _Known) -> Standing:
    limits = regime.limits.get(subject, Limits())
    head = known.heads.get(subject)
    closed = None
    if head is not None:
        # of a group and of everything, only what is about them: one of their rules may stand still while others go on
        closed = known.gates.closed(head) if subject.kind is Kind.RULE else known.gates.closed_by(subject)
    rule = subject.name if subject.kind is Kind.RULE else None
    group = regime.group_of(rule, head.group if head is not None else None) if rule is not None else None
    return Standing(
        kind=subject.kind,
        name=subject.name,
        group=group,
        running=known.running.get(subject, 0),
        cap=limits.running,
        pace=limits.pace,
        started=known.windows.get(subject, Window()).used,
        order=order_of(rule, group, regime.limits) if rule is not None else Order(limits.order),
        ready=known.ready.get(subject, 0),
        failures_allowed=known.allowed.get(rule) if rule is not None else None,
        failures=known.failures.get(rule, 0) if rule is not None else 0,
        why_not=closed.why if closed is not None else None,
        opens_at=closed.opens_at if closed is not None else None,
    )
