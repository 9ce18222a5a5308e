"""What the embedded catalog does not delete, though it was marked or a rule ended."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from orchestrator.rucio.embedded.tables import LOCAL
from orchestrator.rucio.port import DidNotFound, FileEntry, RuleLocked
from schemas.did import Did
from tests.contract.embedded_bench import NAME, RUN, Bench

OTHER = Did("group.sphenix", "b.root")
NEW = Did("group.sphenix", "NEW")
BOX = Did("group.sphenix", "BOX")
SAME_PLACE = "another file is registered at the same place"


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def entry(bench: Bench, pfn: str = "", did: Did = NAME) -> FileEntry:
    return FileEntry(did, pfn or str(bench.file), 10, "0a1b2c3d")


# One place, and two files.


@pytest.mark.parametrize(
    "spelling",
    [
        "{}",
        "file://localhost{}",
        "file:{}",
        "FILE://{}",
        "file://other.example.org:1094{}",
        "/{}",
        "file:///{}",
        "{directory}//a.root",
        "{directory}/../disk/./a.root",
        "file://{directory}/%61.root",
        "{linked}/a.root",
        "{link}",
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_a_place_where_two_files_are_registered_is_left_alone(bench: Bench, spelling: str, turned: bool) -> None:
    """However it is written: the bytes may be the other's."""
    linked, link = bench.disk.with_name("linked"), bench.disk.with_name("link.root")
    linked.symlink_to(bench.disk)
    link.symlink_to(bench.file)
    pfns = [str(bench.file), spelling.format(bench.file, directory=bench.disk, linked=linked, link=link)]
    marked, other = reversed(pfns) if turned else pfns
    bench.marked(marked)
    bench.catalog.register([entry(bench, other, OTHER)])

    bench.catalog.sweep()

    assert bench.told() == [("deletion-failed", SAME_PLACE)]
    assert bench.file.exists()
    assert set(bench.catalog.replicas([NAME, OTHER])) == {NAME, OTHER}


def test_a_place_is_looked_up_again(bench: Bench) -> None:
    """A link may lead elsewhere by now."""
    (bench.disk.with_name("before")).mkdir()
    link = bench.disk.with_name("link")
    link.symlink_to(bench.disk.with_name("before"))
    bench.marked(f"{link}/a.root")
    bench.catalog.register([entry(bench, did=OTHER)])
    link.unlink()
    link.symlink_to(bench.disk)

    bench.catalog.sweep()

    assert bench.told() == [("deletion-failed", SAME_PLACE)]
    assert bench.file.exists()


@pytest.mark.parametrize("mark", ["#1", "?1"])
def test_a_name_is_not_cut(bench: Bench, mark: str) -> None:
    """What a URL of a file has after `#` or `?` belongs to it."""
    meant = bench.disk / f"a.root{mark}"
    meant.write_bytes(b"x" * 10)
    bench.marked(f"file://{bench.file}{mark}")

    bench.catalog.sweep()

    assert bench.file.exists()
    assert not meant.exists()


def test_a_name_need_be_no_text(bench: Bench) -> None:
    """A disk may have any bytes in a name."""
    meant = bench.disk / os.fsdecode(b"\xff.root")
    meant.write_bytes(b"x" * 10)
    bench.marked(f"file://{bench.disk}/%ff.root")

    bench.catalog.sweep()

    assert bench.told() == [("deletion-done", None)]
    assert not meant.exists()


def test_the_last_of_those_at_one_place_deletes(bench: Bench) -> None:
    """All of them are marked: none has to wait for the others, and the file goes."""
    bench.marked(str(bench.file))
    bench.catalog.attach(RUN, [entry(bench, f"file://{bench.file}", OTHER)])
    assert bench.catalog.set_tombstones([OTHER, NAME], LOCAL) == []

    bench.catalog.sweep()

    assert [outcome for outcome, _ in bench.told()] == ["deletion-not-found", "deletion-done"]
    assert not bench.file.exists()
    assert bench.catalog.registered([NAME, OTHER]) == {}


def test_one_does_not_wait_for_another_that_cannot_delete(bench: Bench) -> None:
    """What lies on another machine is never deleted from here, so it says that it cannot be."""
    bench.marked(str(bench.file))
    bench.catalog.attach(RUN, [entry(bench, f"file://other.example.org{bench.file}", OTHER)])
    bench.catalog.set_tombstones([OTHER], LOCAL)

    bench.catalog.sweep()

    assert [outcome for outcome, _ in bench.told()] == ["deletion-failed"] * 2
    assert set(bench.catalog.registered([NAME, OTHER])) == {NAME, OTHER}


# Wanted again.


def test_what_is_registered_anew_is_marked_no_more(bench: Bench) -> None:
    """That copy; those at other RSEs are."""
    tape = bench.disk / "tape.root"
    tape.write_bytes(b"x" * 10)
    bench.marked(str(bench.file))
    bench.catalog.register([entry(bench, str(tape))], "TAPE")
    bench.catalog.set_tombstones([NAME], "TAPE")

    assert bench.catalog.register([entry(bench)]) == 0
    bench.catalog.sweep()

    assert bench.file.exists()
    assert not tape.exists()
    assert [copy.rse for copy in bench.catalog.replicas([NAME])[NAME]] == [LOCAL]


@pytest.mark.parametrize("into", [RUN, NEW])
def test_what_is_attached_anew_is_marked_no_more(bench: Bench, into: Did) -> None:
    """To another dataset, or to its own once more: all its copies stay."""
    tape = bench.disk / "tape.root"
    tape.write_bytes(b"x" * 10)
    bench.marked(str(bench.file))
    bench.catalog.register([entry(bench, str(tape))], "TAPE")
    bench.catalog.set_tombstones([NAME], "TAPE")
    if into == NEW:
        bench.catalog.add_dataset(NEW)

    bench.catalog.attach(into, [entry(bench)])
    bench.catalog.close(into)
    bench.catalog.sweep()

    assert bench.file.exists() and tape.exists()
    assert [file.did for file in bench.catalog.files(into)] == [NAME]
    assert bench.told() == []


# Erased by a person.


def held(bench: Bench, did: Did = RUN) -> None:
    """A closed dataset in a container, and a rule on one of them."""
    bench.catalog.add_dataset(RUN)
    bench.catalog.attach(RUN, [entry(bench)])
    bench.catalog.close(RUN)
    bench.catalog.add_container(BOX)
    bench.catalog.enclose(BOX, [RUN])
    bench.catalog.add_rule(did, LOCAL, timedelta(hours=1))


@pytest.mark.parametrize(("ruled", "erased"), [(RUN, RUN), (BOX, BOX), (BOX, RUN)])
@pytest.mark.parametrize("hours", [0, 2])
def test_what_a_person_erases_leaves_its_files(bench: Bench, ruled: Did, erased: Did, hours: int) -> None:
    """A rule that ends with it, or that holds no more what was in it, marks nothing, though it was over."""
    held(bench, ruled)
    bench.now += timedelta(hours=hours)

    bench.catalog.erase(erased)
    bench.now += timedelta(days=1)
    bench.catalog.sweep()

    assert bench.file.exists()
    assert bench.catalog.registered([NAME])
    assert bench.catalog.rules([ruled]).get(ruled, []) == []


def test_what_was_marked_before_a_dataset_is_erased_goes(bench: Bench) -> None:
    """Somebody asked for that."""
    bench.marked(str(bench.file))

    bench.catalog.erase(RUN)
    bench.catalog.sweep()

    assert not bench.file.exists()


def test_what_another_rule_holds_leaves_with_that(bench: Bench) -> None:
    """Erasing one dataset by hand saves no file from what becomes of the others."""
    held(bench)
    bench.catalog.add_dataset(NEW)
    bench.catalog.attach(NEW, [entry(bench)])
    bench.catalog.add_rule(NEW, LOCAL, timedelta(hours=1))

    bench.catalog.erase(RUN)
    bench.catalog.sweep()
    assert bench.file.exists()
    bench.now += timedelta(hours=2)
    bench.catalog.sweep()

    assert not bench.file.exists()


@pytest.mark.parametrize("did", [RUN, BOX])
def test_nobody_erases_what_a_locked_rule_is_on(bench: Bench, did: Did) -> None:
    """A dataset or a container: it is said which rule, and what to do; then it can be."""
    held(bench, did)
    someone = bench.opened("someone")
    someone.add_rule(did, LOCAL)
    rule = next(rule for rule in someone.rules([did])[did] if rule.account == "someone")
    bench.catalog.lock_rule(rule.id)

    with pytest.raises(RuleLocked, match=f"{did} .*{rule.id} of someone .*unlock"):
        bench.catalog.erase(did)
    bench.catalog.sweep()

    assert bench.catalog.metadata([RUN, BOX]).keys() == {RUN, BOX}
    assert len(bench.catalog.rules([did])[did]) == 2
    bench.catalog.lock_rule(rule.id, False)
    bench.catalog.erase(did)
    with pytest.raises(DidNotFound):
        bench.catalog.erase(did)


def test_what_a_locked_rule_is_on_stays_without_files(bench: Bench) -> None:
    """A closed dataset is not erased with its last file then."""
    bench.marked(str(bench.file))
    bench.catalog.close(RUN)
    bench.catalog.add_rule(RUN, "TAPE")
    bench.catalog.lock_rule(bench.catalog.rules([RUN])[RUN][0].id)

    bench.catalog.sweep()

    assert not bench.file.exists()
    assert bench.catalog.dataset(RUN).length == 0
    assert len(bench.catalog.rules([RUN])[RUN]) == 1
