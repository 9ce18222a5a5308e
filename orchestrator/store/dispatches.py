"""Dispatches: written when a message is judged, claimed by workers, settled by outcomes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import cycle

from sqlalchemy import Connection, func, select, update

from orchestrator.core.actor import Trace
from orchestrator.core.dispatch import Next, after_silence
from orchestrator.core.gates import LimitsOf, Subject
from orchestrator.core.matching import RuleSet
from orchestrator.store.claiming import DUE, Claim, Claiming, any_due
from orchestrator.store.engine import Database
from orchestrator.store.gates import GateKeeper, Regime, stamp_of, take_turn
from orchestrator.store.joining import Seating
from orchestrator.store.journal import move, without_nul
from orchestrator.store.judging import (
    JudgingFailed,
    is_pending,
    pending_messages,
    verdicts_of,
    write_down,
    write_rooms,
)
from orchestrator.store.port import NotFound, StoreError
from orchestrator.store.room_settling import rules_due
from orchestrator.store.rules import current_revision
from orchestrator.store.signals import DISPATCHES, FACTS
from orchestrator.store.standings import standings
from orchestrator.store.suspensions import Tripped, note_end_of_dispatch, tell
from orchestrator.store.tables import Row, attempts, dispatches, messages
from schemas.dispatch import Attempt, AttemptOutcome, Dispatch, DispatchId, DispatchState
from schemas.gate import Standing
from schemas.message import MessageId, MessageState
from schemas.rule import Retry

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

    def __add__(self, after: Judged) -> Judged:
        """This round and one after it."""
        return Judged(
            self.judged + after.judged,
            self.dispatched + after.dispatched,
            self.dropped + after.dropped,
            (*self.dispatches, *after.dispatches),
            self.last if after.last is None else after.last,
            (*self.alerts, *after.alerts),
        )


class Dispatches:
    """The to-do list."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._keeper = GateKeeper()
        #: What is ready and what waits for its moment come first in turn, so that neither starves the other.
        self._turns = cycle([DUE, DUE[::-1]])

    # The dispatcher's side.

    def judge(self, rules: RuleSet, *, now: datetime, limit: int, again_after: MessageId | None = None) -> Judged:
        """Judge pending messages and write down what follows, in one transaction.

        Once none is left, waiting rooms whose time has come are settled, in another.

        Those not yet judged at the revision of `rules` come up; with `again_after`, every pending one after that id
        does.

        Does nothing if other rules came into force meanwhile: the caller judges by theirs then.

        Raises:
            StoreUnavailable: nothing was changed.
            JudgingFailed: the same, for a reason that nobody foresaw.
        """
        judged = Judged()
        if self._any_pending(rules.revision, again_after):
            batch = self._judge_batch(rules, now, limit, again_after)
            if batch is None:
                return judged
            judged = batch
        return judged if judged.judged >= limit else judged + self._settle_due(rules, now)

    def _judge_batch(self, rules: RuleSet, now: datetime, limit: int, again_after: MessageId | None) -> Judged | None:
        """One transaction; None if other rules are in force."""
        ids: list[MessageId] = []
        try:
            with self._database.write(DISPATCHES, FACTS) as connection:
                if again_after is None and current_revision(connection) != rules.revision:
                    return None
                rows = pending_messages(connection, rules, limit, again_after)
                ids += [row["id"] for row in rows]
                written = write_down(connection, rules, verdicts_of(connection, rules, rows), now)
        except StoreError:
            raise
        except Exception as error:
            if not ids:
                raise
            raise JudgingFailed(ids, f"{type(error).__name__}: {error}") from error
        return Judged(
            judged=len(ids),
            dispatched=written.states.count(MessageState.DISPATCHED),
            dropped=written.states.count(MessageState.DROPPED),
            dispatches=tuple(written.dispatches),
            last=max(ids, default=None),
            alerts=tuple(written.alerts),
        )

    def put_off(self, id_: MessageId, revision: int, why: str) -> bool:
        """Pass over a message until the rules change; it stays pending. False: somebody else was first."""
        this = (messages.c.id == id_, *is_pending(revision, None))
        values = {"judged_revision": revision, "reason": without_nul(why[:1000])}
        with self._database.write() as connection:
            return connection.execute(update(messages).where(*this).values(values)).rowcount > 0

    def _settle_due(self, rules: RuleSet, now: datetime) -> Judged:
        """Settle the waiting rooms whose time has come. What arrived before that was looked at counts for them."""
        with self._database.read() as connection:
            due = rules_due(connection, now)
        if not due:
            return Judged()
        with self._database.write(DISPATCHES) as connection:
            if current_revision(connection) != rules.revision:
                return Judged()
            seating = Seating(connection, rules.revision, now)
            seating.settle_due(due)
            written = write_rooms(connection, rules, seating, now, who="dispatcher")
        return Judged(dispatches=tuple(written), alerts=tuple(seating.alerts))

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
                    claiming = Claiming(connection, self._keeper, regime, now)
                    return claiming.claim(states, owner=owner, limit=limit, lease=lease, only=only)

    def _worth_a_turn(self, limits: LimitsOf, now: datetime, only: Sequence[DispatchId] | None) -> Regime | None:
        """What is in force; None if it lets nothing through. Takes no lock, so that nobody queues up for nothing."""
        with self._database.read() as connection:
            regime = self._keeper.regime(connection, limits)
            worth = only is not None or Claiming(connection, self._keeper, regime, now).finds_any()
            return regime if worth else None

    def _any_due(self, now: datetime) -> bool:
        """A glance that takes no lock, so that idle workers do not stand in the writers' queue."""
        with self._database.read() as connection:
            return any_due(connection, DUE, now)

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
            tripped = None
            if moved:
                _end_attempt(connection, id_, number, next_, trace, now)
                tripped = note_end_of_dispatch(connection, id_, next_.state, next_.reason, now)
        tell(tripped)
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
        tripped: list[Tripped | None] = []
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
                tripped.append(note_end_of_dispatch(connection, row["id"], next_.state, next_.reason, now))
                resolved.append((DispatchId(row["id"]), next_))
        tell(*tripped)
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


# How a try ends, and how a dispatch is shown.


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
