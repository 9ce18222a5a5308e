"""Hear what other processes commit: LISTEN and NOTIFY on PostgreSQL, a glance at the file on SQLite."""

from __future__ import annotations

import sqlite3
import threading

import psycopg
import structlog
from sqlalchemy.exc import SQLAlchemyError

from orchestrator.store.engine import LIVELINESS, Database
from orchestrator.store.signals import DISPATCHES, FACTS, MESSAGES, RULES

log = structlog.get_logger()

_ALL = (MESSAGES, RULES, DISPATCHES, FACTS)

#: How often another process's commits are looked for on SQLite, in seconds. One look costs about 10 microseconds.
_GLANCE = 0.1


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
                            self._database.bells.ring(*_ALL)
                        seen = version
            except (SQLAlchemyError, sqlite3.Error):
                self._stopping.wait(1)

    def _listen_postgresql(self) -> None:
        url = self._database.url.set(drivername="postgresql").render_as_string(hide_password=False)
        silent = False
        while not self._stopping.is_set():
            try:
                with psycopg.connect(url, autocommit=True, **LIVELINESS) as connection:
                    connection.execute("LISTEN muleteer")
                    silent = False
                    # whatever was rung while nobody listened
                    self._database.bells.ring(*_ALL)
                    while not self._stopping.is_set():
                        for notice in connection.notifies(timeout=0.5):
                            self._database.bells.ring(notice.payload)
            except psycopg.Error as error:
                if not silent:
                    log.warning("relay.lost", store=self._database.address, error=str(error).strip())
                silent = True
                self._stopping.wait(1)
