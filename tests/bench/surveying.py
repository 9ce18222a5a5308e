"""How long it takes to see which of many transient datasets may leave, on the embedded catalog, and how much memory.

Each dataset has a successor, of which nearly all are too young: what is left is looked at closely, a thousand datasets.
Each survey is a process of its own: the peak is that of one survey. It is what Linux calls VmHWM.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from orchestrator.rucio.embedded.catalog import LocalCatalog
from orchestrator.rucio.embedded.outbox import written
from orchestrator.rucio.port import FileEntry
from orchestrator.settings import Settings, StoreSettings
from orchestrator.wiring import Muleteer
from schemas.did import Did
from schemas.transient import TransientPolicy
from tests.bench.bench import Bench, apart
from tests.bench.figures import Figure, Skipped

SCOPE: Final = "bench"
#: Out of sight: nothing is looked at on a disk.
PLACE = "root://bench.example.org//data"
BEGAN: Final = datetime(2026, 11, 1, tzinfo=UTC)

#: Files of each dataset that is looked at closely, and as many of its successor.
FILES: Final = 10

POLICY: Final = TransientPolicy(
    name="hits",
    scope=(SCOPE,),
    pattern=r"HITS-(?P<run>\d{8})",
    lifetime=timedelta(days=7),
    successor={"dataset": "{scope}:DST-{run}", "same_count": True, "require": {"min_bytes": 1}},
    fraction=1,
)


def measure(bench: Bench) -> Iterator[Figure]:
    if not Path("/proc/self/status").exists():
        raise Skipped("there is no /proc/self/status here")
    largest = 5_000 if bench.quick else 100_000
    proofs = largest // 100
    for size in (largest // 10, largest):
        home = bench.new_directory()
        _fill(home, size, proofs)
        taken, cheap, peak, releases, refused = apart(survey, home, proofs)
        assert (releases, refused) == (proofs, size - proofs), (releases, refused)
        target = "< 60 s, flat" if size == largest else ""
        said = f"{size:,} datasets, {proofs:,} of them looked at closely, peak {peak:.0f} MB"
        each = f"{1e6 * cheap / size:.0f} us each, {1e3 * (taken - cheap) / proofs:.1f} ms for each close look"
        yield Figure("surveying", said, f"{taken:.2f} s", target, each)


def survey(home: Path, proofs: int) -> tuple[float, float, float, int, int]:
    """Plan once: seconds, those before the first close look, the peak in MB, releases, and how many were refused."""
    muleteer = _muleteer(home)
    begun = time.perf_counter()
    first = list[float]()

    def tell(what: str, count: int) -> None:
        if what == "proved" and not first:
            first.append(time.perf_counter())

    plan = muleteer.transient_desk().plan(who="bench", most=proofs, tell=tell)
    taken = time.perf_counter() - begun
    muleteer.close()
    return taken, first[0] - begun, _peak(), len(plan.releases), sum(plan.refused.values())


def _muleteer(home: Path) -> Muleteer:
    settings = Settings(store=StoreSettings(url=f"sqlite:///{home}/muleteer.db"))
    return Muleteer(home, settings, clock=lambda: BEGAN + timedelta(days=30))


def _fill(home: Path, size: int, proofs: int) -> None:
    """The files of those that may leave by the catalog's calls; the rest, which have none, by its tables."""
    now = [BEGAN]
    catalog = LocalCatalog(home / "catalog.db", lambda *_: None, clock=lambda: now[0])
    for run in range(proofs):
        for kind in ("HITS", "DST"):
            did = Did(SCOPE, f"{kind}-{run:08d}")
            files = [
                FileEntry(Did(SCOPE, f"{did.name}-{number}.root"), f"{PLACE}/{did.name}-{number}", 10, "0a1b2c3d")
                for number in range(FILES)
            ]
            catalog.add_dataset(did)
            catalog.attach(did, files)
            catalog.close(did)
    with sqlite3.connect(home / "catalog.db") as db:
        db.execute("DELETE FROM outbox")
        young = written(BEGAN + timedelta(days=29))
        db.executemany(
            "INSERT INTO dataset (scope, name, account, is_open, created_at, closed_at, bytes, length)"
            " VALUES (?, ?, 'root', 0, ?, ?, 10, 1)",
            ((SCOPE, f"{kind}-{run:08d}", young, young) for run in range(proofs, size) for kind in ("HITS", "DST")),
        )
    muleteer = _muleteer(home)
    muleteer.store.transient_policies.apply([POLICY], prune=False, who="bench", now=BEGAN)
    muleteer.close()


def _peak() -> float:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024
