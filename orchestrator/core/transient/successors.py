"""Whether the successor is there and complete: a dataset leaves only because of what is left of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from orchestrator.core.transient.facts import Entry, Facts, Maker, Proof, Some, SuccessorFacts, Unknown
from orchestrator.core.transient.lasting import going
from orchestrator.core.transient.policies import CompiledPolicy
from orchestrator.core.transient.words import ended, files_have, moment, said, unknown
from schemas.checks import Finding
from schemas.durations import format_duration
from schemas.launch import LaunchState
from schemas.transient import Refusal, TransientState

#: Where a dataset stands that nothing can rest on.
_LEAVES: Final = frozenset({TransientState.RELEASED, TransientState.LEAVING, TransientState.GONE})


def of_successor(policy: CompiledPolicy, facts: Facts, now: datetime) -> Iterator[Refusal]:
    """Why nothing can rest on the successor, as far as that can be told without a look at its files."""
    name = policy.successor(facts.values)
    if isinstance(name, Refusal):
        yield name
        return
    if name == facts.entry.did:
        yield Refusal("successor", f"{name} is the dataset itself")
        return
    if facts.successor is None or facts.successor.did != name:
        yield Refusal("unknown", f"its successor {name} was not asked for")
        return
    yield from _of_successor_entry(policy, facts, facts.successor, now)
    yield from _of_successor_here(policy, facts.successor)


def _of_successor_entry(
    policy: CompiledPolicy, facts: Facts, successor: SuccessorFacts, now: datetime
) -> Iterator[Refusal]:
    """What the catalog says of it."""
    entry, name, wanted = successor.entry, successor.did, policy.policy.successor
    if isinstance(entry, Unknown):
        yield unknown(f"its successor {name}", entry)
        return
    if entry is None:
        yield Refusal("successor", f"{name} is not there")
        return
    if not entry.closed:
        yield Refusal("successor", f"{name} is open")
    elif entry.closed_at is None:
        yield Refusal("unknown", f"when its successor {name} was closed is not known")
    elif entry.closed_at + wanted.age > now:
        must = f"that must be {format_duration(wanted.age)} ago" if wanted.age else "that is still to come by our clock"
        yield Refusal("successor", f"{name} was closed {moment(entry.closed_at)}: {must}")
    else:
        yield from _of_order(policy, facts.entry, entry, entry.closed_at)
    if entry.files == 0:
        yield Refusal("successor", f"there is no file in {name}")
    if entry.expires_at is not None:
        yield Refusal("successor", f"{name} is to be erased itself: the catalog does so {moment(entry.expires_at)}")


def _of_order(policy: CompiledPolicy, dataset: Entry, successor: Entry, closed_at: datetime) -> Iterator[Refusal]:
    """Whether the successor can have been made of the dataset as it is now: names are used again, datasets reopened."""
    wanted = policy.policy.successor
    if closed_at < dataset.born_at:
        was = f"was closed {moment(closed_at)}, before the dataset was made {moment(dataset.born_at)}"
        yield Refusal("successor", f"{successor.did} {was}: it is what was left of an earlier one")
    elif dataset.closed_at is not None and closed_at < dataset.closed_at and not (wanted.same_count or wanted.maps):
        was = f"was closed {moment(closed_at)}, before the dataset was {moment(dataset.closed_at)}"
        yield Refusal(
            "successor", f"{successor.did} {was}: what came later may not be in it; `same_count` or `maps` can tell"
        )


def _of_successor_here(policy: CompiledPolicy, successor: SuccessorFacts) -> Iterator[Refusal]:
    """What muleteer itself knows of it."""
    if isinstance(successor.state, Unknown):
        yield unknown(f"whether its successor {successor.did} leaves itself", successor.state)
    elif successor.state in _LEAVES:
        yield Refusal("successor", f"{successor.did} is {successor.state} itself")
    if isinstance(successor.makers, Unknown):
        yield unknown(f"which launch made its successor {successor.did}", successor.makers)
    else:
        yield from _of_its_launches(policy, successor.did.name, successor.makers)


def _of_its_launches(policy: CompiledPolicy, name: str, makers: Sequence[Maker]) -> Iterator[Refusal]:
    """Whoever fills it must have ended, and the last of them well: an earlier one may have failed and been repeated."""
    for maker in makers:
        if not ended(maker):
            yield Refusal("launch", f"{said(maker)} has not ended: it makes {name}")
    newest = max(makers, key=lambda maker: maker.launch, default=None)
    if newest is None and policy.policy.successor.launched:
        yield Refusal("launch", f"no launch has made {name}")
    elif newest is not None and ended(newest) and newest.state is not LaunchState.FINISHED:
        yield Refusal("launch", f"{said(newest)} made {name} and did not finish")


def of_contents(policy: CompiledPolicy, proof: Proof) -> Iterator[Refusal]:
    """The successor's files, by themselves and beside those of the dataset."""
    successor, name = policy.policy.successor, _name(proof.facts.successor)
    if isinstance(proof.successor_files, Unknown) or isinstance(proof.successor_content, Unknown):
        for each in (proof.successor_files, proof.successor_content):
            if isinstance(each, Unknown):
                yield unknown(f"what is in its successor {name}", each)
    else:
        yield from _of_counts(policy, proof, proof.successor_files)
    if isinstance(proof.findings, Unknown):
        yield unknown(f"whether its successor {name} is complete", proof.findings)
    elif proof.findings[0]:
        yield Refusal("successor", f"{name} is not complete: {_findings(*proof.findings)}")
    yield from _of_lasting(proof, name)
    if isinstance(proof.same, Unknown):
        yield unknown(f"whether its successor {name} lies on the same files", proof.same)
    elif proof.same.count:
        yield Refusal("successor", f"its successor lies on the same files: {proof.same}")
    if successor.maps is not None:
        if isinstance(proof.unmapped, Unknown):
            yield unknown("which files have gone into the successor's", proof.unmapped)
        elif proof.unmapped.count:
            yield Refusal("maps", f"{files_have(proof.unmapped.count)} not gone into {name}: {proof.unmapped}")


def _of_lasting(proof: Proof, name: str) -> Iterator[Refusal]:
    if isinstance(proof.successor_at, Unknown):
        yield unknown(f"where the copies of its successor {name} are", proof.successor_at)
    elif isinstance(proof.successor_rules, Unknown):
        yield unknown(f"what replication rules are on its successor {name}", proof.successor_rules)
    else:
        yield from (
            Refusal("successor", f"of {name} {each}") for each in going(proof.successor_rules, proof.successor_at)
        )


def _of_counts(policy: CompiledPolicy, proof: Proof, files: int) -> Iterator[Refusal]:
    name = _name(proof.facts.successor)
    if files == 0:
        yield Refusal("successor", f"there is no file in {name}")
    if policy.policy.successor.same_count and files != proof.files:
        yield Refusal("count", f"{name} has {files:,} files, and it has {proof.files:,}")


def _findings(count: int, first: Sequence[Finding]) -> str:
    texts = tuple(f"{each.file}: {each.text}" if each.file is not None else each.text for each in first)
    return str(Some(count, texts))


def _name(successor: SuccessorFacts | None) -> str:
    return "" if successor is None else str(successor.did)
