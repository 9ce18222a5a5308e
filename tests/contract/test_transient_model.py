"""Whatever people, productions, daemons and crashes do, in whatever order: nothing leaves that must not.

A walk at random through all of it. Each call that cannot be undone is looked at in the moment in which it is made, by
somebody who knows the world and none of the decisions.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from orchestrator.core.gates import Subject
from orchestrator.core.transient.facts import Maker
from orchestrator.rucio.port import (
    CatalogError,
    CatalogUnavailable,
    DatasetState,
    DidNotFound,
    FileEntry,
    Replica,
)
from orchestrator.store.port import NotAllowed, NotFound
from orchestrator.store.store import Store
from orchestrator.transient.desk import Desk
from schemas.did import Did
from schemas.gate import Kind
from schemas.launch import LaunchState
from schemas.transient import Copy, Plan, Refusal, Transient, TransientId, TransientState
from tests.contract.filling import Killed
from tests.contract.transients import DISK, OURS, SCOPE, TAPE, Told, World, dst, hits, policy, worlds
from tests.services.catalog import Faulty, When

#: Calls that cannot be undone.
CHANGES: Final = ("set_rule_lifetime", "set_tombstones", "detach", "set_lifetime")

#: Datasets that may be released within a day.
CAP: Final = 2

#: Steps of one walk.
STEPS: Final = 120

BOX = Did(SCOPE, "ALL")
OTHER = Did(SCOPE, "OTHER")


#: How often each happens.
TURNS: Final[Mapping[str, int]] = {
    "make": 5, "pass_time": 10, "grow_old": 4, "sweep": 10, "reopen": 2, "close": 4, "grow": 1, "share": 1,
    "guard": 3, "unguard": 4, "keep": 2, "lift": 3, "read": 2, "end_reading": 3, "extend": 1, "change_policy": 1,
    "plan": 2, "release": 7, "release_old": 2, "survey": 4, "take_back": 1, "recall": 1, "stop": 1, "go": 3,
    "step": 10, "step_and_crash": 12, "erase": 1, "use_name_again": 2, "replace": 2, "copy": 2, "shrink": 1,
}  # fmt: skip


#: What may happen between two steps of a release, each of it as often.
MEANWHILE: Final = (
    *("change_policy", "copy", "shrink", "replace", "replace", "erase", "reopen", "share", "guard", "keep", "read"),
    *("extend", "stop", "sweep", "survey"),
)


class Harm(BaseException):
    """Something was done that must not be. Nobody catches it on the way."""


class Reading:
    """What launches read and make, as a test says."""

    def __init__(self) -> None:
        self.reading: set[Did] = set()
        self.making: set[Did] = set()

    def in_use(self, dids: Iterable[Did]) -> Mapping[Did, str]:
        return {did: "a launch reads it" for did in dids if did in self.reading}

    def makers(self, dids: Iterable[Did]) -> Mapping[Did, Sequence[Maker]]:
        return {did: [Maker(1, "w", "s", LaunchState.RUNNING)] for did in dids if did in self.making}

    def last_use(self, dids: Iterable[Did]) -> Mapping[Did, datetime]:
        return {}


class Watched:
    """Passes every call on; one that cannot be undone is judged first."""

    def __init__(self, catalog: Any, transients: Any, judge: Callable[[Did, str, Did | None], None]) -> None:
        self._catalog = catalog
        self._transients = transients
        self._judge = judge

    def __getattr__(self, name: str) -> Any:
        return getattr(self._catalog, name)

    def set_lifetime(self, did: Did, lifetime: timedelta | None) -> None:
        if lifetime is not None:
            self._judge(did, "erase", None)
        self._catalog.set_lifetime(did, lifetime)

    def detach(self, did: Did, dids: Iterable[Did]) -> int:
        for each in list(dids):
            self._judge(each, "detach", None)
        return int(self._catalog.detach(did, dids))

    def set_rule_lifetime(self, rule_id: str, lifetime: timedelta | None) -> None:
        if lifetime is not None:
            self._judge_rule(rule_id)
        self._catalog.set_rule_lifetime(rule_id, lifetime)

    def _judge_rule(self, rule_id: str) -> None:
        """One on a single file counts as a mark: when it ends the copy is marked."""
        rows = self._transients.list(states=[TransientState.LEAVING], limit=1000)
        files = {copy.did for row in rows for _, copy in self._transients.copies(row.id)}
        datasets = [each.did for each in self._catalog.datasets(SCOPE)]
        rules = self._catalog.rules([*datasets, BOX, *files])
        rule = next(rule for found in rules.values() for rule in found if rule.id == rule_id)
        assert (rule.account, rule.locked) == (OURS, False), rule
        if rule.did in files:
            self._judge(Did(SCOPE, rule.did.name.rpartition("-")[0]), f"mark {rule.rse_expression}", rule.did)
        else:
            self._judge(rule.did, "rule", None)

    def set_tombstones(self, files: Iterable[Did], rse: str) -> Sequence[Did]:
        marked = list(files)
        for file in marked:
            self._judge(Did(SCOPE, file.name.rpartition("-")[0]), f"mark {rse}", file)
        held: Sequence[Did] = self._catalog.set_tombstones(marked, rse)
        return held


class Beginning:
    """Transients of the store; where the time to take something back is over, what is made of it is judged."""

    def __init__(self, transients: Any, judge: Callable[[TransientId, Sequence[Copy] | None], None]) -> None:
        self._transients = transients
        self._judge = judge

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transients, name)

    def begin_leaving(self, id_: TransientId, copies: Iterable[Copy], **named: Any) -> bool:
        listed = list(copies)
        self._judge(id_, listed)
        return bool(self._transients.begin_leaving(id_, listed, **named))

    def refuse(self, id_: TransientId, refusals: Sequence[Refusal], **named: Any) -> bool:
        self._judge(id_, None)
        return bool(self._transients.refuse(id_, refusals, **named))


class Before(NamedTuple):
    """What a dataset was when it was released."""

    files: Sequence[FileEntry]
    copies: Mapping[Did, Sequence[Replica]]
    version: int


@dataclass
class Walk:
    world: World
    chance: random.Random
    reading: Reading = field(default_factory=Reading)
    runs: int = 0
    #: What may leave: (DID, when it was made), from each plan that was carried out, and each automatic release.
    allowed: set[tuple[str, datetime]] = field(default_factory=set)
    #: By the number of the release's row.
    before: dict[TransientId, Before] = field(default_factory=dict)
    plans: list[Plan] = field(default_factory=list)
    judged: int = 0
    stopped: bool = False
    _desk: Desk | None = None

    # The judge.

    def judge(self, did: Did, what: str, file: Did | None) -> None:
        """Raises Harm: this may not be done to the dataset, or to a file of it, here and now, as the world knows it."""
        self.judged += 1
        try:
            self.judge_life(did, what, file)
        except (AssertionError, DidNotFound) as error:
            raise Harm(f"{what} {did}: {error}") from error

    def judge_life(self, did: Did, what: str, file: Did | None) -> None:
        world, store = self.world, self.world.store
        lives = [row for row in store.transients.find(did) if row.state is TransientState.LEAVING]
        assert len(lives) == 1, (what, lives)
        row = lives[0]
        assert (row.did, row.born_at) == (did, row.born_at)
        assert (str(did), row.born_at) in self.allowed, f"{what} {did}: in no plan"
        assert not self.stopped, f"{what} {did}: everything stands still"
        assert row.leaves_at is not None and row.leaves_at <= world.now, f"{what} {did}: it can be taken back"
        assert row.release is not None and not (row.release.keeps and what == f"mark {TAPE}"), "a copy that stays"
        for keep in store.transient_keeps.in_force(world.now):
            assert keep.which != str(did), f"{what} {did}: {keep}"
        assert not row.extended_until or row.extended_until <= world.now
        assert did not in self.reading.reading | self.reading.making, f"{what} {did}: it is used"
        self.judge_successor(dst(int(did.name[-8:])), row.release.successor_closed_at)
        with suppress(DidNotFound):
            self.judge_dataset(did, row.born_at, row.release.erases, what, file)

    def judge_successor(self, successor: Did, closed_at: datetime) -> None:
        entry = self.world.catalog.dataset(successor)
        assert (entry.state, entry.closed_at) == (DatasetState.CLOSED, closed_at)
        assert entry.length > 0
        states = [row.state for row in self.world.store.transients.find(successor)]
        assert not {TransientState.RELEASED, TransientState.LEAVING} & set(states)

    def judge_dataset(self, did: Did, born_at: datetime, erases: bool, what: str, file: Did | None) -> None:
        catalog = self.world.catalog
        entry = catalog.dataset(did)
        if file is not None and entry.created_at != born_at:
            assert catalog.parents([file])[file] == [], f"{what} {file}: it is another one's now"
            return
        assert entry.created_at == born_at, f"{what} {did}: another life"
        assert entry.state is DatasetState.CLOSED, f"{what} {did}: open"
        assert erases or what not in ("erase", "detach"), f"{what} {did}: it stays"
        above = list(catalog.parents([did])[did])
        for found in catalog.rules([did, *above]).values():
            for rule in found:
                assert not rule.locked and rule.account == OURS, f"{what} {did}: {rule}"
        for each, parents in catalog.parents([each.did for each in catalog.files(did)]).items():
            assert set(parents) == {did}, f"{what} {did}: {each} is in {parents}"

    def judge_end_of_window(self, id_: TransientId, listed: Sequence[Copy] | None) -> None:
        """Raises Harm: it begins to leave (these copies of it), or is held (None), and must not, as the world is."""
        row = self.world.store.transients.get(id_)
        try:
            assert self.lives(row), "what is held or leaves must be there: this life of it has vanished"
            if listed is not None:
                self.judge_beginning(row, listed)
        except (AssertionError, DidNotFound) as error:
            raise Harm(f"{row.did}: {error}") from error

    def judge_beginning(self, row: Transient, listed: Sequence[Copy]) -> None:
        """All that counted when it was released is so still."""
        before, catalog = self.before[row.id], self.world.catalog
        (version,) = self.world.store.transient_policies.in_force()
        assert version.version == before.version, "its policy is another one by now"
        assert catalog.files(row.did) == before.files, "it has other files by now"
        assert catalog.replicas([row.did], readable=False) == before.copies, "it has other copies by now"
        stay = version.policy.keep.copies
        wanted = {(copy.did, copy.rse) for copies in before.copies.values() for copy in copies if copy.rse != stay}
        assert {(copy.did, copy.rse) for copy in listed} == wanted, "these are not the copies that were to leave"

    def lives(self, row: Transient) -> bool:
        """Whether the catalog has this life of it."""
        with suppress(DidNotFound):
            return bool(self.world.catalog.dataset(row.did).created_at == row.born_at)
        return False

    def judge_what_leaves(self) -> None:
        """What has left, and of which nothing is left that waits for anybody, is known to be gone."""
        for row in self.world.store.transients.list(states=[TransientState.LEAVING], limit=1000):
            assert self.lives(row) or any(self.left(row)), f"{row.did} is gone, and stays {row.state}: {row.reason}"

    def left(self, row: Transient) -> Iterator[Did]:
        """Files of it that are in nothing else and were not deleted yet, by the catalog or on the disk."""
        for _, copy in self.world.store.transients.copies(row.id):
            there = any(each.rse == copy.rse for each in self.world.catalog.replicas([copy.did]).get(copy.did, ()))
            lies = Path(copy.pfn.removeprefix("file://localhost")).exists()
            if copy.fate is None and (not self.world.catalog.parents([copy.did]).get(copy.did) if there else lies):
                yield copy.did

    # What happens.

    def desk(self, catalog: Any = None) -> Desk:
        watched = Watched(self.world.catalog, self.world.store.transients, self.judge)
        store = _With(self.world.store, self.reading, Beginning(self.world.store.transients, self.judge_end_of_window))
        return self.world.desk(watched if catalog is None else catalog(watched), store)

    def some(self) -> Did:
        return hits(self.chance.randint(1, self.runs))

    def make(self) -> None:
        self.runs += 1
        did = self.world.pair(
            self.runs, files=self.chance.randint(1, 2), rses=self.chance.choice([(DISK,), (DISK, TAPE)])
        )
        if self.chance.random() < 0.4:
            self.world.catalog.add_rule(did, DISK)
        if self.chance.random() < 0.4:
            self.world.catalog.enclose(BOX, [did])

    def pass_time(self) -> None:
        self.world.move(minutes=self.chance.choice([1, 11, 70, 300, 1500]))

    def grow_old(self) -> None:
        self.world.move(days=8)

    def sweep(self) -> None:
        self.world.sweep()

    def reopen(self) -> None:
        self.world.catalog.reopen(self.chance.choice([self.some(), dst(self.chance.randint(1, self.runs))]))

    def close(self) -> None:
        for run in range(1, self.runs + 1):
            for did in (hits(run), dst(run)):
                with suppress(DidNotFound):
                    self.world.catalog.close(did)

    def grow(self) -> None:
        did = self.some()
        self.world.catalog.attach(did, [self.world.file(f"{did.name}-{self.chance.randint(5, 9)}.root")])

    def share(self) -> None:
        files = self.world.catalog.files(self.some())
        self.world.catalog.attach(OTHER, [self.world.file(self.chance.choice(files).did.name)] if files else [])

    def guard(self) -> None:
        locked = self.chance.random() < 0.5
        self.world.rule(
            self.chance.choice([self.some(), self.some(), BOX]), f"user{self.chance.random()}", locked=locked
        )

    def unguard(self) -> None:
        for rules in self.world.catalog.rules([*map(hits, range(1, self.runs + 1)), BOX]).values():
            for rule in rules:
                if rule.locked:
                    self.world.catalog.lock_rule(rule.id, False)
                if rule.account != OURS:
                    self.world.catalog.set_rule_lifetime(rule.id, timedelta())

    def keep(self) -> None:
        self.world.store.transient_keeps.keep(str(self.some()), who="me", why="test", now=self.world.now)

    def lift(self) -> None:
        for keep in self.world.store.transient_keeps.in_force(self.world.now):
            self.world.store.transient_keeps.lift(keep.id, who="me", why="test", now=self.world.now)

    def read(self) -> None:
        self.chance.choice([self.reading.reading, self.reading.making]).add(self.some())

    def end_reading(self) -> None:
        self.reading.reading.clear()
        self.reading.making.clear()

    def extend(self) -> None:
        until = self.world.now + timedelta(days=2)
        self.world.store.transients.extend(self.some(), until, who="me", why="test", now=self.world.now)

    def change_policy(self) -> None:
        keeps = self.chance.choice([{}, {}, {"copies": TAPE}])
        named = {"description": str(self.chance.random())}
        self.world.apply(policy(automatic=self.chance.random() < 0.5, keep=keeps, **named))

    def plan(self) -> None:
        self.plans.append(self.desk().plan(who="me"))

    def release(self) -> None:
        self.release_plan(self.desk().plan(who="me"))

    def release_old(self) -> None:
        if self.plans:
            self.release_plan(self.plans.pop(0))

    def release_plan(self, plan: Plan) -> None:
        plan = plan.model_copy(update={"releases": plan.releases[:CAP]})
        self.note(self.desk().release(plan, who="me", why="test"))

    def survey(self) -> None:
        self.note(self.desk().survey(who="test").released)
        for row in self.world.store.transients.list(limit=1000):
            alive = row.state in (TransientState.LEAVING, TransientState.GONE) or self.lives(row)
            assert alive, f"{row.did} is no more, and a survey has not seen that: {row.state}"

    def note(self, released: Iterable[Transient]) -> None:
        catalog = self.world.catalog
        for row in released:
            self.allowed.add((str(row.did), row.born_at))
            files, copies = catalog.files(row.did), catalog.replicas([row.did], readable=False)
            self.before[row.id] = Before(files, copies, row.policy_version)

    def take_back(self) -> None:
        for row in self.world.store.transients.list(states=[TransientState.RELEASED])[:1]:
            self.desk().take_back([row.id], who="me", why="test")
            self.allowed.discard((str(row.did), row.born_at))

    def recall(self) -> None:
        for row in self.world.store.transients.list(states=[TransientState.LEAVING])[:1]:
            self.desk().recall(row.id, who="me", why="test")
            self.allowed.discard((str(row.did), row.born_at))

    def stop(self) -> None:
        kind = self.chance.choice([Kind.TRANSIENT, Kind.EVERYTHING])
        self.world.store.suspensions.suspend(Subject(kind), who="me", why="test", now=self.world.now)
        self.stopped = True

    def go(self) -> None:
        for kind in (Kind.TRANSIENT, Kind.EVERYTHING):
            with suppress(NotFound):
                self.world.store.suspensions.resume(Subject(kind), who="me", why="test", now=self.world.now)
        self.stopped = False

    def step(self) -> None:
        self._desk = self._desk or self.desk()
        self._desk.step()

    def step_and_crash(self) -> None:
        """Somewhere, or at one of the calls that cannot be undone; then the world goes on, and muleteer comes back."""
        when, number = self.chance.choice(list(When)), self.chance.randint(1, 40)
        fault: int | tuple[str, int] = number if self.chance.random() < 0.2 else (self.chance.choice(CHANGES), 1)
        error: Callable[[], BaseException] = Killed if self.chance.random() < 0.5 else _away
        with suppress(Killed, CatalogError):
            self.desk(lambda watched: Faulty(watched, {fault: when}, error=error)).step()
        self.world.move(minutes=11)
        if self.chance.random() < 0.7:
            self.chance.choice([self.guard, self.keep, self.read, self.reopen, self.stop, self.share, self.erase])()
            self.step()

    def erase(self) -> None:
        self.world.catalog.erase(self.some())

    def use_name_again(self) -> None:
        did = self.some()
        if not self.world.there(did):
            self.world.fill(did, [f"{did.name}-{number}.root" for number in range(2)])

    def replace(self) -> None:
        """Somebody erases one that is on its way, and makes another one, of the same files or of others."""
        rows = self.world.store.transients
        going = rows.list(states=[TransientState.LEAVING]) or rows.list(states=[TransientState.RELEASED])
        if going:
            did = self.chance.choice(going).did
            names = [f"{did.name}-{number}.root" for number in self.chance.choice([(0, 1), (0,), (7, 8), (7,)])]
            with suppress(DidNotFound):
                self.world.catalog.erase(did)
            self.world.move(seconds=1)
            self.world.fill(did, names)

    def copy(self) -> None:
        """One more copy of a file."""
        for file in self.world.catalog.files(self.some())[:1]:
            self.world.catalog.register([self.world.file(file.did.name, TAPE)], TAPE)

    def shrink(self) -> None:
        did = self.some()
        self.world.catalog.detach(did, [file.did for file in self.world.catalog.files(did)[1:]])

    def end(self) -> None:
        """Everybody goes home but muleteer and the catalog."""
        for each in (self.go, self.lift, self.end_reading):
            each()
        for _ in range(20):
            self.world.move(minutes=11)
            self.step()
            self.sweep()

    def turn(self) -> None:
        (name,) = self.chance.choices(list(TURNS), list(TURNS.values()))
        self.take(name)

    def once_through(self) -> None:
        """One is released; something happens before its time is over, and something while it leaves."""
        for name in ("make", "unguard", "lift", "end_reading", "go", "close", "grow_old", "release"):
            self.take(name)
        self.take(self.chance.choice(MEANWHILE))
        self.world.move(minutes=61)
        self.take("step")
        self.take(self.chance.choice([*MEANWHILE, *["replace"] * 6]))
        for name in ("step", "sweep", "step"):
            self.world.move(minutes=11)
            self.take(name)

    def take(self, name: str) -> None:
        with suppress(NotAllowed, NotFound, CatalogError):
            getattr(self, name)()
        spent = self.world.store.transients.released_since(self.world.now - timedelta(days=1))
        assert spent.datasets <= CAP, name


def _away() -> BaseException:
    return CatalogUnavailable("away")


class _With:
    """The store, with what launches read and make as the test says."""

    def __init__(self, store: Store, readers: Reading, transients: Beginning) -> None:
        self._store = store
        self.transient_readers = readers
        self.transients = transients

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def walk(folder: Path, store: Store, kind: str, seed: int) -> Walk:
    world = worlds(folder, store, kind)
    world.told = Told(datasets_per_day=CAP, undo=timedelta(hours=1))
    world.apply(policy())
    world.catalog.add_container(BOX)
    world.catalog.add_dataset(OTHER)
    made = Walk(world, random.Random(seed))
    for _ in range(3):
        made.make()
    return made


@pytest.mark.parametrize("seed", [0, 20, 23, 26])
@pytest.mark.parametrize("kind", ["fake", "embedded"])
def test_nothing_leaves_that_must_not(tmp_path: Path, store: Store, kind: str, seed: int) -> None:
    """Never what is kept, held, read, shared, open or another one; nothing outside a plan; never beyond the caps."""
    made = walk(tmp_path, store, kind, seed)
    for _ in range(STEPS):
        made.turn()

    for run in range(1, made.runs + 1):  # no file of a successor has ever gone
        assert made.world.on_disk(f"*/DST-{run:08d}*")
    made.end()
    made.judge_what_leaves()


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("kind", ["fake", "embedded"])
def test_what_changes_in_between_is_seen(tmp_path: Path, store: Store, kind: str, seed: int) -> None:
    """A thing that happens only before the time to take it back is over, or only while it leaves."""
    made = walk(tmp_path, store, kind, seed)
    for _ in range(16):
        made.once_through()
    made.end()

    made.judge_what_leaves()
    states = [row.state for row in store.transients.list(limit=1000)]
    assert states.count(TransientState.GONE) > 2


def test_a_walk_comes_by_everything(tmp_path: Path, store: Store) -> None:
    """A walk on which nothing could go wrong would prove nothing."""
    made = walk(tmp_path, store, "fake", 100)
    for _ in range(4 * STEPS):
        made.turn()

    states = {row.state for row in store.transients.list(limit=1000)}
    assert TransientState.GONE in states
    assert sum(row.freed_files for row in store.transients.list(limit=1000)) > 0
    assert made.judged > 20
