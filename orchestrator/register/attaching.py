"""A chunk of files goes into the catalog; those that cannot are found, and do not hold up the others."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from orchestrator.register.comparing import did_of, difference
from orchestrator.rucio.port import (
    Catalog,
    CatalogError,
    FileDiffers,
    FileEntry,
    InvalidDid,
    InvalidPfn,
    ScopeNotFound,
)
from orchestrator.store.registrations import Registrations
from schemas.did import Did
from schemas.registration import RegisteredFile, RegistrationId

#: These are about one file of a call. So may be what has no class of its own.
_OF_A_FILE: Final = (FileDiffers, InvalidDid, InvalidPfn, ScopeNotFound)


class Attaching:
    """Registers and attaches files whose sums are known, and writes down what the catalog has."""

    def __init__(self, record: Registrations, catalog: Catalog, stop_if_told: Callable[[], None]) -> None:
        """`stop_if_told` raises Stopped."""
        self._record = record
        self._catalog = catalog
        self._stop_if_told = stop_if_told

    def bring(self, id_: RegistrationId, dataset: Did | None, rse: str | None, files: Sequence[RegisteredFile]) -> None:
        """Bring files of a registration into the dataset, or only into the catalog if there is none.

        Those that the catalog does not take are refused in our record, each for its reason. Raises CatalogError:
        whatever is not about one file; Stopped.
        """
        by_halves(
            files,
            lambda some: self._bring(id_, dataset, rse, some),
            lambda file, why: self._record.refuse(id_, {file.did: why}),
            self._stop_if_told,
        )

    def _bring(
        self, id_: RegistrationId, dataset: Did | None, rse: str | None, files: Sequence[RegisteredFile]
    ) -> None:
        known = self._catalog.registered([did_of(file) for file in files])
        differing = differences(files, known)
        if differing:
            self._record.refuse(id_, differing)
        fitting = [as_known(file, known) for file in files if file.did not in differing]
        entries = [_entry(file) for file in fitting]
        if not entries:
            return
        if dataset is None:
            self._catalog.register(entries, rse)
        else:
            self._catalog.attach(dataset, entries, rse)
        # only now: a crash before this line finds them in the catalog, and writes it down then
        self._record.note_attached(id_, fitting)


def by_halves(
    files: Sequence[RegisteredFile],
    do: Callable[[Sequence[RegisteredFile]], None],
    refuse: Callable[[RegisteredFile, str], None],
    stop_if_told: Callable[[], None] = lambda: None,
) -> None:
    """Do it for all of them; if one cannot be done, it is searched for by halves, and refused.

    Raises CatalogError: it is not about one file, as when it says the same of both halves.
    """
    failed = _failures([files], do)
    while failed:
        some, error = failed.pop()
        if len(some) == 1:
            refuse(some[0], str(error))
            continue
        stop_if_told()
        half = len(some) // 2
        halves = _failures([some[:half], some[half:]], do)
        if some is files and _says_the_same(halves):
            raise error
        failed += reversed(halves)


def _failures(
    parts: Sequence[Sequence[RegisteredFile]], do: Callable[[Sequence[RegisteredFile]], None]
) -> list[tuple[Sequence[RegisteredFile], CatalogError]]:
    """Do it for each part. Returns those with which something is wrong."""
    failed: list[tuple[Sequence[RegisteredFile], CatalogError]] = []
    for part in parts:
        try:
            do(part)
        except CatalogError as error:
            if not (isinstance(error, _OF_A_FILE) or type(error) is CatalogError):
                raise
            failed.append((part, error))
    return failed


def _says_the_same(halves: Sequence[tuple[Sequence[RegisteredFile], CatalogError]]) -> bool:
    """Whether the same is wrong with both halves, whatever file each names first. Of two files each has its own."""
    if len(halves) < 2 or max(len(files) for files, _ in halves) == 1:
        return False
    said = {
        re.sub(re.escape(files[0].did) + r"( and \d+ more files)?", "", str(error))
        for files, error in halves
        if type(error) is CatalogError
    }
    return len(said) == 1 and all(type(error) is CatalogError for _, error in halves)


def differences(files: Sequence[RegisteredFile], known: Mapping[Did, FileEntry]) -> Mapping[str, str]:
    """Of the files, those of which the catalog has another one, and how it differs."""
    pairs = ((file, known.get(did_of(file))) for file in files)
    found = ((file.did, difference(file, entry)) for file, entry in pairs if entry is not None)
    return {did: how for did, how in found if how is not None}


def as_known(file: RegisteredFile, known: Mapping[Did, FileEntry]) -> RegisteredFile:
    """What the catalog has already keeps its GUID."""
    entry = known.get(did_of(file))
    return file if entry is None else file.model_copy(update={"guid": entry.guid})


def _entry(file: RegisteredFile) -> FileEntry:
    assert file.bytes is not None, f"{file.did} was not summed"
    return FileEntry(did_of(file), file.pfn, file.bytes, file.adler32, file.events, file.md5, file.guid)
