"""What actors may do with the catalog's reality. It is opened with the first question."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.core.actor import Done, Outcome
from orchestrator.reconcile.gate import Gate, not_asked
from orchestrator.reconcile.reconciler import Reconciler
from orchestrator.rucio.port import CatalogError
from schemas.checks import Checks
from schemas.did import Did


class InCatalog:
    """Looks at what the catalog has, for actors."""

    def __init__(self, gate: Callable[[], Gate], reconciler: Callable[[], Reconciler]) -> None:
        self._gate = gate
        self._reconciler = reconciler

    def check(self, did: Did, checks: Checks) -> Outcome:
        try:
            return self._gate().check(did, checks)
        except CatalogError as error:
            return not_asked(error)

    def reconcile(self) -> Outcome:
        try:
            done = self._reconciler().reconcile()
        except CatalogError as error:
            return not_asked(error)
        return Done(f"{done.closings:,} closings compared; {done.missing:,} were missing, and are stored now")
