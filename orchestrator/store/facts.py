"""What the catalog said about the datasets of messages, for rules that ask for it."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import Connection, bindparam, delete, func, insert, literal_column, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert as insert_postgresql
from sqlalchemy.dialects.sqlite import insert as insert_sqlite

from orchestrator.store.engine import Database
from orchestrator.store.intake import chunks
from orchestrator.store.journal import record, without_nul
from orchestrator.store.signals import FACTS, MESSAGES
from orchestrator.store.tables import Row, facts, messages
from schemas.did import Did
from schemas.message import MessageId, MessageState

#: No reason is kept that is longer than this.
_LONGEST_REASON: Final = 1000


class FactState(StrEnum):
    """Whether the catalog has answered."""

    WANTED = "wanted"
    KNOWN = "known"


@dataclass(frozen=True, slots=True)
class Question:
    """A message whose dataset the catalog is to be asked about."""

    message_id: MessageId
    #: None for an event that is about no dataset.
    did: Did | None
    #: How often it was asked in vain.
    tries: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What the catalog said: nothing, if it has no such dataset. Then the reason says so."""

    document: Mapping[str, Any]
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Fact:
    """Where the question about one message stands."""

    state: FactState
    document: Mapping[str, Any] | None
    #: How often it was asked in vain.
    tries: int
    reason: str | None
    wanted_at: datetime


@dataclass(frozen=True, slots=True)
class Waiting:
    """How many pending messages wait for the catalog, and since when the first of them does."""

    messages: int
    since: datetime | None


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
            {"message_id": id_, "state": FactState.WANTED.value, "tries": 0, "wanted_at": now, "updated_at": now}
            for id_ in chunk
            if id_ not in asked
        ]
        if rows:
            connection.execute(insert(facts), rows)


class FactStore:
    """The questions that rules have to the catalog, and its answers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # The enricher's side.

    def take(self, *, now: datetime, until: datetime, limit: int) -> list[Question]:
        """Up to `limit` questions that are to be asked now, oldest messages first.

        No other enricher gets them before `until`; what is not answered then is asked again.
        """
        query = (
            select(facts.c.message_id, facts.c.tries, messages.c.scope, messages.c.name)
            .join(messages, messages.c.id == facts.c.message_id)
            .where(*_OPEN, or_(facts.c.not_before.is_(None), facts.c.not_before <= now))
            .order_by(facts.c.message_id)
            .limit(limit)
        )
        with self._database.read() as connection:
            # takes no lock, so that an idle enricher does not stand in the writers' queue
            if connection.execute(query.limit(1)).first() is None:
                return []
        with self._database.write() as connection:
            rows = connection.execute(query.with_for_update(of=facts, skip_locked=True)).all()
            for chunk in chunks([row.message_id for row in rows]):
                connection.execute(update(facts).where(facts.c.message_id.in_(chunk)).values(not_before=until))
        return [Question(MessageId(row.message_id), _did(row.scope, row.name), row.tries) for row in rows]

    def next_due(self) -> datetime | None:
        """When the next question that waits for a moment is due; None if none waits."""
        query = select(func.min(facts.c.not_before)).select_from(facts.join(messages)).where(*_OPEN)
        with self._database.read() as connection:
            due: datetime | None = connection.scalars(query).one()
        return due

    def answer(self, answers: Mapping[MessageId, Answer], *, now: datetime) -> None:
        """Write down what the catalog said, whether or not it was wanted, and have those messages judged again."""
        if not answers:
            return
        rows = [_known(id_, answer, now) for id_, answer in sorted(answers.items())]
        with self._database.write(MESSAGES) as connection:
            _answer_side_by_side(connection)
            # first: whoever judges a message has its row, and may be about to want its facts
            judge_again(connection, answers)
            write = insert_sqlite(facts) if self._database.is_sqlite else insert_postgresql(facts)
            changed = {name: write.excluded[name] for name in ("state", "document", "reason", "updated_at")}
            connection.execute(write.on_conflict_do_update(index_elements=[facts.c.message_id], set_=changed), rows)

    def postpone(self, ids: Sequence[MessageId], *, why: str, until: datetime, now: datetime) -> None:
        """The catalog could not be asked: again later."""
        with self._database.write() as connection:
            for chunk in chunks(ids):
                wanted = (facts.c.message_id.in_(chunk), facts.c.state == FactState.WANTED)
                values = {"tries": facts.c.tries + 1, "not_before": until, "reason": _short(why), "updated_at": now}
                connection.execute(update(facts).where(*wanted).values(values))

    # A person's side.

    def of(self, message_id: MessageId) -> Fact | None:
        """Where the question about a message stands; None if no rule has asked for it."""
        with self._database.read() as connection:
            row = connection.execute(select(facts).where(facts.c.message_id == message_id)).mappings().one_or_none()
        if row is None:
            return None
        document = None if row["document"] is None else json.loads(row["document"])
        return Fact(FactState(row["state"]), document, row["tries"], row["reason"], row["wanted_at"])

    def waiting(self) -> Waiting:
        """How many messages wait for the catalog."""
        query = select(func.count(), func.min(facts.c.wanted_at)).select_from(facts.join(messages)).where(*_OPEN)
        with self._database.read() as connection:
            count, since = connection.execute(query).one()
        return Waiting(count, since)

    def forget(self, ids: Sequence[MessageId], *, who: str, why: str, now: datetime) -> list[MessageId]:
        """Ask again: what is known of these messages may have changed. Returns those that were asked about before.

        Those that are pending are judged again; what was dispatched stays so.
        """
        forgotten: list[MessageId] = []
        with self._database.write(FACTS, MESSAGES) as connection:
            judge_again(connection, ids)
            for state in FactState:
                for chunk in chunks(sorted(ids)):
                    these = delete(facts).where(facts.c.message_id.in_(chunk), facts.c.state == state)
                    gone = connection.scalars(these.returning(facts.c.message_id)).all()
                    record(connection, "facts", sorted(gone), state, "forgotten", who=who, why=why, at=now)
                    forgotten += map(MessageId, gone)
        return sorted(forgotten)


#: Questions that somebody waits for: nobody does for those of a message that was dropped, held or overtaken meanwhile.
_OPEN: Final = (
    facts.c.state == literal_column(f"'{FactState.WANTED}'"),
    messages.c.state == literal_column(f"'{MessageState.PENDING}'"),
)


def _did(scope: str | None, name: str | None) -> Did | None:
    return Did(scope, name) if scope is not None and name is not None else None


def _known(id_: MessageId, answer: Answer, now: datetime) -> Row:
    return {
        "message_id": id_,
        "state": FactState.KNOWN.value,
        "tries": 0,
        "document": json.dumps(answer.document, default=_plain),
        "reason": None if answer.reason is None else _short(answer.reason),
        "wanted_at": now,
        "updated_at": now,
    }


def _short(reason: str) -> str:
    return (without_nul(reason) or "")[:_LONGEST_REASON]


def _plain(value: object) -> str:
    return value.isoformat() if isinstance(value, datetime) else str(value)


#: 0, not -1: it was judged before, and has near misses.
_AGAIN: Final = (
    update(messages)
    .where(
        messages.c.id.in_(bindparam("ids", expanding=True)),
        messages.c.state == MessageState.PENDING,
        messages.c.judged_revision > 0,
    )
    .values(judged_revision=0)
)


#: In whatever state they are: one that is put back meanwhile would be judged without being waited for. The weaker lock
#: keeps dispatchers out, but lets others point at the messages.
_IN_HAND: Final = (
    select(messages.c.id)
    .where(messages.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(messages.c.id)
    .with_for_update(key_share=True)
)


def judge_again(connection: Connection, ids: Collection[int]) -> None:
    """Have those of the messages that are pending judged again, and nobody judges any before the transaction ends.

    Those that a dispatcher has in hand are waited for, whatever was known of them before: it may be about to write down
    that they were judged. In the order of their ids, so that no two wait for each other.
    """
    wanted = sorted({*ids})
    for chunk in chunks(wanted):
        connection.execute(_IN_HAND, {"ids": chunk}).all()
    for chunk in chunks(wanted):
        connection.execute(_AGAIN, {"ids": chunk})


#: Any constant: held together by those who bring answers, and alone by whoever lets none come in.
_ANSWERS_LOCK: Final = 0x6D756C66


def _answer_side_by_side(connection: Connection) -> None:
    if connection.dialect.name != "sqlite":  # which has one writer anyway
        connection.execute(text("SELECT pg_advisory_xact_lock_shared(:key)"), {"key": _ANSWERS_LOCK})


def let_no_answer_in(connection: Connection) -> None:
    """Nothing new is known of any message before the transaction ends. Taken before messages are locked."""
    if connection.dialect.name != "sqlite":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ANSWERS_LOCK})
