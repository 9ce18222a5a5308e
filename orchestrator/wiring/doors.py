"""The doors: to the store, the broker and the catalog, real or embedded."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.broker.embedded import EmbeddedBroker
from orchestrator.broker.port import Broker
from orchestrator.broker.stomp import StompBroker
from orchestrator.clock import Clock, utc_now
from orchestrator.core.sieve import Sieve
from orchestrator.loop import Outage
from orchestrator.rucio.embedded.catalog import LocalCatalog
from orchestrator.rucio.port import Catalog
from orchestrator.settings import Settings
from orchestrator.store.store import Store
from orchestrator.wiring.told import stomp_settings, store_url

if TYPE_CHECKING:
    from orchestrator.rucio.client.catalog import RucioCatalog


@dataclass(frozen=True)
class Doors:
    """Every door, opened when it is first asked for."""

    home: Path
    settings: Settings
    clock: Clock = utc_now
    #: Shared by all that wait for the store, so that one line of the log says that it is away.
    store_outage: Outage = field(default_factory=lambda: Outage("store"))
    catalog_outage: Outage = field(default_factory=lambda: Outage("catalog"))

    @cached_property
    def store(self) -> Store:
        """Raises StoreError."""
        intake = self.settings.intake
        sieve = Sieve(accounts=intake.drop_accounts, scopes=intake.drop_scopes, events=intake.drop_events)
        return Store.open(store_url(self.settings, self.home), sieve)

    @cached_property
    def broker(self) -> Broker:
        settings = self.settings.broker
        if settings.kind == "embedded":
            return EmbeddedBroker(self.home / "broker.db")
        return StompBroker(stomp_settings(self.settings, self.home))

    @cached_property
    def catalog(self) -> Catalog:
        """Raises CatalogUnavailable, ConfigurationError."""
        return self.embedded_catalog or self.rucio

    @cached_property
    def embedded_catalog(self) -> LocalCatalog | None:
        """None if there is a Rucio server. Raises CatalogUnavailable."""
        if self.settings.catalog.kind != "embedded":
            return None
        return LocalCatalog(self.home / "catalog.db", self.broker.send, clock=self.clock)

    @cached_property
    def rucio(self) -> RucioCatalog:
        """The Rucio server of the settings. Nothing is sent yet. Raises ConfigurationError."""
        from orchestrator.rucio.client.access import access_of  # Rucio's client takes a while to import
        from orchestrator.rucio.client.catalog import RucioCatalog

        settings = self.settings.catalog
        return RucioCatalog(access_of(settings, self.home), rse=settings.rse, clock=self.clock)
