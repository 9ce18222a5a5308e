"""What a file is like: read, or known from somebody who has read it, or both and compared."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from typing import Final

from orchestrator.core.registering import size_mistake
from orchestrator.register.known_sums import KnownSums, KnownSumsAway, KnownSumsError
from orchestrator.register.reading import NotRead, Reader, in_parallel
from schemas.registration import RegisteredFile, Sums

_FIELDS: Final = ("bytes", "adler32", "md5")

#: By field: what it is, and who says so.
_Claims = dict[str, tuple[int | str, str]]


class Summing:
    """Finds size and sums of files that are to be registered. Can be called by several threads."""

    def __init__(
        self,
        reader: Reader,
        known: KnownSums | None = None,
        *,
        min_bytes: int = 1,
        verify: bool = False,
        threads: int | None = None,
    ) -> None:
        """
        Args:
            known: sums that are taken for those files of which the manifest does not tell them.
            min_bytes: smaller files are refused.
            verify: read files too whose sums are known.
            threads: files read at the same time; by default one per core.
        """
        self._reader = reader
        self._known = known
        self._min_bytes = min_bytes
        self._verify = verify
        self._threads = threads or cores()

    def __call__(self, file: RegisteredFile) -> Sums:
        """The sums of one file.

        What was found when it was read before is taken, unless it has changed since; otherwise the file is read, unless
        both sums are known, and compared with what is known. A file that we do not see is taken as it was told.

        Raises:
            NotRead: it cannot be read, is too small, or is not as somebody told.
            KnownSumsAway: what is known cannot be asked for now.
            Stopped: the reader was stopped.
        """
        known = self.unread(file)
        if known is not None:
            return known
        assert file.path is not None
        sums = self._reader.sums(file.path)
        _compare(file.path, self._claims(file), {"bytes": sums.bytes, "adler32": sums.adler32, "md5": sums.md5})
        return sums

    def unread(self, file: RegisteredFile) -> Sums | None:
        """The sums of one file as they are known without reading it; None if it has to be read.

        Raises:
            NotRead: it is no file that can be read, is too small, or has another size than somebody told.
            KnownSumsAway: what is known cannot be asked for now.
        """
        if file.path is None:
            return self._as_told(file)
        status = self._reader.status(file.path)
        self._demand_size(file.path, status.st_size)
        if file.modified_ns is not None:
            same = (file.modified_ns, file.bytes) == (status.st_mtime_ns, status.st_size) and file.adler32 is not None
            return _noted(file) if same else None
        claims = self._claims(file)
        _compare(file.path, claims, {"bytes": status.st_size})
        if not {"adler32", "md5"} <= claims.keys() or self._verify:
            return None
        return Sums(
            bytes=status.st_size,
            adler32=str(claims["adler32"][0]),
            md5=str(claims["md5"][0]),
            modified_ns=status.st_mtime_ns,
        )

    def all(self, files: Iterable[RegisteredFile]) -> Generator[tuple[RegisteredFile, Sums | NotRead], None, None]:
        """The same for many files, several at the same time, in the order in which they are done.

        Few of them are held at a time. Whoever wants no more closes the iterator, and the reader is stopped.

        Raises:
            Stopped: the reader was stopped.
        """
        return in_parallel(self, files, self._threads, passing=NotRead, stop=self._reader.stop)

    def _as_told(self, file: RegisteredFile) -> Sums:
        claims = {field: value for field, (value, _) in self._claims(file).items()}
        missing = " and ".join(field for field in ("bytes", "adler32") if field not in claims)
        if missing:
            raise NotRead(
                f"{file.pfn} cannot be read here, and nobody told its {missing}: tell it in a manifest, or say in "
                "registration.rewrite where it is read"
            )
        self._demand_size(file.pfn, int(claims["bytes"]))
        return Sums.model_validate({"md5": None, **claims, "modified_ns": None})

    def _demand_size(self, name: str, size: int) -> None:
        if (mistake := size_mistake(size, self._min_bytes)) is not None:
            raise NotRead(f"{name} is refused: {mistake}")

    def _claims(self, file: RegisteredFile) -> _Claims:
        """What is known of a file before it is read."""
        # what was found when it was read is no claim: it may have changed since
        fields = _FIELDS if file.modified_ns is None else (file.told or "").split()
        told = {field: (value, "its manifest") for field in fields if (value := getattr(file, field)) is not None}
        try:
            known = None if self._known is None else self._known.find(file)
        except KnownSumsAway:
            raise
        except KnownSumsError as error:
            raise NotRead(str(error)) from None
        if self._known is None or known is None:
            return told
        _compare(file.pfn, told, {field: getattr(known, field) for field in _FIELDS}, self._known.source)
        source = self._known.source
        return {field: (value, source) for field in _FIELDS if (value := getattr(known, field)) is not None} | told


def _noted(file: RegisteredFile) -> Sums:
    return Sums.model_validate(file, from_attributes=True)


def _compare(name: str, claims: _Claims, found: dict[str, int | str | None], by: str = "the file") -> None:
    """Raises NotRead if something is found to be otherwise than claimed."""
    for field, value in found.items():
        claimed, source = claims.get(field, (value, ""))
        if value is not None and value != claimed:
            raise NotRead(
                f"{name} is not as told: {source} says {field} {claimed}, {by} says {value}; find out which is right"
            )


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0))
