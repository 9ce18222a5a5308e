"""Catalogs that an older or a newer muleteer made."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.rucio.embedded.tables import LOCAL
from orchestrator.rucio.port import CatalogUnavailable, FileEntry
from schemas.did import Did
from tests.contract.embedded_bench import BEGAN, NAME, RUN, Bench

OTHER = Did("group.sphenix", "b.root")

#: What versions brought, newest first: tables, triggers, indexes and columns, and those that they took away.
FOURTH = """
DROP TABLE identity;
ALTER TABLE file DROP COLUMN created_at;
PRAGMA user_version = 3;
"""
THIRD = """
DROP INDEX replica_place; DROP INDEX replica_marked;
DROP TRIGGER copy_held;
ALTER TABLE replica DROP COLUMN place; ALTER TABLE replica DROP COLUMN seen_in;
CREATE INDEX replica_pfn ON replica (pfn);
CREATE INDEX replica_tombstone ON replica (tombstone) WHERE tombstone IS NOT NULL;
CREATE TRIGGER copy_held AFTER INSERT ON lock BEGIN
    UPDATE replica SET tombstone = NULL WHERE file_id = NEW.file_id AND rse = NEW.rse;
END;
PRAGMA user_version = 2;
"""
SECOND = """
DROP TRIGGER copy_held; DROP TRIGGER copy_let_go;
DROP INDEX replica_tombstone; DROP INDEX replica_pfn; DROP INDEX attachment_file;
DROP TABLE lock; DROP TABLE rule;
ALTER TABLE dataset DROP COLUMN is_incomplete; ALTER TABLE replica DROP COLUMN tombstone;
PRAGMA user_version = 1;
"""
#: An older muleteer that opens the catalog says so, and leaves the tables as they are.
LOWERED = "PRAGMA user_version = 1; UPDATE replica SET place = NULL;"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A dataset with a file, at two RSEs."""
    bench = Bench(tmp_path)
    bench.catalog.add_dataset(RUN, lifetime=timedelta(days=1))
    bench.catalog.attach(RUN, [FileEntry(NAME, str(bench.file), 10, "0a1b2c3d")])
    bench.catalog.register([FileEntry(NAME, "/tape/a.root", 10, "0a1b2c3d")], "TAPE")
    return bench


def run(bench: Bench, script: str) -> None:
    with closing(sqlite3.connect(bench.path)) as db:
        db.executescript(f"BEGIN; {script} COMMIT;")


older = pytest.mark.parametrize(
    "script",
    [FOURTH, FOURTH + THIRD, FOURTH + THIRD + SECOND, LOWERED],
    ids=["third", "second", "first", "lowered"],
)


@older
def test_a_catalog_of_an_earlier_version_goes_on_working(bench: Bench, script: str) -> None:
    """What was in it is there, once, and can leave."""
    run(bench, script)

    for _ in range(2):
        catalog = bench.opened()

    assert [(copy.rse, copy.pfn) for copy in catalog.replicas([NAME])[NAME]] == [
        (LOCAL, str(bench.file)),
        ("TAPE", "/tape/a.root"),
    ]
    catalog.add_rule(RUN, LOCAL, timedelta())
    catalog.sweep()
    assert not bench.file.exists()
    assert [copy.rse for copy in catalog.replicas([NAME])[NAME]] == ["TAPE"]
    assert catalog.dataset(RUN).expires_at == BEGAN + timedelta(days=1)


@older
def test_places_of_files_are_known_after_it(bench: Bench, script: str) -> None:
    """What was registered before is not deleted as something else, however that is written."""
    run(bench, script)

    catalog = bench.opened()
    catalog.register([FileEntry(OTHER, f"{bench.disk}//a.root", 10, "0a1b2c3d")])
    catalog.set_tombstones([OTHER], LOCAL)
    catalog.sweep()

    assert [outcome for outcome, _ in bench.told()] == ["deletion-failed"]
    assert bench.file.exists()


@older
def test_what_came_with_a_version_is_there_after_it(bench: Bench, script: str) -> None:
    """From then on it can be told from any other, always by the same; when an older file was made is not known."""
    run(bench, script)

    first, second = bench.opened(), bench.opened()
    second.register([FileEntry(OTHER, str(bench.file), 10, "0a1b2c3d")])

    assert first.identity and first.identity == second.identity
    made = {did: each["created_at"] for did, each in first.metadata([NAME, OTHER]).items()}
    assert made[OTHER] is not None and made[OTHER] >= BEGAN
    assert (made[NAME] is None) == (script is not LOWERED)


def test_a_catalog_of_a_newer_version_is_left_alone(bench: Bench) -> None:
    """It is said what to do, and it stays as it is."""
    run(bench, "PRAGMA user_version = 99;")

    with pytest.raises(CatalogUnavailable, match=r"catalog\.db .*version 99.*Upgrade muleteer"):
        bench.opened()

    with closing(sqlite3.connect(bench.path)) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (99,)
