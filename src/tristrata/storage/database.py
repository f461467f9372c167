"""One database an actor: SQLite in WAL mode by default, with every commit on disk before it counts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import MetaData, event
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

METADATA = MetaData()
"""All tables; each module of this package declares its own."""

_BUSY_MILLISECONDS = 10_000


class Database:
    """An open database. Use `begin` for changes, `read` for reads."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @classmethod
    async def open(cls, path: Path) -> "Database":
        """Open the SQLite file at ``path``, made now with all tables if there is none."""
        path.parent.mkdir(parents=True, exist_ok=True)
        engine = create_async_engine(f"sqlite+aiosqlite:///{path}")
        event.listen(engine.sync_engine, "connect", _configure)
        async with engine.begin() as connection:
            await connection.run_sync(METADATA.create_all)
        return cls(engine)

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
        await self._engine.dispose()


def _configure(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute(f"PRAGMA busy_timeout={_BUSY_MILLISECONDS}")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.close()
