"""Every piece of muleteer in one object."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from orchestrator.broker.listener import Listener
from orchestrator.core.actor import NotYet, Order, Outcome, Tools
from orchestrator.core.cycles import Cycle, launched, new_cycles
from orchestrator.core.gates import EVERYTHING, LimitsOf, Subject
from orchestrator.core.mistakes import Mistake
from orchestrator.core.preview import edited
from orchestrator.core.workflow import WorkflowError
from orchestrator.dispatch.actors import Actors, installed
from orchestrator.dispatch.dispatcher import Dispatcher
from orchestrator.dispatch.enricher import Enricher
from orchestrator.dispatch.janitor import Janitor
from orchestrator.dispatch.replay import Replayer
from orchestrator.dispatch.rules import mistakes_of
from orchestrator.dispatch.worker import Worker
from orchestrator.launch.callback import token_of
from orchestrator.monitor.access import Tokens
from orchestrator.reconcile.acting import InCatalog
from orchestrator.reconcile.doorkeeper import Doorkeeper
from orchestrator.reconcile.gate import AWAY, Gate
from orchestrator.reconcile.reconciler import Reconciler
from orchestrator.rucio.port import CatalogUnavailable
from orchestrator.wiring.transient import Leaving
from schemas.did import Did
from schemas.gate import Kind
from schemas.rule import Limits, Rule, RuleVersion
from schemas.workflow import Workflow

if TYPE_CHECKING:
    from fastapi import FastAPI

    from orchestrator.monitor.jobs import Jobs


@dataclass(frozen=True)
class Muleteer(Leaving):
    """Every piece, made when it is first asked for."""

    @cached_property
    def actors(self) -> Actors:
        return installed()

    def tools(self, stopping: Callable[[], bool] = lambda: False) -> Tools:
        looking = InCatalog(lambda: self.gate, self.reconciler)
        return Tools(self.home, self.launcher, stopping, looking, self.registrar, self.transient_work)

    def listener(self) -> Listener:
        return Listener(self.broker, self.store.messages, store_outage=self.store_outage, clock=self.clock)

    def dispatcher(self, extra: RuleVersion | None = None) -> Dispatcher:
        return Dispatcher(self.store, self.settings.unmatched, clock=self.clock, extra=extra)

    def ask_catalog(self, dids: Iterable[Did]) -> Mapping[Did, Mapping[str, Any]]:
        """What the catalog knows of many DIDs. It is opened with the first question. Raises CatalogError."""
        return self.catalog.metadata(dids)

    def enricher(self) -> Enricher:
        return Enricher(self.store, self.ask_catalog, outage=self.catalog_outage, clock=self.clock)

    def replayer(self) -> Replayer:
        return Replayer(self.store, self.settings.unmatched, self.ask_catalog, clock=self.clock)

    def worker(self, stopping: Callable[[], bool] = lambda: False) -> Worker:
        settings = self.settings.worker
        return Worker(
            self.store,
            self.actors.usable,
            self.tools(stopping),
            threads=settings.threads,
            lease=settings.lease,
            store_outage=self.store_outage,
            clock=self.clock,
            limits=self.limits,
            confirm=self._confirm if settings.confirm else None,
        )

    @cached_property
    def gate(self) -> Gate:
        """Raises CatalogUnavailable, ConfigurationError."""
        return Gate(self.catalog)

    def _confirm(self, order: Order) -> Outcome | None:
        """The catalog is opened with the first question."""
        try:
            return self.gate.confirm(order)
        except CatalogUnavailable as error:
            return NotYet(f"the catalog cannot be opened: {error}", AWAY)

    def doorkeeper(self) -> Doorkeeper:
        return Doorkeeper(self.store, lambda: self.gate, confirm=self.settings.worker.confirm, clock=self.clock)

    def reconciler(self, scopes: Sequence[str] | None = None) -> Reconciler:
        settings = self.settings.reconcile
        return Reconciler(
            self.catalog,
            self.store.messages,
            self.store.reconciliations,
            scopes=scopes or settings.scopes,
            whole=not scopes,
            overlap=settings.overlap,
            patience=settings.patience,
            clock=self.clock,
        )

    @cached_property
    def limits(self) -> LimitsOf:
        """Those of the settings: of everything, and of groups."""
        settings = self.settings.limits
        groups = {
            Subject(Kind.GROUP, name): Limits(running=each.running, pace=each.pace, order=each.order)
            for name, each in settings.groups.items()
        }
        all_ = Limits(running=settings.running, pace=settings.pace)
        return groups if all_ == Limits() else {EVERYTHING: all_, **groups}

    def janitor(self) -> Janitor:
        return Janitor(self.store, lease=self.settings.worker.lease, clock=self.clock)

    def workflows_of(self, rules: Iterable[Rule]) -> Mapping[str, Workflow]:
        """The workflows that the rules launch, as far as they can be read: a launch says so itself otherwise."""
        found: dict[str, Workflow] = {}
        for name in {str(options.get("workflow")) for rule in rules for options in launched(rule)}:
            with suppress(WorkflowError):
                found[name] = self.workflows.get(name).workflow
        return found

    def new_cycles(self, coming: Sequence[Rule], prune: bool = False) -> Sequence[Cycle]:
        """Rules that would start each other for ever if these came into force.

        When it runs, the loop guard stops such a loop after one round. But one round for each dataset is not what
        anybody means.
        """
        in_force = self.store.rules.in_force()[1]
        before = [version.rule for version in in_force]
        after = [version.rule for version in edited(in_force, coming, prune=prune)]
        return new_cycles(before, after, self.workflows_of([*before, *after]))

    @cached_property
    def tokens(self) -> Tokens:
        return Tokens(self.home / "tokens")

    def window(self) -> FastAPI:
        """The service behind `muleteer serve`."""
        from orchestrator.monitor.app import build  # FastAPI would cost every command a quarter of a second
        from orchestrator.monitor.asking import Window

        def mistakes(rule: Rule) -> Iterable[Mistake]:
            return mistakes_of(rule, self.actors, self.tools())

        window = Window(
            store=self.store,
            tokens=self.tokens,
            mistakes=mistakes,
            cycles=self.new_cycles,
            unmatched=self.settings.unmatched,
            catalog=lambda dids: self.catalog.metadata(dids),  # opened with the first question
            stalled_after=self.stalled_after,
            desk=self.transient_desk,
            clock=self.clock,
        )
        return build(window, self._jobs())

    def jobs_alone(self) -> FastAPI | None:
        """A service that takes reports of jobs in and does nothing else; None if no job is told an address."""
        from orchestrator.monitor.jobs import alone

        jobs = self._jobs()
        return None if jobs is None else alone(jobs)

    def _jobs(self) -> Jobs | None:
        from orchestrator.monitor.jobs import Jobs

        if self.settings.callback.url is None:
            return None
        return Jobs(self.store, partial(token_of, self._callback_key), self.clock)

    def close(self) -> None:
        """Close what was opened."""
        if "store" in self.__dict__:
            self.store.close()
        if "rucio" in self.__dict__:
            self.rucio.close_connections()
        if "panda" in self.__dict__:
            self.panda.close()
