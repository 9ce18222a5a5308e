"""What the catalog has told of transient datasets: a hint to ask it, never the truth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection, func, select

from orchestrator.store.messages import message_of, payload_of, shown_columns
from orchestrator.store.tables import Row, messages, transient_copies, transients
from orchestrator.store.transient_rows import Part, by_names
from schemas.did import Did
from schemas.message import Message, MessageId
from schemas.transient import TransientId, TransientState

#: A copy could not be deleted; the payload has the reason.
FAILED: Final = "deletion-failed"

#: About a dataset, which the event names.
_OF_DATASETS: Final = ("erase", "detach", "incomplete")

#: About a file; `lost` names a dataset as well.
_OF_FILES: Final = ("lost", "deletion-done", FAILED, "deletion-not-found")

_TOLD: Final = (*_OF_DATASETS, *_OF_FILES)


class Told(NamedTuple):
    """One event about a transient dataset."""

    message_id: MessageId
    event_type: str
    created_at: datetime
    #: The dataset, not the file.
    did: Did
    transient_id: TransientId


class Failed(NamedTuple):
    """What the catalog could not delete of a dataset that is leaving."""

    copies: int
    #: The newest event that says so.
    message_id: MessageId


class Hearing(NamedTuple):
    """What was told within some messages."""

    told: Sequence[Told]
    #: The last message that was looked at: go on from here.
    until: int


class Telling(Part):
    """Part of `Transients`: what events say."""

    def told(self, after_message_id: int, limit: int = 10_000) -> Hearing:
        """What the next `limit` messages tell of transient datasets that are not gone, oldest first.

        Events of erased, detached, incomplete datasets; and of lost or deleted files that leave with a dataset.
        """
        with self._database.read() as connection:
            newest = connection.scalars(select(func.max(messages.c.id))).one() or 0
            until = max(min(newest, after_message_id + limit), after_message_id)
            between = (messages.c.id > after_message_id, messages.c.id <= until)
            query = select(*_COLUMNS).where(*between, messages.c.event_type.in_(_TOLD)).order_by(messages.c.id)
            rows = [dict(row) for row in connection.execute(query).mappings()]
            return Hearing(_about(connection, rows), until)

    def newest_message(self) -> int:
        """The number of the newest message, to listen from there; 0 if there is none."""
        with self._database.read() as connection:
            return connection.scalars(select(func.max(messages.c.id))).one() or 0

    def told_of(self, did: Did, limit: int = 50) -> Sequence[Message]:
        """The events of this dataset's end, and of the files that were to leave with it; newest first."""
        itself = select(messages.c.id).where(
            messages.c.scope == did.scope, messages.c.name == did.name, messages.c.event_type.in_(_OF_DATASETS)
        )
        files = (
            select(messages.c.id)
            .join(transient_copies, _same_did(messages, transient_copies))
            .join(transients, transients.c.id == transient_copies.c.transient_id)
            .where(transients.c.scope == did.scope, transients.c.name == did.name)
            .where(messages.c.event_type.in_(_OF_FILES))
        )
        with self._database.read() as connection:
            ids = {
                id_
                for part in (itself, files)
                for id_ in connection.scalars(part.order_by(messages.c.id.desc()).limit(limit))
            }
            newest = sorted(ids, reverse=True)[:limit]
            query = select(*shown_columns()).where(messages.c.id.in_(newest)).order_by(messages.c.id.desc())
            return [message_of(dict(row)) for row in connection.execute(query).mappings()]

    def failed(self) -> Mapping[TransientId, Failed]:
        """By dataset that is leaving what the catalog could not delete of it, of the copies that are not settled."""
        copies, whole = transient_copies.c, transients.c
        query = select(copies.transient_id, func.count(copies.number.distinct()), func.max(messages.c.id))
        query = query.join(transients, whole.id == copies.transient_id)
        query = query.join(messages, _same_did(messages, transient_copies))
        query = query.where(whole.state == TransientState.LEAVING, copies.fate.is_(None))
        query = query.where(messages.c.event_type == FAILED, messages.c.received_at >= whole.leaving_at)
        with self._database.read() as connection:
            rows = connection.execute(query.group_by(copies.transient_id)).all()
        return {TransientId(id_): Failed(count, MessageId(last)) for id_, count, last in rows}


_COLUMNS: Final = (
    messages.c.id,
    messages.c.event_type,
    messages.c.created_at,
    messages.c.scope,
    messages.c.name,
    messages.c.body,
)


def _about(connection: Connection, rows: Sequence[Row]) -> list[Told]:
    """Those of the events that are about transient datasets that are not gone."""
    dids = {row["id"]: _dids(row) for row in rows}
    files = {Did(row["scope"], row["name"]) for row in rows if row["event_type"] in _OF_FILES and row["scope"]}
    of_datasets = _datasets(connection, {did for some in dids.values() for did in some})
    of_files = _of_copies(connection, files)
    told: list[Told] = []
    for row in rows:
        found = dict.fromkeys(each for did in dids[row["id"]] for each in of_datasets.get(did, ()))
        if row["event_type"] in _OF_FILES:
            found |= dict.fromkeys(of_files.get(Did(row["scope"], row["name"]), ()))
        told += [Told(row["id"], row["event_type"], row["created_at"], did, id_) for id_, did in found]
    return told


def _dids(row: Row) -> list[Did]:
    """The datasets that an event names."""
    if row["event_type"] in _OF_DATASETS:
        return [Did(row["scope"], row["name"])] if row["scope"] and row["name"] else []
    if row["event_type"] != "lost":
        return []
    payload = payload_of(bytes(row["body"]))
    scope, name = payload.get("dataset_scope"), payload.get("dataset_name")
    return [Did(scope, name)] if isinstance(scope, str) and isinstance(name, str) else []


#: Transient datasets, each with its id, by the DID that an event names.
_Known = dict[Did, list[tuple[TransientId, Did]]]


def _datasets(connection: Connection, dids: Iterable[Did]) -> _Known:
    found: _Known = {}
    for condition in by_names(dids, transients):
        query = select(transients.c.id, transients.c.scope, transients.c.name)
        query = query.where(condition, transients.c.state != TransientState.GONE)
        for id_, scope, name in connection.execute(query):
            found.setdefault(Did(scope, name), []).append((id_, Did(scope, name)))
    return found


def _of_copies(connection: Connection, files: Iterable[Did]) -> _Known:
    """By file the datasets that leave with a copy of it."""
    found: _Known = {}
    file, whole = transient_copies.c, transients.c
    query = select(file.scope, file.name, whole.id, whole.scope.label("of"), whole.name.label("called")).distinct()
    query = query.join(transients, whole.id == file.transient_id).where(whole.state == TransientState.LEAVING)
    for condition in by_names(files, transient_copies):
        for scope, name, id_, of, called in connection.execute(query.where(condition)):
            found.setdefault(Did(scope, name), []).append((id_, Did(of, called)))
    return found


def _same_did(one: Any, other: Any) -> Any:
    return (one.c.scope == other.c.scope) & (one.c.name == other.c.name)
