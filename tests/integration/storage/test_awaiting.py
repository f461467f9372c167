"""Receipts that await vouchers, and nonces that were used: on disk, in a file and in PostgreSQL."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from sqlalchemy.exc import IntegrityError

from tests.integration.storage.test_receipt_book import make_entry
from tests.unit.protocol.test_voucher_book import SESSION
from tristrata.storage.awaiting import AwaitingReceipt, AwaitingReceipts
from tristrata.storage.database import Database
from tristrata.storage.nonces import UsedNonces
from tristrata.storage.receipt_book import BookEntry, EntryExists, ReceiptBook


@pytest.fixture
async def database(location: Path | str) -> AsyncIterator[Database]:
    database = await Database.open(location)
    yield database
    await database.close()


def awaiting(entry: BookEntry, ended_at: int) -> AwaitingReceipt:
    return AwaitingReceipt(
        entry.chain, entry.receipt, entry.signature, entry.prompt_salt, entry.output_salt, ended_at, "key_a"
    )


async def test_of__what_is_in_the_book__awaits_nothing_even_before_it_is_dropped(database: Database) -> None:
    store, book = AwaitingReceipts(database), ReceiptBook(database)
    entries = [make_entry(position) for position in range(3)]
    late_first = [awaiting(entry, 10 - number) for number, entry in enumerate(entries)]
    for each in late_first:
        await store.add(each)
    assert await store.of(SESSION) == list(reversed(late_first))  # in the order they ended
    assert await store.of(b"\x0b" * 32) == []
    with pytest.raises(IntegrityError):
        await store.add(late_first[0])

    entry = late_first[0].entry(0, entries[0].voucher, entries[0].appended_at)
    assert entry == replace(entries[0], key_id="key_a")
    await book.append_all([entry])
    assert await store.of(SESSION) == [late_first[2], late_first[1]]
    await store.drop([each.receipt.request_id for each in late_first[:2]])
    assert await store.of(SESSION) == [late_first[2]]


async def test_append_all__one_of_them_is_there__writes_none(database: Database) -> None:
    book = ReceiptBook(database)
    await book.append(make_entry(0))
    with pytest.raises(EntryExists):
        await book.append_all([make_entry(1), make_entry(0)])
    assert [entry.position for entry in await book.entries(SESSION)] == [0]
    assert [entry.position for entry in await book.newest(SESSION, 5)] == [0]


async def test_newest__pages_backwards(database: Database) -> None:
    book = ReceiptBook(database)
    await book.append_all([make_entry(position) for position in range(5)])
    assert [entry.position for entry in await book.newest(SESSION, 2)] == [4, 3]
    assert [entry.position for entry in await book.newest(SESSION, 9, before=3)] == [2, 1, 0]


async def test_use__a_nonce__once_until_it_expires(database: Database) -> None:
    nonces = UsedNonces(database)
    assert await nonces.use("a", 100, 50)
    assert not await nonces.use("a", 100, 60)
    assert not await UsedNonces(database).use("a", 100, 100)
    assert await nonces.use("b", 200, 101)
    assert await nonces.use("a", 300, 102)  # its first use is forgotten: it had expired, and says so itself
