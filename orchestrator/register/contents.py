"""One dataset: made, filled with the files that are asked for, or taken as it is if it holds them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import structlog

from orchestrator.register.attaching import Attaching, as_known
from orchestrator.register.comparing import Differences, compared, counted
from orchestrator.register.describing import describe
from orchestrator.register.noting import Noting, Tell
from orchestrator.rucio.port import Catalog, DatasetClosed, DatasetState, DidExists
from orchestrator.store.port import NotAllowed
from orchestrator.store.registrations import Registrations
from schemas.did import Did
from schemas.registration import FileState, RegisteredFile, Registration

log = structlog.get_logger(__name__)


class DatasetContents:
    """What a dataset holds. Each method may raise CatalogError, StoreUnavailable, Stopped."""

    def __init__(
        self,
        record: Registrations,
        catalog: Catalog,
        noting: Noting,
        *,
        at_once: int,
        stop_if_told: Callable[[], None],
        tell: Tell,
    ) -> None:
        """`at_once`: files that are compared and attached with one call."""
        self._record = record
        self._catalog = catalog
        self._noting = noting
        self._attaching = Attaching(record, catalog, stop_if_told)
        self._at_once = at_once
        self._stop_if_told = stop_if_told
        self._tell = tell

    def make(self, dataset: Did, registration: Registration) -> DatasetState:
        """Make the dataset, or see how it is. One that is there and open gets the metadata that it lacks.

        Raises CatalogError: its metadata is another.
        """
        try:
            self._catalog.add_dataset(dataset, registration.metadata, registration.lifetime)
        except DidExists:
            state = self._catalog.dataset(dataset).state
            if state is DatasetState.OPEN:
                describe(self._catalog, dataset, registration.metadata)
            return state
        return DatasetState.OPEN

    def bring(self, state: DatasetState, registration: Registration, dataset: Did) -> Differences:
        """Fill the dataset if it is open. Returns how what it holds then differs from what was asked for.

        Raises DatasetClosed: it is closed, and differs.
        """
        if state is DatasetState.OPEN:
            try:
                return self._fill(registration, dataset)
            except DatasetClosed:
                log.info("dataset.closed_meanwhile", registration=registration.id, did=str(dataset))
        found = self._take_as_closed(registration, dataset)
        if found:
            raise DatasetClosed(
                f"{dataset} is closed, and holds other files than were asked for: {found}. {_way_out(found)}egister "
                "under another name, or have it opened again or erased, and call this again"
            )
        return found

    def _fill(self, registration: Registration, dataset: Did) -> Differences:
        self._noting.sum(registration.id)
        if registration.calls > 1:
            self._look(registration, dataset)
        self.attach(registration, dataset)
        found = self._compared(registration, dataset)
        self.demand_alone(registration)
        self._record.note_lost(registration.id, found.missing)
        return found

    def _take_as_closed(self, registration: Registration, dataset: Did) -> Differences:
        """A dataset that holds all of it already is well: somebody crashed between closing it and writing that down."""
        found = self._compared(registration, dataset)  # before hours are spent on sums
        if not found:
            self._noting.sum(registration.id)
            found = self._compared(registration, dataset)
        if not found:
            content = {entry.did: entry for entry in self._catalog.files(dataset)}
            for page in self._pages(registration, FileState.SUMMED):
                self._record.note_attached(registration.id, [as_known(file, content) for file in page])
        return found

    def _look(self, registration: Registration, dataset: Did) -> None:
        """Files that were attached when somebody looked last, and are no more, are to be attached again."""
        there = {str(entry.did) for entry in self._catalog.files(dataset)}
        for page in self._pages(registration, FileState.ATTACHED):
            self._record.note_lost(registration.id, [file.did for file in page if file.did not in there])

    def _compared(self, registration: Registration, dataset: Did) -> Differences:
        content = {entry.did: entry for entry in self._catalog.files(dataset)}
        return compared(content, self._pages(registration), exactly=registration.closes)

    def attach(self, registration: Registration, dataset: Did | None) -> None:
        done = 0
        waiting = self._record.get(registration.id).files.get(FileState.SUMMED, 0)
        for page in self._pages(registration, FileState.SUMMED):
            self._stop_if_told()
            fresh = self._noting.fresh(registration.id, page)
            self._attaching.bring(registration.id, dataset, registration.rse, fresh)
            done += len(page)
            self._tell("attached", done, waiting)

    def demand_alone(self, registration: Registration) -> None:
        """Raises NotAllowed: somebody else is bringing more files into the same dataset, and will close it."""
        files = self._record.get(registration.id).files
        if more := files.get(FileState.PLANNED, 0) + files.get(FileState.SUMMED, 0):
            raise NotAllowed(f"{counted(more)} planned by somebody else meanwhile")

    def _pages(self, registration: Registration, *states: FileState) -> Iterable[Sequence[RegisteredFile]]:
        return self._record.pages(registration.id, states, size=self._at_once)


def _way_out(found: Differences) -> str:
    """What else to do about a closed dataset, and the beginning of what is always said."""
    if not found.missing or found.foreign or found.differing:
        return "R"
    return "If what is not in it is not wanted any more, fill it with the others and --only-these; else r"
