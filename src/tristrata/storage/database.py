"""One database an actor: SQLite in WAL mode by default, with every commit on disk before it counts."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import MetaData, event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

METADATA = MetaData()
"""All tables; each module of this package declares its own."""

_BUSY_MILLISECONDS = 10_000
Result = TypeVar("Result")


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

    @classmethod
    async def open(cls, path: Path) -> "Database":
        """Open the SQLite file at ``path``, made now with all tables if there is none."""
        path.parent.mkdir(parents=True, exist_ok=True)
        engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
        event.listen(engine.sync_engine, "connect", _configure)
        async with engine.begin() as connection:
            await connection.run_sync(METADATA.create_all)
        return cls(engine, FileWriter(path))

    @classmethod
    async def open_to_read(cls, path: Path) -> "Database":
        """Open a file that another actor writes. Raises SQLAlchemy's ``OperationalError`` when there is none yet."""
        return cls(create_async_engine(f"sqlite+aiosqlite:///file:{path}?mode=ro&uri=true"))

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


def _configure(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute(f"PRAGMA busy_timeout={_BUSY_MILLISECONDS}")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()
