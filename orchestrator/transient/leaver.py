"""Lets datasets leave when the time to take them back is over: proved once more first, and looked at before each call.

What is done here can be killed anywhere and called again: the store knows the copies that leave before anything is done
to them, every call to the catalog may be made twice, and it is over only when the catalog and the disks say so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Final

import structlog

from orchestrator.clock import Clock
from orchestrator.core.transient.calls import LookAgain, Settle
from orchestrator.core.transient.facts import Entry
from orchestrator.core.transient.releases import changes
from orchestrator.core.transient.steps import SHORTEST, next_calls
from orchestrator.rucio.port import Catalog, CatalogError
from orchestrator.store.port import Overtaken, StoreUnavailable
from orchestrator.store.transient_recalling import Recall
from orchestrator.store.transients import Transients
from orchestrator.transient.asking import Asker
from orchestrator.transient.calling import Caller
from orchestrator.transient.demanding import LEASE, Anew, Demands, Halt
from orchestrator.transient.looking import Looker
from orchestrator.transient.memory import Memory
from orchestrator.transient.objecting import Objector
from orchestrator.transient.proving import Prover
from orchestrator.transient.recalling import Recaller
from orchestrator.transient.regime import Regime, Regimes
from orchestrator.transient.settling import Settler
from orchestrator.transient.standing import Standings
from schemas.transient import Copy, Refusal, Refused, Release, Transient, TransientState

log = structlog.get_logger()

_WHO: Final = "leaver"

#: Datasets that are looked at in one step. Each is taken in hand when its turn comes.
_MOST: Final = 10

#: For so long nobody else takes one that is proved: the whole catalog may have to be gone through for that.
_PROVING: Final = timedelta(hours=1)

#: How often it is looked anew at one dataset at once, since it stands otherwise than a moment ago.
_TRIES: Final = 5


class Leaver:
    """Several may be at work: each dataset is one's at a time."""

    def __init__(
        self,
        catalog: Catalog,
        transients: Transients,
        regimes: Regimes,
        *,
        asker: Asker,
        prover: Prover,
        looker: Looker,
        settler: Settler,
        objector: Objector,
        recaller: Recaller,
        owner: str,
        clock: Clock,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """`owner` tells this leaver from any other."""
        self._transients = transients
        self._regimes = regimes
        self._asker = asker
        self._prover = prover
        self._looker = looker
        self._settler = settler
        self._recaller = recaller
        self._owner = owner
        self._clock = clock
        self._stopping = stopping
        self._memory = Memory()
        self._demands = Demands(
            transients,
            asker=asker,
            settler=settler,
            objector=objector,
            owner=owner,
            clock=clock,
            stopping=stopping,
        )
        self._standings = Standings(
            *(catalog, self._demands),
            looker=looker,
            settler=settler,
            objector=objector,
            memory=self._memory,
            clock=clock,
        )
        self._caller = Caller(
            *(catalog, transients, self._demands),
            settler=settler,
            objector=objector,
            memory=self._memory,
            owner=owner,
            clock=clock,
        )

    def step(self) -> int:
        """Do what is due now. Returns how many datasets were looked at. Raises StoreUnavailable."""
        looked = 0
        while looked < _MOST and not self._stopping():
            due = self._transients.claim_due(owner=self._owner, now=self._clock(), lease=LEASE, limit=1)
            if not due:
                break
            looked += 1
            self._one(due[0])
        return looked

    def _one(self, transient: Transient) -> None:
        """What nobody foresaw keeps no other dataset."""
        try:
            self._asker.demand_here(transient)
            if transient.state is TransientState.LEAVING:
                self._go_on(transient)
            else:
                self._begin(transient)
        except StoreUnavailable:
            raise
        except CatalogError as error:
            self._later(transient, f"the catalog: {' '.join(str(error).split())}")
        except Exception as error:
            log.exception("transient.defect", transient=transient.id, did=str(transient.did))
            self._later(transient, f"it cannot be looked at, see the log: {type(error).__name__}: {error}")

    # Released: proved once more.

    def _begin(self, transient: Transient) -> None:
        assert transient.release is not None
        if not self._transients.renew(transient.id, owner=self._owner, now=self._clock(), lease=_PROVING):
            return  # somebody else has it by now
        entry = self._asker.entry(transient.did)
        if entry is None or entry.born_at != transient.born_at:
            self._vanished(transient)
            return
        verdict = self._verdict(transient, transient.release, entry, self._regimes.now())
        if isinstance(verdict, Refused):
            self._refuse(transient, verdict.refusals)
            return
        copies = self._looker.leaving(transient.did, verdict.keeps)
        if _sums(copies) != {each.rse: (each.files, each.bytes) for each in verdict.frees}:
            self._later(transient, "its copies changed while they were looked at")
            return
        if self._transients.begin_leaving(transient.id, copies, owner=self._owner, who=_WHO, now=self._clock()):
            log.info("transient.leaving", transient=transient.id, did=str(transient.did), copies=len(copies))
            self._go_on(self._transients.get(transient.id))

    def _verdict(self, transient: Transient, release: Release, entry: Entry, regime: Regime) -> Release | Refused:
        """What is proved now: the same as when it was released, or a refusal."""
        policy = regime.get(transient.policy)
        if policy is None:
            return _against(transient, Refusal("policy", f"policy {transient.policy} is not in force any more"))
        verdict = self._prover.prove(policy, entry, regime)
        if isinstance(verdict, Release) and (moved := changes(release, verdict)):
            return _against(transient, *(Refusal("moved", each) for each in moved))
        return verdict

    def _refuse(self, transient: Transient, refusals: Sequence[Refusal]) -> None:
        if all(each.check == "unknown" for each in refusals):
            self._later(transient, "; ".join(each.text for each in refusals))
            return
        self._transients.refuse(transient.id, refusals, owner=self._owner, who=_WHO, now=self._clock())
        log.warning("transient.refused", transient=transient.id, did=str(transient.did), reason=refusals[0].text)

    def _vanished(self, transient: Transient) -> None:
        why = "the catalog has it no more, and nothing was done to it here"
        life = (transient.did, transient.born_at)
        self._transients.vanished([life], who=_WHO, why=why, now=self._clock())

    # Leaving.

    def _go_on(self, transient: Transient, tries: int = _TRIES) -> None:
        self._memory.begin(transient)
        recall = self._transients.recall_noted(transient.id)
        if recall is not None and self._bring_back(transient, recall):
            return
        try:
            remarks = list[str]()
            for call in next_calls(self._standings.of(transient), self._clock()):
                match call:
                    case LookAgain(after, why):
                        self._memory.looks[transient.id] += 1
                        self._look_again(transient, after, "; ".join([why, *remarks]))
                    case Settle():
                        self._settle(transient)
                    case _:
                        remarks += filter(None, [self._caller.make(call, transient)])
        except Anew as anew:
            if tries > 1:
                self._go_on(self._transients.get(transient.id), tries - 1)
            else:
                self._later(transient, f"nothing more is done: {anew}")
        except Halt as halt:
            self._later(transient, f"nothing more is done: {halt}")

    def _bring_back(self, transient: Transient, recall: Recall) -> bool:
        """Whoever called it back waits for us, or has broken off. False: nothing is left to be called back."""
        try:
            done = self._recaller.finish(transient, recall, owner=self._owner)
        except Overtaken:
            return True  # somebody else has it by now
        except CatalogError as error:
            self._later(transient, f"{recall.who} calls it back, which is not finished: {error}")
            return True
        if done:
            self._memory.forget(transient.id)
        return done

    def _settle(self, transient: Transient) -> None:
        fates = self._transients.fates(transient.id)
        files, bytes_ = fates.gone, fates.gone_bytes
        stay = f"; {fates.staying:,} stay" if fates.staying else ""
        why = f"{files:,} copies have left, {bytes_:,} bytes{stay}"
        done = self._transients.gone(
            transient.id, who=_WHO, why=why, now=self._clock(), freed_files=files, freed_bytes=bytes_
        )
        self._memory.forget(transient.id)
        self._settler.forget(transient.id)
        if done:
            log.info("transient.gone", transient=transient.id, did=str(transient.did), files=files, bytes=bytes_)

    def _later(self, transient: Transient, why: str) -> None:
        self._memory.looks[transient.id] += 1
        self._look_again(transient, _after(self._memory.looks[transient.id]), why)

    def _look_again(self, transient: Transient, after: timedelta, why: str) -> None:
        now = self._clock()
        self._transients.look_again(transient.id, now + after, why, owner=self._owner, now=now)


def _after(looks: int) -> timedelta:
    return SHORTEST * min(20, looks)


def _sums(copies: Sequence[Copy]) -> dict[str, tuple[int, int]]:
    found = dict[str, tuple[int, int]]()
    for copy in copies:
        files, bytes_ = found.get(copy.rse, (0, 0))
        found[copy.rse] = (files + 1, bytes_ + copy.bytes)
    return found


def _against(transient: Transient, *refusals: Refusal) -> Refused:
    return Refused(
        did=str(transient.did),
        born_at=transient.born_at,
        policy=transient.policy,
        version=transient.policy_version,
        run=transient.run,
        bytes=transient.bytes,
        files=transient.files,
        successor=transient.successor,
        refusals=refusals,
    )
