"""What registering many files costs on a real Rucio server, against the bare calls of its client in a loop.

Both make datasets of 1000 files, each with size, sums, GUID and events, attach them and close the dataset; the bare
ones compare nothing and keep no record. They take turns, so that both find the server in the same mood.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from uuid import UUID

from pydantic import SecretStr
from rucio.client import Client

from orchestrator.clock import utc_now
from orchestrator.core.registering import Policy, Told, plan
from orchestrator.register.filler import Filler
from orchestrator.register.reading import Reader
from orchestrator.register.registrar import made_later
from orchestrator.register.summing import Summing
from orchestrator.rucio.client.access import access_of
from orchestrator.rucio.client.catalog import RucioCatalog
from orchestrator.settings import CatalogSettings
from orchestrator.store.registration_rows import Wanted
from orchestrator.store.store import Store
from schemas.did import Did
from schemas.registration import ManifestEntry, RegistrationState
from tests.bench.bench import Bench
from tests.bench.figures import Figure, Skipped
from tests.services.rucio import Rse, Rucio, bootstrap

SCOPE = "bench"

#: Files in one dataset. Rucio takes no more in one call.
AT_ONCE = 1000


def measure(bench: Bench) -> Iterator[Figure]:
    if missing := Rucio.missing():
        raise Skipped(missing)
    datasets = 2 if bench.quick else 10
    database = bench.postgres.create_database("rucio_registering")
    bootstrap(database, bench.new_directory())
    with Rucio(bench.new_directory(), database) as rucio:
        rucio.catalog.add_scope(SCOPE)
        rse = rucio.catalog.add_rse("BENCH", deterministic=False)
        bare, ours = _take_turns(bench, rucio, rse, datasets)
    files = datasets * AT_ONCE
    yield Figure("registering", f"{files:,} files, the bare calls", f"{bare:.1f} s")
    yield Figure("registering", f"{files:,} files, `register fill`", f"{ours:.1f} s", "< 1.25", f"{ours / bare:.2f}")


def _take_turns(bench: Bench, rucio: Rucio, rse: Rse, datasets: int) -> tuple[float, float]:
    """Seconds of each."""
    store = Store.open(bench.new_sqlite())
    catalog = RucioCatalog(access_of(settings_of(rucio), bench.new_directory()), rse=rse.name, clock=utc_now)
    filler = Filler(store.registrations, catalog, Summing(Reader()).all)
    client = rucio.client()
    client.ping()
    catalog.datasets(SCOPE)
    bare = ours = 0.0
    for number in range(datasets):
        begun = time.perf_counter()
        _bare(client, rse, number)
        bare += time.perf_counter() - begun
        begun = time.perf_counter()
        _ours(filler, rse, number)
        ours += time.perf_counter() - begun
    store.close()
    return bare, ours


def _bare(client: Client, rse: Rse, number: int) -> None:
    files = [_file(rse, "bare", number, position) for position in range(AT_ONCE)]
    client.add_dataset(SCOPE, f"BARE-{number}")
    client.add_replicas(
        rse.name,
        [
            {
                "scope": SCOPE,
                "name": each["name"],
                "pfn": each["pfn"],
                "bytes": each["bytes"],
                "adler32": each["adler32"],
                "md5": each["md5"],
                "meta": {"guid": each["guid"].replace("-", ""), "events": each["events"]},
            }
            for each in files
        ],
    )
    dids = [
        {"scope": SCOPE, "name": each["name"], **{key: each[key] for key in ("bytes", "adler32", "md5")}}
        for each in files
    ]
    client.attach_dids_to_dids(
        [{"scope": SCOPE, "name": f"BARE-{number}", "dids": dids, "rse": None}], ignore_duplicate=True
    )
    client.close(SCOPE, f"BARE-{number}")


def _ours(filler: Filler, rse: Rse, number: int) -> None:
    tellings = (Told(_entry(rse, number, position), "bench") for position in range(AT_ONCE))
    files = plan(tellings, SCOPE, Policy(), made_later, rse.name)
    filled = filler.fill(Wanted(Did(SCOPE, f"OURS-{number}"), rse.name), files, who="bench")
    assert filled.registration.state is RegistrationState.DONE, filled


def _entry(rse: Rse, number: int, position: int) -> ManifestEntry:
    told = _file(rse, "ours", number, position)
    return ManifestEntry(lfn=told.pop("name"), **told)


def _file(rse: Rse, whose: str, number: int, position: int) -> dict[str, Any]:
    name = f"{whose}-{number:03d}-{position:05d}.root"
    unique = f"{whose == 'ours':d}{number:07d}{position:08d}"
    return {
        "name": name,
        # not on this disk: nothing is read
        "pfn": rse.pfn(name),
        "bytes": 57,
        "adler32": f"{position:08x}",
        "md5": f"{int(unique):032x}",
        "guid": str(UUID(int=int(unique))),
        "events": 5,
    }


def settings_of(rucio: Rucio) -> CatalogSettings:
    password = SecretStr(rucio.password)
    return CatalogSettings(
        kind="rucio", host=rucio.url, account=rucio.account, username=rucio.account, password=password
    )
