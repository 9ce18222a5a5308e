"""What to do next with a dataset that leaves, from how it stands now. Nothing of it has to be remembered between looks.

Only our own replication rules on the dataset itself are ended, only copies that were listed when it began to leave are
marked. While something speaks against it, nothing more is done, and what is left is held: the catalog is kept from
erasing it, rules of ours that were ended get their life back, and rules are over the copies that may be marked already.
When nothing speaks against it any more it goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from orchestrator.core.transient.calls import (
    AddEndingRule,
    Call,
    DetachFrom,
    EndRule,
    GiveLife,
    Hold,
    KeepAlive,
    Keeping,
    LetStay,
    LookAgain,
    SetLifetime,
    Settle,
    SetTombstones,
)
from orchestrator.core.transient.facts import RuleOn
from schemas.did import Did

#: How long a rule lasts that is made only so that it ends.
ENDING: Final = timedelta(minutes=1)

#: How long the catalog has for what it does by itself, before copies that others hold count as staying.
PATIENCE: Final = timedelta(hours=1)

#: The first wait before another look, and the longest.
SHORTEST: Final = timedelta(seconds=30)
LONGEST: Final = timedelta(minutes=10)

#: So far the catalog's clock may be off.
CLOCKS: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class CopiesLeft:
    """How the copies stand that leave one RSE. Those whose fate is settled do not count."""

    rse: str
    #: The catalog has them still.
    left: int
    #: Of those: a replication rule holds them, so they cannot be marked.
    held: int = 0
    #: Of those: they are marked, and the catalog deletes them when it gets to them.
    marked: int = 0
    #: The catalog has them no more, and their files can be seen on the disk.
    on_disk: int = 0
    #: Paths of a few of these.
    seen: Sequence[str] = ()
    #: Our account may mark copies there; False once it was refused.
    may_mark: bool = True
    #: Every file of the dataset has its copy there still.
    all_files: bool = True
    #: Rules of ours hold them, made since it last went on.
    secured: bool = False


@dataclass(frozen=True, slots=True)
class Standing:
    """How a dataset stands that is leaving."""

    did: Did
    #: The account as which we act.
    account: str
    #: It leaves with its copies; else only some copies leave.
    erases: bool
    #: The catalog has it still, in this life of it.
    there: bool
    #: When the catalog erases it, after what it was last told; None: not by itself.
    expires_at: datetime | None
    #: Replication rules on it, and on what it is in.
    rules: Sequence[RuleOn]
    #: What speaks against it since it began to leave, in words: a locked or foreign rule, somebody who keeps it.
    objections: Sequence[str]
    #: Datasets and containers that it is directly in.
    containers: Sequence[Did]
    copies: Sequence[CopiesLeft]
    #: RSEs of copies that stay, since the policy keeps them there.
    staying_at: frozenset[str]
    #: How often it was looked at before, since it began to leave.
    looks: int
    leaving_at: datetime
    #: What could not be asked, in words: what is said above may be wrong then.
    unknown: Sequence[str] = ()


def next_calls(standing: Standing, now: datetime) -> Sequence[Call]:
    """The calls to make now, in this order; the last says whether it is over. Any of them may be made twice.

    If one fails, those after it must not be made: look again later.
    """
    if not standing.unknown and _has_left(standing):
        return [Settle()]
    if standing.unknown or standing.objections:
        return [*_kept_as_it_was(standing, now), *_held(standing, now), _look_again(standing, _why_not(standing))]
    calls: list[Call] = [*_about_copies(standing, now)]
    if standing.erases and standing.there:
        calls += [DetachFrom(container) for container in standing.containers]
        if standing.expires_at is None or standing.expires_at > now:
            calls.append(SetLifetime())
    return [*calls, _look_again(standing, _waits_for(standing))]


def _has_left(standing: Standing) -> bool:
    dataset = not standing.erases or not standing.there
    return dataset and not any(copies.left or copies.on_disk for copies in standing.copies)


def _kept_as_it_was(standing: Standing, now: datetime) -> Iterator[Keeping]:
    """What we have told the catalog to end does not end."""
    if standing.erases and standing.there and _is_ours(standing.expires_at, standing, now):
        yield KeepAlive()
    yield from (GiveLife(rule.id) for rule in _our_rules(standing) if _is_ours(rule.ends_at, standing, now))


def _held(standing: Standing, now: datetime) -> Iterator[Keeping]:
    """Only against an objection: what is merely not known now may be known in a moment."""
    each = standing.erases and _is_ours(standing.expires_at, standing, now)
    if standing.objections:
        yield from (Hold(copies.rse, each=each) for copies in _leaving(standing) if not copies.secured)


def _why_not(standing: Standing) -> str:
    objections = [f"nothing more is done: {'; '.join(standing.objections)}"] if standing.objections else []
    unknown = [f"not known: {'; '.join(standing.unknown)}"] if standing.unknown else []
    return "; ".join(objections + unknown)


def _is_ours(end: datetime | None, standing: Standing, now: datetime) -> bool:
    """By our doing: we have things end at once. An end that others have set for later is theirs."""
    return end is not None and standing.leaving_at - CLOCKS <= end <= now + CLOCKS


def _leaving(standing: Standing) -> list[CopiesLeft]:
    """Whatever the rest says: at an RSE where copies stay nothing leaves."""
    return [copies for copies in standing.copies if copies.left and copies.rse not in standing.staying_at]


def _our_rules(standing: Standing) -> list[RuleOn]:
    """Those that may be ended."""
    leaving = {copies.rse for copies in _leaving(standing)}
    return [rule for rule in standing.rules if _may_be_ended(rule, standing, leaving)]


def _about_copies(standing: Standing, now: datetime) -> Iterator[Call]:
    leaving, ours = _leaving(standing), _our_rules(standing)
    yield from (EndRule(rule.id) for rule in ours if rule.ends_at is None or rule.ends_at > now + ENDING)
    for copies in leaving:
        covered = any(rule.rses is None or copies.rse in rule.rses for rule in ours)
        if copies.left - copies.held - copies.marked > 0 and copies.may_mark:
            yield SetTombstones(copies.rse)
        elif copies.left - copies.held - copies.marked > 0 and not covered:
            yield AddEndingRule(copies.rse, ENDING, on_files=not (standing.there and copies.all_files))
        elif copies.held and not covered and _had_its_time(standing, now):
            why = "a replication rule on them, or one of others, holds them"
            yield LetStay(copies.rse, why, every=copies.held == copies.left)


def _may_be_ended(rule: RuleOn, standing: Standing, leaving: set[str]) -> bool:
    """Ours, on the dataset itself, over copies that leave and none that stay."""
    if rule.account != standing.account or rule.on != standing.did or rule.locked:
        return False
    if rule.rses is None:
        # of a dataset that leaves with all its copies no copy stays
        return standing.erases and not standing.staying_at
    return bool(rule.rses & leaving) and not rule.rses & standing.staying_at


def _had_its_time(standing: Standing, now: datetime) -> bool:
    """What was in the dataset's own way has ended long ago."""
    return now - standing.leaving_at > PATIENCE and (not standing.erases or not standing.there)


def _look_again(standing: Standing, why: str) -> LookAgain:
    # the exponent is bounded before it is used: a dataset may be looked at for weeks
    return LookAgain(min(LONGEST, SHORTEST * 2 ** min(standing.looks, 10)), why)


def _waits_for(standing: Standing) -> str:
    waits = [] if not standing.erases or not standing.there else ["the catalog has the dataset still"]
    for copies in standing.copies:
        if copies.left:
            held = f", {copies.held:,} held by a replication rule" if copies.held else ""
            waits.append(f"{copies.left:,} copies at {copies.rse} are there still{held}")
        if copies.on_disk:
            seen = f": {', '.join(copies.seen)}" if copies.seen else ""
            waits.append(f"{copies.on_disk:,} files are on the disk still, and the catalog has them no more{seen}")
    return "; ".join(waits)
