"""What the tests of transient datasets share: a catalog with raw data and its successors, and everything around it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any, Final

from orchestrator.reconcile.checker import Checker
from orchestrator.rucio.embedded.catalog import LocalCatalog
from orchestrator.rucio.port import DidNotFound, FileEntry
from orchestrator.store.store import Store
from orchestrator.transient.asking import Asker
from orchestrator.transient.desk import Desk
from orchestrator.transient.leaver import Leaver
from orchestrator.transient.looking import Findings, Looker
from orchestrator.transient.noticing import Noticer
from orchestrator.transient.objecting import Objector
from orchestrator.transient.proving import Prover
from orchestrator.transient.recalling import Recaller
from orchestrator.transient.regime import Regimes
from orchestrator.transient.releaser import Releaser
from orchestrator.transient.settling import Settler
from orchestrator.transient.sighting import Sighting
from orchestrator.transient.surveyor import Surveyor
from orchestrator.transient.witness import Witness
from schemas.did import Did
from schemas.transient import Refused, Release, Transient, TransientPolicy
from tests.contract.announcements import Listener
from tests.services.catalog import FakeCatalog
from tests.unit.making import NOW

SCOPE: Final = "group.sphenix"
OURS: Final = "producer"
DISK, TAPE = "DISK", "TAPE"


@dataclass
class Told:
    """What the settings of a test say."""

    every: timedelta = timedelta()
    undo: timedelta = timedelta(hours=24)
    datasets_per_day: int | None = None
    bytes_per_day: int | None = None
    rse_bytes_per_day: Mapping[str, int] = field(default_factory=dict)
    never: tuple[str, ...] = ()
    raw_scopes: tuple[str, ...] = ("raw*",)
    accounts: tuple[str, ...] = ()
    disks: Mapping[str, Path] = field(default_factory=dict)
    proofs: int = 1000


def policy(**changes: Any) -> TransientPolicy:
    """HITS leave a week after they were closed, once their DST is there with as many files."""
    values: dict[str, Any] = {
        "name": "hits",
        "scope": SCOPE,
        "pattern": r"HITS-(?P<run>\d{8})",
        "lifetime": "7d",
        "successor": {"dataset": "{scope}:DST-{run}", "same_count": True},
        "fraction": 1.0,
    }
    return TransientPolicy.model_validate({**values, **changes})


def hits(run: int = 1) -> Did:
    return Did(SCOPE, f"HITS-{run:08d}")


def dst(run: int = 1) -> Did:
    return Did(SCOPE, f"DST-{run:08d}")


@dataclass
class World:
    """A catalog, a store, and a clock that moves when it is told to."""

    folder: Path
    store: Store
    catalog: Any
    told: Told = field(default_factory=Told)
    now: datetime = NOW
    made: int = 0
    #: What happens while a recall waits for whoever has the dataset in hand.
    pause: Callable[[float], object] = lambda seconds: None

    # What people and productions do.

    def clock(self) -> datetime:
        return self.now

    def move(self, **span: float) -> None:
        self.now += timedelta(**span)

    def file(self, name: str, rse: str = DISK, scope: str = SCOPE) -> FileEntry:
        """A file that lies on the disk."""
        path = self.folder / rse.lower() / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"content of {name}")
        return FileEntry(Did(scope, name), f"file://localhost{path}", path.stat().st_size, "0a1b2c3d")

    def fill(
        self, did: Did, names: Sequence[str], *, rses: Sequence[str] = (DISK,), closes: bool = True, **more: Any
    ) -> None:
        """A dataset with files that have a copy at each RSE."""
        self.catalog.add_dataset(did, **more)
        for rse in rses:
            files = [self.file(name, rse) for name in names]
            self.catalog.attach(did, files, rse) if rse == rses[0] else self.catalog.register(files, rse)
        if closes:
            self.catalog.close(did)

    def pair(self, run: int = 1, files: int = 3, **more: Any) -> Did:
        """HITS of a run and the DST that was made of them."""
        self.fill(hits(run), [f"HITS-{run:08d}-{n}.root" for n in range(files)], **more)
        self.fill(dst(run), [f"DST-{run:08d}-{n}.root" for n in range(files)])
        return hits(run)

    def apply(self, *policies: TransientPolicy, prune: bool = False) -> None:
        self.store.transient_policies.apply(policies or [policy()], prune=prune, who="me", now=self.now, reason="test")

    def ripe(self, *policies: TransientPolicy, **more: Any) -> Did:
        """A pair that may leave."""
        did = self.pair(**more)
        self.apply(*policies)
        self.move(days=8)
        return did

    def sweep(self) -> None:
        """The catalog's daemons have their turn."""
        self.catalog.sweep()

    def rule(self, did: Did, account: str = "somebody", rse: str = DISK, *, locked: bool = False) -> None:
        """A replication rule of some account."""
        if isinstance(self.catalog, FakeCatalog):
            self.catalog.add_foreign_rule(account, did, rse, locked=locked)
            return
        path = self.folder.parent / "catalog.db"
        LocalCatalog(path, Listener().announce, account=account, clock=self.clock).add_rule(did, rse)
        if locked:
            (made,) = [rule for rule in self.catalog.rules([did])[did] if rule.account == account]
            self.catalog.lock_rule(made.id)

    # What muleteer does.

    def desk(self, catalog: Any = None, store: Any = None, owner: str | None = None) -> Desk:
        """A new process, with nothing in its memory."""
        self.made += 1
        catalog, store = catalog or self.catalog, store or self.store
        owner = owner or f"desk {self.made}"
        witness = Witness(self.told.disks)
        findings, sighting = complete(catalog, witness)
        asker = Asker(catalog, store.transient_readers, store.transients)
        looker = Looker(catalog, findings, sighting)
        prover = Prover(asker, looker, clock=self.clock)
        regimes = Regimes(catalog, store, self.told, clock=self.clock)
        settler = Settler(catalog, store.transients, witness)
        objector = Objector(
            *(catalog, store), asker=asker, findings=findings, sighting=sighting, guard=regimes.guard, clock=self.clock
        )
        recaller = Recaller(
            *(catalog, store), asker=asker, settler=settler, owner=f"{owner} r", clock=self.clock, pause=self.pause
        )
        return Desk(
            store,
            catalog.address,
            regimes,
            surveyor=Surveyor(asker, prover, store.transients, clock=self.clock),
            releaser=Releaser(
                *(asker, prover, store.transients, regimes), catalog=catalog.address, store=store.id, clock=self.clock
            ),
            leaver=Leaver(
                *(catalog, store.transients, regimes),
                asker=asker,
                prover=prover,
                looker=looker,
                settler=settler,
                objector=objector,
                recaller=recaller,
                owner=owner,
                clock=self.clock,
            ),
            recaller=recaller,
            noticer=Noticer(catalog, store.transients, regimes, asker=asker, prover=prover, clock=self.clock),
            owner=owner,
            clock=self.clock,
        )

    def verdicts(self, **named: Any) -> dict[str, Release | Refused]:
        """What a plan says of each dataset."""
        found: dict[str, Release | Refused] = {}
        self.desk().plan(who="me", take=lambda verdict: found.update({verdict.did: verdict}), **named)
        return found

    def refusals(self, did: Did) -> dict[str, str]:
        """Why a dataset may not leave, by check; empty if it may."""
        verdict = self.verdicts()[str(did)]
        return {} if isinstance(verdict, Release) else dict(verdict.refusals)

    def release(self) -> list[Transient]:
        """All that may leave."""
        return self.desk().release(self.desk().plan(who="me"), who="me", why="full disks")

    def until_gone(self, did: Did, desk: Desk | None = None, rounds: int = 60) -> Transient:
        """Steps and daemons in turn, until nothing more happens."""
        desk = desk or self.desk()
        for _ in range(rounds):
            desk.step()
            transient = self.known(did)
            if transient.state == "gone":
                return transient
            self.sweep()
            self.move(minutes=11)
        raise AssertionError(f"{transient.state}: {transient.reason}")

    def known(self, did: Did) -> Transient:
        return self.store.transients.find(did)[0]

    # What is so.

    def there(self, did: Did) -> bool:
        try:
            self.catalog.dataset(did)
        except DidNotFound:
            return False
        return True

    def on_disk(self, pattern: str = "*/*") -> list[str]:
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.glob(pattern) if path.is_file())


def complete(catalog: Any, witness: Witness) -> tuple[Findings, Sighting]:
    """What tells whether a successor is complete."""
    checker, sighting = Checker(catalog), Sighting(catalog, witness)
    return lambda did, checks: chain(checker.dataset(did, checks), sighting.findings(did, checks)), sighting


def _prover(world: World, catalog: Any) -> tuple[Asker, Prover, Regimes]:
    asker = Asker(catalog, world.store.transient_readers, world.store.transients)
    looker = Looker(catalog, *complete(catalog, Witness(world.told.disks)))
    prover = Prover(asker, looker, clock=world.clock)
    return asker, prover, Regimes(catalog, world.store, world.told, clock=world.clock)


def releaser(world: World, catalog: Any = None) -> Releaser:
    """One alone, as actors have it."""
    catalog = catalog or world.catalog
    asker, prover, regimes = _prover(world, catalog)
    return Releaser(
        *(asker, prover, world.store.transients, regimes),
        catalog=catalog.address,
        store=world.store.id,
        clock=world.clock,
    )


def noticer(world: World, catalog: Any = None) -> Noticer:
    """One alone."""
    catalog = catalog or world.catalog
    asker, prover, regimes = _prover(world, catalog)
    return Noticer(catalog, world.store.transients, regimes, asker=asker, prover=prover, clock=world.clock)


def fake(folder: Path, world: Callable[[], datetime]) -> FakeCatalog:
    """In memory; what is deleted is deleted on the disk as well."""

    def delete(pfn: str) -> None:
        Path(pfn.removeprefix("file://localhost")).unlink()

    rses = {rse: f"file://localhost{folder}/{rse.lower()}/" for rse in (DISK, TAPE)}
    made = FakeCatalog(rses=rses, account=OURS, clock=world)
    made.delete = delete
    return made


def embedded(folder: Path, world: Callable[[], datetime]) -> LocalCatalog:
    return LocalCatalog(folder.parent / "catalog.db", Listener().announce, account=OURS, clock=world)


def worlds(folder: Path, store: Store, kind: str) -> World:
    """A world with a catalog of that kind: `fake` or `embedded`."""
    folder = folder / "data"
    folder.mkdir()
    world = World(folder, store, None)
    world.catalog = {"fake": fake, "embedded": embedded}[kind](folder, world.clock)
    return world
