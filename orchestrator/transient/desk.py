"""Where people, the service and actors come to: everything that is done with transient datasets, in few words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from orchestrator.clock import Clock
from orchestrator.store.port import NotAllowed, Overtaken
from orchestrator.store.store import Store
from orchestrator.transient.leaver import Leaver
from orchestrator.transient.noticing import Noticer
from orchestrator.transient.recalling import Recaller
from orchestrator.transient.regime import CutOff, Regimes
from orchestrator.transient.releaser import Releaser
from orchestrator.transient.surveyor import Survey, Surveyor, Take, Tell
from orchestrator.transient.turn import Turn
from schemas.transient import Plan, PolicyVersion, Transient, TransientId


@dataclass(frozen=True, slots=True)
class Looked:
    """What a survey came to that was written down."""

    survey: Survey
    #: Datasets that others have taken out of the catalog.
    vanished: int
    #: Datasets that could leave at the last look, and that no policy lets leave any more.
    held: int
    #: What was released by itself.
    released: Sequence[Transient]
    #: Why something was not released by itself, though all was proved of it.
    refused: str | None = None
    #: Why it is not believed that datasets have vanished, so many are missing: a person looks.
    doubt: str | None = None


@dataclass(frozen=True, slots=True)
class Stepped:
    """What one step did."""

    #: Datasets that were due, and were looked at.
    due: int
    #: Events that were followed.
    events: int


class Desk:
    """Every method may raise CatalogError, StoreUnavailable, and NotUnderstood: what must stay."""

    def __init__(
        self,
        store: Store,
        catalog: str,
        regimes: Regimes,
        *,
        surveyor: Surveyor,
        releaser: Releaser,
        leaver: Leaver,
        recaller: Recaller,
        noticer: Noticer,
        owner: str,
        clock: Clock,
    ) -> None:
        """`catalog` is its address; `owner` tells this desk from those of other processes."""
        self._store = store
        self._catalog = catalog
        self._regimes = regimes
        self._surveyor = surveyor
        self._releaser = releaser
        self._leaver = leaver
        self._recaller = recaller
        self._noticer = noticer
        self._owner = owner
        self._clock = clock

    def plan(
        self,
        *,
        who: str,
        only: Sequence[str] | None = None,
        most: int | None = None,
        tell: Tell = lambda what, count: None,
        take: Take = lambda verdict: None,
    ) -> Plan:
        """What could be released now. Nothing is changed, nor written down.

        Args:
            only: names of policies.
            most: so many datasets are looked at closely; as many as the settings say unless it is said.
            tell: hears how far it is.
            take: is given each verdict as it is found, those that refuse too.

        Raises NotAllowed: there is no such policy in force.
        """
        regime = self._regimes.now(afresh=True)
        unknown = sorted(set(only or ()) - {each.name for each in regime.policies} - regime.broken.keys())
        if unknown:
            raise NotAllowed(
                f"no policy {', '.join(unknown)} is in force; `muleteer transient policies list` shows which are"
            )
        survey = self._surveyor.survey(regime, only=only, most=most or self._regimes.told.proofs, tell=tell, take=take)
        return Plan(
            made_at=survey.began_at,
            catalog=self._catalog,
            store=self._store.id,
            who=who,
            releases=tuple(survey.releases),
            policies=tuple(survey.summaries[name] for name in sorted(survey.summaries)),
            refused=dict(sorted(survey.refused.items())),
        )

    def release(self, plan: Plan, *, who: str, why: str) -> list[Transient]:
        """Carry out a plan: all of it, or nothing. In the catalog nothing is done before the time to undo is over.

        Raises Moved, NotAllowed: see `Releaser.release`.
        """
        return self._releaser.release(plan, who=who, why=why)

    def survey(
        self,
        *,
        who: str,
        vanished: int = 0,
        stopping: Callable[[], bool] = lambda: False,
        tell: Tell = lambda what, count: None,
        take: Take = lambda verdict: None,
    ) -> Looked:
        """Look at everything, write it down, and release what policies release by themselves.

        Args:
            vanished: so many datasets may be missing in the catalog, though these are most: others let them go.
        """
        regime = self._regimes.now(afresh=True, stopping=stopping)
        survey = self._surveyor.survey(
            regime, most=self._regimes.told.proofs, record=who, stopping=stopping, tell=tell, take=take
        )
        survey.strange = self._regimes.strange_caps()
        if stopping():
            return Looked(survey, 0, 0, ())
        try:
            swept = self._noticer.sweep(survey.began_at, regime, meant=vanished, stopping=stopping)
        except CutOff:
            return Looked(survey, 0, 0, ())
        if swept.doubt is not None or stopping():
            return Looked(survey, swept.vanished, swept.held, (), doubt=swept.doubt)
        try:
            released, refused = self._releaser.automatic(survey.releases)
        except NotAllowed as error:
            return Looked(survey, swept.vanished, swept.held, (), str(error))
        return Looked(survey, swept.vanished, swept.held, released, _few(refused))

    def survey_in_turn(
        self, every: timedelta, *, who: str, stopping: Callable[[], bool] = lambda: False
    ) -> Looked | None:
        """As `survey`; None if another process looks just now, or has begun to less than `every` ago.

        One that is cut off is made up for at once by whoever comes next.
        """
        turn = Turn(self._store.turns, _SURVEY, owner=self._owner, clock=self._clock)
        if not turn.begin(every):
            return None
        with turn:
            looked = self.survey(who=who, stopping=lambda: stopping() or turn.is_lost())
            if not stopping():
                turn.done = True
            return looked

    def step(self) -> Stepped:
        """Do what is due: let leave what was released, and follow events."""
        return Stepped(due=self.leave(), events=self.notice())

    def leave(self) -> int:
        """Let leave what was released and is due. Returns how many datasets were looked at."""
        return self._leaver.step()

    def notice(self) -> int:
        """Follow what the catalog has told since. Returns how many events that were."""
        return self._noticer.step()

    def confirm(self, name: str, matches: int, *, who: str, why: str) -> PolicyVersion:
        """Confirm that a policy may match so many datasets, which it does now: the catalog is gone through.

        Raises NotFound: there is no such policy in force; NotAllowed; Overtaken: it matches another number, or another
        version of it came into force meanwhile.
        """
        policies = self._store.transient_policies
        regime = self._regimes.now(afresh=True)
        if name in regime.broken:
            raise NotAllowed(f"nothing was confirmed: {name}: {regime.broken[name].refused}")
        policy = regime.get(name)
        if policy is not None and (found := regime.counted(policy).matches) != matches:
            raise Overtaken(
                f"nothing was confirmed: {name} matches {found:,} now, not {matches:,}; `muleteer transient plan` "
                f"shows which may leave"
            )
        counted = policy.version.version if policy is not None else None
        return policies.confirm(name, counted, matches, who=who, now=self._clock(), reason=why)

    def take_back(self, ids: Sequence[TransientId], *, who: str, why: str) -> list[Transient]:
        """Undo releases while nothing was done to them. Each is kept for a week: no policy releases it again at once.

        Raises NotFound, NotAllowed: all or nothing.
        """
        return self._store.transients.take_back(ids, who=who, why=why, now=self._clock())

    def recall(self, id_: TransientId, *, who: str, why: str) -> Transient:
        """Call back a dataset that is leaving, as far as it is there still. Raises NotFound, NotAllowed."""
        return self._recaller.recall(id_, who=who, why=why)


def _few(refused: Sequence[str]) -> str | None:
    """The first of them, and how many more there are."""
    if not refused:
        return None
    more = f"; and {len(refused) - _FEW:,} more" if len(refused) > _FEW else ""
    return "; ".join(refused[:_FEW]) + more


#: So many reasons are told one by one.
_FEW: Final = 3

#: What the turn at looking at everything is called.
_SURVEY: Final = "transient-survey"
