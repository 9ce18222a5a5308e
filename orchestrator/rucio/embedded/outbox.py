"""What happened in the catalog, on its way to the broker: the embedded catalog's hermes."""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog

from orchestrator.clock import Clock
from orchestrator.rucio.embedded.database import Database, flock
from orchestrator.rucio.port import CatalogUnavailable

log = structlog.get_logger(__name__)

#: Gives a frame to the broker: headers and body. Returns once the broker has it; raises otherwise.
Announce = Callable[[Mapping[str, str], bytes], None]

_MOMENT: Final = "%Y-%m-%d %H:%M:%S.%f"


class Outbox:
    """Events that are written with the change they tell of, and announced after its commit.

    An announcement that fails stays here, the change stands, and the next `flush` announces it: the same bytes again,
    possibly twice, as Rucio's own hermes does.
    """

    def __init__(self, database: Database, announce: Announce, clock: Clock) -> None:
        path = database.path
        self._database = database
        self._announcing = path.with_name(f"{path.name}.announcing")
        self._announce = announce
        self._clock = clock
        self._failing = False

    def tell(self, db: sqlite3.Connection, event_type: str, moment: str, payload: Mapping[str, Any]) -> None:
        """Put an event here, in the transaction of the change."""
        body = json.dumps({"event_type": event_type, "payload": payload, "created_at": moment})
        db.execute("INSERT INTO outbox (event_type, body) VALUES (?, ?)", (event_type, body))

    def next_moment(self, db: sqlite3.Connection) -> str:
        """The moment of a change, as Rucio writes it: later than any before, in the transaction of the change."""
        moment = self._clock().astimezone(UTC)
        row = db.execute("SELECT moment FROM latest").fetchone()
        if row is not None:
            moment = max(moment, read(row["moment"]) + timedelta(microseconds=1))
        db.execute("INSERT OR REPLACE INTO latest (one, moment) VALUES (1, ?)", (written(moment),))
        return written(moment)

    def flush(self) -> None:
        """Announce what is here, oldest first. Never raises: what cannot be announced stays.

        One thread of one process announces at a time. Who finds another at it leaves, since the other looks into
        the outbox once more after it has let go.
        """
        try:
            while self._waiting():
                with flock(self._announcing, os.O_RDWR | os.O_CREAT, fcntl.LOCK_EX | fcntl.LOCK_NB):
                    if not self._announce_all():
                        return
        except BlockingIOError:  # another is at it
            return
        except (CatalogUnavailable, OSError) as error:
            self._report(error)

    def _announce_all(self) -> bool:
        """Whether all of it could be announced."""
        for row in self._waiting():
            headers = {"event_type": row["event_type"], "persistent": "true"}
            try:
                self._announce(headers, row["body"].encode())
            except Exception as error:  # the broker's door has words of its own, and none may undo the change
                self._report(error)
                return False
            # Only now: a crash before this line announces the same bytes again, and none are lost.
            with self._database.changing() as db:
                db.execute("DELETE FROM outbox WHERE id = ?", (row["id"],))
        self._failing = False
        return True

    def _report(self, error: Exception) -> None:
        """Log the first failure of a row of them."""
        if not self._failing:
            log.warning("announcement.failed", catalog=f"sqlite:{self._database.path}", error=str(error), kept=True)
        self._failing = True

    def _waiting(self) -> list[sqlite3.Row]:
        with self._database.reading() as db:
            return db.execute("SELECT * FROM outbox ORDER BY id").fetchall()


def written(moment: datetime) -> str:
    """A moment as it is kept and announced: UTC without a zone, with microseconds, so that texts sort by time."""
    return moment.astimezone(UTC).strftime(_MOMENT)


def read(text: str) -> datetime:
    return datetime.strptime(text, _MOMENT).replace(tzinfo=UTC)
