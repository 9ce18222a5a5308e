"""Sums of the files of a registration are found, and written down as they come."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Final

from orchestrator.clock import Clock
from orchestrator.register.reading import NotRead
from orchestrator.store.registrations import Registrations
from schemas.registration import FileState, RegisteredFile, RegistrationId, Sums

#: Finds size and sums of files, several at the same time, and gives them as they come. Raises Stopped.
Summing = Callable[[Iterable[RegisteredFile]], Generator[tuple[RegisteredFile, Sums | NotRead], None, None]]

#: Told how far it is: what is being done, files of which it is done, files in all.
Tell = Callable[[str, int, int], None]

_WAITING: Final = (FileState.PLANNED, FileState.SUMMED)

#: Sums are written down this often: a kill costs no more than these.
_NOTE_EVERY: Final = 50
_NOTE_AFTER: Final = timedelta(seconds=5)


class Noting:
    """Sums files, and writes into our record what was found, and what was refused."""

    def __init__(
        self,
        record: Registrations,
        summing: Summing,
        *,
        clock: Clock,
        at_once: int,
        stop_if_told: Callable[[], None],
        tell: Tell,
    ) -> None:
        """`stop_if_told` raises Stopped."""
        self._record = record
        self._summing = summing
        self._clock = clock
        self._at_once = at_once
        self._stop_if_told = stop_if_told
        self._tell = tell

    def waiting(self, id_: RegistrationId) -> int:
        """How many files are still to be brought into the catalog."""
        of = self._record.get(id_).files
        return sum(of.get(state, 0) for state in _WAITING)

    def sum(self, id_: RegistrationId) -> None:
        """Sums of all that is not attached; what was summed before is looked at, and read again if it has changed."""
        waiting = self.waiting(id_)
        files = chain.from_iterable(self._record.pages(id_, _WAITING, size=self._at_once))
        batch: list[tuple[RegisteredFile, Sums | NotRead]] = []
        noted_at = self._clock()
        with closing(self._summing(files)) as results:
            for done, result in enumerate(results, 1):
                batch.append(result)
                if len(batch) >= _NOTE_EVERY or self._clock() - noted_at >= _NOTE_AFTER:
                    self._note(id_, batch)
                    batch, noted_at = [], self._clock()
                    self._tell("summed", done, waiting)
                    self._stop_if_told()
        self._note(id_, batch)
        self._tell("summed", waiting, waiting)

    def fresh(self, id_: RegistrationId, files: Sequence[RegisteredFile]) -> Sequence[RegisteredFile]:
        """The files as they are now: those that changed since they were summed are read again, or refused."""
        changed = [file for file in files if _has_changed(file)]
        if not changed:
            return files
        with closing(self._summing(changed)) as results:
            found = list(results)
        self._note(id_, found)
        again = {file.did: sums for file, sums in found}
        return [
            file.model_copy(update=sums.model_dump()) if isinstance(sums, Sums) else file
            for file in files
            if not isinstance(sums := again.get(file.did), NotRead)
        ]

    def _note(self, id_: RegistrationId, results: Sequence[tuple[RegisteredFile, Sums | NotRead]]) -> None:
        refused = {file.did: str(result) for file, result in results if isinstance(result, NotRead)}
        summed = [
            file.model_copy(update=result.model_dump())
            for file, result in results
            if isinstance(result, Sums) and (file.state is FileState.PLANNED or not _same(file, result))
        ]
        if refused:
            self._record.refuse(id_, refused)
        if summed:
            self._record.note_sums(id_, summed)


def _has_changed(file: RegisteredFile) -> bool:
    if file.path is None:
        return False
    try:
        status = Path(file.path).stat()
    except (OSError, ValueError):
        return True
    return (status.st_size, status.st_mtime_ns) != (file.bytes, file.modified_ns)


def _same(file: RegisteredFile, sums: Sums) -> bool:
    return all(getattr(file, name) == value for name, value in sums)
