"""The schema of every database, and how an older one becomes today's (Alembic).

A new database is made with all tables at once; an older one is migrated, revision by revision. A table that changes
needs a revision: ``make revision M="what changes"`` writes it, and a test fails without it.
"""

import asyncio
import fcntl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

HEAD = "0005"
"""The newest revision in ``versions``."""

_ONE_AT_A_TIME = 0x7472_6973  # PostgreSQL's advisory lock of whoever makes or migrates the schema


async def bring_up_to_date(engine: AsyncEngine, location: Path | str) -> None:
    """Make the tables, or migrate them, one process at a time. Raises `DatabaseRefused`."""
    async with engine.connect() as connection:
        if await connection.run_sync(_revision) == HEAD:
            return
    async with _alone(location), engine.begin() as connection:
        if isinstance(location, str):
            await connection.execute(text(f"SELECT pg_advisory_xact_lock({_ONE_AT_A_TIME})"))
        await _change(connection)


async def _change(connection: AsyncConnection) -> None:
    from tristrata.storage.database import DatabaseRefused
    from tristrata.storage.tables import METADATA

    revision = await connection.run_sync(_revision)
    if revision == HEAD:
        return
    if revision is None:
        if await connection.run_sync(lambda sync: inspect(sync).get_table_names()):
            raise DatabaseRefused(
                "the database has tables, but does not say of which revision they are",
                remedy="move it away, or give an empty database",
            )
        await connection.run_sync(METADATA.create_all)
        await connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
        await connection.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": HEAD})
        return
    # Alembic takes more than a second to import: only where there is something to migrate.
    from tristrata.storage.migrations.history import upgrade

    await connection.run_sync(upgrade)


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if revision is None else str(revision)


@asynccontextmanager
async def _alone(location: Path | str) -> AsyncIterator[None]:
    """One process at a time at a file; PostgreSQL has a lock of its own for that."""
    if isinstance(location, str):
        yield
        return
    with location.with_name(location.name + ".lock").open("w") as lock:
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
        yield
