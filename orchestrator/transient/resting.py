"""Whether that is still there, and lasts, on which a dataset rests that leaves: its successor, and what it keeps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from orchestrator.core.transient.facts import Entry
from orchestrator.core.transient.lasting import going
from orchestrator.core.transient.words import ended, said
from orchestrator.rucio.port import Catalog
from orchestrator.store.store import Store
from orchestrator.transient.asking import Asker
from orchestrator.transient.looking import Findings, contents_of
from orchestrator.transient.ruling import Ruling
from orchestrator.transient.settling import AT_ONCE, Remains
from orchestrator.transient.sighting import Sighting
from schemas.did import Did
from schemas.transient import Release, TransientState

#: Where a successor stands on which nothing can rest.
_LEAVES: Final = frozenset({TransientState.RELEASED, TransientState.LEAVING, TransientState.GONE})


class Resting:
    """Looks afresh each time. Nothing is changed. Each method may raise CatalogError."""

    def __init__(
        self, catalog: Catalog, store: Store, *, asker: Asker, findings: Findings, sighting: Sighting, ruling: Ruling
    ) -> None:
        self._catalog = catalog
        self._store = store
        self._asker = asker
        self._findings = findings
        self._sighting = sighting
        self._ruling = ruling

    def successor_at_once(self, release: Release) -> Iterator[str]:
        """What is wrong with the successor itself: one request."""
        did = Did.parse(release.successor)
        return self._of_entry(release, did, self._asker.entry(did))

    def successor(self, release: Release, remains: Remains) -> Iterator[str]:
        """All that is wrong with the successor, by itself and beside the copies that are left."""
        did = Did.parse(release.successor)
        entry = self._asker.entry(did)
        yield from self._of_entry(release, did, entry)
        if entry is None or entry.born_at != release.successor_born_at:
            return
        if contents_of(self._catalog.files(did)).digest != release.successor_content:
            yield f"its successor {did} has other files since"
        yield from self._of_our_own(did, entry)
        require = self._store.transient_policies.version(release.policy, release.version).policy.successor.require
        places = self._ruling.places(did, require.replicas or "*")
        yield from (f"of its successor {did} {each}" for each in going(self._ruling.on(did), places))
        for finding in self._findings(did, require):
            yield f"its successor is not complete: {finding.file or finding.did}: {finding.text}"
            return
        if (same := self._sighting.beside(remains.copies, did).same).count:
            yield f"its successor lies on the same files: {same}"

    def _of_entry(self, release: Release, did: Did, entry: Entry | None) -> Iterator[str]:
        if entry is None or entry.born_at != release.successor_born_at:
            yield f"its successor {did} is gone"
            return
        if not entry.closed or entry.closed_at != release.successor_closed_at:
            yield f"its successor {did} was opened since"
        if entry.expires_at is not None:
            yield f"its successor {did} is to be erased itself"

    def _of_our_own(self, did: Did, entry: Entry) -> Iterator[str]:
        lives = self._store.transients.lives([did]).get(did, ())
        this = next((each for each in lives if each.born_at == entry.born_at), None)
        if this is not None and this.state in _LEAVES and not this.vanished:
            yield f"its successor {did} is {this.state} itself"
        newest = max(
            self._store.transient_readers.makers([did]).get(did, ()), key=lambda each: each.launch, default=None
        )
        if newest is not None and not ended(newest):
            yield f"{said(newest)} makes its successor {did}"

    def kept_at(self, release: Release, files: Sequence[Did]) -> dict[Did, frozenset[str]]:
        """At which of the RSEs where copies are to stay each file has one that can be read.

        Empty if no copies are to stay. A request for a thousand files.
        """
        found = dict[Did, frozenset[str]]()
        for start in range(0, len(files) if release.keeps is not None else 0, AT_ONCE):
            page = files[start : start + AT_ONCE]
            copies = self._catalog.replicas(page, release.keeps)
            found |= {did: frozenset(copy.rse for copy in copies.get(did, ())) for did in page}
        return found
