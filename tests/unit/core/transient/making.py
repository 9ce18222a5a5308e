"""A dataset that may leave, and all that is known of it: each test changes one thing."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestrator.core.transient.facts import Entry, Facts, Maker, Proof, RuleOn, Some, SuccessorFacts
from orchestrator.core.transient.judging import cheap, deep
from orchestrator.core.transient.policies import CompiledPolicy
from orchestrator.core.transient.protection import Guard
from schemas.did import Did
from schemas.launch import LaunchState
from schemas.transient import CopiesAt, PolicyVersion, PolicyVersionId, Refusal, Release, TransientPolicy

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HITS = Did("sphenix", "DST_HITS-00012345")
SEED = Did("sphenix", "DST_SEED-00012345")
DAY = timedelta(days=1)

DOCUMENT: dict[str, Any] = {
    "name": "hits",
    "scope": "sphenix",
    "pattern": r"DST_HITS-(?P<run>\d{8})",
    "lifetime": "14d",
    "successor": {"dataset": "{scope}:DST_SEED-{run}"},
}


def policy(version: int = 3, **changes: Any) -> CompiledPolicy:
    return CompiledPolicy(version_of(version, **changes))


def version_of(version: int = 3, **changes: Any) -> PolicyVersion:
    read = TransientPolicy.model_validate(DOCUMENT | changes)
    return PolicyVersion(id=PolicyVersionId(7), version=version, policy=read, author="anna", reason=None, at=NOW)


def with_successor(**changes: Any) -> CompiledPolicy:
    return policy(successor=DOCUMENT["successor"] | changes)


ENTRY = Entry(HITS, True, NOW - 60 * DAY, NOW - 30 * DAY, 5000, 10)
SUCCESSOR = SuccessorFacts(SEED, Entry(SEED, True, NOW - 29 * DAY, NOW - 20 * DAY, 3000, 4), None, ())
FACTS = Facts(
    entry=ENTRY,
    values={"scope": "sphenix", "name": HITS.name, "run": "00012345"},
    metadata={},
    in_use=None,
    makers=(),
    last_use=None,
    rests=(),
    extended_until=None,
    policies=("hits",),
    newest_runs=(),
    successor=SUCCESSOR,
)
PROOF = Proof(
    facts=FACTS,
    files=10,
    bytes=5000,
    content="c0ffee",
    shared=Some(0),
    rules=(),
    leaving=(CopiesAt(rse="DISK", files=10, bytes=5000),),
    without_kept_copy=Some(0),
    staying_at=(),
    kept_at={},
    successor_at={frozenset({"DISK"}): 4},
    successor_rules=(),
    successor_files=4,
    successor_content="beef",
    findings=(0, ()),
    unmapped=Some(0),
    same=Some(0),
    whole=0,
)
GUARD = Guard(accounts=("us",))

RULE = RuleOn("r1", HITS, "us", "DISK", False, None, frozenset({"DISK"}))


def maker(launch: int = 7, state: LaunchState = LaunchState.FINISHED, step: str = "seed") -> Maker:
    return Maker(launch, "tracking", step, state)


def entry(**changes: Any) -> Facts:
    """Another thing that the catalog says of the dataset."""
    return replace(FACTS, entry=ENTRY._replace(**changes))


def successor(**changes: Any) -> Facts:
    """Another thing that the catalog says of the successor."""
    assert isinstance(SUCCESSOR.entry, Entry)
    return replace(FACTS, successor=replace(SUCCESSOR, entry=SUCCESSOR.entry._replace(**changes)))


def checks(found: list[Refusal]) -> list[str]:
    return [refusal.check for refusal in found]


def cheaply(facts: Facts, compiled: CompiledPolicy | None = None, guard: Guard = GUARD) -> list[Refusal]:
    return cheap(compiled or policy(), facts, guard, NOW)


def deeply(proof: Proof, compiled: CompiledPolicy | None = None, guard: Guard = GUARD) -> list[Refusal]:
    return deep(compiled or policy(), proof, guard, NOW)


def release(name: str = "a", successor: str = "s:next", size: int = 100, rse: str = "DISK", **changes: Any) -> Release:
    """A release; only what caps and plans look at matters."""
    said: dict[str, Any] = {
        "did": f"s:{name}",
        "born_at": NOW - 60 * DAY,
        "closed_at": NOW - 30 * DAY,
        "policy": "hits",
        "version": 3,
        "files": 10,
        "bytes": size,
        "content": "c0ffee",
        "frees": (CopiesAt(rse=rse, files=10, bytes=size),),
        "successor": successor,
        "successor_born_at": NOW - 20 * DAY,
        "successor_closed_at": NOW - 20 * DAY,
        "successor_content": "beef",
        "evidence": (),
        "due_at": NOW,
    }
    return Release.model_validate(said | changes)
