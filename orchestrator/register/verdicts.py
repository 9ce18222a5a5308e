"""What would become of files that are to be registered: the same looks, in the same order, as when they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from enum import StrEnum

from orchestrator.register.attaching import by_halves, differences
from orchestrator.register.comparing import did_of
from orchestrator.register.reading import NotRead
from orchestrator.register.summing import Summing
from orchestrator.rucio.port import Catalog, FileEntry, InvalidDid, InvalidPfn, ScopeNotFound
from schemas.did import Did
from schemas.registration import FileState, RegisteredFile


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


@dataclass(slots=True)
class Verdicts:
    """On some files at once."""

    catalog: Catalog
    summing: Summing
    #: Read every file that would be read; else only those that the catalog has, to be compared with it.
    reads: bool
    #: By DID, why a file is refused.
    wrong: dict[str, str] = field(default_factory=dict)

    def on(
        self, files: Sequence[RegisteredFile], content: Mapping[Did, FileEntry], rse: str | None
    ) -> Mapping[str, Foreseen]:
        """By DID. Raises CatalogError: it is about all of them; KnownSumsAway, Stopped.

        Args:
            content: what is in their dataset already.
        """
        self.wrong = {file.did: file.reason or "" for file in files if file.state is FileState.REFUSED}
        known = self._seen(self._fine(files), content)
        registered = self._registered(self._fine(files))
        summed = self._read([file for file in self._fine(files) if file.did not in known], registered)
        self.wrong |= differences([*known.values(), *summed], registered)
        self._demand_places(self._fine(files), rse)
        return {file.did: self._verdict(file, registered, content) for file in files}

    def _fine(self, files: Sequence[RegisteredFile]) -> Sequence[RegisteredFile]:
        return [file for file in files if file.did not in self.wrong]

    def _verdict(
        self, file: RegisteredFile, registered: Mapping[Did, FileEntry], content: Mapping[Did, FileEntry]
    ) -> Foreseen:
        if file.did in self.wrong:
            return Foreseen(file.did, What.REFUSE, self.wrong[file.did] or None)
        if did_of(file) in content:
            return Foreseen(file.did, What.KEEP)
        return Foreseen(file.did, What.ATTACH if did_of(file) in registered else What.REGISTER)

    def _seen(self, files: Sequence[RegisteredFile], content: Mapping[Did, FileEntry]) -> Mapping[str, RegisteredFile]:
        """Those that need not be read, as they are. What is attached already is not looked at on the disk."""
        known: dict[str, RegisteredFile] = {}
        for file in files:
            if file.state is FileState.ATTACHED and did_of(file) in content:
                known[file.did] = file
                continue
            try:
                sums = self.summing.unread(file)
            except NotRead as error:
                self.wrong[file.did] = str(error)
                continue
            if sums is not None:
                known[file.did] = file.model_copy(update=sums.model_dump())
        return known

    def _registered(self, files: Sequence[RegisteredFile]) -> Mapping[Did, FileEntry]:
        found: dict[Did, FileEntry] = {}
        if files:
            by_halves(files, lambda some: found.update(self.catalog.registered(map(did_of, some))), self._refuse)
        return found

    def _read(self, files: Sequence[RegisteredFile], registered: Mapping[Did, FileEntry]) -> Sequence[RegisteredFile]:
        summed = []
        asked = [file for file in files if self.reads or did_of(file) in registered]
        with closing(self.summing.all(asked)) as results:
            for file, sums in results:
                if isinstance(sums, NotRead):
                    self.wrong[file.did] = str(sums)
                else:
                    summed.append(file.model_copy(update=sums.model_dump()))
        return summed

    def _demand_places(self, files: Sequence[RegisteredFile], rse: str | None) -> None:
        def ask(some: Sequence[RegisteredFile]) -> None:
            self.catalog.demand_places({did_of(file): file.pfn for file in some}, rse)

        by_scope: dict[str, list[RegisteredFile]] = {}
        for file in files:
            by_scope.setdefault(did_of(file).scope, []).append(file)
        for some in by_scope.values():
            try:
                ask(some)
            except ScopeNotFound as error:  # of all of them alike: no need to search
                self.wrong |= {file.did: str(error).replace(some[0].did, file.did) for file in some}
            except (InvalidDid, InvalidPfn):
                by_halves(some, ask, self._refuse)

    def _refuse(self, file: RegisteredFile, why: str) -> None:
        self.wrong[file.did] = why
