"""What a close look at one transient dataset costs on a real Rucio server, against the bare listings in a row.

The bare ones are what no look can do without: the files of the dataset and of its successor, and the copies of both.
The look also asks what each file is in, for replication rules, and for its files on the disk, and asks twice what may
change meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from rucio.client import Client

from orchestrator.clock import utc_now
from orchestrator.settings import Settings, StoreSettings
from orchestrator.wiring import Muleteer
from schemas.transient import TransientPolicy
from tests.bench.bench import Bench
from tests.bench.figures import Figure, Skipped
from tests.bench.registering import SCOPE, settings_of
from tests.services.rucio import Rse, Rucio, bootstrap

#: Files that are registered with one call.
_AT_ONCE = 1000

POLICY = TransientPolicy(
    name="hits",
    scope=SCOPE,
    pattern=r"HITS-(?P<run>\d{8})",
    lifetime=timedelta(days=1),
    successor={"dataset": "{scope}:DST-{run}", "same_count": True},
    fraction=1,
)


def measure(bench: Bench) -> Iterator[Figure]:
    if missing := Rucio.missing():
        raise Skipped(missing)
    files = 1_000 if bench.quick else 10_000
    database = bench.postgres.create_database("rucio_proving")
    bootstrap(database, bench.new_directory())
    with Rucio(bench.new_directory(), database) as rucio:
        rucio.catalog.add_scope(SCOPE)
        rse = rucio.catalog.add_rse("BENCH", deterministic=False)
        client = rucio.client()
        for name in ("HITS-00000001", "DST-00000001"):
            _make(client, rse, name, files)
        bare = _bare(client)
        look = _look(bench.new_directory(), rucio)
    yield Figure("proving", f"{files:,} files and as many of the successor: bare listings", f"{bare:.1f} s")
    yield Figure("proving", "the close look at them", f"{look:.1f} s", "", f"{look / bare:.2f}")


def _make(client: Client, rse: Rse, dataset: str, files: int) -> None:
    """A closed dataset whose files lie on the disk."""
    client.add_dataset(SCOPE, dataset)
    for start in range(0, files, _AT_ONCE):
        some = [_file(rse, f"{dataset}-{number:05d}.root") for number in range(start, start + _AT_ONCE)]
        client.add_replicas(rse.name, some)
        client.attach_dids(SCOPE, dataset, some)
    client.close(SCOPE, dataset)


def _file(rse: Rse, name: str) -> dict[str, object]:
    path = rse.folder / name
    path.write_bytes(b"x" * 57)
    return {"scope": SCOPE, "name": name, "pfn": rse.pfn(name), "bytes": 57, "adler32": "0a1b2c3d", "md5": "0" * 32}


def _bare(client: Client) -> float:
    begun = time.perf_counter()
    for name in ("HITS-00000001", "DST-00000001"):
        assert list(client.list_files(SCOPE, name))
        assert list(client.list_replicas([{"scope": SCOPE, "name": name}], all_states=True))
    return time.perf_counter() - begun


def _look(home: Path, rucio: Rucio) -> float:
    settings = Settings(store=StoreSettings(url=f"sqlite:///{home}/muleteer.db"), catalog=settings_of(rucio))
    muleteer = Muleteer(home, settings, clock=lambda: utc_now() + timedelta(days=30))
    muleteer.store.transient_policies.apply([POLICY], prune=False, who="bench", now=utc_now())
    desk = muleteer.transient_desk()
    begun = time.perf_counter()
    plan = desk.plan(who="bench")  # of one dataset: nearly all of it is the look
    taken = time.perf_counter() - begun
    muleteer.close()
    assert len(plan.releases) == 1, plan.refused
    return taken
