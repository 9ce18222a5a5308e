"""Whether a dataset may leave: every reason why not, and if there is none, what was proved.

First what can be told of many datasets at once (`cheap`); then, of those that are left, what needs a look at each file
(`deep`). Both are asked again, with fresh facts, when it is released and when it leaves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from orchestrator.core.transient.facts import Entry, Facts, Proof, Unknown
from orchestrator.core.transient.lasting import going
from orchestrator.core.transient.policies import CompiledPolicy
from orchestrator.core.transient.protection import Guard
from orchestrator.core.transient.proved import evidence
from orchestrator.core.transient.successors import of_contents, of_successor
from orchestrator.core.transient.words import files_have, moment, unknown
from schemas.durations import format_duration
from schemas.transient import Refusal, Refused, Release


def cheap(policy: CompiledPolicy, facts: Facts, guard: Guard, now: datetime) -> list[Refusal]:
    """Why it may not leave, as far as that can be told without a look at its files. Empty: look at them (`deep`)."""
    found = guard.protections(facts, open_too=policy.policy.open, now=now)
    found += _by_policy(policy, facts, now)
    found += of_successor(policy, facts, now)
    return found


def deep(policy: CompiledPolicy, proof: Proof, guard: Guard, now: datetime) -> list[Refusal]:
    """Why it may not leave, `cheap` included, since the facts of a proof are fresh. Empty: all is proved."""
    found = cheap(policy, proof.facts, guard, now)
    found += guard.deep(proof)
    found += _of_copies(policy, proof)
    found += of_contents(policy, proof)
    return found


def due_at(policy: CompiledPolicy, facts: Facts) -> datetime | Unknown:
    """From when on it may leave by its age."""
    begin = _begin(policy, facts)
    return begin if isinstance(begin, Unknown) else begin + policy.policy.lifetime


def judged(policy: CompiledPolicy, known: Facts | Proof, guard: Guard, now: datetime) -> Release | Refused | None:
    """The verdict on one dataset. None: nothing that is known by now stands in its way, so look at its files."""
    if isinstance(known, Proof):
        found = deep(policy, known, guard, now)
        return refused(policy, known.facts, found) if found else _release(policy, known)
    found = cheap(policy, known, guard, now)
    return refused(policy, known, found) if found else None


def refused(policy: CompiledPolicy, facts: Facts, refusals: Sequence[Refusal]) -> Refused:
    """A dataset that may not leave, with the reasons."""
    entry, due = facts.entry, due_at(policy, facts)
    return Refused(
        did=str(entry.did),
        born_at=entry.born_at,
        policy=policy.name,
        version=policy.version.version,
        run=policy.run(facts.values),
        bytes=entry.bytes,
        files=entry.files,
        successor=str(facts.successor.did) if facts.successor is not None else None,
        refusals=tuple(refusals),
        due_at=None if isinstance(due, Unknown) else due,
    )


def _release(policy: CompiledPolicy, proof: Proof) -> Release:
    """Of a proof that nothing was found against: whatever could be unknown is known."""
    facts, successor, due = proof.facts, proof.facts.successor, due_at(policy, proof.facts)
    assert successor is not None
    assert isinstance(successor.entry, Entry)
    assert successor.entry.closed_at is not None
    assert not isinstance(proof.leaving, Unknown)
    assert not isinstance(proof.successor_content, Unknown)
    assert not isinstance(due, Unknown)
    keeps = policy.policy.keep.copies
    return Release(
        did=str(facts.entry.did),
        born_at=facts.entry.born_at,
        closed_at=facts.entry.closed_at if facts.entry.closed else None,
        policy=policy.name,
        version=policy.version.version,
        run=policy.run(facts.values),
        files=proof.files,
        bytes=proof.bytes,
        content=proof.content,
        frees=tuple(sorted(proof.leaving, key=lambda copies: copies.rse)),
        erases=keeps is None,
        keeps=keeps,
        successor=str(successor.did),
        successor_born_at=successor.entry.born_at,
        successor_closed_at=successor.entry.closed_at,
        successor_content=proof.successor_content,
        evidence=evidence(policy, proof),
        due_at=due,
    )


# By its policy.


def _by_policy(policy: CompiledPolicy, facts: Facts, now: datetime) -> Iterator[Refusal]:
    if not policy.policy.enabled:
        yield Refusal("disabled", f"policy {policy.name} is disabled")
    if policy.version.ended_at is not None:
        yield Refusal("disabled", f"version {policy.version.version} of policy {policy.name} is not in force any more")
    if policy.asks_metadata:
        if isinstance(facts.metadata, Unknown):
            yield unknown("its metadata", facts.metadata)
        elif (unwanted := policy.metadata_refusal(facts.metadata)) is not None:
            yield unwanted
    yield from _of_age(policy, facts, now)
    yield from _of_makers(policy, facts)
    yield from _of_runs(policy, facts)


def _of_age(policy: CompiledPolicy, facts: Facts, now: datetime) -> Iterator[Refusal]:
    due = due_at(policy, facts)
    if isinstance(due, Unknown):
        yield unknown("its age", due)
    elif due > now:
        lifetime = format_duration(policy.policy.lifetime)
        yield Refusal("age", f"it may leave {moment(due)}: {lifetime} after it was {_since(policy, facts)}")


def _begin(policy: CompiledPolicy, facts: Facts) -> datetime | Unknown:
    """From when its age is counted."""
    entry = facts.entry
    if policy.policy.since == "created" or not entry.closed:
        begin = entry.born_at
    elif entry.closed_at is None:
        return Unknown("the catalog does not tell when it was closed")
    else:
        begin = entry.closed_at
    if policy.policy.since != "used":
        return begin
    if isinstance(facts.last_use, Unknown):
        return facts.last_use
    return max(each for each in (begin, entry.used_at, facts.last_use) if each is not None)


def _since(policy: CompiledPolicy, facts: Facts) -> str:
    if policy.policy.since == "used":
        return "last used"
    return "created" if policy.policy.since == "created" or not facts.entry.closed else "closed"


def _of_makers(policy: CompiledPolicy, facts: Facts) -> Iterator[Refusal]:
    wanted = policy.policy.made_by
    # that they are not known is said by what protects it
    if wanted is None or isinstance(facts.makers, Unknown):
        return
    fit = (each.workflow == wanted.workflow and wanted.step in (None, each.step) for each in facts.makers)
    if not any(fit):
        step = "" if wanted.step is None else f", step {wanted.step}"
        yield Refusal("made_by", f"no launch of {wanted.workflow}{step} has made it")


def _of_runs(policy: CompiledPolicy, facts: Facts) -> Iterator[Refusal]:
    keep, run = policy.policy.keep, policy.run(facts.values)
    if (keep.last_runs or keep.runs.include) and run is None:
        yield Refusal("runs", "its run is not known, so it may be one that stays")
        return
    if run is not None and run in policy.kept_runs:
        yield Refusal("runs", f"run {run} stays ({policy.kept_runs})")
    if keep.last_runs and isinstance(facts.newest_runs, Unknown):
        yield unknown("which runs are the newest", facts.newest_runs)
    elif keep.last_runs and not isinstance(facts.newest_runs, Unknown) and run in facts.newest_runs:
        yield Refusal("last_runs", f"run {run} is among the newest {keep.last_runs}")


# Its copies.


def _of_copies(policy: CompiledPolicy, proof: Proof) -> Iterator[Refusal]:
    keeps = policy.policy.keep.copies
    if isinstance(proof.leaving, Unknown):
        yield unknown("where its copies lie", proof.leaving)
        return
    if keeps is None:
        return
    kept = proof.without_kept_copy
    if isinstance(kept, Unknown):
        yield unknown(f"which files have a copy at {keeps}", kept)
    elif kept.count:
        yield Refusal("copies", f"{files_have(kept.count)} no copy at {keeps}: {kept}")
    if isinstance(proof.kept_at, Unknown):
        yield unknown(f"whether copies at {keeps} last", proof.kept_at)
    elif not isinstance(proof.rules, Unknown):  # that they are not known is said by what protects it
        yield from (Refusal("copies", f"at {keeps} {each}") for each in going(proof.rules, proof.kept_at))
    both = sorted({copies.rse for copies in proof.leaving}.intersection(proof.staying_at))
    if both:
        yield Refusal("copies", f"copies at {', '.join(both)} would both leave and stay")
    if not proof.leaving:
        yield Refusal("nothing", f"nothing is left of it but the copies at {keeps}, which stay")
    yield from _of_rules_on_both(proof)


def _of_rules_on_both(proof: Proof) -> Iterator[Refusal]:
    """Where copies stay: rules that hold some that leave, and that cannot be ended without more than those leaving."""
    if isinstance(proof.rules, Unknown) or isinstance(proof.leaving, Unknown):
        return
    leaving, staying = {copies.rse for copies in proof.leaving}, set(proof.staying_at)
    for rule in proof.rules:
        words = f"replication rule {rule.id} of {rule.account} ({rule.rse_expression}) on {rule.on}"
        if rule.rses is None:
            yield Refusal("unknown", f"which copies {words} holds is not known")
        elif rule.rses & leaving and (rule.rses & staying or rule.on != proof.facts.entry.did):
            yield Refusal("held", f"{words} holds copies that leave, and others: end it, or give each its own")
