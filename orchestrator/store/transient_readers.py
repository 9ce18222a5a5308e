"""What of our own work hangs on datasets: launches that read or make them, dispatches and rooms of their messages."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Select, Table, exists, func, insert, or_, select

from orchestrator.core.states import LAUNCH, LAUNCH_ENDED
from orchestrator.core.transient.facts import Maker
from orchestrator.store.engine import Database
from orchestrator.store.port import NotAllowed
from orchestrator.store.tables import (
    Row,
    dispatches,
    launch_commands,
    launches,
    messages,
    products,
    readings,
    room_members,
    rooms,
    transients,
)
from orchestrator.store.transient_rows import by_names
from schemas.did import Did
from schemas.dispatch import DispatchState
from schemas.launch import Command, CommandState, LaunchState
from schemas.room import RoomState
from schemas.transient import TransientState

#: A dispatch in one of these may still start something, by itself or once a person lets it.
_NOT_ENDED: Final = (
    DispatchState.READY,
    DispatchState.RUNNING,
    DispatchState.WAITING,
    DispatchState.IN_DOUBT,
    DispatchState.HELD,
)

_WAITING: Final = (RoomState.OPEN, RoomState.OVERDUE)

#: Named one by one, so that the index on states serves.
_GOING_ON: Final = sorted(LAUNCH.keys() - LAUNCH_ENDED)

#: It has ended, and what failed of it is going to be retried: by its policy, or because a person asked.
_TO_BE_RETRIED: Final = or_(
    launches.c.retry_at.is_not(None),
    exists().where(
        launch_commands.c.launch_id == launches.c.id,
        launch_commands.c.state == CommandState.WANTED,
        launch_commands.c.command == Command.RETRY,
    ),
)

_GOES_ON: Final = or_(launches.c.state.in_(_GOING_ON), _TO_BE_RETRIED)


class TransientReaders:
    """What hangs on datasets. All questions are in bulk; a dataset without an answer is left out."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def in_use(self, dids: Iterable[Did]) -> Mapping[Did, str]:
        """Why each of these is needed, in words: the first thing that was found.

        A launch reads it, or was made of its message, and goes on or is to be retried; a dispatch of its message, or of
        a waiting room that it was in, has not ended; it waits in a room; a launch that made it is to be retried.
        """
        with self._database.read() as connection:
            return in_use(connection, dids)

    def makers(self, dids: Iterable[Did]) -> Mapping[Did, Sequence[Maker]]:
        """The launches that name each among their outputs, oldest first."""
        columns = (launches.c.id, launches.c.workflow, launches.c.outputs, launches.c.state)
        query = select(products.c.scope, products.c.name, *columns).join(
            launches, launches.c.id == products.c.launch_id
        )
        found: dict[Did, list[Maker]] = {}
        with self._database.read() as connection:
            for scope, name, id_, workflow, outputs, state in _of(connection, query, products, dids, launches.c.id):
                did = Did(scope, name)
                step = json.loads(outputs).get(str(did), "")
                found.setdefault(did, []).append(Maker(id_, workflow, step, LaunchState(state)))
        return found

    def last_use(self, dids: Iterable[Did]) -> Mapping[Did, datetime]:
        """When anything last changed about a launch that reads each."""
        last = func.max(launches.c.updated_at, type_=launches.c.updated_at.type)
        query = select(readings.c.scope, readings.c.name, last).join(launches, launches.c.id == readings.c.launch_id)
        query = query.group_by(readings.c.scope, readings.c.name)
        with self._database.read() as connection:
            return {Did(scope, name): at for scope, name, at in _of(connection, query, readings, dids)}


def in_use(connection: Connection, dids: Iterable[Did]) -> dict[Did, str]:
    """As `TransientReaders.in_use`, within a transaction."""
    wanted = list(dids)
    found: dict[Did, str] = {}
    for query, table, words in _USES:
        for scope, name, *values in _of(connection, query, table, wanted):
            found.setdefault(Did(scope, name), words.format(*values))
    return found


class InputLeaves(NotAllowed):
    """A launch was to read a dataset that leaves: some of its copies may have gone."""


def write_readings(connection: Connection, launch_id: int, inputs: Iterable[str]) -> None:
    """Note which datasets a launch reads, unless one of them leaves already: then raises InputLeaves.

    Whoever lets one leave asks for readings with its row locked, and here the row is locked as well: one of the two
    sees the other.
    """
    pairs = dict.fromkeys(text.partition(":")[::2] for text in inputs)
    dids = [Did(scope, name) for scope, name in pairs if scope and name]
    rows: list[Row] = [{"launch_id": launch_id, "scope": did.scope, "name": did.name} for did in dids]
    if rows:
        connection.execute(insert(readings), rows)
    columns = (transients.c.id, transients.c.scope, transients.c.name, transients.c.state)
    for condition in by_names(sorted(dids), transients):
        lives = select(*columns).where(condition).order_by(transients.c.id).with_for_update(read=True)
        for id_, scope, name, state in connection.execute(lives):
            if state == TransientState.LEAVING:
                raise InputLeaves(
                    f"{scope}:{name} is leaving, and some of its copies may have gone: nothing new reads it; "
                    f"`muleteer transient recall {id_} --why ...` calls it back as far as it is there still"
                )


def _of(connection: Connection, query: Select[Any], table: Table, dids: Iterable[Did], *order: Any) -> Iterator[Any]:
    """The query's rows about these datasets, which `table` names."""
    for condition in by_names(dids, table):
        yield from connection.execute(query.where(condition).order_by(*order))


_DID: Final = (messages.c.scope, messages.c.name)

#: From the message of a room to the dispatches of that room.
_OF_A_ROOM: Final = (dispatches.c.message_id == rooms.c.message_id) & (dispatches.c.rule == rooms.c.rule)

_IN_ROOMS: Final = (
    select(*_DID, dispatches.c.id, dispatches.c.state)
    .join(room_members, room_members.c.message_id == messages.c.id)
    .join(rooms, rooms.c.id == room_members.c.room_id)
    .join(dispatches, _OF_A_ROOM)
)

#: Of one room there are few dispatches, of a rule there may be thousands that wait: spelt so that no index on states is
#: taken, which SQLite would prefer to that on messages.
_OF_A_ROOM_NOT_ENDED: Final = dispatches.c.state.concat("").in_(_NOT_ENDED)

_MADE_OF: Final = select(*_DID, launches.c.id, launches.c.state)

#: What is asked, which table names the datasets there, and what is said of what is found.
_USES: Final[Sequence[tuple[Select[Any], Table, str]]] = (
    (
        select(readings.c.scope, readings.c.name, launches.c.id, launches.c.state)
        .join(launches, launches.c.id == readings.c.launch_id)
        .where(_GOES_ON),
        readings,
        "launch {0}, which is {1}, reads it",
    ),
    (
        _MADE_OF.join(dispatches, dispatches.c.message_id == messages.c.id)
        .join(launches, launches.c.dispatch_id == dispatches.c.id)
        .where(_GOES_ON),
        messages,
        "launch {0}, which is {1}, was made of it",
    ),
    (
        _IN_ROOMS.with_only_columns(*_DID, launches.c.id, launches.c.state, maintain_column_froms=True)
        .join(launches, launches.c.dispatch_id == dispatches.c.id)
        .where(_GOES_ON),
        messages,
        "launch {0}, which is {1}, was made of it and others",
    ),
    (
        select(*_DID, dispatches.c.id, dispatches.c.state)
        .join(dispatches, dispatches.c.message_id == messages.c.id)
        .where(dispatches.c.state.in_(_NOT_ENDED)),
        messages,
        "dispatch {0} of it is {1}",
    ),
    (
        _IN_ROOMS.where(_OF_A_ROOM_NOT_ENDED),
        messages,
        "dispatch {0} of it and others is {1}",
    ),
    (
        select(*_DID, rooms.c.id, rooms.c.rule, rooms.c.key)
        .join(room_members, room_members.c.message_id == messages.c.id)
        .join(rooms, rooms.c.id == room_members.c.room_id)
        .where(rooms.c.state.in_(_WAITING), room_members.c.left_at.is_(None)),
        messages,
        "it waits in room {0} of rule {1} for {2}",
    ),
    (
        select(products.c.scope, products.c.name, launches.c.id, launches.c.state)
        .join(launches, launches.c.id == products.c.launch_id)
        .where(_TO_BE_RETRIED),
        products,
        "launch {0}, which is {1}, makes it and is to be retried",
    ),
)
