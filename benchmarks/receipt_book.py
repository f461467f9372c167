"""Durable appends to the receipt book, one after the other and many at once, against a bare fsync of the same disk."""

import asyncio
import os
import tempfile
import time
from pathlib import Path

import msgspec

from benchmarks.acknowledging import make_tasks
from benchmarks.network import HUB, SEPARATOR, SESSION_KEY, make_session
from benchmarks.report import Section, table
from benchmarks.stats import BenchmarkFailed, Spread, spread
from tristrata.protocol.units import Milliseconds
from tristrata.protocol.voucher_book import Reserve, apply
from tristrata.router.acknowledge import acknowledge
from tristrata.storage.database import Database
from tristrata.storage.receipt_book import BookEntry, ReceiptBook

_AT_ONCE = (1, 32)


class _Plan(msgspec.Struct, frozen=True):
    rounds: int
    seconds: float
    entries: int


async def measure(*, quick: bool) -> Section:
    """Append until the time of each round is over, to a new book each time."""
    plan = _Plan(1, 0.3, 500) if quick else _Plan(5, 0.6, 8_000)
    entries = _entries(plan.entries)
    rates: dict[str, list[float]] = {"bare write and fsync of 4 KiB": []}
    with tempfile.TemporaryDirectory(prefix="tristrata-bench-") as folder:
        for number in range(plan.rounds):
            rates["bare write and fsync of 4 KiB"].append(_fsyncs(Path(folder) / "fsync", plan.seconds / 3))
            for at_once in _AT_ONCE:
                path = Path(folder) / f"{number}-{at_once}.sqlite"
                rates.setdefault(f"append, {at_once} at once", []).append(
                    await _appends(path, entries, at_once, plan.seconds)
                )
    spreads = {what: spread(each) for what, each in rates.items()}
    body = _BODY.format(rounds=plan.rounds, seconds=plan.seconds, rows=_rows(spreads))
    return Section("Receipt book", [], body)


def _rows(spreads: dict[str, Spread]) -> str:
    return table(["what", "a second"], [[what, each.text(0)] for what, each in spreads.items()])


def _entries(count: int) -> list[BookEntry]:
    book, entries = make_session(0).book, []
    for task, receipt, signature in make_tasks(count):
        book, _ = apply(book, Reserve(receipt.request_id, receipt.price))
        done = acknowledge(book, receipt, SESSION_KEY, SEPARATOR)
        book = done.book
        entries.append(
            BookEntry(
                chain=HUB,
                position=done.position,
                receipt=receipt,
                signature=signature,
                voucher=done.voucher,
                prompt_salt=task.prompt_salt,
                output_salt=task.output_salt,
                appended_at=Milliseconds(receipt.finished_at),
            )
        )
    return entries


async def _appends(path: Path, entries: list[BookEntry], at_once: int, seconds: float) -> float:
    database = await Database.open(path)
    try:
        book, waiting, ends_at = ReceiptBook(database), iter(entries), time.perf_counter() + seconds

        async def append() -> int:
            count = 0
            for entry in waiting:
                await book.append(entry)
                count += 1
                if time.perf_counter() > ends_at:
                    break
            return count

        started = time.perf_counter()
        counts = await asyncio.gather(*(append() for _ in range(at_once)))
        rate = sum(counts) / (time.perf_counter() - started)
        kept = len(await book.entries(entries[0].receipt.session))
    finally:
        await database.close()
    if kept != sum(counts):
        raise BenchmarkFailed(f"the receipt book holds {kept} entries; {sum(counts)} were appended")
    return rate


def _fsyncs(path: Path, seconds: float) -> float:
    started, count = time.perf_counter(), 0
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        while time.perf_counter() < started + seconds:
            os.pwrite(descriptor, bytes(4_096), count * 4_096)
            os.fsync(descriptor)
            count += 1
    finally:
        os.close(descriptor)
    return count / (time.perf_counter() - started)


_BODY = """\
Appends of one receipt and its voucher, each on disk before it counts (SQLite, WAL, `synchronous=FULL`); those that wait
together share a transaction. Median (lowest – highest) of {rounds} rounds of {seconds} s; the book held them all after.

{rows}"""
