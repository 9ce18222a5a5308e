"""What the embedded catalog deletes from the disks of this machine, and what it does not."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.rucio.embedded.tables import LOCAL
from orchestrator.rucio.port import CatalogError, FileEntry, Replica
from schemas.did import Did
from tests.contract.embedded_bench import BEGAN, NAME, RUN, Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize("form", ["{}", "file://{}", "file://localhost{}", "file://localhost:0{}"])
def test_a_file_is_deleted_that_is_the_one_that_is_meant(bench: Bench, form: str) -> None:
    """By its path, or by a URL that says that it lies on this machine."""
    bench.marked(form.format(bench.file))

    bench.catalog.sweep()

    assert bench.told() == [("deletion-done", None)]
    assert not bench.file.exists()
    assert bench.catalog.replicas([NAME]) == {}


def other_size(bench: Bench) -> str:
    bench.file.write_bytes(b"x" * 11)
    return str(bench.file)


def link(bench: Bench) -> str:
    link = bench.disk / "link.root"
    link.symlink_to(bench.file)
    return str(link)


def no_disk(bench: Bench) -> str:
    return str(bench.disk / "not-mounted" / "a.root")


def elsewhere(bench: Bench) -> str:
    return "root://eos.example.org//a.root"


def relative(bench: Bench) -> str:
    return "a.root"


def other_machine(bench: Bench) -> str:
    return f"file://other.example.org{bench.file}"


def impossible(bench: Bench) -> str:
    return "/disk/\0"


@pytest.mark.parametrize("place", [other_size, link, no_disk, elsewhere, relative, other_machine, impossible])
def test_what_is_not_surely_the_file_is_not_deleted(bench: Bench, place: Callable[[Bench], str]) -> None:
    """It stays, on the disk and in the catalog, and it is said why; it is tried again after ten minutes."""
    bench.marked(place(bench))

    for minutes in (0, 9, 2):
        bench.now += timedelta(minutes=minutes)
        bench.catalog.sweep()

    assert [outcome for outcome, reason in bench.told() if reason] == ["deletion-failed"] * 2
    assert bench.file.exists()
    assert len(bench.catalog.replicas([NAME], readable=False)[NAME]) == 1
    assert bench.catalog.dataset(RUN).length == 1


def test_many_are_deleted_bit_by_bit(bench: Bench) -> None:
    """A sweep takes a moment only, and the next one goes on; each is deleted once."""
    bench.catalog.add_dataset(RUN)
    paths = [bench.disk / f"{number:03}.root" for number in range(301)]
    for path in paths:
        path.touch()
    files = [FileEntry(Did("group.sphenix", path.name), str(path), 0, "00000001") for path in paths]
    bench.catalog.attach(RUN, files)
    bench.catalog.set_tombstones([file.did for file in files], LOCAL)

    bench.catalog.sweep()
    assert len(bench.told()) == 200
    for _ in range(2):
        bench.catalog.sweep()

    assert bench.told() == [("deletion-done", None)] * 301
    assert [path.name for path in bench.disk.iterdir()] == ["a.root"]


def test_many_are_erased_bit_by_bit(bench: Bench) -> None:
    """Those with a locked rule are in nobody's way."""
    dids = [Did("t", f"D-{number:03}") for number in range(220)]
    for did in dids:
        bench.catalog.add_dataset(did, lifetime=timedelta())
    for did in dids[:110]:
        bench.catalog.add_rule(did, LOCAL)
        bench.catalog.lock_rule(bench.catalog.rules([did])[did][0].id)

    bench.now += timedelta(seconds=1)
    for left in (120, 110):
        bench.catalog.sweep()
        assert len(bench.catalog.datasets("t")) == left


#: Sweeps, and is killed before or after the file is off the disk: nobody writes down that it is.
KILLED = """
import os, sys
from pathlib import Path
from orchestrator.rucio.embedded.catalog import LocalCatalog

def unlink_and_die(path, unlink=os.unlink):
    if sys.argv[2] == "after":
        unlink(path)
    os._exit(9)

os.unlink = unlink_and_die
LocalCatalog(Path(sys.argv[1]), lambda headers, body: None).sweep()
"""


def killed(bench: Bench, when: str = "after") -> None:
    """A sweep, before or after it has deleted the file."""
    done = subprocess.run([sys.executable, "-c", KILLED, str(bench.path), when], check=False)
    assert done.returncode == 9
    assert bench.file.exists() == (when == "before")


def test_a_sweep_that_is_killed_is_made_up_for(bench: Bench) -> None:
    """What was deleted from the disk by then is known to be, though it was the last file of its directory."""
    bench.marked(str(bench.file))
    killed(bench)
    assert bench.catalog.registered([NAME])

    bench.catalog.sweep()

    assert bench.told() == [("deletion-done", None)]
    assert bench.catalog.registered([NAME]) == {}


def test_a_sweep_that_is_killed_is_made_up_for_when_its_disk_is_there(bench: Bench) -> None:
    """While another directory is in the place of the one in which the file was seen, nothing is known."""
    bench.marked(str(bench.file))
    killed(bench)
    bench.unmount()

    bench.catalog.sweep()
    assert bench.catalog.registered([NAME])
    bench.mount()
    bench.now += timedelta(minutes=11)
    bench.catalog.sweep()

    assert [outcome for outcome, _ in bench.told()] == ["deletion-failed", "deletion-done"]


@pytest.mark.parametrize("anew", ["held", "registered", "attached"])
def test_what_was_wanted_again_meanwhile_is_looked_at_anew(bench: Bench, anew: str) -> None:
    """What a killed sweep saw is known no more: an empty directory tells nothing then."""
    entry = FileEntry(NAME, str(bench.file), 10, "0a1b2c3d")
    bench.marked(entry.pfn)
    killed(bench, "before")
    if anew == "held":
        bench.catalog.add_rule(RUN, LOCAL, timedelta())
    elif anew == "registered":
        bench.catalog.register([entry])
    else:
        bench.catalog.attach(RUN, [entry])
    bench.file.unlink()

    bench.catalog.set_tombstones([NAME], LOCAL)
    bench.catalog.sweep()

    assert [outcome for outcome, _ in bench.told()] == ["deletion-failed"]


def test_what_somebody_else_deleted_is_not_found(bench: Bench) -> None:
    """Where other files lie beside it; it is no more then."""
    bench.marked(str(bench.file))
    (bench.disk / "b.root").touch()
    bench.file.unlink()

    bench.catalog.sweep()

    assert bench.told() == [("deletion-not-found", "File Not Found")]
    assert bench.catalog.registered([NAME]) == {}


@pytest.mark.parametrize("point", ["empty", "missing"])
def test_a_disk_that_is_not_mounted_loses_no_file(bench: Bench, point: str) -> None:
    """Also if the files lie at its root: the deletion fails, and is made up for when the disk is there again."""
    bench.marked(str(bench.file))
    bench.unmount()
    if point == "missing":
        bench.disk.rmdir()

    bench.catalog.sweep()

    [(outcome, reason)] = bench.told()
    assert outcome == "deletion-failed" and "cannot be told" in reason
    assert bench.catalog.registered([NAME])
    bench.mount()
    bench.now += timedelta(minutes=11)
    bench.catalog.sweep()
    assert not bench.file.exists()
    assert bench.catalog.registered([NAME]) == {}


def test_a_file_lies_where_it_has_a_copy_still(bench: Bench) -> None:
    """When the first copy has gone, another one is told."""
    bench.marked(str(bench.file))
    bench.catalog.register([FileEntry(NAME, "/tape/a.root", 10, "0a1b2c3d")], "TAPE")

    bench.catalog.sweep()

    assert [each.pfn for each in bench.catalog.files(RUN)] == ["/tape/a.root"]
    assert bench.catalog.replicas([NAME])[NAME] == [Replica(NAME, "TAPE", "/tape/a.root", 10)]


def test_rules_are_of_the_account_that_made_them(bench: Bench) -> None:
    """Each may have one at an RSE, and what either holds stays."""
    bench.marked(str(bench.file))
    other = bench.opened("someone")
    for catalog in (bench.catalog, other):
        catalog.add_rule(RUN, LOCAL, timedelta(hours=1))
    other.add_rule(RUN, LOCAL)

    bench.now += timedelta(hours=2)
    bench.catalog.sweep()

    assert [(rule.account, rule.expires_at) for rule in bench.catalog.rules([RUN])[RUN]] == [("someone", None)]
    assert bench.file.exists()
    with pytest.raises(CatalogError, match="no-rule"):
        bench.catalog.lock_rule("no-rule")


def test_a_walk_sees_what_is_made_meanwhile_at_most_once(bench: Bench) -> None:
    """It reads some at a time, and none of them twice."""
    with closing(sqlite3.connect(bench.path)) as db, db:
        query = "INSERT INTO dataset (scope, name, account, created_at) VALUES ('t', ?, 'root', ?)"
        db.executemany(query, [(f"D-{number:04}", f"{BEGAN:%Y-%m-%d %H:%M:%S.%f}") for number in range(2001)])
    walking = bench.catalog.walk("t", "D-*")
    begun = [next(walking)]
    bench.catalog.erase(Did("t", "D-1500"))
    bench.catalog.add_dataset(Did("t", "D-LATE"))

    names = [entry.did.name for entry in [*begun, *walking]]

    assert sorted(names) == [*(f"D-{number:04}" for number in range(2001) if number != 1500), "D-LATE"]
