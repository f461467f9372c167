"""Databases are made and migrated, and never guessed at."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

import tristrata.storage.migrations as migrations
from tristrata.storage.database import Database, DatabaseRefused
from tristrata.storage.migrations.history import upgrade
from tristrata.storage.tables import METADATA


def differences(connection: Connection) -> list[Any]:
    return list(compare_metadata(MigrationContext.configure(connection), METADATA))


async def revision_of(database: Database) -> str:
    async with database.read() as connection:
        return str((await connection.execute(text("SELECT version_num FROM alembic_version"))).scalar_one())


async def empty(location: Path | str) -> Database:
    """A database without tables."""
    database = await Database.open(location)
    async with database.begin() as connection:
        await connection.run_sync(METADATA.drop_all)
        await connection.execute(text("DROP TABLE alembic_version"))
    return database


def test_head__is_the_newest_revision_and_there_is_one_line_of_them() -> None:
    assert ScriptDirectory(str(Path(migrations.__file__).parent)).get_heads() == [migrations.HEAD]


async def test_migrations__from_the_first_to_the_last__give_the_tables_as_declared(location: Path | str) -> None:
    database = await empty(location)
    async with database.begin() as connection:
        await connection.run_sync(upgrade)
        # A difference here means that a table was changed: make revision M="what changes"
        assert await connection.run_sync(differences) == []
    assert await revision_of(database) == migrations.HEAD
    await database.close()


async def test_open__new__has_the_tables_as_declared(location: Path | str) -> None:
    database = await Database.open(location)
    async with database.begin() as connection:
        assert await connection.run_sync(differences) == []
    assert await revision_of(database) == migrations.HEAD
    await database.close()


async def test_open__many_at_once__make_it_once(location: Path | str) -> None:
    databases = await asyncio.gather(*(Database.open(location) for _ in range(5)))

    assert await revision_of(databases[0]) == migrations.HEAD
    for database in databases:
        await database.close()


async def test_open__older__is_migrated(location: Path | str) -> None:
    database = await empty(location)
    async with database.begin() as connection:
        await connection.run_sync(lambda sync: upgrade(sync, "0001"))
    await database.close()

    database = await Database.open(location)
    async with database.begin() as connection:
        assert await connection.run_sync(differences) == []
    await database.close()


async def test_open__newer_than_the_program__is_refused_and_left_alone(location: Path | str) -> None:
    database = await Database.open(location)
    async with database.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))

    with pytest.raises(DatabaseRefused, match="9999") as caught:
        await Database.open(location)
    assert "newer program" in (caught.value.remedy or "")
    assert await revision_of(database) == "9999"
    await database.close()


async def test_open__tables_of_somebody_else__is_refused(location: Path | str) -> None:
    database = await empty(location)
    async with database.begin() as connection:
        await connection.execute(text("CREATE TABLE books (title VARCHAR(10))"))

    with pytest.raises(DatabaseRefused, match="does not say of which revision"):
        await Database.open(location)
    await database.close()


@pytest.mark.parametrize("url", ["mysql://me:secret@host/db", "nonsense secret", "sqlite:///secret.db"])
async def test_open__another_url__is_refused_without_telling_it(url: str) -> None:
    with pytest.raises(DatabaseRefused) as caught:
        await Database.open(url)
    assert "secret" not in f"{caught.value.message}{caught.value.remedy}"
