"""The engine, and what hands workflows in and follows them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property, partial
from pathlib import Path

from orchestrator.launch.callback import Address, Heard, KeyUnusable, key_of
from orchestrator.launch.commands import Commander
from orchestrator.launch.failure_table import read_table
from orchestrator.launch.git_archive import Keeping
from orchestrator.launch.launcher import Launcher
from orchestrator.launch.outputs import Outputs
from orchestrator.launch.retrying import Retrier
from orchestrator.launch.sites import read_site
from orchestrator.launch.watcher import STALLED_AFTER, Watcher
from orchestrator.launch.workflows import Workflows
from orchestrator.panda.client.api import PandaApi
from orchestrator.panda.client.sending import Sender
from orchestrator.panda.client.token import Token
from orchestrator.panda.embedded.engine import LocalEngine
from orchestrator.panda.port import Engine, EngineRefused
from orchestrator.rucio.client.addresses import on_disk
from orchestrator.rucio.port import DidNotFound, FileEntry, Replica
from orchestrator.settings import ConfigurationError
from orchestrator.wiring.registering import Registering
from schemas.did import Did
from schemas.job import REPORTS
from schemas.site import Site

#: The workflows that come with the product.
BUNDLED_WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows"

#: How often the watcher looks at the embedded engine.
_WATCH = timedelta(seconds=0.25)


@dataclass(frozen=True)
class Launching(Registering):
    """The pieces of a launch. What it makes is registered."""

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


def _on_disk(entry: FileEntry, copies: Sequence[Replica]) -> Path:
    """Where a file is read on this machine. Raises EngineRefused: it is not on a disk that we see."""
    for pfn in (entry.pfn, *(copy.pfn for copy in copies)):
        if (path := on_disk(pfn)) is not None:
            return Path(path)
    raise EngineRefused(f"its input {entry.did} has no copy on a disk of this machine")
