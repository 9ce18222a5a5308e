"""A launch is planned, packed and written down with all that will be sent, before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import uuid4

from orchestrator.clock import Clock
from orchestrator.core import workflow as deciding
from orchestrator.core.actor import LaunchRequest
from orchestrator.core.naming import given_name, key_of_name, launch_name, round_of, run_of
from orchestrator.core.states import LAUNCH_ENDED
from orchestrator.core.templates import TemplateError
from orchestrator.core.workflow import WorkflowError
from orchestrator.launch import planning
from orchestrator.launch.provenance import Wanted, definition_of
from orchestrator.launch.workflows import Definition, Workflows
from orchestrator.panda.port import Engine, Package
from orchestrator.store.launch_archive import LARGEST
from orchestrator.store.launches import Intent, Launches, NameTaken
from schemas.did import Did
from schemas.dispatch import DispatchId
from schemas.launch import Launch, LaunchState, StepProgress, StepState

#: A person who asks for the same name once more carries on with what was not sent yet.
_TO_BE_SENT: Final = frozenset({LaunchState.PREPARED, LaunchState.SUBMITTING, LaunchState.IN_DOUBT})


class NameInUse(ValueError):
    """Another dispatch has launched that name. The text says which, and how to repeat it on purpose."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A launch that a dispatch asks for, or a person."""

    workflow: str
    parameters: Mapping[str, str]
    #: The dataset that it is about.
    did: Did | None
    who: str
    #: What makes it the only one, unless the workflow says how its launches are called.
    key: str
    round: int = 0
    dispatch_id: DispatchId | None = None
    rule: str | None = None


def wish_of(request: LaunchRequest, who: str) -> Wish:
    """What a dispatch asks for."""
    return Wish(
        workflow=request.workflow,
        parameters=request.parameters,
        did=request.message.did,
        who=who,
        key=request.key,
        round=request.round,
        dispatch_id=request.dispatch_id,
        rule=request.rule,
    )


def wish_by_hand(workflow: str, parameters: Mapping[str, str], did: Did | None, *, who: str) -> Wish:
    """What a person asks for. Each time it is another launch, unless the workflow says how its launches are called."""
    return Wish(workflow, parameters, did, who, f"{workflow}/by-hand-{uuid4().hex}")


class Intents:
    """Writes launches down."""

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
        """`store_id` tells this store from others: ids begin anew in each, but names on an engine are for ever."""
        self._workflows = workflows
        self._launches = launches
        self._engine = engine
        self._store_id = store_id
        self._clock = clock
        self._largest = largest
        self._require_commit = require_commit

    def intend(self, wish: Wish) -> Launch:
        """The launch, written down; the one that is there already if this was asked for before.

        Raises:
            WorkflowError, TemplateError, NameRefused: the workflow is not there, or its values do not fit.
            EngineRefused: it could never run.
            PackageTooLarge: there is more to send than the store keeps.
            NameInUse: another dispatch has launched that name.
            InputLeaves: a dataset that it would read is leaving.
        """
        begun = self._begun(wish)
        if begun is not None:
            return begun
        definition = self._workflows.get(wish.workflow)
        key, name = self._called(definition, wish)
        if wish.round and definition.workflow.launch_name is not None:
            self._demand_rest(key, wish)
        intent, package = self._planned(definition, wish, key, name)
        try:
            launch = self._launches.intend(intent, package, who=wish.who, now=self._clock(), largest=self._largest)
        except NameTaken as error:
            raise _in_use(error.launch, wish) from None
        if launch.dispatch_id != wish.dispatch_id or (wish.dispatch_id is None and launch.state not in _TO_BE_SENT):
            raise _in_use(launch, wish)
        return launch

    def next_round(self, wish: Wish) -> int:
        """The first round of its name that nobody has begun; 0 if each launch has a name of its own.

        Raises what `intend` does.
        """
        definition = self._workflows.get(wish.workflow)
        if definition.workflow.launch_name is None:
            return 0
        key, _ = self._called(definition, wish)
        return max((round_of(each.key) + 1 for each in self._launches.rounds(key)), default=0)

    def _demand_rest(self, key: str, wish: Wish) -> None:
        """Two launches that repeat one another never work at the same time. Raises NameInUse."""
        for other in self._launches.rounds(key):
            if other.key != key and other.state not in LAUNCH_ENDED:
                raise _in_use(other, wish)

    def repack(self, launch: Launch, wish: Wish) -> Package:
        """Keep the package of a launch that was written down without one, by an earlier version of the program.

        Raises what `intend` does.
        """
        _, package = self._planned(self._workflows.get(wish.workflow), wish, launch.key, launch.name)
        self._launches.archive(launch, package, largest=self._largest)
        return package

    def _begun(self, wish: Wish) -> Launch | None:
        """What this dispatch began in this round, whatever became of the workflow since."""
        if wish.dispatch_id is None:
            return None
        for launch in self._launches.list(dispatch_id=wish.dispatch_id, limit=1000):
            if launch.workflow == wish.workflow and round_of(launch.key) == wish.round:
                return launch
        return None

    def _called(self, definition: Definition, wish: Wish) -> tuple[str, str]:
        """Key and name."""
        workflow = definition.workflow
        if workflow.launch_name is None:
            key = f"{self._store_id}/{wish.key}"
            return key, launch_name(workflow.name, wish.did, key)
        known = {**deciding.values(workflow, wish.parameters), **_values(wish.did)}
        try:
            first = given_name(workflow.launch_name, known)
            name = given_name(workflow.launch_name, known, wish.round)
        except TemplateError as error:
            raise WorkflowError(f"workflow {workflow.name}: launch_name: {error}") from None
        return f"{self._store_id}/{key_of_name(workflow.name, first, wish.round)}", name

    def _planned(self, definition: Definition, wish: Wish, key: str, name: str) -> tuple[Intent, Package]:
        submission = planning.plan(definition, name=name, parameters=wish.parameters, values=_values(wish.did))
        package = self._engine.pack(submission, planning.source(definition))
        outputs = (
            self._engine.datasets(submission)
            if self._engine.registers_outputs
            else planning.outputs(definition, name=name, parameters=wish.parameters, values=_values(wish.did))
        )
        intent = Intent(
            key=key,
            name=name,
            dispatch_id=wish.dispatch_id,
            workflow=submission.workflow,
            parameters=submission.parameters,
            inputs={label: str(did) for label, did in submission.inputs.items()},
            outputs=outputs,
            engine=self._engine.identity,
            steps=[StepProgress(name=step.name, state=StepState.WAITING) for step in submission.steps],
            rule=wish.rule,
            source=wish.did,
            run=run_of(submission.parameters),
            definition=definition_of(definition, self._require_commit),
            retry=planning.retries(definition, name=name, parameters=wish.parameters, values=_values(wish.did)),
        )
        return intent, package


def _values(did: Did | None) -> Mapping[str, str]:
    return {"scope": did.scope, "name": did.name} if did is not None else {"scope": "", "name": ""}


def _in_use(launch: Launch, wish: Wish) -> NameInUse:
    whose = "by hand" if launch.dispatch_id is None else f"for dispatch {launch.dispatch_id}"
    if wish.dispatch_id is None:
        how = f"`muleteer workflow launch {wish.workflow} --again ...`"
    else:
        how = f"`muleteer dispatches redispatch {wish.dispatch_id} --again --reason ...`"
    return NameInUse(
        f"{launch.name!r} was launched already, {whose}: launch {launch.id} is {launch.state}. Nothing was sent; to "
        f"repeat it on purpose, once it has ended: {how}"
    )
