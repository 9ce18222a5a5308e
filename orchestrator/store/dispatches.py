"""Dispatches: written when a message is judged, claimed by workers, settled by outcomes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from itertools import cycle
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, insert, or_, select, update

from orchestrator.core.actor import Order, Trace
from orchestrator.core.clauses import Facts
from orchestrator.core.dispatch import Next, after_silence
from orchestrator.core.gates import LimitsOf, Subject, order_of
from orchestrator.core.matching import Verdict
from orchestrator.store.engine import Database
from orchestrator.store.gates import GateKeeper, Regime, stamp_of, take_turn
from orchestrator.store.joining import Seating
from orchestrator.store.journal import MOST_PARAMETERS, move, without_nul
from orchestrator.store.judging import facts_of, is_pending, pending_messages, write_down, write_rooms
from orchestrator.store.messages import detail_of, whole_columns
from orchestrator.store.port import NotFound
from orchestrator.store.room_settling import rules_due
from orchestrator.store.rules import current_revision
from orchestrator.store.signals import DISPATCHES, FACTS
from orchestrator.store.standings import standings
from orchestrator.store.suspensions import note_end_of_dispatch, note_starts
from orchestrator.store.tables import Row, attempts, dispatches, messages
from schemas.dispatch import Attempt, AttemptOutcome, Dispatch, DispatchId, DispatchState
from schemas.gate import Standing
from schemas.message import Message, MessageId, MessageState
from schemas.rule import Order as StartOrder
from schemas.rule import Retry

_DUE = (DispatchState.READY, DispatchState.WAITING)

#: No settings that hold anything back.
NO_LIMITS: LimitsOf = {}


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
    #: What people should hear of: datasets that came too late, waiting rooms whose deadline has passed.
    alerts: tuple[str, ...] = ()


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
        self._keeper = GateKeeper()
        #: What is ready and what waits for its moment come first in turn, so that neither starves the other.
        self._turns = cycle([_DUE, _DUE[::-1]])

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
        run_flags: bool = False,
    ) -> Judged:
        """Judge pending messages and write down what follows, in one transaction.

        Once none is left, waiting rooms whose time has come are settled, in another.

        Those not yet judged at this `revision` come up; with `again_after`, every pending one after that id does.
        `judge` must be pure: it is called within the transaction. With `payloads` it gets those of the events
        too, with `run_flags` what people said of runs.

        Does nothing if other rules came into force meanwhile: the caller judges by theirs then.

        Raises:
            StoreUnavailable: nothing was changed.
        """
        judged = Judged()

        def again(connection: Connection, ids: Sequence[MessageId]) -> Sequence[tuple[Message, Verdict]]:
            found = facts_of(connection, ids, payloads=payloads, run_flags=run_flags)
            return [(facts.message, judge(facts)) for facts in found]

        if self._any_pending(revision, again_after):
            with self._database.write(DISPATCHES, FACTS) as connection:
                if again_after is None and current_revision(connection) != revision:
                    return judged
                batch = pending_messages(
                    connection, revision, limit, again_after, payloads=payloads, run_flags=run_flags
                )
                verdicts = [(facts.message, judge(facts)) for facts in batch]
                written = write_down(connection, verdicts, revision, now, partial(again, connection))
            judged = Judged(
                judged=len(batch),
                dispatched=written.states.count(MessageState.DISPATCHED),
                dropped=written.states.count(MessageState.DROPPED),
                dispatches=tuple(written.dispatches),
                last=max((facts.message.id for facts in batch), default=None),
                alerts=tuple(written.alerts),
            )
        return judged if judged.judged >= limit else self._settle_due(judged, revision, now, again)

    def put_off(self, revision: int, why: str) -> MessageId | None:
        """Pass over the message that comes up next until the rules change; it stays pending. None: there is none."""
        with self._database.write() as connection:
            order = (messages.c.judged_revision, messages.c.id)
            query = select(messages.c.id).where(*is_pending(revision, None)).order_by(*order).limit(1)
            id_ = connection.scalars(query.with_for_update(skip_locked=True)).one_or_none()
            if id_ is not None:
                values = {"judged_revision": revision, "reason": without_nul(why[:1000])}
                connection.execute(update(messages).where(messages.c.id == id_).values(values))
        return None if id_ is None else MessageId(id_)

    def _settle_due(
        self,
        judged: Judged,
        revision: int,
        now: datetime,
        again: Callable[[Connection, Sequence[MessageId]], Sequence[tuple[Message, Verdict]]],
    ) -> Judged:
        """Settle the waiting rooms whose time has come. What arrived before that was looked at counts for them."""
        with self._database.read() as connection:
            due = rules_due(connection, now)
        if not due:
            return judged
        with self._database.write(DISPATCHES) as connection:
            if current_revision(connection) != revision:
                return judged
            seating = Seating(connection, revision, now)
            seating.settle_due(due)
            written = write_rooms(connection, seating, now, partial(again, connection), who="dispatcher")
        return replace(
            judged,
            dispatches=(*judged.dispatches, *written),
            alerts=(*judged.alerts, *seating.alerts),
        )

    def _any_pending(self, revision: int, again_after: MessageId | None) -> bool:
        """A glance that takes no lock, so that an idle dispatcher does not stand in the writers' queue."""
        with self._database.read() as connection:
            query = select(messages.c.id).where(*is_pending(revision, again_after)).limit(1)
            return connection.execute(query).first() is not None

    # The worker's side.

    def claim(
        self,
        *,
        owner: str,
        limit: int,
        lease: timedelta,
        now: datetime,
        only: Sequence[DispatchId] | None = None,
        limits: LimitsOf = NO_LIMITS,
    ) -> list[Claim]:
        """Take up to `limit` dispatches that are due; nobody else has them while the lease is renewed.

        Caps, paces and the order of rules are kept, and so are `limits`, those of the settings. What is suspended is
        left alone; with `only`, these are taken and no others, suspended or not.
        """
        if limit <= 0 or not self._any_due(now):
            return []
        states = next(self._turns)
        while True:
            regime = self._worth_a_turn(limits, now, only)
            if regime is None:
                return []
            with self._database.write() as connection:
                take_turn(connection, alone=regime.gated)
                # rules may have changed since; then everything is asked anew
                if stamp_of(connection) == regime.stamp:
                    claimed: list[int] = []
                    for state in states:
                        if len(claimed) < limit:
                            ids = self._next(connection, state, regime, now, limit - len(claimed), only)
                            claimed += _take(connection, ids, state, owner, lease, now)
                    return _claims(connection, claimed, owner, now)

    def _worth_a_turn(self, limits: LimitsOf, now: datetime, only: Sequence[DispatchId] | None) -> Regime | None:
        """What is in force; None if it lets nothing through. Takes no lock, so that nobody queues up for nothing."""
        with self._database.read() as connection:
            regime = self._keeper.regime(connection, limits)
            if not regime.gated or only is not None:
                return regime
            waits = select(dispatches.c.id).where(*_is_due([DispatchState.WAITING], now)).limit(1)
            if connection.execute(waits).first() is not None:
                return regime
            return regime if self._keeper.choose(connection, regime, now=now, limit=1) else None

    def _next(
        self,
        connection: Connection,
        state: DispatchState,
        regime: Regime,
        now: datetime,
        limit: int,
        only: Sequence[DispatchId] | None,
    ) -> list[int]:
        """Those to be taken next, locked. What waits for its moment goes on already: no gate is before it."""
        if state is DispatchState.WAITING or not regime.gated:
            return _due(connection, state, now, limit, only)
        chosen = self._keeper.choose(connection, regime, now=now, limit=limit, only=only)
        ids = set(_due(connection, state, now, limit, [DispatchId(each.id) for each in chosen]))
        started = [each for each in chosen if each.id in ids]
        newest_first = (
            each.rule for each in started if order_of(each.rule, each.group, regime.limits) is StartOrder.NEWEST
        )
        for rule, count in Counter(newest_first).items():
            note_starts(connection, rule, count)
        return [each.id for each in started]

    def _any_due(self, now: datetime) -> bool:
        """A glance that takes no lock, so that idle workers do not stand in the writers' queue."""
        with self._database.read() as connection:
            return connection.execute(select(dispatches.c.id).where(*_is_due(_DUE, now)).limit(1)).first() is not None

    def standings(self, *, now: datetime, limits: LimitsOf = NO_LIMITS, also: Sequence[Subject] = ()) -> list[Standing]:
        """How much of the limits is used, and why nothing more is started: everything, groups, and rules in force.

        Rules that are not in force and have nothing ready are left out, but for those in `also`.
        """
        with self._database.read() as connection:
            return standings(connection, self._keeper.regime(connection, limits), now, also)

    def next_due(self, after: datetime | None = None) -> datetime | None:
        """When the next dispatch that waits for a moment is due, or a pace lets one through; None if none waits.

        With `after`, those that were due by then do not count: they are held back by something else.
        """
        query = select(func.min(dispatches.c.not_before)).where(dispatches.c.not_before.is_not(None))
        if after is not None:
            query = query.where(dispatches.c.not_before > after)
        with self._database.read() as connection:
            moments = [connection.scalars(query).one(), self._keeper.opens_at]
        return min((each for each in moments if each is not None and (after is None or each > after)), default=None)

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
                note_end_of_dispatch(connection, id_, next_.state, next_.reason, now)
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
                note_end_of_dispatch(connection, row["id"], next_.state, next_.reason, now)
                resolved.append((DispatchId(row["id"]), next_))
        return resolved

    # A person's side.

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


def _take(
    connection: Connection, ids: Sequence[int], state: DispatchState, owner: str, lease: timedelta, now: datetime
) -> list[int]:
    return move(
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
        not_before=None,
        attempts=dispatches.c.attempts + 1,
        spent=dispatches.c.spent + 1,
        updated_at=now,
    )


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
        round=row["round"],
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
