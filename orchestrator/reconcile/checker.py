"""Looks datasets, collections and runs up in the catalog, and says what is not as it should be."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from orchestrator.core.completeness import (
    CheckedDataset,
    CheckedFile,
    of_dataset,
    of_files,
    of_members,
    of_runs,
)
from orchestrator.rucio.port import Catalog, DatasetState, DidNotFound, FileEntry
from schemas.checks import Checks, DatasetChecks, Finding
from schemas.did import Did

#: Files whose copies are asked for with one call.
_AT_ONCE: Final = 1000

#: How deep containers may be nested; a catalog that has lost its senses could nest them for ever.
_DEEPEST: Final = 20


class Checker:
    """Checks what is in the catalog. Nothing is changed, and what is found comes as it is found.

    Every call may raise CatalogError in the middle of it: nothing is known then.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def dataset(self, did: Did, checks: DatasetChecks) -> Iterator[Finding]:
        """What does not hold of a dataset. One that there is not is a finding as well."""
        try:
            entry = self._catalog.dataset(did)
        except DidNotFound:
            yield Finding("exists", str(did), None, self._no_such("dataset", did))
            return
        if checks.about_files and not checks.filled and entry.length == 0:
            checks = checks.model_copy(update={"filled": True})  # of no file, anything is true
        yield from of_dataset(checks, CheckedDataset(did, entry.state is DatasetState.CLOSED, entry.length))
        if checks.about_files:
            yield from of_files(checks, did, self._files(did, checks.replicas))

    def collection(self, did: Did, checks: Checks) -> Iterator[Finding]:
        """What does not hold of a container, and of each dataset in it, at whatever depth."""
        try:
            members = self._datasets_in(did)
        except DidNotFound:
            yield Finding("exists", str(did), None, self._no_such("container", did))
            return
        if not members:
            yield Finding("filled", str(did), None, "there is no dataset in it")
        yield from of_members(checks, did, members)
        if checks.same_runs_as is not None:
            yield from self._same_runs(did, checks, members)
        for member in members:
            yield from self.dataset(member, checks)

    def run(self, number: int, scope: str, names: Sequence[str], checks: Checks) -> Iterator[Finding]:
        """What does not hold of the datasets of one run.

        Args:
            scope: a glob.
            names: globs of the datasets that are looked at, the run's number filled in.
        """
        found = sorted({entry.did for name in names for entry in self._catalog.datasets(scope, name)})
        which = f"{scope}:{' or '.join(names)}"
        if not found:
            yield Finding("exists", which, None, f"the catalog has no dataset of run {number}")
            return
        for finding in of_members(checks, found[0], found):
            yield finding._replace(did=which, text=finding.text.replace("of it", f"of run {number}"))
        for did in found:
            yield from self.dataset(did, checks)

    def any(self, did: Did, checks: Checks) -> Iterator[Finding]:
        """What does not hold of a dataset or a collection, whichever it is."""
        known = self._catalog.metadata([did]).get(did)
        if known is not None and known.get("did_type") == "CONTAINER":
            yield from self.collection(did, checks)
        else:
            if known is not None and (checks.members or checks.same_runs_as is not None):
                text = "it is a dataset: members and same_runs_as are about a container, which `dataset` names"
                yield Finding("members", str(did), None, text)
            yield from self.dataset(did, checks)

    def _no_such(self, wanted: str, did: Did) -> str:
        kind = self._catalog.metadata([did]).get(did, {}).get("did_type")
        if kind is None:
            return f"the catalog has no such {wanted}: never made, or erased"
        return f"it is a {str(kind).lower()}, and no {wanted}"

    def _same_runs(self, did: Did, checks: Checks, members: Sequence[Did]) -> Iterator[Finding]:
        try:
            others = self._datasets_in(Did.parse(checks.same_runs_as or ""))
        except (DidNotFound, ValueError):
            text = f"the catalog has no container {checks.same_runs_as} to compare it with"
            yield Finding("same_runs_as", str(did), None, text)
        else:
            yield from of_runs(checks, did, members, others)

    def _datasets_in(self, container: Did) -> Sequence[Did]:
        """Every dataset in a container and in those within it, once, by name. Raises DidNotFound."""
        found: set[Did] = set()
        seen = {container}
        level = self._catalog.children(container)
        for _ in range(_DEEPEST):
            known = self._catalog.metadata(level)
            inner = [did for did in level if known.get(did, {}).get("did_type") == "CONTAINER" and did not in seen]
            found.update(did for did in level if known.get(did, {}).get("did_type") == "DATASET")
            if not inner:
                break
            seen.update(inner)
            level = [child for each in inner for child in self._catalog.children(each)]
        return sorted(found)

    def _files(self, did: Did, rse: str | None) -> Iterator[CheckedFile]:
        files = self._catalog.files(did)
        if rse is None:
            yield from map(_checked, files)
            return
        for start in range(0, len(files), _AT_ONCE):
            page = files[start : start + _AT_ONCE]
            copies = self._catalog.replicas([file.did for file in page], rse)
            for file in page:
                yield _checked(file)._replace(copies=len(copies.get(file.did, ())))


def _checked(file: FileEntry) -> CheckedFile:
    lacks = [name for name in ("adler32", "md5", "guid") if getattr(file, name) is None]
    return CheckedFile(file.did, file.bytes, lacks)


def first_of(findings: Iterable[Finding], most: int) -> tuple[Sequence[Finding], int]:
    """The first findings, and how many there are in all; memory stays flat."""
    kept: list[Finding] = []
    count = 0
    for finding in findings:
        count += 1
        if count <= most:
            kept.append(finding)
    return kept, count
