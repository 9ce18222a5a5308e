"""Looks at the files of a dataset and of its successor, at their copies, and at what holds them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Final

from orchestrator.core.transient.content import Contents, FileFacts
from orchestrator.core.transient.facts import Entry, Facts, Proof, RuleOn, Some, Unknown
from orchestrator.core.transient.maps import NAMED, unmapped
from orchestrator.core.transient.policies import CompiledPolicy
from orchestrator.rucio.port import Catalog, CatalogError, FileEntry, Replica
from orchestrator.transient.asking import asked
from orchestrator.transient.ruling import Ruling, placed
from orchestrator.transient.sighting import Beside, Sighting
from schemas.checks import DatasetChecks, Finding
from schemas.did import Did
from schemas.transient import CopiesAt, Copy
from schemas.transient import Mapping as FileMaps

#: What does not hold of a dataset, as it is found. Raises CatalogError in the middle of it.
Findings = Callable[[Did, DatasetChecks], Iterable[Finding]]

#: Files that are asked about with one call.
_AT_ONCE: Final = 1000

#: Findings that are kept to be told.
_TOLD: Final = 3


class Looker:
    """Asks the catalog about one dataset at a time. Nothing is changed."""

    def __init__(self, catalog: Catalog, findings: Findings, sighting: Sighting) -> None:
        self._catalog = catalog
        self._findings = findings
        self._sighting = sighting
        self._ruling = Ruling(catalog)

    def proof(self, policy: CompiledPolicy, did: Did, successor: Did, again: Callable[[], Facts]) -> Proof:
        """What the files and their copies tell. Raises CatalogError: nothing can be told of them.

        Args:
            again: asks for the facts once more, after all else.
        """
        files = self._catalog.files(did)
        keeps = policy.policy.keep.copies
        copies, staying = self._copies(did, keeps)
        theirs = asked(lambda: self._catalog.files(successor))
        maps = policy.policy.successor.maps
        contents = contents_of(files)
        beside = asked(lambda: self._beside(copies, successor))
        wanted = policy.policy.successor.require.replicas or "*"
        kept = {} if keeps is None else asked(lambda: self._catalog.replicas([did], keeps))
        return Proof(
            files=contents.files,
            bytes=contents.bytes,
            content=contents.digest,
            shared=self.shared(did, [file.did for file in files]),
            rules=self.rules(did),
            leaving=copies if isinstance(copies, Unknown) else _by_rse(copies),
            without_kept_copy=Some(0) if keeps is None else _without(files, kept),
            staying_at=frozenset() if isinstance(staying, Unknown) else {copy.rse for copy in staying},
            kept_at=kept if isinstance(kept, Unknown) else placed(kept.values()),
            successor_at=asked(lambda: self._ruling.places(successor, wanted)),
            successor_rules=self.rules(successor),
            successor_files=theirs if isinstance(theirs, Unknown) else len(theirs),
            successor_content=theirs if isinstance(theirs, Unknown) else contents_of(theirs).digest,
            findings=asked(lambda: _first(self._findings(successor, policy.policy.successor.require))),
            unmapped=Some(0) if maps is None else _unmapped(maps, files, theirs),
            same=beside if isinstance(beside, Unknown) else beside.same,
            whole=0 if isinstance(beside, Unknown) else beside.whole,
            facts=again(),
        )

    def leaving(self, did: Did, keeps: str | None) -> list[Copy]:
        """The copies that leave: all, or those that are not at `keeps`. Raises CatalogError."""
        copies, _ = self._copies(did, keeps)
        if isinstance(copies, Unknown):
            raise CatalogError(copies.why)
        return [Copy(did=copy.did, rse=copy.rse, pfn=copy.pfn, bytes=copy.bytes) for copy in copies]

    def _beside(self, leaving: list[Replica] | Unknown, successor: Did) -> Beside:
        if isinstance(leaving, Unknown):
            raise CatalogError(leaving.why)
        return self._sighting.beside(leaving, successor)

    def shared(self, did: Did, files: Sequence[Did]) -> Some | Unknown:
        """Files that something else has too."""
        count, first = 0, list[str]()
        for start in range(0, len(files), _AT_ONCE):
            page = files[start : start + _AT_ONCE]
            parents = asked(partial(self._catalog.parents, page))
            if isinstance(parents, Unknown):
                return parents
            for file in page:
                if file not in parents:
                    return Unknown(f"the catalog does not know {file} any more")
                for other in parents[file]:
                    if other != did:
                        count += 1
                        first += [f"{file.name} is in {other}"] if len(first) < NAMED else []
        return Some(count, first)

    def rules(self, did: Did) -> Sequence[RuleOn] | Unknown:
        """The replication rules on it, and on every container that it is in."""
        return asked(lambda: self._ruling.on(did))

    def _copies(self, did: Did, keeps: str | None) -> tuple[list[Replica] | Unknown, list[Replica] | Unknown]:
        """Those that leave, and those that stay, whether they can be read now or not."""
        all_ = asked(lambda: _flat(self._catalog.replicas([did], readable=False)))
        if keeps is None or isinstance(all_, Unknown):
            return all_, [] if keeps is None else all_
        staying = asked(lambda: _flat(self._catalog.replicas([did], keeps, readable=False)))
        if isinstance(staying, Unknown):
            return staying, staying
        stay = {(copy.did, copy.rse) for copy in staying}
        return [copy for copy in all_ if (copy.did, copy.rse) not in stay], staying


def contents_of(files: Iterable[FileEntry]) -> Contents:
    """Which files these are, in a word."""
    contents = Contents()
    for file in files:
        contents.take(FileFacts(file.did, file.bytes, file.adler32, file.md5))
    return contents


def same_life(one: Entry | None, other: Entry | None) -> bool:
    """Whether two looks saw the same thing: nothing was put in, taken out, opened or closed in between."""
    if one is None or other is None:
        return False
    return (one.did, *one[1:6]) == (other.did, *other[1:6])


def _without(files: Iterable[FileEntry], kept: Mapping[Did, Sequence[Replica]] | Unknown) -> Some | Unknown:
    """Files without a copy where copies are to stay. One that cannot be read now proves nothing."""
    if isinstance(kept, Unknown):
        return kept
    lack = [file.did.name for file in files if not kept.get(file.did)]
    return Some(len(lack), lack[:NAMED])


def _flat(copies: Mapping[Did, Sequence[Replica]]) -> list[Replica]:
    return [copy for did in sorted(copies) for copy in copies[did]]


def _by_rse(copies: Iterable[Replica]) -> list[CopiesAt]:
    files, bytes_ = Counter[str](), Counter[str]()
    for copy in copies:
        files[copy.rse] += 1
        bytes_[copy.rse] += copy.bytes
    return [CopiesAt(rse=rse, files=files[rse], bytes=bytes_[rse]) for rse in sorted(files)]


def _unmapped(maps: FileMaps, files: Sequence[FileEntry], theirs: Sequence[FileEntry] | Unknown) -> Some | Unknown:
    """Files that have gone into none of the successor's."""
    if isinstance(theirs, Unknown):
        return theirs
    return Some(*unmapped(maps, (file.did.name for file in files), (file.did.name for file in theirs)))


def _first(findings: Iterable[Finding]) -> tuple[int, Sequence[Finding]]:
    """How many there are, and the first ones; memory stays flat."""
    kept: list[Finding] = []
    count = 0
    for finding in findings:
        count += 1
        if count <= _TOLD:
            kept.append(finding)
    return count, kept
