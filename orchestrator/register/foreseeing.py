"""What a registration would do, file by file. Nothing is changed, neither in the catalog nor in our record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from orchestrator.core.registering import Mistold
from orchestrator.core.replanning import replanned
from orchestrator.register.comparing import did_of
from orchestrator.register.containers import way_down
from orchestrator.register.describing import differing
from orchestrator.register.summing import Summing
from orchestrator.register.verdicts import Foreseen, Verdicts, What
from orchestrator.rucio.port import (
    Catalog,
    CatalogError,
    DatasetState,
    DidExists,
    DidNotFound,
    FileEntry,
    InvalidDid,
    ScopeNotFound,
)
from orchestrator.store.registration_rows import Listing, RegistrationFilter, Wanted
from orchestrator.store.registrations import Registrations
from schemas.did import Did
from schemas.registration import FileState, RegisteredFile, RegistrationState


@dataclass(frozen=True, slots=True)
class Foresight:
    """Looks into the catalog, our record and at the disk.

    Reads only files that the catalog has already: what a sum that somebody told is worth, only reading shows.
    """

    record: Registrations
    catalog: Catalog
    summing: Summing
    at_once: int = 1000
    #: Read every file that the real call would read, and compare it with what was told.
    reads: bool = False

    def foresee(self, wanted: Wanted, files: Iterable[RegisteredFile | Mistold]) -> Iterator[Foreseen]:
        """Containers first, then the dataset, then the files in their order.

        What only trying can show is not foreseen: whether the account may make the dataset and close it, and what is
        in a file that is not read.

        Raises:
            CatalogError: it is about all of the files, as NotPermitted and RseNotFound are.
            KnownSumsAway: what is known cannot be asked for now.
            Stopped: reading was stopped.
        """
        content: Mapping[Did, FileEntry] = {}
        closed = False
        if wanted.dataset is not None:
            yield from self._containers(wanted.dataset, wanted.containers)
            dataset, content = self._dataset(wanted.dataset)
            closed = dataset.what is What.KEEP
            yield self._described(dataset, wanted)
        remaining, foreign = iter(files), set(content) if wanted.closes else set()
        while batch := list(islice(remaining, self.at_once)):
            foreign -= {did_of(each) for each in batch if isinstance(each, RegisteredFile)}
            for each in self._batch(wanted, batch, content):
                yield _unless_closed(each) if closed else each
        yield from self._foreign(wanted, sorted(map(str, foreign)))

    def _described(self, dataset: Foreseen, wanted: Wanted) -> Foreseen:
        """The dataset, refused if it is there with other metadata."""
        if dataset.what is not What.FILL or wanted.dataset is None:
            return dataset
        known = self.catalog.metadata([wanted.dataset]).get(wanted.dataset, {})
        wrong = differing(wanted.dataset, wanted.metadata, known)
        return dataset if wrong is None else Foreseen(dataset.did, What.REFUSE, f"it is there, {wrong}")

    def _foreign(self, wanted: Wanted, dids: Sequence[str]) -> Iterator[Foreseen]:
        """Those that no list of a registration that is not done has asked for either."""
        looks = wanted.listing is not Listing.ANEW and self._goes_on(wanted)
        known = self.record.known(wanted, dids) if looks else {}
        for did in dids:
            if did not in known:
                yield Foreseen(did, What.FOREIGN, "it is in the dataset, and nobody asked for it")

    def _containers(self, dataset: Did, ways: Sequence[str]) -> Iterator[Foreseen]:
        try:
            dids = dict.fromkeys(did for way in ways for did in way_down(way, dataset.scope))
        except ValueError as error:
            raise CatalogError(str(error)) from None
        for did in dids:
            try:
                self.catalog.children(did)
            except DidNotFound as error:
                yield self._new(did, error)
            else:
                yield Foreseen(str(did), What.KEEP)

    def _dataset(self, did: Did) -> tuple[Foreseen, Mapping[Did, FileEntry]]:
        try:
            state = self.catalog.dataset(did).state
        except DidNotFound as error:
            return self._new(did, error), {}
        content = {entry.did: entry for entry in self.catalog.files(did)}
        if state is DatasetState.OPEN:
            return Foreseen(str(did), What.FILL, f"it is there, with {len(content)} files"), content
        return Foreseen(str(did), What.KEEP, f"it is closed, with {len(content)} files: nothing can be added"), content

    def _new(self, did: Did, missing: DidNotFound) -> Foreseen:
        """A dataset or a container that is to be made. `missing` is what was said of it, if something else is there."""
        try:
            self.catalog.demand_name(did)
        except DidExists:
            return Foreseen(str(did), What.REFUSE, str(missing))
        except (InvalidDid, ScopeNotFound) as error:
            return Foreseen(str(did), What.REFUSE, str(error))
        return Foreseen(str(did), What.CREATE)

    def _batch(
        self, wanted: Wanted, batch: Sequence[RegisteredFile | Mistold], content: Mapping[Did, FileEntry]
    ) -> Iterator[Foreseen]:
        asked = [each for each in batch if isinstance(each, RegisteredFile)]
        if asked:
            self.catalog.demand_rse(wanted.rse)  # before hours are spent on sums
        there = self._known(wanted, [file.did for file in asked])
        files = [replanned(there[file.did], file) if file.did in there else file for file in asked]
        verdicts = Verdicts(self.catalog, self.summing, self.reads).on(files, content, wanted.rse)
        for each in batch:
            if isinstance(each, RegisteredFile):
                yield verdicts[each.did]
            elif not each.harmless:
                yield Foreseen(each.place, What.REFUSE, each.reason)

    def _known(self, wanted: Wanted, dids: Sequence[str]) -> Mapping[str, RegisteredFile]:
        """What our record knows of files. After a registration that is done they are looked at again."""
        known = self.record.known(wanted, dids)
        if not known or self._goes_on(wanted):
            return known
        return {did: file.model_copy(update={"state": FileState.SUMMED}) for did, file in known.items()}

    def _goes_on(self, wanted: Wanted) -> bool:
        """Whether there is a registration of the dataset that is not done."""
        same = RegistrationFilter(dataset=wanted.dataset, rse=wanted.rse)
        return any(each.state is not RegistrationState.DONE for each in self.record.list(same, limit=1))


def _unless_closed(seen: Foreseen) -> Foreseen:
    if seen.what not in (What.REGISTER, What.ATTACH):
        return seen
    return Foreseen(seen.did, What.REFUSE, "it is not in the dataset, which is closed")
