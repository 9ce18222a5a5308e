"""What was proved of a dataset, one line each, with its figures: what a person reads before saying yes."""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.core.transient.facts import Entry, Proof, Unknown
from orchestrator.core.transient.policies import CompiledPolicy
from orchestrator.core.transient.words import moment, said
from schemas.checks import DatasetChecks
from schemas.durations import format_duration


def evidence(policy: CompiledPolicy, proof: Proof) -> tuple[str, ...]:
    """Of a proof that nothing was found against."""
    return (
        *_of_itself(policy, proof),
        *_of_successor(policy, proof),
        *_of_protection(policy, proof),
    )


def _of_itself(policy: CompiledPolicy, proof: Proof) -> Iterator[str]:
    entry = proof.facts.entry
    state = f"closed {moment(entry.closed_at)}" if entry.closed and entry.closed_at else "open, as the policy allows"
    lifetime = f"older than {format_duration(policy.policy.lifetime)} since {policy.policy.since}"
    yield f"{entry.did} {state}, {proof.files:,} files, {proof.bytes:,} bytes; {lifetime}"
    if entry.expires_at is not None:
        yield f"the catalog erases it by itself {moment(entry.expires_at)}"
    made_by = policy.policy.made_by
    if made_by is not None and not isinstance(proof.facts.makers, Unknown):
        makers = [each for each in proof.facts.makers if each.workflow == made_by.workflow]
        yield f"made by {', '.join(said(each) for each in makers)}"
    for key, items in policy.policy.where.items():
        if not isinstance(proof.facts.metadata, Unknown):
            yield f"{key} is {proof.facts.metadata.get(key)}, as wanted: {', '.join(map(str, items))}"


def _of_successor(policy: CompiledPolicy, proof: Proof) -> Iterator[str]:
    successor, wanted = proof.facts.successor, policy.policy.successor
    if successor is None or not isinstance(successor.entry, Entry) or successor.entry.closed_at is None:
        return
    checks = [f"{proof.successor_files:,} files", *_checked(wanted.require)]
    yield f"successor {successor.did} closed {moment(successor.entry.closed_at)}, {', '.join(checks)}"
    if proof.whole:
        yield f"{proof.whole:,} of its copies seen on the disk, whole; none is a file that leaves"
    if wanted.same_count:
        yield f"as many files in both: {proof.files:,}"
    if wanted.maps is not None:
        yield f"each of {proof.files:,} files has gone into one of the successor's: {wanted.maps.onto}"
    if successor.makers and not isinstance(successor.makers, Unknown):
        yield f"successor made by {', '.join(said(each) for each in successor.makers)}"


def _checked(checks: DatasetChecks) -> Iterator[str]:
    """What was required of the successor, and holds."""
    if checks.files is not None:
        yield f"{checks.files:,} as required"
    if checks.numbered is not None:
        last = "" if checks.numbered.last is None else f" to {checks.numbered.last}"
        yield f"numbered without a gap from {checks.numbered.first}{last}"
    if checks.replicas is not None:
        yield f"each with a copy {'that can be read' if checks.replicas == '*' else f'at {checks.replicas}'}"
    if checks.names is not None:
        yield f"each named {checks.names}"
    if checks.min_bytes is not None:
        yield f"none below {checks.min_bytes:,} bytes"
    if checks.checksums:
        yield f"each with {', '.join(checks.checksums)}"


def _of_protection(policy: CompiledPolicy, proof: Proof) -> Iterator[str]:
    yield "nobody keeps it, nothing reads it, no launch makes it, no other release rests on it"
    yield "none of its files is in another dataset or container"
    if not isinstance(proof.rules, Unknown):
        rules = "".join(f", {each.id} of {each.account} at {each.rse_expression}" for each in proof.rules)
        yield f"no replication rule of others is on it, or on anything that it is in: {len(proof.rules)} there{rules}"
    keeps = policy.policy.keep.copies
    if keeps is not None:
        yield f"each of {proof.files:,} files has a copy at {keeps}, which stays with the dataset"
