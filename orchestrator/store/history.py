"""The whole history of messages, read in pages; and all that is known of one message, to explain it."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final, NamedTuple

from pydantic_core import from_json
from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Connection,
    CursorResult,
    Select,
    Text,
    and_,
    any_,
    cast,
    false,
    func,
    or_,
    select,
)

from orchestrator.core.clauses import Facts
from orchestrator.core.past import PAST_FIELDS, Interest, Later, Page, past_maker
from orchestrator.store.engine import Database
from orchestrator.store.facts import FactState, known_facts
from orchestrator.store.messages import message_of, payload_of, shown_columns
from orchestrator.store.port import NotFound
from orchestrator.store.rule_history import read_version
from orchestrator.store.run_flags import flags_of_runs
from orchestrator.store.tables import facts, guards, messages, prescales, products, rule_versions
from schemas.dispatch import DispatchId
from schemas.message import Message, MessageId
from schemas.rule import RuleVersion, RuleVersionId

#: Messages read in one transaction. Larger pages are no faster, and writers wait for their end.
PAGE: Final = 5_000


class Holder(NamedTuple):
    """Who has a unique key."""

    message_id: MessageId
    rule: str
    dispatch_id: DispatchId


class Numbered(NamedTuple):
    """A match that a prescale has counted."""

    rule: str
    number: int
    taken: bool


class MessageHistory:
    """What ever arrived. Nothing is changed here."""

    def __init__(self, database: Database, *, page: int = PAGE) -> None:
        """`page` messages are read in one transaction."""
        self._database = database
        self._page = page

    def pages(
        self, interest: Interest | None = None, *, since: datetime | None = None, until: datetime | None = None
    ) -> Iterator[Page]:
        """Every message that could be read, oldest first, with what is known of it; or those of an interest.

        `since` and `until` are about when it arrived. Each page is a transaction of its own, so that a long look holds
        up nobody; memory stays flat. The messages have no more than the fields of the interest: see `core.past`.
        """
        fields = PAST_FIELDS if interest is None else interest.fields
        payloads = interest is None or interest.payloads
        query = self._query(fields, payloads, interest, since, until)
        make = past_maker(fields)
        last = 0
        while True:
            with self._database.read() as connection:
                # as the driver gives them: what SQLAlchemy adds to each row costs more than reading it
                rows = _driver_rows(connection.execute(query.where(messages.c.id > last)))
                if not rows:
                    return
                known = _catalog_answers(connection, rows[0][0], rows[-1][0])
                flags = flags_of_runs(connection)
            last = rows[-1][0]
            yield Page(rows, partial(_facts_with_payload if payloads else _facts, make, known, flags))

    def _query(
        self,
        fields: Sequence[str],
        payloads: bool,
        interest: Interest | None,
        since: datetime | None,
        until: datetime | None,
    ) -> Select[Any]:
        columns = [messages.c[field] for field in fields]
        conditions: list[ColumnElement[bool]] = [messages.c.event_type.is_not(None)]
        if interest is not None:
            conditions.append(or_(false(), *(self._part(events, bounds) for events, bounds in interest.parts)))
        if since is not None:
            conditions.append(messages.c.received_at >= since)
        if until is not None:
            conditions.append(messages.c.received_at < until)
        wanted = [*columns, messages.c.body] if payloads else columns
        return select(*wanted).where(*conditions).order_by(messages.c.id).limit(self._page)

    def _part(self, events: Sequence[str], bounds: tuple[str, str] | None) -> ColumnElement[bool]:
        wanted = messages.c.event_type.in_(events)
        if bounds is None:
            return wanted
        # byte by byte, as the bounds are meant
        name = messages.c.name if self._database.is_sqlite else messages.c.name.collate("C")
        return and_(wanted, name >= bounds[0], name <= bounds[1])

    def facts_of(self, message_id: MessageId) -> Facts:
        """One message as the dispatcher sees it. Raises NotFound."""
        query = select(*shown_columns(), messages.c.body).where(messages.c.id == message_id)
        with self._database.read() as connection:
            row = connection.execute(query).mappings().one_or_none()
            if row is None:
                raise NotFound(f"there is no message {message_id}")
            values = dict(row)
            body = bytes(values.pop("body"))
            known = known_facts(connection, [message_id])
            flags = flags_of_runs(connection)
        return Facts(message_of(values), payload_of(body), known.get(message_id), flags)

    def holders(self, keys: Collection[str]) -> Mapping[str, Holder]:
        """Who has these unique keys; those that nobody has are left out."""
        found: dict[str, Holder] = {}
        with self._database.read() as connection:
            for row in connection.execute(select(guards).where(self._one_of(list(keys)))).mappings():
                found[row["key"]] = Holder(row["message_id"], row["rule"], DispatchId(row["dispatch_id"]))
        return found

    def _one_of(self, keys: Sequence[str]) -> ColumnElement[bool]:
        """A key is one of these; all in one parameter, since thousands take longer to write down than to look up."""
        if self._database.is_sqlite:
            return guards.c.key.in_(select(func.json_each(json.dumps(keys)).table_valued("value").c.value))
        return guards.c.key == any_(cast(keys, ARRAY(Text)))

    def counted(self, message_id: MessageId) -> list[Numbered]:
        """What the prescales have counted of this message."""
        query = select(prescales).where(prescales.c.message_id == message_id).order_by(prescales.c.rule)
        with self._database.read() as connection:
            rows = connection.execute(query).mappings()
            return [Numbered(row["rule"], row["number"], bool(row["taken"])) for row in rows]

    def makers(self, message: Message) -> list[str]:
        """The rules that had a part in making this message's dataset."""
        mine = (products.c.scope == message.scope, products.c.name == message.name)
        with self._database.read() as connection:
            found = connection.scalars(select(products.c.rules).where(*mine)).all()
        return sorted({rule for rules in found for rule in json.loads(rules)})

    def versions(self, ids: Collection[RuleVersionId]) -> list[RuleVersion]:
        """These versions of rules, by id; also of rules that are no longer in force."""
        query = select(rule_versions).where(rule_versions.c.id.in_(sorted(ids))).order_by(rule_versions.c.id)
        with self._database.read() as connection:
            return [read_version(dict(row)) for row in connection.execute(query).mappings()]


_NOTHING: Mapping[str, Any] = {}


def _driver_rows(result: CursorResult[Any]) -> Sequence[tuple[Any, ...]]:
    cursor = result.cursor
    assert cursor is not None, "a SELECT has rows"
    rows: Sequence[tuple[Any, ...]] = cursor.fetchall()
    result.close()
    return rows


def _facts(
    make: Callable[[Sequence[Any]], Any],
    known: Mapping[int, Mapping[str, Any]],
    flags: Mapping[int, Sequence[str]],
    row: tuple[Any, ...],
) -> Facts:
    return Facts(make(row), _NOTHING, known.get(row[0]), flags)


def _facts_with_payload(
    make: Callable[[Sequence[Any]], Any],
    known: Mapping[int, Mapping[str, Any]],
    flags: Mapping[int, Sequence[str]],
    row: tuple[Any, ...],
) -> Facts:
    return Facts(make(row[:-1]), Later(partial(_payload, row[-1])), known.get(row[0]), flags)


def _payload(body: Any) -> Mapping[str, Any]:
    """What the event carries. What has an event was found readable when it came, so that little is left to check."""
    try:
        payload = from_json(body)["payload"]
    except (ValueError, TypeError, KeyError):
        return payload_of(bytes(body))
    return payload if isinstance(payload, dict) else {}


def _catalog_answers(connection: Connection, first: int, last: int) -> dict[int, Mapping[str, Any]]:
    """What the catalog said of the messages between two ids."""
    query = select(facts.c.message_id, facts.c.document).where(
        facts.c.message_id.between(first, last), facts.c.state == FactState.KNOWN
    )
    return {id_: Later(partial(json.loads, document or "{}")) for id_, document in connection.execute(query)}
