"""A store with a worker and a doorkeeper, and a catalog that holds what is required, or does not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from orchestrator.core.actor import Done, Order, Outcome, Tools
from orchestrator.core.gates import LimitsOf
from orchestrator.core.matching import RuleSet
from orchestrator.dispatch.worker import Worker
from orchestrator.loop import Outage
from orchestrator.reconcile.doorkeeper import Doorkeeper
from orchestrator.reconcile.gate import Gate
from orchestrator.rucio.port import Catalog, FileEntry
from orchestrator.store.dispatches import NO_LIMITS
from orchestrator.store.store import Store
from schemas.did import Did
from schemas.dispatch import Dispatch
from tests.services.catalog import FakeCatalog
from tests.unit.making import NAME, NOW, SCOPE, UNMATCHED, frame, rule, tools

DID = Did(SCOPE, NAME)


class Options(BaseModel):
    model_config = ConfigDict(extra="allow")


@dataclass
class Acting:
    """An actor that notes what it was asked to do."""

    options: type[BaseModel] = Options
    done: list[Order] = field(default_factory=list)
    answers: list[Outcome] = field(default_factory=list)

    def check(self, options: Mapping[str, Any], tools: Tools) -> str | None:
        return None

    def act(self, order: Order, tools: Tools) -> Outcome:
        self.done.append(order)
        return self.answers.pop(0) if self.answers else Done("done")


@dataclass
class Bench:
    """A store with a worker, and a catalog whose time can be set."""

    store: Store
    catalog: FakeCatalog
    home: Path
    now: datetime = NOW
    confirm: bool = False
    actor: Acting = field(default_factory=Acting)

    @classmethod
    def at(cls, home: Path, store: Store) -> Self:
        """The dataset is in its catalog, open, with nothing in it."""
        found = cls(store, FakeCatalog(), home)
        found.catalog = FakeCatalog(clock=found.clock)
        found.catalog.add_dataset(DID)
        return found

    def requiring(self, **required: Any) -> None:
        """A rule with this requirement, and a message that it wants."""
        action = {"act": {}, **({"require": required} if required else {})}
        one = rule("raw", r"SPHENIX_RAW_EVENTS-(?P<run>\d+)", action)
        self.store.rules.apply([one], prune=True, who="test", now=NOW)
        self.arrive(NAME)

    def arrive(self, *names: str) -> None:
        """A closing of each of these datasets, and what the rule wants of it."""
        self.store.messages.take_in([frame(name=name) for name in names], origin="broker", now=NOW)
        revision, versions = self.store.rules.in_force()
        self.store.dispatches.judge(RuleSet(revision, versions, UNMATCHED), now=NOW, limit=100)

    def work(self, limits: LimitsOf = NO_LIMITS, catalog: Catalog | None = None) -> Dispatch:
        """Look at what is required, then do what is due now; the first dispatch as it is afterwards."""
        gate = Gate(catalog or self.catalog)
        self.doorkeeper(lambda: gate).look_at_all()
        worker = Worker(
            self.store,
            {"act": self.actor},
            tools(self.home),
            threads=1,
            lease=timedelta(seconds=15),
            store_outage=Outage("store"),
            clock=self.clock,
            limits=limits,
            confirm=gate.confirm if self.confirm else None,
        )
        while worker.claim_and_start():
            worker.idle(10)
        assert worker.close(10)
        return self.store.dispatches.list(limit=1000)[-1]

    def doorkeeper(self, gate: Callable[[], Gate]) -> Doorkeeper:
        return Doorkeeper(self.store, gate, confirm=self.confirm, clock=self.clock)

    def clock(self) -> datetime:
        return self.now

    def journal(self) -> list[tuple[str | None, str | None]]:
        """Who changed the first dispatch, and why."""
        return [(each.who, each.why) for each in self.store.journal.of("dispatch", 1)]


def one_file(name: str = "seg-0") -> FileEntry:
    return FileEntry(Did(SCOPE, name), f"/data/{name}", 10, "00000001")
