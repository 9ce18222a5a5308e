"""How a dataset stands that is leaving: all that the next calls follow from, asked for afresh."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from orchestrator.clock import Clock
from orchestrator.core.transient.facts import Entry, RuleOn, Unknown
from orchestrator.core.transient.steps import PATIENCE, CopiesLeft, Standing
from orchestrator.rucio.port import Catalog, CatalogError
from orchestrator.transient.demanding import Demands
from orchestrator.transient.looking import Looker
from orchestrator.transient.memory import Memory
from orchestrator.transient.objecting import Objector
from orchestrator.transient.settling import Remains, Settler
from schemas.did import Did
from schemas.transient import Release, Transient


class Standings:
    """Looks. In the catalog nothing is changed but what the `Settler` saves."""

    def __init__(
        self,
        catalog: Catalog,
        demands: Demands,
        *,
        looker: Looker,
        settler: Settler,
        objector: Objector,
        memory: Memory,
        clock: Clock,
    ) -> None:
        self._catalog = catalog
        self._demands = demands
        self._looker = looker
        self._settler = settler
        self._objector = objector
        self._memory = memory
        self._clock = clock

    def of(self, transient: Transient) -> Standing:
        """How it stands now. What cannot be asked is said. Raises StoreUnavailable."""
        release, leaving_at = transient.release, transient.leaving_at
        assert release is not None
        assert leaving_at is not None
        unknown, objections = list[str](), list[str]()
        entry: Entry | None = None
        remains, rules, containers = Remains(), list[RuleOn](), list[Did]()
        staying: frozenset[str] = frozenset()
        with _noted(unknown):
            objections += self._objector.at_once(transient)
        with _noted(unknown):
            entry = self._demands.here(transient)
            remains = self._settler.remains(transient, there=entry is not None)
            if entry is not None:
                rules = self._rules(transient.did)
                containers = list(self._catalog.parents([transient.did]).get(transient.did, ()))
                staying = self._staying(transient.did, release)
            objections += self._objector.all(transient, entry, rules, remains)
        now = self._clock()
        return Standing(
            did=transient.did,
            account=self._catalog.account,
            erases=release.erases,
            there=entry is not None,
            expires_at=None if entry is None else entry.expires_at,
            rules=rules,
            objections=objections,
            containers=containers,
            copies=_copies_left(transient, remains, rules, self._memory, now, there=entry is not None),
            staying_at=staying,
            looks=self._memory.looks[transient.id],
            leaving_at=leaving_at,
            unknown=unknown,
        )

    def _rules(self, did: Did) -> list[RuleOn]:
        rules = self._looker.rules(did)
        if isinstance(rules, Unknown):
            raise CatalogError(f"its replication rules: {rules.why}")
        return list(rules)

    def _staying(self, did: Did, release: Release) -> frozenset[str]:
        if release.keeps is None:
            return frozenset()
        copies = self._catalog.replicas([did], release.keeps, readable=False)
        return frozenset(copy.rse for each in copies.values() for copy in each)


@contextmanager
def _noted(unknown: list[str]) -> Iterator[None]:
    """What cannot be asked, or is not understood: a keep that a newer muleteer has written down."""
    try:
        yield
    except (CatalogError, ValueError) as error:
        unknown.append(" ".join(str(error).split()))


def _copies_left(
    transient: Transient, remains: Remains, rules: Sequence[RuleOn], memory: Memory, now: datetime, *, there: bool
) -> list[CopiesLeft]:
    """The same, by RSE, with what is known of rules that hold them."""
    assert transient.release is not None and transient.leaving_at is not None
    late = now - transient.leaving_at > PATIENCE
    found = []
    for rse in sorted(remains.left.keys() | remains.on_disk.keys()):
        left, key = remains.left[rse], (transient.id, rse)
        covered = any(rule.rses is None or rse in rule.rses for rule in rules)
        ending = memory.ending.get(key)
        found.append(
            CopiesLeft(
                rse=rse,
                left=left,
                held=left if covered else min(left, memory.held.get(key, 0)) if late else 0,
                marked=left if ending is not None and now - ending < PATIENCE and not covered else 0,
                on_disk=remains.on_disk[rse],
                seen=remains.seen.get(rse, ()),
                may_mark=rse not in memory.may_not_mark,
                all_files=left == transient.release.files,
                secured=memory.secured.get(key) == (transient.went_on, there),
            )
        )
    return found
