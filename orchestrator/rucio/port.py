"""What muleteer needs of a catalog. The words and the rules are Rucio's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Protocol

from schemas.did import Did


class CatalogError(Exception):
    """The catalog said no. The text says which DID, what was wrong, and what to do next."""


class DidNotFound(CatalogError):
    """No such DID, or it was erased."""


class DidExists(CatalogError):
    """A DID of that name is there already."""


class DatasetClosed(CatalogError):
    """The dataset is closed: nothing can be attached to it."""


class FileDiffers(CatalogError):
    """A file of that name is registered with another size or checksum. First registration wins, for ever."""


class InvalidDid(CatalogError):
    """The name breaks the catalog's rules."""


class CatalogUnavailable(CatalogError):
    """The catalog cannot be reached for now. Trying again later is safe."""


#: Metadata that the catalog keeps itself: nobody can set it.
KEPT_METADATA: Final = frozenset(
    {
        *("scope", "name", "account", "did_type", "is_open", "created_at", "updated_at", "closed_at"),
        *("bytes", "length", "events", "adler32", "md5"),
    }
)


class DatasetState(StrEnum):
    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file, as registered."""

    did: Did
    #: Physical file name: where a copy lies, as a URL or an absolute path.
    pfn: str
    #: Size in bytes.
    bytes: int
    #: Eight lower-case hexadecimal digits.
    adler32: str
    #: Events of the detector in it, where known.
    events: int | None = None


@dataclass(frozen=True, slots=True)
class DatasetEntry:
    """One dataset. `bytes`, `length` (files) and `events` are what is attached now."""

    did: Did
    state: DatasetState
    account: str
    created_at: datetime
    closed_at: datetime | None
    bytes: int
    length: int
    events: int


class Catalog(Protocol):
    """Datasets, the files in them, and whether they are closed.

    Every call may raise `CatalogUnavailable`. A call that failed has changed nothing and announced nothing.
    """

    #: For logs and for people, without secrets.
    address: str

    def add_dataset(self, did: Did) -> None:
        """Create an open, empty dataset. Announces `create_dts`. Raises DidExists, InvalidDid."""

    def attach(self, did: Did, files: Iterable[FileEntry]) -> int:
        """Register files and attach them; files already attached are passed over. Returns how many are new.

        Raises DidNotFound, DatasetClosed (also when nothing is new), FileDiffers (then nothing is attached),
        InvalidDid (a file's name breaks the rules, or is a dataset's).
        """

    def close(self, did: Did) -> None:
        """Close a dataset; closing a closed one does nothing. Announces `close`. Raises DidNotFound."""

    def reopen(self, did: Did) -> None:
        """Open a closed dataset again; opening an open one does nothing. Announces `open`. Raises DidNotFound."""

    def erase(self, did: Did) -> None:
        """Take a dataset out of the catalog; its name may be used again. Announces `erase`. Raises DidNotFound."""

    def dataset(self, did: Did) -> DatasetEntry:
        """What is known of a dataset. Raises DidNotFound."""

    def datasets(self, scope: str = "*", name: str = "*") -> Sequence[DatasetEntry]:
        """The datasets whose scope and name match the shell-style patterns, by name."""

    def files(self, did: Did) -> Sequence[FileEntry]:
        """The files of a dataset, by name. Raises DidNotFound."""

    def metadata(self, dids: Iterable[Did]) -> Mapping[Did, Mapping[str, Any]]:
        """What the catalog knows of many DIDs, in few calls: Rucio's keys, and those that people have set.

        Times are UTC. A DID that the catalog does not have, or has no more, is left out.
        """
