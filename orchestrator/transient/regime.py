"""What policies, settings and people have said by now: who may decide over what."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import structlog

from orchestrator.clock import Clock
from orchestrator.core.transient.caps import Caps
from orchestrator.core.transient.facts import Entry
from orchestrator.core.transient.policies import CompiledPolicy, refused_as_a_whole
from orchestrator.core.transient.protection import Guard
from orchestrator.rucio.port import Catalog
from orchestrator.store.store import Store
from orchestrator.transient.asking import entry_of
from schemas.did import Did
from schemas.transient import PolicySummary, PolicyVersion

log = structlog.get_logger()


class Told(Protocol):
    """What the settings say: the section `transient`."""

    @property
    def every(self) -> timedelta: ...
    @property
    def undo(self) -> timedelta: ...
    @property
    def datasets_per_day(self) -> int | None: ...
    @property
    def bytes_per_day(self) -> int | None: ...
    @property
    def rse_bytes_per_day(self) -> Mapping[str, int]: ...
    @property
    def never(self) -> tuple[str, ...]: ...
    @property
    def raw_scopes(self) -> tuple[str, ...]: ...
    @property
    def accounts(self) -> tuple[str, ...]: ...
    @property
    def disks(self) -> Mapping[str, Path]: ...
    @property
    def proofs(self) -> int: ...


@dataclass
class Counted:
    """What a policy comes to, counted by names alone."""

    #: Datasets in its scopes.
    looked_at: int = 0
    matches: int = 0
    #: The newest runs among the matches, so many as it keeps; a heap, the lowest first.
    newest: list[int] = field(default_factory=list)

    def note_run(self, run: int | None, most: int) -> None:
        """Memory stays flat."""
        if run is None or not most or run in self.newest:
            return
        heapq.heappush(self.newest, run)
        if len(self.newest) > most:
            heapq.heappop(self.newest)


#: What each policy comes to, by name.
Counts = Mapping[str, Counted]


class Regime:
    """The policies in force at one moment, and what is to stay. It is made anew for each decision that counts."""

    def __init__(
        self,
        catalog: Catalog,
        versions: Iterable[PolicyVersion],
        guard: Callable[[], Guard],
        *,
        counted: Counts | None = None,
        note: Callable[[Counts], None] = lambda counts: None,
    ) -> None:
        """
        Args:
            counted: what was counted a while ago, if that is good enough.
            note: is given what is counted, if it is.
        """
        self._catalog = catalog
        self._guard = guard
        self._counted = counted
        self._note = note
        #: Those that can be read; of the others it is known why not.
        self.policies: list[CompiledPolicy] = []
        self.broken: dict[str, PolicySummary] = {}
        for version in sorted(versions, key=lambda each: each.policy.name):
            try:
                self.policies.append(CompiledPolicy(version))
            except ValueError as error:
                log.warning("transient.policy_unreadable", policy=version.policy.name, reason=str(error))
                self.broken[version.policy.name] = _summary(version, refused=f"it cannot be read: {error}")

    @property
    def guard(self) -> Guard:
        """What is to stay now. Raises NotUnderstood: so nothing may leave."""
        return self._guard()

    def get(self, name: str) -> CompiledPolicy | None:
        """The policy of that name, if it is in force and can be read."""
        return next((each for each in self.policies if each.name == name), None)

    def matching(self, did: Did) -> list[CompiledPolicy]:
        """The enabled policies that match a dataset, by name."""
        return [each for each in self.policies if each.policy.enabled and each.values(did) is not None]

    def refused(self, policy: CompiledPolicy) -> str | None:
        """Why the policy releases nothing at all. The catalog is gone through, once at most. Raises CatalogError."""
        counted = self.counted(policy)
        return refused_as_a_whole(policy.version, counted.looked_at, counted.matches)

    def counted(self, policy: CompiledPolicy) -> Counted:
        """Raises CatalogError."""
        if self._counted is None:
            self._counted = self._count()
            self._note(self._counted)
        return self._counted[policy.name]

    def summary(self, policy: CompiledPolicy) -> PolicySummary:
        """What the policy comes to, before anything is proved. Raises CatalogError."""
        counted = self.counted(policy)
        return _summary(
            policy.version, looked_at=counted.looked_at, matches=counted.matches, refused=self.refused(policy)
        )

    def walk(self) -> Iterator[tuple[Entry, Sequence[CompiledPolicy]]]:
        """Every dataset in the scopes of any policy, with the policies whose scopes it is in. Raises CatalogError."""
        for scope in self._catalog.scopes():
            wanting = [policy for policy in self.policies if policy.wants(scope)]
            if wanting:
                for found in self._catalog.walk(scope):
                    yield entry_of(found), wanting

    def _count(self) -> Counts:
        counts = {policy.name: Counted() for policy in self.policies}
        for entry, wanting in self.walk():
            for policy in wanting:
                counted = counts[policy.name]
                counted.looked_at += 1
                if (values := policy.values(entry.did)) is not None:
                    counted.matches += 1
                    counted.note_run(policy.run(values), policy.policy.keep.last_runs)
        return counts


#: So long what policies come to need not be counted again.
_GOOD: Final = timedelta(minutes=5)


class _Kept(NamedTuple):
    """What was counted, when, and of which versions of policies."""

    of: tuple[tuple[str, int], ...]
    at: datetime
    counts: Counts


class Regimes:
    """Reads what is said now."""

    def __init__(self, catalog: Catalog, store: Store, told: Told, *, clock: Clock) -> None:
        self._catalog = catalog
        self._store = store
        self.told = told
        self._clock = clock
        self._kept: _Kept | None = None

    def now(self, *, afresh: bool = False) -> Regime:
        """What is in force.

        What policies come to is as it was counted some minutes ago, as long as they are the same: to count it, the
        whole catalog is gone through. `afresh`: it is counted now.
        """
        versions, now = self._store.transient_policies.in_force(), self._clock()
        of = tuple((each.policy.name, each.version) for each in versions)

        def note(counts: Counts) -> None:
            self._kept = _Kept(of, now, counts)

        kept = self._kept
        good = kept is not None and kept.of == of and kept.at <= now < kept.at + _GOOD and not afresh
        return Regime(
            self._catalog, versions, self.guard, counted=kept.counts if kept is not None and good else None, note=note
        )

    def caps(self) -> Caps:
        told = self.told
        return Caps(told.datasets_per_day, told.bytes_per_day, told.rse_bytes_per_day)

    def undo(self, version: PolicyVersion) -> timedelta:
        """How long a release can be taken back."""
        return self.told.undo if version.policy.undo is None else version.policy.undo

    def guard(self) -> Guard:
        """What is to stay, read afresh. Raises NotUnderstood: so nothing may leave."""
        return Guard(
            never=self.told.never,
            keeps=self._store.transient_keeps.in_force(self._clock()),
            raw_scopes=self.told.raw_scopes,
            accounts={self._catalog.account, *self.told.accounts},
        )


def _summary(version: PolicyVersion, *, looked_at: int = 0, matches: int = 0, refused: str | None) -> PolicySummary:
    name, number = version.policy.name, version.version
    return PolicySummary(policy=name, version=number, looked_at=looked_at, matches=matches, refused=refused)
