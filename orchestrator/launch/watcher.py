"""After the fourth stop: follow every launch to its end, and hand its outputs to the catalog."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Final

import structlog

from orchestrator.clock import Clock
from orchestrator.launch.outputs import Outputs
from orchestrator.launch.receipts import Tries, sent_of, tracked
from orchestrator.panda.port import (
    Engine,
    EngineError,
    EngineUnavailable,
    Progress,
    SubmissionState,
    UnknownSubmission,
)
from orchestrator.rucio.port import CatalogError, CatalogUnavailable
from orchestrator.store.launch_commands import LaunchCommands
from orchestrator.store.launches import Launches, Noted
from orchestrator.store.port import StoreUnavailable
from schemas.launch import Launch, LaunchId, LaunchState

log = structlog.get_logger()

_WHO: Final = "watcher"

_FOLLOWED: Final = frozenset({LaunchState.SUBMITTED, LaunchState.RUNNING})

#: Somebody is sending it, or was when muleteer ended.
_UNSURE: Final = frozenset({LaunchState.SUBMITTING, LaunchState.IN_DOUBT})

#: Sending takes seconds. After this long nobody is at it any more; and so often one in doubt is looked up.
_TOO_LONG: Final = timedelta(minutes=2)

#: So long nobody sends, however slow the engine is.
_GONE: Final = timedelta(minutes=30)

#: After a retry, an engine may show the end of before for so long.
_GRACE: Final = timedelta(minutes=15)

#: So long a catalog that is away is not asked again to take a launch's outputs.
_CATALOG_BACK: Final = timedelta(minutes=1)

#: A launch of which nothing new was heard for so long is stalled, unless the engine's site says otherwise.
STALLED_AFTER: Final = timedelta(hours=6)

_GOING_ON: Final = frozenset({SubmissionState.SUBMITTED, SubmissionState.RUNNING})


class Watcher:
    """Asks the engine about all launches that have not ended, at once."""

    def __init__(
        self,
        launches: Launches,
        commands: LaunchCommands,
        engine: Engine,
        outputs: Outputs,
        *,
        clock: Clock,
        stalled_after: timedelta = STALLED_AFTER,
    ) -> None:
        self._launches = launches
        self._commands = commands
        self._engine = engine
        self._outputs = outputs
        self._clock = clock
        self._stalled_after = stalled_after
        self._tries = Tries(launches)
        #: Launches that could not be looked at for a reason nobody foresaw, and of which that was said.
        self._odd: set[LaunchId] = set()
        #: Launches that were seen at work since they were retried: what ends after that is no end of before.
        self._going_again: set[LaunchId] = set()
        #: Launches of which it was said that they are stalled.
        self._stalled: set[LaunchId] = set()
        #: Whether the engine could not be asked the last time.
        self._away = False
        #: When those in doubt were last looked up.
        self._looked_up: dict[LaunchId, datetime] = {}
        #: When outputs can be handed over again to a catalog that was away.
        self._handed_over: dict[LaunchId, datetime] = {}

    def look(self) -> None:
        """Look at all launches of our engine once. One that cannot be looked at does not keep the others.

        Raises:
            StoreUnavailable: the next look does it.
        """
        active = self._launches.active(self._engine.identity)
        followed = [launch for launch in active if launch.state in _FOLLOWED and launch.reference is not None]
        self._going_again &= {launch.id for launch in followed}
        if followed:
            self._follow(followed)
        self._handed_over = {each.id: at for each in active if (at := self._handed_over.get(each.id)) is not None}
        unsure = [launch for launch in active if launch.state in _UNSURE]
        self._looked_up = {each.id: self._looked_up.get(each.id, each.updated_at) for each in unsure}
        for launch in unsure:
            if self._clock() - self._looked_up[launch.id] > _TOO_LONG:
                self._one(launch, partial(self._adopt, launch))
        self._say_stalled(active)

    def _follow(self, launches: Sequence[Launch]) -> None:
        began = self._clock()
        seen = self._ask(launches)
        retried = self._commands.retried_since(self._clock() - _GRACE)
        noted: list[Noted] = []
        for launch in launches:
            news = seen.get(launch.name)
            if isinstance(news, Progress):
                self._tries.note(launch.id, *news.receipts)
                asked = _is_being_retried(launch, retried, began)
                if asked:
                    self._going_again.discard(launch.id)
                elif launch.id in retried and news.state in _GOING_ON:
                    self._going_again.add(launch.id)
                if news.state in _GOING_ON or asked:
                    noted += _noted(launch, news)
                elif launch.id in self._going_again or not (launch.id in retried and news.steps == launch.steps):
                    self._one(launch, partial(self._conclude, launch, news))
            elif isinstance(news, UnknownSubmission):
                self._one(launch, partial(self._end, launch, LaunchState.FAILED, str(news), None))
            elif isinstance(news, EngineError):
                log.debug("launch.unseen", launch=launch.id, name=launch.name, reason=str(news))
        self._launches.note_progress(noted, who=_WHO, now=self._clock())

    def _ask(self, launches: Sequence[Launch]) -> Mapping[str, Progress | EngineError]:
        """What the engine says of them. If it stumbles over one, that one is searched for by halves and left out."""
        try:
            seen = self._engine.look([tracked(self._launches, launch, self._commands) for launch in launches])
        except EngineUnavailable as error:
            if not self._away:
                log.warning("engine.away", engine=self._engine.name, launches=len(launches), reason=str(error))
            self._away = True
            return {}
        except StoreUnavailable:
            raise
        except Exception:
            if len(launches) == 1:
                self._say_defect(launches[0])
                return {}
            half = len(launches) // 2
            return {**self._ask(launches[:half]), **self._ask(launches[half:])}
        if self._away:
            log.info("engine.back", engine=self._engine.name)
        self._away = False
        if len(launches) == 1:
            self._odd.discard(launches[0].id)
        return seen

    def _one(self, launch: Launch, do: partial[None]) -> None:
        """What goes wrong with one launch, foreseen or not, keeps no other."""
        try:
            do()
        except (EngineUnavailable, CatalogUnavailable) as error:
            log.debug("launch.unseen", launch=launch.id, name=launch.name, reason=str(error))
        except StoreUnavailable:
            raise
        except Exception:
            self._say_defect(launch)
        else:
            self._odd.discard(launch.id)

    def _say_defect(self, launch: Launch) -> None:
        if launch.id not in self._odd:
            log.exception("launch.defect", launch=launch.id, name=launch.name)
            self._odd.add(launch.id)

    def _adopt(self, launch: Launch) -> None:
        """Whoever was sending it is gone for good, perhaps; if the engine has it, it is followed all the same.

        If the engine has it not, and that can be believed, it is as before it was sent: a dispatch sends it once more,
        and what a person launched can be sent again, or killed. Otherwise it would be in doubt for ever.
        """
        now = self._looked_up[launch.id] = self._clock()
        reference = self._engine.find(launch.name, sent_of(self._launches, launch.id))
        if reference is not None:
            why = "found on the engine; whoever sent it did not say so"
            self._launches.advance(launch, LaunchState.SUBMITTED, who=_WHO, why=why, now=now, reference=reference)
        elif launch.state is LaunchState.IN_DOUBT and self._engine.settled(launch.updated_at, now):
            why = f"{self._engine.name} has nothing of that name"
            self._launches.advance(launch, LaunchState.PREPARED, who=_WHO, why=why, now=now)
        elif launch.state is LaunchState.SUBMITTING and now - launch.updated_at > _GONE:
            why = "nobody sends it any more, and nobody knows whether it was sent"
            self._launches.advance(launch, LaunchState.IN_DOUBT, who=_WHO, why=why, now=now)

    def _say_stalled(self, launches: Sequence[Launch]) -> None:
        """Once for each, until it moves again."""
        last = self._clock() - self._stalled_after
        stalled = {launch.id: launch for launch in launches if (launch.moved_at or launch.updated_at) < last}
        for id_ in stalled.keys() - self._stalled:
            launch = stalled[id_]
            since = (launch.moved_at or launch.updated_at).isoformat(timespec="seconds")
            log.warning(
                "launch.stalled", launch=id_, name=launch.name, since=since, next=f"muleteer launches show {id_}"
            )
        self._stalled = set(stalled)

    def _conclude(self, launch: Launch, progress: Progress) -> None:
        if progress.state is SubmissionState.FINISHED:
            self._finish(launch, progress)
        else:
            self._end(launch, LaunchState(progress.state), progress.reason, progress)

    def _finish(self, launch: Launch, progress: Progress) -> None:
        """Outputs first, state after: a crash between the two registers them again, which changes nothing."""
        if (again := self._handed_over.get(launch.id)) is not None and self._clock() < again:
            return
        try:
            why = self._outputs.hand_over(launch)
        except CatalogUnavailable:
            self._handed_over[launch.id] = self._clock() + _CATALOG_BACK
            raise
        except CatalogError as error:
            self._end(launch, LaunchState.PARTLY_FINISHED, f"its outputs were not registered: {error}", progress)
        else:
            self._end(launch, LaunchState.FINISHED, why, progress)

    def _end(self, launch: Launch, state: LaunchState, why: str | None, progress: Progress | None) -> None:
        ended = self._launches.advance(
            launch,
            state,
            who=_WHO,
            why=why,
            now=self._clock(),
            steps=launch.steps if progress is None else progress.steps,
        )
        self._going_again.discard(launch.id)
        if ended.state is state:
            tell = log.info if state is LaunchState.FINISHED else log.warning
            tell(f"launch.{state}", launch=launch.id, name=launch.name, reason=why)


def _is_being_retried(launch: Launch, retried: Mapping[LaunchId, datetime | None], began: datetime) -> bool:
    """Whether it is to be retried, or was since we began to look: what we saw may be the end of before."""
    at = retried.get(launch.id, began)
    return at is None or at > began


def _noted(launch: Launch, progress: Progress) -> Sequence[Noted]:
    """What is new; nothing if nothing is."""
    runs = progress.state is SubmissionState.RUNNING
    begun = runs and launch.state is LaunchState.SUBMITTED
    return [Noted(launch, progress.steps, runs)] if begun or progress.steps != launch.steps else []
