"""One database an actor: SQLite in WAL mode by default, PostgreSQL by its URL; what is committed is on disk.

A database is made, or brought up to date, when it is opened: `tristrata.storage.migrations`.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import BigInteger, Integer, MetaData, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from tristrata.protocol.errors import TristrataError

METADATA = MetaData()
"""All tables; each module of this package declares its own, and `tristrata.storage.tables` names them all."""

ROW_NUMBER = BigInteger().with_variant(Integer, "sqlite")
"""A key that counts up by itself; SQLite does so for INTEGER alone."""

_BUSY_MILLISECONDS = 10_000
_DRIVERS = {"postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}
Result = TypeVar("Result")


class DatabaseRefused(TristrataError):
    """A database that cannot be used as it is."""


class FileWriter:
    """A thread with a plain connection to a SQLite file: for what is written with every answer.

    2.6 times as many transactions as through SQLAlchemy and aiosqlite (measured: docs/benchmarks.md).
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite")
        self._connection: sqlite3.Connection | None = None

    async def run(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Do ``work`` in one transaction, which is on disk when this returns, or undone when it raises."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._transact, work)

    async def close(self) -> None:
        """Close the connection, after what is being written."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    def _transact(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        if self._connection is None:
            self._connection = sqlite3.connect(self._path)
            _configure(self._connection, None)
        with self._connection:
            return work(self._connection)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()


class Database:
    """An open database. Use `begin` for changes, `read` for reads. ``writer`` is there where it is a SQLite file."""

    def __init__(self, engine: AsyncEngine, writer: FileWriter | None = None) -> None:
        self._engine = engine
        self.writer = writer

    @property
    def is_shared(self) -> bool:
        """Whether several routers may use it at once: PostgreSQL, not a file."""
        return self._engine.dialect.name != "sqlite"

    @classmethod
    async def open(cls, location: Path | str) -> "Database":
        """Open the SQLite file at a path, or the database at a ``postgresql://`` URL, with all tables as they are now.

        Raises `DatabaseRefused` for another kind of URL, and for a database that a newer program has made.
        """
        from tristrata.storage.migrations import bring_up_to_date

        if isinstance(location, str):
            engine = create_async_engine(_with_driver(location), pool_size=10, max_overflow=20, pool_pre_ping=True)
            database = cls(engine)
        else:
            location.parent.mkdir(parents=True, exist_ok=True)
            engine = create_async_engine(f"sqlite+aiosqlite:///{location}")
            event.listen(engine.sync_engine, "connect", _configure)
            database = cls(engine, FileWriter(location))
        try:
            await bring_up_to_date(engine, location)
        except BaseException:
            await database.close()
            raise
        return database

    @classmethod
    async def open_to_read(cls, location: Path | str) -> "Database":
        """Open what another actor writes. Raises SQLAlchemy's ``OperationalError`` when there is no such file yet."""
        if isinstance(location, str):
            return cls(create_async_engine(_with_driver(location), pool_pre_ping=True))
        return cls(create_async_engine(f"sqlite+aiosqlite:///file:{location}?mode=ro&uri=true"))

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A transaction: all of it is durable after the block, or none."""
        async with self._engine.begin() as connection:
            yield connection

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """A connection for reading."""
        async with self._engine.connect() as connection:
            yield connection

    async def close(self) -> None:
        """Close every connection."""
        if self.writer is not None:
            await self.writer.close()
        await self._engine.dispose()


def _with_driver(location: str) -> str:
    """The URL as SQLAlchemy takes it. The message of a refusal never has the URL: it holds a password."""
    try:
        url = make_url(location)
    except ArgumentError as error:
        raise DatabaseRefused(
            "the database's URL cannot be read", remedy="give postgresql://user:password@host:port/name"
        ) from error
    if url.drivername not in _DRIVERS:
        raise DatabaseRefused(
            f"a database of kind {url.drivername!r} is not supported", remedy="give a postgresql:// URL, or a path"
        )
    return url.set(drivername=_DRIVERS[url.drivername]).render_as_string(hide_password=False)


def _configure(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute(f"PRAGMA busy_timeout={_BUSY_MILLISECONDS}")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()
