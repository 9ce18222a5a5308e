"""Transient datasets for the tests of the store, made the short way."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any

from orchestrator.core.transient.caps import Caps
from orchestrator.store.launches import Intent
from orchestrator.store.store import Store
from schemas.did import Did
from schemas.launch import Launch, LaunchState, StepProgress, StepState
from schemas.transient import (
    CopiesAt,
    Copy,
    Refusal,
    Refused,
    Release,
    Transient,
    TransientPolicy,
    TransientState,
)
from tests.unit.making import NOW, later

HITS, SEED = Did("sphenix", "DST_HITS-00012345"), Did("sphenix", "DST_SEED-00012345")
BORN = NOW - timedelta(days=60)
NO_CAPS = Caps()
HOUR = timedelta(hours=1)
#: When it is over.
AFTER = later(3600)
ME, ENGINE = "cli:me", "leaver 1"


def hits(number: int) -> Did:
    return Did("sphenix", f"DST_HITS-{number:08d}")


def seed(number: int) -> Did:
    return Did("sphenix", f"DST_SEED-{number:08d}")


def release(did: Did = HITS, successor: Did = SEED, size: int = 5000, rse: str = "BNL", **changes: Any) -> Release:
    values: dict[str, Any] = {
        "did": str(did),
        "born_at": BORN,
        "closed_at": NOW - timedelta(days=30),
        "policy": "hits",
        "version": 1,
        "run": 12345,
        "files": 10,
        "bytes": size,
        "content": "c0ffee",
        "frees": (CopiesAt(rse=rse, files=10, bytes=size),),
        "successor": str(successor),
        "successor_born_at": BORN,
        "successor_closed_at": NOW - timedelta(days=20),
        "successor_content": "decaf",
        "evidence": ("it is closed",),
        "due_at": NOW - timedelta(days=16),
    }
    return Release.model_validate(values | changes)


def refusal(did: Did = HITS, *refusals: Refusal, **changes: Any) -> Refused:
    values: dict[str, Any] = {
        "did": str(did),
        "born_at": BORN,
        "policy": "hits",
        "version": 1,
        "bytes": 5000,
        "files": 10,
        "refusals": refusals or (Refusal("age", "it is 3 days old, and 14 are wanted"),),
    }
    return Refused.model_validate(values | changes)


def policy(name: str = "hits", **changes: Any) -> TransientPolicy:
    document: dict[str, Any] = {
        "name": name,
        "scope": "sphenix",
        "pattern": r"DST_HITS-(?P<run>\d{8})",
        "lifetime": "14d",
        "successor": {"dataset": "{scope}:DST_SEED-{run}"},
    }
    return TransientPolicy.model_validate(document | changes)


def see(store: Store, *looks: Release | Refused, now: datetime = NOW) -> None:
    proved = [look for look in looks if isinstance(look, Release)]
    refused = [look for look in looks if isinstance(look, Refused)]
    store.transients.seen(proved, refused, who="survey", now=now)


def put_down(
    store: Store, *releases: Release, undo: timedelta = HOUR, caps: Caps = NO_CAPS, now: datetime = NOW
) -> list[Transient]:
    """Release them, by a policy that is in force."""
    store.transient_policies.apply([policy()], prune=False, who=ME, now=now)
    wanted = [(each, undo) for each in releases]
    return store.transients.release(wanted, caps, who=ME, why="the disk is full", now=now)


def claim(
    store: Store, owner: str = ENGINE, *, now: datetime = AFTER, lease: float = 60, limit: int = 10
) -> list[Transient]:
    return store.transients.claim_due(owner=owner, now=now, lease=timedelta(seconds=lease), limit=limit)


def copy(number: int, rse: str = "BNL") -> Copy:
    name = f"file-{number}"
    return Copy(did=Did("sphenix", name), rse=rse, pfn=f"file:///data/{name}", bytes=500)


def begin(
    store: Store,
    transient: Transient,
    copies: Collection[Copy] = (copy(0),),
    *,
    owner: str = ENGINE,
    now: datetime = AFTER,
) -> bool:
    return store.transients.begin_leaving(transient.id, copies, owner=owner, who="leaver", now=now)


def leaving(store: Store, *, copies: Collection[Copy] = (copy(0),), of: Release | None = None) -> Transient:
    """One that has begun to leave, claimed by `ENGINE`."""
    (released,) = put_down(store, of or release())
    (claimed,) = claim(store)
    assert begin(store, claimed, copies)
    return store.transients.get(released.id)


def standing(store: Store, did: Did = HITS) -> Transient:
    (found,) = store.transients.find(did)
    return found


def states(store: Store) -> dict[str, TransientState]:
    return {each.did.name: each.state for each in store.transients.list(limit=10_000)}


def history(store: Store, transient: Transient) -> Sequence[tuple[str | None, str, str | None]]:
    return [(each.from_state, each.to_state, each.why) for each in store.journal.of("transient", int(transient.id))]


def launch(
    store: Store,
    name: str,
    state: LaunchState = LaunchState.PREPARED,
    *,
    reads: Sequence[Did] = (),
    makes: Sequence[Did] = (),
    now: datetime = NOW,
    **changes: Any,
) -> Launch:
    """A launch that stands there."""
    intent = Intent(
        key=name,
        name=name,
        workflow="reco",
        parameters={},
        inputs={f"in{number}": str(did) for number, did in enumerate(reads)},
        outputs={str(did): "track" for did in makes},
        engine="embedded",
        steps=[StepProgress(name="track", state=StepState.WAITING)],
        **{"dispatch_id": None, **changes},
    )
    made = store.launches.intend(intent, who="test", now=now)
    for step in _WAY[state]:
        made = store.launches.advance(made, step, who="test", why=None, now=now)
    assert made.state is state
    return made


_WAY = {
    LaunchState.PREPARED: (),
    LaunchState.RUNNING: (LaunchState.SUBMITTING, LaunchState.SUBMITTED, LaunchState.RUNNING),
    LaunchState.FINISHED: (LaunchState.SUBMITTING, LaunchState.SUBMITTED, LaunchState.FINISHED),
    LaunchState.FAILED: (LaunchState.SUBMITTING, LaunchState.SUBMITTED, LaunchState.FAILED),
}
