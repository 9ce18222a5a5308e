"""Calls a dataset back that is leaving, as far as it is there still."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Final

import structlog

from orchestrator.clock import Clock
from orchestrator.core.transient.protection import STAYS, exactly
from orchestrator.rucio.port import Catalog, CatalogError, CatalogUnavailable
from orchestrator.store.port import NotAllowed, Overtaken
from orchestrator.store.store import Store
from orchestrator.transient.asking import Asker
from orchestrator.transient.settling import AT_ONCE, Settler
from schemas.did import Did
from schemas.transient import Transient, TransientId

log = structlog.get_logger()

#: For so long nobody else works on it, from each step on.
_LEASE: Final = timedelta(minutes=10)


class Recaller:
    """Undoes what can be undone: the catalog does not erase it, and rules of ours hold what is left of it."""

    def __init__(
        self, catalog: Catalog, store: Store, *, asker: Asker, settler: Settler, owner: str, clock: Clock
    ) -> None:
        self._catalog = catalog
        self._transients = store.transients
        self._keeps = store.transient_keeps
        self._asker = asker
        self._settler = settler
        self._owner = owner
        self._clock = clock

    def recall(self, id_: TransientId, *, who: str, why: str) -> Transient:
        """Call it back. May be called again if it failed half-way. It is kept for a week.

        Raises:
            NotFound; NotAllowed: it is not leaving, somebody works on it just now, or nothing is left of it.
            CatalogError, StoreUnavailable: nothing more is done to it, but call this again.
        """
        transient = self._transients.claim(id_, owner=self._owner, now=self._clock(), lease=_LEASE)
        try:
            entry = self._asker.entry(transient.did)
            if entry is None or entry.born_at != transient.born_at:
                raise NotAllowed(f"{transient.did} is not in the catalog any more: it cannot be called back")
            self._note(transient, who, why)
            said = "; ".join([why, *self._bring_back(transient)])
        except (NotAllowed, CatalogError) as error:
            self._let_go(transient, str(error))
            raise
        if not self._transients.recalled(id_, who=who, why=said, now=self._clock()):
            raise NotAllowed(f"{transient.did} has left meanwhile")
        self._settler.forget(id_)
        self._once_more(transient)
        log.info("transient.recalled", transient=id_, did=str(transient.did), reason=said)
        return self._transients.get(id_)

    def _once_more(self, transient: Transient) -> None:
        """A call of whoever let it leave may have been on its way for so long that their claim ran out."""
        try:
            self._catalog.set_lifetime(transient.did, None)
        except CatalogError as error:
            log.warning("transient.not_asked_again", did=str(transient.did), reason=str(error), next="look at it")

    def _note(self, transient: Transient, who: str, why: str) -> None:
        """First of all: from now on nobody goes on with it, whatever becomes of us."""
        now, which = self._clock(), exactly(transient.did)
        if not self._transients.note_recall(transient.id, owner=self._owner, who=who, why=why, now=now):
            raise Overtaken(f"somebody else works on {transient.did} just now: try again in a minute")
        until = now + STAYS
        if not any(
            keep.which == which and (keep.until is None or keep.until >= until) for keep in self._keeps.in_force(now)
        ):
            self._keeps.keep(which, who=who, why=f"recalled: {why}", now=now, until=until)

    def _bring_back(self, transient: Transient) -> Iterator[str]:
        """What is to be known of it, in words. Raises CatalogError."""
        assert transient.release is not None
        self._catalog.set_lifetime(transient.did, None)
        # what is marked may be deleted at any moment: first of all hold it, and only then count
        for rse in sorted({each.rse for each in transient.release.frees}):
            self._hold(transient, rse)
        self._settler.remains(transient, there=True)
        fates = self._transients.fates(transient.id)
        if fates.gone:
            yield f"{fates.gone:,} copies had left before, {fates.gone_bytes:,} bytes"
        for container in self._transients.containers_noted(transient.id):
            yield self._put_back(transient.did, container)

    def _hold(self, transient: Transient, rse: str) -> None:
        """With a rule on the dataset only if every file has its copy there: the catalog makes those that there are not.

        Else on each file.
        """
        files = [file.did for file in self._catalog.files(transient.did)]
        copies = self._catalog.replicas([transient.did], rse, readable=False)
        there = [did for did in files if copies.get(did)]
        held = there if len(there) < len(files) else [transient.did]
        for start in range(0, len(held), AT_ONCE):
            self._renew(transient)
            for did in held[start : start + AT_ONCE]:
                self._catalog.add_rule(did, rse)

    def _put_back(self, did: Did, container: Did) -> str:
        """Whoever runs the catalog may have done something else with the container meanwhile."""
        try:
            self._catalog.enclose(container, [did])
        except CatalogUnavailable:
            raise
        except CatalogError as error:
            return f"it was in {container}, and could not be put back: {error}"
        return f"it is in {container} again"

    def _renew(self, transient: Transient) -> None:
        if not self._transients.renew(transient.id, owner=self._owner, now=self._clock(), lease=_LEASE):
            raise Overtaken(f"somebody else works on {transient.did} just now: try again in a minute")

    def _let_go(self, transient: Transient, why: str) -> None:
        now = self._clock()
        self._transients.look_again(transient.id, now, f"not recalled: {why}", owner=self._owner, now=now)
