"""What keeps a match from being carried out: the loop guard, the prescale, and a unique key that another has."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, func, insert, select, text
from sqlalchemy.dialects.postgresql import insert as insert_postgresql
from sqlalchemy.dialects.sqlite import insert as insert_sqlite

from orchestrator.core.matching import Match
from orchestrator.store.intake import chunks
from orchestrator.store.tables import dispatches, guards, launches, messages, prescales, products, room_members, rooms
from schemas.did import Did
from schemas.dispatch import DispatchId
from schemas.message import Message, MessageId
from schemas.rule import RuleVersion


class Wanted(NamedTuple):
    """A match of a message, to be carried out unless something speaks against it."""

    message: Message
    match: Match

    @property
    def rule(self) -> str:
        return self.match.version.rule.name


#: Why a match of a message (by id) and a rule (by name) is not carried out.
Restrained = dict[tuple[MessageId, str], str]


def restrain(connection: Connection, wanted: Sequence[Wanted]) -> Restrained:
    """Those that may not be carried out."""
    held = looping(connection, wanted)
    return held | _prescaled(connection, [each for each in wanted if (each.message.id, each.rule) not in held])


# The loop guard.


def looping(connection: Connection, wanted: Sequence[Wanted]) -> Restrained:
    """Those whose dataset the rule itself had a part in making."""
    lineages = _lineages(connection, {each.message.did for each in wanted if each.message.did is not None})
    return {
        (each.message.id, each.rule): f"rule {each.rule} had a part in making this dataset: it never starts on that"
        for each in wanted
        if each.message.did is not None and each.rule in lineages.get(each.message.did, ())
    }


def _lineages(connection: Connection, dids: Iterable[Did]) -> dict[Did, set[str]]:
    """The rules that had a part in making each dataset."""
    names: dict[str, list[str]] = {}
    for did in dids:
        names.setdefault(did.scope, []).append(did.name)
    found: dict[Did, set[str]] = {}
    for scope, within in names.items():
        for chunk in chunks(within):
            query = select(products).where(products.c.scope == scope, products.c.name.in_(chunk))
            for row in connection.execute(query).mappings():
                found.setdefault(Did(row["scope"], row["name"]), set()).update(json.loads(row["rules"]))
    return found


def write_products(
    connection: Connection, launch_id: int, outputs: Iterable[Did], rule: str | None, source: Did | None
) -> None:
    """Note which datasets a launch will make, with the rule that asked for it and those that made its input."""
    rules = {rule} if rule is not None else set()
    sources = {*_waited_with(connection, launch_id), *([] if source is None else [source])}
    rules = rules.union(*_lineages(connection, sources).values())
    rows = [
        {"launch_id": launch_id, "scope": did.scope, "name": did.name, "rules": json.dumps(sorted(rules))}
        for did in dict.fromkeys(outputs)
    ]
    if rows:
        connection.execute(insert(products), rows)


def _waited_with(connection: Connection, launch_id: int) -> list[Did]:
    """The datasets of the waiting room that a launch was made for; none if it was made for a single one."""
    query = (
        select(messages.c.scope, messages.c.name)
        .join(room_members, room_members.c.message_id == messages.c.id)
        .join(rooms, rooms.c.id == room_members.c.room_id)
        .join(dispatches, (dispatches.c.message_id == rooms.c.message_id) & (dispatches.c.rule == rooms.c.rule))
        .join(launches, launches.c.dispatch_id == dispatches.c.id)
        .where(launches.c.id == launch_id, messages.c.scope.is_not(None), messages.c.name.is_not(None))
    )
    return [Did(scope, name) for scope, name in connection.execute(query)]


# The prescale.


def _prescaled(connection: Connection, wanted: Sequence[Wanted]) -> Restrained:
    """Count the matches of each rule with a prescale, and hold back those between the ones to be carried out."""
    rules: dict[str, list[Wanted]] = {}
    for each in wanted:
        if each.match.version.rule.prescale > 1:
            rules.setdefault(each.rule, []).append(each)
    held: Restrained = {}
    count_alone(connection, rules)
    for rule in sorted(rules):
        numbers = _numbered(connection, rule, rules[rule])
        for each in rules[rule]:
            number, taken = numbers[each.message.id]
            if not taken:
                every = each.match.version.rule.prescale
                why = f"rule {rule} carries out 1 of {every} matches, and this was its number {number}"
                held[each.message.id, rule] = why
    return held


def prescaled(versions: Iterable[RuleVersion]) -> set[str]:
    """The rules among these that have a prescale."""
    return {version.rule.name for version in versions if version.rule.prescale > 1}


def count_alone(connection: Connection, rules: Iterable[str]) -> None:
    """One dispatcher at a time counts a rule's matches, whichever version of the rule it has.

    In the order of the names, so that no two wait for each other; who counts for rooms does this before it locks any.
    """
    if connection.dialect.name == "sqlite":  # which has one writer anyway
        return
    for rule in sorted({*rules}):
        connection.execute(text("SELECT pg_advisory_xact_lock(hashtext(:rule))"), {"rule": f"prescale of {rule}"})


def _numbered(connection: Connection, rule: str, wanted: Sequence[Wanted]) -> Mapping[int, tuple[int, bool]]:
    """The number of each match, which it keeps however often it is judged; and whether it is to be carried out."""
    numbers: dict[int, tuple[int, bool]] = {}
    for chunk in chunks([each.message.id for each in wanted]):
        known = select(prescales).where(prescales.c.rule == rule, prescales.c.message_id.in_(chunk))
        for row in connection.execute(known).mappings():
            numbers[row["message_id"]] = (row["number"], bool(row["taken"]))
    newest = select(func.max(prescales.c.number)).where(prescales.c.rule == rule)
    number = connection.scalars(newest).one() or 0
    rows = []
    for each in wanted:
        if each.message.id not in numbers:
            number += 1
            taken = (number - 1) % each.match.version.rule.prescale == 0
            numbers[each.message.id] = (number, taken)
            rows.append({"message_id": each.message.id, "rule": rule, "number": number, "taken": taken})
    if rows:
        connection.execute(insert(prescales), rows)
    return numbers


# Unique keys.


class Guarded(NamedTuple):
    """A match that asks for a unique key, with the first of its dispatches."""

    key: str
    message_id: MessageId
    rule: str
    dispatch_id: DispatchId


def take_keys(
    connection: Connection, asking: Sequence[Guarded], now: datetime
) -> Mapping[tuple[MessageId, str], DispatchId]:
    """Take the keys that nobody has. Returns those of `asking` (message and rule) that came second, and to whom.

    The database decides: of two dispatchers that ask at once, the second waits here and then finds the first. In the
    order of the keys, so that no two wait for each other.
    """
    if not asking:
        return {}
    take = insert_sqlite(guards) if connection.dialect.name == "sqlite" else insert_postgresql(guards)
    connection.execute(take.on_conflict_do_nothing(), [{**each._asdict(), "at": now} for each in sorted(asking)])
    holders: dict[str, tuple[MessageId, str, DispatchId]] = {}
    for chunk in chunks(sorted({each.key for each in asking})):
        for row in connection.execute(select(guards).where(guards.c.key.in_(chunk))).mappings():
            holders[row["key"]] = (row["message_id"], row["rule"], DispatchId(row["dispatch_id"]))
    return {
        (each.message_id, each.rule): holders[each.key][2]
        for each in asking
        if holders[each.key][:2] != (each.message_id, each.rule)
    }
