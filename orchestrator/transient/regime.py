"""What policies, settings and people have said by now: who may decide over what."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
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
from orchestrator.rucio.port import Catalog, RseNotFound
from orchestrator.store.store import Store
from orchestrator.store.transient_versions import Unreadable
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


class CutOff(Exception):
    """It was to stop in the middle of what takes long. Nothing is known."""


#: What each policy comes to, by name.
Counts = Mapping[str, Counted]


class Regime:
    """The policies in force at one moment, and what is to stay. It is made anew for each decision that counts."""

    def __init__(
        self,
        catalog: Catalog,
        versions: Iterable[PolicyVersion],
        guard: Callable[[Collection[Did]], Guard],
        *,
        counted: Counts | None = None,
        note: Callable[[Counts], None] = lambda counts: None,
        unreadable: Iterable[Unreadable] = (),
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """
        Args:
            counted: what was counted a while ago, if that is good enough.
            note: is given what is counted, if it is.
            unreadable: versions in force that the store cannot tell.
            stopping: is asked while the catalog is counted.
        """
        self._catalog = catalog
        self._guard = guard
        self._counted = counted
        self._note = note
        self._stopping = stopping
        #: Those that can be read; of the others it is known why not.
        self.policies: list[CompiledPolicy] = []
        self.broken: dict[str, PolicySummary] = {}
        for each in unreadable:
            self._break(each.name, each.version, each.why)
        for version in sorted(versions, key=lambda each: each.policy.name):
            try:
                self.policies.append(CompiledPolicy(version))
            except ValueError as error:
                self._break(version.policy.name, version.version, f"it cannot be read: {error}")

    def _break(self, name: str, number: int, why: str) -> None:
        log.warning("transient.policy_unreadable", policy=name, reason=why)
        self.broken[name] = PolicySummary(policy=name, version=number, looked_at=0, matches=0, refused=why)

    def guard(self, dids: Collection[Did]) -> Guard:
        """What of these is to stay now. Raises NotUnderstood: so nothing may leave."""
        return self._guard(dids)

    def get(self, name: str) -> CompiledPolicy | None:
        """The policy of that name, if it is in force and can be read."""
        return next((each for each in self.policies if each.name == name), None)

    def matching(self, did: Did) -> list[CompiledPolicy]:
        """The enabled policies that match a dataset, by name."""
        return [each for each in self.policies if each.policy.enabled and each.values(did) is not None]

    def refused(self, policy: CompiledPolicy) -> str | None:
        """Why the policy releases nothing at all. The catalog is gone through, once at most.

        Raises CatalogError, CutOff.
        """
        counted = self.counted(policy)
        return refused_as_a_whole(policy.version, counted.looked_at, counted.matches)

    def counted(self, policy: CompiledPolicy) -> Counted:
        """Raises CatalogError, CutOff."""
        if self._counted is None:
            self._counted = self._count()
            self._note(self._counted)
        return self._counted[policy.name]

    def summary(self, policy: CompiledPolicy) -> PolicySummary:
        """What the policy comes to, before anything is proved. Raises CatalogError, CutOff."""
        counted = self.counted(policy)
        return PolicySummary(
            policy=policy.name,
            version=policy.version.version,
            looked_at=counted.looked_at,
            matches=counted.matches,
            refused=self.refused(policy),
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
            if self._stopping():
                raise CutOff
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

    def now(self, *, afresh: bool = False, stopping: Callable[[], bool] = lambda: False) -> Regime:
        """What is in force.

        What policies come to is as it was counted some minutes ago, as long as they are the same: to count it, the
        whole catalog is gone through. `afresh`: it is counted now. `stopping` is asked while it is.
        """
        (versions, unreadable), now = self._store.transient_policies.all_in_force(), self._clock()
        of = tuple((each.policy.name, each.version) for each in versions)

        def note(counts: Counts) -> None:
            # to count may have taken longer than it is good for
            self._kept = _Kept(of, self._clock(), counts)

        kept = self._kept
        good = kept is not None and kept.of == of and kept.at <= now < kept.at + _GOOD and not afresh
        return Regime(
            *(self._catalog, versions, self.guard),
            counted=kept.counts if kept is not None and good else None,
            note=note,
            unreadable=unreadable,
            stopping=stopping,
        )

    def caps(self) -> Caps:
        told = self.told
        return Caps(told.datasets_per_day, told.bytes_per_day, told.rse_bytes_per_day)

    def strange_caps(self) -> list[str]:
        """Caps of RSEs that the catalog does not know, in words: they cap nothing. Raises CatalogError."""
        found = list[str]()
        for rse in sorted(self.told.rse_bytes_per_day):
            try:
                self._catalog.demand_rse(rse)
            except RseNotFound as error:
                found.append(f"[transient] rse_bytes_per_day, {rse}, caps nothing: {' '.join(str(error).split())}")
        return found

    def undo(self, version: PolicyVersion) -> timedelta:
        """How long a release can be taken back."""
        return self.told.undo if version.policy.undo is None else version.policy.undo

    def guard(self, dids: Collection[Did]) -> Guard:
        """What of these is to stay, read afresh. Raises NotUnderstood: so nothing may leave."""
        return Guard(
            never=self.told.never,
            keeps=self._store.transient_keeps.on(dids, self._clock()),
            raw_scopes=self.told.raw_scopes,
            accounts={self._catalog.account, *self.told.accounts},
            of=dids,
        )
