"""Rows of transient datasets: as they are written, locked and read; and how many datasets are asked for by name."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, Table, select
from sqlalchemy.dialects.postgresql import insert as insert_postgresql
from sqlalchemy.dialects.sqlite import insert as insert_sqlite

from orchestrator.store.engine import Database
from orchestrator.store.intake import chunks
from orchestrator.store.journal import move, record, without_nul
from orchestrator.store.port import NotFound
from orchestrator.store.tables import Row, transients
from schemas.did import Did
from schemas.transient import Refusal, Refused, Release, Transient, TransientId, TransientState

#: What is said of a dataset of which all was proved.
PROVED: Final = "all was proved"

#: So many datasets are seen, or named to any other call, within one transaction at the most.
AT_ONCE: Final = 1000

#: A release that was taken back leaves nothing of itself on the row; it is in the journal.
NOT_RELEASED: Final[Row] = {
    "release": None,
    "released_at": None,
    "released_by": None,
    "leaves_at": None,
    "not_before": None,
}

#: What a look says of a dataset, as `said_of` tells it.
SAID: Final = frozenset(
    {
        "policy",
        "policy_version",
        "run",
        "reason",
        "refusals",
        "files",
        "bytes",
        "successor",
        "due_at",
        "seen_at",
        "catalog",
    }
)

#: So much of an error is told, in characters.
_SOME: Final = 300

#: Nobody works on it.
UNCLAIMED: Final[Row] = {"owner": None, "lease_until": None}


class Life(NamedTuple):
    """One life of a dataset: names are used again, and never twice in the same moment."""

    did: Did
    #: When the catalog made it.
    born_at: datetime


class Part:
    """What is done with transient datasets is told in parts; each of them needs the database."""

    def __init__(self, database: Database) -> None:
        self._database = database


# Read.


def transient_of(row: Row) -> Transient:
    """As it stands. What cannot be read of what was found and proved is left out, and the reason says so."""
    try:
        return whole_transient_of(row)
    except (ValueError, TypeError) as error:
        return whole_transient_of({**row, "refusals": "[]", "release": None, "reason": unreadable(error)})


def unreadable(error: Exception) -> str:
    """What is said of a row that cannot be read: a newer muleteer, or another hand, may have written it."""
    return f"what the store has of it cannot be read: {' '.join(str(error).split())[:_SOME]}"


def whole_transient_of(row: Row) -> Transient:
    """Raises ValueError, TypeError: something of it cannot be read."""
    shown = {key: value for key, value in row.items() if key not in _INSIDE}
    shown["did"] = Did(row["scope"], row["name"])
    shown["refusals"] = [Refusal(*each) for each in json.loads(row["refusals"])]
    shown["release"] = None if row["release"] is None else json.loads(row["release"])
    return Transient.model_validate(shown)


#: What is kept of it and not shown.
_INSIDE: Final = frozenset({"scope", "name", "owner", "lease_until", "not_before"})


def life_of(row: Row) -> Life:
    return Life(Did(row["scope"], row["name"]), row["born_at"])


def demand(connection: Connection, id_: TransientId) -> Row:
    """One row. Raises NotFound."""
    found = connection.execute(select(transients).where(transients.c.id == id_)).mappings().one_or_none()
    if found is None:
        raise NotFound(f"there is no transient dataset {id_}; `muleteer transient list` shows which there are")
    return dict(found)


def by_names(dids: Iterable[Did], table: Table) -> Iterator[ColumnElement[bool]]:
    """Conditions that together find the rows of these DIDs, some hundred at a time.

    Scope by scope: SQLite uses no index for pairs.
    """
    names: dict[str, list[str]] = {}
    for did in dict.fromkeys(dids):
        names.setdefault(did.scope, []).append(did.name)
    for scope, within in names.items():
        for chunk in chunks(within):
            yield (table.c.scope == scope) & table.c.name.in_(chunk)


def rows_of(connection: Connection, dids: Iterable[Did], *columns: Any) -> Iterator[Row]:
    """Every life of these datasets, whole or only some columns of it."""
    for condition in by_names(dids, transients):
        yield from (
            dict(row) for row in connection.execute(select(*columns or transients.c).where(condition)).mappings()
        )


# Locked. Everybody locks in the order of the ids, so that no two wait for each other.


def locked(connection: Connection, ids: Collection[int]) -> list[Row]:
    """These rows, which nobody else changes before the transaction ends."""
    found: list[Row] = []
    for chunk in chunks(sorted(ids)):
        query = select(transients).where(transients.c.id.in_(chunk)).order_by(transients.c.id).with_for_update()
        found += [dict(row) for row in connection.execute(query).mappings()]
    return found


def entered(connection: Connection, rows: Sequence[Row], *, who: str, now: datetime) -> dict[Life, Row]:
    """The rows of these lives as they stand, locked. Those of which there was none are made of `rows`.

    Those that had vanished, and have been seen in a catalog now, are held.
    """
    known = _ids(connection, rows)
    new = sorted((row for row in rows if life_of(row) not in known), key=life_of)
    if new:
        # another process may enter the same ones: who comes second finds them there
        made = _insert(connection).on_conflict_do_nothing()
        for (state, why), ids in _alike(connection.execute(made.returning(*_TOLD), new)):
            record(connection, "transient", ids, None, state, who=who, why=why, at=now)
        known = _ids(connection, rows)
    found = {life_of(row): row for row in locked(connection, set(known.values()))}
    seen = (found[life_of(row)] for row in rows if row["catalog"] is not None)
    again = _hold_again(connection, seen, who=who, now=now)
    return {**found, **{life_of(row): row for row in locked(connection, again)}}


def _hold_again(connection: Connection, rows: Iterable[Row], *, who: str, now: datetime) -> list[int]:
    """Hold those, locked, that had vanished by other hands, so it was said. That one was released is forgotten."""
    back = [row for row in rows if row["state"] == TransientState.GONE and row["leaving_at"] is None]
    why = "the catalog has it again, or still, in the same life"
    gone, held = TransientState.GONE, TransientState.HELD
    for left in (False, True):
        # of what had left before it was called back it is still known when
        ids = [row["id"] for row in back if bool(row["freed_files"]) is left]
        values = {"reason": why, "updated_at": now, **NOT_RELEASED, **({} if left else {"gone_at": None})}
        move(connection, transients, ids, gone, held, who=who, why=why, at=now, **values)
    return [row["id"] for row in back]


def _ids(connection: Connection, rows: Sequence[Row]) -> dict[Life, int]:
    wanted = {life_of(row) for row in rows}
    found = rows_of(connection, (life.did for life in wanted), *_LIFE)
    return {life_of(row): row["id"] for row in found if life_of(row) in wanted}


_TOLD: Final = (transients.c.id, transients.c.state, transients.c.reason)

_LIFE: Final = (transients.c.id, transients.c.scope, transients.c.name, transients.c.born_at)


def _alike(made: Iterable[Any]) -> Iterator[tuple[tuple[str, str | None], list[int]]]:
    """Ids with the same state and reason together: the journal takes them at once."""
    ids: dict[tuple[str, str | None], list[int]] = {}
    for id_, state, reason in made:
        ids.setdefault((state, reason), []).append(id_)
    yield from ids.items()


def _insert(connection: Connection) -> Any:
    return (insert_sqlite if connection.dialect.name == "sqlite" else insert_postgresql)(transients)


# Written.


def row_of(seen: Release | Refused, now: datetime, catalog: str | None) -> Row:
    """What a look at a catalog says of a dataset, as a row of one that was not known before."""
    scope, name = Did.parse(seen.did)
    return {
        "scope": scope,
        "name": name,
        "born_at": seen.born_at,
        "state": state_of(seen).value,
        "freed_bytes": 0,
        "freed_files": 0,
        "updated_at": now,
        **said_of(seen, now, catalog),
    }


def state_of(seen: Release | Refused) -> TransientState:
    """Where a look puts it."""
    return TransientState.RELEASABLE if isinstance(seen, Release) else TransientState.HELD


def said_of(seen: Release | Refused, now: datetime, catalog: str | None) -> Row:
    """What a look at a catalog may change of a row, as long as nobody has released it."""
    refusals = seen.refusals if isinstance(seen, Refused) else ()
    return {
        "policy": seen.policy,
        "policy_version": seen.version,
        "run": seen.run,
        "reason": reason_of(refusals),
        **refused(refusals),
        "files": seen.files,
        "bytes": seen.bytes,
        "successor": seen.successor,
        "due_at": seen.due_at,
        "seen_at": now,
        "catalog": catalog,
    }


def refused(refusals: Iterable[Refusal]) -> Mapping[str, str]:
    return {"refusals": json.dumps([(each.check, without_nul(each.text)) for each in refusals])}


def reason_of(refusals: Collection[Refusal]) -> str | None:
    """Why it stands there: the first thing in its way, and how many more there are."""
    if not refusals:
        return PROVED
    more = f" (and {len(refusals) - 1} more)" if len(refusals) > 1 else ""
    return without_nul(next(iter(refusals)).text + more)
