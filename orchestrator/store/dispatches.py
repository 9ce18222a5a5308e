"""Dispatches: written when a message is judged, claimed by workers, settled by outcomes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, insert, or_, select, update

from orchestrator.core.actor import Order, Trace
from orchestrator.core.clauses import Facts
from orchestrator.core.dispatch import Next, after_silence
from orchestrator.core.matching import Verdict
from orchestrator.store.engine import Database
from orchestrator.store.journal import MOST_PARAMETERS, move, without_nul
from orchestrator.store.judging import is_pending, pending_messages, write_down
from orchestrator.store.messages import detail_of, whole_columns
from orchestrator.store.port import NotFound
from orchestrator.store.rules import current_revision
from orchestrator.store.signals import DISPATCHES, FACTS
from orchestrator.store.tables import Row, attempts, dispatches, messages
from schemas.dispatch import Attempt, AttemptOutcome, Dispatch, DispatchId, DispatchState
from schemas.message import MessageId, MessageState
from schemas.rule import Retry

_DUE = (DispatchState.READY, DispatchState.WAITING)


@dataclass(frozen=True, slots=True)
class Judged:
    """What one round of judging did."""

    judged: int = 0
    dispatched: int = 0
    dropped: int = 0
    #: The dispatches that were written.
    dispatches: tuple[DispatchId, ...] = ()
    #: The last message looked at; the next round may begin after it.
    last: MessageId | None = None


@dataclass(frozen=True, slots=True)
class Claim:
    """A dispatch that this worker has, ready to be carried out."""

    order: Order
    actor: str
    retry: Retry
    #: Which try it is by the retry policy's count.
    spent: int


class Dispatches:
    """The to-do list."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # The dispatcher's side.

    def judge(
        self,
        judge: Callable[[Facts], Verdict],
        *,
        revision: int,
        now: datetime,
        limit: int,
        again_after: MessageId | None = None,
        payloads: bool = False,
    ) -> Judged:
        """Judge pending messages and write down what follows, in one transaction.

        Those not yet judged at this `revision` come up; with `again_after`, every pending one after that id does.
        `judge` must be pure: it is called within the transaction. With `payloads` it gets those of the events too.

        Does nothing if other rules came into force meanwhile: the caller judges by theirs then.

        Raises:
            StoreUnavailable: nothing was changed.
        """
        if not self._any_pending(revision, again_after):
            return Judged()
        with self._database.write(DISPATCHES, FACTS) as connection:
            if again_after is None and current_revision(connection) != revision:
                return Judged()
            batch = pending_messages(connection, revision, limit, again_after, payloads=payloads)
            verdicts = [(facts.message, judge(facts)) for facts in batch]
            written, states = write_down(connection, verdicts, revision, now)
        return Judged(
            judged=len(batch),
            dispatched=states.count(MessageState.DISPATCHED),
            dropped=states.count(MessageState.DROPPED),
            dispatches=tuple(written),
            last=max((facts.message.id for facts in batch), default=None),
        )

    def _any_pending(self, revision: int, again_after: MessageId | None) -> bool:
        """A glance that takes no lock, so that an idle dispatcher does not stand in the writers' queue."""
        with self._database.read() as connection:
            query = select(messages.c.id).where(*is_pending(revision, again_after)).limit(1)
            return connection.execute(query).first() is not None

    # The worker's side.

    def claim(
        self, *, owner: str, limit: int, lease: timedelta, now: datetime, only: Sequence[DispatchId] | None = None
    ) -> list[Claim]:
        """Take up to `limit` dispatches that are due; nobody else has them while the lease is renewed."""
        if limit <= 0 or not self._any_due(now):
            return []
        with self._database.write() as connection:
            claimed: list[int] = []
            for state in _DUE:
                ids = _due(connection, state, now, limit - len(claimed), only)
                claimed += move(
                    connection,
                    dispatches,
                    ids,
                    state,
                    DispatchState.RUNNING,
                    who=owner,
                    why=None,
                    at=now,
                    owner=owner,
                    lease_until=now + lease,
                    attempts=dispatches.c.attempts + 1,
                    spent=dispatches.c.spent + 1,
                    updated_at=now,
                )
            return _claims(connection, claimed, owner, now)

    def _any_due(self, now: datetime) -> bool:
        """A glance that takes no lock, so that idle workers do not stand in the writers' queue."""
        with self._database.read() as connection:
            return connection.execute(select(dispatches.c.id).where(*_is_due(_DUE, now)).limit(1)).first() is not None

    def next_due(self) -> datetime | None:
        """When the next dispatch that waits for a moment is due; None if none waits."""
        query = select(func.min(dispatches.c.not_before)).where(dispatches.c.state.in_(_DUE))
        with self._database.read() as connection:
            due: datetime | None = connection.scalars(query).one()
        return due

    def renew(self, ids: Sequence[DispatchId], *, owner: str, until: datetime) -> None:
        """Extend the claims of this worker."""
        mine = (dispatches.c.id.in_(ids), dispatches.c.owner == owner, dispatches.c.state == DispatchState.RUNNING)
        with self._database.write() as connection:
            connection.execute(update(dispatches).where(*mine).values(lease_until=until))

    def settle(self, id_: DispatchId, number: int, next_: Next, trace: Trace, *, owner: str, now: datetime) -> bool:
        """Write down how a try ended and what follows. False if the claim was lost to somebody else meanwhile."""
        with self._database.write(DISPATCHES) as connection:
            refund = 1 if next_.attempt in (AttemptOutcome.WAIT, AttemptOutcome.INTERRUPTED) else 0
            moved = move(
                connection,
                dispatches,
                [id_],
                DispatchState.RUNNING,
                next_.state,
                who=owner,
                why=next_.reason,
                at=now,
                only_if=[dispatches.c.owner == owner, dispatches.c.attempts == number],
                not_before=next_.not_before,
                reason=next_.reason,
                owner=None,
                lease_until=None,
                spent=dispatches.c.spent - refund,
                updated_at=now,
            )
            if moved:
                _end_attempt(connection, id_, number, next_, trace, now)
        return bool(moved)

    # The janitor's side.

    def doubt(self, *, now: datetime) -> list[DispatchId]:
        """Mark the dispatches whose worker no longer renews its claim."""
        expired = (dispatches.c.state == DispatchState.RUNNING, dispatches.c.lease_until < now)
        query = select(dispatches.c.id, dispatches.c.owner).where(*expired)
        with self._database.read() as connection:
            if connection.execute(query.limit(1)).first() is None:
                return []
        doubted: list[DispatchId] = []
        with self._database.write() as connection:
            for id_, owner in connection.execute(query.with_for_update(skip_locked=True)).all():
                why = f"worker {owner} vanished in the middle"
                moved = move(
                    connection,
                    dispatches,
                    [id_],
                    DispatchState.RUNNING,
                    DispatchState.IN_DOUBT,
                    who="janitor",
                    why=why,
                    at=now,
                    reason=why,
                    updated_at=now,
                )
                doubted += map(DispatchId, moved)
        return doubted

    def resolve(self, *, now: datetime) -> list[tuple[DispatchId, Next]]:
        """Decide about those in doubt. Whatever may be repeated is: an actor that must not be looks before it acts."""
        query = select(dispatches).where(dispatches.c.state == DispatchState.IN_DOUBT)
        with self._database.read() as connection:
            if connection.execute(query.limit(1)).first() is None:
                return []
        resolved: list[tuple[DispatchId, Next]] = []
        with self._database.write(DISPATCHES) as connection:
            for row in connection.execute(query.with_for_update(skip_locked=True)).mappings().all():
                next_ = after_silence(
                    attempt=row["spent"], policy=Retry.model_validate_json(row["retry"]), now=now, owner=row["owner"]
                )
                move(
                    connection,
                    dispatches,
                    [row["id"]],
                    DispatchState.IN_DOUBT,
                    next_.state,
                    who="janitor",
                    why=next_.reason,
                    at=now,
                    reason=next_.reason,
                    not_before=next_.not_before,
                    owner=None,
                    lease_until=None,
                    updated_at=now,
                )
                _end_attempt(connection, row["id"], row["attempts"], next_, Trace(), now)
                resolved.append((DispatchId(row["id"]), next_))
        return resolved

    # A person's side.

    def retry(self, ids: Sequence[DispatchId], *, who: str, why: str, now: datetime) -> list[DispatchId]:
        """Put failed dispatches back on the list, with a fresh count of attempts. Returns those that were failed."""
        with self._database.write(DISPATCHES) as connection:
            moved = move(
                connection,
                dispatches,
                ids,
                DispatchState.FAILED,
                DispatchState.READY,
                who=who,
                why=why,
                at=now,
                spent=0,
                not_before=None,
                reason=why,
                updated_at=now,
            )
        return [DispatchId(id_) for id_ in moved]

    def get(self, id_: DispatchId) -> Dispatch:
        """Raises NotFound."""
        with self._database.read() as connection:
            row = connection.execute(select(dispatches).where(dispatches.c.id == id_)).mappings().one_or_none()
        if row is None:
            raise NotFound(f"there is no dispatch {id_}")
        return _dispatch(dict(row))

    def attempts_of(self, id_: DispatchId) -> list[Attempt]:
        """Every try at it, oldest first."""
        query = select(attempts).where(attempts.c.dispatch_id == id_).order_by(attempts.c.number)
        with self._database.read() as connection:
            return [Attempt.model_validate(dict(row)) for row in connection.execute(query).mappings()]

    def list(
        self,
        *,
        states: Sequence[DispatchState] = (),
        rule: str | None = None,
        message_id: MessageId | None = None,
        limit: int = 50,
        before: int | None = None,
    ) -> list[Dispatch]:
        """A page of dispatches, newest first; `before` is the last id of the page before."""
        query = select(dispatches).order_by(dispatches.c.id.desc()).limit(limit)
        if states:
            query = query.where(dispatches.c.state.in_(states))
        if rule is not None:
            query = query.where(dispatches.c.rule == rule)
        if message_id is not None:
            query = query.where(dispatches.c.message_id == message_id)
        if before is not None:
            query = query.where(dispatches.c.id < before)
        with self._database.read() as connection:
            return [_dispatch(dict(row)) for row in connection.execute(query).mappings()]


# Claiming, in the order of its steps.


def _is_due(states: Sequence[DispatchState], now: datetime) -> list[ColumnElement[bool]]:
    return [
        dispatches.c.state.in_(states),
        or_(dispatches.c.not_before.is_(None), dispatches.c.not_before <= now),
    ]


def _due(
    connection: Connection, state: DispatchState, now: datetime, limit: int, only: Sequence[DispatchId] | None
) -> list[int]:
    if only is None:
        return list(connection.scalars(_due_ids(state, now, limit, None)))
    found: list[int] = []
    for start in range(0, len(only), MOST_PARAMETERS):
        if len(found) < limit:
            part = only[start : start + MOST_PARAMETERS]
            found += connection.scalars(_due_ids(state, now, limit - len(found), part))
    return found


def _due_ids(state: DispatchState, now: datetime, limit: int, only: Sequence[DispatchId] | None) -> Select[Any]:
    query = select(dispatches.c.id).where(*_is_due([state], now)).order_by(dispatches.c.id).limit(limit)
    if only is not None:
        query = query.where(dispatches.c.id.in_(only))
    return query.with_for_update(skip_locked=True)


def _claims(connection: Connection, ids: Sequence[int], owner: str, now: datetime) -> list[Claim]:
    if not ids:
        return []
    rows = connection.execute(select(dispatches).where(dispatches.c.id.in_(ids)).order_by(dispatches.c.id)).mappings()
    found = [dict(row) for row in rows]
    begun = [
        {
            "dispatch_id": row["id"],
            "number": row["attempts"],
            "owner": owner,
            "started_at": now,
            "outcome": AttemptOutcome.RUNNING.value,
        }
        for row in found
    ]
    connection.execute(insert(attempts), begun)
    wanted = select(*whole_columns()).where(messages.c.id.in_({row["message_id"] for row in found}))
    bodies = {row["id"]: detail_of(dict(row)) for row in connection.execute(wanted).mappings()}
    return [_claim(row, bodies) for row in found]


def _claim(row: Row, bodies: Mapping[int, Any]) -> Claim:
    order = Order(
        dispatch_id=DispatchId(row["id"]),
        attempt=row["attempts"],
        rule=row["rule"],
        message=bodies[row["message_id"]],
        captured=json.loads(row["captured"]),
        options=json.loads(row["options"]),
    )
    return Claim(order, row["actor"], Retry.model_validate_json(row["retry"]), row["spent"])


def _end_attempt(connection: Connection, id_: int, number: int, next_: Next, trace: Trace, now: datetime) -> None:
    this = (attempts.c.dispatch_id == id_, attempts.c.number == number)
    connection.execute(
        update(attempts)
        .where(*this)
        .values(
            ended_at=now,
            outcome=next_.attempt,
            reason=without_nul(next_.reason),
            exit_code=trace.exit_code,
            stdout=without_nul(trace.stdout),
            stderr=without_nul(trace.stderr),
        )
    )


def _dispatch(row: Row) -> Dispatch:
    shown = {key: value for key, value in row.items() if key != "spent"}
    for key in ("captured", "options", "retry"):
        shown[key] = json.loads(row[key])
    return Dispatch.model_validate(shown)
