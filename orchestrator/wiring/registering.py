"""What puts files into datasets: those that people name, and those that launches made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from orchestrator.core.registering import Policy
from orchestrator.register.filler import Filler
from orchestrator.register.known_sums import KnownSums, KnownSumsAway, KnownSumsError
from orchestrator.register.noting import Tell
from orchestrator.register.reading import Reader
from orchestrator.register.registrar import Registrar
from orchestrator.register.sources import Sources
from orchestrator.register.summing import Summing
from orchestrator.settings import ConfigurationError
from orchestrator.wiring.doors import Doors


@dataclass(frozen=True)
class Registering(Doors):
    """The pieces of a registration."""

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
