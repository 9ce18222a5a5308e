"""What people ask of launches: written down first, carried out by whoever reaches the engine, kept for ever."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy import Connection, and_, insert, or_, select, update

from orchestrator.core.by_hand import Hand, Tally
from orchestrator.core.commanding import BEING_SENT, FITS, Hold, hold_of
from orchestrator.core.naming import first_key
from orchestrator.core.retry_steps import CALLED_OFF
from orchestrator.store.calling_off import Coming, call_off, coming_of
from orchestrator.store.engine import Database
from orchestrator.store.gates import OCCUPYING
from orchestrator.store.intake import chunks
from orchestrator.store.journal import move, record, without_nul
from orchestrator.store.launch_listing import LaunchFilter
from orchestrator.store.tables import Row, launch_commands, launches
from schemas.launch import Command, CommandState, LaunchCommand, LaunchId, LaunchState

#: Why an id stays that is no launch's.
UNKNOWN: Final = "unknown"

#: So many launches are asked something of in one transaction.
_AT_ONCE: Final = 1000


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked, of every launch alike."""

    command: Command
    #: Only this step; all that the command fits unless it is said.
    step: str | None = None
    #: In the engine's words, of a retry.
    parameters: Mapping[str, str] | None = None
    #: Of a retry: even beside another launch for the same that is at work.
    force: bool = False
    #: Of a policy's retry of all that has failed: the steps of which it is an attempt.
    attempt_of: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Errand:
    """A command that somebody has taken upon himself."""

    command: LaunchCommand
    #: Who had it before has said nothing more of it: he may have carried it out, or not.
    doubtful: bool


class LaunchCommands:
    """Commands to launches."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def ask(self, ask: Ask, chosen: Sequence[LaunchId] | LaunchFilter, hand: Hand) -> Tally:
        """Write down what is asked of these launches. Those that it does not fit stay as they are, with the reason.

        To kill what has failed calls off the retry that its policy was to decide about, or has asked for.
        """
        tally = Tally()
        for ids in self._pages(chosen):
            with self._database.write() as connection:
                query = select(launches.c.id, launches.c.state).where(launches.c.id.in_(ids)).order_by(launches.c.id)
                calls_off = ask.command is Command.KILL and ask.step is None
                if calls_off:  # what fails at this moment is to be killed as well
                    query = query.with_for_update()
                states = {id_: LaunchState(state) for id_, state in connection.execute(query)}
                coming = coming_of(connection, ids) if calls_off else {}
                fitting = sorted_out(connection, ask, ids, states, tally, coming)
                if not hand.dry_run:
                    added = write_asked(connection, ask, fitting, states, hand)
                    call_off(connection, coming, added, states, hand)
        return tally

    def _pages(self, chosen: Sequence[LaunchId] | LaunchFilter) -> Iterator[Sequence[int]]:
        if not isinstance(chosen, LaunchFilter):
            ids = sorted(set(chosen))
            for start in range(0, len(ids), _AT_ONCE):
                yield ids[start : start + _AT_ONCE]
            return
        last = 0
        query = select(launches.c.id).where(*chosen.conditions()).order_by(launches.c.id).limit(_AT_ONCE)
        while True:
            with self._database.read() as connection:
                page = connection.scalars(query.where(launches.c.id > last)).all()
            if not page:
                return
            yield page
            last = page[-1]

    def claim(self, engine: str, *, owner: str, lease: timedelta, now: datetime, limit: int = 50) -> Sequence[Errand]:
        """Take commands upon oneself, so that nobody else carries them out for as long as the lease.

        Of each launch the oldest: they count in the order in which they were asked. Those that nobody has tried yet go
        before those that were released. A launch that is being sent, or in doubt, is waited for.
        """
        theirs = launch_commands.c.claimed_at >= now - lease
        same = launch_commands.alias()
        older = select(same.c.id).where(
            same.c.launch_id == launch_commands.c.launch_id,
            same.c.state == CommandState.WANTED,
            same.c.id < launch_commands.c.id,
        )
        query = (
            select(launch_commands)
            .join(launches, launches.c.id == launch_commands.c.launch_id)
            .where(
                launch_commands.c.state == CommandState.WANTED,
                launches.c.engine == engine,
                launches.c.state.not_in(sorted(BEING_SENT)),
                or_(launch_commands.c.claimed_at.is_(None), ~theirs),
                ~older.exists(),
            )
            .order_by(launch_commands.c.claimed_at.is_not(None), launch_commands.c.id)
            .limit(limit)
        )
        with self._database.read() as connection:
            if connection.execute(query.limit(1)).first() is None:
                return []  # as nearly always: no need to become the writer
        with self._database.write() as connection:
            found = query.with_for_update(of=launch_commands, skip_locked=True)
            rows = [dict(row) for row in connection.execute(found).mappings()]
            ids = [row["id"] for row in rows]
            taken = update(launch_commands).where(launch_commands.c.id.in_(ids)).values(owner=owner, claimed_at=now)
            connection.execute(taken)
        return [Errand(_command(row), row["owner"] is not None) for row in rows]

    def release(self, id_: int, *, owner: str, lease: timedelta, not_before: datetime) -> None:
        """Give a command back that was certainly not carried out; nobody takes it again before that moment.

        `lease` is the one that it was claimed with.
        """
        this = (launch_commands.c.id == id_, launch_commands.c.owner == owner)
        with self._database.write() as connection:
            given_back = update(launch_commands).where(*this).values(owner=None, claimed_at=not_before - lease)
            connection.execute(given_back)

    def settle(self, id_: int, state: CommandState, answer: str, *, who: str, now: datetime) -> None:
        """Say what came of it. What was settled before stays as it is."""
        with self._database.write() as connection:
            values: dict[str, Any] = {"answer": without_nul(answer), "settled_at": now}
            wanted = CommandState.WANTED
            move(connection, launch_commands, [id_], wanted, state, who=who, why=answer, at=now, **values)

    def of(self, launch_id: LaunchId) -> Sequence[LaunchCommand]:
        """All that was ever asked of a launch, oldest first."""
        query = select(launch_commands).where(launch_commands.c.launch_id == launch_id).order_by(launch_commands.c.id)
        with self._database.read() as connection:
            return [_command(dict(row)) for row in connection.execute(query).mappings()]

    def hold(self, launch_id: LaunchId) -> Hold:
        """What holds for the steps of a launch that have not begun."""
        return hold_of(self.of(launch_id))

    def retried_since(self, moment: datetime) -> Mapping[LaunchId, datetime | None]:
        """The launches that were retried at that moment or later, and when; None for those that are to be retried."""
        settled_at = launch_commands.c.settled_at
        lately = or_(settled_at.is_(None), settled_at >= moment)
        retries = (
            select(launch_commands.c.launch_id, settled_at)
            .where(launch_commands.c.command == Command.RETRY, lately)
            .order_by(settled_at.is_(None), settled_at)
        )
        with self._database.read() as connection:
            return {LaunchId(id_): at for id_, at in connection.execute(retries)}


def sorted_out(
    connection: Connection,
    ask: Ask,
    ids: Sequence[int],
    states: Mapping[int, LaunchState],
    tally: Tally,
    coming: Mapping[int, Coming] = MappingProxyType({}),
) -> Sequence[int]:
    """Those of the launches that the command fits; of the others the tally says why.

    `coming` are those that it fits because a retry of them is to come.
    """
    asked = _asked_already(connection, ask, ids)
    rivals = _rivals(connection, ids) if ask.command is Command.RETRY and not ask.force else {}
    fitting = []
    for id_ in ids:
        if id_ not in states:
            tally.stay(id_, UNKNOWN)
        elif id_ in coming:
            _say_of(tally, id_, coming[id_])
            fitting.append(id_)
        elif states[id_] not in FITS[ask.command]:
            tally.stay(id_, str(states[id_]))
        elif id_ in asked:
            tally.stay(id_, "asked for that already")
        elif id_ in rivals:
            other = f"launch {rivals[id_]['id']} ({rivals[id_]['name']}) is {rivals[id_]['state']}"
            detail = f"{other}: both would write the same; wait for its end, kill it, or say --force"
            tally.stay(id_, "beside another launch for the same, which is at work", detail)
        else:
            fitting.append(id_)
    tally.changed += fitting
    return fitting


def _say_of(tally: Tally, id_: int, coming: Coming) -> None:
    if coming.under_way:
        tally.details[id_] = "it is being retried at this moment, and killed after that"
    else:
        tally.remark(id_, f"over already: {CALLED_OFF}")


def _rivals(connection: Connection, ids: Sequence[int]) -> Mapping[int, Row]:
    """Of each launch another one that is at work for the same: what it repeats, or what repeats it."""
    columns = (launches.c.id, launches.c.key, launches.c.name, launches.c.state)
    query = select(*columns).where(launches.c.state.in_(OCCUPYING)).order_by(launches.c.id)
    at_work: dict[str, list[Row]] = {}
    for row in connection.execute(query).mappings():
        at_work.setdefault(first_key(row["key"]), []).append(dict(row))
    found: dict[int, Row] = {}
    for chunk in chunks(ids):
        for id_, key in connection.execute(select(launches.c.id, launches.c.key).where(launches.c.id.in_(chunk))):
            others = [row for row in at_work.get(first_key(key), ()) if row["id"] != id_]
            if others:
                found[id_] = others[-1]
    return found


def _asked_already(connection: Connection, ask: Ask, ids: Sequence[int]) -> set[int]:
    found: set[int] = set()
    same = (
        launch_commands.c.state == CommandState.WANTED,
        launch_commands.c.command == ask.command,
        launch_commands.c.step.is_(None) if ask.step is None else launch_commands.c.step == ask.step,
    )
    for chunk in chunks(ids):
        query = select(launch_commands.c.launch_id).where(and_(*same), launch_commands.c.launch_id.in_(chunk))
        found.update(connection.scalars(query))
    return found


def write_asked(
    connection: Connection, ask: Ask, ids: Sequence[int], states: Mapping[int, LaunchState], hand: Hand
) -> Mapping[int, int]:
    """The commands, each in its own journal and in that of its launch. Returns their numbers, by launch."""
    if not ids:
        return {}
    row: Row = {
        "command": ask.command.value,
        "parameters": json.dumps(dict(ask.parameters or {})),
        "step": ask.step,
        "who": hand.who,
        "why": without_nul(hand.why),
        "state": CommandState.WANTED.value,
        "asked_at": hand.now,
        "attempt_of": json.dumps(ask.attempt_of) if ask.attempt_of else None,
    }
    rows = [{"launch_id": id_, **row} for id_ in ids]
    adding = insert(launch_commands).returning(launch_commands.c.launch_id, launch_commands.c.id)
    added = {launch_id: id_ for launch_id, id_ in connection.execute(adding, rows)}
    how: dict[str, Any] = {"who": hand.who, "at": hand.now}
    why = f"{_words(ask)}: {hand.why}"
    record(connection, "command", added.values(), None, CommandState.WANTED, why=why, **how)
    for state in sorted({states[id_] for id_ in ids}):
        those = [id_ for id_ in ids if states[id_] is state]
        record(connection, "launch", those, state, state, why=why, **how)
    return added


def _words(ask: Ask) -> str:
    step = f" step {ask.step}" if ask.step is not None else ""
    parameters = ", ".join(f"{name} = {value}" for name, value in (ask.parameters or {}).items())
    return f"{ask.command} was asked for{step}" + (f" with {parameters}" if parameters else "")


def _command(row: Row) -> LaunchCommand:
    shown = {name: row[name] for name in LaunchCommand.model_fields}
    told = {"parameters": json.loads(row["parameters"]), "attempt_of": json.loads(row["attempt_of"] or "[]")}
    return LaunchCommand.model_validate(shown | told)
