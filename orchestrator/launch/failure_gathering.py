"""Gathers the failed jobs of many launches: from their engine, or where it is not reached from what is written down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Final, NamedTuple

from orchestrator.core.failure_groups import Failed
from orchestrator.core.failures import failure_of_launch, failures_of_steps
from orchestrator.launch.receipts import tracked
from orchestrator.panda.port import Engine, EngineRefused, EngineUnavailable, UnknownSubmission
from orchestrator.store.launches import Launches
from schemas.failure import FailedJobs
from schemas.launch import Launch

#: Launches that are asked about at the same time.
_AT_ONCE: Final = 8


class Gathered(NamedTuple):
    """Failed jobs, and what is not among them, in words."""

    failed: Sequence[Failed]
    remarks: Sequence[str]


class Gatherer:
    """Asks an engine why launches failed.

    Args:
        engine: the one that is reached from here.
    """

    def __init__(self, launches: Launches, engine: Engine) -> None:
        self._launches = launches
        self._engine = engine
        #: Set once the engine did not answer: the others would fare no better.
        self._away = Event()
        self._why = ""

    def gather(self, wanted: Sequence[Launch]) -> Gathered:
        """The failed jobs of these launches. Of those that the engine does not tell of, what is written down."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            told = list(pool.map(self._of_one, wanted))
        failed = [Failed(launch, job) for launch, each in zip(wanted, told, strict=True) for job in each.jobs]
        remarks = [
            f"launch {launch.id}: {remark}"
            for launch, each in zip(wanted, told, strict=True)
            for remark in each.remarks
        ]
        return Gathered(failed, [*self._not_reached(wanted), *remarks])

    def _of_one(self, launch: Launch) -> FailedJobs:
        unsent = failure_of_launch(launch)
        if unsent is not None:
            return FailedJobs(jobs=(unsent,))
        if launch.engine != self._engine.identity or launch.reference is None or self._away.is_set():
            return _written_down(launch)
        try:
            return self._engine.failures(tracked(self._launches, launch))
        except EngineUnavailable as error:
            self._why = str(error)
            self._away.set()
            return _written_down(launch)
        except (EngineRefused, UnknownSubmission) as error:
            return _written_down(launch, str(error))

    def _not_reached(self, wanted: Sequence[Launch]) -> list[str]:
        """Engines that were not asked, once each, and what stands in for their answers."""
        instead = "it is told what was written down of their steps, without single jobs"
        others = Counter(each.engine for each in wanted if each.reference and each.engine != self._engine.identity)
        remarks = [
            f"{_many(count)} on {name}, which is not reached from here: {instead}" for name, count in others.items()
        ]
        if self._away.is_set():
            remarks.append(f"{self._engine.identity} does not answer: {instead}; {self._why}")
        return remarks


def _many(count: int) -> str:
    return f"{count} launch is" if count == 1 else f"{count} launches are"


def _written_down(launch: Launch, why: str | None = None) -> FailedJobs:
    remarks = () if why is None else (f"{why}; it is told what was written down",)
    return FailedJobs(jobs=tuple(failures_of_steps(launch.steps)), remarks=remarks)
