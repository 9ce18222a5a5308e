"""Bells: tell a waiting loop that something was committed, in this process and in others.

A bell is a hint and never the truth: whoever it wakes looks into the store. A lost ring costs one safety poll.
"""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

import psycopg
import structlog
from sqlalchemy.exc import SQLAlchemyError

if TYPE_CHECKING:
    from orchestrator.store.engine import Database

log = structlog.get_logger()

MESSAGES = "messages"
RULES = "rules"
DISPATCHES = "dispatches"
LAUNCHES = "launches"

#: How often another process's commits are looked for on SQLite, in seconds. One look costs about 10 microseconds.
_GLANCE = 0.1


class Bells:
    """Counters that can be waited for."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._rings: Counter[str] = Counter()

    def ring(self, *names: str) -> None:
        with self._changed:
            self._rings.update(names)
            self._changed.notify_all()

    def heard(self, *names: str) -> int:
        """How often these bells have rung in all. Ask before looking into the store, then `wait` from there."""
        with self._changed:
            return sum(self._rings[name] for name in names)

    def wait(self, *names: str, since: int, timeout: float) -> bool:
        """Wait until one of the bells has rung since `heard` gave `since`; False if `timeout` seconds passed first."""
        with self._changed:
            return self._changed.wait_for(lambda: sum(self._rings[name] for name in names) != since, timeout)


class Relay:
    """Rings this process's bells for what other processes commit: one thread, for as long as it is open."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._stopping = threading.Event()
        work = self._watch_sqlite if database.is_sqlite else self._listen_postgresql
        self._thread = threading.Thread(target=work, name="relay", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stopping.set()
        self._thread.join(timeout=5)

    def _watch_sqlite(self) -> None:
        """`data_version` changes whenever another connection has committed."""
        seen = None
        while not self._stopping.is_set():
            try:
                with self._database.engine.connect() as connection:
                    raw = connection.connection.dbapi_connection
                    assert raw is not None
                    while not self._stopping.wait(_GLANCE):
                        version = raw.cursor().execute("PRAGMA data_version").fetchone()[0]
                        if seen is not None and version != seen:
                            self._database.bells.ring(MESSAGES, RULES, DISPATCHES, LAUNCHES)
                        seen = version
            except SQLAlchemyError:
                self._stopping.wait(1)

    def _listen_postgresql(self) -> None:
        url = self._database.url.set(drivername="postgresql").render_as_string(hide_password=False)
        silent = False
        while not self._stopping.is_set():
            try:
                with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
                    connection.execute("LISTEN muleteer")
                    silent = False
                    # whatever was rung while nobody listened
                    self._database.bells.ring(MESSAGES, RULES, DISPATCHES, LAUNCHES)
                    while not self._stopping.is_set():
                        for notice in connection.notifies(timeout=0.5):
                            self._database.bells.ring(notice.payload)
            except psycopg.Error as error:
                if not silent:
                    log.warning("relay.lost", store=self._database.address, error=str(error).strip())
                silent = True
                self._stopping.wait(1)
