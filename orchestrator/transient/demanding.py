"""What is demanded just before something is done to a dataset that leaves, and cannot be undone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Final

import structlog

from orchestrator.clock import Clock
from orchestrator.core.transient.facts import Entry
from orchestrator.rucio.port import RuleLocked
from orchestrator.store.transients import Transients
from orchestrator.transient.asking import Asker
from orchestrator.transient.objecting import Objector
from orchestrator.transient.settling import Settler
from schemas.did import Did
from schemas.transient import Transient

log = structlog.get_logger()

#: For so long nobody else takes it, from each call on.
LEASE: Final = timedelta(minutes=10)


class Halt(Exception):
    """Nothing more may be done here. The text says why."""


class Anew(Exception):
    """It stands otherwise than when it was looked at: look again, for other calls are to be made. The text says how."""


class Demands:
    """Looked at afresh each time. Each method may raise CatalogError, Halt, Anew, StoreUnavailable."""

    def __init__(
        self,
        transients: Transients,
        *,
        asker: Asker,
        settler: Settler,
        objector: Objector,
        owner: str,
        clock: Clock,
        stopping: Callable[[], bool],
    ) -> None:
        self._transients = transients
        self._asker = asker
        self._settler = settler
        self._objector = objector
        self._owner = owner
        self._clock = clock
        self._stopping = stopping

    def here(self, transient: Transient) -> Entry | None:
        """The dataset, if it is there in this life of it."""
        entry = self._asker.entry(transient.did)
        return entry if entry is not None and entry.born_at == transient.born_at else None

    def met(self, transient: Transient, *, here: bool = False) -> None:
        """Nobody else works on it, nothing speaks against it, and its successor is there: one or two requests.

        Args:
            here: the dataset must be there, in this life of it: what is done next goes by its name.
        """
        self.nothing(self._objector.just_before(transient))
        if here and self.here(transient) is None:
            raise Anew("the catalog has it no more")
        if self._stopping():
            raise Halt("muleteer is stopped")
        self.claim(transient, goes_on=True)
        self._settler.forget(transient.id)  # what was saved may be marked anew

    def nothing(self, objections: Iterable[str]) -> None:
        """None of these is said."""
        for objection in objections:
            raise Anew(objection)

    def as_it_was(self, transient: Transient) -> None:
        """No rule keeps it, and nothing was put into it, since it was looked at: a handful of requests."""
        if (entry := self.here(transient)) is None:
            raise Anew("the catalog has it no more")
        listed = {copy.did for page in self._settler.pages(transient.id) for _, copy in page}
        self.nothing(self._objector.before_it_is_let_go(transient, entry, listed))

    def claim(self, transient: Transient, *, goes_on: bool = False) -> None:
        """It is ours still, and is so for a while. `goes_on`: a call follows that lets it leave."""
        if not self._is_ours(transient, goes_on=goes_on):
            raise Halt("somebody else works on it by now")

    def _is_ours(self, transient: Transient, *, goes_on: bool = False) -> bool:
        """Whether nobody has taken it since; then nobody does so for a while."""
        now = self._clock()
        return self._transients.renew(transient.id, owner=self._owner, now=now, lease=LEASE, goes_on=goes_on)

    def free(self, transient: Transient, files: Sequence[Did]) -> None:
        """Nothing else has these files, and where copies are to stay they are."""
        self.none(self._objector.against(transient, files))

    def none(self, found: Mapping[Did, str]) -> None:
        """There is no such file, of which it is said why."""
        for did, why in found.items():
            raise Anew(f"{did.name}: {why}")

    def undo_if_lost(self, transient: Transient, undo: Callable[[], object]) -> None:
        """The call took longer than the claim lasts, and somebody may have called it back meanwhile: it came late."""
        if self._is_ours(transient):
            return
        log.warning("transient.too_late", transient=transient.id, did=str(transient.did), next="the call is undone")
        if self.here(transient) is not None:
            with suppress(RuleLocked):
                undo()
        raise Halt("somebody else works on it by now")
