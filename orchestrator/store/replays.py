"""Replays: begun, carried on batch by batch, stopped, resumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import ColumnElement, Connection, func, insert, or_, select, update

from orchestrator.core.clauses import Facts
from orchestrator.core.settlement import STORED_TWICE
from orchestrator.store.engine import Database
from orchestrator.store.foreseeing import Foreseen, foresee
from orchestrator.store.intake import take_turns
from orchestrator.store.journal import move, record
from orchestrator.store.messages import Filter, conditions
from orchestrator.store.port import NotAllowed, NotFound
from orchestrator.store.replay_batch import Batch, Hand, Judged
from orchestrator.store.replaying import left_out, read_facts, revision_moments, write_batch
from orchestrator.store.rules import current_revision
from orchestrator.store.signals import DISPATCHES, MESSAGES
from orchestrator.store.tables import Row, journal, messages, replays
from schemas.message import MessageId
from schemas.replay import Replay, ReplayId, ReplayRequest, ReplayState

#: In the journal of a replay: why messages could not be put back for waiting rooms. It is no state.
REFUSED: Final = "refused"


class Replays:
    """Histories sent through the rules again."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # What they are.

    def get(self, id_: ReplayId) -> Replay:
        """Raises NotFound."""
        with self._database.read() as connection:
            row = connection.execute(select(replays).where(replays.c.id == id_)).mappings().one_or_none()
        if row is None:
            raise NotFound(f"there is no replay {id_}")
        return _replay(dict(row))

    def newest(self, limit: int = 50) -> list[Replay]:
        """The newest replays, newest first."""
        query = select(replays).order_by(replays.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            return [_replay(dict(row)) for row in connection.execute(query).mappings()]

    def revision_moments(self) -> list[tuple[datetime, int]]:
        """When each revision of the rules came into force, oldest first."""
        with self._database.read() as connection:
            return revision_moments(connection)

    # A person's side.

    def begin(self, request: ReplayRequest, *, who: str, reason: str, now: datetime) -> Replay:
        """Begin a replay of what is stored now. What comes later is not part of it."""
        with self._database.write() as connection:
            row = {
                "document": request.model_dump_json(),
                "state": ReplayState.RUNNING.value,
                "who": who,
                "reason": reason,
                "position": 0,
                **dict.fromkeys(("looked_at", "matched", "written", "there", "refused", "paced"), 0),
                **_extent(connection, request),
                "created_at": now,
                "updated_at": now,
            }
            id_ = connection.scalars(insert(replays).values(row).returning(replays.c.id)).one()
            record(connection, "replay", [id_], None, ReplayState.RUNNING, who=who, why=reason, at=now)
        return self.get(ReplayId(id_))

    def stop(self, id_: ReplayId, *, who: str, why: str, now: datetime) -> Replay:
        """Stop it; it can be resumed. Raises NotFound, and NotAllowed if it does not run."""
        with self._database.write() as connection:
            moved = _move(connection, id_, ReplayState.RUNNING, ReplayState.STOPPED, who, why, now)
        found = self.get(id_)
        if not moved:
            raise NotAllowed(f"replay {id_} is {found.state}: only one that runs can be stopped")
        return found

    def resume(self, id_: ReplayId, *, who: str, why: str, now: datetime) -> Replay:
        """Let it go on where it stood. Raises NotFound, and NotAllowed if it is done.

        One that still says `running` may have lost its process, and may not: then the slower of the two ends.
        """
        with self._database.write() as connection:
            _move(connection, id_, ReplayState.RUNNING, ReplayState.STOPPED, who, "taken over", now)
            _move(connection, id_, ReplayState.STOPPED, ReplayState.RUNNING, who, why, now)
        found = self.get(id_)
        if found.state is ReplayState.DONE:
            raise NotAllowed(f"replay {id_} is done: `muleteer replay start` begins another")
        return found

    # Carried on.

    def read(self, request: ReplayRequest, after: int, until: int, limit: int) -> list[Facts]:
        """The next messages that it is about, with all that rules may ask of them."""
        wanted = [*_wanted(request), messages.c.id > after, messages.c.id <= until]
        with self._database.read() as connection:
            return read_facts(connection, wanted, limit)

    def write(self, replay: Replay, judged: Sequence[Judged], *, last: int, revision: int, now: datetime) -> Replay:
        """Write down what follows for these messages, and that they were looked at, in one transaction.

        `last` is the last message looked at, whether or not it is among them; `revision` that of the rules in force by
        which was judged whether a message is settled, or can be put back. With a pace, perhaps only the first of them
        are done. Does nothing if other rules came into force meanwhile: the caller judges by theirs then.

        Raises:
            NotAllowed: it was stopped meanwhile, or another process has carried it on. Nothing was changed.
            StoreUnavailable: nothing was changed.
        """
        hand = Hand(f"replay {replay.id}: {replay.reason}", replay.who, now)
        with self._database.write(MESSAGES, DISPATCHES) as connection:
            _demand_unmoved(connection, replay)
            if any(each.joining for each in judged):
                # nothing is overtaken by a later event while it is put back
                take_turns(self._database, connection)
            if current_revision(connection) != revision:
                return replay
            batch = write_batch(connection, replay, judged, hand)
            _note_why(connection, replay, batch.kept_out, now)
            _note(connection, replay, batch, last if batch.whole else batch.last, now)
            if batch.whole and last >= replay.until:
                _move(connection, replay.id, ReplayState.RUNNING, ReplayState.DONE, replay.who, "all looked at", now)
        return self.get(replay.id)

    # Tried.

    def extent(self, request: ReplayRequest) -> tuple[int, int]:
        """The last message that a replay begun now would look at, and how many there are."""
        with self._database.read() as connection:
            extent = _extent(connection, request)
        return extent["until"], extent["total"]

    def foresee(self, request: ReplayRequest, judged: Sequence[Judged], so_far: Foreseen) -> None:
        """Add to `so_far` what would follow for these messages. Nothing is written."""
        with self._database.read() as connection:
            foresee(connection, request, judged, so_far)


def _wanted(request: ReplayRequest) -> list[ColumnElement[bool]]:
    filter_ = Filter(
        event=request.event, scope=request.scope, name=request.name, since=request.since, until=request.until
    )
    # what has no event could not be read: its mended copy stands for it
    readable = (messages.c.state.not_in(left_out(request)), messages.c.event_type.is_not(None))
    # of a closing that is stored twice, the one that counts
    counts = or_(messages.c.reason.is_(None), messages.c.reason.not_in(STORED_TWICE))
    return [*conditions(filter_), *readable, counts]


def _extent(connection: Connection, request: ReplayRequest) -> dict[str, int]:
    query = select(func.max(messages.c.id), func.count()).where(*_wanted(request))
    until, total = connection.execute(query).one()
    return {"until": until or 0, "total": total}


def _demand_unmoved(connection: Connection, replay: Replay) -> None:
    """Take the row, and refuse to go on from anywhere but from where it stands."""
    query = select(replays.c.state, replays.c.position).where(replays.c.id == replay.id).with_for_update()
    state, position = connection.execute(query).one()
    if state != ReplayState.RUNNING:
        raise NotAllowed(f"replay {replay.id} is {state}")
    if position != replay.position:
        raise NotAllowed(f"replay {replay.id} is carried on by another process")


def _note(connection: Connection, replay: Replay, batch: Batch, position: int, now: datetime) -> None:
    added = {name: getattr(replay, name) + getattr(batch, name) for name in ("matched", "written", "there", "refused")}
    values = {"position": position, "looked_at": replay.looked_at + batch.looked_at, **added}
    paced = {"paced": batch.spent.started, "paced_at": batch.spent.last}
    connection.execute(update(replays).where(replays.c.id == replay.id).values(**values, **paced, updated_at=now))


def _note_why(connection: Connection, replay: Replay, reasons: Mapping[str, MessageId], now: datetime) -> None:
    """Write down why messages were not put back, each reason once in a replay."""
    mine = (journal.c.subject == "replay", journal.c.subject_id == replay.id, journal.c.to_state == REFUSED)
    said = connection.scalars(select(journal.c.why).where(*mine)).all() if reasons else []
    for reason, example in reasons.items():
        if not any(each is not None and each.startswith(reason) for each in said):
            why = f"{reason}: message {example}, for example"
            record(connection, "replay", [replay.id], replay.state, REFUSED, who=replay.who, why=why, at=now)


def _move(
    connection: Connection, id_: ReplayId, source: ReplayState, target: ReplayState, who: str, why: str, now: datetime
) -> list[int]:
    return move(connection, replays, [id_], source, target, who=who, why=why, at=now, updated_at=now)


def _replay(row: Row) -> Replay:
    return Replay(**{**row, "request": ReplayRequest.model_validate_json(row.pop("document"))})
