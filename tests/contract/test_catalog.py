"""What every catalog promises: each sentence of `orchestrator/rucio/port.py`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from orchestrator.rucio.port import (
    KEPT_METADATA,
    Catalog,
    CatalogError,
    DatasetClosed,
    DatasetState,
    DidExists,
    DidNotFound,
    FileDiffers,
    FileEntry,
    InvalidDid,
    InvalidPfn,
    Replica,
    RseNotFound,
    ScopeNotFound,
)
from schemas.did import Did
from tests.contract.catalogs import AUDIBLE, CATALOGS, STRICT, Desk

FRAMES = [json.loads(line) for line in (Path(__file__).parents[1] / "data" / "hermes.jsonl").read_text().splitlines()]
MD5 = "0123456789abcdef0123456789abcdef"
GUID = "5f0c1e2a-9d3b-4c4d-8e5f-60718293a4b5"

#: For what only some catalogs have.
audible = pytest.mark.parametrize("desk", AUDIBLE, indirect=True)
strict = pytest.mark.parametrize("desk", STRICT, indirect=True)

#: Whatever no catalog takes as a name.
BAD_NAMES = ["a name", "-begins-badly", ".hidden", "a" * 251, "newline\n", "naïve", "a:b", ""]


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


def known(files: Iterable[FileEntry]) -> list[FileEntry]:
    """Files without where they lie: not every catalog says that."""
    return [replace(file, pfn="") for file in files]


def test_a_catalog_says_where_it_is(catalog: Catalog) -> None:
    """The address is for people."""
    assert catalog.address


# Datasets.


def test_a_dataset_begins_open_and_empty(desk: Desk, catalog: Catalog) -> None:
    """A new dataset is open, has no files, and says who made it and when, in UTC."""
    did = desk.did("RUN-00021615")

    catalog.add_dataset(did)

    entry = catalog.dataset(did)
    assert (entry.did, entry.state, entry.account) == (did, DatasetState.OPEN, desk.account)
    assert (entry.bytes, entry.length, entry.events) == (0, 0, 0)
    assert entry.closed_at is None
    assert entry.created_at.utcoffset() == timedelta(0)
    assert catalog.files(did) == []
    desk.expect("create_dts")


def test_a_dataset_is_made_with_its_metadata(desk: Desk, catalog: Catalog) -> None:
    """Metadata given at creation is there from the first moment, and no further event tells of it."""
    did = desk.did("RUN-00021615")

    catalog.add_dataset(did, {"run_number": 21615, "beam": "Au"})

    found = catalog.metadata([did])[did]
    assert (found["run_number"], found["beam"]) == (21615, "Au")
    desk.expect("create_dts")


@pytest.mark.parametrize("key", sorted(KEPT_METADATA))
def test_what_the_catalog_keeps_is_not_given(desk: Desk, catalog: Catalog, key: str) -> None:
    """A dataset cannot be made with metadata that the catalog keeps itself."""
    with pytest.raises(CatalogError, match=key):
        catalog.add_dataset(desk.did("RUN"), {key: 1})


@pytest.mark.parametrize("add", [Catalog.add_dataset, Catalog.add_container], ids=["dataset", "container"])
def test_a_name_is_given_once(desk: Desk, catalog: Catalog, run: Did, box: Did, add: Callable[..., None]) -> None:
    """A name that exists as a dataset, a container or a file is refused, and nothing is announced."""
    catalog.attach(run, [desk.file("a.root")])
    before = catalog.dataset(run)

    for taken in (run, box, desk.did("a.root")):
        with pytest.raises(DidExists, match=taken.name):
            getattr(catalog, add.__name__)(taken)

    assert catalog.dataset(run) == before
    desk.expect("create_dts", "create_cnt")


def test_scopes_are_separate(desk: Desk, catalog: Catalog, run: Did) -> None:
    """The same name in another scope is another dataset."""
    other = Did(desk.new_scope(), run.name)

    catalog.add_dataset(other)
    catalog.close(other)

    assert catalog.dataset(run).state is DatasetState.OPEN


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_follow_the_rules(desk: Desk, catalog: Catalog, run: Did, name: str) -> None:
    """A name that breaks the catalog's rules is refused, for a dataset, a container and a file."""
    bad = desk.did(name)
    file = replace(desk.file("a.root"), did=bad)

    for call in _refused_for_the_name(catalog, run, bad, file):
        with pytest.raises(InvalidDid):
            call()

    assert catalog.files(run) == []
    desk.expect("create_dts")


@pytest.mark.parametrize("scope", ["s" * 26, "a scope", ""])
def test_scopes_follow_the_rules(desk: Desk, catalog: Catalog, run: Did, scope: str) -> None:
    """So is a scope that breaks them."""
    bad = Did(scope, "a.root")
    file = replace(desk.file("a.root"), did=bad)

    for call in _refused_for_the_name(catalog, run, bad, file):
        with pytest.raises(InvalidDid):
            call()

    assert catalog.files(run) == []


def _refused_for_the_name(catalog: Catalog, run: Did, bad: Did, file: FileEntry) -> list[Callable[[], object]]:
    return [
        lambda: catalog.add_dataset(bad),
        lambda: catalog.add_container(bad),
        lambda: catalog.attach(run, [file]),
        lambda: catalog.register([file]),
    ]


@pytest.mark.parametrize("name", ["a" * 250, "/TEST-CONTAINER-2023/a.b_c-d", "0"])
def test_long_and_strange_names_are_accepted(desk: Desk, catalog: Catalog, name: str) -> None:
    """Names of up to 250 letters, digits, slashes, dots, underscores and dashes are accepted."""
    catalog.add_dataset(desk.did(name))

    assert catalog.dataset(desk.did(name)).did.name == name


@strict
def test_a_scope_is_made_by_others(desk: Desk) -> None:
    """In a scope that there is not, neither a dataset nor a container can be made."""
    did = Did("t.nobody-made-this", "RUN")

    for add in (desk.catalog.add_dataset, desk.catalog.add_container):
        with pytest.raises(ScopeNotFound, match=r"t\.nobody-made-this"):
            add(did)


def test_a_dataset_is_erased_when_its_lifetime_is_over(desk: Desk, catalog: Catalog) -> None:
    """Not earlier; then it is unknown, its name may be used again, and its files stay registered."""
    short, long, forever = desk.did("SHORT"), desk.did("LONG"), desk.did("FOREVER")
    catalog.add_dataset(short, {"run_number": 7}, lifetime=timedelta(seconds=1))
    catalog.add_dataset(long, lifetime=timedelta(days=1))
    catalog.add_dataset(forever)
    catalog.attach(short, [desk.file("a.root")])
    catalog.close(short)
    old = catalog.dataset(short)

    desk.pass_time(2)
    desk.sweep()

    with pytest.raises(DidNotFound, match="SHORT"):
        catalog.dataset(short)
    assert set(catalog.metadata([short, long, forever])) == {long, forever}
    assert catalog.registered([desk.did("a.root")])
    catalog.add_dataset(short)
    new = catalog.dataset(short)
    assert (new.state, new.length, new.closed_at) == (DatasetState.OPEN, 0, None)
    assert new.created_at >= old.created_at
    assert catalog.metadata([short])[short].get("run_number") is None
    desk.expect("create_dts", "create_dts", "create_dts", "close", "erase", "create_dts")


@audible
def test_the_event_says_when_the_lifetime_is_over(desk: Desk) -> None:
    """As Rucio writes it, and null where there is none."""
    desk.catalog.add_dataset(desk.did("LONG"), lifetime=timedelta(days=1))
    desk.catalog.add_dataset(desk.did("FOREVER"))

    long, forever = (event["payload"]["expired_at"] for event in desk.events())

    created = desk.catalog.dataset(desk.did("LONG")).created_at
    assert abs(_moment(long) - created - timedelta(days=1)) < timedelta(seconds=2)
    assert forever is None


def test_closing_is_done_once(desk: Desk, catalog: Catalog, run: Did) -> None:
    """Closing closes and is announced; closing again does nothing and announces nothing."""
    catalog.close(run)
    first = catalog.dataset(run)
    catalog.close(run)

    assert first.state is DatasetState.CLOSED
    assert first.closed_at is not None
    assert first.closed_at >= first.created_at
    assert catalog.dataset(run) == first
    desk.expect("create_dts", "close")


def test_a_closed_dataset_can_be_opened_again(desk: Desk, catalog: Catalog, run: Did) -> None:
    """Opening again is announced, takes new files, and keeps the time of the last closing; an open one stays so."""
    catalog.reopen(run)
    catalog.close(run)
    closed_at = catalog.dataset(run).closed_at

    catalog.reopen(run)
    catalog.attach(run, [desk.file()])

    entry = catalog.dataset(run)
    assert (entry.state, entry.closed_at, entry.length) == (DatasetState.OPEN, closed_at, 1)
    desk.expect("create_dts", "close", "open")


def test_an_unknown_dataset_is_said_to_be_unknown(desk: Desk, catalog: Catalog) -> None:
    """Every call on a dataset that is not there raises DidNotFound and announces nothing."""
    did = desk.did("RUN-00021615")
    calls: list[Callable[[], object]] = [
        lambda: catalog.attach(did, [desk.file()]),
        lambda: catalog.close(did),
        lambda: catalog.reopen(did),
        lambda: catalog.set_metadata(did, "run_number", 1),
        lambda: catalog.dataset(did),
        lambda: catalog.files(did),
        lambda: catalog.children(did),
        lambda: catalog.enclose(did, []),
    ]

    for call in calls:
        with pytest.raises(DidNotFound, match=f"{did.scope}:RUN-00021615"):
            call()

    assert catalog.registered([desk.did("a.root")]) == {}
    desk.expect()


def test_only_a_dataset_is_a_dataset(desk: Desk, catalog: Catalog, run: Did, box: Did) -> None:
    """A file or a container is said to be unknown where a dataset is meant, and a dataset where a container is."""
    catalog.attach(run, [desk.file("a.root")])

    for other in (box, desk.did("a.root")):
        with pytest.raises(DidNotFound, match=other.name):
            catalog.dataset(other)
    for other in (run, desk.did("a.root")):
        with pytest.raises(DidNotFound, match=other.name):
            catalog.children(other)


def test_datasets_are_listed_by_pattern(desk: Desk, catalog: Catalog, run: Did, box: Did) -> None:
    """Datasets, and they alone, are listed by name where scope and name match the patterns, case-sensitively."""
    other = desk.new_scope()
    for did in (desk.did("RUN-2"), Did(other, "RUN-1"), desk.did("run-3")):
        catalog.add_dataset(did)

    def names(scope: str, name: str = "*") -> list[str]:
        return [entry.did.name for entry in catalog.datasets(scope, name)]

    assert names(desk.scope) == ["RUN-00021615", "RUN-2", "run-3"]
    assert names(desk.scope, "RUN-?") == ["RUN-2"]
    assert names(desk.scope, "RUN-[!2]*") == ["RUN-00021615"]
    assert names(f"{other[:-1]}?") == ["RUN-1"]
    assert names("t.nobody") == []
    assert {run, Did(other, "RUN-1")} <= {entry.did for entry in catalog.datasets()}
    assert catalog.datasets(desk.scope)[0] == catalog.dataset(run)


def test_closed_datasets_are_found(desk: Desk, catalog: Catalog, run: Did) -> None:
    """Those that were closed at the moment or later and are closed now, in this scope or in all."""
    closed, reopened = desk.did("CLOSED"), desk.did("REOPENED")
    for did in (closed, reopened):
        catalog.add_dataset(did)
        catalog.close(did)
    catalog.reopen(reopened)
    entry = catalog.dataset(closed)
    assert entry.closed_at is not None

    assert list(catalog.closed_since(entry.closed_at, desk.scope)) == [entry]
    assert list(catalog.closed_since(entry.closed_at - timedelta(days=1), f"{desk.scope[:-1]}?")) == [entry]
    assert entry in list(catalog.closed_since(entry.closed_at))
    assert list(catalog.closed_since(entry.closed_at + timedelta(seconds=2), desk.scope)) == []
    assert list(catalog.closed_since(entry.closed_at, "t.nobody")) == []


# Files.


def test_files_are_attached(desk: Desk, catalog: Catalog, run: Did) -> None:
    """Attached files are listed by name as they were registered, and the dataset counts their bytes and events."""
    given = [
        desk.file("b.root", 20, events=5, md5=MD5, guid=GUID),
        desk.file("a.root", 10, events=7),
        desk.file("c.root", 0, adler32="00000001"),
    ]

    new = catalog.attach(run, given)

    assert new == 3
    assert known(catalog.files(run)) == known(sorted(given, key=lambda file: file.did.name))
    entry = catalog.dataset(run)
    assert (entry.bytes, entry.length, entry.events) == (30, 3, 12)
    desk.expect("create_dts")


def test_attaching_again_changes_nothing(desk: Desk, catalog: Catalog, run: Did) -> None:
    """Files that are attached already are passed over, so that attaching can be repeated; none is fine too."""
    catalog.attach(run, [desk.file("a.root")])

    new = catalog.attach(run, [desk.file("a.root"), desk.file("b.root"), desk.file("b.root")])

    assert new == 1
    assert catalog.dataset(run).length == 2
    assert catalog.attach(run, []) == 0


@pytest.mark.parametrize("other", [{"size": 11}, {"adler32": "ffffffff"}, {"md5": MD5[::-1]}])
def test_the_first_registration_wins(desk: Desk, catalog: Catalog, run: Did, other: dict[str, Any]) -> None:
    """A file registered before with another size or sum is refused, and nothing of the call is done."""
    first = desk.file("a.root", md5=MD5)
    catalog.attach(run, [first])
    offered = replace(desk.file("a.root", **other), pfn=desk.pfn(desk.rses[1], "a.root"))

    call = [desk.file("b.root", rse=desk.rses[1]), offered]

    with pytest.raises(FileDiffers, match=r"a\.root"):
        catalog.attach(run, call, desk.rses[1])
    with pytest.raises(FileDiffers, match=r"a\.root"):
        catalog.register(call, desk.rses[1])

    assert known(catalog.files(run)) == known([first])
    assert [copy.rse for copy in catalog.replicas([first.did])[first.did]] == [desk.rses[0]]
    assert catalog.attach(run, [first]) == 0


def test_one_call_cannot_say_two_things_of_a_file(desk: Desk, catalog: Catalog, run: Did) -> None:
    """The same file with two sizes in one call is refused, and nothing of the call is attached."""
    with pytest.raises(FileDiffers, match=r"a\.root"):
        catalog.attach(run, [desk.file("a.root", 10), desk.file("a.root", 11)])

    assert catalog.files(run) == []


def test_a_sum_that_is_not_known_is_not_compared(desk: Desk, catalog: Catalog, run: Did) -> None:
    """A file without an MD5 may be offered with one and the other way round; nothing is added to it later."""
    catalog.attach(run, [desk.file("without.root"), desk.file("with.root", md5=MD5, events=4, guid=GUID)])

    new = catalog.attach(run, [desk.file("without.root", md5=MD5, events=4, guid=GUID), desk.file("with.root")])

    assert new == 0
    assert known(catalog.files(run)) == known(
        [desk.file("with.root", md5=MD5, events=4, guid=GUID), desk.file("without.root")]
    )


def test_a_file_may_be_in_several_datasets(desk: Desk, catalog: Catalog, run: Did) -> None:
    """A file attached to a second dataset is the same file, and has one copy."""
    other = desk.did("OTHER")
    catalog.add_dataset(other)
    first = desk.file("a.root", events=9)
    catalog.attach(run, [first])

    new = catalog.attach(other, [first])

    assert new == 1
    assert known(catalog.files(other)) == known([first])
    assert catalog.dataset(other).events == 9
    assert [copy.pfn for copy in catalog.replicas([first.did])[first.did]] == [first.pfn]


@strict
def test_a_file_has_one_place_at_an_rse(desk: Desk, catalog: Catalog, run: Did) -> None:
    """Offered at a second one it is refused, and both are named: nobody would ever look there."""
    first = desk.file("a.root")
    catalog.attach(run, [first])
    moved = replace(first, pfn=desk.pfn(desk.rses[0], "elsewhere.root"))

    with pytest.raises(InvalidPfn, match=r"elsewhere\.root.*a\.root"):
        catalog.attach(run, [moved])
    with pytest.raises(InvalidPfn, match=r"elsewhere\.root.*a\.root"):
        catalog.register([moved])

    assert [copy.pfn for copy in catalog.replicas([first.did])[first.did]] == [first.pfn]


def test_nothing_is_attached_to_a_closed_dataset(desk: Desk, catalog: Catalog, run: Did) -> None:
    """Attaching to a closed dataset is refused, also when there is nothing new to attach."""
    catalog.attach(run, [desk.file("a.root")])
    catalog.close(run)

    for files in ([desk.file("b.root")], [desk.file("a.root")], []):
        with pytest.raises(DatasetClosed, match="RUN-00021615"):
            catalog.attach(run, files)

    assert catalog.dataset(run).length == 1


def test_a_dataset_cannot_be_attached_as_a_file(desk: Desk, catalog: Catalog, run: Did, box: Did) -> None:
    """The name of a dataset or a container cannot be the name of a file."""
    for taken in (run, box):
        with pytest.raises(InvalidDid, match=taken.name):
            catalog.attach(run, [desk.file("a.root"), replace(desk.file(), did=taken)])
        with pytest.raises(InvalidDid, match=taken.name):
            catalog.registered([taken])

    assert catalog.files(run) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"adler32": "0A1B2C3D"},
        {"adler32": "1"},
        {"adler32": None},
        {"md5": MD5.upper()},
        {"md5": "1"},
        {"guid": "no guid"},
        {"size": -1},
    ],
)
def test_a_file_needs_a_size_and_proper_sums(desk: Desk, catalog: Catalog, run: Did, wrong: dict[str, Any]) -> None:
    """A file without a proper size or Adler-32, or with an improper MD5 or GUID, is refused."""
    with pytest.raises(CatalogError, match=r"a\.root"):
        catalog.attach(run, [desk.file("a.root", **wrong)])

    assert catalog.files(run) == []


def test_files_are_registered_without_a_dataset(desk: Desk, catalog: Catalog) -> None:
    """They are known and have a copy; counted are copies that are new: none the second time, one at another RSE."""
    there, more = desk.file("a.root", events=4, md5=MD5, guid=GUID), desk.file("b.root")

    assert catalog.register([there]) == 1
    assert catalog.register([there, more]) == 1
    assert catalog.register([desk.file("a.root", rse=desk.rses[1])], rse=desk.rses[1]) == 1
    assert catalog.register([]) == 0

    assert list(catalog.registered([there.did, more.did]).values()) == known([there, more])
    desk.expect()


def test_what_is_registered_is_told(desk: Desk, catalog: Catalog, run: Did) -> None:
    """Files are found wherever they are attached, also nowhere; what there is not, or cannot be, is left out."""
    attached, alone = desk.file("a.root", md5=MD5), desk.file("b.root")
    catalog.attach(run, [attached])
    catalog.register([alone])
    never, odd = desk.did("never.root"), Did("a b", "\udc80\0:")

    found = catalog.registered([attached.did, never, odd, alone.did, alone.did])

    assert found == {attached.did: replace(attached, pfn=""), alone.did: replace(alone, pfn="")}
    assert catalog.registered([]) == {}


def test_more_than_a_thousand_at_once(desk: Desk, catalog: Catalog, run: Did) -> None:
    """Lists may be of any length."""
    files = [desk.file(f"{number:04}.root", 1) for number in range(1001)]
    dids = [file.did for file in files]

    assert catalog.attach(run, files) == 1001

    assert catalog.dataset(run).length == 1001
    assert [file.did for file in catalog.files(run)] == dids
    assert set(catalog.registered(dids)) == set(dids)
    assert set(catalog.metadata(dids)) == set(dids)
    assert set(catalog.replicas(dids)) == set(catalog.replicas([run])) == set(dids)
    assert catalog.attach(run, files) == 0


# Copies.


def test_copies_are_told_by_file(desk: Desk, catalog: Catalog, run: Did, box: Did) -> None:
    """Of files that are named, and of each file of datasets and containers, at any depth; all RSEs or some."""
    disk, tape = desk.rses
    inner, both, alone = desk.did("INNER"), desk.file("both.root", 20), desk.file("alone.root", 30)
    catalog.add_container(inner)
    catalog.enclose(inner, [run])
    catalog.enclose(box, [inner])
    catalog.attach(run, [both])
    catalog.register([replace(both, pfn=desk.pfn(tape, "both.root"))], tape)
    catalog.register([alone])
    on_disk = Replica(both.did, disk, both.pfn, 20)
    on_tape = Replica(both.did, tape, desk.pfn(tape, "both.root"), 20)
    single = Replica(alone.did, disk, alone.pfn, 30)

    def found(dids: Iterable[Did], rse: str | None = None) -> dict[Did, set[Replica]]:
        return {did: set(copies) for did, copies in catalog.replicas(dids, rse).items()}

    all_ = {both.did: {on_disk, on_tape}, alone.did: {single}}
    assert found([both.did, alone.did]) == all_
    assert found([run, alone.did], "*") == all_
    assert found([box, alone.did, both.did], f"{disk}|{tape}") == all_
    assert found([box, alone.did], disk) == {both.did: {on_disk}, alone.did: {single}}
    assert found([box, alone.did], tape) == {both.did: {on_tape}, alone.did: set()}
    assert found([box], f"{tape}|NO-SUCH-RSE") == {both.did: {on_tape}}


def test_what_has_no_files_has_no_copies(desk: Desk, catalog: Catalog, run: Did, box: Did) -> None:
    """An empty dataset or container gives nothing, and a DID that there is not, or cannot be, is left out."""
    assert catalog.replicas([run, box, desk.did("never.root"), Did("a b", "\udc80\0:")]) == {}
    assert catalog.replicas([]) == {}


@pytest.mark.parametrize("expression", ["NO-SUCH-RSE", "no rse", "A||B"])
def test_an_expression_has_to_fit_an_rse(desk: Desk, catalog: Catalog, expression: str) -> None:
    """Copies at RSEs that there are not cannot be asked for."""
    catalog.register([desk.file()])

    with pytest.raises(RseNotFound, match="RSE"):
        catalog.replicas([desk.file().did], expression)


@strict
def test_an_rse_is_made_by_others(desk: Desk, run: Did) -> None:
    """Files cannot be registered at an RSE that there is not."""
    with pytest.raises(RseNotFound, match="NO-SUCH-RSE"):
        desk.catalog.attach(run, [desk.file()], "NO-SUCH-RSE")
    with pytest.raises(RseNotFound, match="NO-SUCH-RSE"):
        desk.catalog.register([desk.file()], "NO-SUCH-RSE")

    assert desk.catalog.registered([desk.file().did]) == {}


@strict
def test_an_rse_is_looked_for_before_files_are(desk: Desk) -> None:
    """Without any file, and without changing anything."""
    desk.catalog.demand_rse()
    desk.catalog.demand_rse(desk.rses[1])
    with pytest.raises(RseNotFound, match="NO-SUCH-RSE"):
        desk.catalog.demand_rse("NO-SUCH-RSE")


def test_an_rse_has_a_name(catalog: Catalog) -> None:
    """What can be none is found, also where RSEs are there when they are first used."""
    catalog.demand_rse()
    with pytest.raises(RseNotFound):
        catalog.demand_rse("no rse")


@strict
def test_an_rse_keeps_files_in_its_place(desk: Desk, run: Did) -> None:
    """A file that lies elsewhere is refused, and with it the call."""
    elsewhere = replace(desk.file("b.root"), pfn=desk.pfn(desk.rses[1], "b.root"))

    with pytest.raises(InvalidPfn, match=desk.rses[0]):
        desk.catalog.attach(run, [desk.file("a.root"), elsewhere])

    assert desk.catalog.files(run) == []
    assert desk.catalog.attach(run, [elsewhere], desk.rses[1]) == 1


# Containers.


def test_a_container_begins_empty(desk: Desk, catalog: Catalog) -> None:
    """A new container has nothing in it."""
    did = desk.did("/A/B")

    catalog.add_container(did)

    assert catalog.children(did) == []
    desk.expect("create_cnt")


def test_a_container_holds_datasets_or_containers(desk: Desk, catalog: Catalog, run: Did, box: Did) -> None:
    """They are listed by name, in it once, counted and announced when they are new; one may be in several."""
    other, above = desk.did("A-FIRST"), desk.did("ABOVE")
    catalog.add_dataset(other)
    catalog.add_container(above)

    assert catalog.enclose(box, [run]) == 1
    assert catalog.enclose(box, [run, other, other]) == 1
    assert catalog.enclose(box, [run, other]) == 0
    assert catalog.enclose(box, []) == 0
    assert catalog.enclose(above, [run]) == 1
    assert catalog.enclose(above, [box]) == 1

    assert catalog.children(box) == [other, run]
    assert catalog.children(above) == [box, run]
    desk.expect("create_dts", "create_cnt", "create_dts", "create_cnt", *["register_cnt"] * 4)


def test_what_does_not_fit_is_not_enclosed(desk: Desk, catalog: Catalog, run: Did, box: Did) -> None:
    """A file, the container itself, one that it is in, and two kinds at once are refused, and with them the call."""
    inner, apart = desk.did("INNER"), desk.did("APART")
    catalog.add_container(inner)
    catalog.enclose(box, [inner])
    catalog.add_container(apart)
    catalog.register([desk.file("a.root")])

    for container, bad in (
        (box, [run, desk.did("a.root")]),
        (box, [box]),
        (inner, [box]),
        (box, [run, apart]),
    ):
        with pytest.raises(CatalogError):
            catalog.enclose(container, bad)

    assert (catalog.children(box), catalog.children(inner)) == ([inner], [])
    desk.expect("create_dts", "create_cnt", "create_cnt", "register_cnt", "create_cnt")


def test_both_sides_have_to_be_there(desk: Desk, catalog: Catalog, run: Did, box: Did) -> None:
    """A container or a dataset that is not there raises DidNotFound, and nothing of the call is done."""
    never = desk.did("NEVER")

    for container, children in ((never, [run]), (box, [run, never])):
        with pytest.raises(DidNotFound, match="NEVER"):
            catalog.enclose(container, children)

    assert catalog.children(box) == []
    desk.expect("create_dts", "create_cnt")


def test_an_erased_dataset_is_in_no_container(desk: Desk, catalog: Catalog, box: Did) -> None:
    """It leaves its containers."""
    catalog.add_dataset(desk.did("SHORT"), lifetime=timedelta(seconds=1))
    catalog.enclose(box, [desk.did("SHORT")])

    desk.pass_time(2)
    desk.sweep()

    assert catalog.children(box) == []


# Metadata.


def test_metadata_of_many_is_asked_for_at_once(desk: Desk, catalog: Catalog, run: Did, box: Did) -> None:
    """Rucio's keys by DID, of datasets, containers and files alike, times in UTC; what there is not is left out."""
    file = desk.file("a.root", 10, events=3, md5=MD5)
    catalog.attach(run, [file])
    catalog.close(run)
    never, odd = desk.did("NEVER"), Did("a b", "\udc80\0:")

    found = catalog.metadata([run, box, file.did, never, odd, run])

    assert set(found) == {run, box, file.did}
    entry = catalog.dataset(run)
    keys = ("account", "bytes", "length", "events", "created_at", "closed_at")
    assert {key: found[run][key] for key in keys} == {key: getattr(entry, key) for key in keys}
    assert (found[run]["did_type"], found[run]["is_open"], found[run]["expired_at"]) == ("DATASET", False, None)
    assert (found[box]["did_type"], found[box]["is_open"]) == ("CONTAINER", True)
    told = {key: found[file.did][key] for key in ("did_type", "bytes", "events", "adler32", "md5")}
    assert told == {"did_type": "FILE", "bytes": 10, "events": 3, "adler32": "0a1b2c3d", "md5": MD5}
    assert catalog.metadata([]) == {}


def test_metadata_counts_what_was_there_at_the_last_closing(desk: Desk, catalog: Catalog, run: Did) -> None:
    """Nothing before the first, and not what came after it: that is Rucio's way."""
    catalog.attach(run, [desk.file("a.root", 10, events=3)])
    keys = ("bytes", "length", "events", "closed_at")
    assert [catalog.metadata([run])[run][key] for key in keys] == [None] * 4
    catalog.close(run)
    catalog.reopen(run)
    catalog.attach(run, [desk.file("b.root", 20)])

    found = catalog.metadata([run])[run]

    assert [found[key] for key in keys] == [10, 1, 3, catalog.dataset(run).closed_at]
    assert found["is_open"] is True


@pytest.mark.parametrize(
    ("key", "value"),
    [("run_number", 21615), ("field", 1.5), ("good", True), ("beam", "2025p000"), ("beam", "00021615")],
)
def test_people_set_metadata(desk: Desk, catalog: Catalog, run: Did, key: str, value: str | float | bool) -> None:
    """A key keeps its value as it is, until it is set anew or taken away. No event tells of it."""
    catalog.set_metadata(run, key, 1)
    catalog.set_metadata(run, key, value)

    found = catalog.metadata([run])[run][key]

    assert found == value and type(found) is type(value)
    catalog.set_metadata(run, key, None)
    assert catalog.metadata([run])[run].get(key) is None
    catalog.set_metadata(run, key, None)
    desk.expect("create_dts")


@pytest.mark.parametrize("key", ["", *sorted(KEPT_METADATA)])
def test_what_the_catalog_keeps_nobody_sets(catalog: Catalog, run: Did, key: str) -> None:
    """Names, counts, sums, times and owner are the catalog's own, and a key needs a name."""
    before = catalog.metadata([run])[run].get(key)

    for value in (1, "text", None):
        with pytest.raises(CatalogError, match=run.name):
            catalog.set_metadata(run, key, value)

    assert catalog.metadata([run])[run].get(key) == before


# Announcements.


@audible
def test_events_look_like_those_of_hermes(desk: Desk, run: Did, box: Did) -> None:
    """An event has the same fields in the same order, of the same kinds, as what hermes was seen to send."""
    desk.catalog.enclose(box, [run])
    desk.catalog.attach(run, [desk.file(events=7)])
    desk.catalog.close(run)
    desk.catalog.reopen(run)
    desk.catalog.add_dataset(desk.did("SHORT"), lifetime=timedelta(seconds=1))
    desk.pass_time(2)
    desk.sweep()

    desk.expect("create_dts", "create_cnt", "register_cnt", "close", "open", "create_dts", "erase")
    for ours in desk.events():
        theirs = next(
            json.loads(frame["body"]) for frame in FRAMES if frame["headers"]["event_type"] == ours["event_type"]
        )
        assert list(ours) == list(theirs)
        assert list(ours["payload"]) == list(theirs["payload"])
        assert _kinds({**ours["payload"], "expired_at": None}) == _kinds({**theirs["payload"], "expired_at": None})
        _moment(ours["created_at"])


def _kinds(payload: dict[str, Any]) -> list[str]:
    return ["number" if isinstance(value, int | float) else type(value).__name__ for value in payload.values()]


def _moment(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC)


@audible
def test_events_tell_what_happened(desk: Desk, run: Did, box: Did) -> None:
    """Who made what, what is in which container, and what was attached at the moment of a closing."""
    desk.catalog.enclose(box, [run])
    desk.catalog.attach(run, [desk.file("a.root", 10, events=7), desk.file("b.root", 5)])
    desk.catalog.close(run)
    desk.catalog.add_container(desk.did("ABOVE"))
    desk.catalog.enclose(desk.did("ABOVE"), [box])

    made, boxed, enclosed, closed, _, above = (event["payload"] for event in desk.events())

    assert made == {"account": desk.account, **run._asdict(), "expired_at": None}
    assert boxed == {"account": desk.account, **box._asdict(), "expired_at": None}
    child = {"childscope": run.scope, "childname": run.name, "childtype": "DATASET"}
    assert enclosed == {"account": desk.account, **box._asdict(), **child}
    assert (above["childname"], above["childtype"]) == ("BOX", "CONTAINER")
    assert closed == {**run._asdict(), "bytes": 15, "length": 2, "events": 7}
