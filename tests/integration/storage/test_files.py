"""Files in SQLite and PostgreSQL."""

from pathlib import Path

import pytest

from tristrata.protocol.units import Timestamp
from tristrata.storage import files as files_module
from tristrata.storage.database import Database
from tristrata.storage.files import Files, FilesFull, FileUnknown, StoredFile

OWNER, OTHER = b"\x07" * 20, b"\x08" * 32
NOW, LATER = Timestamp(1_800_000_000), Timestamp(1_800_000_100)


async def read(files: Files, file: StoredFile) -> bytes:
    return b"".join([chunk async for chunk in files.content(file)])


@pytest.mark.parametrize("size", [1, 1_048_576, 2_500_000])
async def test_add__content_of_any_size__is_read_back_in_pieces(location: Path | str, size: int) -> None:
    database = await Database.open(location)
    files = Files(database)
    content = bytes(number % 251 for number in range(size))

    added = await files.add(OWNER, "calls.jsonl", "batch", content, NOW, LATER)

    found = await files.get(added.id, OWNER, NOW)
    assert found == added
    assert (found.size, found.name, found.owner) == (size, "calls.jsonl", OWNER)
    chunks = [chunk async for chunk in files.content(found)]
    assert b"".join(chunks) == content
    assert all(len(chunk) <= 1_048_576 for chunk in chunks)
    await database.close()


async def test_get__file_of_another_or_expired_or_deleted__is_unknown(location: Path | str) -> None:
    database = await Database.open(location)
    files = Files(database)
    added = await files.add(OWNER, "a", "batch", b"content", NOW, LATER)

    with pytest.raises(FileUnknown):
        await files.get(added.id, OTHER, NOW)
    with pytest.raises(FileUnknown):
        await files.get(added.id, OWNER, LATER)
    assert await files.of(OWNER, LATER) == []
    await files.delete(added)
    with pytest.raises(FileUnknown):
        await files.get(added.id, OWNER, NOW)
    with pytest.raises(FileUnknown):
        await read(files, added)
    await database.close()


async def test_add__more_than_an_owner_may_have__is_refused_until_one_is_deleted(
    location: Path | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files_module, "MAX_OWNER_BYTES", 10)
    monkeypatch.setattr(files_module, "MAX_OWNER_FILES", 2)
    database = await Database.open(location)
    files = Files(database)
    first = await files.add(OWNER, "a", "batch", b"12345678", NOW, LATER)

    with pytest.raises(FilesFull, match="8 bytes; at most 2 files of 10 bytes"):
        await files.add(OWNER, "b", "batch", b"123", NOW, LATER)
    await files.add(OTHER, "b", "batch", b"123", NOW, LATER)
    await files.add(OWNER, "b", "batch", b"12", NOW, LATER)
    with pytest.raises(FilesFull):
        await files.add(OWNER, "c", "batch", b"", NOW, LATER)
    await files.delete(first)
    await files.add(OWNER, "c", "batch", b"12345678", NOW, LATER)
    await database.close()


async def test_drop_expired__many_files__leaves_those_that_are_not(location: Path | str) -> None:
    database = await Database.open(location)
    files = Files(database)
    for number in range(130):
        await files.add(OWNER, str(number), "batch", b"x", NOW, LATER)
    kept = await files.add(OWNER, "kept", "batch", b"kept", NOW, Timestamp(LATER + 1))

    await files.drop_expired(LATER)

    assert await files.of(OWNER, NOW) == [kept]
    assert await read(files, kept) == b"kept"
    await database.close()
