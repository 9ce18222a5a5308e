"""What the disks that can be seen from here say of a successor, beside what the catalog says of it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Final, NamedTuple

from orchestrator.core.transient.facts import Some
from orchestrator.core.transient.maps import NAMED
from orchestrator.rucio.port import Catalog, CatalogError, Replica
from orchestrator.transient.witness import Sight, Witness
from schemas.checks import DatasetChecks, Finding
from schemas.did import Did
from schemas.transient import Copy

#: Files whose copies are asked for with one call.
_AT_ONCE: Final = 1000


class Beside(NamedTuple):
    """The successor's copies, beside those that leave."""

    #: Copies that are the same file as one that leaves: the same path, or a link.
    same: Some
    #: Copies that lie on a disk that can be seen, whole.
    whole: int


@dataclass
class _Leaving:
    """Where the copies lie that leave, and the name of the file of each."""

    by_pfn: dict[str, str]
    #: By device and inode, links followed.
    by_place: dict[tuple[int, int], str]


class Sighting:
    """Looks at disks. Nothing is changed."""

    def __init__(self, catalog: Catalog, witness: Witness) -> None:
        self._catalog = catalog
        self._witness = witness

    def findings(self, did: Did, checks: DatasetChecks) -> Iterator[Finding]:
        """The files of a dataset that no copy is left of: each is missing where it can be seen, or of another size.

        A copy out of sight is taken for what the catalog says of it. One that should be seen and cannot be tells
        nothing, so it is no copy. Where the checks say where copies must be, only those count.

        Raises CatalogError.
        """
        for did_, copies in self._copies(did, checks.replicas or "*", readable=True):
            wrong = [self._wrong(copy) for copy in copies]
            if wrong and all(wrong):
                yield Finding("disk", str(did), str(did_), str(wrong[0]))

    def beside(self, leaving: Iterable[Replica | Copy], successor: Did) -> Beside:
        """Raises CatalogError: it cannot be told."""
        places = self._places(leaving)
        count, whole, first = 0, 0, list[str]()
        for did, copies in self._copies(successor, "*", readable=False):
            for copy in copies:
                whole += any(_is_whole(found, copy) for found in self._witness.looks(copy.pfn).found)
                if (other := self._same(places, copy)) is not None:
                    count += 1
                    first += [f"{did.name} is {other} ({copy.pfn})"] if len(first) < NAMED else []
        return Beside(Some(count, first), whole)

    def _copies(self, did: Did, expression: str, *, readable: bool) -> Iterator[tuple[Did, list[Replica]]]:
        files = self._catalog.files(did)
        for start in range(0, len(files), _AT_ONCE):
            page = [file.did for file in files[start : start + _AT_ONCE]]
            found = self._catalog.replicas(page, expression, readable=readable)
            yield from ((file, list(found.get(file, ()))) for file in page)

    def _places(self, leaving: Iterable[Replica | Copy]) -> _Leaving:
        """Raises CatalogError: one that should be seen cannot be, so nobody knows what else lies there."""
        places = _Leaving({}, {})
        for copy in leaving:
            look = self._witness.looks(copy.pfn)
            if look.sight is Sight.UNSEEN:
                raise CatalogError(self._unseen(copy.pfn))
            if copy.pfn:
                places.by_pfn[copy.pfn] = copy.did.name
            places.by_place.update({(found.st_dev, found.st_ino): copy.did.name for found in look.found})
        return places

    def _same(self, places: _Leaving, copy: Replica) -> str | None:
        """The file that leaves and that it is as well."""
        by_place = (places.by_place.get((found.st_dev, found.st_ino)) for found in self._witness.looks(copy.pfn).found)
        return next((each for each in chain([places.by_pfn.get(copy.pfn)], by_place) if each is not None), None)

    def _wrong(self, copy: Replica) -> str | None:
        """What is wrong with a copy, as far as it can be seen."""
        look, where = self._witness.looks(copy.pfn), self._witness.where(copy.pfn)
        if look.sight is Sight.ELSEWHERE or any(_is_whole(found, copy) for found in look.found):
            return None
        if look.sight is Sight.UNSEEN:
            return self._unseen(copy.pfn)
        if not look.found:
            return f"it is not there: {where}"
        return f"{where} has {look.found[0].st_size:,} bytes, not the {copy.bytes:,} that are registered"

    def _unseen(self, pfn: str) -> str:
        where, why = self._witness.where(pfn), self._witness.why_unseen(pfn)
        return f"the disk of {where} cannot be looked at: {why}"


def _is_whole(found: os.stat_result, copy: Replica) -> bool:
    return stat.S_ISREG(found.st_mode) and found.st_size == copy.bytes
