"""One process of muleteer: its roles, what it does again and again, and how it comes to an end."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from enum import StrEnum
from typing import Any

import structlog
from apscheduler.schedulers.background import BackgroundScheduler

from orchestrator.broker.listener import Listener
from orchestrator.dispatch.dispatcher import Dispatcher
from orchestrator.dispatch.enricher import Enricher
from orchestrator.dispatch.worker import Worker
from orchestrator.launch.git_archivist import Archivist
from orchestrator.loop import Loop, Patience, wait_out
from orchestrator.reconcile.doorkeeper import Doorkeeper
from orchestrator.rucio.port import CatalogError
from orchestrator.store.intake import Intake
from orchestrator.store.port import StoreUnavailable
from orchestrator.transient.desk import Desk
from orchestrator.transient.remarks import Remarks
from orchestrator.wiring import Muleteer
from schemas.rule import RuleVersion

log = structlog.get_logger()

#: How often what people, and policies, ask of launches is decided and carried out.
_COMMAND = timedelta(seconds=1)

#: How often it is looked whether a transient dataset is due, and whether something was told of one.
_LEAVE = timedelta(seconds=1)

#: How often it is asked whose turn it is to look at all transient datasets.
_TURN = timedelta(seconds=10)

#: How often the embedded catalog's announcements are sent on, and what has outlived its lifetime is erased.
_FLUSH = timedelta(seconds=0.5)

#: How long the loops may take to end when muleteer is stopped, in seconds.
_FAREWELL = 10.0


class Role(StrEnum):
    """What a process can be."""

    LISTENER = "listener"
    DISPATCHER = "dispatcher"
    WORKER = "worker"


class Service:
    """The roles of one process, running until stopped."""

    def __init__(
        self, muleteer: Muleteer, roles: Sequence[Role] = tuple(Role), extra: RuleVersion | None = None
    ) -> None:
        """`extra` is a rule that counts beside those in force, for as long as this service runs."""
        self._muleteer = muleteer
        self._roles = roles
        self._extra = extra
        self._stopping = threading.Event()
        #: Set when the time for actions to finish by themselves is over.
        self._hurry = threading.Event()
        self._loops: list[Loop] = []
        #: What goes on until all else has ended. Nothing of it asks another service: it is over in a moment.
        self._scheduler = BackgroundScheduler(timezone="UTC")
        #: After stopping: something did not end, and the process can only be left.
        self.stuck = False
        self._listener: Listener | None = None
        self._dispatcher: Dispatcher | None = None
        self._enricher: Enricher | None = None
        self._worker: Worker | None = None
        self._doorkeeper: Doorkeeper | None = None

    @property
    def taken(self) -> Intake:
        """What the listener took in so far."""
        return self._listener.taken if self._listener is not None else Intake()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the roles while the body lasts, then bring them to an orderly end."""
        relay = self._muleteer.store.relay()
        try:
            for start in (self._start_listener, self._start_dispatcher, self._start_worker):
                start()
            _spare_the_collector()
            self._scheduler.start()
            log.info("muleteer.started", roles=",".join(self._roles), home=str(self._muleteer.home))
            yield
        finally:
            self._stop()
            relay.close()
            log.info("muleteer.stopped")

    def _start_listener(self) -> None:
        if Role.LISTENER not in self._roles:
            return
        self._listener = self._muleteer.listener()
        self._loop("listener", self._listener.run)
        self._start_reconciling()

    def _start_reconciling(self) -> None:
        """What the broker loses is found by whoever listens to it. The embedded catalog loses nothing."""
        settings = self._muleteer.settings
        if settings.catalog.kind == "embedded" or not settings.reconcile.every:
            return
        patience = Patience("reconciler", self._muleteer.catalog_outage)

        def reconcile() -> None:
            try:
                self._muleteer.reconciler().reconcile(stopping=self._stopping.is_set)
            except CatalogError as error:
                patience.failed(error)  # and again at the next turn, from the same mark
            else:
                patience.succeeded()

        self._turns(settings.reconcile.every, "reconciler", reconcile)

    def _start_dispatcher(self) -> None:
        if Role.DISPATCHER not in self._roles:
            return
        self._dispatcher = self._muleteer.dispatcher(self._extra)
        self._enricher = self._muleteer.enricher()
        self._loop("dispatcher", self._dispatcher.step)
        self._loop("enricher", self._enricher.step)

    def _start_worker(self) -> None:
        if Role.WORKER not in self._roles:
            return
        worker = self._worker = self._muleteer.worker(self._hurry.is_set)
        lease = self._muleteer.settings.worker.lease
        self._every(lease / 4, "lease", worker.renew)
        self._every(lease / 4, "janitor", self._muleteer.janitor().tidy)
        if (embedded := self._muleteer.embedded_catalog) is not None:
            self._every(_FLUSH, "catalog", embedded.sweep)
        self._doorkeeper = self._muleteer.doorkeeper()
        self._loop("worker", worker.step)
        self._loop("doorkeeper", self._doorkeeper.step)
        self._start_following()
        self._start_leaving()

    def _start_leaving(self) -> None:
        """Transient datasets leave. The catalog is opened with the first turn."""
        every, remarks = self._muleteer.settings.transient.every, Remarks()

        def survey(desk: Desk) -> None:
            looked = desk.survey_in_turn(every, who="surveyor", stopping=self._stopping.is_set)
            if looked is not None:
                remarks.take(looked)

        self._asking(_LEAVE, "transient", lambda desk: desk.leave())
        self._asking(_LEAVE, "transient-events", lambda desk: desk.notice())
        if every:
            self._asking(min(every, _TURN), "transient-survey", survey)

    def _asking(self, every: timedelta, name: str, job: Callable[[Desk], Any]) -> None:
        """What asks the catalog about transient datasets, if there are any.

        While it is away that is said once, and waited out.
        """
        patience, desks = Patience(name, self._muleteer.catalog_outage), list[Desk]()

        def turn() -> None:
            if self._muleteer.no_transients:
                return
            try:
                if not desks:
                    desks.append(self._muleteer.transient_desk(self._stopping.is_set))
                job(desks[0])
            except CatalogError as error:
                self._stopping.wait(patience.failed(error))  # all of it can be done again
            else:
                patience.succeeded()

        self._turns(every, name, turn)

    def _start_following(self) -> None:
        """What becomes of launches."""
        muleteer, stopping = self._muleteer, self._stopping.is_set
        self._turns(muleteer.watch_every, "watcher", muleteer.watcher(stopping).look)
        self._turns(_COMMAND, "retrier", muleteer.retrier().decide)
        self._turns(_COMMAND, "commander", muleteer.commander().carry_out)
        if (keeping := muleteer.keeping()) is not None:
            archivist = Archivist(muleteer.store.launches, keeping, clock=muleteer.clock, stopping=stopping)
            self._turns(muleteer.settings.archive.every, "archive", archivist.keep)

    def _loop(self, name: str, step: Callable[[], Any]) -> None:
        patience = Patience(name, self._muleteer.store_outage, longest=5.0)
        loop = Loop(name, step, stopping=self._stopping, passing=StoreUnavailable, patience=patience)
        loop.start()
        self._loops.append(loop)

    def _turns(self, every: timedelta, name: str, job: Callable[[], Any]) -> None:
        """What may ask other services has a loop of its own: if one of them hangs, it is left behind in the end."""
        self._loop(name, Turns(job, every.total_seconds(), self._stopping).step)

    def _every(self, span: timedelta, name: str, job: Callable[[], Any]) -> None:
        """A failing job says so once, and is called again at its next turn."""
        patience, at_once = Patience(name, self._muleteer.store_outage), threading.Event()
        at_once.set()
        self._scheduler.add_job(
            wait_out,
            "interval",
            seconds=span.total_seconds(),
            args=(job, at_once, patience, StoreUnavailable),
            id=name,
            coalesce=True,
            max_instances=1,
            misfire_grace_time=None,
        )

    def _stop(self) -> None:
        """Take nothing new, let what is in hand finish, then hurry it, then close. Claims are renewed to the end."""
        self._stopping.set()
        for role in (self._listener, self._dispatcher, self._enricher, self._worker, self._doorkeeper):
            if role is not None:
                role.stop()
        last = time.monotonic() + _FAREWELL
        for loop in self._loops:
            if not loop.join(max(0.0, last - time.monotonic())):
                log.warning("loop.stuck", loop=loop.name, next="left behind; what it was doing is not committed")
                self.stuck = True
        if self._worker is not None:
            self._end_worker(self._worker)
        if self._scheduler.running:  # not if starting failed half-way
            self._scheduler.shutdown(wait=not self.stuck)

    def _end_worker(self, worker: Worker) -> None:
        grace = self._muleteer.settings.worker.grace.total_seconds()
        if in_hand := worker.in_hand():
            log.info("worker.finishing", dispatches=in_hand, at_most=f"{grace:g}s", next="asked again, it ends at once")
        if not worker.idle(grace):
            log.warning("worker.hurried", after=grace)
            self._hurry.set()
        if not worker.close(2 * _FAREWELL):
            log.warning("worker.stuck", next="left behind; it is tried again when its claim has run out")
            self.stuck = True


class Turns:
    """The step of a loop that does a job every so often: the first time at once."""

    def __init__(self, job: Callable[[], Any], every: float, stopping: threading.Event) -> None:
        """`every` is the time from the beginning of a turn to that of the next, in seconds."""
        self._job = job
        self._every = every
        self._stopping = stopping
        self._due = time.monotonic()

    def step(self) -> None:
        """Wait for the next turn, and take it. Raises what the job raises."""
        if not self._stopping.wait(max(0.0, self._due - time.monotonic())):
            self._due = time.monotonic() + self._every
            self._job()


def _spare_the_collector() -> None:
    """Python's collector of garbage walks through all modules again and again while batches come and go.

    What is there now stays; and a batch makes thousands of objects that refer to nothing else. Frames are stored up to
    a fifth faster for it (tests/bench/ingest.py).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
