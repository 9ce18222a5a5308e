"""Open the database, and begin and end transactions on it."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import chain
from pathlib import Path
from typing import Any, Final

import psycopg
from sqlalchemy import URL, Connection, Dialect, Engine, Table, create_engine, event, make_url, text
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from orchestrator.store.port import NotFound, StoreError, StoreUnavailable
from orchestrator.store.signals import Bells
from orchestrator.store.tables import Moment

#: How long a statement waits for another process's lock on SQLite before it gives up, in seconds.
_PATIENCE = 5.0


#: A server that vanishes without a word is given up after some 20 seconds, not after the kernel's many minutes.
LIVELINESS: Final[Mapping[str, Any]] = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 2,
    "tcp_user_timeout": 20_000,
}


#: Numbers have 64 bits in either database.
_LARGEST: Final = 2**63 - 1


#: Rows for one INSERT: enough to be cheap, few enough for SQLite's 32,766 parameters and its cache of statements.
_ROWS_AT_ONCE: Final = 250


class Database:
    """One database, shared by every thread of the process."""

    def __init__(self, url: str) -> None:
        """`url` is SQLAlchemy's: `sqlite:////path/muleteer.db` or `postgresql+psycopg://user@host/name`.

        Raises:
            StoreError: for any other kind of database, or a URL that cannot be read.
        """
        self.url = _checked(url)
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self.engine = _sqlite(self.url) if self.is_sqlite else _postgresql(self.url)
        # on SQLite every transaction sees one moment anyway
        self._reader = (
            self.engine if self.is_sqlite else self.engine.execution_options(isolation_level="REPEATABLE READ")
        )
        self.bells = Bells()
        # SQLite has one writer. Threads of one process queue here, first come first served, instead of polling.
        self._writer = threading.Lock()

    @property
    def address(self) -> str:
        """For people: without the password."""
        return self.url.render_as_string(hide_password=True)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view: several queries see the same moment.

        Raises:
            StoreUnavailable.
            NotFound: what is asked for has a larger number than there can be.
        """
        with _translated(self.address), self._reader.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self, *rings: str) -> Iterator[Connection]:
        """A transaction that may change things; after its commit the named bells ring, here and in other processes.

        Raises:
            StoreUnavailable: nothing was changed.
            NotFound: a number is larger than there can be; nothing was changed.
        """
        with _translated(self.address):
            if self.is_sqlite:
                with self._writer, self._writing() as connection:
                    yield connection
            else:
                with self._writing() as connection:
                    yield connection
                    for bell in rings:
                        connection.execute(text("SELECT pg_notify('muleteer', :bell)"), {"bell": bell})
        for bell in rings:
            self.bells.ring(bell)

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with self.engine.connect() as connection:
            connection = connection.execution_options(muleteer_writes=True)
            with connection.begin():
                yield connection

    def close(self) -> None:
        self.engine.dispose()


def insert_many(connection: Connection, table: Table, names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Insert rows, each with a value for each of the named columns, in that order.

    Not SQLAlchemy's own way, which handles each value of each row in Python: for small rows that costs three times
    what the database does.
    """
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        _insert_at_once(connection, table, names, rows)
    else:
        _copy(connection, table, names, rows)


def _insert_at_once(
    connection: Connection, table: Table, names: Sequence[str], rows: Sequence[tuple[Any, ...]]
) -> None:
    """Many rows with one statement, because SQLite's driver gives up the interpreter's lock once for each.

    A thread that is busy meanwhile (with frames, say) would keep it for 5 ms each time.
    """
    columns: list[Sequence[Any]] = list(zip(*rows, strict=True))
    for position in (at for at, name in enumerate(names) if isinstance(table.c[name].type, Moment)):
        columns[position] = _texts(columns[position], connection.dialect)
    values = list(zip(*columns, strict=True))
    blanks = f"({', '.join('?' * len(names))})"
    for start in range(0, len(values), _ROWS_AT_ONCE):
        some = values[start : start + _ROWS_AT_ONCE]
        statement = f"INSERT INTO {table.name} ({', '.join(names)}) VALUES {', '.join([blanks] * len(some))}"
        connection.exec_driver_sql(statement, tuple(chain.from_iterable(some)))


def _copy(connection: Connection, table: Table, names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """COPY, PostgreSQL's way for many rows; its driver writes them without Python in between.

    In binary: as text, every byte of a body would be written as two digits and read back.
    """
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg.Connection)
    types = [table.c[name].type.compile(connection.dialect).partition("(")[0].lower() for name in names]
    into = f"COPY {table.name} ({', '.join(names)}) FROM STDIN (FORMAT BINARY)"
    with driver.cursor() as cursor, cursor.copy(into) as copy:
        copy.set_types(types)
        for row in rows:
            copy.write_row(row)


def _texts(moments: Sequence[datetime | None], dialect: Dialect) -> list[Any]:
    """Moments as SQLite keeps them. Rows of one batch share most of theirs, so each is converted once."""
    convert = Moment().process_bind_param
    texts = {moment: convert(moment, dialect) for moment in set(moments)}
    return [texts[moment] for moment in moments]


def _checked(url: str) -> URL:
    try:
        parsed = make_url(url)
    except Exception as error:
        raise StoreError(
            f"the store's URL cannot be read ({error}): write sqlite:////path or postgresql://..."
        ) from None
    if "password" in parsed.query:
        raise StoreError(
            "the store's URL has its password behind a question mark, where it would be shown: "
            "write postgresql://user:password@host/name"
        )
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in ("sqlite", "postgresql+psycopg"):
        raise StoreError(f"the store cannot be kept in {parsed.drivername!r}: use sqlite or postgresql")
    return parsed


def _sqlite(url: URL) -> Engine:
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, pool_size=16, max_overflow=16, connect_args={"timeout": _PATIENCE})

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _: Any) -> None:
        # The driver begins a transaction only before text that starts with INSERT, UPDATE, DELETE or REPLACE: a claim
        # that starts with WITH would be committed at once. So it is told to keep its hands off, and `_begin` decides.
        connection.isolation_level = None
        # names of datasets count letter by letter, in LIKE as well
        _use_wal(connection)
        pragmas = ("synchronous=FULL", "foreign_keys=ON", "temp_store=MEMORY")
        for pragma in (*pragmas, "case_sensitive_like=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get("muleteer_writes", False)
        # IMMEDIATE: a writer waits for its turn here, and never half-way through
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _use_wal(connection: sqlite3.Connection) -> None:
    """For a change of journal mode SQLite does not wait its turn, and two processes may begin a new store together."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def _postgresql(url: URL) -> Engine:
    # pre-ping: after the server has been away, the pool's dead connections are replaced without an error
    return create_engine(
        url,
        pool_size=16,
        max_overflow=16,
        pool_pre_ping=True,
        connect_args={**LIVELINESS, "application_name": "muleteer", "options": "-c timezone=UTC"},
    )


@contextmanager
def _translated(address: str) -> Iterator[None]:
    """Foreign exceptions stop here."""
    try:
        yield
    except PoolTimeout as error:
        raise StoreUnavailable(f"the store {address} is not available: {error}") from error
    except (OverflowError, DataError) as error:
        if not _is_of_a_number(error):
            raise
        raise NotFound(f"a number is too large: {_LARGEST:,} is the largest that there can be") from error
    except _ABOUT_WHAT_WAS_ASKED:
        raise
    except (DBAPIError, psycopg.Error) as error:  # down, locked, full, read-only after a failover, shutting down
        raise StoreUnavailable(f"the store {address} is not available: {_first_line(error)}") from error


def _is_of_a_number(error: OverflowError | DataError) -> bool:
    """Whether a database was given a number that it has no room for."""
    if isinstance(error, DataError):
        return isinstance(error.orig, psycopg.errors.NumericValueOutOfRange)
    return "SQLite INTEGER" in str(error)


#: These say nothing about the database.
_ABOUT_WHAT_WAS_ASKED = (
    IntegrityError,
    DataError,
    ProgrammingError,
    psycopg.IntegrityError,
    psycopg.DataError,
    psycopg.ProgrammingError,
)


def _first_line(error: Exception) -> str:
    cause = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0]
