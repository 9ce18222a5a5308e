"""One batch of a replay: read, and written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from orchestrator.core.clauses import Facts
from orchestrator.core.pacing import Spent, fitting, rested
from orchestrator.core.past import Later
from orchestrator.store.facts import known_facts
from orchestrator.store.intake import chunks
from orchestrator.store.journal import move
from orchestrator.store.judging import dispatch_rows, insert_dispatches
from orchestrator.store.messages import message_of, payload_of, shown_columns
from orchestrator.store.rejoining import joins_there, leaving, put_back, sittings
from orchestrator.store.replay_batch import Batch, Hand, Judged, MatchKey
from orchestrator.store.restraints import Wanted, restrain
from orchestrator.store.run_flags import flags_of_runs
from orchestrator.store.tables import dispatches, journal, messages, revisions, rule_versions
from schemas.dispatch import DispatchId
from schemas.message import MessageId, MessageState
from schemas.replay import Replay, ReplayRequest

#: From these a message goes on to dispatched, if it was pending only when no rule in force waits to judge it.
_GOING_ON: Final = (MessageState.PENDING, MessageState.HELD, MessageState.DROPPED)


def read_facts(connection: Connection, wanted: Sequence[ColumnElement[bool]], limit: int) -> list[Facts]:
    """The next messages, in the order of their ids, with all that rules may ask of them."""
    query = select(*shown_columns(), messages.c.body).where(*wanted).order_by(messages.c.id).limit(limit)
    rows = [dict(row) for row in connection.execute(query).mappings()]
    known = known_facts(connection, [row["id"] for row in rows])
    flags = flags_of_runs(connection)
    return [
        Facts(message_of(row), Later(partial(payload_of, bytes(row.pop("body")))), known.get(row["id"]), flags)
        for row in rows
    ]


# Written.


def write_batch(connection: Connection, replay: Replay, judged: Sequence[Judged], hand: Hand) -> Batch:
    """Write the dispatches of these messages, as many as the pace allows, and move the messages that get one.

    Those that rules of the replay join with others are put back to pending, if nothing else comes of that.
    """
    states = _locked(connection, [each.message.id for each in judged if each.matches or each.joining])
    # somebody may have put it away since it was read
    judged = [each for each in judged if states.get(each.message.id) not in left_out(replay.request)]
    dispatched = matches_there(connection, states)
    seats = sittings(connection, [each.message.id for each in judged if each.joining])
    there = dispatched | joins_there(judged, states, dispatched, seats)
    batch, now_done = _as_paced(replay, judged, there, hand.now)
    matches = [Wanted(each.message, match) for each in now_done for match in each.matches]
    new = [each for each in matches if (each.message.id, each.rule) not in there]
    held = restrain(connection, new)
    rows = [
        row | ({"unique_key": None} if replay.request.lift_unique else {})
        for each in new
        if (each.message.id, each.rule) not in held
        for row in dispatch_rows(each.message, each.match, hand.now)
    ]
    ids = insert_dispatches(connection, rows, who=hand.who, why=_why(replay, hand), now=hand.now)
    written = _matches_of(connection, ids)
    batch.there, batch.written = len(matches) - len(new), len(written)
    batch.refused = len(new) - len(written) + sum(len(each.troubles) for each in now_done)
    if ids:
        batch.spent = Spent(batch.spent.started + len(ids), hand.now)
    dispatched |= {(each.message.id, each.rule) for each in new} - held.keys()
    # before others are moved: what has gone back is not where it was, and stays pending
    put_back(connection, leaving(now_done, states, there), dispatched, seats, hand, batch)
    batch.there += sum((each.message.id, rule) in there for each in now_done for rule in each.joining)
    _settle(connection, now_done, states, written, hand)
    return batch


def left_out(request: ReplayRequest) -> Sequence[MessageState]:
    """Messages in these states are no part of a replay."""
    return [MessageState.QUARANTINED, *([] if request.superseded else [MessageState.SUPERSEDED])]


def _why(replay: Replay, hand: Hand) -> str:
    return hand.why + (" (without its unique key)" if replay.request.lift_unique else "")


def _locked(connection: Connection, ids: Sequence[MessageId]) -> dict[MessageId, MessageState]:
    """Where these messages stand now. No dispatcher judges them before the transaction ends.

    With the weaker lock: a dispatcher may give one that was dispatched long ago a seat in another round of its room.
    """
    states: dict[MessageId, MessageState] = {}
    for chunk in chunks(ids):
        query = select(messages.c.id, messages.c.state).where(messages.c.id.in_(chunk)).order_by(messages.c.id)
        states.update(
            (MessageId(id_), MessageState(state))
            for id_, state in connection.execute(query.with_for_update(key_share=True))
        )
    return states


def matches_there(connection: Connection, ids: Iterable[int]) -> set[MatchKey]:
    """The matches that were dispatched before: a rule fires once for a message."""
    found: set[MatchKey] = set()
    for chunk in chunks(sorted(ids)):
        query = select(dispatches.c.message_id, dispatches.c.rule).where(dispatches.c.message_id.in_(chunk)).distinct()
        found.update((MessageId(id_), rule) for id_, rule in connection.execute(query))
    return found


def _as_paced(
    replay: Replay, judged: Sequence[Judged], there: set[MatchKey], now: datetime
) -> tuple[Batch, Sequence[Judged]]:
    """What is done now, and those of the messages that are."""
    pace, spent, count = replay.request.pace, Spent(replay.paced, replay.paced_at), len(judged)
    if pace is not None:
        costs = [_cost(each, there) for each in judged]
        count = fitting(costs, pace, spent, now)
        if rested(pace, spent, now):
            spent = Spent(0, spent.last)
        if count == 0 and judged:  # not even one fits into what is left
            spent = Spent(pace.count, spent.last)
    last = judged[count - 1].message.id if count else replay.position
    return Batch(count == len(judged), last, count, spent), judged[:count]


def _cost(judged: Judged, there: set[MatchKey]) -> int:
    """How much of the pace a message takes."""
    id_ = judged.message.id
    planned = [len(match.planned) for match in judged.matches if (id_, match.version.rule.name) not in there]
    return sum(planned) + sum((id_, rule) not in there for rule in judged.joining)


def _matches_of(connection: Connection, ids: Sequence[DispatchId]) -> set[MatchKey]:
    found: set[MatchKey] = set()
    for chunk in chunks(ids):
        query = select(dispatches.c.message_id, dispatches.c.rule).where(dispatches.c.id.in_(chunk)).distinct()
        found.update((MessageId(id_), rule) for id_, rule in connection.execute(query))
    return found


def _settle(
    connection: Connection,
    judged: Sequence[Judged],
    states: Mapping[MessageId, MessageState],
    written: set[MatchKey],
    hand: Hand,
) -> None:
    """Move the messages that got a dispatch; those alike go together."""
    alike: dict[tuple[MessageState, str], list[int]] = {}
    for each in judged:
        id_ = each.message.id
        rules = [match.version.rule.name for match in each.matches if (id_, match.version.rule.name) in written]
        state = states.get(id_)
        # one that has become pending since it was read is the dispatcher's
        settled = each.settled and each.message.state is MessageState.PENDING
        if rules and state in _GOING_ON and (state is not MessageState.PENDING or settled):
            alike.setdefault((state, f"matched by {', '.join(rules)} in {hand.why}"), []).append(id_)
    for (state, why), ids in alike.items():
        target = MessageState.DISPATCHED
        move(connection, messages, ids, state, target, who=hand.who, why=why, at=hand.now, reason=why)


# When rules came into force.


def revision_moments(connection: Connection) -> list[tuple[datetime, int]]:
    """When each revision of the rules came into force, oldest first; what is older than the revisions' own table, too.

    A revision began with a version, or with the end of one; the journal has always said when.
    """
    version = rule_versions.c
    in_force = or_(version.until_revision.is_(None), version.until_revision != version.since_revision)
    said = journal.join(rule_versions, and_(journal.c.subject == "rule", journal.c.subject_id == version.id))
    moments: dict[int, datetime] = {}
    for revision, what in (
        (version.since_revision, journal.c.from_state.is_(None)),
        (version.until_revision, journal.c.from_state.is_not(None)),
    ):
        query = select(revision, func.min(journal.c.at)).select_from(said).where(in_force, what).group_by(revision)
        for number, at in connection.execute(query.where(revision.is_not(None))):
            moments[number] = min(at, moments.get(number, at))
    moments.update((number, at) for number, at in connection.execute(select(revisions.c.number, revisions.c.at)))
    return [(at, number) for number, at in sorted(moments.items())]
