"""How long a person waits for the first page of pending messages, when there are a million of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

from sqlalchemy import text

from orchestrator.cli.messages import COUNTED
from orchestrator.clock import utc_now
from orchestrator.store.engine import Database, insert_many
from orchestrator.store.messages import Filter
from orchestrator.store.store import Store
from orchestrator.store.tables import messages
from schemas.message import MessageState
from tests.bench.bench import Bench
from tests.bench.figures import Figure, Skipped
from tests.bench.frames import close_of

#: Rows in one transaction while the store is filled.
BULK = 50_000
ROUNDS = 21

PENDING = Filter(states=[MessageState.PENDING])


def measure(bench: Bench) -> Iterator[Figure]:
    size = 100_000 if bench.quick else 1_000_000
    for kind, make in (("SQLite", bench.new_sqlite), ("PostgreSQL", bench.new_postgresql)):
        try:
            store = Store.open(make())
        except Skipped as reason:
            yield Figure("listing", kind, f"skipped: {reason}")
            continue
        _fill(store.database, size)
        for what, milliseconds in _costs(store, size):
            yield Figure("listing", f"{what} of {size:,}, {kind}", f"{milliseconds:.1f} ms", "< 50 ms")
        store.close()


def _fill(database: Database, size: int) -> None:
    """Pending messages, judged and wanted by nobody, written as the intake writes them."""
    names = (
        *("id", "identity", "state", "reason", "event_type", "scope", "name", "created_at", "received_at", "origin"),
        *("duplicates", "judged_revision", "headers", "body"),
    )
    now, body = utc_now(), close_of(0)

    def row(id_: int) -> tuple[Any, ...]:
        why = "no rule matched (of 1 at revision 1)"
        did = ("group.sphenix", f"DS-{id_:08d}")
        return (id_, f"{id_:032x}", "pending", why, "close", *did, now, now, "broker", 0, 1, "{}", body)

    for start in range(1, size + 1, BULK):
        with database.write() as connection:
            insert_many(connection, messages, names, [row(id_) for id_ in range(start, min(start + BULK, size + 1))])
    if not database.is_sqlite:
        with database.write() as connection:
            connection.execute(text("ANALYZE messages"))  # as PostgreSQL does by itself within a minute


def _costs(store: Store, size: int) -> Iterator[tuple[str, float]]:
    yield "first page of pending messages", _time(lambda: store.messages.list(PENDING))
    yield (
        "the same and how many there are",
        _time(lambda: (store.messages.list(PENDING), store.messages.count(PENDING, most=COUNTED))),
    )
    yield "a page in the middle", _time(lambda: store.messages.list(PENDING, before=size // 2))


def _time(work: Callable[[], object]) -> float:
    """Milliseconds of one call, the median."""
    taken = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return median(taken) * 1000
