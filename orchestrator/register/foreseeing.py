"""What a registration would do, file by file. Nothing is changed, neither in the catalog nor in our record."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path

from orchestrator.core.registering import Mistold, size_mistake
from orchestrator.core.replanning import replanned
from orchestrator.register.attaching import by_halves
from orchestrator.register.comparing import did_of, difference
from orchestrator.register.containers import way_down
from orchestrator.register.describing import differing
from orchestrator.register.noting import Summing
from orchestrator.register.reading import NotRead
from orchestrator.rucio.port import Catalog, CatalogError, DatasetState, DidNotFound, FileEntry
from orchestrator.store.registration_rows import Listing, RegistrationFilter, Wanted
from orchestrator.store.registrations import Registrations
from schemas.did import Did
from schemas.registration import FileState, RegisteredFile, RegistrationState


class What(StrEnum):
    """What would become of a DID."""

    CREATE = "create"
    #: A dataset that is there and open.
    FILL = "fill"
    REGISTER = "register"
    #: The catalog has the file, and it is not in the dataset.
    ATTACH = "attach"
    #: Nothing: it is as it should be.
    KEEP = "keep"
    REFUSE = "refuse"
    #: It is in the dataset, nobody asked for it, and the dataset would not be closed for it.
    FOREIGN = "foreign"


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What would become of one DID, or of one line of a list that is none."""

    did: str
    what: What
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Foresight:
    """Looks into the catalog, our record and at the disk. Reads no file but those that the catalog has already."""

    record: Registrations
    catalog: Catalog
    summing: Summing
    at_once: int = 1000
    #: Smaller files are refused.
    min_bytes: int = 1

    def foresee(self, wanted: Wanted, files: Iterable[RegisteredFile | Mistold]) -> Iterator[Foreseen]:
        """Containers first, then the dataset, then the files in their order. Raises CatalogError.

        What only trying can show is not foreseen: whether the account may do it, and whether the files lie where the
        RSE keeps files.
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
        wrong = differing(wanted.metadata, self.catalog.metadata([wanted.dataset]).get(wanted.dataset, {}))
        return dataset if wrong is None else Foreseen(dataset.did, What.REFUSE, f"it is there, {wrong}")

    def _foreign(self, wanted: Wanted, dids: Sequence[str]) -> Iterator[Foreseen]:
        """Those that no list of a registration that is not done has asked for either."""
        same = RegistrationFilter(dataset=wanted.dataset, rse=wanted.rse)
        going_on = any(each.state is not RegistrationState.DONE for each in self.record.list(same, limit=1))
        known = self.record.known(wanted, dids) if going_on and wanted.listing is not Listing.ANEW else {}
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
            except DidNotFound:
                yield Foreseen(str(did), What.CREATE)
            else:
                yield Foreseen(str(did), What.KEEP)

    def _dataset(self, did: Did) -> tuple[Foreseen, Mapping[Did, FileEntry]]:
        try:
            state = self.catalog.dataset(did).state
        except DidNotFound:
            return Foreseen(str(did), What.CREATE), {}
        content = {entry.did: entry for entry in self.catalog.files(did)}
        if state is DatasetState.OPEN:
            return Foreseen(str(did), What.FILL, f"it is there, with {len(content)} files"), content
        return Foreseen(str(did), What.KEEP, f"it is closed, with {len(content)} files: nothing can be added"), content

    def _batch(
        self, wanted: Wanted, batch: Sequence[RegisteredFile | Mistold], content: Mapping[Did, FileEntry]
    ) -> Iterator[Foreseen]:
        asked = [each for each in batch if isinstance(each, RegisteredFile)]
        there = self.record.known(wanted, [file.did for file in asked])
        files = [replanned(there[file.did], file) if file.did in there else file for file in asked]
        verdicts = self._verdicts(files, content)
        for each in batch:
            if isinstance(each, RegisteredFile):
                yield verdicts[each.did]
            elif not each.harmless:
                yield Foreseen(each.place, What.REFUSE, each.reason)

    def _verdicts(self, files: Sequence[RegisteredFile], content: Mapping[Did, FileEntry]) -> Mapping[str, Foreseen]:
        found = {file.did: self._at_first_sight(file) for file in files}
        likely = [file for file in files if found[file.did].what is not What.REFUSE]
        registered: dict[Did, FileEntry] = {}
        if likely:
            by_halves(
                likely,
                lambda some: registered.update(self.catalog.registered([did_of(file) for file in some])),
                lambda file, why: found.update({file.did: Foreseen(file.did, What.REFUSE, why)}),
            )
        again = [file for file in likely if did_of(file) in registered]
        with closing(self.summing(again)) as results:
            for file, sums in results:
                if isinstance(sums, NotRead):
                    why: str | None = str(sums)
                else:
                    why = difference(file.model_copy(update=sums.model_dump()), registered[did_of(file)])
                as_well = What.KEEP if did_of(file) in content else What.ATTACH
                found[file.did] = Foreseen(file.did, as_well if why is None else What.REFUSE, why)
        return found

    def _at_first_sight(self, file: RegisteredFile) -> Foreseen:
        if file.state is FileState.REFUSED:
            return Foreseen(file.did, What.REFUSE, file.reason)
        if file.path is not None and not Path(file.path).exists():
            return Foreseen(file.did, What.REFUSE, f"{file.path} is not there")
        size = file.bytes if file.path is None else Path(file.path).stat().st_size
        mistake = None if size is None else size_mistake(size, self.min_bytes)
        return Foreseen(file.did, What.REGISTER if mistake is None else What.REFUSE, mistake)


def _unless_closed(seen: Foreseen) -> Foreseen:
    if seen.what not in (What.REGISTER, What.ATTACH):
        return seen
    return Foreseen(seen.did, What.REFUSE, "it is not in the dataset, which is closed")
