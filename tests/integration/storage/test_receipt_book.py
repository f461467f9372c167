"""The receipt book on a real SQLite file: nothing that was acknowledged is lost, whatever happens to the process."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.unit.protocol.test_codec import make_voucher
from tests.unit.protocol.test_voucher_book import MINERS, SESSION, make_receipt
from tristrata.protocol.ids import eip155
from tristrata.protocol.units import Amount, Milliseconds
from tristrata.storage.database import Database
from tristrata.storage.receipt_book import BookEntry, BookUnavailable, EntryExists, ReceiptBook


def make_entry(position: int, session: bytes = SESSION) -> BookEntry:
    request_id = session[:1] + position.to_bytes(31, "big")
    return BookEntry(
        chain=eip155(31_339),
        position=position,
        receipt=make_receipt(request_id, 10, session=session),
        signature=b"\x05" * 65,
        voucher=make_voucher({MINERS[0]: Amount(10)}),
        prompt_salt=b"\x06" * 32,
        output_salt=b"\x07" * 32,
        appended_at=Milliseconds(1_800_000_000_000),
    )


async def test_append__many_at_once__are_all_there_after_reopening(location: Path | str) -> None:
    database = await Database.open(location)
    book = ReceiptBook(database)
    other = b"\x0b" * 32
    entries = [make_entry(position) for position in range(50)] + [make_entry(0, other)]

    await asyncio.gather(*(book.append(entry) for entry in entries))
    await database.close()

    database = await Database.open(location)
    book = ReceiptBook(database)
    assert await book.entries(SESSION) == entries[:50]
    assert await book.entries(SESSION, first=48) == entries[48:50]
    assert await book.entry(entries[3].receipt.request_id) == entries[3]
    assert await book.entry(b"\xff" * 32) is None
    assert sorted(entry.receipt.session for entry in await book.latest()) == [SESSION, other]
    assert {entry.position for entry in await book.latest()} == {0, 49}
    await database.close()


async def test_append__same_request_or_position__is_refused_and_other_sessions_are_kept(location: Path | str) -> None:
    database = await Database.open(location)
    book, other = ReceiptBook(database), b"\x0b" * 32
    await book.append(make_entry(0))
    same_position = replace(make_entry(0), receipt=make_receipt(b"\x44" * 32, 1))

    results = await asyncio.gather(
        *(book.append(entry) for entry in (make_entry(1), make_entry(0), make_entry(0, other))), return_exceptions=True
    )
    assert [type(result) for result in results] == [BookEntry, EntryExists, BookEntry]
    with pytest.raises(BookUnavailable, match="before this one"):  # what follows a hole is no sequence
        await book.append(make_entry(2))
    book.mend(SESSION, 2)
    with pytest.raises(EntryExists):
        await book.append(same_position)
    book.mend(SESSION, 2)
    await book.append(make_entry(2))
    with pytest.raises(BookUnavailable, match="before this one"):  # nor does what was numbered before a failure
        await book.append(make_entry(4))

    assert [entry.position for entry in await book.entries(SESSION)] == [0, 1, 2]
    await database.close()


WRITER = """
import asyncio, sys
from pathlib import Path
from tests.integration.storage.test_receipt_book import make_entry
from tristrata.storage.database import Database
from tristrata.storage.receipt_book import ReceiptBook

async def main():
    book = ReceiptBook(await Database.open(sys.argv[1] if "://" in sys.argv[1] else Path(sys.argv[1])))
    for position in range(100_000):
        await book.append(make_entry(position))
        print(position, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("after", [1, 17, 40])
async def test_append__writer_killed__has_everything_it_acknowledged(location: Path | str, after: int) -> None:
    path = location
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, cwd=Path.cwd())
    assert process.stdout is not None
    acknowledged = -1
    while acknowledged < after:
        acknowledged = int(process.stdout.readline())
    os.kill(process.pid, signal.SIGKILL)
    acknowledged = max([acknowledged, *(int(line) for line in process.stdout.read().split())])
    process.wait()

    database = await Database.open(path)
    positions = [entry.position for entry in await ReceiptBook(database).entries(SESSION)]
    await database.close()
    assert positions == list(range(len(positions)))
    assert acknowledged + 1 <= len(positions) <= acknowledged + 2
