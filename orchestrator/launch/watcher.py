"""After the fourth stop: follow every launch to its end, and hand its outputs to the catalog."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import structlog

from orchestrator.clock import Clock
from orchestrator.launch.outputs import Outputs
from orchestrator.panda.port import (
    Engine,
    EngineUnavailable,
    Progress,
    Reference,
    SubmissionState,
    UnknownSubmission,
)
from orchestrator.rucio.port import CatalogError, CatalogUnavailable
from orchestrator.store.launches import Launches
from orchestrator.store.port import StoreUnavailable
from schemas.launch import Launch, LaunchId, LaunchState

log = structlog.get_logger()

_WHO: Final = "watcher"

_FOLLOWED: Final = frozenset({LaunchState.SUBMITTED, LaunchState.RUNNING})

#: Somebody is sending it, or was when muleteer ended.
_UNSURE: Final = frozenset({LaunchState.SUBMITTING, LaunchState.IN_DOUBT})

#: Sending takes seconds. After this long nobody is at it any more.
_TOO_LONG: Final = timedelta(minutes=2)


class Watcher:
    """Asks the engine about each launch that has not ended."""

    def __init__(self, launches: Launches, engine: Engine, outputs: Outputs, *, clock: Clock) -> None:
        self._launches = launches
        self._engine = engine
        self._outputs = outputs
        self._clock = clock
        #: Launches that could not be looked at for a reason nobody foresaw, and of which that was said.
        self._odd: set[LaunchId] = set()

    def look(self) -> None:
        """Look at every launch of our engine once. One that cannot be looked at does not keep the others.

        Raises:
            StoreUnavailable: the next look does it.
        """
        for launch in self._launches.active():
            if launch.engine == self._engine.identity:
                try:
                    self._look_at(launch)
                except (EngineUnavailable, CatalogUnavailable) as error:
                    log.debug("launch.unseen", launch=launch.id, name=launch.name, reason=str(error))
                except StoreUnavailable:
                    raise
                except Exception:
                    self._say_defect(launch)
                else:
                    self._odd.discard(launch.id)

    def _look_at(self, launch: Launch) -> None:
        if launch.state in _FOLLOWED and launch.reference is not None:
            try:
                self._follow(launch, Reference(launch.reference))
            except UnknownSubmission as error:
                self._end(launch, LaunchState.FAILED, str(error), None)
        elif launch.state in _UNSURE and self._clock() - launch.updated_at > _TOO_LONG:
            self._adopt(launch)

    def _adopt(self, launch: Launch) -> None:
        """Whoever was sending it is gone for good, perhaps; if the engine has it, it is followed all the same."""
        reference = self._engine.find(launch.name)
        if reference is not None:
            why = "found on the engine; whoever sent it did not say so"
            self._launches.advance(
                launch, LaunchState.SUBMITTED, who=_WHO, why=why, now=self._clock(), reference=reference
            )

    def _say_defect(self, launch: Launch) -> None:
        if launch.id not in self._odd:
            log.exception("launch.defect", launch=launch.id, name=launch.name)
            self._odd.add(launch.id)

    def _follow(self, launch: Launch, reference: Reference) -> None:
        progress = self._engine.progress(reference)
        match progress.state:
            case SubmissionState.SUBMITTED | SubmissionState.RUNNING:
                self._note(launch, progress)
            case SubmissionState.FINISHED:
                self._finish(launch, progress)
            case SubmissionState.PARTLY_FINISHED | SubmissionState.FAILED | SubmissionState.KILLED:
                self._end(launch, LaunchState(progress.state), progress.reason, progress)

    def _note(self, launch: Launch, progress: Progress) -> None:
        if progress.state is SubmissionState.RUNNING and launch.state is LaunchState.SUBMITTED:
            self._launches.advance(
                launch, LaunchState.RUNNING, who=_WHO, why=None, now=self._clock(), steps=progress.steps
            )
        elif progress.steps != launch.steps:
            self._launches.note_steps(launch, progress.steps, now=self._clock())

    def _finish(self, launch: Launch, progress: Progress) -> None:
        """Outputs first, state after: a crash between the two registers them again, which changes nothing."""
        try:
            why = self._outputs.hand_over(launch)
        except CatalogUnavailable:
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
        if ended.state is state:
            tell = log.info if state is LaunchState.FINISHED else log.warning
            tell(f"launch.{state}", launch=launch.id, name=launch.name, reason=why)
