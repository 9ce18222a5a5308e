"""What was sent is written into the git repository now and then, while muleteer runs. No launch waits for it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import structlog

from orchestrator.clock import Clock
from orchestrator.launch.git_archive import ArchiveBusy, ArchiveRefused, Keeping, archive
from orchestrator.store.launches import Launches

log = structlog.get_logger()

#: What belongs to a launch may be written down so long after its last change.
_OVERLAP: Final = timedelta(days=1)


class Archivist:
    """Writes launches into the repository now and then."""

    def __init__(
        self, launches: Launches, keeping: Keeping, *, clock: Clock, stopping: Callable[[], bool] = lambda: False
    ) -> None:
        self._launches = launches
        self._keeping = keeping
        self._clock = clock
        self._stopping = stopping
        #: Before then, all is there.
        self._since: datetime | None = None
        self._trouble: str | None = None

    def keep(self) -> None:
        """Write what is new. What goes wrong is said once, and done by a later turn. Raises StoreError."""
        began = self._clock()
        try:
            done = archive(self._launches, self._keeping, since=self._since, stopping=self._stopping)
        except ArchiveBusy:
            return
        except ArchiveRefused as error:
            self._complain(str(error))
            return
        if not done.more:
            self._since = began - _OVERLAP
        if done.commit is not None:
            log.info("archive.committed", launches=len(done.written), commit=done.commit, pushed=done.pushed)
        self._complain(done.push_error)

    def _complain(self, trouble: str | None) -> None:
        if trouble is not None and trouble != self._trouble:
            log.warning("archive.trouble", why=trouble, next="it is tried again at the next turn")
        self._trouble = trouble
