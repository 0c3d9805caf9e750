"""The database handle: WAL, one write lock taken up front, and two grades of durability.

A deferred ``BEGIN`` that reads and then writes fails at once with ``SQLITE_BUSY_SNAPSHOT`` when another
connection committed in between, whatever the busy timeout; ``BEGIN IMMEDIATE`` waits instead. Accepted jobs
and their results are committed with ``synchronous=FULL``; claims and heartbeats with ``NORMAL``, because
losing one of those in a power cut only runs a job again.

The driver is ``pysqlite3``, whose wheels bundle a current SQLite: the system's is often older than 3.51.3 and
can corrupt a WAL database (https://sqlite.org/wal.html#walresetbug).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from threading import Lock
from typing import Any, Final, Literal

import pysqlite3.dbapi2
from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine import Engine, make_url
from sqlalchemy.pool import ConnectionPoolEntry

BUSY_TIMEOUT_SECONDS: Final = 10.0
"""How long a write waits for another one's lock; ``?timeout=SECONDS`` in the URL says otherwise."""

TURN_SECONDS: Final = 0.1
"""How long a thread waits for the writes of the others before it leaves the order to SQLite."""

JOURNAL_SIZE_LIMIT_BYTES: Final = 64 * 2**20

_ON_CONNECT: Final = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA foreign_keys=ON",
    f"PRAGMA journal_size_limit={JOURNAL_SIZE_LIMIT_BYTES}",
)


class BrokenReference(RuntimeError):
    """A change of the schema would leave rows that refer to nothing."""


class Turn:
    """Lets the threads of one process write one after another, each as soon as the one before is done.

    SQLite would have a thread that finds the database locked sleep and look again, longer each time. This is a
    courtesy and no guard: who waits for too long, since another process holds the lock, goes on and lets SQLite decide.
    """

    def __init__(self, seconds: float = TURN_SECONDS) -> None:
        self._seconds = seconds
        self._lock = Lock()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for the turn, and pass it on at the end of the block."""
        mine = self._lock.acquire(timeout=self._seconds)
        try:
            yield
        finally:
            if mine:
                self._lock.release()


class Database:
    """Hands out short transactions. Create it after a fork, never before."""

    def __init__(self, url: str) -> None:
        if make_url(url).get_backend_name() == "sqlite":
            self.engine = create_engine(url, module=pysqlite3.dbapi2, connect_args=_connect_args(url))
            _prepare_sqlite(self.engine)
            self._turn: Callable[[], AbstractContextManager[None]] = Turn().taken
        else:
            self._turn = nullcontext
            self.engine = create_engine(url)
        # Made once: the pool is the same, and making them costs as much as a short statement.
        self._durable = self.engine.execution_options(write="FULL")
        self._quick = self.engine.execution_options(write="NORMAL")

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Open a read transaction: one consistent snapshot."""
        with self.engine.begin() as connection:
            yield connection

    @contextmanager
    def write(self, *, durable: bool = True) -> Iterator[Connection]:
        """Open a write transaction; it commits at the end of the block, or rolls back on an error."""
        with self._turn(), (self._durable if durable else self._quick).begin() as connection:
            yield connection

    @contextmanager
    def rebuild(self) -> Iterator[Connection]:
        """Open a durable write transaction in which tables may be made anew, as migrations of SQLite do.

        Dropping a table deletes its rows first, and that cascades; so foreign keys are off meanwhile, which SQLite
        allows only outside of a transaction, and are checked before the commit (https://sqlite.org/lang_altertable.html).

        Raises:
          BrokenReference: a row refers to one that is gone; nothing was changed.
        """
        if self.engine.dialect.name != "sqlite":
            with self.write() as connection:
                yield connection
            return
        with self._durable.connect() as connection:
            driver: Any = connection.connection.driver_connection
            driver.execute("PRAGMA foreign_keys=OFF")
            try:
                with connection.begin():
                    yield connection
                    if broken := connection.exec_driver_sql("PRAGMA foreign_key_check").all():
                        raise BrokenReference(f"{len(broken)} rows refer to rows that are gone, first: {broken[0]}")
            finally:
                driver.execute("PRAGMA foreign_keys=ON")

    def dispose(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def open_database(url: str) -> Database:
    """Return a handle; for SQLite, make the directory of its file first."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    return Database(url)


def _connect_args(url: str) -> dict[str, float]:
    return {} if "timeout" in make_url(url).query else {"timeout": BUSY_TIMEOUT_SECONDS}


def _prepare_sqlite(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # SQLAlchemy's "begin" event says how to begin
        for statement in _ON_CONNECT:
            connection.execute(statement)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        synchronous: Literal["FULL", "NORMAL"] | None = connection.get_execution_options().get("write")
        if synchronous is None:
            connection.exec_driver_sql("BEGIN")
            return
        if connection.info.get("synchronous") != synchronous:
            driver: Any = connection.connection.driver_connection
            driver.execute(f"PRAGMA synchronous={synchronous}")
            connection.info["synchronous"] = synchronous
        connection.exec_driver_sql("BEGIN IMMEDIATE")
