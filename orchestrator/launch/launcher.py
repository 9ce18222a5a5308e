"""Fourth stop: hand a workflow to the engine, once.

The order is the guarantee: the launch's name and all that will be sent are stored before anything is sent, and what is
sent is what was stored. Whatever happens between the two is a doubt, and a doubt is settled by looking the name up on
the engine, until it is found or the engine is sure that it has nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Final, assert_never

import structlog

from orchestrator.clock import Clock
from orchestrator.core import workflow as deciding
from orchestrator.core.actor import Done, GiveUp, LaunchRequest, Outcome, Retry, Wait
from orchestrator.core.naming import is_given
from orchestrator.core.states import LAUNCH_ENDED
from orchestrator.core.workflow import WorkflowError
from orchestrator.launch.intending import Intents, Wish, wish_by_hand, wish_of
from orchestrator.launch.provenance import Wanted
from orchestrator.launch.receipts import Tries, sent_of
from orchestrator.launch.workflows import Workflows
from orchestrator.panda.port import (
    Engine,
    EngineError,
    EngineInDoubt,
    EngineRefused,
    EngineUnavailable,
    Package,
    Reference,
)
from orchestrator.store.launch_archive import LARGEST, PackageTooLarge
from orchestrator.store.launches import Launches
from orchestrator.store.transient_readers import InputLeaves
from schemas.did import Did
from schemas.launch import Launch, LaunchId, LaunchState

log = structlog.get_logger()

_WHO: Final = "launcher"

#: How long to wait when somebody else is at work on the same launch.
_PATIENCE: Final = timedelta(seconds=5)

#: When a launch is tried again whose input leaves: whether that is called back is for a person to say.
_UNTIL_IT_IS_SAID: Final = timedelta(seconds=30)

#: How long to wait before a launch in doubt is looked up once more.
_LOOK_AGAIN: Final = timedelta(seconds=15)


class Launcher:
    """Launches workflows. Implements `core.actor.Launching`."""

    def __init__(
        self,
        workflows: Workflows,
        launches: Launches,
        engine: Engine,
        *,
        store_id: str,
        clock: Clock,
        largest: int = LARGEST,
        require_commit: Wanted = "no",
    ) -> None:
        """`store_id` tells this store from others: ids begin anew in each, but names on an engine are for ever.

        A package may have `largest` bytes. `require_commit` says which workflows git has to know.
        """
        self._workflows = workflows
        self._launches = launches
        self._engine = engine
        self._clock = clock
        self._intents = Intents(
            workflows,
            launches,
            engine,
            store_id=store_id,
            clock=clock,
            largest=largest,
            require_commit=require_commit,
        )
        self._tries = Tries(launches)

    def wrong(self, workflow: str, parameters: Mapping[str, str]) -> str | None:
        try:
            definition = self._workflows.get(workflow)
            deciding.check_names(definition.workflow, parameters)
            settled = {name: value for name, value in parameters.items() if "{" not in value}
            deciding.check_values(definition.workflow, settled)
        except WorkflowError as error:
            return str(error)
        return None

    def launch(self, request: LaunchRequest) -> Outcome:
        return self._launch(wish_of(request, _WHO))

    def by_hand(
        self, workflow: str, parameters: Mapping[str, str], did: Did | None, *, who: str, again: bool = False
    ) -> Launch:
        """Write down a launch that a person asks for; `go_on` sends it. With `again`, beside one of the same name.

        Raises:
            EngineRefused, PackageTooLarge, InputLeaves, ValueError: it cannot be launched; nothing was written.
        """
        wish = wish_by_hand(workflow, parameters, did, who=who)
        return self._intents.intend(replace(wish, round=self._intents.next_round(wish)) if again else wish)

    def go_on(self, id_: LaunchId) -> Outcome:
        """Bring a launch on its way that was written down before. Raises NotFound."""
        launch = self._launches.get(id_)
        return self._bring_on_its_way(launch, sent_of(self._launches, launch.id))

    def _launch(self, wish: Wish) -> Outcome:
        try:
            launch = self._intents.intend(wish)
            package: Package = sent_of(self._launches, launch.id)
            if not package and launch.state not in LAUNCH_ENDED:
                package = self._intents.repack(launch, wish)
        except (EngineRefused, PackageTooLarge, ValueError) as error:
            return GiveUp(str(error))
        except InputLeaves as error:
            return Wait(str(error), _UNTIL_IT_IS_SAID)
        except EngineUnavailable as error:
            return Retry(str(error))
        return self._bring_on_its_way(launch, package)

    def _bring_on_its_way(self, launch: Launch, package: Package) -> Outcome:
        if launch.engine != self._engine.identity and launch.state not in LAUNCH_ENDED:
            return Wait(f"launch {launch.id} belongs to {launch.engine}, which is not reached from here", _PATIENCE)
        match launch.state:
            case LaunchState.PREPARED:
                return self._send_first(launch, package)
            case LaunchState.SUBMITTING | LaunchState.IN_DOUBT:
                return self._look_before_sending(launch, package)
            case LaunchState.SUBMITTED | LaunchState.RUNNING | LaunchState.FINISHED:
                return Done(f"launch {launch.id} ({launch.name}) was on its way already, and is {launch.state}")
            case LaunchState.FAILED | LaunchState.KILLED | LaunchState.PARTLY_FINISHED:
                return GiveUp(f"launch {launch.id} ({launch.name}) was made already, and is {launch.state}")
            case _:
                assert_never(launch.state)

    def _send_first(self, launch: Launch, package: Package) -> Outcome:
        """A name that the workflow gives may be in use outside of this store: what we never sent is not ours."""
        if not is_given(launch.key, launch.name) or self._launches.was_sending(launch.id):
            return self._submit(launch, package)
        try:
            reference = self._engine.find(launch.name, package)
        except EngineUnavailable as error:
            return self._stays(launch, Retry(f"{launch.name} cannot be looked up before it is sent: {error}"))
        if reference is None:
            return self._submit(launch, package)
        why = (
            f"{self._engine.name} has {launch.name} already, as {reference}, and launch {launch.id} was never sent: it "
            "is somebody else's, and is not touched. Give another value to what the name is made of, or have it removed"
        )
        return self._stays(launch, GiveUp(why))

    def _stays(self, launch: Launch, outcome: Retry | GiveUp) -> Outcome:
        self._launches.remark(launch, outcome.reason, who=_WHO, now=self._clock())
        return outcome

    def _submit(self, launch: Launch, package: Package) -> Outcome:
        """Whoever changes its state sends it, and nobody else: another may have read the same launch as we did."""
        if not self._take(launch, LaunchState.SUBMITTING, None):
            return _others_are_at_it(launch)
        launch = self._launches.get(launch.id)
        try:
            reference, receipt = self._engine.submit(launch.name, package)
        except (EngineRefused, EngineUnavailable, EngineInDoubt) as error:
            outcome = self._not_submitted(launch, error)
            self._tries.note(launch.id, error.receipt)
            return outcome
        outcome = self._submitted(launch, reference)
        self._tries.note(launch.id, receipt)
        return outcome

    def _not_submitted(self, launch: Launch, error: EngineError) -> Outcome:
        if isinstance(error, EngineInDoubt):
            launch = self._advance(launch, LaunchState.IN_DOUBT, str(error))
            return _wait_for(launch, f"nobody knows whether it arrived: {error}")
        # nothing was taken: once it can be, the same launch is tried again
        self._advance(launch, LaunchState.PREPARED, str(error))
        return GiveUp(str(error)) if isinstance(error, EngineRefused) else Retry(str(error))

    def _look_before_sending(self, launch: Launch, package: Package) -> Outcome:
        if launch.state is LaunchState.SUBMITTING:
            launch = self._advance(launch, LaunchState.IN_DOUBT, "nobody knows whether it was sent")
            if launch.state is not LaunchState.IN_DOUBT:
                return _others_are_at_it(launch)
        try:
            reference = self._engine.find(launch.name, package)
        except EngineUnavailable as error:
            return _wait_for(launch, f"it cannot be looked up: {error}")
        if reference is not None:
            return self._submitted(launch, reference)
        if not self._engine.settled(launch.updated_at, self._clock()):
            return _wait_for(launch, f"{self._engine.name} does not have it yet, and may still be taking it in")
        if not self._take(launch, LaunchState.PREPARED, f"{self._engine.name} has nothing of that name"):
            return _others_are_at_it(launch)
        launch = self._launches.get(launch.id)
        return self._submit(launch, package) if launch.state is LaunchState.PREPARED else _others_are_at_it(launch)

    def _submitted(self, launch: Launch, reference: Reference) -> Outcome:
        launch = self._advance(launch, LaunchState.SUBMITTED, None, reference)
        if launch.state is LaunchState.PREPARED:  # somebody else took us for dead, and looked before it could be found
            launch = self._advance(launch, LaunchState.SUBMITTING, "the engine has it after all")
        if launch.state in (LaunchState.SUBMITTING, LaunchState.IN_DOUBT):  # and we know what he looks for
            launch = self._advance(launch, LaunchState.SUBMITTED, None, reference)
        log.info("launch.submitted", launch=launch.id, name=launch.name, engine=self._engine.name, reference=reference)
        known_as = "" if reference == launch.name else f" as {reference}"
        return Done(f"launch {launch.id} ({launch.name}) is with the {self._engine.name} engine{known_as}")

    def _advance(
        self, launch: Launch, target: LaunchState, why: str | None, reference: Reference | None = None
    ) -> Launch:
        return self._launches.advance(launch, target, who=_WHO, why=why, now=self._clock(), reference=reference)

    def _take(self, launch: Launch, target: LaunchState, why: str | None) -> bool:
        return self._launches.take(launch, target, who=_WHO, why=why, now=self._clock())


def _others_are_at_it(launch: Launch) -> Wait:
    return Wait(f"somebody else is at work on launch {launch.id}", _PATIENCE)


def _wait_for(launch: Launch, why: str) -> Wait:
    """A doubt costs no attempt."""
    return Wait(
        f"launch {launch.id} ({launch.name}) is in doubt since {launch.updated_at:%H:%M:%S} UTC: {why}", _LOOK_AGAIN
    )
