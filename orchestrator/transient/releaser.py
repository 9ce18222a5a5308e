"""Releases what was planned, exactly that; and what policies release by themselves, within the caps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Final, NamedTuple

import structlog

from orchestrator.clock import Clock
from orchestrator.core.actor import Done, GiveUp, Outcome, Retry
from orchestrator.core.transient.caps import Spent, no_room, spent_on, within
from orchestrator.core.transient.facts import Unknown
from orchestrator.core.transient.releases import apart, changes, is_over
from orchestrator.store.port import NotAllowed, Stopped
from orchestrator.store.transients import Transients
from orchestrator.transient.asking import Asker, asked
from orchestrator.transient.proving import Prover
from orchestrator.transient.regime import Regime, Regimes
from schemas.did import Did
from schemas.transient import Plan, Refused, Release, Transient

log = structlog.get_logger()

#: Caps are counted over so long.
DAY: Final = timedelta(days=1)

#: Who releases what a policy releases by itself.
AUTOMATIC: Final = "policy"

#: Differences that are told one by one.
_TOLD: Final = 20


class Moved(NotAllowed):
    """What was planned is not what would be released now. Nothing is released."""

    def __init__(self, differences: Sequence[str]) -> None:
        """`differences` are of one thing each, in words."""
        self.differences = differences
        told = "\n".join(f"  {each}" for each in differences[:_TOLD])
        more = f"\n  and {len(differences) - _TOLD:,} more" if len(differences) > _TOLD else ""
        super().__init__(f"the plan does not hold any more, and nothing is released; make a new one:\n{told}{more}")


class ByThemselves(NamedTuple):
    """What policies have released by themselves."""

    released: Sequence[Transient] = ()
    #: Why others were not released, though something could have been; one text each.
    refused: Sequence[str] = ()


class Releaser:
    """Takes releases into the store. In the catalog nothing is done."""

    def __init__(
        self,
        asker: Asker,
        prover: Prover,
        transients: Transients,
        regimes: Regimes,
        *,
        catalog: str,
        store: str,
        clock: Clock,
    ) -> None:
        """`catalog` is its address, and `store` the store's id: a plan of others is not carried out here."""
        self._asker = asker
        self._prover = prover
        self._transients = transients
        self._regimes = regimes
        self._catalog = catalog
        self._store = store
        self._clock = clock
        #: What those came to that were proved and found no room: they are proved again once there is room.
        self._wanted: dict[Did, Spent] = {}

    def release(self, plan: Plan, *, who: str, why: str) -> list[Transient]:
        """Release all that is planned, each proved once more, or nothing.

        Raises:
            Moved: something is not as it was planned.
            NotAllowed: a cap would be passed, releases stand still, something is released already.
            CatalogError, StoreUnavailable; NotUnderstood: what must stay.
        """
        regime = self._regimes.now()
        elsewhere = list(self._of_elsewhere(plan))
        if elsewhere:
            raise Moved(elsewhere)
        found: list[Release] = []
        differences: list[str] = []
        for planned in plan.releases:
            verdict = self._again(planned, regime)
            if isinstance(verdict, Release) and not (moved := changes(planned, verdict)):
                found.append(verdict)
            elif isinstance(verdict, Release):
                differences += [f"{planned.did}: {each}" for each in moved]
            else:
                differences += [f"{planned.did}: {verdict}"]
        _, beside = apart(found)
        differences += [f"{release.did}: {refusal.text}" for release, refusal in beside]
        if differences:
            raise Moved(differences)
        return self._take(found, regime, who=who, why=why)

    def release_one(self, did: Did, *, who: str, why: str) -> Outcome:
        """Release one dataset, if all is proved in this moment.

        Returns Done; Retry with what stands in the way; GiveUp if no policy matches it, or no day has room for it.

        Raises NotAllowed: a cap would be passed, or releases stand still; CatalogError, StoreUnavailable,
        NotUnderstood.
        """
        regime = self._regimes.now()
        entry = self._asker.entry(did)
        if entry is None:
            return GiveUp(f"the catalog does not have {did}")
        matching = regime.matching(did)
        if not matching:
            return GiveUp(f"no policy of transient datasets matches {did}")
        for life in self._transients.lives([did]).get(did, ()):
            if life.born_at == entry.born_at and is_over(life) is not None:
                return Done(f"{did} is {life.state} already")
        if (full := self._no_room(self._wanted.get(did))) is not None:
            raise NotAllowed(full)
        self._wanted.pop(did, None)
        verdict = self._prover.prove(matching[0], entry, regime)
        if isinstance(verdict, Refused):
            return Retry(_words(verdict))
        wanted = spent_on([verdict])
        if (never := no_room(self._regimes.caps(), wanted=wanted)) is not None:
            return GiveUp(f"no day has room for {did}: {never}")
        if (full := self._no_room(wanted)) is not None:
            self._wanted[did] = wanted
            raise NotAllowed(full)
        (released,) = self._take([verdict], regime, who=who, why=why)
        return Done(f"{did} is released, and leaves {released.leaves_at:%Y-%m-%d %H:%M} UTC")

    def _no_room(self, wanted: Spent | None) -> str | None:
        """Which cap it would pass now, in words; anything at all, if it is not known what it comes to."""
        caps, spent = self._regimes.caps(), self._transients.released_since(self._clock() - DAY)
        return no_room(caps, spent) if wanted is None else no_room(caps, spent, wanted)

    def automatic(self, releases: Sequence[Release]) -> ByThemselves:
        """Release, of what a survey has just proved, what policies release by themselves: as much as the caps let.

        All together; if that is refused, one by one: what is odd about one keeps no other.

        Raises Stopped: releases stand still; StoreUnavailable.
        """
        regime = self._regimes.now()
        wanted = sorted((each for each in releases if _is_automatic(each, regime)), key=lambda each: each.due_at)
        together, _ = apart(wanted)
        fit, rest = within(self._regimes.caps(), self._transients.released_since(self._clock() - DAY), together)
        if rest:
            log.info("transient.capped", releases=len(fit), wait=len(rest))
        try:
            return ByThemselves(self._by_itself(fit, regime))
        except Stopped:
            raise
        except NotAllowed as error:
            return self._one_by_one(fit, regime) if len(fit) > 1 else ByThemselves(refused=[str(error)])

    def _one_by_one(self, releases: Sequence[Release], regime: Regime) -> ByThemselves:
        released, refused = list[Transient](), list[str]()
        for release in releases:
            try:
                released += self._by_itself([release], regime)
            except Stopped:
                raise
            except NotAllowed as error:
                refused.append(str(error))
        return ByThemselves(released, refused)

    def _by_itself(self, releases: Sequence[Release], regime: Regime) -> list[Transient]:
        return self._take(releases, regime, who=AUTOMATIC, why="its policy releases by itself") if releases else []

    def _take(self, releases: Sequence[Release], regime: Regime, *, who: str, why: str) -> list[Transient]:
        undo = {policy.name: self._regimes.undo(policy.version) for policy in regime.policies}
        wanted = [(release, undo[release.policy]) for release in releases]
        taken = self._transients.release(
            *(wanted, self._regimes.caps()), who=who, why=why, now=self._clock(), catalog=self._asker.identity
        )
        log.info("transient.released", datasets=len(taken), bytes=sum(each.freed for each in releases), who=who)
        return taken

    def _of_elsewhere(self, plan: Plan) -> Iterator[str]:
        if plan.catalog != self._catalog:
            yield f"it was made of the catalog {plan.catalog}, and this is {self._catalog}"
        if plan.store != self._store:
            yield f"it was made by the store {plan.store}, and this is {self._store}"
        if not plan.releases:
            yield "it releases nothing"

    def _again(self, planned: Release, regime: Regime) -> Release | str:
        """What is proved now, or why it is not."""
        policy = regime.get(planned.policy)
        if policy is None:
            return f"policy {planned.policy} is not in force any more"
        try:
            did = Did.parse(planned.did)
        except ValueError as error:
            return str(error)
        entry = asked(lambda: self._asker.entry(did))
        if isinstance(entry, Unknown):
            return f"the catalog cannot be asked: {entry.why}"
        if entry is None:
            return "the catalog does not have it any more"
        verdict = self._prover.prove(policy, entry, regime)
        return _words(verdict) if isinstance(verdict, Refused) else verdict


def _is_automatic(release: Release, regime: Regime) -> bool:
    """Whether the policy releases by itself, and is the one under which it was proved."""
    policy = regime.get(release.policy)
    return policy is not None and policy.policy.automatic and policy.version.version == release.version


def _words(refused: Refused) -> str:
    return "; ".join(f"{each.check}: {each.text}" for each in refused.refusals)
