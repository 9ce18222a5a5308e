"""Calls a dataset back that is leaving, as far as it is there still."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Final

import structlog

from orchestrator.clock import Clock
from orchestrator.core.transient.protection import STAYS, exactly
from orchestrator.core.transient.steps import CLOCKS
from orchestrator.rucio.port import Catalog, CatalogError, CatalogUnavailable
from orchestrator.store.port import NotAllowed, Overtaken
from orchestrator.store.store import Store
from orchestrator.store.transient_recalling import Recall
from orchestrator.transient.asking import Asker
from orchestrator.transient.holding import Holder
from orchestrator.transient.settling import Settler
from schemas.did import Did
from schemas.transient import Transient, TransientId, TransientState

log = structlog.get_logger()

_WHO: Final = "recaller"

#: For so long nobody else works on it, from each step on.
_LEASE: Final = timedelta(minutes=10)

#: So often, and so many seconds apart, it is asked for that somebody else has in hand.
_TRIES, _PAUSE = 10, 0.5


class Recaller:
    """Undoes what can be undone: the catalog does not erase it, and rules of ours hold what is left of it.

    It takes effect whoever works on it: they make no further call once it is noted, and what is left is held before
    they let go. Only the change of its state waits for them.
    """

    def __init__(
        self,
        catalog: Catalog,
        store: Store,
        *,
        asker: Asker,
        settler: Settler,
        owner: str,
        clock: Clock,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self._catalog = catalog
        self._transients = store.transients
        self._keeps = store.transient_keeps
        self._asker = asker
        self._settler = settler
        self._holder = Holder(catalog, settler)
        self._owner = owner
        self._clock = clock
        self._pause = pause

    def recall(self, id_: TransientId, *, who: str, why: str) -> Transient:
        """Call it back: it is kept for a week. May be called again.

        If somebody else has it in hand for long, all that is left of it is held, and it is leaving still: whoever lets
        datasets leave finishes that when they look at it next.

        Raises:
            NotFound; NotAllowed: it is not leaving, or nothing is left of it.
            CatalogError, StoreUnavailable: nothing more is done to it, and whoever looks at it next goes on.
        """
        transient = self._transients.note_recall(id_, who=who, why=why, now=self._clock())
        if not self._take(id_):
            self._hold_at_once(transient)
            if not self._take_in_a_while(id_):
                self._hold_at_once(transient)  # a call may have been under way the first time
                return self._held(id_)
        return self._finished(id_)

    def finish(self, transient: Transient, recall: Recall, *, owner: str) -> bool:
        """For whoever has it in hand. False: it is not in the catalog any more, so it goes on leaving.

        Raises:
            Overtaken: somebody else has it in hand by now.
            CatalogError: call this again.
        """
        if not self._is_there(transient):
            return False
        said = "; ".join([recall.why, *self._bring_back(transient, owner)])
        self._keep(transient.did, recall)
        if self._transients.recalled(transient.id, who=recall.who, why=said, now=self._clock()):
            self._once_more(transient)
            log.info("transient.recalled", transient=transient.id, did=str(transient.did), reason=said)
        self._settler.forget(transient.id)
        return True

    # Whose it is.

    def _take(self, id_: TransientId) -> bool:
        """Whether it is ours now, or is not leaving any more."""
        try:
            self._transients.claim(id_, owner=self._owner, now=self._clock(), lease=_LEASE)
        except Overtaken:
            return False
        except NotAllowed:
            return True
        return True

    def _take_in_a_while(self, id_: TransientId) -> bool:
        for _ in range(_TRIES):
            self._pause(_PAUSE)
            if self._take(id_):
                return True
        return False

    def _finished(self, id_: TransientId) -> Transient:
        """It is ours, or somebody else has brought it to an end meanwhile."""
        recall = self._transients.recall_noted(id_)
        if recall is not None:
            self._finish_ours(self._transients.get(id_), recall)
        transient = self._transients.get(id_)
        if transient.state is not TransientState.HELD:
            self._let_go(transient, _no_more(transient.did))
            raise NotAllowed(_no_more(transient.did))
        return transient

    def _finish_ours(self, transient: Transient, recall: Recall) -> None:
        try:
            self.finish(transient, recall, owner=self._owner)
        except (Overtaken, CatalogError) as error:
            self._let_go(transient, f"{recall.who} calls it back, which is not finished: {error}")
            raise

    def _held(self, id_: TransientId) -> Transient:
        """As it stands, and what becomes of it."""
        more = "what is left of it is held; somebody has it in hand still, and it is called back when they let go"
        return self._transients.get(id_).model_copy(update={"reason": more})

    def _let_go(self, transient: Transient, why: str) -> None:
        now = self._clock()
        self._transients.look_again(transient.id, now, why, owner=self._owner, now=now)

    # What is done.

    def _is_there(self, transient: Transient) -> bool:
        """In this life of it. If it is not, nobody calls it back any more. Raises CatalogError: that cannot be told."""
        entry = self._asker.entry(transient.did)
        if entry is not None and entry.born_at == transient.born_at:
            return True  # also if the catalog goes by another name by now
        self._asker.demand_here(transient)
        self._transients.drop_recall(transient.id, who=_WHO, why=_no_more(transient.did), now=self._clock())
        return False

    def _hold_at_once(self, transient: Transient) -> None:
        """Without it being ours: rules may be made whoever else makes them. Raises NotAllowed: it is there no more."""
        if not self._is_there(transient):
            raise NotAllowed(_no_more(transient.did))
        self._hold(transient, lambda: None)

    def _hold(self, transient: Transient, before: Callable[[], object]) -> None:
        """What fails at one place keeps no other from being held. Raises CatalogError at the end then."""
        assert transient.release is not None
        each = self._may_be_erased(transient.did)  # asked before its lifetime is taken off
        failed: list[CatalogError] = []
        for rse in (None, *sorted({each.rse for each in transient.release.frees})):
            try:
                if rse is None:
                    self._catalog.set_lifetime(transient.did, None)
                else:
                    self._holder.hold(transient, rse, there=True, each=each, before=before)
            except CatalogError as error:
                failed.append(error)
        if failed:
            raise failed[0]

    def _may_be_erased(self, did: Did) -> bool:
        """The catalog may have it in hand already, and then it does not look at its lifetime again."""
        try:
            entry = self._asker.entry(did)
        except CatalogError:
            return True
        return entry is None or (entry.expires_at is not None and entry.expires_at <= self._clock() + CLOCKS)

    def _bring_back(self, transient: Transient, owner: str) -> Iterator[str]:
        """What is to be known of it, in words. Raises CatalogError, Overtaken."""
        # what is marked may be deleted at any moment: first of all hold it, and only then count
        self._hold(transient, lambda: self._renew(transient, owner))
        self._settler.remains(transient, there=True)
        fates = self._transients.fates(transient.id)
        if fates.gone:
            yield f"{fates.gone:,} copies had left before, {fates.gone_bytes:,} bytes"
        for container in self._transients.containers_noted(transient.id):
            yield self._put_back(transient.did, container)
        self._renew(transient, owner)

    def _put_back(self, did: Did, container: Did) -> str:
        """Whoever runs the catalog may have done something else with the container meanwhile."""
        try:
            self._catalog.enclose(container, [did])
        except CatalogUnavailable:
            raise
        except CatalogError as error:
            return f"it was in {container}, and could not be put back: {error}"
        return f"it is in {container} again"

    def _once_more(self, transient: Transient) -> None:
        """A call of whoever let it leave may have been on its way for so long that their claim ran out."""
        try:
            self._catalog.set_lifetime(transient.did, None)
        except CatalogError as error:
            log.warning("transient.not_asked_again", did=str(transient.did), reason=str(error), next="look at it")

    def _renew(self, transient: Transient, owner: str) -> None:
        if not self._transients.renew(transient.id, owner=owner, now=self._clock(), lease=_LEASE):
            raise Overtaken(f"somebody else works on {transient.did} just now: try again in a minute")

    def _keep(self, did: Did, recall: Recall) -> None:
        """So that no policy releases it at once."""
        now, which = self._clock(), exactly(did)
        until = now + STAYS
        if not any(keep.until is None or keep.until >= until for keep in self._keeps.saying(which, now)):
            self._keeps.keep(which, who=recall.who, why=f"recalled: {recall.why}", now=now, until=until)


def _no_more(did: Did) -> str:
    return f"{did} is not in the catalog any more: it cannot be called back"
