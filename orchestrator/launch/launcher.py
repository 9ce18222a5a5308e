"""Fourth stop: hand a workflow to the engine, once.

The order is the guarantee: the launch's name is stored before anything is sent. Whatever happens between the two is a
doubt, and a doubt is settled by looking the name up on the engine before sending again.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import assert_never

import structlog

from orchestrator.clock import Clock
from orchestrator.core import workflow as deciding
from orchestrator.core.actor import Done, GiveUp, LaunchRequest, Outcome, Retry, Wait
from orchestrator.core.naming import launch_name
from orchestrator.core.states import LAUNCH, final
from orchestrator.core.templates import TemplateError, fill
from orchestrator.core.workflow import WorkflowError
from orchestrator.launch.workflows import Definition, Workflows
from orchestrator.panda.port import (
    Engine,
    EngineInDoubt,
    EngineRefused,
    EngineUnavailable,
    Reference,
    Submission,
    SubmissionStep,
)
from orchestrator.store.launches import Intent, Launches
from schemas.did import Did
from schemas.launch import Launch, LaunchState, StepProgress, StepState

log = structlog.get_logger()

_WHO = "launcher"

_ENDED = final(LAUNCH)

#: How long to wait when somebody else is at work on the same launch.
_PATIENCE = timedelta(seconds=5)


class Launcher:
    """Launches workflows. Implements `core.actor.Launching`."""

    def __init__(
        self, workflows: Workflows, launches: Launches, engine: Engine, *, store_id: str, clock: Clock
    ) -> None:
        """`store_id` tells this store from others: ids begin anew in each, but names on an engine are for ever."""
        self._workflows = workflows
        self._launches = launches
        self._engine = engine
        self._store_id = store_id
        self._clock = clock

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
        try:
            definition = self._workflows.get(request.workflow)
            intent, submission = self._plan(definition, request)
        except (WorkflowError, TemplateError, ValueError) as error:
            return GiveUp(str(error))
        launch = self._launches.intend(intent, who=_WHO, now=self._clock())
        return self._bring_on_its_way(launch, submission)

    def _plan(self, definition: Definition, request: LaunchRequest) -> tuple[Intent, Submission]:
        workflow = definition.workflow
        message = request.message
        parameters = deciding.values(workflow, request.parameters)
        key = f"{self._store_id}/{request.key}"
        name = launch_name(workflow.name, message.did, key)
        known = {**parameters, "scope": message.scope or "", "name": message.name or "", "launch": name}
        inputs = {label: Did.parse(fill(template, known)) for label, template in workflow.inputs.items()}
        steps = tuple(
            SubmissionStep(
                name=step.name,
                command=tuple(fill(word, known) for word in step.command),
                inputs=step.inputs,
                outputs=tuple(fill(pattern, known) for pattern in step.outputs),
                timeout=step.timeout,
            )
            for step in deciding.ordered(workflow)
        )
        outputs = {str(Did.parse(fill(output.dataset, known))): output.step for output in workflow.outputs}
        submission = Submission(name, workflow.name, parameters, definition.folder, inputs, steps)
        intent = Intent(
            key=key,
            name=name,
            dispatch_id=request.dispatch_id,
            workflow=workflow.name,
            parameters=parameters,
            inputs={label: str(did) for label, did in inputs.items()},
            outputs=outputs,
            engine=self._engine.identity,
            steps=[StepProgress(name=step.name, state=StepState.WAITING) for step in steps],
            rule=request.rule,
            source=message.did,
        )
        return intent, submission

    def _bring_on_its_way(self, launch: Launch, submission: Submission) -> Outcome:
        if launch.engine != self._engine.identity and launch.state not in _ENDED:
            return Wait(f"launch {launch.id} belongs to {launch.engine}, which is not reached from here", _PATIENCE)
        match launch.state:
            case LaunchState.PREPARED:
                return self._submit(launch, submission)
            case LaunchState.SUBMITTING | LaunchState.IN_DOUBT:
                return self._look_before_sending(launch, submission)
            case LaunchState.SUBMITTED | LaunchState.RUNNING | LaunchState.FINISHED:
                return Done(f"launch {launch.id} ({launch.name}) was on its way already, and is {launch.state}")
            case LaunchState.FAILED | LaunchState.KILLED | LaunchState.PARTLY_FINISHED:
                return GiveUp(f"launch {launch.id} ({launch.name}) was made already, and is {launch.state}")
            case _:
                assert_never(launch.state)

    def _submit(self, launch: Launch, submission: Submission) -> Outcome:
        launch = self._advance(launch, LaunchState.SUBMITTING, None)
        if launch.state is not LaunchState.SUBMITTING:
            return Wait(f"somebody else is at work on launch {launch.id}", _PATIENCE)
        try:
            reference = self._engine.submit(submission)
        except EngineRefused as error:
            # nothing was taken: once somebody has mended it, the same launch may be tried again
            self._advance(launch, LaunchState.PREPARED, str(error))
            return GiveUp(str(error))
        except EngineUnavailable as error:
            self._advance(launch, LaunchState.PREPARED, str(error))
            return Retry(str(error))
        except EngineInDoubt as error:
            self._advance(launch, LaunchState.IN_DOUBT, str(error))
            return Retry(str(error))
        return self._submitted(launch, reference)

    def _look_before_sending(self, launch: Launch, submission: Submission) -> Outcome:
        if launch.state is LaunchState.SUBMITTING:
            launch = self._advance(launch, LaunchState.IN_DOUBT, "nobody knows whether it was sent")
        try:
            reference = self._engine.find(launch.name)
        except EngineUnavailable as error:
            return Retry(f"launch {launch.id} is in doubt and cannot be looked up: {error}")
        if reference is not None:
            return self._submitted(launch, reference)
        launch = self._advance(launch, LaunchState.PREPARED, f"{self._engine.name} has nothing of that name")
        return self._submit(launch, submission)

    def _submitted(self, launch: Launch, reference: Reference) -> Outcome:
        self._advance(launch, LaunchState.SUBMITTED, None, reference)
        log.info("launch.submitted", launch=launch.id, name=launch.name, engine=self._engine.name, reference=reference)
        known_as = "" if reference == launch.name else f" as {reference}"
        return Done(f"launch {launch.id} ({launch.name}) is with the {self._engine.name} engine{known_as}")

    def _advance(
        self, launch: Launch, target: LaunchState, why: str | None, reference: Reference | None = None
    ) -> Launch:
        return self._launches.advance(launch, target, who=_WHO, why=why, now=self._clock(), reference=reference)
