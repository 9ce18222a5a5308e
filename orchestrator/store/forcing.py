"""Forcing: a unique key is taken from the match that has it, and given to one that was refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, func, select, update

from orchestrator.core.by_hand import Hand
from orchestrator.core.leftovers import Left, Taken
from orchestrator.store.intake import chunks
from orchestrator.store.journal import move, record
from orchestrator.store.port import NotAllowed, NotFound
from orchestrator.store.tables import dispatches, guards, launches
from schemas.dispatch import DispatchId, DispatchState
from schemas.launch import LaunchState


class StillGoingOn(NotAllowed):
    """The match that has the key is not over: forcing would have two of them at work."""


#: To be carried out later.
_OPEN = (DispatchState.READY, DispatchState.WAITING, DispatchState.HELD)


def taken(connection: Connection, id_: DispatchId) -> Taken:
    """Who has the key of a refused dispatch. Raises NotFound, NotAllowed."""
    asked = connection.execute(select(dispatches).where(dispatches.c.id == id_)).mappings().one_or_none()
    if asked is None:
        raise NotFound(f"there is no dispatch {id_}")
    guard = connection.execute(select(guards).where(guards.c.key == asked["unique_key"])).mappings().one_or_none()
    match = (asked["message_id"], asked["rule"])
    refused = _of_match(connection, *match)
    # one that was refused and then cancelled may be forced as well
    wanted = [each for each, state in refused if state == DispatchState.REFUSED or each == id_]
    kept_from_it = guard is not None and (guard["message_id"], guard["rule"]) != match
    if guard is None or not kept_from_it or asked["state"] not in (DispatchState.REFUSED, DispatchState.CANCELLED):
        raise NotAllowed(f"dispatch {id_} is {asked['state']}, and no other match keeps its unique key from it")
    first = _of_match(connection, guard["message_id"], guard["rule"])
    left = launches_left(connection, [each for each, _ in first])
    return Taken(
        key=asked["unique_key"],
        asked=id_,
        message_id=match[0],
        rule=match[1],
        refused=tuple(wanted),
        first_message_id=guard["message_id"],
        first_rule=guard["rule"],
        first=tuple(first),
        launches=tuple(left),
    )


def _of_match(connection: Connection, message_id: int, rule: str) -> list[tuple[DispatchId, DispatchState]]:
    query = select(dispatches.c.id, dispatches.c.state).order_by(dispatches.c.id)
    mine = (dispatches.c.message_id == message_id, dispatches.c.rule == rule)
    return [(DispatchId(id_), DispatchState(state)) for id_, state in connection.execute(query.where(*mine))]


def launches_left(connection: Connection, ids: Sequence[int]) -> list[Left]:
    """The launches that these dispatches made, oldest first."""
    left: list[Left] = []
    for chunk in chunks(ids):
        query = select(launches).where(launches.c.dispatch_id.in_(chunk)).order_by(launches.c.id)
        left += [
            Left(
                row["id"], row["dispatch_id"], row["name"], LaunchState(row["state"]), tuple(json.loads(row["outputs"]))
            )
            for row in connection.execute(query).mappings()
        ]
    return left


def force(connection: Connection, seen: Taken, hand: Hand) -> list[DispatchId]:
    """Give the key to the match that was refused, if all is still as it was seen."""
    ids = sorted([*seen.refused, *(id_ for id_, _ in seen.first)])
    # their rows first, the key after: as everybody does who puts a dispatch back on the list
    connection.execute(
        select(dispatches.c.id).where(dispatches.c.id.in_(ids)).order_by(dispatches.c.id).with_for_update()
    )
    connection.execute(select(guards.c.key).where(guards.c.key == seen.key).with_for_update())
    now = taken(connection, seen.asked)
    if now.going_on is not None:
        raise StillGoingOn(f"the first is still going on: {now.going_on}")
    if now != seen:
        raise NotAllowed(f"what the first did with the key {seen.key!r} has changed meanwhile: look again")
    _supersede(connection, now, hand)
    holder = {"message_id": now.message_id, "rule": now.rule, "dispatch_id": now.refused[0], "at": hand.now}
    connection.execute(update(guards).where(guards.c.key == seen.key).values(holder))
    why = f"forced, instead of dispatch {now.first[0][0]}: {hand.why}"
    return _put_on_the_list(connection, now.refused, why, hand, _next_round(connection, now))


def _supersede(connection: Connection, now: Taken, hand: Hand) -> None:
    """What the first has still to do is cancelled; what it did stays, and all of it says what happened."""
    why = f"dispatch {now.refused[0]} was forced and has the key {now.key!r} now: {hand.why}"
    how: dict[str, Any] = {"who": hand.who, "why": why, "at": hand.now}
    ended: dict[str, Any] = {"reason": why, "updated_at": hand.now}
    for id_, state in now.first:
        if state in _OPEN:
            move(connection, dispatches, [id_], state, DispatchState.CANCELLED, **how, **ended)
        else:
            record(connection, "dispatch", [id_], state, state, **how)
    prepared = [each.id for each in now.launches if each.state is LaunchState.PREPARED]
    move(connection, launches, prepared, LaunchState.PREPARED, LaunchState.KILLED, **how, **ended)


def _next_round(connection: Connection, now: Taken) -> int | None:
    """A round that no launch of the first match had, so that names do not clash; None if it has launched nothing."""
    if not now.launches:
        return None
    ids = [*now.refused, *(id_ for id_, _ in now.first)]
    last: int = connection.scalars(select(func.max(dispatches.c.round)).where(dispatches.c.id.in_(ids))).one()
    return last + 1


def _put_on_the_list(
    connection: Connection, ids: Sequence[DispatchId], why: str, hand: Hand, round_: int | None
) -> list[DispatchId]:
    values: dict[str, Any] = {"reason": why, "updated_at": hand.now, "spent": 0, "not_before": None}
    if round_ is not None:
        values["round"] = round_
    ready: list[int] = []
    for state in (DispatchState.REFUSED, DispatchState.CANCELLED):
        ready += move(
            connection, dispatches, ids, state, DispatchState.READY, who=hand.who, why=why, at=hand.now, **values
        )
    return sorted(map(DispatchId, ready))
