"""Files that owners upload, and those that batches make: rows of a MiB each, so that none is ever whole in memory."""

import secrets
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any

import msgspec
from sqlalchemy import BigInteger, Column, Index, Integer, LargeBinary, String, Table, delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tristrata.protocol.errors import TristrataError
from tristrata.protocol.units import Timestamp
from tristrata.storage.database import METADATA, Database

MAX_OWNER_BYTES, MAX_OWNER_FILES = 256 * 1_048_576, 1_000
"""What one owner's files may be together."""

_CHUNK_BYTES = 1_048_576
_DROPPED_AT_ONCE = 100
_FILES = Table(
    "files",
    METADATA,
    Column("id", String(64), primary_key=True),
    Column("owner", LargeBinary(32), nullable=False),
    Column("name", String(256), nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)
Index("files_by_owner", _FILES.c.owner, _FILES.c.created_at)
_CHUNKS = Table(
    "file_chunks",
    METADATA,
    Column("file", String(64), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("content", LargeBinary, nullable=False),
)


class FileUnknown(TristrataError):
    """The owner has no such file."""


class FilesFull(TristrataError):
    """The owner's files would be too many, or too much."""


class StoredFile(msgspec.Struct, frozen=True):
    """What is known of a file; ``size`` in bytes, times in Unix seconds. ``owner`` is the raw account."""

    id: str
    owner: bytes
    name: str
    purpose: str
    size: int
    created_at: Timestamp
    expires_at: Timestamp


class Files:
    """The files of one database. What has expired is not there any more."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(
        self, owner: bytes, name: str, purpose: str, content: bytes, now: Timestamp, expires_at: Timestamp
    ) -> StoredFile:
        """Keep a file. Raises `FilesFull`."""

        async def all_of_it() -> AsyncIterator[bytes]:
            yield content

        async with self._database.begin() as connection:
            query = select(func.count(), func.coalesce(func.sum(_FILES.c.size), 0)).where(_is_there(owner, now))
            count, size = (await connection.execute(query)).one()
            if count >= MAX_OWNER_FILES or size + len(content) > MAX_OWNER_BYTES:
                raise FilesFull(
                    f"you have {count} files of {size} bytes; at most {MAX_OWNER_FILES} files of {MAX_OWNER_BYTES} "
                    "bytes are kept",
                    remedy="delete some: DELETE /v1/files/{id}",
                )
            return await write_file(connection, owner, name, purpose, all_of_it(), now, expires_at)

    async def get(self, file_id: str, owner: bytes, now: Timestamp) -> StoredFile:
        """One of the owner's files. Raises `FileUnknown`."""
        query = select(_FILES).where(_FILES.c.id == file_id, _is_there(owner, now))
        async with self._database.read() as connection:
            row = (await connection.execute(query)).mappings().first()
        if row is None:
            raise FileUnknown(f"no such file: {file_id[:64]}", remedy="list yours: GET /v1/files")
        return _to_file(row)

    async def of(self, owner: bytes, now: Timestamp) -> list[StoredFile]:
        """All of an owner's files, the newest first."""
        query = select(_FILES).where(_is_there(owner, now)).order_by(_FILES.c.created_at.desc(), _FILES.c.id)
        async with self._database.read() as connection:
            return [_to_file(row) for row in (await connection.execute(query)).mappings()]

    async def content(self, file: StoredFile) -> AsyncIterator[bytes]:
        """What is in a file, a MiB at a time. Raises `FileUnknown` where it is deleted meanwhile."""
        seen, number = 0, 0
        while seen < file.size:
            query = select(_CHUNKS.c.content).where(_CHUNKS.c.file == file.id, _CHUNKS.c.number == number)
            async with self._database.read() as connection:
                chunk = (await connection.execute(query)).scalar()
            if chunk is None:
                raise FileUnknown(f"file {file.id} is deleted")
            yield bytes(chunk)
            seen, number = seen + len(chunk), number + 1

    async def delete(self, file: StoredFile) -> None:
        """Forget a file."""
        async with self._database.begin() as connection:
            await _delete(connection, [file.id])

    async def drop_expired(self, now: Timestamp) -> None:
        """Forget what has expired."""
        query = select(_FILES.c.id).where(_FILES.c.expires_at <= now).limit(_DROPPED_AT_ONCE)
        ids = [""]
        while ids:
            async with self._database.begin() as connection:
                ids = list((await connection.execute(query)).scalars())
                await _delete(connection, ids)


async def write_file(
    connection: AsyncConnection,
    owner: bytes,
    name: str,
    purpose: str,
    content: AsyncIterable[bytes],
    now: Timestamp,
    expires_at: Timestamp,
) -> StoredFile:
    """Keep a file, in a transaction with other changes; one that is empty is given, but not kept."""
    file_id, size, number, waiting = f"file-{secrets.token_hex(16)}", 0, 0, bytearray()

    async def write(most: int) -> None:
        nonlocal number
        while len(waiting) >= most and waiting:
            chunk = bytes(waiting[:_CHUNK_BYTES])
            await connection.execute(insert(_CHUNKS), {"file": file_id, "number": number, "content": chunk})
            del waiting[:_CHUNK_BYTES]
            number += 1

    async for piece in content:
        waiting += piece
        size += len(piece)
        await write(_CHUNK_BYTES)
    await write(0)
    file = StoredFile(file_id, owner, name, purpose, size, now, expires_at)
    if size:
        await connection.execute(insert(_FILES), msgspec.structs.asdict(file))
    return file


async def _delete(connection: AsyncConnection, ids: list[str]) -> None:
    await connection.execute(delete(_CHUNKS).where(_CHUNKS.c.file.in_(ids)))
    await connection.execute(delete(_FILES).where(_FILES.c.id.in_(ids)))


def _is_there(owner: bytes, now: Timestamp) -> Any:
    return (_FILES.c.owner == owner) & (_FILES.c.expires_at > now)


def _to_file(row: Any) -> StoredFile:
    return StoredFile(**row)
