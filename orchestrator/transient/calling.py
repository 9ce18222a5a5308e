"""Makes the calls with which a dataset leaves. Before each it is looked once more whether it may be made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Final, assert_never

import structlog

from orchestrator.clock import Clock
from orchestrator.core.transient.facts import Entry
from orchestrator.core.transient.steps import (
    AddEndingRule,
    DetachFrom,
    EndRule,
    KeepAlive,
    LetStay,
    SetLifetime,
    SetTombstones,
)
from orchestrator.rucio.port import Catalog, NotPermitted, RuleLocked
from orchestrator.store.transients import Transients
from orchestrator.transient.asking import Asker
from orchestrator.transient.objecting import Objector
from orchestrator.transient.settling import Memory, Settler
from schemas.did import Did
from schemas.transient import Copy, Transient

log = structlog.get_logger()

#: For so long nobody else takes it, from each call on.
LEASE: Final = timedelta(minutes=10)

ToCatalog = EndRule | SetTombstones | AddEndingRule | DetachFrom | SetLifetime | KeepAlive | LetStay


class Halt(Exception):
    """Nothing more may be done here. The text says why."""


class Anew(Exception):
    """It stands otherwise than when it was looked at: look again, for other calls are to be made. The text says how."""


class Caller:
    """Each call may be made twice. Each method may raise CatalogError, Halt, Anew, StoreUnavailable."""

    def __init__(
        self,
        catalog: Catalog,
        transients: Transients,
        *,
        asker: Asker,
        settler: Settler,
        objector: Objector,
        memory: Memory,
        owner: str,
        clock: Clock,
        stopping: Callable[[], bool],
    ) -> None:
        self._catalog = catalog
        self._transients = transients
        self._asker = asker
        self._settler = settler
        self._objector = objector
        self._memory = memory
        self._owner = owner
        self._clock = clock
        self._stopping = stopping

    def make(self, call: ToCatalog, transient: Transient) -> None:
        match call:
            case EndRule(id_):
                self._end_rule(transient, id_)
            case SetTombstones(rse):
                self._mark(transient, rse)
            case AddEndingRule(rse, lifetime, on_files):
                self._add_ending_rule(transient, rse, lifetime, on_files=on_files)
            case DetachFrom(container):
                self._detach(transient, container)
            case SetLifetime():
                self._have_it_erased(transient)
            case KeepAlive():
                self._keep_alive(transient)
            case LetStay(rse, why):
                self._let_stay(transient, rse, why)
            case _:
                assert_never(call)

    def here(self, transient: Transient) -> Entry | None:
        """The dataset, if it is there in this life of it."""
        entry = self._asker.entry(transient.did)
        return entry if entry is not None and entry.born_at == transient.born_at else None

    # Demanded just before something is done that cannot be undone.

    def _demand(self, transient: Transient, *, here: bool = False) -> None:
        """Nobody else works on it, and nothing speaks against it.

        Args:
            here: the dataset must be there, in this life of it: what is done next goes by its name.
        """
        if (objection := next(iter(self._objector.at_once(transient)), None)) is not None:
            raise Anew(objection)
        if here and self.here(transient) is None:
            raise Anew("the catalog has it no more")
        if self._stopping():
            raise Halt("muleteer is stopped")
        self._demand_claim(transient)

    def _demand_claim(self, transient: Transient) -> None:
        if not self._is_ours(transient):
            raise Halt("somebody else works on it by now")

    def _is_ours(self, transient: Transient) -> bool:
        """Whether nobody has taken it since; then nobody does so for a while."""
        return self._transients.renew(transient.id, owner=self._owner, now=self._clock(), lease=LEASE)

    def _demand_free(self, transient: Transient, files: Sequence[Did]) -> None:
        """Nothing else has these files, and where copies are to stay they are."""
        self._demand_none(self._objector.against(transient, files))

    def _demand_none(self, found: Mapping[Did, str]) -> None:
        for did, why in found.items():
            raise Anew(f"{did.name}: {why}")

    def _undo_if_lost(self, transient: Transient, undo: Callable[[], object]) -> None:
        """The call took longer than the claim lasts, and somebody may have called it back meanwhile: it came late."""
        if self._is_ours(transient):
            return
        log.warning("transient.too_late", transient=transient.id, did=str(transient.did), next="the call is undone")
        if self.here(transient) is not None:
            with suppress(RuleLocked):
                undo()
        raise Halt("somebody else works on it by now")

    # The calls.

    def _end_rule(self, transient: Transient, id_: str) -> None:
        assert transient.release is not None
        self._demand(transient)
        try:
            self._catalog.set_rule_lifetime(id_, timedelta())
        except RuleLocked as error:
            raise Anew(str(error)) from None
        except NotPermitted as error:
            if not transient.release.erases:
                raise
            log.warning("transient.may_not_end", rule=id_, reason=str(error), next="it ends with the dataset")
        self._undo_if_lost(transient, lambda: self._catalog.set_rule_lifetime(id_, None))

    def _mark(self, transient: Transient, rse: str) -> None:
        """Raises Anew also if our account may not mark copies there: a rule has to end before the dataset is erased."""
        held = 0
        for page in self._settler.left(transient, rse):
            files = [copy.did for _, copy in page]
            self._demand_free(transient, files)
            self._demand(transient)
            try:
                held += len(self._catalog.set_tombstones(files, rse))
            except NotPermitted as error:
                log.warning(
                    "transient.may_not_mark", rse=rse, reason=str(error), next="a rule that ends is made instead"
                )
                self._memory.may_not_mark.add(rse)
                raise Anew(str(error)) from None
            self._save_what_must_stay(transient, [copy for _, copy in page])
        self._memory.held[transient.id, rse] = held

    def _save_what_must_stay(self, transient: Transient, marked: Sequence[Copy]) -> None:
        """Something may have come up between the last question and the mark: no catalog does both in one call."""
        found = self._objector.against(transient, [copy.did for copy in marked])
        for copy in (each for each in marked if each.did in found):
            self._settler.save(transient.id, copy)
            log.warning("transient.saved", did=str(copy.did), rse=copy.rse, reason=found[copy.did])
        self._demand_none(found)

    def _add_ending_rule(self, transient: Transient, rse: str, lifetime: timedelta, *, on_files: bool) -> None:
        """On the dataset only if every file has its copy there still: the catalog makes those that there are not."""
        assert transient.release is not None
        pages = [[copy.did for _, copy in page] for page in self._settler.left(transient, rse)]
        for files in pages:
            self._demand_free(transient, files)
            if on_files or sum(map(len, pages)) != transient.release.files:
                self._end_soon(transient, self._without_end(files, rse), rse, lifetime)
        if not on_files and sum(map(len, pages)) == transient.release.files:
            self._demand(transient, here=True)
            self._end_soon(transient, [transient.did], rse, lifetime)
        self._memory.ending[transient.id, rse] = self._clock()

    def _end_soon(self, transient: Transient, dids: Sequence[Did], rse: str, lifetime: timedelta) -> None:
        self._demand(transient)
        for did in dids:
            self._catalog.add_rule(did, rse, lifetime)

        def last() -> None:
            for did in dids:
                self._catalog.add_rule(did, rse)

        self._undo_if_lost(transient, last)

    def _without_end(self, files: Sequence[Did], rse: str) -> list[Did]:
        """Those without a rule of ours that ends: one that was made before must not be prolonged at each look."""
        account, rules = self._catalog.account, self._catalog.rules(files)
        ends = {
            rule.did
            for found in rules.values()
            for rule in found
            if (rule.account, rule.rse_expression) == (account, rse) and rule.expires_at is not None
        }
        return [did for did in files if did not in ends]

    def _detach(self, transient: Transient, container: Did) -> None:
        self._demand(transient, here=True)
        self._transients.note_container(transient.id, container, who=self._owner, now=self._clock())
        self._catalog.detach(container, [transient.did])
        self._undo_if_lost(transient, lambda: self._catalog.enclose(container, [transient.did]))

    def _have_it_erased(self, transient: Transient) -> None:
        self._demand(transient, here=True)
        self._catalog.set_lifetime(transient.did, timedelta())
        self._undo_if_lost(transient, lambda: self._catalog.set_lifetime(transient.did, None))

    def _keep_alive(self, transient: Transient) -> None:
        """Whatever speaks against going on does not speak against this."""
        self._demand_claim(transient)
        if self.here(transient) is not None:
            self._catalog.set_lifetime(transient.did, None)
            log.warning("transient.kept_alive", transient=transient.id, did=str(transient.did))

    def _let_stay(self, transient: Transient, rse: str, why: str) -> None:
        """Only what the catalog still refuses to mark."""
        for page in self._settler.left(transient, rse):
            files = [copy.did for _, copy in page]
            self._demand_free(transient, files)
            self._demand(transient)
            held = set(self._catalog.set_tombstones(files, rse))
            self._save_what_must_stay(transient, [copy for _, copy in page if copy.did not in held])
            fates = {number: f"stays: {why}" for number, copy in page if copy.did in held}
            self._transients.settle_copies(transient.id, fates)
