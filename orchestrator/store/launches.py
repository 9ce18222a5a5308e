"""Launches: intended before anything is sent, followed to their end."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import insert, select, update
from sqlalchemy.exc import IntegrityError

from orchestrator.core.states import LAUNCH, final
from orchestrator.store.engine import Database
from orchestrator.store.gates import OCCUPYING
from orchestrator.store.journal import move, record
from orchestrator.store.port import NotFound
from orchestrator.store.restraints import write_products
from orchestrator.store.signals import DISPATCHES
from orchestrator.store.suspensions import note_end_of_launch, tell
from orchestrator.store.tables import Row, launches
from schemas.did import Did
from schemas.dispatch import DispatchId
from schemas.launch import Launch, LaunchId, LaunchState, StepProgress

#: Named one by one, so that the index on states serves: those that ended are many.
_GOING_ON = sorted(LAUNCH.keys() - final(LAUNCH))


@dataclass(frozen=True, slots=True)
class Intent:
    """A launch that somebody means to make."""

    key: str
    name: str
    dispatch_id: DispatchId | None
    workflow: str
    parameters: Mapping[str, str]
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    engine: str
    steps: Sequence[StepProgress]
    #: The rule that asked for it, and the dataset that it asked about.
    rule: str | None = None
    source: Did | None = None


class Launches:
    """Every launch that was ever intended."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def intend(self, intent: Intent, *, who: str, now: datetime) -> Launch:
        """Write a launch down before anything is sent; if its key is there already, that launch is the answer."""
        row = {
            "key": intent.key,
            "name": intent.name,
            "dispatch_id": intent.dispatch_id,
            "workflow": intent.workflow,
            "parameters": json.dumps(dict(intent.parameters)),
            "inputs": json.dumps(dict(intent.inputs)),
            "outputs": json.dumps(dict(intent.outputs)),
            "engine": intent.engine,
            "state": LaunchState.PREPARED.value,
            "steps": _steps(intent.steps),
            "created_at": now,
            "updated_at": now,
        }
        try:
            with self._database.write() as connection:
                id_ = connection.scalars(insert(launches).values(row).returning(launches.c.id)).one()
                record(connection, "launch", [id_], None, LaunchState.PREPARED, who=who, why=intent.name, at=now)
                outputs = [Did.parse(output) for output in intent.outputs]
                write_products(connection, id_, outputs, intent.rule, intent.source)
        except IntegrityError:
            return self.by_key(intent.key)
        return self.get(LaunchId(id_))

    def advance(
        self,
        launch: Launch,
        target: LaunchState,
        *,
        who: str,
        why: str | None,
        now: datetime,
        reference: str | None = None,
        steps: Sequence[StepProgress] | None = None,
    ) -> Launch:
        """Change a launch's state, unless somebody else was first. Returns it as it is now."""
        makes_room = launch.state in OCCUPYING and target not in OCCUPYING
        with self._database.write(*([DISPATCHES] if makes_room else [])) as connection:
            moved = move(
                connection,
                launches,
                [launch.id],
                launch.state,
                target,
                who=who,
                why=why,
                at=now,
                reason=why,
                reference=reference or launch.reference,
                steps=_steps(launch.steps if steps is None else steps),
                updated_at=now,
            )
            tripped = note_end_of_launch(connection, launch.id, target, why, now) if moved else None
        tell(tripped)
        return self.get(launch.id)

    def note_steps(self, launch: Launch, steps: Sequence[StepProgress], *, now: datetime) -> None:
        """Write down how far the steps have come, while the launch's state stays."""
        this = (launches.c.id == launch.id, launches.c.state == launch.state)
        with self._database.write() as connection:
            connection.execute(update(launches).where(*this).values(steps=_steps(steps), updated_at=now))

    def active(self) -> list[Launch]:
        """Those that have not ended, oldest first."""
        query = select(launches).where(launches.c.state.in_(_GOING_ON)).order_by(launches.c.id)
        with self._database.read() as connection:
            return [_launch(dict(row)) for row in connection.execute(query).mappings()]

    def get(self, id_: LaunchId) -> Launch:
        """Raises NotFound."""
        with self._database.read() as connection:
            row = connection.execute(select(launches).where(launches.c.id == id_)).mappings().one_or_none()
        if row is None:
            raise NotFound(f"there is no launch {id_}")
        return _launch(dict(row))

    def by_key(self, key: str) -> Launch:
        """Raises NotFound."""
        with self._database.read() as connection:
            row = connection.execute(select(launches).where(launches.c.key == key)).mappings().one_or_none()
        if row is None:
            raise NotFound(f"there is no launch with the key {key!r}")
        return _launch(dict(row))

    def list(
        self,
        *,
        states: Sequence[LaunchState] = (),
        dispatch_id: DispatchId | None = None,
        limit: int = 50,
        before: int | None = None,
    ) -> list[Launch]:
        """A page of launches, newest first; `before` is the last id of the page before."""
        query = select(launches).order_by(launches.c.id.desc()).limit(limit)
        if states:
            query = query.where(launches.c.state.in_(states))
        if dispatch_id is not None:
            query = query.where(launches.c.dispatch_id == dispatch_id)
        if before is not None:
            query = query.where(launches.c.id < before)
        with self._database.read() as connection:
            return [_launch(dict(row)) for row in connection.execute(query).mappings()]


def _steps(steps: Sequence[StepProgress]) -> str:
    return json.dumps([step.model_dump(mode="json", exclude_none=True) for step in steps])


def _launch(row: Row) -> Launch:
    shown = dict(row)
    for key in ("parameters", "inputs", "outputs", "steps"):
        shown[key] = json.loads(row[key])
    return Launch.model_validate(shown)
