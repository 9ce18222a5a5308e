"""A bench for what the embedded catalog deletes: a clock that a test moves, and a directory with a file in it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator.rucio.embedded.catalog import LocalCatalog
from orchestrator.rucio.embedded.tables import LOCAL
from orchestrator.rucio.port import FileEntry
from schemas.did import Did
from tests.contract.announcements import Listener

BEGAN = datetime(2026, 11, 22, 1, 13, 40, 292656, tzinfo=UTC)
RUN = Did("group.sphenix", "RUN-00021615")
NAME = Did("group.sphenix", "a.root")


class Bench:
    """A catalog with a clock that a test moves, and a directory with a file in it."""

    def __init__(self, directory: Path) -> None:
        self.now = BEGAN
        self.path = directory / "catalog.db"
        self.broker = Listener()
        self.catalog = self.opened()
        self.disk = directory / "disk"
        self.disk.mkdir()
        self.file = self.disk / "a.root"
        self.file.write_bytes(b"x" * 10)

    def opened(self, account: str = "root") -> LocalCatalog:
        return LocalCatalog(self.path, self.broker.announce, account, clock=lambda: self.now)

    def marked(self, pfn: str, size: int = 10) -> None:
        """A file that is in a dataset, and marked for deletion."""
        self.catalog.add_dataset(RUN)
        self.catalog.attach(RUN, [FileEntry(NAME, pfn, size, "0a1b2c3d")])
        assert self.catalog.set_tombstones([NAME], LOCAL) == []

    def unmount(self) -> None:
        """An empty directory is where the disk was."""
        self.disk.rename(self.disk.with_name("unmounted"))
        self.disk.mkdir()

    def mount(self) -> None:
        self.disk.with_name("unmounted").replace(self.disk)

    def told(self) -> list[tuple[str, Any]]:
        """The outcomes of deletions, and what was said of them."""
        deletions = [event for event in self.broker.events if event["event_type"].startswith("deletion-")]
        return [(event["event_type"], event["payload"].get("reason")) for event in deletions]
