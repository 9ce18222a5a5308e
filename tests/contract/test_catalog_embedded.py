"""What the embedded catalog promises beyond what every catalog does."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
import structlog

from orchestrator.rucio.embedded.catalog import LocalCatalog
from orchestrator.rucio.embedded.describing import describe_file
from orchestrator.rucio.port import (
    CatalogError,
    CatalogUnavailable,
    DatasetState,
    DidNotFound,
    FileEntry,
    InvalidPfn,
    Replica,
    RseNotFound,
)
from schemas.did import Did
from tests.contract.announcements import Listener

ROOT = Path(__file__).parents[2]
FRAMES = [json.loads(line) for line in (ROOT / "tests" / "data" / "hermes.jsonl").read_text().splitlines()]
NOW = datetime(2026, 11, 22, 1, 13, 40, 292656, tzinfo=UTC)
RUN = Did("group.sphenix", "RUN-00021615")
BOX = Did("group.sphenix", "BOX")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of the embedded catalog."""
    return tmp_path / "catalog.db"


@pytest.fixture
def broker() -> Listener:
    return Listener()


@pytest.fixture
def local(path: Path, broker: Listener) -> LocalCatalog:
    """The embedded catalog, at a time that stands still."""
    return LocalCatalog(path, broker.announce, clock=lambda: NOW)


def file(name: str = "a.root", size: int = 10, adler32: str = "0a1b2c3d", events: int | None = None) -> FileEntry:
    return FileEntry(Did("group.sphenix", name), f"/data/{name}", size, adler32, events)


#: The tables of the first catalogs, and what was in one.
OLD = """
CREATE TABLE dataset (
    id INTEGER PRIMARY KEY, scope TEXT NOT NULL, name TEXT NOT NULL, account TEXT NOT NULL,
    is_open INTEGER NOT NULL DEFAULT 1, created_at TEXT NOT NULL, closed_at TEXT,
    bytes INTEGER NOT NULL DEFAULT 0, length INTEGER NOT NULL DEFAULT 0, events INTEGER NOT NULL DEFAULT 0,
    UNIQUE (scope, name));
CREATE TABLE file (
    id INTEGER PRIMARY KEY, scope TEXT NOT NULL, name TEXT NOT NULL, pfn TEXT NOT NULL, bytes INTEGER NOT NULL,
    adler32 TEXT NOT NULL, events INTEGER, UNIQUE (scope, name));
CREATE TABLE attachment (
    dataset_id INTEGER NOT NULL REFERENCES dataset (id) ON DELETE CASCADE,
    file_id INTEGER NOT NULL REFERENCES file (id), PRIMARY KEY (dataset_id, file_id)) WITHOUT ROWID;
CREATE TABLE metadata (
    dataset_id INTEGER NOT NULL REFERENCES dataset (id) ON DELETE CASCADE, key TEXT NOT NULL, value TEXT NOT NULL,
    PRIMARY KEY (dataset_id, key)) WITHOUT ROWID;
CREATE TABLE outbox (id INTEGER PRIMARY KEY AUTOINCREMENT, event_type TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE latest (one INTEGER PRIMARY KEY CHECK (one = 1), moment TEXT NOT NULL);
INSERT INTO dataset VALUES (1, 'group.sphenix', 'RUN-00021615', 'root', 0,
    '2026-11-22 01:00:00.000000', '2026-11-22 01:00:00.000001', 10, 1, 3);
INSERT INTO dataset VALUES (2, 'group.sphenix', 'OPEN', 'root', 1, '2026-11-22 01:00:00.000002', NULL, 0, 0, 0);
INSERT INTO file VALUES (1, 'group.sphenix', 'a.root', '/data/a.root', 10, '0a1b2c3d', 3);
INSERT INTO attachment VALUES (1, 1);
INSERT INTO metadata VALUES (1, 'run_number', '21615');
INSERT INTO outbox VALUES (1, 'close', '{"event_type": "close"}');
INSERT INTO latest VALUES (1, '2026-11-22 01:00:00.000002');
"""


def test_an_older_catalog_goes_on_working(path: Path, broker: Listener) -> None:
    """All that was in it is there, its files lie at LOCAL, what waited is announced, and the new calls work on it."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript("PRAGMA journal_mode = WAL; " + OLD)
    opened = Did("group.sphenix", "OPEN")

    for _ in range(2):
        local = LocalCatalog(path, broker.announce, clock=lambda: NOW)

    a_file = file(events=3)
    assert [(each.did, each.state) for each in local.datasets()] == [
        (opened, DatasetState.OPEN),
        (RUN, DatasetState.CLOSED),
    ]
    assert local.files(RUN) == [a_file]
    assert local.replicas([RUN]) == {a_file.did: [Replica(a_file.did, "LOCAL", "/data/a.root", 10)]}
    known = local.metadata([RUN])[RUN]
    assert (known["run_number"], known["length"], known["did_type"]) == (21615, 1, "DATASET")
    assert [entry.did for entry in local.closed_since(NOW - timedelta(days=1))] == [RUN]
    assert broker.types == ["close"]
    local.attach(opened, [FileEntry(Did("group.sphenix", "b.root"), "/b", 5, "00000001", md5="0" * 32)], "TAPE")
    local.add_container(BOX)
    assert local.enclose(BOX, [RUN, opened]) == 2
    assert len(local.replicas([BOX])) == 2


def test_an_upgrade_that_is_cut_off_is_made_again(path: Path, broker: Listener) -> None:
    """Nothing of it stays, so that the next who opens the catalog finds it as it was."""
    with closing(sqlite3.connect(path)) as db:
        db.executescript(OLD)
        db.execute("CREATE VIEW replica AS SELECT 1")  # in the way of one of the new tables

    with pytest.raises(CatalogUnavailable):
        LocalCatalog(path, broker.announce)

    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP VIEW replica")
    assert LocalCatalog(path, broker.announce).files(RUN) == [file(events=3)]


def test_rses_are_there_when_they_are_used(local: LocalCatalog) -> None:
    """Files lie at LOCAL unless it is said, and at any RSE of a proper name; at each they have one place, the first."""
    local.add_dataset(RUN)
    local.attach(RUN, [file()])

    assert local.register([FileEntry(file().did, "/tape/a.root", 10, "0a1b2c3d")], "BNL-TAPE_2") == 1
    assert local.register([FileEntry(file().did, "/other/a.root", 10, "0a1b2c3d")], "BNL-TAPE_2") == 0

    copies = {copy.rse: copy.pfn for copy in local.replicas([RUN])[file().did]}
    assert copies == {"LOCAL": "/data/a.root", "BNL-TAPE_2": "/tape/a.root"}
    assert local.files(RUN) == [file()]
    for name in ("tape", "A B", "-A", "A--B", "", "A" * 256):
        with pytest.raises(RseNotFound):
            local.attach(RUN, [file()], name)


def test_local_is_there_from_the_beginning(local: LocalCatalog) -> None:
    """An empty catalog has an RSE to ask for."""
    assert local.replicas([RUN], "LOCAL") == local.replicas([RUN], "*") == {}


def test_a_file_lies_somewhere(local: LocalCatalog) -> None:
    """A file without a place is refused."""
    with pytest.raises(InvalidPfn, match=r"a\.root"):
        local.register([FileEntry(file().did, "", 10, "0a1b2c3d")])

    assert local.registered([file().did]) == {}


@pytest.mark.parametrize("key", ["a b", "1st", "-", "a" * 256])
def test_a_key_of_metadata_is_a_word(local: LocalCatalog, key: str) -> None:
    """Other keys are refused, when a dataset is made too: then there is none."""
    local.add_dataset(RUN)

    with pytest.raises(CatalogError, match="is no key"):
        local.set_metadata(RUN, key, 1)
    with pytest.raises(CatalogError, match="is no key"):
        local.add_dataset(Did("group.sphenix", "OTHER"), {key: 1})

    assert [entry.did for entry in local.datasets()] == [RUN]


def test_a_value_of_metadata_is_a_text_a_number_or_a_truth(local: LocalCatalog) -> None:
    """Others are refused; None is as if it had not been given."""
    with pytest.raises(CatalogError, match="beam"):
        local.add_dataset(RUN, {"beam": ["Au", "Au"]})

    local.add_dataset(RUN, {"beam": None})

    assert "beam" not in local.metadata([RUN])[RUN]


def test_datasets_and_containers_are_erased_by_hand(local: LocalCatalog, broker: Listener) -> None:
    """It is announced; what was in them stays, and what held them holds them no more."""
    outer = Did("group.sphenix", "OUTER")
    local.add_dataset(RUN)
    for container in (BOX, outer):
        local.add_container(container)
    local.attach(RUN, [file()])
    local.enclose(BOX, [RUN])
    local.enclose(outer, [BOX])

    local.erase(BOX)

    assert local.children(outer) == []
    assert local.containers() == [outer]
    assert local.files(RUN) == [file()]
    local.erase(RUN)
    assert local.datasets() == []
    assert local.registered([file().did])
    for gone in (RUN, BOX, file().did):
        with pytest.raises(DidNotFound, match=gone.name):
            local.erase(gone)
    assert broker.types[-2:] == ["erase", "erase"]


def test_what_has_expired_is_erased_once(path: Path, broker: Listener) -> None:
    """Every sweep erases what has outlived its lifetime by then, and announces what waits even if there is nothing."""
    now = NOW
    local = LocalCatalog(path, broker.announce, clock=lambda: now)
    for days in (1, 2):
        local.add_dataset(Did("group.sphenix", f"D-{days}"), lifetime=timedelta(days=days))
    left = []
    for _ in range(3):
        local.sweep()
        local.sweep()
        left.append(len(local.datasets()))
        now += timedelta(days=1, hours=1)
    broker.patience = len(broker.frames)
    local.add_dataset(RUN)
    broker.patience = 100

    local.sweep()

    assert left == [2, 1, 0]
    assert broker.types == ["create_dts", "create_dts", "erase", "erase", "create_dts"]


def test_a_sweep_waits_for_a_catalog_that_is_away(path: Path, local: LocalCatalog) -> None:
    """It is said once, and done when the file is back."""
    local.add_dataset(RUN, lifetime=timedelta(seconds=-1))
    away = path.rename(path.with_name("elsewhere"))

    with structlog.testing.capture_logs() as logs:
        local.sweep()
        local.sweep()
    away.rename(path)
    local.sweep()

    assert [entry["event"] for entry in logs] == ["announcement.failed"]
    assert local.datasets() == []


def test_containers_are_listed_by_pattern(local: LocalCatalog) -> None:
    """Containers, and they alone, by name."""
    local.add_dataset(RUN)
    for name in ("B", "A", "C1"):
        local.add_container(Did("group.sphenix", name))

    assert [did.name for did in local.containers()] == ["A", "B", "C1"]
    assert [did.name for did in local.containers("group.*", "C?")] == ["C1"]
    assert local.containers("nobody") == []


def test_closed_datasets_come_some_at_a_time(path: Path, local: LocalCatalog) -> None:
    """However many they are; each once, even if others close meanwhile; and a catalog that goes says so in between."""
    moment = f"{NOW:%Y-%m-%d %H:%M:%S.%f}"
    rows = [("group.sphenix", f"D-{number:04}", "root", 0, moment, moment) for number in range(1001)]
    with closing(sqlite3.connect(path)) as db, db:  # one by one through the catalog would take a minute
        db.executemany(
            "INSERT INTO dataset (scope, name, account, is_open, created_at, closed_at) VALUES (?, ?, ?, ?, ?, ?)", rows
        )
    reading = local.closed_since(NOW)
    begun = [next(reading)]
    local.add_dataset(RUN)
    local.close(RUN)

    names = [entry.did.name for entry in [*begun, *reading]]

    assert sorted(names) == [*(f"D-{number:04}" for number in range(1001)), RUN.name]
    again = local.closed_since(NOW)
    next(again)
    path.rename(path.with_name("elsewhere"))
    with pytest.raises(CatalogUnavailable):
        list(again)


def test_frames_look_like_those_of_hermes(local: LocalCatalog, broker: Listener) -> None:
    """Headers that matter are those of the real ones, and the body is written as Python's json does it."""
    local.add_dataset(RUN)
    local.close(RUN)

    for headers, body in broker.frames:
        real = next(frame for frame in FRAMES if frame["headers"]["event_type"] == headers["event_type"])
        assert headers.items() <= real["headers"].items()
        assert body.decode() == json.dumps(json.loads(body))
        assert real["body"] == json.dumps(json.loads(real["body"]))


def test_no_two_events_have_one_moment(local: LocalCatalog, broker: Listener) -> None:
    """The moments of the events strictly increase, however fast the changes come."""
    local.add_dataset(RUN)
    local.add_container(BOX)
    local.enclose(BOX, [RUN])
    for _ in range(10):
        local.close(RUN)
        local.reopen(RUN)

    moments = [event["created_at"] for event in broker.events]
    assert len(moments) == 23
    assert all(earlier < later for earlier, later in pairwise(moments))


def test_a_catalog_whose_file_has_gone_is_away_and_not_empty(path: Path, local: LocalCatalog) -> None:
    """Nothing is said to be unknown, and no new file is made; when the file is back, so is what was in it."""
    local.add_dataset(RUN)
    away = path.rename(path.with_name("elsewhere"))

    with pytest.raises(CatalogUnavailable, match="cannot be used for now"):
        local.metadata([RUN])

    assert not path.exists()
    away.rename(path)
    assert set(local.metadata([RUN])) == {RUN}


def test_moments_are_utc_without_a_zone(local: LocalCatalog, broker: Listener) -> None:
    """An event's moment is written as Rucio writes it, and is the moment that the catalog keeps."""
    local.add_dataset(RUN)

    assert broker.events[0]["created_at"] == "2026-11-22 01:13:40.292656"
    assert local.dataset(RUN).created_at == NOW


def test_a_clock_that_goes_back_does_no_harm(path: Path, broker: Listener) -> None:
    """The moments increase even when the clock of the machine is put back, or another process has a slow one."""
    LocalCatalog(path, broker.announce, clock=lambda: NOW).add_dataset(RUN)

    LocalCatalog(path, broker.announce, clock=lambda: NOW - timedelta(hours=1)).close(RUN)

    assert [event["created_at"][-6:] for event in broker.events] == ["292656", "292657"]


def test_a_change_stands_when_it_cannot_be_announced(local: LocalCatalog, broker: Listener) -> None:
    """While the broker is down changes succeed, it is logged once, and the events wait."""
    broker.patience = 0

    with structlog.testing.capture_logs() as logs:
        local.add_dataset(RUN)
        local.close(RUN)

    assert local.dataset(RUN).state is DatasetState.CLOSED
    assert broker.frames == []
    assert [(entry["event"], entry["log_level"]) for entry in logs] == [("announcement.failed", "warning")]


def test_waiting_events_are_announced_in_order(local: LocalCatalog, broker: Listener) -> None:
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


def test_waiting_events_survive_a_crash(path: Path, local: LocalCatalog, broker: Listener) -> None:
    """Events that could not be announced are announced when the catalog is opened again."""
    broker.patience = 0
    local.add_dataset(RUN)
    broker.patience = 100

    LocalCatalog(path, broker.announce)

    assert broker.types == ["create_dts"]


def test_an_unsure_announcement_is_made_again(path: Path, local: LocalCatalog, broker: Listener) -> None:
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


def test_threads_share_a_catalog(local: LocalCatalog, broker: Listener) -> None:
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
from orchestrator.rucio.embedded.catalog import LocalCatalog
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
            LocalCatalog(place, Listener().announce)


def test_a_file_describes_itself(tmp_path: Path) -> None:
    """A file on disk is described by its name, place, size and adler32 as the catalog wants them."""
    place = tmp_path / "a.root"
    place.write_bytes(b"Wikipedia")
    (tmp_path / "empty").touch()

    assert describe_file(place, "user.me") == FileEntry(Did("user.me", "a.root"), str(place), 9, "11e60398")
    assert describe_file(tmp_path / "empty", "user.me").adler32 == "00000001"
