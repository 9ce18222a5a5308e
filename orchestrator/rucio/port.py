"""What muleteer needs of a catalog. The words and the rules are Rucio's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
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


class ScopeNotFound(CatalogError):
    """No such scope: whoever runs the catalog makes them."""


class RseNotFound(CatalogError):
    """No such RSE, or no RSE fits the expression."""


class InvalidPfn(CatalogError):
    """The file does not lie where this RSE keeps files."""


class NotPermitted(CatalogError):
    """The account may not do this."""


class CatalogUnavailable(CatalogError):
    """The catalog cannot be reached for now. Trying again later is safe."""


#: Metadata that the catalog keeps itself: nobody can set it.
KEPT_METADATA: Final = frozenset(
    {
        *("scope", "name", "account", "did_type", "is_open", "created_at", "updated_at", "closed_at", "expired_at"),
        *("bytes", "length", "events", "adler32", "md5"),
    }
)


class DatasetState(StrEnum):
    OPEN = "open"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file, as it is to be registered, or as it is."""

    did: Did
    #: Physical file name: where a copy lies, as a URL or an absolute path. Empty where it was not asked for.
    pfn: str
    #: Size in bytes.
    bytes: int
    #: Eight lower-case hexadecimal digits; None only of a file that somebody registered without.
    adler32: str | None
    #: Events of the detector in it, where known.
    events: int | None = None
    #: 32 lower-case hexadecimal digits. It can never be added later.
    md5: str | None = None
    #: Lower case with dashes. PanDA does not see a file that has none.
    guid: str | None = None


@dataclass(frozen=True, slots=True)
class Replica:
    """One copy of a file that can be read."""

    did: Did
    rse: str
    pfn: str
    bytes: int


@dataclass(frozen=True, slots=True)
class DatasetEntry:
    """One dataset. `bytes`, `length` (files) and `events` are what is attached now."""

    did: Did
    state: DatasetState
    account: str
    created_at: datetime
    #: When it was last closed, also of one that was opened again.
    closed_at: datetime | None
    bytes: int
    length: int
    events: int


class Catalog(Protocol):
    """Datasets and containers, the files in them, where copies lie, and whether a dataset is closed.

    Every call may raise `CatalogUnavailable`. A call that failed has changed nothing and announced nothing, unless it
    says otherwise; a call that raised `CatalogUnavailable` may have changed something, and can be repeated.
    """

    #: For logs and for people, without secrets.
    address: str

    def add_dataset(
        self, did: Did, metadata: Mapping[str, Any] | None = None, lifetime: timedelta | None = None
    ) -> None:
        """Create an open, empty dataset. Announces `create_dts`. It is erased when its lifetime is over.

        Raises DidExists, InvalidDid, ScopeNotFound, NotPermitted; CatalogError for metadata that cannot be set, and
        then there may be a dataset.
        """

    def add_container(self, did: Did) -> None:
        """Create an empty container. Announces `create_cnt`. Raises DidExists, InvalidDid, ScopeNotFound."""

    def demand_rse(self, rse: str | None = None) -> None:
        """Whether files can be registered at this RSE; else where this catalog registers. Nothing is changed.

        Raises RseNotFound.
        """

    def register(self, files: Iterable[FileEntry], rse: str | None = None) -> int:
        """Register files without attaching them, each with a copy at the RSE. Returns how many copies are new.

        As `attach` does it, with the same comparison and the same errors.
        """

    def attach(self, did: Did, files: Iterable[FileEntry], rse: str | None = None) -> int:
        """Register files, each with a copy at the RSE, and attach them. Returns how many were newly attached.

        A file that is registered already is compared with what is offered before anything is attached; a sum that the
        catalog does not know is not compared, nor is it added. A file attached already is passed over, and one that is
        given twice counts once. Many files may take many calls: if one fails, what went before stays, and the call can
        be repeated.

        Args:
            rse: where the files lie; else where this catalog registers unless it is told.

        Raises DidNotFound, DatasetClosed (also when nothing is new), FileDiffers (nothing is attached of that call),
        InvalidDid (a file's name breaks the rules, or is a dataset's), RseNotFound (also if none is said), InvalidPfn
        (also of a file that a Rucio server has at this RSE at another place), NotPermitted;
        CatalogError for a size or a sum that cannot be, or no Adler-32.
        """

    def enclose(self, container: Did, dids: Iterable[Did]) -> int:
        """Attach datasets or containers to a container; those in it already are passed over. Returns how many are new.

        Announces `register_cnt` for each that is new. Raises DidNotFound (of either side), NotPermitted; CatalogError
        where the two do not fit together: a file, the container itself or one that it is in, both kinds in one call.
        """

    def close(self, did: Did) -> None:
        """Close a dataset; closing a closed one does nothing. Announces `close`. Raises DidNotFound, NotPermitted."""

    def reopen(self, did: Did) -> None:
        """Open a closed dataset again; opening an open one does nothing. Announces `open`.

        Raises DidNotFound, NotPermitted: a Rucio server may leave it to its administrators.
        """

    def set_metadata(self, did: Did, key: str, value: str | float | bool | None) -> None:
        """Set a key of a dataset's metadata; None takes it away. No event tells of it.

        Raises DidNotFound, NotPermitted; CatalogError: the catalog keeps this key itself, or the key cannot be one.
        """

    def dataset(self, did: Did) -> DatasetEntry:
        """What is known of a dataset. Raises DidNotFound, also if it is a file or a container."""

    def datasets(self, scope: str = "*", name: str = "*") -> Sequence[DatasetEntry]:
        """The datasets whose scope and name match the shell-style patterns, by name."""

    def closed_since(self, moment: datetime, scope: str = "*") -> Iterator[DatasetEntry]:
        """The datasets that were closed at that moment or later and are closed, in no order, some at a time.

        Raises CatalogUnavailable in the middle of it.
        """

    def files(self, did: Did) -> Sequence[FileEntry]:
        """The files of a dataset, by name; of a Rucio server without their PFNs. Raises DidNotFound."""

    def registered(self, dids: Iterable[Did]) -> Mapping[Did, FileEntry]:
        """Files as they are registered, wherever attached, without PFNs. Those that are not are left out.

        A DID that is no file raises InvalidDid: a file needs a name of its own. So does one of which a Rucio server
        says that it is no name.
        """

    def children(self, container: Did) -> Sequence[Did]:
        """The datasets and containers in a container, by name. Raises DidNotFound, also if it is none."""

    def replicas(self, dids: Iterable[Did], rse: str | None = None) -> Mapping[Did, Sequence[Replica]]:
        """Copies of files that can be read now, by file, each file of datasets and containers among the DIDs.

        A file without one has an empty list. A DID that there is not is left out.

        Args:
            rse: an RSE expression; only copies there count.

        Raises RseNotFound.
        """

    def metadata(self, dids: Iterable[Did]) -> Mapping[Did, Mapping[str, Any]]:
        """What the catalog knows of many DIDs, in few calls: Rucio's keys, and those that people have set.

        Times are UTC. A dataset's `bytes`, `length` and `events` are those of its last closing, None before the first.
        A DID that the catalog does not have, or has no more, is left out.
        """
