"""The catalogs of tests: that the faulty one fails as it is told, and that what failed can be repeated."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from threading import Barrier, Thread

import pytest

from orchestrator.clock import utc_now
from orchestrator.rucio.embedded.catalog import LocalCatalog
from orchestrator.rucio.port import Catalog, CatalogUnavailable, DatasetState, DidExists, FileEntry
from schemas.did import Did
from tests.services.catalog import FakeCatalog, Faulty, When

RUN = Did("test", "RUN")
BOX = Did("test", "BOX")


class Killed(BaseException):
    """Ends a process that is played."""


def file(name: str) -> FileEntry:
    return FileEntry(Did("test", name), f"/data/{name}", 1, "00000001")


@pytest.fixture(params=["embedded", "fake"])
def catalog(request: pytest.FixtureRequest, tmp_path: Path) -> Catalog:
    if request.param == "fake":
        return FakeCatalog()
    return LocalCatalog(tmp_path / "catalog.db", lambda headers, body: None)


@pytest.mark.parametrize(("when", "attached"), [(When.BEFORE, 0), (When.MIDWAY, 1), (When.AFTER, 3)])
def test_a_call_fails_before_in_the_middle_or_after(catalog: Catalog, when: When, attached: int) -> None:
    """The n-th of all calls raises CatalogUnavailable; what was done by then stays; other calls go through."""
    faulty = Faulty(catalog, {2: when})
    files = [file("a"), file("b"), file("c")]
    faulty.add_dataset(RUN)

    with pytest.raises(CatalogUnavailable):
        faulty.attach(RUN, files)

    assert catalog.dataset(RUN).length == attached
    assert faulty.attach(RUN, iter(files)) == 3 - attached
    assert (faulty.calls, faulty.total) == ({"add_dataset": 1, "attach": 2}, 3)


def test_a_call_is_named_by_its_name_and_number(catalog: Catalog) -> None:
    """Other calls do not count."""
    faulty = Faulty(catalog, {("close", 2): When.BEFORE})
    faulty.add_dataset(RUN)
    faulty.close(RUN)
    faulty.reopen(RUN)

    with pytest.raises(CatalogUnavailable):
        faulty.close(RUN)

    assert catalog.dataset(RUN).state is DatasetState.OPEN


def test_a_fault_may_be_the_end_of_a_process(catalog: Catalog) -> None:
    """Then nothing that catches errors catches it."""
    faulty = Faulty(catalog, {1: When.AFTER}, error=Killed)

    with pytest.raises(Killed):
        faulty.add_dataset(RUN)

    assert catalog.dataset(RUN).did == RUN


def test_the_world_may_change_before_a_call(catalog: Catalog) -> None:
    """The hook hears of each call before it is passed on, and may change what the call finds."""
    heard: list[tuple[str, int]] = []

    def hook(name: str, number: int) -> None:
        heard.append((name, number))
        if name == "dataset":
            catalog.close(RUN)

    faulty = Faulty(catalog, hook=hook)
    faulty.add_dataset(RUN)

    assert faulty.dataset(RUN).state is DatasetState.CLOSED
    assert heard == [("add_dataset", 1), ("dataset", 2)]


@pytest.mark.parametrize(("when", "given"), [(When.BEFORE, 0), (When.MIDWAY, 1), (When.AFTER, 2)])
def test_reading_closed_datasets_fails_on_the_way(catalog: Catalog, when: When, given: int) -> None:
    """Before the first dataset, after it, or when all were given."""
    for did in (RUN, Did("test", "OTHER")):
        catalog.add_dataset(did)
        catalog.close(did)
    moment = catalog.dataset(RUN).created_at
    read = []

    with pytest.raises(CatalogUnavailable):
        for entry in Faulty(catalog, {1: when}).closed_since(moment):
            read.append(entry.did)

    assert len(read) == given
    walked = []
    with pytest.raises(CatalogUnavailable):
        for entry in Faulty(catalog, {1: when}).walk():
            walked.append(entry.did)
    assert len(walked) == given


#: Each call that changes something, on a catalog with the dataset RUN and the container BOX.
CHANGES: Mapping[str, Callable[[Catalog], object]] = {
    "add_dataset": lambda catalog: catalog.add_dataset(Did("test", "NEW")),
    "add_container": lambda catalog: catalog.add_container(Did("test", "NEW")),
    "register": lambda catalog: catalog.register([file("a"), file("b")]),
    "attach": lambda catalog: catalog.attach(RUN, [file("a"), file("b")]),
    "enclose": lambda catalog: catalog.enclose(BOX, [RUN]),
    "close": lambda catalog: catalog.close(RUN),
    "set_lifetime": lambda catalog: catalog.set_lifetime(RUN, timedelta(days=1)),
    "add_rule": lambda catalog: catalog.add_rule(RUN, "LOCAL"),
    "set_rule_lifetime": lambda catalog: catalog.set_rule_lifetime("ended", timedelta()),
    "set_tombstones": lambda catalog: catalog.set_tombstones([file("a").did, file("b").did], "LOCAL"),
    "detach": lambda catalog: catalog.detach(BOX, [RUN]),
    "set_metadata": lambda catalog: catalog.set_metadata(RUN, "beam", "Au"),
}


@pytest.mark.parametrize("when", list(When))
@pytest.mark.parametrize("change", [name for name in CHANGES if not name.startswith("add_")])
def test_a_change_that_failed_can_be_repeated(catalog: Catalog, change: str, when: When) -> None:
    """Whatever of it was done, it ends as if it had not failed."""
    whole = FakeCatalog()
    for each in (catalog, whole):
        each.add_dataset(RUN)
        each.add_container(BOX)
    faulty = Faulty(catalog, {1: when})

    with pytest.raises(CatalogUnavailable):
        CHANGES[change](faulty)
    CHANGES[change](faulty)

    CHANGES[change](whole)
    assert content(catalog) == content(whole)


def content(catalog: Catalog) -> object:
    """All but times."""
    entry, known = catalog.dataset(RUN), catalog.metadata([RUN])[RUN]
    files = [each.did for each in catalog.files(RUN)]
    registered = dict(catalog.registered([file("a").did, file("b").did]))
    held = len(catalog.rules([RUN])[RUN]), entry.expires_at is not None
    return entry.state, entry.length, known.get("beam"), files, registered, catalog.children(BOX), held


@pytest.mark.parametrize("when", list(When))
@pytest.mark.parametrize("change", CHANGES)
def test_every_change_can_fail(catalog: Catalog, change: str, when: When) -> None:
    """The fault is in the call of that name, and it is counted by that name."""
    catalog.add_dataset(RUN)
    catalog.add_container(BOX)
    faulty = Faulty(catalog, {(change, 1): when})

    with pytest.raises(CatalogUnavailable):
        CHANGES[change](faulty)

    assert faulty.calls == {change: 1}


def slow_clock() -> datetime:
    """Lets other threads run in the middle of a change."""
    time.sleep(0.001)
    return utc_now()


def test_threads_share_a_fake() -> None:
    """Each change has one winner and one event."""
    fake, won, all_there = FakeCatalog(clock=slow_clock), [], Barrier(4)

    def compete() -> None:
        all_there.wait()
        for number in range(20):
            with suppress(DidExists):
                fake.add_dataset(Did("test", f"{number}"))
                won.append(number)
            fake.close(Did("test", f"{number}"))

    threads = [Thread(target=compete) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(won) == list(range(20))
    assert sorted(event["event_type"] for event in fake.events) == ["close"] * 20 + ["create_dts"] * 20
