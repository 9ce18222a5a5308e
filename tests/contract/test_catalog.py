"""What every catalog promises, and what the embedded one promises beyond it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import structlog

from orchestrator.rucio.local import LocalCatalog, describe_file
from orchestrator.rucio.port import (
    Catalog,
    CatalogError,
    CatalogUnavailable,
    DatasetClosed,
    DatasetState,
    DidExists,
    DidNotFound,
    FileDiffers,
    FileEntry,
    InvalidDid,
)
from schemas.did import Did

ROOT = Path(__file__).parents[2]
FRAMES = [json.loads(line) for line in (ROOT / "tests" / "data" / "hermes.jsonl").read_text().splitlines()]
NOW = datetime(2026, 11, 22, 1, 13, 40, 292656, tzinfo=UTC)
RUN = Did("group.sphenix", "RUN-00021615")


@dataclass
class Broker:
    """Takes announcements, and refuses them while it is down."""

    frames: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    #: How many announcements it takes before it goes down.
    patience: int = 1_000_000

    def announce(self, headers: Mapping[str, str], body: bytes) -> None:
        if len(self.frames) >= self.patience:
            raise ConnectionError("the broker is down")
        self.frames.append((dict(headers), body))

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.frames]

    @property
    def types(self) -> list[str]:
        return [event["event_type"] for event in self.events]


@dataclass
class Desk:
    """A catalog, and the broker that hears of its changes."""

    catalog: Catalog
    broker: Broker


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of the embedded catalog."""
    return tmp_path / "catalog.db"


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def local(path: Path, broker: Broker) -> LocalCatalog:
    """The embedded catalog, at a time that stands still."""
    return LocalCatalog(path, broker.announce, clock=lambda: NOW)


@pytest.fixture(params=["embedded"])
def desk(request: pytest.FixtureRequest, broker: Broker) -> Desk:
    """Each catalog in turn."""
    return Desk(request.getfixturevalue({"embedded": "local"}[request.param]), broker)


@pytest.fixture
def catalog(desk: Desk) -> Catalog:
    """Each catalog in turn, with the dataset RUN in it, open and empty."""
    desk.catalog.add_dataset(RUN)
    return desk.catalog


def file(name: str = "a.root", size: int = 10, adler32: str = "0a1b2c3d", events: int | None = None) -> FileEntry:
    return FileEntry(Did("group.sphenix", name), f"/data/{name}", size, adler32, events)


# Every catalog.


def test_metadata_of_many_is_asked_for_at_once(catalog: Catalog) -> None:
    """Rucio's keys by DID, datasets and files alike, times in UTC; what there is not is left out, and is no error."""
    other, gone = Did("user.sphnxpro", "OTHER"), Did("group.sphenix", "GONE")
    for did in (other, gone):
        catalog.add_dataset(did)
    catalog.erase(gone)
    catalog.attach(RUN, [file("a.root", 10, events=3)])
    catalog.close(RUN)
    a_file, never, odd = Did("group.sphenix", "a.root"), Did("group.sphenix", "NEVER"), Did("a b", "\udc80\0:")

    known = catalog.metadata([RUN, other, gone, a_file, never, odd, RUN])

    assert set(known) == {RUN, other, a_file}
    entry = catalog.dataset(RUN)
    assert known[RUN] == {
        "did_type": "DATASET",
        "is_open": False,
        **{key: getattr(entry, key) for key in ("account", "bytes", "length", "events", "created_at", "closed_at")},
    }
    assert (entry.account, entry.bytes, entry.length, entry.events) == ("root", 10, 1, 3)
    assert (known[other]["is_open"], known[other]["closed_at"], known[other]["length"]) == (True, None, 0)
    assert known[a_file] == {"did_type": "FILE", "bytes": 10, "events": 3, "adler32": "0a1b2c3d"}
    assert catalog.metadata([]) == {}


def test_a_dataset_begins_open_and_empty(desk: Desk) -> None:
    """A new dataset is open, has no files, and says who made it and when."""
    desk.catalog.add_dataset(RUN)

    entry = desk.catalog.dataset(RUN)
    assert (entry.did, entry.state, entry.account) == (RUN, DatasetState.OPEN, "root")
    assert (entry.bytes, entry.length, entry.events) == (0, 0, 0)
    assert entry.closed_at is None
    assert entry.created_at.utcoffset() == timedelta(0)
    assert desk.catalog.files(RUN) == []


def test_a_name_is_given_once(catalog: Catalog, desk: Desk) -> None:
    """A dataset of a name that exists, as a dataset or as a file, is refused and announces nothing."""
    catalog.attach(RUN, [file("a.root")])

    for taken in (RUN, Did("group.sphenix", "a.root")):
        with pytest.raises(DidExists, match=taken.name):
            catalog.add_dataset(taken)

    assert desk.broker.types == ["create_dts"]


def test_scopes_are_separate(catalog: Catalog) -> None:
    """The same name in another scope is another dataset."""
    other = Did("user.sphnxpro", RUN.name)

    catalog.add_dataset(other)
    catalog.close(other)

    assert catalog.dataset(RUN).state is DatasetState.OPEN


@pytest.mark.parametrize(
    "did",
    [
        Did("group.sphenix", "a name"),
        Did("group.sphenix", "-begins-badly"),
        Did("group.sphenix", ".hidden"),
        Did("group.sphenix", "a" * 251),
        Did("group.sphenix", "newline\n"),
        Did("group.sphenix", "naïve"),
        Did("group.sphenix", "a:b"),
        Did("s" * 26, "a"),
        Did("a scope", "a"),
    ],
)
def test_names_follow_the_rules(desk: Desk, did: Did) -> None:
    """A name that breaks the catalog's rules is refused, for a dataset and for a file."""
    desk.catalog.add_dataset(RUN)

    with pytest.raises(InvalidDid):
        desk.catalog.add_dataset(did)
    with pytest.raises(InvalidDid):
        desk.catalog.attach(RUN, [FileEntry(did, "/data/a", 1, "00000001")])

    assert desk.broker.types == ["create_dts"]


@pytest.mark.parametrize("name", ["a" * 250, "/TEST-CONTAINER-2023/a.b_c-d", "0"])
def test_long_and_strange_names_are_accepted(desk: Desk, name: str) -> None:
    """Names of up to 250 letters, digits, slashes, dots, underscores and dashes are accepted."""
    desk.catalog.add_dataset(Did("s" * 25, name))

    assert desk.catalog.dataset(Did("s" * 25, name)).did.name == name


def test_files_are_attached(catalog: Catalog) -> None:
    """Attached files are listed by name, and the dataset counts their bytes and events."""
    given = [file("b.root", 20, events=5), file("a.root", 10, events=7), file("c.root", 3)]

    new = catalog.attach(RUN, given)

    assert new == 3
    assert catalog.files(RUN) == sorted(given, key=lambda entry: entry.did.name)
    entry = catalog.dataset(RUN)
    assert (entry.bytes, entry.length, entry.events) == (33, 3, 12)


def test_attaching_again_changes_nothing(catalog: Catalog) -> None:
    """Files that are attached already are passed over, so that attaching can be repeated."""
    catalog.attach(RUN, [file("a.root")])

    new = catalog.attach(RUN, [file("a.root"), file("b.root"), file("b.root")])

    assert new == 1
    assert catalog.dataset(RUN).length == 2
    assert catalog.attach(RUN, []) == 0


@pytest.mark.parametrize("other", [file("a.root", size=11), file("a.root", adler32="ffffffff")])
def test_the_first_registration_wins(catalog: Catalog, other: FileEntry) -> None:
    """A file registered before with another size or checksum is refused, and nothing of the call is attached."""
    catalog.attach(RUN, [file("a.root")])

    with pytest.raises(FileDiffers, match=r"a\.root"):
        catalog.attach(RUN, [file("b.root"), other])

    assert catalog.files(RUN) == [file("a.root")]


def test_the_first_registration_survives_its_dataset(catalog: Catalog) -> None:
    """A file stays as it was first registered even when the dataset it came with is erased."""
    catalog.attach(RUN, [file("a.root")])
    catalog.erase(RUN)
    catalog.add_dataset(RUN)

    with pytest.raises(FileDiffers):
        catalog.attach(RUN, [file("a.root", size=11)])

    assert catalog.attach(RUN, [file("a.root")]) == 1


def test_a_file_may_be_in_several_datasets(catalog: Catalog) -> None:
    """A file attached to a second dataset is the same file, at the place where it was first registered."""
    other = Did("group.sphenix", "OTHER")
    catalog.add_dataset(other)
    catalog.attach(RUN, [file("a.root", events=9)])
    elsewhere = FileEntry(Did("group.sphenix", "a.root"), "/elsewhere/a.root", 10, "0a1b2c3d")

    new = catalog.attach(other, [elsewhere])

    assert new == 1
    assert catalog.files(other) == [file("a.root", events=9)]
    assert catalog.dataset(other).events == 9


def test_nothing_is_attached_to_a_closed_dataset(catalog: Catalog) -> None:
    """Attaching to a closed dataset is refused, also when there is nothing new to attach."""
    catalog.attach(RUN, [file("a.root")])
    catalog.close(RUN)

    for files in ([file("b.root")], [file("a.root")], []):
        with pytest.raises(DatasetClosed, match="RUN-00021615"):
            catalog.attach(RUN, files)

    assert catalog.dataset(RUN).length == 1


def test_a_dataset_cannot_be_attached_as_a_file(catalog: Catalog) -> None:
    """The name of a dataset cannot be the name of a file."""
    with pytest.raises(InvalidDid, match="is a dataset"):
        catalog.attach(RUN, [file(RUN.name)])


@pytest.mark.parametrize("entry", [file(adler32="0A1B2C3D"), file(adler32="1"), file(size=-1)])
def test_a_file_needs_a_size_and_a_checksum(catalog: Catalog, entry: FileEntry) -> None:
    """A file without a proper size, or whose adler32 is not eight lower-case digits, is refused."""
    with pytest.raises(CatalogError, match=r"a\.root"):
        catalog.attach(RUN, [entry])

    assert catalog.files(RUN) == []


def test_closing_is_done_once(catalog: Catalog, desk: Desk) -> None:
    """Closing closes and is announced; closing again does nothing and announces nothing."""
    catalog.close(RUN)
    first = catalog.dataset(RUN)
    catalog.close(RUN)

    assert first.state is DatasetState.CLOSED
    assert first.closed_at is not None
    assert first.closed_at > first.created_at
    assert catalog.dataset(RUN) == first
    assert desk.broker.types == ["create_dts", "close"]


def test_a_closed_dataset_can_be_opened_again(catalog: Catalog, desk: Desk) -> None:
    """Opening again is announced, takes new files, and keeps the time of the last closing, as Rucio does."""
    catalog.reopen(RUN)
    catalog.close(RUN)
    closed_at = catalog.dataset(RUN).closed_at

    catalog.reopen(RUN)
    catalog.attach(RUN, [file()])

    entry = catalog.dataset(RUN)
    assert (entry.state, entry.closed_at, entry.length) == (DatasetState.OPEN, closed_at, 1)
    assert desk.broker.types == ["create_dts", "close", "open"]


def test_an_erased_name_can_be_used_again(catalog: Catalog, desk: Desk) -> None:
    """An erased dataset is unknown; a new one of its name is empty, open, and made later."""
    catalog.attach(RUN, [file()])
    catalog.close(RUN)
    old = catalog.dataset(RUN)
    catalog.erase(RUN)

    with pytest.raises(DidNotFound):
        catalog.dataset(RUN)
    catalog.add_dataset(RUN)

    new = catalog.dataset(RUN)
    assert (new.state, new.length, new.closed_at) == (DatasetState.OPEN, 0, None)
    assert new.created_at > old.created_at
    assert desk.broker.types == ["create_dts", "close", "erase", "create_dts"]


def test_an_unknown_dataset_is_said_to_be_unknown(desk: Desk) -> None:
    """Every call on a dataset that is not there raises DidNotFound and announces nothing."""
    calls: list[Callable[[], object]] = [
        lambda: desk.catalog.attach(RUN, [file()]),
        lambda: desk.catalog.close(RUN),
        lambda: desk.catalog.reopen(RUN),
        lambda: desk.catalog.erase(RUN),
        lambda: desk.catalog.dataset(RUN),
        lambda: desk.catalog.files(RUN),
    ]

    for call in calls:
        with pytest.raises(DidNotFound, match=r"group\.sphenix:RUN-00021615"):
            call()

    assert desk.broker.frames == []


def test_datasets_are_listed_by_pattern(catalog: Catalog) -> None:
    """Datasets are listed by name where scope and name match the shell-style patterns, case-sensitively."""
    for did in (Did("group.sphenix", "RUN-2"), Did("user.me", "RUN-1"), Did("group.sphenix", "run-3")):
        catalog.add_dataset(did)

    assert [entry.did.name for entry in catalog.datasets()] == ["RUN-00021615", "RUN-1", "RUN-2", "run-3"]
    assert [entry.did.name for entry in catalog.datasets("group.*", "RUN-?")] == ["RUN-2"]
    assert [entry.did.name for entry in catalog.datasets(name="RUN-[!2]*")] == ["RUN-00021615", "RUN-1"]
    assert catalog.datasets("nobody") == []


def test_events_look_like_those_of_hermes(catalog: Catalog, desk: Desk) -> None:
    """An event has the same fields in the same order, of the same kinds, as the frame that hermes sends."""
    catalog.attach(RUN, [file(events=7)])
    for change in (catalog.close, catalog.reopen, catalog.erase):
        change(RUN)

    assert desk.broker.types == ["create_dts", "close", "open", "erase"]
    for headers, body in desk.broker.frames:
        real = next(frame for frame in FRAMES if frame["headers"]["event_type"] == headers["event_type"])
        ours, theirs = json.loads(body), json.loads(real["body"])
        assert headers.items() <= {**real["headers"], "event_type": ours["event_type"]}.items()
        assert list(ours) == list(theirs)
        assert list(ours["payload"]) == list(theirs["payload"])
        assert [_kind(value) for value in ours["payload"].values()] == [
            _kind(value) for value in theirs["payload"].values()
        ]
        assert body.decode() == json.dumps(ours)
        assert real["body"] == json.dumps(theirs)
        datetime.strptime(ours["created_at"], "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC)


def _kind(value: object) -> str:
    return "number" if isinstance(value, int | float) else type(value).__name__


def test_a_close_tells_what_is_attached(catalog: Catalog, desk: Desk) -> None:
    """The close event gives bytes, files and events as they were at that moment."""
    catalog.attach(RUN, [file("a.root", 10, events=7), file("b.root", 5)])

    catalog.close(RUN)

    assert desk.broker.events[-1]["payload"] == {
        "scope": "group.sphenix",
        "name": "RUN-00021615",
        "bytes": 15,
        "length": 2,
        "events": 7,
    }


def test_no_two_events_have_one_moment(catalog: Catalog, desk: Desk) -> None:
    """The moments of the events strictly increase, however fast the changes come."""
    for _ in range(10):
        catalog.close(RUN)
        catalog.reopen(RUN)

    moments = [event["created_at"] for event in desk.broker.events]
    assert len(moments) == 21
    assert all(earlier < later for earlier, later in pairwise(moments))


# The embedded catalog.


@pytest.mark.parametrize("value", [21615, 1.5, True, "2025p000", "00021615"])
def test_people_set_metadata(local: LocalCatalog, broker: Broker, value: object) -> None:
    """A key keeps its value as it is, until it is set anew, taken away, or the dataset is erased. No event tells."""
    local.add_dataset(RUN)
    local.set_metadata(RUN, "run_number", "first")
    local.set_metadata(RUN, "run_number", value)  # type: ignore[arg-type]  # the values are the test's parameters
    local.set_metadata(RUN, "prod_step", "raw")
    local.set_metadata(RUN, "prod_step", None)

    known = local.metadata([RUN])[RUN]

    assert known["run_number"] == value and type(known["run_number"]) is type(value)
    assert "prod_step" not in known
    local.erase(RUN)
    local.add_dataset(RUN)
    assert "run_number" not in local.metadata([RUN])[RUN]
    assert broker.types == ["create_dts", "erase", "create_dts"]


@pytest.mark.parametrize("key", ["bytes", "account", "closed_at", "", "a b", "1st"])
def test_what_the_catalog_keeps_nobody_sets(local: LocalCatalog, key: str) -> None:
    """Counts, times and owner are the catalog's own, and a key is a word."""
    local.add_dataset(RUN)
    before = local.metadata([RUN])

    with pytest.raises(CatalogError, match=r"kept by the catalog|is no key"):
        local.set_metadata(RUN, key, 1)
    with pytest.raises(DidNotFound):
        local.set_metadata(Did("group.sphenix", "NEVER"), "run_number", 1)

    assert local.metadata([RUN]) == before


def test_a_catalog_whose_file_has_gone_is_away_and_not_empty(path: Path, local: LocalCatalog) -> None:
    """Nothing is said to be unknown, and no new file is made; when the file is back, so is what was in it."""
    local.add_dataset(RUN)
    away = path.rename(path.with_name("elsewhere"))

    with pytest.raises(CatalogUnavailable, match="cannot be used for now"):
        local.metadata([RUN])

    assert not path.exists()
    away.rename(path)
    assert set(local.metadata([RUN])) == {RUN}


def test_moments_are_utc_without_a_zone(local: LocalCatalog, broker: Broker) -> None:
    """An event's moment is written as Rucio writes it, and is the moment that the catalog keeps."""
    local.add_dataset(RUN)

    assert broker.events[0]["created_at"] == "2026-11-22 01:13:40.292656"
    assert local.dataset(RUN).created_at == NOW


def test_a_clock_that_goes_back_does_no_harm(path: Path, broker: Broker) -> None:
    """The moments increase even when the clock of the machine is put back, or another process has a slow one."""
    LocalCatalog(path, broker.announce, clock=lambda: NOW).add_dataset(RUN)

    LocalCatalog(path, broker.announce, clock=lambda: NOW - timedelta(hours=1)).close(RUN)

    assert [event["created_at"][-6:] for event in broker.events] == ["292656", "292657"]


def test_a_change_stands_when_it_cannot_be_announced(local: LocalCatalog, broker: Broker) -> None:
    """While the broker is down changes succeed, it is logged once, and the events wait."""
    broker.patience = 0

    with structlog.testing.capture_logs() as logs:
        local.add_dataset(RUN)
        local.close(RUN)

    assert local.dataset(RUN).state is DatasetState.CLOSED
    assert broker.frames == []
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("announcement.failed", "warning")]


def test_waiting_events_are_announced_in_order(local: LocalCatalog, broker: Broker) -> None:
    """Once the broker is back, a flush announces what waited, oldest first, and each of it once."""
    broker.patience = 0
    local.add_dataset(RUN)
    local.close(RUN)

    broker.patience = 1
    local.flush()
    broker.patience = 100
    local.flush()
    local.flush()

    assert broker.types == ["create_dts", "close"]


def test_waiting_events_survive_a_crash(path: Path, local: LocalCatalog, broker: Broker) -> None:
    """Events that could not be announced are announced when the catalog is opened again."""
    broker.patience = 0
    local.add_dataset(RUN)
    broker.patience = 100

    LocalCatalog(path, broker.announce)

    assert broker.types == ["create_dts"]


def test_an_unsure_announcement_is_made_again(path: Path, local: LocalCatalog, broker: Broker) -> None:
    """An announcement of which nobody knows whether it arrived is made again with the same bytes, as hermes does."""
    broker.patience = 0
    local.add_dataset(RUN)
    arrived: list[bytes] = []

    def lose_the_answer(headers: Mapping[str, str], body: bytes) -> None:
        arrived.append(body)
        if len(arrived) == 1:
            raise ConnectionError("the answer was lost")

    LocalCatalog(path, lose_the_answer).flush()

    assert len(arrived) == 2
    assert arrived[0] == arrived[1]


def test_a_listener_may_use_the_catalog(path: Path) -> None:
    """Whoever hears an announcement may change the catalog at once; that change is announced next."""
    heard: list[str] = []

    def answer(headers: Mapping[str, str], body: bytes) -> None:
        heard.append(headers["event_type"])
        if headers["event_type"] == "create_dts":
            embedded.close(RUN)

    embedded = LocalCatalog(path, answer)

    embedded.add_dataset(RUN)

    assert heard == ["create_dts", "close"]


def test_threads_share_a_catalog(local: LocalCatalog, broker: Broker) -> None:
    """Threads may use one catalog at the same time: no change and no event is lost or doubled."""
    local.add_dataset(RUN)

    def attach(number: int) -> None:
        local.add_dataset(Did("group.sphenix", f"T-{number}"))
        for position in range(5):
            local.attach(RUN, [file(f"{number}-{position}.root", size=1)])

    threads = [threading.Thread(target=attach, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    entry = local.dataset(RUN)
    assert (entry.length, entry.bytes, len(local.files(RUN))) == (40, 40, 40)
    assert sorted(event["payload"]["name"] for event in broker.events) == [
        "RUN-00021615",
        *(f"T-{number}" for number in range(8)),
    ]
    moments = [event["created_at"] for event in broker.events]
    assert moments == sorted(set(moments))


CROWD = """
import sys
from pathlib import Path
from orchestrator.rucio.local import LocalCatalog
from orchestrator.rucio.port import DidExists
from schemas.did import Did

path, heard, name = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]

def announce(headers, body):
    with heard.open("ab") as file:
        file.write(body + b"\\n")

catalog = LocalCatalog(path, announce)
won = 0
for number in range(25):
    try:
        catalog.add_dataset(Did("group.sphenix", f"RACE-{number}"))
        won += 1
    except DidExists:
        pass
    catalog.close(Did("group.sphenix", f"RACE-{number}"))
print(won)
"""


def test_processes_share_a_catalog(path: Path, tmp_path: Path) -> None:
    """Processes may use one catalog at the same time, also while it is made: each change has one winner, one event."""
    heard = tmp_path / "heard"
    command = [sys.executable, "-c", CROWD, str(path), str(heard), "x"]
    crowd = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(3)]

    won = [int(process.communicate(timeout=60)[0]) for process in crowd]

    events = [json.loads(line) for line in heard.read_text().splitlines()]
    assert [process.returncode for process in crowd] == [0, 0, 0]
    assert sum(won) == 25
    assert sorted(event["event_type"] for event in events) == ["close"] * 25 + ["create_dts"] * 25
    moments = [event["created_at"] for event in events]
    assert moments == sorted(set(moments))


def test_a_catalog_that_cannot_be_used_says_so(tmp_path: Path) -> None:
    """A file that is no catalog, or a place that cannot be written, raises CatalogUnavailable."""
    broken = tmp_path / "broken.db"
    broken.write_text("this is no database, and it is long enough for SQLite to see that at once" * 20)

    for place in (broken, Path("/proc/nowhere/catalog.db")):
        with pytest.raises(CatalogUnavailable):
            LocalCatalog(place, Broker().announce)


def test_a_file_describes_itself(tmp_path: Path) -> None:
    """A file on disk is described by its name, place, size and adler32 as the catalog wants them."""
    place = tmp_path / "a.root"
    place.write_bytes(b"Wikipedia")
    (tmp_path / "empty").touch()

    assert describe_file(place, "user.me") == FileEntry(Did("user.me", "a.root"), str(place), 9, "11e60398")
    assert describe_file(tmp_path / "empty", "user.me").adler32 == "00000001"
