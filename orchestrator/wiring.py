"""The composition root: the one file that picks real or embedded, and puts the pieces together.

It alone imports every room. Everything else gets what it needs as an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from orchestrator.broker.embedded import EmbeddedBroker
from orchestrator.broker.listener import Listener
from orchestrator.broker.port import Broker
from orchestrator.broker.stomp import StompBroker, StompSettings
from orchestrator.clock import Clock, utc_now
from orchestrator.core.actor import NotYet, Order, Outcome, Tools
from orchestrator.core.cycles import Cycle, launched, new_cycles
from orchestrator.core.gates import EVERYTHING, LimitsOf, Subject
from orchestrator.core.mistakes import Mistake
from orchestrator.core.preview import edited
from orchestrator.core.registering import Policy
from orchestrator.core.sieve import Sieve
from orchestrator.core.workflow import WorkflowError
from orchestrator.dispatch.actors import Actors, installed
from orchestrator.dispatch.dispatcher import Dispatcher
from orchestrator.dispatch.enricher import Enricher
from orchestrator.dispatch.janitor import Janitor
from orchestrator.dispatch.replay import Replayer
from orchestrator.dispatch.rules import mistakes_of
from orchestrator.dispatch.worker import Worker
from orchestrator.launch.callback import Address, Heard, KeyUnusable, key_of, token_of
from orchestrator.launch.commands import Commander
from orchestrator.launch.failure_table import read_table
from orchestrator.launch.git_archive import Keeping
from orchestrator.launch.launcher import Launcher
from orchestrator.launch.outputs import Outputs
from orchestrator.launch.retrying import Retrier
from orchestrator.launch.sites import read_site
from orchestrator.launch.watcher import STALLED_AFTER, Watcher
from orchestrator.launch.workflows import Workflows
from orchestrator.loop import Outage
from orchestrator.monitor.access import Tokens
from orchestrator.panda.client.api import PandaApi
from orchestrator.panda.client.sending import Sender
from orchestrator.panda.client.token import Token
from orchestrator.panda.embedded.engine import LocalEngine
from orchestrator.panda.port import Engine, EngineRefused
from orchestrator.reconcile.acting import InCatalog
from orchestrator.reconcile.doorkeeper import Doorkeeper
from orchestrator.reconcile.gate import AWAY, Gate
from orchestrator.reconcile.reconciler import Reconciler
from orchestrator.register.filler import Filler
from orchestrator.register.known_sums import KnownSums, KnownSumsAway, KnownSumsError
from orchestrator.register.noting import Tell
from orchestrator.register.reading import Reader
from orchestrator.register.registrar import Registrar
from orchestrator.register.sources import Sources
from orchestrator.register.summing import Summing
from orchestrator.rucio.client.addresses import on_disk
from orchestrator.rucio.embedded.catalog import LocalCatalog
from orchestrator.rucio.port import Catalog, CatalogUnavailable, DidNotFound, FileEntry, Replica
from orchestrator.settings import ConfigurationError, Settings, secret
from orchestrator.store.store import Store
from schemas.did import Did
from schemas.gate import Kind
from schemas.job import REPORTS
from schemas.rule import Limits, Rule, RuleVersion
from schemas.site import Site
from schemas.workflow import Workflow

if TYPE_CHECKING:
    from fastapi import FastAPI

    from orchestrator.monitor.jobs import Jobs
    from orchestrator.rucio.client.catalog import RucioCatalog

log = structlog.get_logger()

#: The workflows that come with the product.
BUNDLED_WORKFLOWS = Path(__file__).resolve().parent.parent / "workflows"

#: How often the watcher looks at the embedded engine.
_WATCH = timedelta(seconds=0.25)


@dataclass(frozen=True)
class Muleteer:
    """Every piece, made when it is first asked for."""

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
        return StompBroker(_stomp_settings(self.settings, self.home))

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

    @cached_property
    def engine(self) -> Engine:
        """Raises ConfigurationError: the site's profile, the key for reports of jobs."""
        engine = self._panda_engine(self.site) if self.site is not None else self._embedded_engine()
        callback = self.settings.callback
        if callback.url is None:
            return engine
        return Heard(engine, Address(callback.url.rstrip("/") + REPORTS, self._callback_key, callback.heartbeat))

    @cached_property
    def _callback_key(self) -> bytes:
        try:
            return key_of(self.home)
        except KeyUnusable as error:
            raise ConfigurationError(str(error)) from None

    def _embedded_engine(self) -> LocalEngine:
        return LocalEngine(self.home / "launches", self.inputs)

    def inputs(self, did: Did) -> Sequence[Path]:
        """Where the files of a dataset are read on this machine. Raises EngineRefused, CatalogUnavailable."""
        try:
            files = self.catalog.files(did)
        except DidNotFound as error:
            raise EngineRefused(f"its input is not in the catalog: {error}") from error
        told = all(entry.pfn for entry in files)  # by the embedded catalog
        copies = {} if told else self.catalog.replicas([did])
        return [_on_disk(entry, copies.get(entry.did, ())) for entry in files]

    @cached_property
    def panda(self) -> PandaApi:
        """PanDA's server. Only where `site` is one. Raises ConfigurationError."""
        assert self.site is not None, "there is no PanDA on the embedded engine"
        return PandaApi(self.site, self._token)

    @cached_property
    def _token(self) -> Token:
        assert self.site is not None, "there is no token on the embedded engine"
        return Token(self.site.token_file, clock=self.clock)

    def _panda_engine(self, site: Site) -> Engine:
        from orchestrator.panda.engine import PandaEngine  # who uses the embedded engine need not wait for it
        from orchestrator.panda.stepwise import StepwiseEngine

        sender = Sender(site, self._token, clock=self.clock)
        if self.settings.engine.kind == "panda":
            return PandaEngine(site, self.panda, sender, clock=self.clock)
        return StepwiseEngine(site, self.panda, sender, clock=self.clock)

    @cached_property
    def site(self) -> Site | None:
        """The profile of the PanDA that is used; None on the embedded engine. Raises ConfigurationError."""
        name = self.settings.engine.site
        return None if self.settings.engine.kind == "embedded" or name is None else read_site(self.home, name)

    @cached_property
    def workflows(self) -> Workflows:
        return Workflows([*(self.home / folder for folder in self.settings.workflows), BUNDLED_WORKFLOWS])

    @cached_property
    def launcher(self) -> Launcher:
        return Launcher(
            self.workflows,
            self.store.launches,
            self.engine,
            store_id=self.store.id,
            clock=self.clock,
            largest=self.settings.engine.largest_package * 1_000_000,
            require_commit=self.settings.launch.require_commit,
        )

    @cached_property
    def actors(self) -> Actors:
        return installed()

    def tools(self, stopping: Callable[[], bool] = lambda: False) -> Tools:
        looking = InCatalog(lambda: self.gate, self.reconciler)
        return Tools(self.home, self.launcher, stopping, looking, self.registrar)

    @cached_property
    def registrar(self) -> Registrar:
        """Fills datasets. The catalog is opened with the first of them."""
        sources = Sources(self.home, follow_links=self.settings.registration.follow_links)
        return Registrar(self.filler, sources, self.policy)

    @cached_property
    def _registrar_of_outputs(self) -> Registrar:
        """Fills the datasets of launches: all that was made, as it lies there."""
        return Registrar(self._filler_of_outputs, Sources(Path("/"), follow_links=True), Policy((), min_bytes=0))

    @contextmanager
    def _filler_of_outputs(self, stopping: Callable[[], bool]) -> Iterator[Filler]:
        summing = Summing(Reader(follow_links=True, stopping=stopping), min_bytes=0)
        yield Filler(self.store.registrations, self.catalog, summing.all, clock=self.clock, stopping=stopping)

    @property
    def policy(self) -> Policy:
        """What is registered, and under which names."""
        told = self.settings.registration
        return Policy(told.refuse, told.min_bytes, told.rewrite)

    @contextmanager
    def filler(
        self,
        stopping: Callable[[], bool] = lambda: False,
        tell: Tell = lambda what, done, of: None,
        progress: Callable[[int], None] = lambda size: None,
    ) -> Iterator[Filler]:
        """What fills one dataset, and is told to stop.

        Raises CatalogUnavailable, KnownSumsAway, ConfigurationError: it is about the catalog, or the known sums.
        """
        with self.summing(stopping, progress) as summing:
            record = self.store.registrations
            yield Filler(record, self.catalog, summing.all, clock=self.clock, stopping=stopping, tell=tell)

    @contextmanager
    def summing(
        self, stopping: Callable[[], bool] = lambda: False, progress: Callable[[int], None] = lambda size: None
    ) -> Iterator[Summing]:
        """What finds the sums of files. Raises KnownSumsAway, ConfigurationError: it is about the known sums."""
        told = self.settings.registration
        reader = Reader(follow_links=told.follow_links, stopping=stopping, progress=progress)
        with ExitStack() as stack:
            known = None
            if told.known_sums is not None:
                try:
                    columns = {str(field_): called for field_, called in told.known_columns.items()}
                    known = KnownSums.open(self.home / told.known_sums, told.known_table, columns)
                except KnownSumsAway:
                    raise
                except KnownSumsError as error:
                    raise ConfigurationError(f"registration.known_sums: {error}") from None
                stack.callback(known.close)
            yield Summing(reader, known, min_bytes=told.min_bytes, verify=told.verify, threads=told.threads)

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

    def watcher(self, stopping: Callable[[], bool] = lambda: False) -> Watcher:
        return Watcher(
            self.store.launches,
            self.store.launch_commands,
            self.engine,
            Outputs(self.engine, self._registrar_of_outputs, stopping),
            clock=self.clock,
            stalled_after=self.stalled_after,
        )

    def retrier(self) -> Retrier:
        store, table = self.store, partial(read_table, self.home)
        return Retrier(
            store.launches, store.launch_commands, store.launch_retries, self.engine, table, clock=self.clock
        )

    def commander(self) -> Commander:
        return Commander(self.store.launches, self.store.launch_commands, self.engine, clock=self.clock)

    def keeping(self, directory: Path | None = None) -> Keeping | None:
        """Where what was sent is written in git: this directory, else that of the settings; None if neither is said."""
        told = self.settings.archive
        if directory is None and told.git is None:
            return None
        return Keeping(
            directory=directory if directory is not None else self.home / (told.git or ""),
            who=(told.name, told.email),
            largest_file=told.largest_file * 1_000_000,
            largest_commit=told.largest_commit * 1_000_000,
            remote=told.remote if told.push else None,
        )

    @property
    def watch_every(self) -> timedelta:
        """How often the engine is asked how far launches have come."""
        return self.site.poll if self.site is not None else _WATCH

    @property
    def stalled_after(self) -> timedelta:
        """After how long without news a launch is stalled. A site that cannot be read keeps nobody from looking."""
        with suppress(ConfigurationError):
            if self.site is not None:
                return self.site.stalled_after
        return STALLED_AFTER

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


def _on_disk(entry: FileEntry, copies: Sequence[Replica]) -> Path:
    """Where a file is read on this machine. Raises EngineRefused: it is not on a disk that we see."""
    for pfn in (entry.pfn, *(copy.pfn for copy in copies)):
        if (path := on_disk(pfn)) is not None:
            return Path(path)
    raise EngineRefused(f"its input {entry.did} has no copy on a disk of this machine")


def store_url(settings: Settings, home: Path) -> str:
    """The store's URL; a relative SQLite file lies in the home directory. Raises ConfigurationError."""
    url = secret(settings.store.url, settings.store.url_file, home, "the store's URL") or ""
    prefix = "sqlite:///"
    if url.startswith(prefix) and not url.startswith(prefix + "/"):
        return f"{prefix}{home.resolve() / url.removeprefix(prefix)}"
    return url


def _stomp_settings(settings: Settings, home: Path) -> StompSettings:
    broker = settings.broker
    hosts = (address.rpartition(":") for address in broker.addresses)
    return StompSettings(
        addresses=tuple((host, int(port)) for host, _, port in hosts),
        destination=broker.destination,
        version=broker.version,
        user=broker.user,
        passcode=secret(broker.passcode, broker.passcode_file, home, "the broker's passcode"),
        tls=broker.tls,
        ca_file=_at(home, broker.ca_file),
        cert_file=_at(home, broker.cert_file),
        key_file=_at(home, broker.key_file),
        selector=broker.selector,
        client_id=broker.client_id,
        subscription_name=broker.subscription_name,
        virtual_host=broker.virtual_host,
        exclusive=broker.exclusive,
        heartbeat=round(broker.heartbeat.total_seconds() * 1000),
        prefetch=broker.prefetch,
    )


def _at(home: Path, file: Path | None) -> Path | None:
    return None if file is None else home / file
