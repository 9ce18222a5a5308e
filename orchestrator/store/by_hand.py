"""What a person does to many messages or dispatches at once: chosen by id or by a filter, some thousand at a time.

Each thousand is a transaction of its own. What was done before an interruption stays done, and the same command goes on
from there: whatever it would not change is left alone and counted.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Table, func, select

from orchestrator.core.by_hand import MESSAGE_STEPS, DispatchVerb, Hand, MessageVerb, Tally
from orchestrator.core.clauses import CompiledRule
from orchestrator.core.leftovers import Left, Taken
from orchestrator.core.matching import RuleSet
from orchestrator.core.settlement import LifeEvent, settle
from orchestrator.store.dispatching_by_hand import change_dispatches, give
from orchestrator.store.engine import Database
from orchestrator.store.forcing import force, launches_left, taken
from orchestrator.store.intake import chunks, life_event, take_turns
from orchestrator.store.journal import move
from orchestrator.store.messages import Filter, conditions, shown_columns
from orchestrator.store.port import NotFound
from orchestrator.store.signals import DISPATCHES, MESSAGES
from orchestrator.store.tables import Row, dispatches, messages
from schemas.did import Did
from schemas.dispatch import DispatchId, DispatchState
from schemas.event import LIFE_EVENTS
from schemas.message import MessageId, MessageState

#: Rows in one transaction: others wait no longer than some tenths of a second for their turn to write.
AT_ONCE: Final = 2_000

#: Is told how many rows were looked at so far, after each transaction.
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class DispatchFilter:
    """Which dispatches are meant. Everything given must hold."""

    states: Sequence[DispatchState] = ()
    rule: str | None = None
    #: When they were written.
    since: datetime | None = None
    until: datetime | None = None


_Page = tuple[list[Row], int | None]


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The rows that a person means: these, or all that fulfil the conditions."""

    table: Table
    columns: Sequence[Any]
    ids: Sequence[int] | None
    conditions: Sequence[ColumnElement[bool]]

    def page(self, connection: Connection, after: int, until: int, most: int, *, lock: bool) -> _Page:
        """The next rows, by id, and where the page after them begins; None if this was the last."""
        wanted = [*self.conditions, self.table.c.id > after, self.table.c.id <= until]
        if self.ids is not None:
            begin = bisect_right(self.ids, after)
            some = self.ids[begin : begin + most]
            wanted.append(self.table.c.id.in_(some))
        query = select(*self.columns).where(*wanted).order_by(self.table.c.id).limit(most)
        if lock:  # weak enough for others to write rows that only point at these
            query = query.with_for_update(key_share=True)
        rows = [dict(row) for row in connection.execute(query).mappings()]
        if self.ids is not None:
            return rows, some[-1] if begin + most < len(self.ids) else None
        return rows, rows[-1]["id"] if len(rows) == most else None


class ByHand:
    """Changes that people make, each with who and why in the journal."""

    def __init__(self, database: Database, *, at_once: int = AT_ONCE) -> None:
        """`at_once` rows are changed in one transaction."""
        self._database = database
        self._at_once = at_once

    def messages(
        self, verb: MessageVerb, chosen: Sequence[MessageId] | Filter, hand: Hand, progress: Progress = lambda _: None
    ) -> Tally:
        """Hold, release, drop or re-pend messages.

        Raises:
            NotFound: there is no message of one of the ids; nothing was changed.
            StoreUnavailable: what was changed so far stays so.
        """
        tally = Tally()

        def step(connection: Connection, rows: list[Row]) -> None:
            _change_messages(connection, rows, verb, hand, tally)

        self._walk(_chosen_messages(chosen), hand, step, progress)
        return tally

    def give(
        self,
        rule: CompiledRule,
        rules: RuleSet,
        chosen: Sequence[MessageId] | Filter,
        hand: Hand,
        progress: Progress = lambda _: None,
    ) -> Tally:
        """Dispatch messages to a rule, whatever its clauses say about them.

        Its templates must fill, its unique keys are respected, and it never starts on what it had a part in making. A
        pending message that another of `rules`, those in force, wants or may want yet stays pending for it.

        Raises:
            NotFound: there is no message of one of the ids; nothing was changed.
            StoreUnavailable: what was changed so far stays so.
        """
        tally = Tally()

        def step(connection: Connection, rows: list[Row]) -> None:
            give(connection, rows, rule, rules, hand, tally)

        self._walk(_chosen_messages(chosen), hand, step, progress)
        return tally

    def dispatches(
        self,
        verb: DispatchVerb,
        chosen: Sequence[DispatchId] | DispatchFilter,
        hand: Hand,
        progress: Progress = lambda _: None,
        *,
        again: bool = False,
    ) -> Tally:
        """Retry, cancel, hold, release or redispatch. With `again`, redispatch even what is finished.

        Raises:
            NotFound: there is no dispatch of one of the ids; nothing was changed.
            StoreUnavailable: what was changed so far stays so.
        """
        tally = Tally()

        def step(connection: Connection, rows: list[Row]) -> None:
            change_dispatches(connection, rows, verb, hand, tally, again=again)

        self._walk(_chosen_dispatches(chosen), hand, step, progress)
        return tally

    def launches_left(self, ids: Sequence[int]) -> list[Left]:
        """The launches that these dispatches made, oldest first."""
        with self._database.read() as connection:
            return launches_left(connection, ids)

    def taken(self, id_: DispatchId) -> Taken:
        """Who has the unique key of a refused dispatch, and what it did with it. Raises NotFound, NotAllowed."""
        with self._database.read() as connection:
            return taken(connection, id_)

    def force(self, seen: Taken, hand: Hand) -> list[DispatchId]:
        """Give the key to the dispatch that was refused, in one transaction. Returns the dispatches that are ready now.

        Raises:
            StillGoingOn: the first is not over yet.
            NotAllowed: things are no longer as they were seen.
        """
        with self._database.write(DISPATCHES) as connection:
            return force(connection, seen, hand)

    def _walk(
        self, chosen: _Chosen, hand: Hand, step: Callable[[Connection, list[Row]], None], progress: Progress
    ) -> None:
        """Through all that was chosen and is there now; what arrives meanwhile is not meant."""
        with self._database.read() as connection:
            until = connection.scalars(select(func.max(chosen.table.c.id))).one() or 0
            _demand_all(connection, chosen)
        after: int | None = 0
        looked_at = 0
        while after is not None:
            with self._database.read() if hand.dry_run else self._database.write(MESSAGES, DISPATCHES) as connection:
                if not hand.dry_run:
                    # nothing is overtaken by a later event while it is moved
                    take_turns(self._database, connection)
                rows, after = chosen.page(connection, after, until, self._at_once, lock=not hand.dry_run)
                step(connection, rows)
            looked_at += len(rows)
            progress(looked_at)


def _chosen_messages(chosen: Sequence[MessageId] | Filter) -> _Chosen:
    if isinstance(chosen, Filter):
        return _Chosen(messages, shown_columns(), None, conditions(chosen))
    return _Chosen(messages, shown_columns(), sorted({*chosen}), ())


def _chosen_dispatches(chosen: Sequence[DispatchId] | DispatchFilter) -> _Chosen:
    if not isinstance(chosen, DispatchFilter):
        return _Chosen(dispatches, list(dispatches.c), sorted({*chosen}), ())
    wanted: list[ColumnElement[bool]] = []
    if chosen.states:
        wanted.append(dispatches.c.state.in_(chosen.states))
    if chosen.rule is not None:
        wanted.append(dispatches.c.rule == chosen.rule)
    if chosen.since is not None:
        wanted.append(dispatches.c.created_at >= chosen.since)
    if chosen.until is not None:
        wanted.append(dispatches.c.created_at < chosen.until)
    return _Chosen(dispatches, list(dispatches.c), None, wanted)


def _demand_all(connection: Connection, chosen: _Chosen) -> None:
    """A slip of the keyboard among the ids changes nothing at all."""
    there: set[int] = set()
    for chunk in chunks(chosen.ids or ()):
        there.update(connection.scalars(select(chosen.table.c.id).where(chosen.table.c.id.in_(chunk))))
    missing = [id_ for id_ in chosen.ids or () if id_ not in there]
    if missing:
        word = "message" if chosen.table is messages else "dispatch"
        more = f", nor {len(missing) - 1} others of these" if len(missing) > 1 else ""
        raise NotFound(f"there is no {word} {missing[0]}{more}; nothing was changed")


# Messages, changed.


def _change_messages(connection: Connection, rows: list[Row], verb: MessageVerb, hand: Hand, tally: Tally) -> None:
    late = overtaken(connection, rows) if verb is MessageVerb.REPEND else {}
    alike: dict[tuple[MessageState, MessageState], list[int]] = {}
    for row in rows:
        state = MessageState(row["state"])
        target = _target(verb, state, row)
        if target is None:
            tally.stay(row["id"], state)
        elif row["id"] in late:
            tally.stay(row["id"], "overtaken by a later event of the same dataset", late[row["id"]])
        else:
            alike.setdefault((state, target), []).append(row["id"])
    for (state, target), ids in alike.items():
        tally.changed += ids
        if not hand.dry_run:
            _move_messages(connection, ids, state, target, hand)


def _target(verb: MessageVerb, state: MessageState, row: Row) -> MessageState | None:
    target = MESSAGE_STEPS[verb].get(state)
    # what could not be read when it came cannot be judged either
    unreadable = target is MessageState.PENDING and row["event_type"] is None
    return MessageState.QUARANTINED if unreadable else target


def _move_messages(
    connection: Connection, ids: Sequence[int], state: MessageState, target: MessageState, hand: Hand
) -> None:
    values: dict[str, Any] = {}
    if MessageState.QUARANTINED not in (state, target):
        values["reason"] = hand.why  # else why it cannot be read stays to be seen
    if target is MessageState.PENDING:
        values["judged_revision"] = 0  # comes up again; not -1: it may have near misses
    move(connection, messages, ids, state, target, who=hand.who, why=hand.why, at=hand.now, **values)


def overtaken(connection: Connection, rows: Iterable[Row]) -> Mapping[int, str]:
    """Of closes that were put away or dispatched, those that no longer describe their dataset: why, by id."""
    closes = [row for row in rows if row["event_type"] == "close" and row["name"] is not None]
    names: dict[str, set[str]] = {}
    for row in closes:
        names.setdefault(row["scope"], set()).add(row["name"])
    lives: dict[Did, list[LifeEvent]] = {}
    ids: dict[str, int] = {}
    for scope, within in names.items():
        for chunk in chunks(sorted(within)):
            of_these = _LIFE.where(messages.c.scope == scope, messages.c.name.in_(chunk))
            for event in map(dict, connection.execute(of_these).mappings()):
                lives.setdefault(Did(scope, event["name"]), []).append(life_event(event))
                ids[event["identity"]] = event["id"]
    places = [place for events in lives.values() for place in settle(events).items()]
    return {ids[key]: place.overtaken for key, place in places if place.overtaken is not None}


_LIFE: Final = select(
    *(messages.c[name] for name in ("id", "name", "identity", "event_type", "created_at", "origin"))
).where(messages.c.event_type.in_(sorted(LIFE_EVENTS)), messages.c.state != MessageState.QUARANTINED)
