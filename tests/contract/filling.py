"""What the tests of filling datasets share: files, a world that can be killed at any point, and what is in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

from orchestrator.core.registering import Mistold
from orchestrator.register.filler import Filled, Filler
from orchestrator.register.reading import Reader
from orchestrator.register.summing import Summing
from orchestrator.rucio.port import Catalog, DidNotFound, FileEntry
from orchestrator.store.registration_rows import Wanted
from orchestrator.store.registrations import Registrations
from orchestrator.store.store import Store
from schemas.did import Did
from schemas.registration import FileState, RegisteredFile, RegistrationState, Sums
from tests.unit.making import NOW

SCOPE: Final = "group.sphenix"

#: The containers above the dataset of a world, outermost first.
WAY: Final = (Did(SCOPE, "ALL"), Did(SCOPE, "CALOR"))

OPEN, DONE, FAILED = RegistrationState.OPEN, RegistrationState.DONE, RegistrationState.FAILED

#: Of our record, what writes.
WRITERS: Final = frozenset(
    {"begin", "resume", "plan", "listed", "note_sums", "note_attached", "note_lost", "refuse", "finish", "fail"}
)


class Killed(BaseException):
    """The process was killed."""


class Dying:
    """Our record, which dies at the n-th time that something is written, before it or after."""

    def __init__(self, record: Registrations, number: int, *, after: bool) -> None:
        self._record = record
        self._number = number
        self._after = after
        self.writes = 0

    def __getattr__(self, name: str) -> Any:
        do = getattr(self._record, name)
        return do if name not in WRITERS else lambda *args, **named: self._write(do, *args, **named)

    def _write(self, do: Any, *args: Any, **named: Any) -> Any:
        self.writes += 1
        if self.writes == self._number and not self._after:
            raise Killed
        done = do(*args, **named)
        if self.writes == self._number:
            raise Killed
        return done

    def as_record(self) -> Registrations:
        return cast(Registrations, self)


class Counting(Reader):
    """Remembers what was read, and dies at the n-th file."""

    def __init__(self, dies_at: int | None = None) -> None:
        super().__init__()
        self.read: list[str] = []
        self._dies_at = dies_at

    def sums(self, path: str) -> Sums:
        self.read.append(Path(path).name)
        if len(self.read) == self._dies_at:
            raise Killed
        return super().sums(path)


@dataclass
class World:
    """A folder with files, and a dataset that they are to go into."""

    folder: Path
    store: Store
    catalog: Catalog
    dataset: Did = field(default_factory=lambda: Did(SCOPE, "CALOR-00021615"))
    #: Names of all that was read.
    read: list[str] = field(default_factory=list)

    def wanted(self, **changes: Any) -> Wanted:
        values: dict[str, Any] = {"containers": ("ALL/CALOR",), "metadata": {"run_number": 21615}}
        return Wanted(self.dataset, **{**values, **changes})

    def file(self, name: str, content: str | None = None) -> RegisteredFile:
        """A file on disk, written unless it is there."""
        path = self.folder / name
        if content is not None or not path.exists():
            path.write_text(content if content is not None else f"content of {name}")
        return planned(name, path)

    def files(self, names: str = "abcde") -> list[RegisteredFile]:
        return [self.file(f"{letter}.root") for letter in names]

    def fill(
        self,
        files: Iterable[RegisteredFile | Mistold] | None = None,
        wanted: Wanted | None = None,
        *,
        record: Registrations | None = None,
        catalog: Catalog | None = None,
        reader: Counting | None = None,
        **named: Any,
    ) -> Filled:
        reader = reader or Counting()
        summing = Summing(reader, threads=1)
        filler = Filler(
            record or self.store.registrations,
            catalog or self.catalog,
            summing.all,
            **{"clock": lambda: NOW, "at_once": 2, **named},
        )
        try:
            return filler.fill(
                wanted or self.wanted(), self.files() if files is None else files, who="cli:me", why="test"
            )
        finally:
            self.read += reader.read

    def content(self) -> list[str]:
        return [entry.did.name for entry in self.catalog.files(self.dataset)]


def planned(name: str, path: Path, **changes: Any) -> RegisteredFile:
    values = {"path": str(path), "pfn": str(path), "state": FileState.PLANNED, **changes}
    return RegisteredFile(did=f"{SCOPE}:{name}", **values)


def dump(catalog: Catalog, datasets: Sequence[Did], way: Sequence[Did] = ()) -> dict[str, Any]:
    """All that the catalog has of these, but for moments and for GUIDs, which are made anew for each catalog."""
    return {
        "datasets": {str(did): _dataset(catalog, did) for did in datasets},
        "containers": {str(did): _children(catalog, did) for did in way},
    }


def _children(catalog: Catalog, did: Did) -> list[str] | None:
    try:
        return [str(child) for child in catalog.children(did)]
    except DidNotFound:
        return None


def _dataset(catalog: Catalog, did: Did) -> dict[str, Any] | None:
    try:
        entry, files = catalog.dataset(did), catalog.files(did)
    except DidNotFound:
        return None
    known = catalog.metadata([did])[did]
    replicas = catalog.replicas([did])
    return {
        "state": entry.state,
        "counts": (entry.bytes, entry.length, entry.events),
        "files": {
            file.did.name: (file.bytes, file.adler32, file.md5, file.events, file.guid is not None) for file in files
        },
        "replicas": {
            each.name: [(copy.rse, Path(copy.pfn).name) for copy in replicas[each]] for each in sorted(replicas)
        },
        "metadata": {key: value for key, value in known.items() if not key.endswith("_at")},
    }


def demand_agreement(store: Store, catalog: Catalog, dataset: Did) -> None:
    """Our record and the catalog tell the same of every file: both have it, or neither."""
    (registration,) = [each for each in store.registrations.list(limit=100) if each.dataset == str(dataset)]
    ours = {
        file.did: (file.bytes, file.adler32, file.md5, file.guid)
        for page in store.registrations.pages(registration.id, [FileState.ATTACHED])
        for file in page
    }
    theirs = {str(file.did): (file.bytes, file.adler32, file.md5, file.guid) for file in catalog.files(dataset)}
    assert ours == theirs
    left = [file.state for page in store.registrations.pages(registration.id) for file in page]
    if registration.state is RegistrationState.DONE:
        assert set(left) <= {FileState.ATTACHED}
    else:
        assert set(left) <= {FileState.ATTACHED, FileState.REFUSED}


def other(world: World, name: str, content: str, **changes: Any) -> FileEntry:
    """A file that is in the catalog already."""
    path = world.folder / "elsewhere"
    path.write_text(content)
    sums = Reader().sums(str(path))
    values = {"md5": sums.md5, "guid": "0f0f0f0f-0000-4000-8000-000000000000", **changes}
    entry = FileEntry(Did(SCOPE, name), str(path), sums.bytes, sums.adler32, **values)
    world.catalog.register([entry])
    return entry


def reasons(filled: Filled, world: World) -> dict[str, str | None]:
    """Why files were refused, by name."""
    refused = world.store.registrations.files(filled.registration.id, [FileState.REFUSED])
    return {file.did.partition(":")[2]: file.reason for file in refused}


def at(call: str, number: int, do: Callable[[], Any]) -> Callable[[str, int], None]:
    """A hook that does something once, before the n-th call of that name."""
    calls: list[str] = []

    def hook(name: str, _: int) -> None:
        calls.append(name)
        if name == call and calls.count(call) == number:
            do()

    return hook


def filler(world: World) -> Filler:
    """For what is resumed."""
    return Filler(world.store.registrations, world.catalog, Summing(Reader()).all, at_once=2)
