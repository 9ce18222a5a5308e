"""What every catalog promises of replication rules, lifetimes and deletions; and how Rucio does it, for real."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from orchestrator.rucio.port import (
    Catalog,
    CatalogError,
    DatasetEntry,
    DidNotFound,
    FileEntry,
    ReplicationRule,
    RseNotFound,
    RuleLocked,
)
from schemas.did import Did
from tests.contract.catalogs import AUDIBLE, CATALOGS, STRICT, Desk

NOW, SOON, LONG = timedelta(), timedelta(seconds=1), timedelta(days=1)

audible = pytest.mark.parametrize("desk", AUDIBLE, indirect=True)
strict = pytest.mark.parametrize("desk", STRICT, indirect=True)


@pytest.fixture(params=list(CATALOGS))
def desk(request: pytest.FixtureRequest) -> Desk:
    """Each catalog in turn."""
    return CATALOGS[request.param](request)


@pytest.fixture
def catalog(desk: Desk) -> Catalog:
    return desk.catalog


@pytest.fixture
def run(desk: Desk) -> Did:
    """A dataset, open and empty."""
    did = desk.did("RUN-00021615")
    desk.catalog.add_dataset(did)
    return did


@pytest.fixture
def box(desk: Desk) -> Did:
    """A container, empty."""
    did = desk.did("BOX")
    desk.catalog.add_container(did)
    return did


def filled(desk: Desk, did: Did, *names: str) -> list[FileEntry]:
    """Files in a dataset that is closed then. They are on the disk."""
    files = [desk.laid(name) for name in names]
    desk.catalog.attach(did, files)
    desk.catalog.close(did)
    return files


def rule_of(desk: Desk, did: Did, account: str | None = None) -> ReplicationRule:
    """The one rule of an account, ours unless it is said."""
    [rule] = [each for each in desk.catalog.rules([did])[did] if each.account == (account or desk.account)]
    return rule


def rses_of(catalog: Catalog, file: FileEntry) -> list[str]:
    return [copy.rse for copy in catalog.replicas([file.did]).get(file.did, ())]


def leave(desk: Desk) -> None:
    """Let what is due leave."""
    desk.pass_time(1.1)
    desk.leave()


# Looking around.


def test_a_catalog_says_as_whom_it_acts(desk: Desk) -> None:
    """The account is that of the datasets that it makes."""
    assert desk.catalog.account == desk.account


def test_datasets_are_walked_through(desk: Desk, catalog: Catalog, run: Did, box: Did) -> None:
    """Those that match, each once, as `dataset` tells of them, counted also while they are open."""
    other = Did(desk.new_scope(), "RUN-1")
    catalog.add_dataset(other, lifetime=LONG)
    catalog.add_dataset(desk.did("run-3"))
    catalog.close(desk.did("run-3"))
    catalog.attach(run, [desk.file("a.root", 20, events=5)])

    def walked(scope: str, name: str = "*") -> dict[Did, DatasetEntry]:
        entries = list(catalog.walk(scope, name))
        found = {entry.did: entry for entry in entries}
        assert len(found) == len(entries)
        return found

    assert walked(desk.scope) == {did: catalog.dataset(did) for did in (run, desk.did("run-3"))}
    assert walked(desk.scope, "RUN-*")[run].bytes == 20
    assert set(walked(f"{other.scope[:-1]}?", "RUN-[1]")) == {other}
    assert walked("t.nobody") == walked(desk.scope, "box") == {}
    assert {run, other} <= set(walked("*"))


def test_an_entry_says_when_it_is_erased(desk: Desk, catalog: Catalog, run: Did) -> None:
    """By the lifetime that it was made with, or that was set; and never, where there is none."""
    long = desk.did("LONG")
    catalog.add_dataset(long, lifetime=LONG)

    def left(did: Did) -> timedelta:
        expires_at = catalog.dataset(did).expires_at
        assert expires_at is not None
        assert next(catalog.walk(desk.scope, did.name)).expires_at == expires_at
        return expires_at - catalog.dataset(long).created_at

    assert catalog.dataset(run).expires_at is None
    assert abs(left(long) - LONG) < timedelta(seconds=10)
    catalog.set_lifetime(run, 2 * LONG)
    assert abs(left(run) - 2 * LONG) < timedelta(seconds=60)
    catalog.set_lifetime(run, None)
    assert catalog.dataset(run).expires_at is None


def test_parents_are_told(desk: Desk, catalog: Catalog, run: Did, box: Did) -> None:
    """Those directly above, by name, of files, datasets and containers. What there is not is left out."""
    other, outer, both, single, alone = (desk.did(name) for name in ("A-2", "OUTER", "both", "single", "alone"))
    catalog.add_dataset(other)
    catalog.add_container(outer)
    catalog.attach(run, [desk.file("both"), desk.file("single")])
    catalog.attach(other, [desk.file("both")])
    catalog.register([desk.file("alone")])
    catalog.enclose(box, [run])
    catalog.enclose(outer, [run])
    catalog.enclose(outer, [box])

    found = catalog.parents([both, single, alone, run, other, box, outer, desk.did("NEVER"), Did("a b", "\udc80\0:")])

    assert {did: list(above) for did, above in found.items()} == {
        both: [other, run],
        single: [run],
        alone: [],
        run: [box, outer],
        other: [],
        box: [outer],
        outer: [],
    }
    assert catalog.parents([]) == {}


# Rules.


def test_rules_are_told(desk: Desk, catalog: Catalog, run: Did, box: Did) -> None:
    """Of all accounts, each of the DID that it is on alone. What there is not is left out."""
    disk = desk.rses[0]
    [file] = filled(desk, run, "a.root")
    catalog.enclose(box, [run])
    catalog.add_rule(run, disk)
    desk.add_foreign_rule(run, disk, True)
    catalog.add_rule(box, disk, LONG)
    catalog.add_dataset(desk.did("NONE"))

    found = catalog.rules([run, box, file.did, desk.did("NONE"), desk.did("NEVER"), Did("a b", "\udc80\0:")])

    assert set(found) == {run, box, file.did, desk.did("NONE")}
    assert found[file.did] == found[desk.did("NONE")] == []
    ours, theirs = sorted(found[run], key=lambda rule: rule.locked)
    assert ours == ReplicationRule(ours.id, run, desk.account, disk, 1, False, None)
    assert theirs == ReplicationRule(theirs.id, run, theirs.account, disk, 1, True, None)
    assert theirs.account != desk.account
    [over_all] = found[box]
    assert over_all.expires_at is not None
    assert abs(over_all.expires_at - catalog.dataset(run).created_at - LONG) < timedelta(seconds=60)
    catalog.add_rule(file.did, disk)
    assert rule_of(desk, file.did).did == file.did
    assert catalog.rules([]) == {}


def test_we_have_one_rule_at_an_rse(desk: Desk, catalog: Catalog, run: Did) -> None:
    """To add it again says how long it lasts, and leaves those of others alone."""
    disk = desk.rses[0]
    filled(desk, run, "a.root")
    desk.add_foreign_rule(run, disk, False)
    catalog.add_rule(run, disk, LONG)
    first = rule_of(desk, run)

    catalog.add_rule(run, disk)

    assert rule_of(desk, run) == replace(first, expires_at=None)
    catalog.add_rule(run, disk, LONG)
    assert rule_of(desk, run).expires_at is not None
    assert len(catalog.rules([run])[run]) == 2


def test_a_rule_needs_a_did_and_an_rse(desk: Desk, catalog: Catalog, run: Did) -> None:
    """Else it is said which there is not."""
    with pytest.raises(DidNotFound, match="NEVER"):
        catalog.add_rule(desk.did("NEVER"), desk.rses[0])
    for bad in ("no rse", ""):
        with pytest.raises(RseNotFound):
            catalog.add_rule(run, bad)
        with pytest.raises(RseNotFound):
            catalog.set_tombstones([desk.did("a.root")], bad)

    assert catalog.rules([run]) == {run: []}


@strict
def test_a_rule_needs_an_rse_that_there_is(desk: Desk, run: Did) -> None:
    """So does a tombstone."""
    with pytest.raises(RseNotFound, match="NO-SUCH-RSE"):
        desk.catalog.add_rule(run, "NO-SUCH-RSE")
    with pytest.raises(RseNotFound, match="NO-SUCH-RSE"):
        desk.catalog.set_tombstones([], "NO-SUCH-RSE")


def test_a_locked_rule_is_ended_by_nobody(desk: Desk, catalog: Catalog, run: Did) -> None:
    """Not even its lifetime ends it, nor is it changed, nor is its dataset erased, until it is unlocked."""
    disk, other = desk.rses[0], desk.did("OTHER")
    [file] = filled(desk, run, "a.root")
    catalog.add_dataset(other)
    for did in (run, other):
        catalog.add_rule(did, disk, SOON)
    rule = rule_of(desk, run)
    desk.lock_rule(rule.id, True)
    catalog.set_lifetime(run, NOW)

    calls: list[Callable[[], None]] = [
        lambda: catalog.set_rule_lifetime(rule.id, NOW),
        lambda: catalog.set_rule_lifetime(rule.id, None),
        lambda: catalog.add_rule(run, disk, SOON),
    ]
    for call in calls:
        with pytest.raises(RuleLocked, match=rule.id):
            call()
    leave(desk)

    assert rule_of(desk, run) == replace(rule, locked=True)
    assert catalog.rules([other]) == {other: []}
    assert catalog.dataset(run).length == 1
    desk.lock_rule(rule.id, False)
    leave(desk)
    assert catalog.rules([run]) == {}
    assert rses_of(catalog, file) == []


def test_a_rule_that_ended_is_ended(desk: Desk, catalog: Catalog, run: Did) -> None:
    """To end it again does nothing; it cannot be made to last."""
    catalog.add_rule(run, desk.rses[0])
    rule = rule_of(desk, run)
    catalog.set_rule_lifetime(rule.id, LONG)
    catalog.set_rule_lifetime(rule.id, None)
    assert rule_of(desk, run).expires_at is None
    catalog.set_rule_lifetime(rule.id, NOW)
    leave(desk)
    assert catalog.rules([run]) == {run: []}

    for lifetime in (NOW, LONG):
        catalog.set_rule_lifetime(rule.id, lifetime)
    with pytest.raises(CatalogError, match=rule.id):
        catalog.set_rule_lifetime(rule.id, None)

    assert catalog.rules([run]) == {run: []}


# Erasing.


def test_a_lifetime_is_of_a_dataset_or_a_container(desk: Desk, catalog: Catalog, run: Did) -> None:
    """A file has none: whatever is asked, it is said that there is no such dataset."""
    filled(desk, run, "a.root")

    for did in (desk.did("a.root"), desk.did("NEVER")):
        for lifetime in (NOW, LONG, None):
            with pytest.raises(DidNotFound, match=did.name):
                catalog.set_lifetime(did, lifetime)

    leave(desk)
    assert catalog.files(run)


def test_what_is_to_be_erased_is(desk: Desk, catalog: Catalog, run: Did, box: Did) -> None:
    """A dataset and a container, closed or not; not one whose lifetime was taken off or is not over."""
    stays, later, box_2 = desk.did("STAYS"), desk.did("LATER"), desk.did("BOX-2")
    for did in (stays, later):
        catalog.add_dataset(did)
    catalog.add_container(box_2)
    catalog.enclose(box, [stays])
    for did in (run, box, stays, box_2):
        catalog.set_lifetime(did, NOW)
    catalog.set_lifetime(later, LONG)
    for did in (stays, box_2):
        catalog.set_lifetime(did, None)

    leave(desk)

    assert set(catalog.metadata([run, box, stays, later, box_2])) == {stays, later, box_2}


def test_what_is_in_a_container_leaves_it_and_is_erased(desk: Desk, catalog: Catalog, run: Did, box: Did) -> None:
    """It may take the catalog two rounds: after the first it is in no container."""
    catalog.enclose(box, [run])
    catalog.set_lifetime(run, NOW)

    leave(desk)
    assert catalog.children(box) == []
    leave(desk)

    assert catalog.metadata([run]) == {}
    assert catalog.metadata([box])


def test_files_without_a_rule_never_leave_by_lifetime(desk: Desk, catalog: Catalog, run: Did) -> None:
    """The dataset is erased; its files stay registered, with their copies, on the disk too."""
    files = filled(desk, run, "a.root", "b.root")
    catalog.set_lifetime(run, NOW)

    for _ in range(2):
        leave(desk)

    assert catalog.metadata([run]) == {}
    assert [rses_of(catalog, file) for file in files] == [[desk.rses[0]]] * 2
    assert all(desk.path(desk.rses[0], file.did.name).exists() for file in files)


def test_files_leave_with_their_last_rule(desk: Desk, catalog: Catalog, run: Did) -> None:
    """A rule of ours with a short life takes its copies along, and only those; copies at other RSEs stay."""
    disk, tape = desk.rses
    [file, other] = filled(desk, run, "a.root", "b.root")
    catalog.register([desk.laid("a.root", rse=tape)], tape)
    catalog.add_rule(run, disk, SOON)

    leave(desk)

    assert (rses_of(catalog, file), rses_of(catalog, other)) == ([tape], [])
    assert not desk.path(disk, "a.root").exists()
    assert desk.path(tape, "a.root").exists()
    assert [each.did for each in catalog.files(run)] == [file.did]
    assert catalog.registered([file.did, other.did]).keys() == {file.did}


def test_a_copy_that_another_rule_holds_stays(desk: Desk, catalog: Catalog, run: Did, box: Did) -> None:
    """Whoever's, and if it is on a container above; nor can it be marked."""
    disk = desk.rses[0]
    files = filled(desk, run, "a.root", "b.root")
    catalog.enclose(box, [run])
    desk.add_foreign_rule(box, disk, False)
    catalog.add_rule(run, disk, SOON)

    leave(desk)
    held = catalog.set_tombstones([file.did for file in files], disk)
    leave(desk)

    assert held == [file.did for file in files]
    assert [rses_of(catalog, file) for file in files] == [[disk]] * 2
    assert catalog.dataset(run).length == 2


def test_a_name_is_used_again(desk: Desk, catalog: Catalog, run: Did, box: Did) -> None:
    """Of an erased dataset nothing is left on the new one: no lifetime, no rule, no container, and another birth."""
    catalog.add_rule(run, desk.rses[0])
    catalog.set_metadata(run, "beam", "Au")
    born_at = catalog.dataset(run).created_at
    catalog.set_lifetime(run, NOW)
    leave(desk)

    catalog.add_dataset(run)
    leave(desk)

    assert catalog.dataset(run).expires_at is None
    assert catalog.dataset(run).created_at > born_at
    assert catalog.rules([run]) == {run: []}
    assert catalog.parents([run]) == {run: []}
    assert catalog.metadata([run])[run].get("beam") is None


# Tombstones.


def test_marked_copies_are_deleted(desk: Desk, catalog: Catalog, run: Did) -> None:
    """At that RSE alone, from the disk too. A file without a copy there, or that there is not, is passed over."""
    disk, tape = desk.rses
    files = filled(desk, run, "a.root", "b.root")
    catalog.register([desk.laid("a.root", rse=tape)], tape)
    asked = [*(file.did for file in files), run, desk.did("never.root"), Did("a b", "\udc80\0:"), files[0].did]

    assert catalog.set_tombstones(asked, tape) == []
    assert catalog.set_tombstones(asked, tape) == []
    assert catalog.set_tombstones([], disk) == []
    leave(desk)

    assert [rses_of(catalog, file) for file in files] == [[disk]] * 2
    assert not desk.path(tape, "a.root").exists()
    assert desk.path(disk, "a.root").exists()
    assert catalog.dataset(run).length == 2
    assert catalog.set_tombstones(asked, tape) == []


def test_a_file_whose_last_copy_went_is_no_more(desk: Desk, catalog: Catalog, run: Did, box: Did) -> None:
    """It leaves its datasets. One that is closed and empty then is erased, and leaves its containers.

    A Rucio server takes the others out of their containers too.
    """
    still = desk.did("OPEN")
    catalog.add_dataset(still)
    files = filled(desk, run, "a.root", "b.root")
    catalog.attach(still, files)
    catalog.enclose(box, [run, still])

    catalog.set_tombstones([files[0].did], desk.rses[0])
    leave(desk)

    assert [each.did for each in catalog.files(run)] == [files[1].did]
    assert catalog.registered([file.did for file in files]).keys() == {files[1].did}
    assert catalog.dataset(still).length == 1
    catalog.set_tombstones([files[1].did], desk.rses[0])
    leave(desk)
    assert catalog.metadata([run, *(file.did for file in files)]) == {}
    assert run not in catalog.children(box)
    assert catalog.dataset(still).length == 0
    catalog.register([desk.laid("a.root", 11)])
    assert catalog.registered([files[0].did])[files[0].did].bytes == 11


@pytest.mark.parametrize("on_file", [False, True])
def test_a_marked_copy_is_saved_by_a_rule(desk: Desk, catalog: Catalog, run: Did, on_file: bool) -> None:
    """As long as it is there; on what it is in, or on the file alone."""
    disk = desk.rses[0]
    [file] = filled(desk, run, "a.root")
    catalog.set_tombstones([file.did], disk)

    catalog.add_rule(file.did if on_file else run, disk)
    leave(desk)

    assert rses_of(catalog, file) == [disk]
    assert desk.path(disk, "a.root").exists()
    assert catalog.set_tombstones([file.did], disk) == [file.did]


def test_only_what_no_rule_holds_is_marked(desk: Desk, catalog: Catalog, run: Did) -> None:
    """The others are told, in the order given, and all the rest is done."""
    disk = desk.rses[0]
    files = filled(desk, run, *(f"{number}.root" for number in range(7)))
    held = [files[number].did for number in (0, 2, 3, 6)]
    for did in held:
        desk.add_foreign_rule(did, disk, False)

    assert catalog.set_tombstones([file.did for file in files], disk) == held
    leave(desk)

    assert [each.did for each in catalog.files(run)] == held


# Taking out.


def test_files_are_taken_out(desk: Desk, catalog: Catalog, run: Did) -> None:
    """Of a closed dataset too, which stays closed and counts what is left; those that are not in it are passed over."""
    files = filled(desk, run, "a.root", "b.root", "c.root")
    closed_at = catalog.dataset(run).closed_at

    assert catalog.detach(run, [files[0].did, files[2].did, desk.did("never.root"), files[0].did]) == 2
    assert catalog.detach(run, [files[0].did]) == 0
    assert catalog.detach(run, []) == 0

    assert [each.did for each in catalog.files(run)] == [files[1].did]
    entry = catalog.dataset(run)
    assert (entry.length, entry.bytes, entry.closed_at) == (1, 10, closed_at)
    assert len(catalog.registered([file.did for file in files])) == 3
    desk.expect("create_dts", "close", "detach", "detach")


def test_datasets_are_taken_out(desk: Desk, catalog: Catalog, run: Did, box: Did) -> None:
    """And containers, of the one container; all of them stay."""
    inner, other = desk.did("INNER"), desk.did("OTHER")
    catalog.add_container(inner)
    catalog.add_container(other)
    catalog.enclose(box, [run])
    catalog.enclose(box, [inner])
    catalog.enclose(other, [run])

    assert catalog.detach(box, [run, inner, other]) == 2

    assert (catalog.children(box), catalog.children(other)) == ([], [run])
    assert len(catalog.metadata([run, inner, box])) == 3
    made = ["create_dts", *["create_cnt"] * 3, *["register_cnt"] * 3]
    desk.expect(*made, "erase_cnt", "detach", "erase_cnt", "detach")


def test_nothing_is_taken_out_of_nothing(desk: Desk, catalog: Catalog, run: Did) -> None:
    """A file, and what there is not, have nothing in them."""
    filled(desk, run, "a.root")

    for did in (desk.did("NEVER"), desk.did("a.root")):
        with pytest.raises(DidNotFound, match=did.name):
            catalog.detach(did, [run])


@audible
def test_what_is_taken_out_is_held_no_more(desk: Desk, run: Did, box: Did) -> None:
    """Of a dataset with a rule, and of a container with one; what is put in is held."""
    disk = desk.rses[0]
    desk.catalog.add_rule(run, disk)
    desk.catalog.add_rule(box, disk)
    late = desk.did("LATE")
    desk.catalog.add_dataset(late)
    files = filled(desk, run, "a.root", "b.root")
    others = filled(desk, late, "c.root")
    desk.catalog.enclose(box, [late])
    every = [file.did for file in (*files, *others)]
    assert desk.catalog.set_tombstones(every, disk) == every

    desk.catalog.detach(run, [files[0].did])
    desk.catalog.detach(box, [late])
    leave(desk)

    assert [rses_of(desk.catalog, file) for file in (*files, *others)] == [[], [disk], []]


@audible
def test_what_an_erased_dataset_had_is_held_by_its_containers_no_more(desk: Desk, run: Did, box: Did) -> None:
    """Unless it is in another dataset there."""
    disk, other = desk.rses[0], desk.did("OTHER")
    desk.catalog.add_dataset(other)
    [alone, shared] = filled(desk, run, "a.root", "b.root")
    desk.catalog.attach(other, [shared])
    desk.catalog.enclose(box, [run, other])
    desk.catalog.add_rule(box, disk)

    desk.catalog.set_lifetime(run, NOW)
    for _ in range(2):
        leave(desk)

    assert (rses_of(desk.catalog, alone), rses_of(desk.catalog, shared)) == ([], [disk])


@audible
def test_a_copy_is_held_that_comes_later(desk: Desk, run: Did) -> None:
    """To where a rule wants one."""
    disk, tape = desk.rses
    [file] = filled(desk, run, "a.root")
    desk.catalog.add_rule(run, tape)

    desk.catalog.register([desk.laid("a.root", rse=tape)], tape)

    assert desk.catalog.set_tombstones([file.did], tape) == [file.did]
    assert desk.catalog.set_tombstones([file.did], disk) == []


# Announcements.


@audible
def test_leaving_is_announced(desk: Desk, run: Did) -> None:
    """Each deletion, each file that leaves a dataset, that it is incomplete, once, and what is erased."""
    disk = desk.rses[0]
    files = filled(desk, run, "a.root", "b.root")
    before = len(desk.events())

    for file in files:
        desk.catalog.set_tombstones([file.did], disk)
        leave(desk)

    told = desk.events()[before:]
    types = ["deletion-done", "detach", "incomplete", "deletion-done", "detach", "erase"]
    assert [event["event_type"] for event in told] == types
    done, detached, incomplete = (event["payload"] for event in told[:3])
    duration = done.pop("duration")
    assert duration >= 0
    assert done == {
        **files[0].did._asdict(),
        "rse": disk,
        "file-size": 10,
        "bytes": 10,
        "url": files[0].pfn,
        "protocol": "file",
        "datatype": None,
    }
    child = {"child_scope": run.scope, "child_name": "a.root", "child_type": "DIDType.FILE"}
    assert detached == {**run._asdict(), "did_type": "DIDType.DATASET", **child}
    assert incomplete == {**run._asdict(), "did_type": "DATASET"}


@audible
def test_a_file_that_is_gone_is_said_to_be(desk: Desk, run: Did) -> None:
    """And its copy is taken out of the catalog. Others lie beside it: its disk is there."""
    file, _ = filled(desk, run, "a.root", "b.root")
    desk.path(desk.rses[0], "a.root").unlink()
    desk.catalog.set_tombstones([file.did], desk.rses[0])

    leave(desk)

    [told] = [event for event in desk.events() if event["event_type"] == "deletion-not-found"]
    assert told["payload"]["reason"] == "File Not Found"
    assert rses_of(desk.catalog, file) == []


@audible
def test_a_file_that_cannot_be_deleted_stays(desk: Desk, run: Did) -> None:
    """It is said why, and it is tried again."""
    [file] = filled(desk, run, "a.root")
    path = desk.path(desk.rses[0], "a.root")
    path.unlink()
    path.mkdir()
    desk.catalog.set_tombstones([file.did], desk.rses[0])

    leave(desk)

    [told] = [event["payload"] for event in desk.events() if event["event_type"] == "deletion-failed"]
    assert told["name"] == "a.root" and told["reason"]
    there = desk.catalog.replicas([file.did], readable=False)[file.did]
    assert [copy.rse for copy in there] == [desk.rses[0]]
    path.rmdir()
    path.write_bytes(b"x" * 10)
    desk.pass_time(3600)
    leave(desk)
    assert rses_of(desk.catalog, file) == []
    assert not path.exists()
