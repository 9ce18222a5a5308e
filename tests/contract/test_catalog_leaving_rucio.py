"""How datasets and copies leave a real Rucio: where it is strange, and where calls fail."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy
from rucio.common.exception import ReplicaIsLocked, ReplicaNotFound

from orchestrator.clock import utc_now
from orchestrator.rucio.client.access import Access
from orchestrator.rucio.client.calls import Calls
from orchestrator.rucio.client.catalog import RucioCatalog
from orchestrator.rucio.client.holding import mark_copies
from orchestrator.rucio.port import FileEntry, NotPermitted
from schemas.did import Did
from tests.contract.catalogs import access_to, furnished
from tests.contract.rucio_wire import Wire, wire_to
from tests.services.postgres import Postgres
from tests.services.rucio import Login, Rse, Rucio

NOW, LONG = timedelta(), timedelta(days=1)


@pytest.fixture
def login(rucio: Rucio) -> Login:
    return furnished(rucio)[0]


@pytest.fixture
def disk(rucio: Rucio) -> Rse:
    return next(iter(furnished(rucio)[1].values()))


@pytest.fixture
def scope(rucio: Rucio, login: Login) -> str:
    """A scope for one test."""
    name = f"l.{uuid4().hex[:20]}"
    rucio.catalog.add_scope(name, login.account)
    return name


@pytest.fixture
def wire(rucio: Rucio) -> Iterator[Wire]:
    with wire_to(rucio.port) as wire:
        yield wire


@pytest.fixture
def access(wire: Wire, rucio: Rucio, login: Login, tmp_path: Path) -> Access:
    return access_to(rucio, login, tmp_path / "tokens", host=wire.url, auth_host=wire.url)


@pytest.fixture
def catalog(access: Access, disk: Rse) -> Iterator[RucioCatalog]:
    """The door at the end of the wire, which does not wait between tries."""
    with_wire = RucioCatalog(access, rse=disk.name, calls=Calls(access, pause=lambda seconds: None))
    yield with_wire
    with_wire.close_connections()


@pytest.fixture
def run(catalog: RucioCatalog, scope: str) -> Did:
    """A dataset, open and empty."""
    did = Did(scope, "RUN-00021615")
    catalog.add_dataset(did)
    return did


def filled(catalog: RucioCatalog, disk: Rse, did: Did, *names: str) -> list[FileEntry]:
    """Files in a dataset. They are on the disk."""
    (disk.folder / did.scope).mkdir(exist_ok=True)
    files = []
    for name in names:
        path = disk.folder / did.scope / name
        path.write_bytes(b"x" * 10)
        files.append(FileEntry(Did(did.scope, name), f"file://localhost{path}", 10, "0a1b2c3d"))
    catalog.attach(did, files)
    return files


def test_a_lost_answer_is_no_harm(catalog: RucioCatalog, wire: Wire, run: Did, disk: Rse) -> None:
    """Whatever call is made again, it ends as if it had been made once."""
    files = filled(catalog, disk, run, "a.root", "b.root")
    box = Did(run.scope, "BOX")
    catalog.add_container(box)
    catalog.enclose(box, [run])
    wire.plan("/rules/", "lose", "drop")
    catalog.add_rule(run, disk.name, LONG)
    [rule] = catalog.rules([run])[run]
    assert rule.expires_at is not None
    wire.plan(f"/rules/{rule.id}", 503, "lose")
    catalog.set_rule_lifetime(rule.id, None)
    wire.plan("/meta", "lose", 502)
    catalog.set_lifetime(run, LONG)
    wire.plan("/BOX/dids", "cut", "lose")
    assert catalog.detach(box, [run]) == 1
    wire.plan("/RUN-00021615/dids", "drop", "lose")
    assert catalog.detach(run, [files[0].did]) == 1
    wire.plan("/tombstone", "lose", "lose")
    assert catalog.set_tombstones([files[0].did, files[1].did], disk.name) == [file.did for file in files]

    assert wire.plans == []
    assert [each.expires_at for each in catalog.rules([run])[run]] == [None]
    assert catalog.dataset(run).expires_at is not None
    assert catalog.parents([run, files[0].did, files[1].did]) == {run: [], files[0].did: [], files[1].did: [run]}


def test_a_rule_that_somebody_deleted_holds_for_an_hour(
    catalog: RucioCatalog, rucio: Rucio, run: Did, disk: Rse
) -> None:
    """Rucio's deletion of a rule is only a date: until then it is told, and its copies cannot be marked."""
    [file] = filled(catalog, disk, run, "a.root")
    catalog.add_rule(run, disk.name)
    [rule] = catalog.rules([run])[run]
    rucio.client().delete_replication_rule(rule.id)

    rucio.let_leave()

    [deleted] = catalog.rules([run])[run]
    assert deleted.expires_at is not None
    assert timedelta(minutes=55) < deleted.expires_at - utc_now() < timedelta(minutes=61)
    assert catalog.set_tombstones([file.did], disk.name) == [file.did]
    catalog.set_rule_lifetime(rule.id, NOW)
    rucio.let_leave()
    assert catalog.rules([run])[run] == []
    assert catalog.set_tombstones([file.did], disk.name) == []


def test_a_rule_that_ended_leaves_its_copies_until_there_is_need(
    catalog: RucioCatalog, rucio: Rucio, run: Did, disk: Rse
) -> None:
    """Unless it is ours and was given a lifetime when it was added: then they leave at once."""
    [file] = filled(catalog, disk, run, "a.root")
    catalog.add_rule(run, disk.name)
    [rule] = catalog.rules([run])[run]
    catalog.set_rule_lifetime(rule.id, NOW)
    rucio.let_leave()
    assert len(catalog.replicas([file.did])[file.did]) == 1

    catalog.add_rule(run, disk.name, NOW)
    rucio.let_leave()

    assert catalog.registered([file.did]) == {}


def test_what_cannot_be_deleted_is_said_to_be(catalog: RucioCatalog, rucio: Rucio, run: Did, disk: Rse) -> None:
    """Rucio's protocol for disks swallows the error: the catalog has the copy no more, and the disk has it still."""
    [file] = filled(catalog, disk, run, "a.root")
    path = disk.folder / run.scope / "a.root"
    path.unlink()
    path.mkdir()
    catalog.set_tombstones([file.did], disk.name)

    rucio.let_leave()

    assert catalog.registered([file.did]) == {}
    assert path.exists()


def test_the_undertaker_comes_twice_to_what_is_in_a_container(
    catalog: RucioCatalog, rucio: Rucio, run: Did, disk: Rse
) -> None:
    """In its first round it takes it out of the container, and says that it erased it, and all that came with it."""
    box, other = Did(run.scope, "BOX"), Did(run.scope, "OTHER")
    filled(catalog, disk, run, "a.root")
    catalog.add_container(box)
    catalog.add_dataset(other)
    catalog.enclose(box, [run])
    for did in (run, other):
        catalog.set_lifetime(did, NOW)

    rucio.run_daemon("undertaker")

    assert catalog.children(box) == []
    assert set(catalog.metadata([run, other])) == {run, other}
    assert catalog.files(run) == []
    rucio.run_daemon("undertaker")
    assert catalog.metadata([run, other]) == {}


def test_a_dataset_that_lost_a_file_leaves_its_containers(
    catalog: RucioCatalog, rucio: Rucio, run: Did, disk: Rse
) -> None:
    """Though there are others in it. If it is closed, the server goes on counting the file that went."""
    box, outer = Did(run.scope, "BOX"), Did(run.scope, "OUTER")
    files = filled(catalog, disk, run, "a.root", "b.root")
    for container, child in ((box, run), (outer, box)):
        catalog.add_container(container)
        catalog.enclose(container, [child])
    catalog.close(run)
    catalog.set_tombstones([files[0].did], disk.name)

    rucio.let_leave()

    assert [each.did for each in catalog.files(run)] == [files[1].did]
    assert catalog.dataset(run).length == 2
    assert catalog.children(box) == catalog.children(outer) == []


@pytest.fixture
def user(rucio: Rucio, access: Access, disk: Rse, tmp_path: Path) -> Iterator[RucioCatalog]:
    """The door for an account that is no administrator. Its own scope is called like it."""
    login = rucio.catalog.add_account(f"user{uuid4().hex[:12]}")
    rucio.catalog.add_scope(login.account, login.account)
    credentials = {"username": login.account, "password": login.password}
    theirs = RucioCatalog(
        replace(access, account=login.account, credentials=credentials, tokens=tmp_path / "their-tokens"),
        rse=disk.name,
    )
    yield theirs
    theirs.close_connections()


def test_who_may_not_changes_nothing(
    user: RucioCatalog, catalog: RucioCatalog, rucio: Rucio, run: Did, disk: Rse
) -> None:
    """Neither what is others', nor what only administrators may: tombstones, and to end a rule, even one's own."""
    files = filled(catalog, disk, run, "a.root", "b.root")
    own = Did(user.account, "RUN")
    user.add_dataset(own)
    with pytest.raises(NotPermitted, match="room"):
        user.add_rule(own, disk.name)
    rucio.catalog.allow(user.account, disk.name)
    user.add_rule(own, disk.name, LONG)
    [rule] = user.rules([own])[own]

    for call in (
        lambda: user.set_tombstones([file.did for file in files], disk.name),
        lambda: user.set_rule_lifetime(rule.id, NOW),
        lambda: user.set_lifetime(run, NOW),
        lambda: user.detach(run, [files[0].did]),
    ):
        with pytest.raises(NotPermitted, match=r"can not .*; whoever runs the catalog gives permissions"):
            call()

    rucio.let_leave()
    assert catalog.dataset(run).length == len(catalog.registered(file.did for file in files)) == 2
    assert user.rules([own])[own] == [rule]
    user.set_lifetime(own, NOW)


@pytest.fixture
def closed(rucio: Rucio, login: Login) -> Rse:
    """A place at which nothing may be written."""
    rse = rucio.catalog.add_rse(f"FULL{uuid4().hex[:6].upper()}", deterministic=False)
    rucio.catalog.allow(login.account, rse.name)
    rucio.client().update_rse(rse.name, {"availability_write": False})
    return rse


def test_copies_are_held_where_nothing_may_be_written(
    catalog: RucioCatalog, rucio: Rucio, run: Did, closed: Rse
) -> None:
    """A full disk is closed to writing: what is marked there is saved all the same, and nothing is transferred."""
    names = ("a.root", "b.root")
    files = [FileEntry(Did(run.scope, name), closed.pfn(f"{run.scope}/{name}"), 10, "0a1b2c3d") for name in names]
    catalog.attach(run, files, closed.name)
    assert catalog.set_tombstones([file.did for file in files], closed.name) == []

    catalog.add_rule(run, closed.name)
    catalog.add_rule(run, closed.name)

    assert catalog.set_tombstones([file.did for file in files], closed.name) == [file.did for file in files]
    [rule] = rucio.client().list_did_rules(*run)
    assert (rule["state"], rule["locks_ok_cnt"], rule["locks_replicating_cnt"]) == ("OK", 2, 0)


def test_an_account_that_may_not_change_rules_can_hold(
    catalog: RucioCatalog, rucio: Rucio, run: Did, disk: Rse, tmp_path: Path
) -> None:
    """What its own rule holds already it holds; where that rule ends, the files can be held one by one."""
    files = [file.did for file in filled(catalog, disk, run, "a.root", "b.root")]
    box = Did(run.scope, "BOX")
    catalog.add_dataset(box)
    login = rucio.catalog.add_account(f"user{uuid4().hex[:6]}")
    rucio.catalog.allow(login.account, disk.name)
    user = RucioCatalog(access_to(rucio, login, tmp_path / "user"), rse=disk.name)
    user.add_rule(box, disk.name)
    user.add_rule(run, disk.name, LONG)

    user.add_rule(box, disk.name)
    with pytest.raises(NotPermitted):
        user.add_rule(run, disk.name)
    for did in files:
        user.add_rule(did, disk.name)
    user.close_connections()

    found = catalog.rules([box, *files])
    assert [[(rule.account, rule.expires_at) for rule in found[did]] for did in found] == [[(login.account, None)]] * 3


def test_thousands_of_copies_are_marked(catalog: RucioCatalog, rucio: Rucio, run: Did, disk: Rse) -> None:
    """Those that are held, among them the first and the last, are told; all others are marked."""
    names = [f"{number:04}.root" for number in range(1100)]
    files = [FileEntry(Did(run.scope, name), f"file://localhost{disk.folder}/{name}", 1, "00000001") for name in names]
    catalog.register(files)
    held = [files[number].did for number in (0, 249, 250, 999, 1000, 1099)]
    for did in held:
        rucio.catalog.add_rule(did, disk.name)

    assert catalog.set_tombstones([file.did for file in files], disk.name) == held


class Replicas:
    """A server that says no otherwise than ours does."""

    def __init__(self, held: Sequence[str], gone: Sequence[str]) -> None:
        self._held, self._gone = held, gone
        self.marked: set[str] = set()

    def set_tombstone(self, replicas: Sequence[dict[str, Any]]) -> None:
        for each in replicas:
            if each["name"] in self._held:
                raise ReplicaIsLocked("it is locked")
            if each["name"] in self._gone:
                raise ReplicaNotFound("it is not there")
            self.marked.add(each["name"])


def test_copies_are_marked_one_by_one_where_the_server_does_not_say_which_is_held() -> None:
    """All that no rule holds."""
    client: Any = Replicas(held="bde", gone="cf")

    held = mark_copies(client, [Did("t", name) for name in "abcdefg"], "DISK")

    assert [did.name for did in held] == ["b", "d", "e"]
    assert client.marked == {"a", "g"}


#: Walks through all that there is, and says how many there were, and by how much the process had to grow.
WALK = """
import re, sys
from pathlib import Path
from orchestrator.rucio.client.access import Access
from orchestrator.rucio.client.catalog import RucioCatalog

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

url, password, tokens, scope = sys.argv[1:]
credentials = {"username": "root", "password": password}
access = Access(url, url, "root", "userpass", credentials, None, "def", Path(tokens))
catalog = RucioCatalog(access)
next(catalog.walk(scope, "D-00000000"))
before = peak()
print(sum(1 for entry in catalog.walk(scope, "D-*")), peak() - before)
"""

#: So many datasets are walked through, and by how many kB a process may grow meanwhile. As entries they take 30 MB.
MANY, ROOM = 30_000, 16_000


@pytest.mark.slow
def test_a_walk_takes_no_more_room_the_longer_it_is(postgres: Postgres, rucio_template: str, tmp_path: Path) -> None:
    """Names are held, of one scope at a time, and nothing else."""
    database = postgres.create_database("rucio_walk", rucio_template)
    with Rucio(tmp_path / "rucio", database) as server:
        server.catalog.add_scope("many")
        server.client().add_dataset("many", "D-00000000")
        server.client().close("many", "D-00000000")
        multiply(database, MANY)
        arguments = [server.url, server.password, str(tmp_path / "tokens"), "many"]
        walked = subprocess.run(
            [sys.executable, "-c", WALK, *arguments], capture_output=True, text=True, timeout=300, check=True
        )
    postgres.drop_database("rucio_walk")

    count, grown = map(int, walked.stdout.split())
    assert count == MANY
    assert grown < ROOM


def multiply(database: str, size: int) -> None:
    """Copy the one dataset within Rucio's own database: by its calls it would take minutes."""
    engine = sqlalchemy.create_engine(database)
    with engine.begin() as connection:
        columns = [each["name"] for each in sqlalchemy.inspect(connection).get_columns("dids")]
        values = ", ".join("'D-' || lpad(n::text, 8, '0')" if column == "name" else column for column in columns)
        connection.exec_driver_sql(
            f"INSERT INTO dids ({', '.join(columns)}) SELECT {values} FROM dids, generate_series(1, {size - 1}) AS n"
        )
        connection.exec_driver_sql("ANALYZE dids")  # as a server has that did not get them all at once
    engine.dispose()
