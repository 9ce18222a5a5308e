"""What the catalog said about the datasets of messages, for rules that ask for it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, delete, func, insert, or_, select, update

from orchestrator.store.engine import Database
from orchestrator.store.intake import chunks
from orchestrator.store.signals import FACTS, MESSAGES
from orchestrator.store.tables import facts, messages
from schemas.did import Did
from schemas.message import MessageId


class FactState(StrEnum):
    """Whether the catalog has answered."""

    WANTED = "wanted"
    KNOWN = "known"


@dataclass(frozen=True, slots=True)
class Question:
    """A message whose dataset the catalog is to be asked about."""

    message_id: MessageId
    did: Did
    #: How often it was asked in vain.
    tries: int


def known_facts(connection: Connection, ids: Sequence[int]) -> dict[int, Mapping[str, Any]]:
    """What is known, by message. A dataset that the catalog does not have is known to have nothing."""
    known: dict[int, Mapping[str, Any]] = {}
    for chunk in chunks(ids):
        query = select(facts.c.message_id, facts.c.document).where(
            facts.c.message_id.in_(chunk), facts.c.state == FactState.KNOWN
        )
        known.update({id_: json.loads(document or "{}") for id_, document in connection.execute(query)})
    return known


def want_facts(connection: Connection, ids: Sequence[MessageId], now: datetime) -> None:
    """Ask for what is not known and was not asked for."""
    for chunk in chunks(ids):
        asked = set(connection.scalars(select(facts.c.message_id).where(facts.c.message_id.in_(chunk))))
        rows = [
            {"message_id": id_, "state": FactState.WANTED.value, "tries": 0, "updated_at": now}
            for id_ in chunk
            if id_ not in asked
        ]
        if rows:
            connection.execute(insert(facts), rows)


class FactStore:
    """The questions that rules have to the catalog, and its answers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def due(self, *, now: datetime, limit: int) -> list[Question]:
        """Up to `limit` questions that are to be asked now."""
        query = (
            select(facts.c.message_id, facts.c.tries, messages.c.scope, messages.c.name)
            .join(messages, messages.c.id == facts.c.message_id)
            .where(facts.c.state == FactState.WANTED, or_(facts.c.not_before.is_(None), facts.c.not_before <= now))
            .where(messages.c.scope.is_not(None), messages.c.name.is_not(None))
            .order_by(facts.c.message_id)
            .limit(limit)
        )
        with self._database.read() as connection:
            return [
                Question(MessageId(row.message_id), Did(row.scope, row.name), row.tries)
                for row in connection.execute(query)
            ]

    def next_due(self) -> datetime | None:
        """When the next question that waits for a moment is due; None if none waits."""
        query = select(func.min(facts.c.not_before)).where(facts.c.state == FactState.WANTED)
        with self._database.read() as connection:
            due: datetime | None = connection.scalars(query).one()
        return due

    def answer(self, answers: Mapping[MessageId, Mapping[str, Any]], *, reason: str | None, now: datetime) -> None:
        """Write down what the catalog said, and have those messages judged again."""
        if not answers:
            return
        with self._database.write(MESSAGES) as connection:
            for id_, document in answers.items():
                said = json.dumps(document, default=str)
                connection.execute(
                    update(facts)
                    .where(facts.c.message_id == id_)
                    .values(state=FactState.KNOWN.value, document=said, reason=reason, updated_at=now)
                )
            _judge_again(connection, list(answers))

    def postpone(self, ids: Sequence[MessageId], *, why: str, until: datetime, now: datetime) -> None:
        """The catalog could not be asked: again later."""
        with self._database.write() as connection:
            for chunk in chunks(ids):
                connection.execute(
                    update(facts)
                    .where(facts.c.message_id.in_(chunk))
                    .values(tries=facts.c.tries + 1, not_before=until, reason=why[:1000], updated_at=now)
                )

    def forget(self, ids: Sequence[MessageId], *, now: datetime) -> int:
        """Ask again: what is known of these messages may have changed. Returns how many were known."""
        with self._database.write(FACTS, MESSAGES) as connection:
            forgotten = 0
            for chunk in chunks(ids):
                forgotten += connection.execute(delete(facts).where(facts.c.message_id.in_(chunk))).rowcount
            _judge_again(connection, ids)
        return forgotten


def _judge_again(connection: Connection, ids: Sequence[MessageId]) -> None:
    for chunk in chunks(ids):
        again = (messages.c.id.in_(chunk), messages.c.state == "pending")
        # 0, not -1: it was judged before, and has near misses
        connection.execute(update(messages).where(*again).values(judged_revision=0))
