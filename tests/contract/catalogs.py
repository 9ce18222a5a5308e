"""Desks for the contract of catalogs: each is one catalog, with what a test needs around it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property, partial
from itertools import product
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from orchestrator.rucio.client.access import Access
from orchestrator.rucio.client.catalog import RucioCatalog
from orchestrator.rucio.embedded.catalog import LocalCatalog
from orchestrator.rucio.embedded.disk import path_of
from orchestrator.rucio.port import Catalog, FileEntry
from schemas.did import Did
from tests.contract.announcements import Listener
from tests.services.catalog import FakeCatalog, Faulty
from tests.services.rucio import Login, Rse, Rucio


@dataclass
class Desk:
    """A catalog that may be full of others' things: a test uses DIDs of `desk.did` or of a `new_scope` only."""

    catalog: Catalog
    account: str
    #: Two RSEs; files are registered at the first unless it is said. Neither is deterministic.
    rses: tuple[str, str]
    #: Where a file of that name may lie at an RSE.
    pfn: Callable[[str, str], str]
    #: Makes a scope of that name.
    add_scope: Callable[[str], None]
    #: Lets so many seconds pass, for the catalog at least.
    pass_time: Callable[[float], None]
    #: Has the catalog erase what has outlived its lifetime.
    sweep: Callable[[], object]
    #: Has it end rules and delete copies as well.
    leave: Callable[[], object]
    #: A file of that name at an RSE, on this machine.
    path: Callable[[str, str], Path]
    #: A rule of somebody else, perhaps locked, on a DID at an RSE.
    add_foreign_rule: Callable[[Did, str, bool], object]
    #: Locks a rule, or unlocks it.
    lock_rule: Callable[[str, bool], object]
    #: Says that the copy of a file at an RSE cannot be read now; None where all can be.
    take_away: Callable[[Did, str], object] | None
    #: The bodies of all announcements; None if they cannot be heard.
    hear: Callable[[], Sequence[dict[str, Any]]] | None

    def new_scope(self) -> str:
        """A scope that nobody uses, as long as one can be."""
        name = f"t.{uuid4().hex[:23]}"
        self.add_scope(name)
        return name

    @cached_property
    def scope(self) -> str:
        return self.new_scope()

    def did(self, name: str) -> Did:
        return Did(self.scope, name)

    def file(self, name: str = "a.root", size: int = 10, adler32: str = "0a1b2c3d", **more: Any) -> FileEntry:
        """A file that lies at the first RSE, or at `rse`."""
        rse = more.pop("rse", self.rses[0])
        return FileEntry(self.did(name), self.pfn(rse, name), size, adler32, **more)

    def laid(self, name: str = "a.root", size: int = 10, **more: Any) -> FileEntry:
        """As `file`, and it is there."""
        path = self.path(more.get("rse", self.rses[0]), name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)
        return self.file(name, size, **more)

    def events(self) -> Sequence[dict[str, Any]]:
        """What was announced of this test's scope, oldest first."""
        assert self.hear is not None, "this desk hears nothing"
        heard = [event for event in self.hear() if event["payload"].get("scope") == self.scope]
        return sorted(heard, key=lambda event: str(event["created_at"]))

    def expect(self, *types: str) -> None:
        """These events of this test's scope were announced, and no others, if that can be heard."""
        if self.hear is not None:
            assert [event["event_type"] for event in self.events()] == list(types)


@dataclass
class Hands:
    """A clock that moves when it is told to."""

    now: datetime = field(default_factory=lambda: datetime(2026, 11, 22, 1, 13, 40, 292656, tzinfo=UTC))

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def _embedded(request: pytest.FixtureRequest) -> Desk:
    path: Path = request.getfixturevalue("tmp_path")
    listener, hands = Listener(), Hands()
    catalog = LocalCatalog(path / "catalog.db", listener.announce, clock=lambda: hands.now)
    other = LocalCatalog(path / "catalog.db", listener.announce, "someone", clock=lambda: hands.now)

    def add_foreign_rule(did: Did, rse: str, locked: bool) -> None:
        other.add_rule(did, rse)
        rule = next(each for each in other.rules([did])[did] if each.account == "someone")
        other.lock_rule(rule.id, locked)

    return Desk(
        catalog=catalog,
        account="root",
        rses=("LOCAL", "TAPE"),
        pfn=lambda rse, name: str(path / rse.lower() / name),
        add_scope=lambda name: None,
        pass_time=hands.move,
        sweep=catalog.sweep,
        leave=catalog.sweep,
        path=lambda rse, name: path / rse.lower() / name,
        add_foreign_rule=add_foreign_rule,
        lock_rule=catalog.lock_rule,
        take_away=None,
        hear=lambda: listener.events,
    )


def _fake(wrapped: Callable[[Catalog], Catalog], request: pytest.FixtureRequest) -> Desk:
    path: Path = request.getfixturevalue("tmp_path")
    hands = Hands()
    rses = {"DISK": f"file://{path}/disk/", "TAPE": f"file://{path}/tape/"}
    fake = FakeCatalog(scopes=(), rses=rses, account="producer", clock=lambda: hands.now)
    fake.delete = _unlink
    return Desk(
        catalog=wrapped(fake),
        account="producer",
        rses=("DISK", "TAPE"),
        pfn=lambda rse, name: rses[rse] + name,
        add_scope=fake.add_scope,
        pass_time=hands.move,
        sweep=fake.sweep,
        leave=fake.sweep,
        path=lambda rse, name: path / rse.lower() / name,
        add_foreign_rule=lambda did, rse, locked: fake.add_foreign_rule("someone", did, rse, locked=locked),
        lock_rule=fake.lock_rule,
        take_away=lambda did, rse: fake.declare(did, rse, readable=False),
        hear=lambda: fake.events,
    )


def _unlink(pfn: str) -> None:
    path = path_of(pfn)
    assert path is not None
    path.unlink()


@cache
def furnished(server: Rucio) -> tuple[Login, dict[str, Rse]]:
    """Made once for each server: an account that may reopen and register, and places for files."""
    names = ("CONTRACT-DISK", "CONTRACT-TAPE")
    rses = {name: server.catalog.add_rse(name, deterministic=False) for name in names}
    login = server.catalog.add_account("producer", admin=True)
    for account, name in product((login.account, "root"), names):
        server.catalog.allow(account, name)
    return login, rses


def access_to(server: Rucio, login: Login, tokens: Path, **more: Any) -> Access:
    """How the door gets to the server of the tests, with a password."""
    given = {
        "host": server.url,
        "auth_host": server.url,
        "account": login.account,
        "auth_type": "userpass",
        "credentials": {"username": login.account, "password": login.password},
        "ca_cert": None,
        "vo": "def",
        "tokens": tokens,
        "timeout": (5.0, 60.0),
    }
    return Access(**{**given, **more})


def _rucio(request: pytest.FixtureRequest) -> Desk:
    server: Rucio = request.getfixturevalue("rucio")
    login, rses = furnished(server)
    path: Path = request.getfixturevalue("tmp_path")
    disk, tape = rses
    catalog = RucioCatalog(access_to(server, login, path / "tokens"), rse=disk)
    request.addfinalizer(catalog.close_connections)
    return Desk(
        catalog=catalog,
        account=login.account,
        rses=(disk, tape),
        pfn=lambda rse, name: f"file://localhost{rses[rse].folder}/{name}",
        add_scope=lambda name: server.catalog.add_scope(name, login.account),
        pass_time=time.sleep,
        sweep=lambda: server.run_daemon("undertaker"),
        leave=server.let_leave,
        path=lambda rse, name: rses[rse].folder / name,
        add_foreign_rule=server.catalog.add_rule,
        lock_rule=server.catalog.lock_rule,
        take_away=lambda did, rse: server.client().update_replicas_states(rse, [{**did._asdict(), "state": "U"}]),
        hear=None,
    )


#: How each catalog comes to its desk.
CATALOGS: dict[str, Callable[[pytest.FixtureRequest], Desk]] = {
    "embedded": _embedded,
    "fake": partial(_fake, lambda fake: fake),
    "faulty": partial(_fake, Faulty),
    "rucio": _rucio,
}
#: Those in which scopes and RSEs must be made before they are used.
STRICT = [name for name in CATALOGS if name != "embedded"]
#: Those whose announcements a test can hear.
AUDIBLE = ["embedded", "fake", "faulty"]
