"""Datasets leave a real Rucio, and what should stay stays: looked at in its catalog and on the disk of its RSEs."""

from __future__ import annotations

import json
import os
import time
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest

from orchestrator.clock import utc_now
from orchestrator.rucio.port import Catalog, FileEntry
from orchestrator.settings import load
from orchestrator.wiring import Muleteer
from schemas.did import Did
from schemas.transient import Transient, TransientState
from tests.acceptance.home import Home, missing
from tests.contract.rucio_wire import wire_to
from tests.services.rucio import Rse, Rucio

SETTINGS: Final = """
[catalog]
kind = "rucio"
host = "{host}"
account = "{login.account}"
username = "{login.account}"
password = "{login.password}"
rse = "{rse}"

[transient]
every = "0s"
undo = "1s"
raw_scopes = []
"""

POLICY: Final = """
  - name: {name}
    scope: {scope}
    pattern: '{pattern}'
    lifetime: 1s
    fraction: 1
    successor: {{dataset: '{{scope}}:DONE-{{name}}', same_count: true}}
    {more}
"""

#: Longer than anybody has a claim, and than the longest wait between two looks.
ROUND: Final = timedelta(minutes=11)

#: `muleteer transient step` dies when it makes this request, and before it hears an answer.
DEATHS: Final[Mapping[str, tuple[str, str]]] = {
    "RULE": ("PUT", "/rules/"),
    "MARK": ("POST", "/tombstone"),
    "DETACH": ("DELETE", "/BOX/dids"),
}

#: Datasets that may not leave, and the first reason why.
STAY: Final = {
    "WORK-OPEN": "open",
    "WORK-LOCKED": "locked",
    "WORK-FOREIGN": "foreign_rule",
    "WORK-BELOW": "foreign_rule",
    "WORK-SHARED": "shared",
    "WORK-HALF": "successor",
    "WORK-EARLY": "successor",
    "WORK-ALONE": "successor",
}

#: Datasets that leave whole, with so many copies.
LEAVE: Final = {
    "WORK-RULED": 2,
    "WORK-BARE": 2,
    "WORK-BOXED": 1,
    "AGAIN-NAME": 1,
    "OPEN-ANY": 1,
    **{f"KILL-{each}": 2 for each in DEATHS},
}

#: What a catalog says of a dataset that nobody touches, and goes on saying.
LASTING: Final = ("did_type", "is_open", "created_at", "closed_at", "length", "bytes", "expired_at")


@dataclass
class Site:
    """An account, its scope and its home at a server; and a clock that is ahead of the server's."""

    home: Home
    rucio: Rucio
    scope: str
    disk: Rse
    tape: Rse
    ahead: timedelta = timedelta()
    #: Registers files for those who may not do so themselves.
    registrar: Catalog | None = None

    @cached_property
    def muleteer(self) -> Muleteer:
        return Muleteer(self.home.place, load(self.home.place), clock=lambda: utc_now() + self.ahead)

    @property
    def catalog(self) -> Catalog:
        return self.muleteer.catalog

    def did(self, name: str) -> Did:
        return Did(self.scope, name)

    # What people and productions do.

    def path(self, name: str, rse: Rse | None = None) -> Path:
        return (rse or self.disk).folder / self.scope / name

    def file(self, name: str, rse: Rse | None = None) -> FileEntry:
        """A file that lies at an RSE."""
        rse, path = rse or self.disk, self.path(name, rse)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"content of {name}\n")
        pfn, adler32 = rse.pfn(f"{self.scope}/{name}"), f"{zlib.adler32(path.read_bytes()):08x}"
        return FileEntry(self.did(name), pfn, path.stat().st_size, adler32)

    def make(self, name: str, *, files: int = 1, closes: bool = True) -> Did:
        """A dataset with files on the disk."""
        did = self.did(name)
        entries = [self.file(f"{name}.{number}") for number in range(files)]
        self.catalog.add_dataset(did)
        (self.registrar or self.catalog).register(entries, self.disk.name)
        self.catalog.attach(did, entries)
        if closes:
            self.catalog.close(did)
        return did

    def pair(self, name: str, *, files: int = 1, closes: bool = True, done: bool = True) -> Did:
        """A dataset and what was made of it."""
        did = self.make(name, files=files, closes=closes)
        self.make(f"DONE-{name}", files=files, closes=done)
        return did

    def box(self, name: str, *dids: Did) -> Did:
        """A container."""
        box = self.did(name)
        self.catalog.add_container(box)
        self.catalog.enclose(box, dids)
        return box

    # What muleteer does.

    def policies(self, patterns: Mapping[str, str], **more: str) -> Path:
        """A file of policies, by their names; `more` is what they say beside the pattern."""
        path = self.home.place / "policies.yaml"
        texts = [
            POLICY.format(name=name, scope=self.scope, pattern=pattern, more=more.get(name, ""))
            for name, pattern in patterns.items()
        ]
        path.write_text("policies:" + "".join(texts))
        return path

    def release(self, *only: str) -> list[Transient]:
        """What may leave now; waits until the time to take it back is over."""
        desk = self.muleteer.transient_desk()
        released = desk.release(desk.plan(who="me", only=only or None), who="me", why="the disk is full")
        self.wait()
        return released

    def wait(self) -> None:
        """Until all that is released is due."""
        released = self.muleteer.store.transients.list(states=[TransientState.RELEASED], limit=1000)
        latest = max((each.leaves_at for each in released if each.leaves_at), default=utc_now())
        time.sleep(max(0.0, (latest - self.muleteer.clock()).total_seconds()))

    def step(self) -> None:
        """All that is due, each step by a desk that remembers nothing."""
        while self.muleteer.transient_desk().step().due:
            pass

    def known(self, name: str) -> Transient:
        return self.muleteer.store.transients.find(self.did(name))[0]

    def leaving(self) -> list[str]:
        """Datasets that are on their way."""
        found = self.muleteer.store.transients.list(states=[TransientState.LEAVING], limit=1000)
        return [each.did.name for each in found]

    # What is so.

    def there(self, name: str) -> bool:
        return bool(self.catalog.metadata([self.did(name)]))

    def seen(self) -> dict[str, Any]:
        """All that the catalog knows of what is to stay as it is."""
        untouched = [f"DONE-{name}" for name in (*STAY, *LEAVE, "TAPE-ALL") if name not in ("WORK-ALONE", "AGAIN-NAME")]
        dids = [self.did(name) for name in (*STAY, *untouched, "WORK-LATE", "OTHER", "BESIDE")]
        boxes = [self.did(name) for name in ("BOX", "OUTER", "HELD", "ABOVE")]
        known, parents, rules = self.catalog.metadata(dids), self.catalog.parents, self.catalog.rules
        files = {did: [file.did for file in self.catalog.files(did)] for did in dids}
        copies = self.catalog.replicas([file for each in files.values() for file in each])
        return {
            "datasets": {did: {key: known[did].get(key) for key in LASTING} for did in dids},
            "files": files,
            "copies": {file: [(copy.rse, copy.pfn, copy.bytes) for copy in each] for file, each in copies.items()},
            "rules": rules([*dids, *boxes]),
            "parents": parents([*dids, *boxes]),
        }

    def on_disk(self) -> dict[str, bytes]:
        """The content of each file."""
        return {
            f"{rse.name}/{path.name}": path.read_bytes()
            for rse in (self.disk, self.tape)
            for path in sorted(rse.folder.glob(f"{self.scope}/*"))
            if path.is_file()
        }


def prepare(site: Site) -> None:
    """One dataset for each case."""
    root, disk, cases = site.rucio.catalog, site.disk.name, [
        *({"name": name, "files": 2} for name in ("WORK-RULED", "WORK-BARE", "WORK-HALF", "WORK-STUCK", "TAPE-ALL")),
        *({"name": f"KILL-{each}", "files": 2} for each in DEATHS),
        *({"name": name, "closes": False} for name in ("WORK-OPEN", "OPEN-ANY")),
        *({"name": f"WORK-{each}"} for each in ("LOCKED", "FOREIGN", "BELOW", "SHARED", "BOXED", "LATE")),
        {"name": "AGAIN-NAME"},
        {"name": "WORK-EARLY", "done": False},
    ]  # fmt: skip
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda case: site.pair(**case), cases))
    for name in ("WORK-ALONE", "BESIDE"):
        site.make(name)
    for name in ("WORK-RULED", "WORK-LOCKED", "TAPE-ALL", "KILL-RULE"):
        site.catalog.add_rule(site.did(name), disk)
    [rule] = site.catalog.rules([site.did("WORK-LOCKED")])[site.did("WORK-LOCKED")]
    root.lock_rule(rule.id)
    site.box("OUTER", site.box("BOX", *(site.did(name) for name in ("WORK-BOXED", "BESIDE", "KILL-DETACH"))))
    site.box("ABOVE", site.box("HELD", site.did("WORK-BELOW")))
    for name in ("WORK-FOREIGN", "ABOVE"):
        root.add_rule(site.did(name), disk)
    site.catalog.attach(site.make("OTHER", closes=False), [site.file("WORK-SHARED.0")])
    unreadable = {"scope": site.scope, "name": "DONE-WORK-HALF.1", "state": "U"}
    site.rucio.client().update_replicas_states(disk, [unreadable])
    site.catalog.register([site.file(f"TAPE-ALL.{number}", site.tape) for number in range(2)], site.tape.name)
    site.catalog.add_rule(site.did("TAPE-ALL"), site.tape.name)


def die(site: Site, case: str) -> int:
    """Release one dataset, and kill `muleteer transient step` in the middle of it. How that ended."""
    site.release(f"kill-{case.lower()}")
    with wire_to(site.rucio.port) as wire:
        wire.before(*DEATHS[case], lambda: step.kill())
        step = site.home.start("transient", "step", CATALOG__HOST=wire.url, CATALOG__IDENTITY=site.catalog.identity)
        return step.wait()


def make_again(site: Site, name: str) -> None:
    """Another dataset of this name, with another file of the same name; and its successor is filled up."""
    site.make(name)
    done = {"scope": site.scope, "name": f"DONE-{name}"}
    site.rucio.client().set_status(**done, open=True)
    site.rucio.client().set_status(**done, open=False)


def ends(user: Site) -> list[Any]:
    """When the rule ends that holds a copy only to end."""
    did = user.did("USER-WIDE.0")
    return [rule.expires_at for rule in user.catalog.rules([did])[did]]


def pass_a_minute(user: Site) -> None:
    """For that rule."""
    root = user.rucio.client()
    for rule in root.list_did_rules(user.scope, "USER-WIDE.0"):
        root.update_replication_rule(rule["id"], {"lifetime": 0})


@dataclass(frozen=True)
class Ended:
    """What was said on the way, and how it was before."""

    site: Site
    user: Site
    #: By dataset, why it may not leave.
    refusals: dict[str, list[str]]
    #: How `step` ended each time it was killed.
    deaths: dict[str, int]
    #: What the catalog had of all that is to stay, and what was on the disks.
    seen: dict[str, Any]
    on_disk: dict[str, bytes]
    #: When a rule was to end that was made for it, after one step and after another.
    ends: tuple[list[Any], list[Any]]
    #: What `report overdue` said at the end.
    overdue: list[dict[str, Any]]


@pytest.fixture
def site(rucio: Rucio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An administrator's."""
    yield from furnished(rucio, tmp_path_factory.mktemp("admin"), admin=True)


@pytest.fixture
def user(rucio: Rucio, site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Of an account that may neither register files nor mark copies, nor end a rule."""
    for user in furnished(rucio, tmp_path_factory.mktemp("user"), admin=False):
        user.registrar = site.catalog
        yield user


def furnished(rucio: Rucio, folder: Path, *, admin: bool) -> Iterator[Site]:
    """A home, an account and its scope, and two RSEs."""
    if (why := missing()) is not None:
        if os.environ.get("REQUIRE_SERVICES"):
            pytest.fail(why)
        pytest.skip(why)
    login = rucio.catalog.add_account(f"transient{uuid4().hex[:12]}", admin=admin)
    rucio.catalog.add_scope(login.account, login.account)
    disk, tape = (rucio.catalog.add_rse(f"{login.account.upper()}-{kind}", deterministic=False) for kind in "DT")
    for account, rse in product(("root", login.account), (disk, tape)):
        rucio.catalog.allow(account, rse.name)
    home = Home(folder)
    (home.place / "muleteer.toml").write_text(SETTINGS.format(host=rucio.url, login=login, rse=disk.name))
    site = Site(home, rucio, login.account, disk, tape)
    yield site
    site.muleteer.close()
    home.close()
    assert home.defects() == []


@pytest.fixture
def ended(site: Site, user: Site) -> Ended:
    """Everything, from the policies until nothing moves any more."""
    prepare(site)
    for name in ("USER-BARE", "USER-WIDE"):
        user.pair(name, files=2)
    site.catalog.register([user.file("USER-WIDE.0", user.tape)], user.tape.name)
    user.catalog.add_rule(user.pair("USER-RULED", files=2), user.disk.name)
    kills = {f"kill-{each.lower()}": f"KILL-{each}" for each in DEATHS}
    patterns = {each.lower(): f"{each}-[A-Z]+" for each in ("WORK", "OPEN", "TAPE", "AGAIN")} | kills
    for each, path in (
        (site, site.policies(patterns, open="open: true", tape=f"keep: {{copies: {site.tape.name}}}")),
        (user, user.policies({"user": "USER-[A-Z]+"})),
    ):
        each.home.do("transient", "policies", "apply", str(path), "--reason", "test")
    deaths = {each: die(site, each) for each in DEATHS}
    user.release()
    plan = json.loads(site.home.do("transient", "plan", "--out", "plan.json", "--refused", "--json"))
    site.home.do("transient", "release", "--plan", "plan.json", "--reason", "the disk is full")
    site.rucio.catalog.add_rule(site.did("WORK-LATE"), site.disk.name)
    seen, on_disk = site.seen(), site.on_disk()
    site.wait()
    site.home.do("transient", "step")
    user.step()
    stuck = site.path("WORK-STUCK.0")
    stuck.unlink()
    stuck.mkdir()
    first = ends(user)
    go_round(site, user)
    second = ends(user)
    pass_a_minute(user)
    make_again(site, "AGAIN-NAME")
    site.release("again")
    site.step()
    for _ in range(3):
        go_round(site, user)
        if site.leaving() == ["WORK-STUCK"] and not user.leaving():
            break
    overdue = json.loads(site.home.do("transient", "report", "overdue", "--after", "1s", "--json", expect=1))
    refusals = {Did.parse(each["did"]).name: [check for check, _ in each["refusals"]] for each in plan["refusals"]}
    return Ended(site, user, refusals, deaths, seen, on_disk, (first, second), overdue)


def go_round(*sites: Site) -> None:
    """The daemons of Rucio have their turn, then we; each with a desk that knows nothing but what is in the store."""
    sites[0].rucio.let_leave()
    for site in sites:
        site.ahead += ROUND
        site.step()


def left(site: Site, name: str, files: int) -> None:
    """It is nowhere any more, and what was said of it is so."""
    known = site.known(name)
    assert (known.state, known.freed_files, site.there(name)) == (TransientState.GONE, files, False), known.reason
    assert site.catalog.registered(site.did(f"{name}.{number}") for number in range(files)) == {}
    assert [path for path in site.on_disk() if f"/{name}." in path] == []


def demand_those_have_left(ended: Ended) -> None:
    """With a rule of ours, or none ever; open; out of a container; after `step` was killed in the middle."""
    for name, files in LEAVE.items():
        left(ended.site, name, files)


def demand_those_may_not_leave(ended: Ended) -> None:
    """Of each it is said why."""
    for name, check in STAY.items():
        assert ended.refusals[name][0] == check, name
        assert ended.site.there(name), name


def demand_all_that_stays_is_as_it_was(ended: Ended) -> None:
    """Each file byte for byte, and in the catalog with its copies, rules and containers; nothing else is left."""
    gone = [*(f"/{name}." for name in LEAVE), "/WORK-STUCK.", f"{ended.site.disk.name}/TAPE-ALL."]
    stay = {path: text for path, text in ended.on_disk.items() if not any(each in path for each in gone)}

    assert ended.site.seen() == ended.seen
    assert ended.site.on_disk() == stay


def demand_containers_keep_what_does_not_leave(ended: Ended) -> None:
    """What left was taken out of them, though a dataset whose files go leaves its containers anyway."""
    catalog, did = ended.site.catalog, ended.site.did

    assert catalog.children(did("BOX")) == [did("BESIDE")]
    assert catalog.children(did("OUTER")) == [did("BOX")]
    assert catalog.children(did("HELD")) == [did("WORK-BELOW")]


def demand_copies_on_tape_stay_and_others_leave(ended: Ended) -> None:
    """The dataset stays with them, and the rule that holds them."""
    site, did = ended.site, ended.site.did("TAPE-ALL")
    known, files = site.known("TAPE-ALL"), [site.did(f"TAPE-ALL.{number}") for number in range(2)]

    assert (known.state, known.freed_files) == (TransientState.GONE, 2)
    assert [file.did for file in site.catalog.files(did)] == files
    assert [copy.rse for file in files for copy in site.catalog.replicas([file])[file]] == [site.tape.name] * 2
    assert [rule.rse_expression for rule in site.catalog.rules([did])[did]] == [site.tape.name]
    assert site.catalog.dataset(did).expires_at is None


def demand_a_rule_that_comes_after_the_release_holds_it(ended: Ended) -> None:
    """It is proved again when the time to take it back is over, and not before."""
    known = ended.site.known("WORK-LATE")

    assert known.state is TransientState.HELD
    assert [each.check for each in known.refusals] == ["foreign_rule"]


def demand_a_name_that_is_used_again_leaves_again(ended: Ended) -> None:
    """Each life has its own history."""
    lives = ended.site.muleteer.store.transients.find(ended.site.did("AGAIN-NAME"))

    assert [(life.state, life.freed_files) for life in lives] == [(TransientState.GONE, 1)] * 2
    assert lives[0].born_at > lives[1].born_at


def demand_what_cannot_be_deleted_is_named(ended: Ended) -> None:
    """The catalog has neither the dataset nor the copy; it is not gone all the same."""
    [stuck] = ended.overdue

    assert (stuck["did"], stuck["state"]) == ([ended.site.scope, "WORK-STUCK"], "leaving")
    assert str(ended.site.path("WORK-STUCK.0")) in stuck["reason"]
    assert "WORK-STUCK.1" not in stuck["reason"]
    assert not ended.site.there("WORK-STUCK")
    assert ended.site.path("WORK-STUCK.0").exists()


def demand_each_was_killed_where_it_was_meant_to_be(ended: Ended) -> None:
    """By nothing but SIGKILL."""
    assert ended.deaths == dict.fromkeys(DEATHS, -9)


def demand_an_account_with_few_permissions_lets_leave_too(ended: Ended) -> None:
    """A rule is made that ends, and a rule that it may not end ends with the dataset. Successors stay."""
    for name, files in {"USER-BARE": 2, "USER-RULED": 2, "USER-WIDE": 3}.items():
        left(ended.user, name, files)
        assert ended.user.there(f"DONE-{name}")
        assert all(ended.user.path(f"DONE-{name}.{number}").exists() for number in range(2))


def demand_a_rule_that_is_to_end_is_not_prolonged(ended: Ended) -> None:
    """However often, and by whom, it is looked at: it is on a file, since not all files have a copy at that RSE."""
    first, second = ended.ends

    assert len(first) == 1
    assert first == second


@pytest.mark.slow
def test_what_is_released_leaves_and_everything_else_stays(ended: Ended) -> None:
    """One test for all of it: processes of tests side by side would each do everything for their share."""
    demand_those_have_left(ended)
    demand_those_may_not_leave(ended)
    demand_all_that_stays_is_as_it_was(ended)
    demand_containers_keep_what_does_not_leave(ended)
    demand_copies_on_tape_stay_and_others_leave(ended)
    demand_a_rule_that_comes_after_the_release_holds_it(ended)
    demand_a_name_that_is_used_again_leaves_again(ended)
    demand_what_cannot_be_deleted_is_named(ended)
    demand_each_was_killed_where_it_was_meant_to_be(ended)
    demand_an_account_with_few_permissions_lets_leave_too(ended)
    demand_a_rule_that_is_to_end_is_not_prolonged(ended)
