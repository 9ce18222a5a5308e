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


class RuleLocked(NotPermitted):
    """The replication rule is locked: nobody ends it before it is unlocked."""


class CatalogUnavailable(CatalogError):
    """The catalog cannot be reached for now. Trying again later is safe."""


class NotAdmitted(CatalogUnavailable):
    """The catalog does not let us in as this account: until somebody mends the settings, it is as good as away."""


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
    """One copy of a file."""

    did: Did
    rse: str
    #: Empty of a copy that cannot be read, if the RSE tells no address of it.
    pfn: str
    bytes: int


@dataclass(frozen=True, slots=True)
class DatasetEntry:
    """One dataset. `bytes`, `length` (files) and `events` are what is attached now.

    But of a closed dataset a Rucio server goes on counting files whose last copy was deleted: `files` tells.
    """

    did: Did
    state: DatasetState
    account: str
    created_at: datetime
    #: When it was last closed, also of one that was opened again.
    closed_at: datetime | None
    bytes: int
    length: int
    events: int
    #: When the catalog will erase it by itself; None: never.
    expires_at: datetime | None = None
    #: When it was last used, as Rucio is told of it; None where nobody tells.
    used_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ReplicationRule:
    """So many copies of what is in a DID are to be there: none of them can be deleted while it lasts."""

    id: str
    did: Did
    account: str
    rse_expression: str
    copies: int
    #: Nobody ends it before it is unlocked, nor is its DID erased.
    locked: bool
    #: When it ends; None: never.
    expires_at: datetime | None


class Catalog(Protocol):
    """Datasets and containers, the files in them, where copies lie, and whether a dataset is closed.

    Every call may raise `CatalogUnavailable`. A call that failed has changed nothing and announced nothing, unless it
    says otherwise; a call that raised `CatalogUnavailable` may have changed something, and can be repeated.
    """

    #: For logs and for people, without secrets.
    address: str

    #: What tells this catalog from any other, also from one that stands at its place and has its address. It is the
    #: same for as long as the catalog is there. A Rucio server tells no such thing: its address stands for it.
    identity: str

    #: As whom we act. Replication rules of this account are ours.
    account: str

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

    def demand_name(self, did: Did) -> None:
        """Whether a dataset or a container of this name could be made. Nothing is changed.

        Raises InvalidDid, ScopeNotFound, DidExists.
        """

    def demand_places(self, places: Mapping[Did, str], rse: str | None = None) -> None:
        """Whether files of these names could be registered at the RSE, each with its PFN. Nothing is changed.

        It says what `register` would say, as far as that can be known without sizes and sums.

        Raises RseNotFound, InvalidDid, ScopeNotFound, InvalidPfn, NotPermitted (a Rucio server does not always tell).
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

        Raises DidNotFound, NotPermitted; CatalogError: the catalog keeps this key itself, the key cannot be one, or it
        cannot have that value.
        """

    def dataset(self, did: Did) -> DatasetEntry:
        """What is known of a dataset. Raises DidNotFound, also if it is a file or a container."""

    def scopes(self, pattern: str = "*") -> Sequence[str]:
        """The scopes that match the shell-style pattern, sorted. A catalog without a list of them has those in use."""

    def datasets(self, scope: str = "*", name: str = "*") -> Sequence[DatasetEntry]:
        """The datasets whose scope and name match the shell-style patterns, by name."""

    def walk(self, scope: str = "*", name: str = "*") -> Iterator[DatasetEntry]:
        """The datasets whose scope and name match the shell-style patterns, in no order, some at a time.

        Memory stays flat however many there are; of a Rucio server the names of one scope are held at a time. Of one
        that is made or erased meanwhile nothing is promised.

        Raises CatalogUnavailable in the middle of it.
        """

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

    def parents(self, dids: Iterable[Did]) -> Mapping[Did, Sequence[Did]]:
        """The datasets and containers that each file, dataset or container is directly in, by name.

        One that is in none has an empty list. A DID that there is not is left out.
        """

    def rules(self, dids: Iterable[Did]) -> Mapping[Did, Sequence[ReplicationRule]]:
        """The replication rules on these DIDs themselves, of all accounts.

        A rule on a container above, or on one file of a dataset, is not among the dataset's. A DID that there is not is
        left out.
        """

    def set_lifetime(self, did: Did, lifetime: timedelta | None) -> None:
        """When a dataset or container is erased: when it is over; zero: as soon as the catalog gets to it; None: never.

        With it go its rules, not its files: copies that no rule has ever held stay for ever. It is not erased while a
        rule on it is locked. No event tells of it before `erase`.

        Raises DidNotFound (also of a file), NotPermitted.
        """

    def add_rule(self, did: Did, rse: str, lifetime: timedelta | None = None) -> None:
        """Have a replication rule of ours on a DID: one copy of each file at the RSE, unlocked.

        If we have one there already it gets this lifetime. When it is over the rule ends, and copies that it alone
        held are deleted. A copy that is marked for deletion, and is there still, is saved by it.

        Raises DidNotFound, RseNotFound, NotPermitted; RuleLocked: ours is there, and is locked.
        """

    def set_rule_lifetime(self, rule_id: str, lifetime: timedelta | None) -> None:
        """When a replication rule ends: when it is over; zero: as soon as the catalog gets to it; None: never.

        Copies that it alone held are marked for deletion when it ends; a Rucio server keeps them until it needs the
        room. To end a rule that there is not, or not any more, does nothing.

        Raises RuleLocked, NotPermitted; CatalogError: it was to last for ever, and there is no such rule.
        """

    def set_tombstones(self, files: Iterable[Did], rse: str) -> Sequence[Did]:
        """Mark the copies of files at one RSE: the catalog deletes them as soon as it gets to it, the last ones too.

        A file whose last copy went is no more. It leaves its datasets, and a closed one that is empty then is erased. A
        Rucio server takes also a dataset that is not empty out of its containers then; and it says of a file that its
        disk does not let go of that it was deleted.

        Only a replication rule is sure to save a marked copy. The embedded catalog also takes the mark off when its
        file is registered there or attached anew.

        A file without a copy there is passed over, as is one marked already. Many files may take many calls: if one
        fails, what went before stays marked, and the call can be repeated.

        Returns:
            The files whose copy there is held by a replication rule, in the order given: they are not marked.

        Raises RseNotFound, NotPermitted (the account may not, and nothing is marked).
        """

    def detach(self, did: Did, dids: Iterable[Did]) -> int:
        """Take files out of a dataset, or datasets and containers out of a container. Returns how many went.

        Those that are not in it are passed over; a closed dataset may be changed so, and stays closed. Announces
        `detach` for each, and `erase_cnt` for each dataset and container.

        Raises DidNotFound (there is no such dataset or container to take them out of), NotPermitted.
        """

    def replicas(
        self, dids: Iterable[Did], rse: str | None = None, *, readable: bool = True
    ) -> Mapping[Did, Sequence[Replica]]:
        """Copies of files that can be read now, by file, each file of datasets and containers among the DIDs.

        A file without one has an empty list. A DID that there is not is left out.

        Args:
            rse: an RSE expression; only copies there count.
            readable: False: those as well that cannot be read now, since somebody declared them away or bad, since they
                are about to be deleted, or since their RSE lets nobody read. They are there still.

        Raises RseNotFound.
        """

    def metadata(self, dids: Iterable[Did]) -> Mapping[Did, Mapping[str, Any]]:
        """What the catalog knows of many DIDs, in few calls: Rucio's keys, and those that people have set.

        Times are UTC. A dataset's `bytes`, `length` and `events` are those of its last closing, None before the first.
        A DID that the catalog does not have, or has no more, is left out.
        """
