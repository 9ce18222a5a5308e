"""What lets transient datasets leave."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from uuid import uuid4

from orchestrator.reconcile.checker import Checker
from orchestrator.transient.acting import InTransit
from orchestrator.transient.asking import Asker
from orchestrator.transient.desk import Desk
from orchestrator.transient.leaver import Leaver
from orchestrator.transient.looking import Looker
from orchestrator.transient.noticing import Noticer
from orchestrator.transient.objecting import Objector
from orchestrator.transient.proving import Prover
from orchestrator.transient.recalling import Recaller
from orchestrator.transient.regime import Regimes
from orchestrator.transient.releaser import Releaser
from orchestrator.transient.reporting import Reporter
from orchestrator.transient.settling import Settler
from orchestrator.transient.sighting import Sighting
from orchestrator.transient.surveyor import Surveyor
from orchestrator.transient.witness import Witness
from orchestrator.wiring.launching import Launching
from schemas.checks import DatasetChecks, Finding
from schemas.did import Did


@dataclass(frozen=True)
class Leaving(Launching):
    """The pieces around transient datasets. The catalog is opened with the first of them that asks it."""

    @cached_property
    def transient_work(self) -> InTransit:
        """For actors."""
        return InTransit(self.store, lambda: self._releaser, self.clock)

    @cached_property
    def transient_reporter(self) -> Reporter:
        return Reporter(self.store.transients)

    @property
    def no_transients(self) -> bool:
        """No policy is in force, and no dataset was ever matched by one. The catalog need not be there."""
        return not self.store.transients.any() and not any(self.store.transient_policies.all_in_force())

    def transient_desk(self, stopping: Callable[[], bool] = lambda: False) -> Desk:
        """For people and for the service. Raises CatalogUnavailable, ConfigurationError."""
        transients, asker, clock = self.store.transients, self._asker, self.clock
        owner = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        return Desk(
            self.store,
            self.catalog.address,
            self._regimes,
            surveyor=Surveyor(asker, self._prover, transients, clock=clock),
            releaser=self._releaser,
            leaver=self._leaver(owner, stopping),
            recaller=self._recaller(owner),
            noticer=Noticer(
                *(self.catalog, transients, self._regimes),
                asker=asker,
                prover=self._prover,
                clock=clock,
                stopping=stopping,
            ),
            owner=owner,
            clock=clock,
        )

    def _leaver(self, owner: str, stopping: Callable[[], bool]) -> Leaver:
        return Leaver(
            *(self.catalog, self.store.transients, self._regimes),
            asker=self._asker,
            prover=self._prover,
            looker=self._looker,
            settler=self._settler,
            objector=self._objector,
            recaller=self._recaller(owner),
            owner=owner,
            clock=self.clock,
            stopping=stopping,
        )

    def _recaller(self, owner: str) -> Recaller:
        return Recaller(
            *(self.catalog, self.store),
            asker=self._asker,
            settler=self._settler,
            owner=f"{owner}:recall",
            clock=self.clock,
        )

    @cached_property
    def _objector(self) -> Objector:
        return Objector(
            *(self.catalog, self.store),
            asker=self._asker,
            findings=self._findings,
            sighting=self._sighting,
            guard=self._regimes.guard,
            clock=self.clock,
        )

    @cached_property
    def _releaser(self) -> Releaser:
        return Releaser(
            *(self._asker, self._prover, self.store.transients, self._regimes),
            catalog=self.catalog.address,
            store=self.store.id,
            clock=self.clock,
        )

    @cached_property
    def _prover(self) -> Prover:
        return Prover(self._asker, self._looker, clock=self.clock)

    @cached_property
    def _looker(self) -> Looker:
        return Looker(self.catalog, self._findings, self._sighting)

    @cached_property
    def _checker(self) -> Checker:
        return Checker(self.catalog)

    @cached_property
    def _sighting(self) -> Sighting:
        return Sighting(self.catalog, self._witness)

    @cached_property
    def _witness(self) -> Witness:
        return Witness(self.settings.transient.disks)

    def _findings(self, did: Did, checks: DatasetChecks) -> Iterator[Finding]:
        """What does not hold of a successor: by the catalog, and by the disks that can be seen."""
        yield from self._checker.dataset(did, checks)
        yield from self._sighting.findings(did, checks)

    @cached_property
    def _asker(self) -> Asker:
        return Asker(self.catalog, self.store.transient_readers, self.store.transients)

    @cached_property
    def _settler(self) -> Settler:
        return Settler(self.catalog, self.store.transients, self._witness)

    @cached_property
    def _regimes(self) -> Regimes:
        return Regimes(self.catalog, self.store, self.settings.transient, clock=self.clock)
