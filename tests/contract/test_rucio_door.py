"""What only the door to a real Rucio server has: the wire, tokens, permissions, and where the server is strange."""

from __future__ import annotations

import shutil
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from orchestrator.clock import utc_now
from orchestrator.rucio.client.access import Access
from orchestrator.rucio.client.breaker import Breaker
from orchestrator.rucio.client.calls import Calls
from orchestrator.rucio.client.catalog import RucioCatalog
from orchestrator.rucio.client.closing import Closing
from orchestrator.rucio.client.reading import Reading
from orchestrator.rucio.port import (
    CatalogError,
    CatalogUnavailable,
    DatasetClosed,
    DatasetState,
    DidExists,
    FileDiffers,
    FileEntry,
    InvalidDid,
    InvalidPfn,
    NotPermitted,
    Replica,
    RseNotFound,
    ScopeNotFound,
)
from orchestrator.settings import load
from orchestrator.wiring import Muleteer
from schemas.did import Did
from tests.contract.catalogs import access_to, furnished
from tests.contract.rucio_wire import Wire, wire_to
from tests.services.rucio import Login, Rse, Rucio

MD5 = "0123456789abcdef0123456789abcdef"
GUID = "5f0c1e2a-9d3b-4c4d-8e5f-60718293a4b5"


@pytest.fixture
def login(rucio: Rucio) -> Login:
    """An account that may register files and reopen datasets."""
    return furnished(rucio)[0]


@pytest.fixture
def disk(rucio: Rucio) -> Rse:
    """A place for files that does not know by itself where they lie."""
    return next(iter(furnished(rucio)[1].values()))


@pytest.fixture
def scope(rucio: Rucio, login: Login) -> str:
    """A scope for one test."""
    name = f"d.{uuid4().hex[:20]}"
    rucio.catalog.add_scope(name, login.account)
    return name


@pytest.fixture
def run(scope: str) -> Did:
    """The name of a dataset that is not there yet."""
    return Did(scope, "RUN-00021615")


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
def user(rucio: Rucio, access: Access, disk: Rse, tmp_path: Path) -> RucioCatalog:
    """The door for an account that may do nothing in scopes of others. Its own scope is called like it."""
    login = rucio.catalog.add_account(f"user{uuid4().hex[:12]}")
    rucio.catalog.add_scope(login.account, login.account)
    credentials = {"username": login.account, "password": login.password}
    theirs = replace(access, account=login.account, credentials=credentials, tokens=tmp_path / "their-tokens")
    return RucioCatalog(theirs, rse=disk.name)


def file(disk: Rse, scope: str, name: str = "a.root", size: int = 10, adler32: str = "0a1b2c3d") -> FileEntry:
    return FileEntry(Did(scope, name), f"file://localhost{disk.folder}/{scope}/{name}", size, adler32)


# The wire.


def test_what_changes_nothing_twice_is_asked_again(catalog: RucioCatalog, wire: Wire, run: Did, disk: Rse) -> None:
    """Three tries each, whether nobody hears, nobody answers, a proxy says 503, or half of the answer comes."""
    catalog.add_dataset(run)
    wire.plan("/bulkmeta", "drop", 503)
    wire.plan("/replicas", "lose", 502)
    wire.plan("/attachments", "lose", "drop")
    wire.plan("/status", "lose")

    assert catalog.attach(run, [file(disk, run.scope)]) == 1
    catalog.close(run)
    wire.plan("/bulkmeta", "cut", 504)
    wire.plan("/files", "cut", "cut")

    assert [entry.did.name for entry in catalog.files(run)] == ["a.root"]
    assert catalog.dataset(run).state is DatasetState.CLOSED
    assert wire.plans == []
    assert (wire.count("POST", "/attachments"), wire.count("PUT", "/status")) == (3, 2)


def test_after_three_tries_the_server_is_away(catalog: RucioCatalog, wire: Wire, run: Did) -> None:
    """No more than that, and the error says where and what."""
    wire.plan("/bulkmeta", "drop", "drop", 503, "drop")

    with pytest.raises(CatalogUnavailable, match=rf"{wire.url} is away: HTTP 503"):
        catalog.dataset(run)

    assert wire.count("POST", "/bulkmeta") == 3


def test_a_no_is_not_asked_again(user: RucioCatalog, wire: Wire) -> None:
    """What the server refuses it would refuse again; nor is that a reason to sign in anew."""
    with pytest.raises(NotPermitted, match="can not add"):
        user.add_dataset(Did("stranger", "RUN"))

    assert wire.seen == [("GET", "/auth/userpass"), ("POST", "/dids/stranger/RUN")]


@pytest.fixture(autouse=True)
def _stranger(rucio: Rucio) -> None:
    """A scope of somebody else."""
    if "stranger" not in rucio.client().list_scopes():
        rucio.catalog.add_scope("stranger")


def test_a_dataset_that_was_made_before_the_answer_was_lost_is_ours(
    catalog: RucioCatalog, wire: Wire, run: Did
) -> None:
    """It was made by us, just now, and it is as it should be: the call succeeds."""
    wire.plan(run.name, "lose")

    catalog.add_dataset(run, {"run_number": 21615}, lifetime=timedelta(days=1))

    assert catalog.metadata([run])[run]["run_number"] == 21615
    wire.plan("BOX", "lose")
    catalog.add_container(Did(run.scope, "BOX"))
    assert catalog.children(Did(run.scope, "BOX")) == []


def test_a_dataset_of_somebody_else_is_not_taken_for_ours(
    catalog: RucioCatalog, rucio: Rucio, wire: Wire, run: Did
) -> None:
    """Somebody makes it in the moment between our tries."""
    wire.before("POST", run.name, lambda: rucio.client().add_dataset(*run))
    wire.plan(run.name, "drop")

    with pytest.raises(DidExists, match=run.name):
        catalog.add_dataset(run)


@pytest.mark.parametrize("other", ["older", "filled", "closed", "other metadata"])
def test_a_dataset_that_is_not_as_it_should_be_is_not_taken_for_ours(
    catalog: RucioCatalog, wire: Wire, run: Did, disk: Rse, other: str
) -> None:
    """Our account made it, but this call cannot have."""
    catalog.add_dataset(run, {"run_number": 7} if other == "other metadata" else None)
    if other == "older":
        time.sleep(4)
    if other == "filled":
        catalog.attach(run, [file(disk, run.scope)])
    if other == "closed":
        catalog.close(run)
    wire.plan(run.name, "drop")

    with pytest.raises(DidExists, match=run.name):
        catalog.add_dataset(run, {"run_number": 8} if other == "other metadata" else None)


def test_without_a_lost_answer_what_is_there_is_there(catalog: RucioCatalog, run: Did) -> None:
    """A second creation in the same second is no success."""
    catalog.add_dataset(run)

    with pytest.raises(DidExists):
        catalog.add_dataset(run)


def test_eight_at_once_make_one_dataset(catalog: RucioCatalog, run: Did) -> None:
    """Threads share the door; one of them made it."""

    def add(_: int) -> bool:
        try:
            catalog.add_dataset(run)
        except DidExists:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(add, range(8))) == 1


def test_a_server_that_does_not_answer_is_asked_once(rucio: Rucio, access: Access, wire: Wire, run: Did) -> None:
    """It may still be at work: the same once more would not be quicker."""
    catalog = RucioCatalog(replace(access, timeout=(1.0, 0.5)))
    catalog.metadata([])
    release = threading.Event()
    wire.before("POST", "/bulkmeta", lambda: release.wait(10))

    began = time.monotonic()
    with pytest.raises(CatalogUnavailable, match="no answer within"):
        catalog.dataset(run)
    release.set()

    assert time.monotonic() - began < 3
    assert wire.count("POST", "/bulkmeta") == 1


def test_a_server_in_trouble_is_told_from_a_request_that_is_too_much(
    catalog: RucioCatalog, wire: Wire, run: Did
) -> None:
    """HTTP 500 to one request, while others are answered, will not be better later; to all of them it may."""
    catalog.add_dataset(run)

    with pytest.raises(CatalogError, match="while it answers other requests") as error:
        catalog.set_metadata(run, "provenance", "too long")
    assert not isinstance(error.value, CatalogUnavailable)

    other = Did(run.scope, "OTHER")
    with pytest.raises(CatalogError, match="while it answers other requests") as error:
        catalog.add_dataset(other, {"provenance": "too long"})
    assert not isinstance(error.value, CatalogUnavailable)
    assert catalog.metadata([other]) == {}

    wire.plan("/bulkmeta", 500, 500, 500)
    wire.plan("/accounts/whoami", 500)
    with pytest.raises(CatalogUnavailable):
        catalog.dataset(run)


def test_a_server_that_can_take_no_files_is_told_from_a_file_that_it_cannot_take(
    catalog: RucioCatalog, access: Access, wire: Wire, run: Did, disk: Rse
) -> None:
    """HTTP 500 to all of them will be better later; to one of them, while another is taken, it will not."""
    catalog.add_dataset(run)
    files = [file(disk, run.scope, f"{number}.root") for number in range(100)]
    wire.plan("/replicas", *[500] * 9)
    with pytest.raises(CatalogUnavailable, match=f"it takes no files at {disk.name}"):
        catalog.attach(run, files)
    assert (wire.plans, wire.count("POST", "/replicas")) == ([], 9)

    too_long = replace(files[5], pfn=f"file://localhost{disk.folder}/{'x' * 1100}")
    for entries in ([*files[:5], too_long], [too_long]):
        with pytest.raises(CatalogError, match="while it answers other requests") as error:
            catalog.attach(run, entries)
        assert type(error.value) is CatalogError
    with pytest.raises(CatalogUnavailable):  # nobody knows
        RucioCatalog(access, rse=disk.name, calls=Calls(access, pause=lambda seconds: None)).register([too_long])
    assert catalog.attach(run, files) == 100


def test_a_server_with_an_error_for_everybody_is_left_alone(access: Access, wire: Wire, run: Did) -> None:
    """Each question that gets HTTP 500, as does the one whether it works at all, is a failure; five are in a row."""
    now = [0.0]
    calls = Calls(access, breaker=Breaker(rest=10, clock=lambda: now[0]), pause=lambda seconds: None)
    catalog = RucioCatalog(access, calls=calls)
    catalog.add_dataset(run)
    before = len(wire.seen)

    def asked(match: str = "is away: ") -> int:
        with pytest.raises(CatalogUnavailable, match=match):
            catalog.dataset(run)
        return len(wire.seen) - before

    wire.plan("/", *[500] * 22)
    assert [asked() for _ in range(5)] == [4, 8, 12, 16, 20]
    assert [asked(match="failed 5 times in a row, so it is not asked for 10s") for _ in range(3)] == [20] * 3
    now[0] = 11
    assert [asked(), asked(match="failed 6 times")] == [22, 22]
    now[0] = 22
    assert catalog.dataset(run).did == run


def test_a_server_that_keeps_failing_is_left_alone(access: Access, wire: Wire, run: Did) -> None:
    """After some failures nothing is sent for a while; then one request, and if that is answered, all."""
    now = [0.0]
    breaker = Breaker(most=3, rest=10, clock=lambda: now[0])
    catalog = RucioCatalog(access, calls=Calls(access, breaker=breaker, pause=lambda seconds: None))
    catalog.add_dataset(run)
    wire.plan("/bulkmeta", "drop", "drop", "drop")
    with pytest.raises(CatalogUnavailable):
        catalog.dataset(run)
    asked = len(wire.seen)

    for _ in range(3):
        with pytest.raises(CatalogUnavailable, match="is not asked for 10s"):
            catalog.dataset(run)
    assert len(wire.seen) == asked

    now[0] = 11
    wire.plan("/bulkmeta", "drop")
    with pytest.raises(CatalogUnavailable):
        catalog.dataset(run)
    assert len(wire.seen) == asked + 1

    now[0] = 22
    assert catalog.dataset(run).did == run


def test_a_server_that_goes_and_comes_back(own_rucio: Rucio, tmp_path: Path) -> None:
    """While it is away every call says so quickly; when it is back, the same door goes on with what was there."""
    own_rucio.catalog.add_scope("data")
    run, access = Did("data", "RUN"), access_to(own_rucio, Login("root", own_rucio.password), tmp_path / "tokens")
    calls = Calls(access, breaker=Breaker(most=4, rest=0.2), pause=lambda seconds: None)
    catalog = RucioCatalog(access, calls=calls)
    catalog.add_dataset(run)

    own_rucio.stop()
    began = time.monotonic()
    away: list[Callable[[], object]] = [
        lambda: catalog.dataset(run),
        lambda: catalog.close(run),
        lambda: catalog.add_dataset(Did("data", "OTHER")),
        lambda: catalog.metadata([run]),
        lambda: list(catalog.closed_since(datetime.now(UTC))),
    ]
    for call in away:
        with pytest.raises(CatalogUnavailable):
            call()
    assert time.monotonic() - began < 5
    own_rucio.start()
    time.sleep(0.3)

    catalog.close(run)
    assert catalog.dataset(run).state is DatasetState.CLOSED
    catalog.close_connections()


def test_a_thousand_files_cost_no_more_than_bare_calls_and_a_look(
    catalog: RucioCatalog, wire: Wire, run: Did, disk: Rse
) -> None:
    """One request to look, one to register, one to attach; again, one to look for copies instead of those two."""
    files = [file(disk, run.scope, f"{number}.root") for number in range(1001)]
    catalog.add_dataset(run)
    before = len(wire.seen)

    catalog.attach(run, files)

    paths = [path.partition("?")[0] for _, path in wire.seen[before:]]
    assert sorted(paths) == sorted(
        [*["/dids/bulkmeta"] * 3, f"/rses/{disk.name}", *["/replicas", "/dids/attachments"] * 2]
    )
    before = len(wire.seen)
    catalog.attach(run, files)
    paths = [path for _, path in wire.seen[before:]]
    assert sorted(paths) == sorted(
        [*["/dids/bulkmeta"] * 3, *["/replicas/list"] * 2, f"/dids/{run.scope}/{run.name}/dids"]
    )


# Tokens.


def test_a_token_is_kept_for_us_alone(catalog: RucioCatalog, access: Access, wire: Wire) -> None:
    """In a directory of the home, where a second door finds it; one that others could read is shut to them."""
    access.tokens.mkdir(mode=0o755)
    catalog.metadata([Did("stranger", "x")])
    second = RucioCatalog(access)
    second.metadata([Did("stranger", "x")])

    assert stat.S_IMODE(access.tokens.stat().st_mode) == 0o700
    assert [stat.S_IMODE(each.stat().st_mode) for each in access.tokens.iterdir()] == [0o600]
    assert wire.count("GET", "/auth/") == 1


def test_a_token_that_is_no_longer_taken_is_replaced_once(catalog: RucioCatalog, access: Access, wire: Wire) -> None:
    """By whichever thread comes first; nobody who calls sees any of it."""
    dids = [Did("stranger", f"RUN-{number}") for number in range(4)]
    barrier = threading.Barrier(4)

    def ask(did: Did) -> None:
        catalog.metadata([did])
        barrier.wait()
        for client in list(catalog._calls._clients._all):
            client.auth_token = "root-expired"
        (access.tokens / access.token_name).write_text("root-expired")
        barrier.wait()
        catalog.metadata([did])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, dids))

    assert wire.count("GET", "/auth/") == 2


def test_another_account_gets_another_token(access: Access, rucio: Rucio, login: Login) -> None:
    """Nobody speaks with the token of somebody else, or gives it to another server."""
    others = [
        replace(access, host="http://elsewhere.example.org"),
        replace(access, account="other"),
        replace(access, credentials={"username": "other", "password": "x"}),
        replace(access, vo="abc"),
    ]

    assert len({access.token_name, *(other.token_name for other in others)}) == 5


def test_wrong_credentials_are_said_and_not_tried_again(access: Access, wire: Wire) -> None:
    """Whoever runs it has to look; the password is not shown."""
    wrong = replace(access, credentials={**access.credentials, "password": "hush-hush"})

    with pytest.raises(
        CatalogUnavailable, match=r"does not let us in as producer .* credentials in \[catalog\]"
    ) as error:
        RucioCatalog(wrong).metadata([Did("stranger", "x")])

    assert "hush-hush" not in f"{error.value} {wrong!r}"
    assert wire.count("GET", "/auth/") == 1


def test_a_token_of_somebody_else_is_read_again_whenever_it_is_used(
    catalog: RucioCatalog, access: Access, wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is renewed while we run, whatever lies about in the environment; nobody is asked at the terminal."""
    monkeypatch.setenv("BEARER_TOKEN", "not ours")
    catalog.metadata([Did("stranger", "x")])
    good = (access.tokens / access.token_name).read_text()
    token = tmp_path / "token"
    token.write_text("expired-token")
    other = RucioCatalog(replace(access, auth_type="oidc", credentials={}, token_file=token))

    with pytest.raises(CatalogUnavailable, match="does not let us in"):
        other.metadata([Did("stranger", "x")])
    token.write_text(f"{good}\n")
    assert "knows us as producer" in other.handshake()
    token.unlink()
    with pytest.raises(CatalogUnavailable, match="cannot be read from"):
        other.metadata([Did("stranger", "x")])

    assert wire.count("GET", "/auth/") == 1


def test_the_environment_does_not_say_who_we_are(access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rucio's own variables, for somebody's shell, mean nothing to a service."""
    for variable in ("RUCIO_ACCOUNT", "RUCIO_VO", "RUCIO_AUTH_TYPE"):
        monkeypatch.setenv(variable, "nobody")

    assert "knows us as producer, by userpass" in RucioCatalog(access).handshake()


# Permissions.


def test_an_account_does_what_it_may(user: RucioCatalog, catalog: RucioCatalog, run: Did, disk: Rse) -> None:
    """In scopes of others nothing but look; files only at RSEs that it may use."""
    own = Did(user.address.rpartition(" ")[2], "RUN")
    catalog.add_dataset(run)
    user.add_dataset(own)

    for call in (
        lambda: user.add_dataset(Did(run.scope, "MINE")),
        lambda: user.add_container(Did(run.scope, "MINE")),
        lambda: user.close(run),
        lambda: user.set_metadata(run, "run_number", 1),
        lambda: user.attach(own, [file(disk, own.scope)]),
        lambda: user.register([file(disk, own.scope)]),
    ):
        with pytest.raises(NotPermitted, match=r"can not .*; whoever runs the catalog gives permissions"):
            call()
    catalog.close(run)
    with pytest.raises(NotPermitted, match="can not"):
        user.reopen(run)

    user.reopen(own)
    user.close(own)
    assert (user.dataset(own).state, catalog.dataset(run).state) == (DatasetState.CLOSED, DatasetState.CLOSED)


# Where the server is strange.


def test_somebody_else_registers_a_file_while_we_do(
    catalog: RucioCatalog, rucio: Rucio, wire: Wire, run: Did, disk: Rse
) -> None:
    """The server says yes to a second registration with other contents, so what is there is looked at again."""
    catalog.add_dataset(run)

    def other(entry: FileEntry, **sums: object) -> Callable[[], object]:
        said = {**entry.did._asdict(), "bytes": 11, "adler32": "ffffffff", "pfn": entry.pfn, **sums}
        return lambda: rucio.client().add_replicas(disk.name, [said])

    first, second, third = (file(disk, run.scope, f"{number}.root") for number in range(3))
    wire.before("POST", "/replicas", other(first))
    with pytest.raises(FileDiffers, match=r"0\.root is registered with bytes 11, offered with 10"):
        catalog.attach(run, [first])
    wire.before("POST", "/replicas", other(second))
    with pytest.raises(FileDiffers, match=r"1\.root is registered with bytes 11, offered with 10"):
        catalog.register([second])
    # the same contents, with fewer sums: the server takes a sum that it does not have for another one
    wire.before("POST", "/replicas", other(third, bytes=10, adler32=third.adler32))

    assert catalog.attach(run, [replace(third, md5=MD5)]) == 1
    assert [entry.did for entry in catalog.files(run)] == [third.did]


def test_somebody_closes_the_dataset_while_we_fill_it(
    catalog: RucioCatalog, rucio: Rucio, wire: Wire, run: Did, disk: Rse
) -> None:
    """The error is the same as for one that was closed before."""
    catalog.add_dataset(run)
    wire.before("POST", "/attachments", lambda: rucio.client().close(*run))

    with pytest.raises(DatasetClosed, match=run.name):
        catalog.attach(run, [file(disk, run.scope)])


@pytest.mark.parametrize("wanted", [False, True])
def test_somebody_closes_or_opens_the_dataset_before_us(
    catalog: RucioCatalog, rucio: Rucio, wire: Wire, run: Did, wanted: bool
) -> None:
    """The server says that it cannot be changed; it is as it should be."""
    catalog.add_dataset(run)
    if wanted:
        catalog.close(run)
    wire.before("PUT", "/status", lambda: rucio.client().set_status(*run, open=wanted))

    (catalog.reopen if wanted else catalog.close)(run)

    assert (catalog.dataset(run).state is DatasetState.OPEN) is wanted


def test_two_files_cannot_be_at_one_place(catalog: RucioCatalog, run: Did, disk: Rse) -> None:
    """The server takes it, and deletes one with the other."""
    one = file(disk, run.scope, "a.root")

    with pytest.raises(InvalidPfn, match=r"a\.root and .*b\.root are both said to lie at"):
        catalog.register([one, replace(one, did=Did(run.scope, "b.root"))])

    assert catalog.registered([one.did]) == {}


def test_a_path_becomes_an_address_of_the_rse(catalog: RucioCatalog, run: Did, disk: Rse) -> None:
    """A path on disk is what people have; the server wants the protocol with it. Without either it is said at once."""
    entry = replace(file(disk, run.scope), pfn=f"{disk.folder}/2026/a.root")

    catalog.register([entry])

    assert [copy.pfn for copy in catalog.replicas([entry.did])[entry.did]] == [f"file://localhost{entry.pfn}"]
    for pfn in ("", "/elsewhere/b.root", "root://elsewhere.example.org//b.root"):
        with pytest.raises(InvalidPfn, match=disk.name):
            catalog.register([replace(file(disk, run.scope, "b.root"), pfn=pfn)])


def test_an_rse_that_knows_where_files_lie_is_asked(catalog: RucioCatalog, rucio: Rucio, run: Did, wire: Wire) -> None:
    """A file that lies anywhere else would be registered where nobody put it."""
    det = rucio.catalog.add_rse(f"DET-{uuid4().hex[:12].upper()}")
    root = {"scheme": "root", "hostname": "xrd.example.org", "port": 1094, "prefix": "/pool"}
    how = {"impl": "rucio.rse.protocols.posix.Default", "domains": {"wan": {"read": 2}}}
    rucio.client().add_protocol(det.name, {**root, **how})
    names = [f"{number:04}-{'x' * 40}.root" for number in range(90)]
    asked = rucio.client().lfns2pfns(det.name, [f"{run.scope}:{names[0]}"], scheme="file")
    rest = asked[f"{run.scope}:{names[0]}"].removeprefix(f"file://localhost{det.folder}/")
    told = [f"{det.folder}/{rest}", f"file://localhost{det.folder}/{rest}", f"root://xrd.example.org//pool/{rest}", ""]
    entry = FileEntry(Did(run.scope, names[0]), told[0], 10, "0a1b2c3d")
    elsewhere = [replace(entry, did=Did(run.scope, name), pfn=f"{det.folder}/{name}") for name in names[1:]]

    with pytest.raises(InvalidPfn, match=f"is offered at {elsewhere[-1].pfn}, and {det.name} keeps it at file://"):
        catalog.register([entry, elsewhere[-1]], det.name)
    before = wire.count("GET", "/lfns2pfns")
    with pytest.raises(InvalidPfn, match=r"and 84 more: .* move it there, or name another RSE"):
        catalog.register(elsewhere, det.name)

    assert wire.count("GET", "/lfns2pfns") == before + 3  # as many names as go into one URL
    assert catalog.registered([entry.did, elsewhere[0].did]) == {}
    assert [catalog.register([replace(entry, pfn=pfn)], det.name) for pfn in told] == [1, 0, 0, 0]
    [copy] = catalog.replicas([entry.did])[entry.did]
    assert copy.pfn.endswith(rest)
    with pytest.raises(InvalidPfn, match="keeps it at"):
        catalog.register([replace(entry, pfn="/somewhere/else.root")], det.name)


@pytest.mark.parametrize("state", "UBDT")
def test_only_copies_that_can_be_read_are_told(
    catalog: RucioCatalog, rucio: Rucio, run: Did, disk: Rse, state: str
) -> None:
    """One that is declared to be away is none unless it is asked for, and does not come again by registering."""
    entry = file(disk, run.scope)
    catalog.add_dataset(run)
    catalog.attach(run, [entry])
    rucio.client().update_replicas_states(disk.name, [{**entry.did._asdict(), "state": state}])

    assert catalog.replicas([run]) == catalog.replicas([entry.did]) == {entry.did: []}
    there = {entry.did: [Replica(entry.did, disk.name, entry.pfn, entry.bytes)]}
    assert catalog.replicas([run], readable=False) == catalog.replicas([entry.did], disk.name, readable=False) == there
    assert catalog.register([entry]) == 0


def test_a_copy_without_an_address_is_there(catalog: RucioCatalog, rucio: Rucio, run: Did) -> None:
    """Its RSE has no protocol to read it by: nobody can tell its place, and nobody has deleted it."""
    lone, did = f"LONE-{uuid4().hex[:12].upper()}", Did(run.scope, "lone.root")
    rucio.client().add_rse(lone)
    rucio.client().add_replica(lone, *did, 10, "0a1b2c3d")

    assert catalog.replicas([did]) == {did: []}
    assert catalog.replicas([did], readable=False) == {did: [Replica(did, lone, "", 10)]}


@pytest.mark.parametrize("guid", [None, GUID])
def test_a_file_in_a_scope_that_there_is_not(catalog: RucioCatalog, disk: Rse, guid: str | None) -> None:
    """Of one with a GUID the server speaks of an unknown error of its database."""
    with pytest.raises(ScopeNotFound, match=r"nobody-made-it.*whoever runs the catalog makes scopes"):
        catalog.register([replace(file(disk, "nobody-made-it"), guid=guid)])


def test_a_name_that_a_scope_has_rules_for(catalog: RucioCatalog, rucio: Rucio, login: Login) -> None:
    """In a group's scope the server wants the project to be the group's: that is no matter of the name."""
    scope = f"group.{uuid4().hex[:15]}"
    rucio.catalog.add_scope(scope, login.account)

    with pytest.raises(CatalogError, match="project"):
        catalog.add_dataset(Did(scope, "RUN"), {"project": "physics"})

    catalog.add_dataset(Did(scope, "RUN"))
    assert catalog.metadata([Did(scope, "RUN")])[Did(scope, "RUN")]["account"] == login.account


def test_guids_are_as_they_were_given(catalog: RucioCatalog, run: Did, disk: Rse) -> None:
    """The server drops the dashes, and gives them in upper case with the files of a dataset."""
    entry = replace(file(disk, run.scope), guid=GUID, md5=MD5, events=7)
    catalog.add_dataset(run)
    catalog.attach(run, [entry])

    assert catalog.files(run) == [replace(entry, pfn="")]
    assert catalog.registered([entry.did]) == {entry.did: replace(entry, pfn="")}


def test_times_and_counts_are_of_our_kinds(catalog: RucioCatalog, run: Did, disk: Rse) -> None:
    """Rucio's times have no zone, and its sums come as 57.0."""
    catalog.add_dataset(run, lifetime=timedelta(milliseconds=86_399_500))
    catalog.attach(run, [file(disk, run.scope, size=57)])
    catalog.close(run)

    entry, known = catalog.dataset(run), catalog.metadata([run])[run]

    assert type(entry.bytes) is int and entry.bytes == 57
    assert abs(entry.created_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert known["expired_at"] - known["created_at"] == timedelta(days=1)
    with pytest.raises(CatalogError, match="is over before"):
        catalog.add_dataset(Did(run.scope, "OTHER"), lifetime=timedelta())


def test_metadata_is_taken_away_whatever_kind_it_is(catalog: RucioCatalog, run: Did) -> None:
    """A column of Rucio's own becomes empty, a key of somebody's goes; one that there is not is gone already."""
    catalog.add_dataset(run, {"campaign": "2025", "beam": "Au"})

    for key in ("campaign", "beam", "beam", "never"):
        catalog.set_metadata(run, key, None)

    known = catalog.metadata([run])[run]
    assert {"campaign", "beam", "never"}.isdisjoint(known)


def test_one_impossible_name_spoils_no_answer(catalog: RucioCatalog, run: Did) -> None:
    """The server refuses a whole list for one name that it would never take."""
    catalog.add_dataset(run)

    assert set(catalog.metadata([Did(run.scope, "naïve"), run, Did("s" * 40, "x"), Did(run.scope, "")])) == {run}
    with pytest.raises(InvalidDid, match=f"{run.scope}:naïve: this Rucio server does not take such a name"):
        catalog.registered([Did(run.scope, "naïve"), Did(run.scope, "a.root")])


def test_closed_datasets_come_in_spans(access: Access, catalog: RucioCatalog, run: Did) -> None:
    """However few names are held at once, each dataset that is closed comes, and it comes once."""
    names = [f"RUN-{number}" for number in range(9)]
    for number, name in enumerate(names):
        catalog.add_dataset(Did(run.scope, name))
        catalog.close(Did(run.scope, name))
        if number % 4 == 3:
            time.sleep(1)
    catalog.reopen(Did(run.scope, names[4]))
    calls = Calls(access)
    closing = Closing(calls, Reading(calls), utc_now, most=3)

    found = [entry.did.name for entry in closing.since(datetime.now(UTC) - timedelta(days=400), run.scope)]

    assert sorted(found) == [name for name in names if name != names[4]]


def test_who_we_are_is_said(catalog: RucioCatalog, access: Access, disk: Rse, wire: Wire) -> None:
    """The server, its version, our account and how we signed in, and where files would go."""
    said = catalog.handshake()

    for word in (
        wire.url,
        "Rucio 41.",
        "knows us as producer, by userpass",
        f"{disk.name}, which keeps them where we say",
    ):
        assert word in said
    with pytest.raises(CatalogError, match="NO-SUCH-RSE"):
        RucioCatalog(access, rse="NO-SUCH-RSE").handshake()
    for entries in ([file(disk, "stranger")], [file(disk, "stranger", f"{number}.root") for number in range(9)]):
        with pytest.raises(RseNotFound, match=r"set catalog\.rse"):
            RucioCatalog(access).register(entries)


# From the settings.


@pytest.fixture
def home(tmp_path: Path, rucio: Rucio, login: Login, disk: Rse, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home whose catalog is the server."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("MULETEER_CATALOG__PASSWORD", login.password)
    (home / "muleteer.toml").write_text(
        f'[catalog]\nkind = "rucio"\nhost = "{rucio.url}"\naccount = "{login.account}"\n'
        f'username = "{login.account}"\nrse = "{disk.name}"\n'
    )
    return home


def test_the_settings_lead_to_the_server(home: Path, disk: Rse, run: Did) -> None:
    """Everything that asks a catalog asks it, and embedded workflows read the copies that are on our disk."""
    muleteer = Muleteer(home, load(home))
    entry = file(disk, run.scope)
    muleteer.catalog.add_dataset(run)
    muleteer.catalog.attach(run, [entry])

    assert muleteer.embedded_catalog is None
    assert set(muleteer.ask_catalog([run])) == {run}
    assert muleteer.inputs(run) == [disk.folder / run.scope / "a.root"]
    muleteer.close()
    assert not (home / "catalog.db").exists()


def test_a_strange_path_comes_back(home: Path, disk: Rse, run: Did) -> None:
    """The server cuts an address at `#` and `?`: the file is registered where it is, and read there."""
    muleteer = Muleteer(home, load(home))
    path = disk.folder / "run #1?" / "100%20 a?b#c.root"
    entry = replace(file(disk, run.scope), pfn=str(path))
    muleteer.catalog.add_dataset(run)

    assert muleteer.catalog.attach(run, [entry]) == 1
    assert muleteer.catalog.register([entry]) == 0
    assert muleteer.inputs(run) == [path]
    with pytest.raises(InvalidPfn, match="keeps it at"):
        muleteer.catalog.register([replace(entry, pfn=str(disk.folder / "run"))])
    muleteer.close()


def test_the_doctor_looks_at_the_server(home: Path, disk: Rse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether it answers, who we are for it, and whether there is the RSE; without the password."""

    def catalog_line() -> tuple[int, str]:
        program = [str(Path(sys.executable).with_name("muleteer")), "doctor", "--home", str(home)]
        done = subprocess.run(program, capture_output=True, text=True)
        return done.returncode, next(line for line in done.stdout.splitlines() if " catalog " in line)

    assert (found := catalog_line())[0] == 0
    assert "knows us as producer" in found[1] and disk.name in found[1]
    monkeypatch.setenv("MULETEER_CATALOG__RSE", "NO-SUCH-RSE")
    assert (found := catalog_line())[0] == 1
    assert found[1].startswith("WRONG  catalog    RSE NO-SUCH-RSE")
    monkeypatch.setenv("MULETEER_CATALOG__PASSWORD", "hush-hush")
    shutil.rmtree(home / "rucio-tokens")
    assert (found := catalog_line())[0] == 1
    assert "does not let us in as producer" in found[1] and "hush" not in found[1]
