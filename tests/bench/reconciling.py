"""How long it takes to compare a long list of closings with the store, and how much memory.

Nearly all closings are stored, as they are on a good day; one in a hundred was lost. The catalog is first a list that
costs next to nothing, which leaves our own part, and then a real Rucio server. Each look is a process of its own: the
peak is that of one look. It is what Linux calls VmHWM.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy
from pydantic import SecretStr

from orchestrator.clock import utc_now
from orchestrator.core.reconciling import HEADERS, Closing, body_of
from orchestrator.reconcile.reconciler import Reconciler
from orchestrator.rucio.client.access import access_of
from orchestrator.rucio.client.catalog import RucioCatalog
from orchestrator.rucio.port import DatasetEntry, DatasetState
from orchestrator.settings import CatalogSettings
from orchestrator.store.intake import Arrival
from orchestrator.store.store import Store
from schemas.did import Did
from tests.bench.bench import Bench, apart
from tests.bench.figures import Figure, Skipped
from tests.services.rucio import Rucio, bootstrap

SCOPE = "bench"
BEGAN = datetime(2026, 11, 1, tzinfo=UTC)

#: One in so many events was lost.
LOST = 100


class Listed:
    """A catalog that only knows what was closed: a dataset each second."""

    address = "listed:"

    def __init__(self, size: int) -> None:
        self._size = size

    def closed_since(self, moment: datetime, scope: str = "*") -> Iterator[DatasetEntry]:
        for number in range(self._size):
            yield entry(number)


def entry(number: int) -> DatasetEntry:
    at = BEGAN + timedelta(seconds=number)
    return DatasetEntry(Did(SCOPE, name(number)), DatasetState.CLOSED, "root", at, at, 57, 2, 0)


def name(number: int) -> str:
    return f"DATASET-{number:08d}"


def measure(bench: Bench) -> Iterator[Figure]:
    if not Path("/proc/self/status").exists():
        raise Skipped("there is no /proc/self/status here")
    largest = 5_000 if bench.quick else 100_000
    for size in (largest // 10, largest):
        url = _stored(bench.new_sqlite(), size)
        yield _figure("a list", size, largest, *apart(look, url, None, size))
    url = _stored(bench.new_sqlite(), largest)
    if missing := Rucio.missing():
        raise Skipped(missing)
    database = bench.postgres.create_database("rucio_bench")
    bootstrap(database, bench.new_directory())
    with Rucio(bench.new_directory(), database) as rucio:
        rucio.catalog.add_scope(SCOPE)
        _fill(database, rucio, largest)
        yield _figure("a real Rucio server", largest, largest, *apart(look, url, (rucio.url, rucio.password)))


def look(url: str, rucio: tuple[str, str] | None, size: int = 0) -> tuple[float, float, int, int]:
    """Compare once: seconds, the peak in MB, closings, and how many were missing.

    Args:
        rucio: the server's URL, and root's password.
    """
    store = Store.open(url)
    catalog: Any = Listed(size) if rucio is None else _real(*rucio, Path(url.removeprefix("sqlite:///")).parent)
    reconciler = Reconciler(
        *(catalog, store.messages, store.reconciliations),
        scopes=(SCOPE,),
        overlap=timedelta(hours=1),
        patience=timedelta(),
        clock=utc_now,
    )
    begun = time.perf_counter()
    done = reconciler.reconcile(since=BEGAN)
    taken = time.perf_counter() - begun
    store.close()
    return taken, _peak(), done.closings, done.missing


def _figure(what: str, size: int, largest: int, taken: float, peak: float, closings: int, missing: int) -> Figure:
    assert (closings, missing) == (size, size // LOST), (closings, missing)
    target = "< 60 s, flat" if size == largest else ""
    said = f"{size:,} closings from {what}, {missing:,} missing, peak {peak:.0f} MB"
    return Figure("reconciling", said, f"{taken:.2f} s", target, f"{1e6 * taken / size:.0f} us each")


def _stored(url: str, size: int) -> str:
    """A store that has the events of all but one in a hundred."""
    store = Store.open(url)
    numbers = [number for number in range(size) if number % LOST]
    for start in range(0, len(numbers), 5_000):
        arrivals = [Arrival(HEADERS, body_of(_closing(number))) for number in numbers[start : start + 5_000]]
        store.messages.take_in(arrivals, origin="broker", now=BEGAN)
    store.close()
    return url


def _closing(number: int) -> Closing:
    one = entry(number)
    return Closing(one.did, one.created_at, one.bytes, one.length, one.events)


def _fill(database: str, rucio: Rucio, size: int) -> None:
    """The datasets, by copying one within Rucio's own database: by its calls it would take half an hour."""
    client = rucio.client()
    client.add_dataset(SCOPE, "MODEL")
    client.close(SCOPE, "MODEL")
    engine = sqlalchemy.create_engine(database)
    with engine.begin() as connection:
        columns = [each["name"] for each in sqlalchemy.inspect(connection).get_columns("dids")]
        made = {
            "name": "'DATASET-' || lpad(n::text, 8, '0')",
            "closed_at": "timestamp '2026-11-01' + n * interval '1 second'",
            "length": "2",
            "bytes": "57",
        }
        values = ", ".join(made.get(column, column) for column in columns)
        connection.execute(
            sqlalchemy.text(
                f"INSERT INTO dids ({', '.join(columns)}) SELECT {values} FROM dids, generate_series(0, :last) AS n "
                "WHERE name = 'MODEL'"
            ),
            {"last": size - 1},
        )
        connection.execute(sqlalchemy.text("UPDATE dids SET closed_at = NULL, is_open = true WHERE name = 'MODEL'"))
        connection.execute(sqlalchemy.text("ANALYZE dids"))  # as a server has that did not get them all at once
    engine.dispose()


def _real(url: str, password: str, home: Path) -> RucioCatalog:
    root = Rucio.account
    settings = CatalogSettings(kind="rucio", host=url, account=root, username=root, password=SecretStr(password))
    return RucioCatalog(access_of(settings, home), rse=None, clock=utc_now)


def _peak() -> float:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024
