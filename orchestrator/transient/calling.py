"""Makes the calls with which a dataset leaves, each only after what it demands was looked at once more."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import assert_never

import structlog

from orchestrator.clock import Clock
from orchestrator.core.transient.calls import (
    AddEndingRule,
    DetachFrom,
    EndRule,
    GiveLife,
    Hold,
    KeepAlive,
    Keeping,
    LetStay,
    SetLifetime,
    SetTombstones,
)
from orchestrator.rucio.port import Catalog, NotPermitted, RuleLocked
from orchestrator.store.transients import Transients
from orchestrator.transient.demanding import Anew, Demands, Halt
from orchestrator.transient.holding import Holder
from orchestrator.transient.keeping import Keeper
from orchestrator.transient.memory import Memory
from orchestrator.transient.objecting import Objector
from orchestrator.transient.on_files import rules_on
from orchestrator.transient.settling import Settler
from schemas.did import Did
from schemas.transient import Copy, Transient

log = structlog.get_logger()

ToCatalog = EndRule | SetTombstones | AddEndingRule | DetachFrom | SetLifetime | LetStay | Keeping


class Caller:
    """Each call may be made twice. Each method may raise CatalogError, Halt, Anew, StoreUnavailable."""

    def __init__(
        self,
        catalog: Catalog,
        transients: Transients,
        demands: Demands,
        *,
        settler: Settler,
        objector: Objector,
        memory: Memory,
        owner: str,
        clock: Clock,
    ) -> None:
        self._catalog = catalog
        self._transients = transients
        self._demands = demands
        self._settler = settler
        self._objector = objector
        self._memory = memory
        self._owner = owner
        self._clock = clock
        self._keeper = Keeper(
            *(catalog, Holder(catalog, settler)),
            memory=memory,
            is_here=lambda transient: demands.here(transient) is not None,
            before=demands.claim,
        )

    def make(self, call: ToCatalog, transient: Transient) -> str | None:
        """Returns what is to be said of it.

        Raises Anew also if it was called back while the call was on its way: that is to be finished at once.
        """
        said = self._make(call, transient)
        if self._transients.recall_noted(transient.id) is not None:
            raise Anew("it is called back")
        return said

    def _make(self, call: ToCatalog, transient: Transient) -> str | None:
        match call:
            case KeepAlive() | GiveLife() | Hold():
                return self._keeper.make(call, transient)
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
            case LetStay():
                self._let_stay(transient, call)
            case _:
                assert_never(call)
        return None

    # The calls.

    def _end_rule(self, transient: Transient, id_: str) -> None:
        assert transient.release is not None
        try:
            self._end(transient, id_)
        except NotPermitted as error:
            if not transient.release.erases:
                raise Halt(f"end replication rule {id_} by hand, or let our account do so: {error}") from None
            log.warning("transient.may_not_end", rule=id_, reason=str(error), next="it ends with the dataset")

    def _end(self, transient: Transient, id_: str) -> None:
        """Raises NotPermitted: our account may not."""
        self._demands.met(transient)
        try:
            self._catalog.set_rule_lifetime(id_, timedelta())
        except RuleLocked as error:
            raise Anew(str(error)) from None
        self._demands.undo_if_lost(transient, lambda: self._catalog.set_rule_lifetime(id_, None))

    def _mark(self, transient: Transient, rse: str) -> None:
        """Raises Anew also if our account may not mark copies there: a rule has to end before the dataset is erased."""
        held, known = 0, self._memory.held.get((transient.id, rse), 0)
        for page in self._settler.left(transient, rse):
            files = [copy.did for _, copy in page]
            self._demands.free(transient, files)
            self._demands.met(transient)
            try:
                refused = self._catalog.set_tombstones(files, rse)
            except NotPermitted as error:
                log.warning(
                    "transient.may_not_mark", rse=rse, reason=str(error), next="a rule that ends is made instead"
                )
                self._memory.may_not_mark.add(rse)
                raise Anew(str(error)) from None
            held += len(refused) - len(self._end_on_files(transient, refused, rse))
            self._save_what_must_stay(transient, [copy for _, copy in page])
            # by one of ours that has not ended yet, or by one that has just come
            if held > known and self._demands.here(transient) is not None:
                self._demands.nothing(self._objector.of_rules(transient))
                known = held
        self._memory.held[transient.id, rse] = held

    def _end_on_files(self, transient: Transient, held: Sequence[Did], rse: str) -> set[Did]:
        """Rules of ours on single files, made when something spoke against it. Returns the files with one that ends.

        It is asked first that nothing else has these files: what others have stays, and so do the rules on it.
        """
        rules = rules_on(self._catalog, held, rse)
        end = {rule.did for rule in rules.ours}
        for rule in rules.lasting(self._clock()):
            try:
                self._end(transient, rule.id)
            except NotPermitted as error:
                log.warning("transient.may_not_end", rule=rule.id, reason=str(error), next="the copy stays")
                end.discard(rule.did)
        return end

    def _save_what_must_stay(self, transient: Transient, marked: Sequence[Copy]) -> None:
        """Something may have come up between the last question and the mark: no catalog does both in one call."""
        found = self._objector.against(transient, [copy.did for copy in marked])
        for copy in (each for each in marked if each.did in found):
            self._settler.save(transient, copy)
            log.warning("transient.saved", did=str(copy.did), rse=copy.rse, reason=found[copy.did])
        self._demands.none(found)

    def _add_ending_rule(self, transient: Transient, rse: str, lifetime: timedelta, *, on_files: bool) -> None:
        """On the dataset only if every file has its copy there still: the catalog makes those that there are not."""
        assert transient.release is not None
        pages = [[copy.did for _, copy in page] for page in self._settler.left(transient, rse)]
        whole, held = not on_files and sum(map(len, pages)) == transient.release.files, 0
        for files in pages:
            self._demands.free(transient, files)
            rules = rules_on(self._catalog, files, rse)
            held += len(rules.theirs)
            if not whole:
                # what others hold does not leave; and one that was made before must not be prolonged at each look
                wanted = _without(files, rules.theirs | rules.ending())
                held += len(self._end_soon(transient, wanted, rse, lifetime))
        if whole:
            self._demands.met(transient, here=True)
            if self._end_soon(transient, [transient.did], rse, lifetime):
                raise Halt(f"end our replication rule on it at {rse} by hand, or let our account do so")
        self._memory.ending[transient.id, rse] = self._clock()
        self._memory.held[transient.id, rse] = held

    def _end_soon(self, transient: Transient, dids: Sequence[Did], rse: str, lifetime: timedelta) -> list[Did]:
        """Returns those with a rule of ours without an end, made to hold them, that our account may not change."""
        self._demands.met(transient)
        held: list[Did] = []
        for did in dids:
            if self._transients.recall_noted(transient.id) is not None:
                raise Anew("it is called back")  # whoever does that has made rules that last
            try:
                self._catalog.add_rule(did, rse, lifetime)
            except NotPermitted as error:
                log.warning("transient.may_not_end", did=str(did), rse=rse, reason=str(error), next="the copy stays")
                held.append(did)

        def last() -> None:
            for did in dids:
                self._catalog.add_rule(did, rse)

        self._demands.undo_if_lost(transient, last)
        return held

    def _detach(self, transient: Transient, container: Did) -> None:
        self._demands.as_it_was(transient)
        self._demands.met(transient, here=True)
        self._transients.note_container(transient.id, container, who=self._owner, now=self._clock())
        self._catalog.detach(container, [transient.did])
        self._demands.undo_if_lost(transient, lambda: self._catalog.enclose(container, [transient.did]))

    def _have_it_erased(self, transient: Transient) -> None:
        self._demands.as_it_was(transient)
        self._demands.met(transient, here=True)
        self._catalog.set_lifetime(transient.did, timedelta())
        self._demands.undo_if_lost(transient, lambda: self._catalog.set_lifetime(transient.did, None))

    def _let_stay(self, transient: Transient, call: LetStay) -> None:
        """Only what is held still, and not by a rule of ours that we may end."""
        for page in self._settler.left(transient, call.rse):
            files = [copy.did for _, copy in page]
            self._demands.free(transient, files)
            self._demands.met(transient)
            held = self._held(transient, files, call)
            self._save_what_must_stay(transient, [copy for _, copy in page if copy.did not in held])
            fates = {number: f"stays: {call.why}" for number, copy in page if copy.did in held}
            self._transients.settle_copies(transient.id, fates)

    def _held(self, transient: Transient, files: Sequence[Did], call: LetStay) -> Collection[Did]:
        """What the catalog refuses to mark; or, where we may not mark, what others hold."""
        if call.rse not in self._memory.may_not_mark:
            refused = self._catalog.set_tombstones(files, call.rse)
            return set(refused) - self._end_on_files(transient, refused, call.rse)
        if call.every:
            return files
        rules = rules_on(self._catalog, files, call.rse)
        return rules.theirs | {rule.did for rule in rules.lasting(self._clock())}


def _without(files: Sequence[Did], others: Collection[Did]) -> list[Did]:
    return [did for did in files if did not in others]
