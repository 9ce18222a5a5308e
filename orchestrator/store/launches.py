"""Launches: intended before anything is sent, followed to their end."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import ColumnElement, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from orchestrator.core.naming import first_key
from orchestrator.core.retrying import RETRIED_FROM
from orchestrator.store.engine import Database
from orchestrator.store.gates import OCCUPYING
from orchestrator.store.journal import move, record, without_nul
from orchestrator.store.launch_archive import (
    LARGEST,
    ArchivedFile,
    Packed,
    made_ready,
    read_files,
    read_package,
    read_tries,
    write_package,
    write_try,
)
from orchestrator.store.launch_listing import ALL_LAUNCHES, GOING_ON, LaunchFilter, RunSummary, summed_up
from orchestrator.store.launch_rows import NOTE, launch_of, noted, steps_row
from orchestrator.store.port import NotAllowed, NotFound
from orchestrator.store.restraints import write_products
from orchestrator.store.signals import DISPATCHES
from orchestrator.store.suspensions import note_end_of_launch, tell
from orchestrator.store.tables import Row, journal, launches
from orchestrator.store.transient_readers import write_readings
from schemas.did import Did
from schemas.dispatch import DispatchId
from schemas.launch import (
    Launch,
    LaunchFile,
    LaunchId,
    LaunchState,
    StepProgress,
    SubmissionRecord,
)
from schemas.retry import RetryPolicy

_NOTHING: Final[Mapping[str, Packed]] = MappingProxyType({})


class NameTaken(NotAllowed):
    """Another launch has the name."""

    def __init__(self, launch: Launch) -> None:
        super().__init__(f"the name {launch.name!r} belongs to launch {launch.id}, which is {launch.state}")
        self.launch = launch


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
    #: The detector's run, if it is about one.
    run: int | None = None
    #: The git commit of its workflow's folder.
    definition: str | None = None
    #: How what fails of it is retried by itself.
    retry: RetryPolicy | None = None


@dataclass(frozen=True, slots=True)
class Noted:
    """How far a launch has come, that goes on."""

    launch: Launch
    steps: Sequence[StepProgress]
    #: Something of it runs.
    running: bool


class Launches:
    """Every launch that was ever intended."""

    def __init__(self, database: Database) -> None:
        self._database = database
        #: Launches that go on as they were last read, so that reading thousands again costs little.
        self._parsed: Mapping[int, tuple[Row, Launch]] = {}

    def intend(
        self,
        intent: Intent,
        package: Mapping[str, Packed] = _NOTHING,
        *,
        who: str,
        now: datetime,
        largest: int = LARGEST,
    ) -> Launch:
        """Write a launch down with all that will be sent, before anything is sent.

        If its key is there already, that launch is the answer, and nothing is written.

        Raises:
            PackageTooLarge: it has more than `largest` bytes.
            NameTaken: its name belongs to a launch with another key.
            InputLeaves: a dataset that it reads is leaving.
        """
        files = made_ready(package, largest)
        row = {
            "key": intent.key,
            "name": intent.name,
            "dispatch_id": intent.dispatch_id,
            "workflow": intent.workflow,
            "parameters": json.dumps(dict(intent.parameters)),
            "inputs": json.dumps(dict(intent.inputs)),
            "outputs": json.dumps(dict(intent.outputs)),
            "engine": intent.engine,
            "run": intent.run,
            "definition": intent.definition,
            "retry": None if intent.retry is None else intent.retry.model_dump_json(),
            "state": LaunchState.PREPARED.value,
            "created_at": now,
            "updated_at": now,
            **steps_row(intent.steps),
        }
        try:
            with self._database.write() as connection:
                id_ = connection.scalars(insert(launches).values(row).returning(launches.c.id)).one()
                record(connection, "launch", [id_], None, LaunchState.PREPARED, who=who, why=intent.name, at=now)
                outputs = [Did.parse(output) for output in intent.outputs]
                write_products(connection, id_, outputs, intent.rule, intent.source)
                write_readings(connection, id_, intent.inputs.values())
                write_package(connection, id_, files)
        except IntegrityError:
            return self._the_other(intent)
        return self.get(LaunchId(id_))

    def _the_other(self, intent: Intent) -> Launch:
        """Whoever was there before."""
        taken = self._one(launches.c.key == intent.key)
        if taken is not None:
            return taken
        namesake = self._one(launches.c.name == intent.name)
        assert namesake is not None, "neither key nor name is there, and yet the row was refused"
        raise NameTaken(namesake)

    def archive(self, launch: Launch, package: Mapping[str, Packed], *, largest: int = LARGEST) -> None:
        """Keep the package of a launch that was intended without one. Raises PackageTooLarge."""
        files = made_ready(package, largest)
        with self._database.write() as connection:
            this = select(launches.c.id).where(launches.c.id == launch.id).with_for_update()
            connection.execute(this)
            if not read_files(connection, launch.id):
                write_package(connection, launch.id, files)

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
        """Change a launch's state, unless somebody else was first. Returns it as it is now.

        Who it was that changed it cannot be told from that: what only one may do is begun with `take`.
        """
        self.take(launch, target, who=who, why=why, now=now, reference=reference, steps=steps)
        return self.get(launch.id)

    def take(
        self,
        launch: Launch,
        target: LaunchState,
        *,
        who: str,
        why: str | None,
        now: datetime,
        reference: str | None = None,
        steps: Sequence[StepProgress] | None = None,
    ) -> bool:
        """Change a launch's state; False if somebody else was first. Of several who do so at once, one gets True."""
        makes_room = launch.state in OCCUPYING and target not in OCCUPYING
        # another may be sending it, once more, while we were taken for dead
        same_sending = launches.c.updated_at == launch.updated_at
        values = steps_row(launch.steps if steps is None else steps)
        if target is LaunchState.SUBMITTED:
            values["submitted_at"] = now
        if target in _REPORTED:
            values["moved_at"] = now
        # decided anew each time it ends; what was killed is nobody's to retry but a person's
        fails = target in RETRIED_FROM
        values["retry_at"] = now + launch.retry.soonest if fails and launch.retry is not None else None
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
                only_if=[same_sending] if launch.state is LaunchState.SUBMITTING and reference is None else [],
                reason=why,
                reference=reference or launch.reference,
                updated_at=now,
                **values,
            )
            tripped = note_end_of_launch(connection, launch.id, target, why, now) if moved else None
        tell(tripped)
        return bool(moved)

    def remark(self, launch: Launch, why: str, *, who: str, now: datetime) -> None:
        """Say why a launch stays as it is; said once for as long as it is the same."""
        if launch.reason == why:
            return
        this = (launches.c.id == launch.id, launches.c.state == launch.state)
        with self._database.write() as connection:
            values = {"reason": without_nul(why), "updated_at": now}
            changed = connection.scalars(update(launches).where(*this).values(values).returning(launches.c.id)).all()
            record(connection, "launch", changed, launch.state, launch.state, who=who, why=why, at=now)

    def note_steps(self, launch: Launch, steps: Sequence[StepProgress], *, now: datetime) -> None:
        """Write down how far the steps of one have come, while the launch's state stays."""
        with self._database.write() as connection:
            connection.execute(NOTE, [noted(launch, steps, now)])

    def note_progress(self, many: Sequence[Noted], *, who: str, now: datetime) -> None:
        """Write down how far many launches have come, in one transaction; those of which something runs are running."""
        if not many:
            return
        ordered = sorted(many, key=lambda each: each.launch.id)
        begun = [each.launch.id for each in ordered if each.running and each.launch.state is LaunchState.SUBMITTED]
        with self._database.write() as connection:
            connection.execute(NOTE, [noted(each.launch, each.steps, now) for each in ordered])
            moved: dict[str, Any] = {"moved_at": now, "updated_at": now, "reason": None}
            source, target = LaunchState.SUBMITTED, LaunchState.RUNNING
            move(connection, launches, begun, source, target, who=who, why=None, at=now, **moved)

    def active(self, engine: str | None = None) -> list[Launch]:
        """Those that have not ended, oldest first; of one engine, if it is named. Their packages are not read."""
        query = select(launches).where(launches.c.state.in_(GOING_ON)).order_by(launches.c.id)
        if engine is not None:
            query = query.where(launches.c.engine == engine)
        with self._database.read() as connection:
            rows = [dict(row) for row in connection.execute(query).mappings()]
        before, parsed = self._parsed, dict[int, tuple[Row, Launch]]()
        for row in rows:
            known = before.get(row["id"])
            parsed[row["id"]] = known if known is not None and known[0] == row else (row, launch_of(row))
        self._parsed = parsed
        return [launch for _, launch in parsed.values()]

    def get(self, id_: LaunchId) -> Launch:
        """Raises NotFound."""
        found = self._one(launches.c.id == id_)
        if found is None:
            raise NotFound(f"there is no launch {id_}")
        return found

    def rounds(self, key: str) -> list[Launch]:
        """All launches that repeat one another, whichever round the key is of; oldest first."""
        first = first_key(key)
        theirs = or_(launches.c.key == first, launches.c.key.startswith(f"{first}/round-", autoescape=True))
        with self._database.read() as connection:
            found = connection.execute(select(launches).where(theirs).order_by(launches.c.id)).mappings()
            return [launch_of(dict(row)) for row in found]

    def by_key(self, key: str) -> Launch:
        """Raises NotFound."""
        found = self._one(launches.c.key == key)
        if found is None:
            raise NotFound(f"there is no launch with the key {key!r}")
        return found

    def named(self, name: str) -> Launch | None:
        """The launch of that name."""
        return self._one(launches.c.name == name)

    def _one(self, this: ColumnElement[bool]) -> Launch | None:
        with self._database.read() as connection:
            row = connection.execute(select(launches).where(this)).mappings().one_or_none()
        return None if row is None else launch_of(dict(row))

    def list(
        self,
        wanted: LaunchFilter = ALL_LAUNCHES,
        *,
        states: Sequence[LaunchState] = (),
        dispatch_id: DispatchId | None = None,
        limit: int = 50,
        before: int | None = None,
    ) -> list[Launch]:
        """A page of launches, newest first; `before` is the last id of the page before."""
        query = select(launches).where(*wanted.conditions()).order_by(launches.c.id.desc()).limit(limit)
        if states:
            query = query.where(launches.c.state.in_(states))
        if dispatch_id is not None:
            query = query.where(launches.c.dispatch_id == dispatch_id)
        if before is not None:
            query = query.where(launches.c.id < before)
        with self._database.read() as connection:
            return [launch_of(dict(row)) for row in connection.execute(query).mappings()]

    def by_run(
        self, wanted: LaunchFilter = ALL_LAUNCHES, *, limit: int = 50, before: int | None = None
    ) -> Sequence[RunSummary]:
        """What the launches for each run of the detector come to, newest runs first; `before` is a run's number."""
        with self._database.read() as connection:
            return summed_up(connection, wanted, limit, before)

    # What was sent, and every try.

    def package(self, id_: LaunchId) -> dict[str, ArchivedFile]:
        """All that was sent, byte for byte; nothing if nothing was kept. Raises StoreError: it is damaged."""
        with self._database.read() as connection:
            return read_package(connection, id_)

    def files(self, id_: LaunchId) -> Sequence[LaunchFile]:
        """What was sent, without the contents."""
        with self._database.read() as connection:
            return read_files(connection, id_)

    def note_try(self, tried: SubmissionRecord) -> SubmissionRecord:
        """Write down a try at handing a launch over, whatever came of it; it gets the next number."""
        with self._database.write() as connection:
            return write_try(connection, tried)

    def tries(self, id_: LaunchId) -> Sequence[SubmissionRecord]:
        """Every try at handing it over, oldest first."""
        with self._database.read() as connection:
            return read_tries(connection, id_)

    def was_sending(self, id_: LaunchId) -> bool:
        """Whether anybody ever began to send it."""
        this = (journal.c.subject == "launch", journal.c.subject_id == id_)
        query = select(journal.c.id).where(*this, journal.c.to_state == LaunchState.SUBMITTING).limit(1)
        with self._database.read() as connection:
            return connection.execute(query).first() is not None


#: States that follow from what the engine says.
_REPORTED: Final = frozenset(
    {
        LaunchState.SUBMITTED,
        LaunchState.RUNNING,
        LaunchState.FINISHED,
        LaunchState.PARTLY_FINISHED,
        LaunchState.FAILED,
        LaunchState.KILLED,
    }
)
