"""Proves that one dataset may leave: the one function that the survey, a release and the leaving ask."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import structlog

from orchestrator.clock import Clock
from orchestrator.core.transient.facts import Entry, Facts, Proof, Unknown
from orchestrator.core.transient.judging import judged, refused
from orchestrator.core.transient.policies import CompiledPolicy
from orchestrator.rucio.port import CatalogError
from orchestrator.store.port import StoreUnavailable
from orchestrator.transient.asking import Asker, asked
from orchestrator.transient.looking import Looker, same_life
from orchestrator.transient.regime import Regime
from schemas.did import Did
from schemas.transient import Refusal, Refused, Release

log = structlog.get_logger()


class Prover:
    """Asks all that has to be known of one dataset, and judges it. Nothing is changed.

    Whatever cannot be asked is a refusal: only StoreUnavailable goes out.
    """

    def __init__(self, asker: Asker, looker: Looker, *, clock: Clock) -> None:
        self._asker = asker
        self._looker = looker
        self._clock = clock

    def prove(self, policy: CompiledPolicy, entry: Entry, regime: Regime) -> Release | Refused:
        """Whether the dataset may leave now, all of it looked at afresh."""
        try:
            return self._proved(policy, entry, regime)
        except StoreUnavailable:
            raise
        except CatalogError as error:
            return _unknown(policy, entry, f"the catalog cannot be asked: {' '.join(str(error).split())}")
        except Exception as error:
            return defect(policy, entry, error)

    def _proved(self, policy: CompiledPolicy, entry: Entry, regime: Regime) -> Release | Refused:
        if policy.values(entry.did) is None:
            return refused_because(policy, entry, Refusal("policy", f"policy {policy.name} does not match it any more"))
        if (whole := regime.refused(policy)) is not None:
            return refused_because(policy, entry, Refusal("fraction" if policy.policy.enabled else "disabled", whole))
        before = self.facts(policy, entry.did, regime)
        verdict = judged(policy, before, regime.guard([entry.did]), self._clock())
        if verdict is not None:
            return verdict
        assert before.successor is not None  # else it would have been refused
        if before.entry.born_at != entry.born_at:
            return refused_because(policy, entry, Refusal("unknown", "it is another dataset of the same name"))
        proof = self._looker.proof(
            policy, entry.did, before.successor.did, lambda: self.facts(policy, entry.did, regime)
        )
        if (moved := _moved(before, proof)) is not None:
            return refused(policy, proof.facts, [Refusal("unknown", moved)])
        verdict = judged(policy, proof, regime.guard([entry.did]), self._clock())
        assert verdict is not None  # of a proof there is always one
        return verdict

    def facts(self, policy: CompiledPolicy, did: Did, regime: Regime) -> Facts:
        """What is known of one dataset now. Raises CatalogError."""
        entry = self._asker.entry(did)
        if entry is None:
            raise CatalogError(f"it does not have {did} any more")
        matching: Collection[str] = {each.name for each in regime.matching(did)} | {policy.name}
        newest: Collection[int] | Unknown = ()
        if policy.policy.keep.last_runs:
            newest = asked(lambda: regime.counted(policy).newest)
        (facts,) = self._asker.facts(policy, [entry], policies={did: matching}, newest_runs=newest, closely=True)
        return facts


def _moved(before: Facts, proof: Proof) -> str | None:
    """What changed while its files were looked at: then nothing is known."""
    after = proof.facts
    if not same_life(before.entry, after.entry) or after.entry.files != proof.files:
        return f"{before.entry.did} changed while it was looked at"
    assert before.successor is not None
    one, other = before.successor.entry, after.successor and after.successor.entry
    if not isinstance(one, Entry) or not isinstance(other, Entry) or not same_life(one, other):
        return f"its successor {before.successor.did} changed while it was looked at"
    if isinstance(proof.successor_files, int) and proof.successor_files != other.files:
        return f"its successor {before.successor.did} has another number of files than the catalog says"
    return None


def refused_because(
    policy: CompiledPolicy, entry: Entry, *refusals: Refusal, due_at: datetime | None = None
) -> Refused:
    """A dataset that may not leave for these reasons, whatever else there is."""
    values = policy.values(entry.did) or {}
    successor = policy.successor(values)
    return Refused(
        did=str(entry.did),
        born_at=entry.born_at,
        policy=policy.name,
        version=policy.version.version,
        run=policy.run(values),
        bytes=entry.bytes,
        files=entry.files,
        successor=str(successor) if isinstance(successor, Did) else None,
        refusals=refusals,
        due_at=due_at,
    )


def defect(policy: CompiledPolicy, entry: Entry, error: Exception) -> Refused:
    """A dataset that cannot be judged, for a reason that nobody has thought of; called while that is handled."""
    log.exception("transient.defect", did=str(entry.did), policy=policy.name)
    return _unknown(policy, entry, f"it cannot be judged, see the log: {type(error).__name__}: {error}")


def _unknown(policy: CompiledPolicy, entry: Entry, why: str) -> Refused:
    """Nothing is known, so nothing leaves."""
    return refused_because(policy, entry, Refusal("unknown", why))
