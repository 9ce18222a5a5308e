"""A retry by policy that is to come, and calling it off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select, update

from orchestrator.core.by_hand import Hand
from orchestrator.core.retry_steps import CALLED_OFF
from orchestrator.core.retrying import RETRIED_FROM
from orchestrator.store.journal import move, record, without_nul
from orchestrator.store.tables import launch_commands, launches
from schemas.launch import Command, CommandState, LaunchState


@dataclass(frozen=True, slots=True)
class Coming:
    """A retry that is to come."""

    #: Commands to retry that nobody has begun to carry out; none while it is not decided.
    waiting: Sequence[int]
    #: Whether one is being carried out: what is asked now comes after it.
    under_way: bool


def coming_of(connection: Connection, ids: Sequence[int]) -> Mapping[int, Coming]:
    """Those of the launches that have failed and of which a retry is to come.

    Whoever calls it has locked the launches: until he is done nobody decides, and nobody begins what is waiting.
    """
    undecided = (launches.c.retry_at.is_not(None), launches.c.state.in_(sorted(RETRIED_FROM)))
    found = connection.scalars(select(launches.c.id).where(launches.c.id.in_(ids), *undecided)).all()
    wanted = (launch_commands.c.command == Command.RETRY, launch_commands.c.state == CommandState.WANTED)
    columns = (launch_commands.c.id, launch_commands.c.launch_id, launch_commands.c.owner)
    query = select(*columns).where(launch_commands.c.launch_id.in_(found), *wanted).order_by(launch_commands.c.id)
    waiting: dict[int, list[int]] = {id_: [] for id_ in found}
    under_way = set()
    for id_, launch_id, owner in connection.execute(query.with_for_update()):
        if owner is None:
            waiting[launch_id].append(id_)
        else:
            under_way.add(launch_id)
    return {id_: Coming(those, id_ in under_way) for id_, those in waiting.items()}


def call_off(
    connection: Connection,
    coming: Mapping[int, Coming],
    kills: Mapping[int, int],
    states: Mapping[int, LaunchState],
    hand: Hand,
) -> None:
    """Let nothing more be decided, and nothing be begun that waits. Beside a retry under way the kill waits its turn.

    Args:
        kills: the commands to kill, by launch.
    """
    if not coming:
        return
    stop = update(launches).where(launches.c.id.in_(list(coming))).values(retry_at=None)
    connection.execute(stop)
    waiting = [id_ for each in coming.values() for id_ in each.waiting]
    _settle(connection, waiting, CommandState.REFUSED, f"called off by {hand.who}: {hand.why}", hand)
    over = [id_ for id_, each in coming.items() if not each.under_way]
    _settle(connection, [kills[id_] for id_ in over], CommandState.TAKEN, CALLED_OFF, hand)
    for state in sorted({states[id_] for id_ in over}):
        those = [id_ for id_ in over if states[id_] is state]
        why = f"{CALLED_OFF}: {hand.why}"
        record(connection, "launch", those, state, state, who=hand.who, why=why, at=hand.now)


def _settle(connection: Connection, ids: Sequence[int], state: CommandState, answer: str, hand: Hand) -> None:
    values: dict[str, Any] = {"answer": without_nul(answer), "settled_at": hand.now}
    wanted = CommandState.WANTED
    move(connection, launch_commands, ids, wanted, state, who=hand.who, why=answer, at=hand.now, **values)
